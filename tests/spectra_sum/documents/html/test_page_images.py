"""Which images of a page are the article's, with which texts."""

import time

import pytest
from PIL import Image

from spectra_sum.documents import linked_images
from spectra_sum.documents.reading import read_document
from tests.spectra_sum.documents.pages import colours, data_uri, kinds, save_image


def test_an_image_is_decoded_once_and_images_and_tries_are_limited(tmp_path, read, monkeypatch):
    for number in range(202):
        save_image(tmp_path / f"{number}.png", (number, 0, 0))
    opened = []
    open_image = linked_images.open_local_image

    def counted(path):
        opened.append(path.name)
        return open_image(path)

    monkeypatch.setattr(linked_images, "open_local_image", counted)
    names = [f"{number}.png" for number in (*range(199), *range(199), 199, 200, 201, 0)]
    document = read("<p>Text." + "".join(f"<img src={name}><img src=./{name}?again>" for name in names))
    assert opened == [f"{number}.png" for number in range(200)]
    assert colours(document) == [(number, 0, 0) for number in range(200)]
    # Two images twice, and the last one under an address that is new.
    assert [problem.detail for problem in document.problems] == ["5 images after the first 200 are not read"]
    missing = read("<p>Text." + "".join(f"<img src={number}.gif>" for number in range(1005)))
    assert kinds(missing) == {"missing_image": 1000, "image_limit": 1}
    assert missing.problems[-1].detail == "5 images after the first 1000 are not read"
    assert kinds(read("<p>Text." + "<img src=none.gif>" * 3)) == {"missing_image": 1}


@pytest.mark.parametrize(
    "page, body, texts",
    [
        (
            "<figure><figure><img src=red.png></figure><figure><img src=blue.png><figcaption>Own</figcaption></figure>"
            "<figcaption>Gallery <i>caption</i></figcaption></figure>",
            "Gallery caption",
            [("", ""), ("", "Own")],
        ),
        (
            "<figure><figcaption>One</figcaption><img src=red.png alt=A><figcaption>Two</figcaption></figure>",
            "Two",
            [("A", "One")],
        ),
        ("<figure><img hidden src=red.png><figcaption>Hidden</figcaption></figure>", "Hidden", []),
        ("<figure><div><figcaption>One</figcaption></div><a><img src=red.png></a></figure>", "", [("", "One")]),
        (
            f"<figure><img src=none.png><figcaption>{'long ' * 20}</figcaption></figure>",
            " ".join(["long"] * 20),
            [],
        ),
        (
            f"<figure><img src=red.png><figcaption>{'long ' * 500}</figcaption></figure>",
            " ".join(["long"] * 500),
            [("", "")],
        ),
        ("<figure><figcaption>Words <img src=red.png></figcaption></figure>", "", [("", "Words")]),
        ("<figure><noscript><img src=red.png></noscript><figcaption>One</figcaption></figure>", "", [("", "One")]),
        (
            "<figure><img src=red.png><figcaption>Short</figcaption></figure>"
            "<figure><img src=red.png><figcaption>A longer one</figcaption></figure>",
            "Short",
            [("", "A longer one")],
        ),
        ("<div class=wp-caption><a><img src=red.png></a><p class=wp-caption-text>One</p></div>", "", [("", "One")]),
        ("<div><p class=caption>Above</p><img src=red.png></div>", "Above", [("", "")]),
        ("<div><img src=red.png> Words. <p class=caption>Below</p></div>", "Words.\n\nBelow", [("", "")]),
        ("<figcaption>Alone</figcaption><img src=red.png>", "Alone", [("", "")]),
    ],
)
def test_no_caption_is_lost(tmp_path, read, page, body, texts):
    save_image(tmp_path / "red.png", "red")
    save_image(tmp_path / "blue.png", "blue")
    document = read(f"<p>Text.</p>{page}")
    assert document.body == "\n\n".join(["Text.", *([body] if body else [])])
    assert [(image.alt, image.caption) for image in document.images] == texts


@pytest.mark.parametrize(
    "image, expected",
    [
        ("<img src=red.png>", "red"),
        ("<img src=red.png srcset='blue.png 2x'>", "red"),
        ("<img srcset='red.png 100w, blue.png 800w,none.png 20w'>", "blue"),
        ("<img srcset='red.png 2x,blue.png 1x'>", "red"),
        *(
            (f"<img src='{{placeholder}}' {name}=blue.png>", "blue")
            for name in (
                *("data-src", "data-original", "data-lazy-src", "data-cfsrc", "data-hi-res-src", "data-actualsrc"),
                *("data-srcset", "data-lazy-srcset", "data-large-file", "data-unheard-of-src", "data-unheard-srcset"),
            )
        ),
        ("<img src=pixel.gif data-src=blue.png>", "blue"),
        ("<img src='{placeholder}' data-srcset='red.png 100w, blue.png 200w'>", "blue"),
        ("<picture><source data-srcset='red.png 1x, blue.png 2x'><img src='{placeholder}'></picture>", "blue"),
        ("<picture><source data-src=blue.png><noscript><img src=blue.png></noscript></picture>", "blue"),
        ("<noscript><img src=blue.png></noscript><img src='{placeholder}' data-src=blue.png>", "blue"),
        ("<img src=blue.png data-src=https://x.org/b.png><noscript><img src=https://x.org/b.png></noscript>", "blue"),
        ("<noscript><img src=https://x.org/b.png></noscript><img src=blue.png data-src=https://x.org/b.png>", "blue"),
        ("<img src=blue.png><img src=./blue.png?size=9><img src=twin.png>", "blue"),
        ("<amp-img src=blue.png><noscript><img src=blue.png></noscript></amp-img>", "blue"),
        ("<img src=red.png data-src=https://example.org/large.png>", "red"),
        ("<img src=https://example.org/red.png srcset=blue.png>", "blue"),
        (
            "<picture><source srcset='none.avif'><source srcset=blue.png><img src=https://x.org/a.png></picture>",
            "blue",
        ),
        ("<img src='{red}'>", "red"),
        ("<img src='{red}' data-src=https://example.org/large.png>", "red"),
        ("<img data-src=blue.png><noscript><img src=blue.png></noscript>", "blue"),
        ("<noscript><img src=blue.png></noscript>", "blue"),
        ("<base href=sub/><img src=../red.png>", "red"),
        ("<base href=sub/><img src=green.png>", "green"),
        ("<img src='./red.png?width=3#x'>", "red"),
        ("<IMG SRC = ' red.png '>", "red"),
    ],
)
def test_which_of_several_addresses_is_read(tmp_path, read, image, expected):
    save_image(tmp_path / "red.png", "red")
    save_image(tmp_path / "blue.png", "blue")
    save_image(tmp_path / "twin.png", "blue")
    save_image(tmp_path / "pixel.gif", "white", (1, 1))
    save_image(tmp_path / "sub" / "green.png", (0, 128, 0))
    image = image.replace("{placeholder}", data_uri("white", (1, 1), "GIF")).replace("{red}", data_uri("red"))
    document = read(f"<p>Text.{image}")
    assert colours(document) == [{"red": (255, 0, 0), "blue": (0, 0, 255), "green": (0, 128, 0)}[expected]]
    assert document.problems == [] and document.body == "Text."


def test_an_embedded_image_is_named_by_its_type(read):
    [image] = read(f"<p>Text.<img alt=Ship src='{data_uri('red', (3000, 100), 'JPEG')}'>").images
    assert (image.name, image.alt, image.image.width) == ("embedded image image/jpeg", "Ship", 1024)


@pytest.mark.parametrize(
    "image, kind",
    [
        ("<img src=https://example.org/a.png>", "remote_image"),
        ("<img src=//example.org/a.png>", "remote_image"),
        ("<img src='{placeholder}' data-src=https://example.org/a.png>", "remote_image"),
        ("<base href=https://example.org/><img src=kept.png>", "remote_image"),
        ("<base href=//example.org><img src=kept.png>", "remote_image"),
        ("<base href=file:///etc/><img src=kept.png>", "unsupported_image"),
        ("<base href=../><img src=secret.png>", "outside_folder"),
        ("<base href='{outside}/'><img src=secret.png>", "outside_folder"),
        ("<img src=file://{outside}/secret.png>", "unsupported_image"),
        ("<img src=file:///etc/passwd>", "unsupported_image"),
        ("<img src=../secret.png>", "outside_folder"),
        ("<img src='%2e%2e/secret.png'>", "outside_folder"),
        ("<img src='&#46;&#46;/secret.png'>", "outside_folder"),
        ("<img src='{outside}/secret.png'>", "outside_folder"),
        ("<img srcset='../secret.png 2x'>", "outside_folder"),
        ("<img data-src=../secret.png>", "outside_folder"),
        ("<picture><source srcset=../secret.png></picture>", "page_furniture"),
        ("<picture><img></picture>", "missing_image"),
        ("<img src=link.png>", "outside_folder"),
        ("<img src='linked/secret.png'>", "outside_folder"),
        ("<img src='..\\secret.png'>", "outside_folder"),
        ("<img src='linked\\secret.png'>", "outside_folder"),
        ("<img src='C:\\secret.png'>", "outside_folder"),
        ("<img src='\\\\host\\share\\secret.png'>", "outside_folder"),
        ("<img src='{placeholder}'>", "small_image"),
        ("<img src=strip.png>", "small_image"),
        ("<img src=kept.png width=1 height=1>", "small_image"),
        ("<img src=https://example.org/count.gif width=1px height=1px>", "small_image"),
        ("<img src=strip.png data-src=https://example.org/a.png>", "remote_image"),
        ("<img src='a%00b.png'>", "missing_image"),
        ("<img src='http://[::1'>", "unsupported_image"),
        ("<img>", "missing_image"),
        ("<img src=none.png srcset='https://example.org/a.png 2x'>", "missing_image"),
        ("<img src='data:image/png;base64,iVBORw0KGgo='>", "broken_image"),
        ("<img src='data:image/png;base64,abc'>", "broken_image"),
        ("<img src='data:,'>", "broken_image"),
        ("<img src='data:image/svg+xml,<svg/>'>", "broken_image"),
        ("<img src=vector.svg>", "broken_image"),
        ("<svg><image href=kept.png /></svg>", "page_furniture"),
        ("<iframe src=../secret.html></iframe>", "page_furniture"),
        ("<video poster=kept.png></video>", "page_furniture"),
        ("<nav><img src=kept.png></nav>", "page_furniture"),
    ],
)
def test_what_is_not_read_is_a_named_problem(tmp_path, image, kind):
    folder = tmp_path / "folder"
    save_image(tmp_path / "secret.png", "red")
    save_image(folder / "kept.png", "green")
    save_image(folder / "strip.png", "red", (600, 23))
    (folder / "link.png").symlink_to(tmp_path / "secret.png")
    (folder / "linked").symlink_to(tmp_path)
    (folder / "vector.svg").write_text("<svg xmlns='http://www.w3.org/2000/svg'/>")
    image = image.replace("{placeholder}", data_uri("white", (1, 1), "GIF")).replace("{outside}", str(tmp_path))
    (folder / "page.html").write_text(f"<p>Text.</p>{image}")
    document = read_document(folder / "page.html")
    assert kinds(document) == {kind: 1} and document.images == [] and document.body == "Text."


def test_the_caption_of_an_image_that_is_not_read_is_kept(read):
    document = read("<p>Text.<figure><img src=none.png alt=Ship><figcaption>At sea</figcaption></figure>")
    assert [str(problem) for problem in document.problems] == [
        "missing image: none.png: there is no such file (described as: Ship – At sea)"
    ]
    assert read("<figure><table><tr><td>1</table><figcaption>Of a table</figcaption></figure>").body == (
        "1\n\nOf a table"
    )


def test_a_bomb_in_the_page_is_refused(read, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    assert kinds(read(f"<p>Text.<img src='{data_uri('red', (20, 20))}'>")) == {"oversized_image": 1}


def test_an_image_named_twice_keeps_the_better_texts(tmp_path, read):
    save_image(tmp_path / "red.png", "red")
    document = read(
        "<p>Text.<noscript><img src=red.png alt='A ship in the harbour'></noscript>"
        "<figure><img data-src=red.png alt=red.png><figcaption>On Monday.</figcaption></figure><img src=red.png alt=Ship>"
    )
    assert [(image.alt, image.caption, image.description) for image in document.images] == [
        ("A ship in the harbour", "On Monday.", "A ship in the harbour – On Monday.")
    ]
    assert document.body == "Text." and document.problems == []
    [image] = read("<p>Text.<img src=red.png alt='A ship'><img src=red.png alt='red.png'>").images
    assert image.alt == "A ship"


def test_images_that_share_a_placeholder_are_not_one(tmp_path, read):
    save_image(tmp_path / "blank.gif", "white", (1, 1))
    for colour in ("red", "blue"):
        save_image(tmp_path / f"{colour}.png", colour)
    document = read("<p>Text.<img src=blank.gif data-src=red.png><img src=blank.gif data-src=blue.png>")
    assert colours(document) == [(255, 0, 0), (0, 0, 255)] and document.problems == []


@pytest.mark.parametrize(("size", "kept"), [((24, 24), True), ((23, 24), False), ((24, 23), False), ((1, 1), False)])
def test_the_smallest_image(tmp_path, read, size, kept):
    save_image(tmp_path / "a.png", "red", size)
    for name, content in {"a.html": "<p>Text.<img src=a.png>", "a.md": "Text. ![](a.png)"}.items():
        document = read(content, name)
        assert len(document.images) == kept
        assert (
            [str(problem) for problem in document.problems] == []
            if kept
            else [
                f"small image: a.png: it has {size[0]} × {size[1]} pixels; images of less than 24 a side are not the article's"
            ]
        )


@pytest.mark.parametrize(
    "content",
    [
        "<div><p class=caption>" * 10_000 + "<img src=x>",
        "<div>" + "<p class=caption>c</p>" * 10_000 + "<img src=x></div>",
        "<div class=caption><img src=x>" * 10_000,
        "<div class=byline>w " * 10_000,
        "<ul><li><a>w</a><li><a>w</a>" * 8_000,
        "<img data-src=x src=y>" * 10_000,
    ],
)
def test_captions_and_furniture_are_found_in_linear_time(read, content):
    start = time.process_time()
    read("<p>The text of the page.</p>" + content)
    assert time.process_time() - start < 10


@pytest.mark.parametrize(
    "markup",
    [
        '<noscript><img src="a.png"></noscript><img class="lazyload" data-src="a.png" src="a.png">',
        '<img src="a.png"><picture><source data-srcset="a.png"><img src="a.png"></picture>',
    ],
)
@pytest.mark.parametrize("exists", [True, False])
def test_a_lazy_loader_that_has_done_its_work(tmp_path, read, markup, exists):
    if exists:
        save_image(tmp_path / "a.png", (7, 0, 0))
    document = read(f"<p>Text.{markup}")
    assert colours(document) == ([(7, 0, 0)] if exists else [])
    assert kinds(document) == ({} if exists else {"missing_image": 1})
