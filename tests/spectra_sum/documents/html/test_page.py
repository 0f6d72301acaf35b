import codecs
import time
from pathlib import Path

import html5lib
import pytest
import webencodings
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from spectra_sum.documents.html.encoding import decode_html
from spectra_sum.documents.parts import DocumentError
from spectra_sum.documents.reading import read_document
from tests.spectra_sum.documents.pages import colours, save_image

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


def test_an_article_with_all_around_it(tmp_path, read):
    save_image(tmp_path / "img" / "red.png", "red")
    save_image(tmp_path / "blue.png", "blue")
    document = read(PAGE)
    assert (document.id, document.title, document.reference) == ("page", "The harbour reopens", None)
    assert document.body.split("\n\n") == [
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
    assert [(image.name, image.alt, image.caption) for image in document.images] == [
        ("img/red.png", "A ship", "The first ship"),
        ("blue.png", "", ""),
    ]
    assert colours(document) == [(255, 0, 0), (0, 0, 255)]
    # The images: logo and aside. The words: 5 around <main>, 4 hidden, 2 in the aside, 1 in the form.
    assert [str(problem) for problem in document.problems] == [
        "page furniture: around the article and not read: 2 img, 12 words",
        "page furniture: not read as the article's text: “By A. Writer”",
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
    start = time.process_time()
    assert read("<p>deep</p>" + content + "<p>end").body in ("deep", "end", "deep\n\nend") or "<figcaption>" in content
    assert time.process_time() - start < 15


def test_an_endless_base_address_is_refused(read):
    with pytest.raises(DocumentError, match="<base href> has more than 4,096"):
        read(f"<base href={'a' * 4097}/><p>Text.<img src=x>")


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
    start = time.process_time()
    assert read(b"<metacharset=a" * 3600 + b"><p>Text." + b" " * 1_000_000).body == "Text."
    assert time.process_time() - start < 10


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
