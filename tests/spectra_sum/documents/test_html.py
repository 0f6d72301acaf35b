import base64
import codecs
import io
import time
from collections import Counter
from pathlib import Path

import html5lib
import pytest
import webencodings
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from spectra_sum.documents import parts
from spectra_sum.documents.html_encoding import decode_html
from spectra_sum.documents.parts import DocumentError
from spectra_sum.documents.reading import read_document

PAGE = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>The harbour reopens - The Daily</title>
<meta property="og:title" content="Open graph title"><style>p { color: red }</style></head>
<body>
<header><a href="/">The Daily</a> <img src="logo.png" alt="Logo"></header>
<nav><ul><li>Home</li><li>World</li></ul></nav>
<main><article>
<header><h1>The <em>harbour</em>
 reopens</h1><p>By A. Writer</p></header>
<script>var hidden = "script words";</script><!-- a comment -->
<p>Ships came back&nbsp;on Monday &amp; Tuesday.
<p>First line<br>second line<br><br>After a break.</p>
<figure><img src="img/red.png" alt="A ship"><figcaption>The first <b>ship</b></figcaption></figure>
<h2>What comes next</h2>
<ul><li>more ships<li>more <a href="x.html">docks</a></ul>
<blockquote><p>"Good news."</p></blockquote>
<table><tr><th>Year</th><th>Ships</th></tr><tr><td>2024</td><td>17</td></tr></table>
<pre>a  b
  c</pre>
<p style="color:blue; display: none">secret one</p><p hidden>secret two</p>
<aside>Related story <img src="img/red.png"></aside>
<form><p>Subscribe</p></form>
<img src="blue.png">
</article></main>
<footer>Copyright</footer></body></html>"""


def save_image(path, colour, size=(16, 12)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path)
    return path


def data_uri(colour, size=(16, 12), form="PNG"):
    buffer = io.BytesIO()
    Image.new("RGB", size, colour).save(buffer, form)
    return f"data:image/{form.lower()};base64," + base64.b64encode(buffer.getvalue()).decode()


@pytest.fixture
def read(tmp_path):
    def write_and_read(content, name="page.html"):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return read_document(path)

    return write_and_read


def colours(document):
    return [image.image.getpixel((0, 0)) for image in document.images]


def kinds(document):
    return Counter(problem.kind for problem in document.problems)


def test_an_article_with_all_around_it(tmp_path, read):
    save_image(tmp_path / "img" / "red.png", "red")
    save_image(tmp_path / "blue.png", "blue")
    document = read(PAGE)
    assert (document.id, document.title, document.reference) == ("page", "The harbour reopens", None)
    assert document.body.split("\n\n") == [
        "By A. Writer",
        "Ships came back on Monday & Tuesday.",
        "First line second line",
        "After a break.",
        "What comes next",
        "more ships",
        "more docks",
        '"Good news."',
        "Year | Ships",
        "2024 | 17",
        "a  b\n  c",
    ]
    assert [(image.name, image.alt) for image in document.images] == [
        ("img/red.png", "A ship – The first ship"),
        ("blue.png", ""),
    ]
    assert colours(document) == [(255, 0, 0), (0, 0, 255)]
    # The images: logo and aside. The words: 5 around <main>, 4 hidden, 2 in the aside, 1 in the form.
    assert [str(problem) for problem in document.problems] == [
        "page furniture: around the article and not read: 2 img, 12 words"
    ]


@pytest.mark.parametrize(
    "page, title, body",
    [
        ("<title>In the head</title><p>Text.", "In the head", "Text."),
        ("<meta property='og:title' content='Graph'><p>Text.", "Graph", "Text."),
        ("<meta property='og:title' content='Graph'><title>Head</title><p>Text.", "Head", "Text."),
        ("<p>Text.", "page", "Text."),
        ("<header><h1>Top</h1></header><article><p>Text.</article>", "Top", "Text."),
        ("<h1>One</h1><p>Text.<h1>Two</h1>", "One", "Text.\n\nTwo"),
        ("<form id=aspnet><h1>Main</h1><p>Text.</form>", "Main", "Text."),
        ("<main><article><h1>A</h1>Text.</article><article><h2>Next</h2>Teaser.</article></main>", "A", "Text."),
        ("<article>Post one.</article><article>Post two.</article>", "page", "Post one.\n\nPost two."),
        ("<article><p>Text.</p><article>A comment.</article></article>", "page", "Text.\n\nA comment."),
        ("<article></article><p>Text.", "page", "Text."),
        ("<![CDATA[no text]]><p>Text.<!-- [if IE]> old <![endif]-->", "page", "Text."),
        ("<p>1 < 2 and a<b", "page", "1 < 2 and a<b"),
        ("<p>Text <!-- never closed", "page", "Text <!-- never closed"),
        ("<?xml version='1.0'?><html xmlns='http://www.w3.org/1999/xhtml'><p>Text.</p></html>", "page", "Text."),
    ],
)
def test_title_and_article(read, page, title, body):
    document = read(page)
    assert (document.title, document.body) == (title, body)


def test_the_words_are_those_of_another_parser(read):
    """html5lib is an independent parser: the same words in the same order on a page without furniture."""
    page = "<body><h2>A <i>b</i>c</h2><p>d<b>e</b> f<ul><li>g<li>h</ul><div>i<div>j</div>k</div><dl><dt>l<dd>m</dl>&lt;n&#233;"
    tree = html5lib.parse(page, namespaceHTMLElements=False)
    parts = {"h2", "p", "li", "div", "dt", "dd"}
    for element in tree.iter():
        if element.tag in parts:
            element.text, element.tail = f" {element.text or ''}", f" {element.tail or ''}"
    assert read(page).body.split() == "".join(tree.find("body").itertext()).split()


@pytest.mark.parametrize(
    "content",
    [
        "<meta charset=utf-8><p>café –".encode(),
        "<p>café –".encode(),
        "\ufeff<p>café –".encode(),
        "<meta charset=iso-8859-1><p>café –".encode("cp1252"),
        '<meta http-equiv="Content-Type" content="text/html; charset=windows-1252"><p>café –'.encode("cp1252"),
        codecs.BOM_UTF16_LE + "<p>café –".encode("utf-16-le"),
        codecs.BOM_UTF16_BE + "<meta charset=latin-1><p>café –".encode("utf-16-be"),
        "<meta charset=nonsense><p>café –".encode(),
        "<meta charset=zip><p>café –".encode(),
        "<meta charset=shift_jis><p>café –".encode(),
    ],
)
def test_character_sets(read, content):
    assert read(content).body == "café –"


@pytest.mark.parametrize(
    "content, message",
    [
        (b"<p>caf\xe9", "byte 6 is not UTF-8; save the page"),
        (b"<meta charset=shift_jis><p>\x81 ", "byte 27 is not UTF-8, nor is the page in shift_jis"),
        (b"", "is empty"),
        (b"<p>a\0", "NUL"),
        (b"<title>Only a title</title><script>x</script>", "no body text"),
        (b"<p>&#" + b"9" * 5000 + b";", "the HTML cannot be parsed"),
        (b"<p>" * 200_001, "more than 200,000 tags"),
    ],
)
def test_unreadable_pages_name_the_file(tmp_path, read, content, message):
    with pytest.raises(DocumentError) as error:
        read(content)
    assert str(tmp_path / "page.html") in str(error.value) and message in str(error.value)


@pytest.mark.parametrize(
    "content",
    [
        "<div>" * 100_000 + "deep",
        "<b><i>" * 50_000 + "deep",
        "<table><tr><td>" * 30_000 + "deep",
        "<p>deep" + "<a " * 60_000,
        "<p>deep" + "<!--" * 60_000,
        "<p>deep" + "<!-->" * 60_000,
        "<p>deep" + "<![CDATA[>" * 60_000,
        "<p>deep<img srcset='" + "a" * 1_000_000 + " x y'>",
    ],
)
def test_nesting_and_unclosed_markup_neither_crash_nor_hang(read, content):
    assert read(content).body.startswith("deep")


@pytest.mark.parametrize(
    "content",
    [
        "<figure>" + "<img src=x>" * 20_000 + "</figure>",
        "<figure>" * 15_000 + "<img src=x>" * 15_000,
        "<figure><figcaption><img src=x>" * 15_000,
        "<figure><figcaption>c" * 20_000,
        "<picture>" + "<source srcset=y>" * 20_000 + "<img src=x>" * 20_000 + "</picture>",
        "<article>" * 20_000,
        "<main>" * 20_000,
        "<main><article>" * 20_000 + "</article></main>" * 9,
        "<h1><b>" * 15_000,
        "<noscript><picture><img src=x>" * 15_000,
        "<img srcset='" + "x.png 2x, " * 100_000 + "'>",
    ],
)
def test_repeated_and_nested_tags_take_linear_time(read, content):
    start = time.perf_counter()
    assert read("<p>deep</p>" + content + "<p>end").body in ("deep", "end", "deep\n\nend") or "<figcaption>" in content
    assert time.perf_counter() - start < 15


def test_an_endless_base_address_is_refused(read):
    with pytest.raises(DocumentError, match="<base href> has more than 4,096"):
        read(f"<base href={'a' * 4097}/><p>Text.<img src=x>")


def test_an_image_shown_again_is_decoded_once_and_images_are_limited(tmp_path, read, monkeypatch):
    save_image(tmp_path / "a.png", "red")
    save_image(tmp_path / "b.png", "blue")
    opened = []
    open_linked = parts.open_linked_image

    def counted(source, folder):
        opened.append(source)
        return open_linked(source, folder)

    monkeypatch.setattr(parts, "open_linked_image", counted)
    document = read("<p>Text." + "<img src=a.png>" * 199 + "<img src=none.png>" * 3 + "<img src=b.png>" * 801)
    assert opened == ["a.png", "none.png", "b.png"]
    assert colours(document) == [(255, 0, 0)] * 199 + [(0, 0, 255)]
    assert len({id(image.image) for image in document.images}) == 2
    assert kinds(document) == {"missing_image": 3, "image_limit": 1}
    assert document.problems[-1].detail == "800 images after the first 203 are not read"
    assert kinds(read("<p>Text." + "<img src=x>" * 1005)) == {"missing_image": 1000, "image_limit": 1}


@pytest.mark.parametrize(
    "page, body, descriptions",
    [
        (
            "<figure><figure><img src=red.png></figure><figure><img src=red.png><figcaption>Own</figcaption></figure>"
            "<figcaption>Gallery <i>caption</i></figcaption></figure>",
            "Gallery caption",
            ["", "Own"],
        ),
        (
            "<figure><figcaption>One</figcaption><img src=red.png alt=A><figcaption>Two</figcaption></figure>",
            "Two",
            ["A – One"],
        ),
        ("<figure><img hidden src=red.png><figcaption>Hidden</figcaption></figure>", "Hidden", []),
        ("<figure><div><figcaption>One</figcaption></div><a><img src=red.png></a></figure>", "", ["One"]),
        (
            f"<figure><img src=none.png><figcaption>{'long ' * 20}</figcaption></figure>",
            " ".join(["long"] * 20),
            [],
        ),
        (
            f"<figure><img src=red.png><figcaption>{'long ' * 500}</figcaption></figure>",
            " ".join(["long"] * 500),
            [""],
        ),
        ("<figure><figcaption>Words <img src=red.png></figcaption></figure>", "", ["Words"]),
        ("<figure><noscript><img src=red.png></noscript><figcaption>One</figcaption></figure>", "", ["One"]),
        ("<figcaption>Alone</figcaption><img src=red.png>", "Alone", [""]),
    ],
)
def test_no_caption_is_lost(tmp_path, read, page, body, descriptions):
    save_image(tmp_path / "red.png", "red")
    document = read(f"<p>Text.</p>{page}")
    assert document.body == "\n\n".join(["Text.", *([body] if body else [])])
    assert [image.alt for image in document.images] == descriptions


@pytest.mark.parametrize(
    "page, title, body",
    [
        ("<p>Before<body><p>In.</body><p>After</p><body>Second</body>", "page", "Before\n\nIn.\n\nAfter\n\nSecond"),
        ("<html><head><title>T</title><body><p>Text.", "T", "Text."),
        ("<head><title>T</title><noscript>pixel</noscript></head><p>Text.", "T", "Text."),
        ("<h1><div>T</div><p>U</h1><p>Text.", "T U", "Text."),
        ("<article><h1>T</h1></article><p>Text.", "T", "Text."),
        ("<main><article><h1>T</h1></article></main><div>Text.</div>", "T", "Text."),
        ("<article><h1>T</h1><nav>Menu</nav></article><p>Text.", "T", "Text."),
        ("<title>Head</title><h1>" + "<p>Words." * 100, "Head", "\n\n".join(["Words."] * 100)),
    ],
)
def test_the_whole_page_is_read_and_the_headline_once(read, page, title, body):
    document = read(page)
    assert (document.title, document.body) == (title, body)


def test_words_outside_the_article_are_counted_without_those_of_the_head(read):
    page = "<head><title>In head</title></head><body><article>Text.</article></body><p>two words</p><img src=x>"
    assert [str(problem) for problem in read(page).problems] == [
        "page furniture: around the article and not read: 1 img, 2 words"
    ]


def test_a_character_set_declared_a_thousand_times_takes_no_time(read):
    start = time.perf_counter()
    assert read(b"<metacharset=a" * 3600 + b"><p>Text." + b" " * 1_000_000).body == "Text."
    assert time.perf_counter() - start < 10


@pytest.mark.parametrize(
    "declared",
    ["unicode_escape", "raw_unicode_escape", "utf-7", "idna", "punycode", "utf-16", "utf-32", "rot13", "hz", "cp037"],
)
def test_character_sets_that_browsers_do_not_know_are_not_applied(read, declared):
    assert read(f"<meta charset={declared}><p>a\\x41 +AEE- é".encode()).body == "a\\x41 +AEE- é"


@pytest.mark.parametrize("label", sorted(set(webencodings.LABELS)))
def test_character_sets_are_those_of_browsers(label):
    """webencodings is an independent table of the standard: decoded as it says, or refused, never otherwise."""
    name = webencodings.lookup(label).name
    text = "Ж" if name in ("iso-8859-5", "koi8-r", "koi8-u", "ibm866", "x-mac-cyrillic", "windows-1251") else "é"
    for sample in (text, "中", "日", "한", "Ω", "ž"):
        try:
            data = f"<meta charset={label}>".encode() + webencodings.encode(sample, label, "strict")
        except (UnicodeError, LookupError):
            continue
        if name not in ("utf-16le", "utf-16be", "x-user-defined", "replacement", "utf-8"):
            try:
                decoded = decode_html(data, "page")
            except DocumentError:
                continue
            assert decoded.endswith(">" + sample)


def test_a_huge_page_is_refused_unread(tmp_path):
    with open(tmp_path / "page.html", "wb") as file:
        file.truncate(64_000_001)
    with pytest.raises(DocumentError, match="64,000,001 bytes, the limit is 64,000,000"):
        read_document(tmp_path / "page.html")


@pytest.mark.parametrize(
    "image, expected",
    [
        ("<img src=red.png>", "red"),
        ("<img src=red.png srcset='blue.png 2x'>", "red"),
        ("<img srcset='red.png 100w, blue.png 800w,none.png 20w'>", "blue"),
        ("<img srcset='red.png 2x,blue.png 1x'>", "red"),
        ("<img src='{placeholder}' data-src=blue.png>", "blue"),
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
    save_image(tmp_path / "sub" / "green.png", (0, 128, 0))
    image = image.replace("{placeholder}", data_uri("white", (1, 1), "GIF")).replace("{red}", data_uri("red"))
    document = read(f"<p>Text.{image}")
    assert colours(document) == [{"red": (255, 0, 0), "blue": (0, 0, 255), "green": (0, 128, 0)}[expected]]
    assert document.problems == [] and document.body == "Text."


def test_an_embedded_image_is_named_by_its_type(read):
    [image] = read(f"<p>Text.<img alt=Ship src='{data_uri('red', (3000, 10), 'JPEG')}'>").images
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
        ("<picture><source srcset=../secret.png></picture><picture><img></picture>", "missing_image"),
        ("<img src=link.png>", "outside_folder"),
        ("<img src='linked/secret.png'>", "outside_folder"),
        ("<img src='..\\secret.png'>", "missing_image"),
        ("<img src='C:\\secret.png'>", "unsupported_image"),
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


def test_control_characters_do_not_reach_the_reader(read):
    document = read("<h1>T&#27;[31m \u202e</h1><p>Body\x1b[2J <img alt='a\x07' src='n%1bone.png'>")
    texts = [document.title, document.body, *map(str, document.problems)]
    assert not any(character in text for text in texts for character in "\x1b\x07\u202e")


pieces = st.sampled_from(
    "<p> </p> <img <img\x20src= ' \" > /> ../secret.png %2e%2e/ file:// // \\ data:image/png;base64, <base\x20href= "
    "srcset= 2x, <figure> <figcaption> <picture> <source <!-- --> <![CDATA[ ]]> <pre> <br> <table> <td> &#x2e; &# "
    "<h1> </h1> <article> <main> <noscript> <script> <form> hidden style=display:none <svg> <html> <body> </html> "
    "text linked/secret.png =".split(" ")
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(pieces, max_size=30))
def test_no_page_crashes_or_reaches_outside(tmp_path, parts):
    folder = tmp_path / "folder"
    if not folder.exists():
        folder.mkdir()
        save_image(tmp_path / "secret.png", "red")
        (folder / "linked").symlink_to(tmp_path)
    Path(folder / "page.html").write_text("<p>Text." + " ".join(parts))
    try:
        assert read_document(folder / "page.html").images == []
    except DocumentError as error:
        assert "no body text" in str(error) or "cannot be parsed" in str(error)
