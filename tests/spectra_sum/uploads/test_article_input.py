"""What is made of uploads: limits, broken files, images by their names, texts of images."""

import os
from pathlib import Path

import pytest
from PIL import Image

import modeling_spectra.rgb_images
from spectra_sum.documents.parts import DocumentError
from spectra_sum.uploads.article_input import Limits, TooLargeError, read_article
from tests.spectra_sum.documents.pages import data_uri
from tests.tiny import picture

SIZE = (28, 24)


def save(folder: Path, name: str, seed: int, size=SIZE) -> str:
    picture(seed, size).save(folder / name)
    return str(folder / name)


def test_pasted_text_and_uploaded_images(tmp_path):
    images = [save(tmp_path, "a.png", 1), save(tmp_path, "b.jpg", 2)]
    article = read_article("  A \n title ", "One line\nand another.\n \n\nA second\tparagraph.", None, images)
    assert (article.title, article.body) == ("A title", "One line and another.\n\nA second paragraph.")
    assert [image.name for image in article.images] == ["a.png", "b.jpg"]
    assert article.images[0].image == picture(1, SIZE)
    assert article.problems == []


@pytest.mark.parametrize("text", ["", "  \n\n \t "])
def test_no_text(text):
    with pytest.raises(DocumentError, match="^There is no text; paste an article or upload a document.$"):
        read_article("Title", text, None, [])


def test_limits_hold_on_the_server(tmp_path):
    limits = Limits(text_length=10, title_length=5, images=2, document_size=40, image_size=3_000)
    assert read_article("12345", "1234567890", None, [], limits).body == "1234567890"
    for title, text, message in [
        ("123456", "text", "The title has 6 characters; shorten it to 5."),
        ("", "12345678901", "The text has 11 characters; shorten it to 10."),
    ]:
        with pytest.raises(DocumentError, match=f"^{message}$"):
            read_article(title, text, None, [], limits)

    images = [save(tmp_path, f"{seed}.png", seed) for seed in range(3)]
    assert len(read_article("", "text", None, images[:2], limits).images) == 2
    with pytest.raises(DocumentError, match="^There are 3 images; leave at most 2.$"):
        read_article("", "text", None, images, limits)

    document = tmp_path / "a.md"
    for content, message in [
        ("x" * 41, "the document has 0.0 MB; the limit is 0.0 MB"),
        ("x" * 11, "The text has 11 characters; shorten it to 10."),
    ]:
        document.write_text(content)
        with pytest.raises(DocumentError, match=message):
            read_article("", "", str(document), [], limits)

    # 3,600 random bytes do not shrink below the limit: this image alone is left out.
    large = save(tmp_path, "large.png", 5, (40, 30))
    article = read_article("", "text", None, [large, images[0]], limits)
    assert [image.name for image in article.images] == ["0.png"]
    assert [problem.kind for problem in article.problems] == ["oversized_image"]
    assert article.problems[0].detail.startswith("large.png: it has ")


def test_broken_images_are_named_and_left_out(tmp_path, monkeypatch):
    good = save(tmp_path, "good.png", 1)
    cut = tmp_path / "cut.png"
    cut.write_bytes(Path(good).read_bytes()[:200])
    text = tmp_path / "text.jpg"
    text.write_text("no image")
    article = read_article("", "text", None, [str(cut), good, str(text)])
    assert [image.name for image in article.images] == ["good.png"]
    assert [(problem.kind, problem.detail.split(":")[0]) for problem in article.problems] == [
        ("broken_image", "cut.png"),
        ("broken_image", "text.jpg"),
    ]

    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 28 * 24 - 1)
    article = read_article("", "text", None, [good])
    assert article.images == []
    assert [problem.kind for problem in article.problems] == ["oversized_image"]


def test_images_of_a_document_come_from_the_uploads(tmp_path):
    secret = save(tmp_path, "secret.png", 9)
    uploads = tmp_path / "uploads"
    uploads.mkdir()
    document = uploads / "news.md"
    document.write_text(
        f"# Harbour\n\nIt reopened.\n\n![second](b.png)\n\n![gone](gone.png)\n\n![](../secret.png)\n\n![]({secret})\n\n"
        "![](http://example.org/x.png)\n\n![](broken.png)\n"
    )
    broken = uploads / "broken.png"
    broken.write_bytes(b"\x89PNG broken")
    images = [save(uploads, "a.png", 1), save(uploads, "b.png", 2), str(broken)]
    article = read_article("", "", str(document), images)
    assert (article.title, article.body, article.source) == ("Harbour", "It reopened.", "news.md")
    assert [(image.name, image.alt) for image in article.images] == [("b.png", "second"), ("a.png", "")]
    assert [image.image.tobytes() for image in article.images] == [
        picture(2, SIZE).tobytes(),
        picture(1, SIZE).tobytes(),
    ]
    assert sorted(problem.kind for problem in article.problems) == [
        "broken_image",
        "missing_image",
        "outside_folder",
        "outside_folder",
        "remote_image",
    ]
    missing = next(problem for problem in article.problems if problem.kind == "missing_image")
    assert missing.detail == ("gone.png: there is no such file (described as: gone); upload it")
    assert read_article("Mine", "", str(document), images).title == "Mine"


def test_an_upload_that_cannot_be_read_is_reported_once_and_not_opened_again(tmp_path, monkeypatch):
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"\x89PNG broken")
    # It would be decoded by the document's reader from a copy.
    opened = []
    open_rgb = modeling_spectra.rgb_images.open_rgb
    monkeypatch.setattr(
        modeling_spectra.rgb_images,
        "open_rgb",
        lambda file, formats: (opened.append(file), open_rgb(file, formats))[1],
    )
    for name, content in {
        "news.html": '<p>Text.<img src="broken.png" srcset="broken.png?1 2x, broken.png?2 3x, ./broken.png 4x">',
        "news.md": "Text. ![](broken.png) ![](broken.png?1) ![](./broken.png)",
    }.items():
        (tmp_path / name).write_text(content)
        article = read_article("", "", str(tmp_path / name), [str(broken)])
        assert [problem.kind for problem in article.problems] == ["broken_image"]
        assert article.problems[0].detail.startswith("broken.png: ")
        assert opened == [broken]
        opened.clear()


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "utf-16-be"])
def test_a_document_that_holds_too_many_images_is_refused_in_any_encoding(tmp_path, encoding):
    document = tmp_path / "a.html"
    for count, message in (
        (21, "^The document shows 21 images; leave at most 20.$"),
        (300, "^The document shows 200 images; leave at most 20.$"),
    ):
        page = "<p>Text.</p>" + "".join(
            f"<img src='{data_uri((number % 256, number // 256, 0))}'>" for number in range(count)
        )
        document.write_bytes(("\ufeff" if encoding == "utf-16-be" else "").encode(encoding) + page.encode(encoding))
        with pytest.raises(DocumentError, match=message):
            read_article("", "", str(document), [], Limits(document_size=1_000_000))
    # The same upload under many addresses is one image.
    page = "<p>Text.</p>" + "".join(f'<img src="a.png?{number}">' for number in range(400))
    document.write_text(page)
    assert len(read_article("", "", str(document), [save(tmp_path, "a.png", 1)]).images) == 1


@pytest.mark.parametrize(
    ("name", "content"),
    [
        (
            "page.html",
            "<article><p>It reopened.</p><figure><img src='page_files/b.png' alt='A ship'><figcaption>On Monday."
            "</figcaption></figure><img src='https://example.org/img/caf%C3%A9.png?w=9' alt='The caf\u00e9'></article>",
        ),
        (
            "page.md",
            "It reopened.\n\n![A ship](pictures\\b.png)\n*On Monday.*\n\n![The caf\u00e9](../img/caf\u00e9.png)\n",
        ),
    ],
)
def test_uploads_are_matched_by_name_and_keep_the_documents_texts(tmp_path, name, content):
    (tmp_path / name).write_text(content, encoding="utf-8")
    uploads = [save(tmp_path, "a.png", 1), save(tmp_path, "cafe\u0301.png", 2), save(tmp_path, "b.png", 3)]
    article = read_article("", "", str(tmp_path / name), uploads)
    assert article.body == "It reopened." and article.problems == []
    assert [(image.alt, image.caption) for image in article.images] == [
        ("A ship", "On Monday."),
        ("The caf\u00e9", ""),
        ("", ""),
    ]
    assert [image.image.tobytes() for image in article.images] == [picture(seed, SIZE).tobytes() for seed in (3, 2, 1)]


def test_an_upload_that_is_too_small_is_none_of_the_article(tmp_path):
    (tmp_path / "page.html").write_text("<p>It reopened.</p><img src='files/pixel.png'><img src='a.png'>")
    uploads = [
        save(tmp_path, "pixel.png", 1, (1, 1)),
        save(tmp_path, "icon.png", 2, (16, 16)),
        save(tmp_path, "a.png", 3),
    ]
    article = read_article("", "", str(tmp_path / "page.html"), uploads)
    assert [image.name for image in article.images] == ["a.png"]
    assert [problem.detail.split(";")[0] for problem in article.problems] == [
        "pixel.png: it has 1 × 1 pixels",
        "icon.png: it has 16 × 16 pixels",
    ]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.pdf", b"%PDF-1.4", r"^a.pdf: this is no document of the types \.md, "),
        ("a.md", b"\xff\xfe", "^a.md: byte 0 is not UTF-8"),
        ("a.txt", b"", "^a.txt: the document is empty"),
    ],
)
def test_documents_that_cannot_be_read(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DocumentError, match=message):
        read_article("", "", str(tmp_path / name), [])


def test_text_and_document_together_are_refused(tmp_path):
    (tmp_path / "a.txt").write_text("Text.")
    with pytest.raises(DocumentError, match="^There is a pasted text and a document; remove one of them.$"):
        read_article("", "text", str(tmp_path / "a.txt"), [])


def test_images_have_the_texts_that_come_with_them(tmp_path):
    images = [save(tmp_path, name, seed) for seed, name in enumerate(("a.png", "b.png", "c.png"))]
    texts = {"captions": ["One\nline", "", "Three"], "alts": ["", "A ship", "\0"]}
    article = read_article("", "text", None, images, **texts)
    assert [(image.caption, image.alt) for image in article.images] == [
        ("One line", ""),
        ("", "A ship"),
        ("Three", "\ufffd"),
    ]
    document = tmp_path / "a.md"
    document.write_text("It reopened.\n\n![theirs](c.png)\n\n![theirs](b.png)\n")
    article = read_article("", "", str(document), images, **texts)
    assert [(image.name, image.caption, image.alt) for image in article.images] == [
        ("c.png", "Three", "\ufffd"),
        ("b.png", "", "A ship"),
        ("a.png", "One line", ""),
    ]
    with pytest.raises(
        DocumentError, match="^There are 3 images, but 2 of the field caption; give one per image, or none.$"
    ):
        read_article("", "text", None, images, captions=["a", "b"])
    with pytest.raises(TooLargeError, match="^The alternative text of image 2 has 5 characters; shorten it to 4.$"):
        read_article("", "text", None, images, Limits(caption_length=4), alts=["", "12345", ""])


@pytest.mark.skipif("SPECTRA_DATA" not in os.environ, reason="SPECTRA_DATA names no folder of real articles")
def test_the_texts_of_real_figures_are_within_the_limits():
    folder = Path(os.environ["SPECTRA_DATA"], "msmo_openstax")
    for kind in ("caption", "alt"):
        lengths = [len(file.read_text(encoding="utf-8")) for file in folder.glob(f"*_data/{kind}/*")]
        assert len(lengths) > 5_000 and max(lengths) <= Limits().caption_length, kind


def test_an_image_that_cannot_be_used_is_an_error_where_nothing_is_left_out(tmp_path):
    good, small = save(tmp_path, "good.png", 1), save(tmp_path, "small.png", 2, (30, 10))
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"\x89PNG")
    for path, kind, message in [
        (str(broken), DocumentError, r"^Image 2, broken\.png: it is no image .*\.$"),
        (small, DocumentError, r"^Image 2, small\.png: it has 30 × 10 pixels; .*\.$"),
        (save(tmp_path, "large.png", 3, (60, 60)), TooLargeError, r"^Image 2, large\.png: it has 0\.0 MB; .*\.$"),
    ]:
        with pytest.raises(kind, match=message):
            read_article("", "text", None, [good, path], Limits(image_size=5_000), leave_out=False)
