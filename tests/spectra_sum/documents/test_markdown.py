"""Markdown as people write it, beyond CommonMark."""

import time

import pytest

from spectra_sum.documents.parts import DocumentError
from spectra_sum.documents.reading import read_document
from tests.spectra_sum.documents.pages import colours, kinds, save_image, write


def test_markdown_title_body_and_images_in_order(tmp_path):
    save_image(tmp_path / "red.png", (255, 0, 0))
    save_image(tmp_path / "img" / "blue one.png", (0, 0, 255))
    path = write(
        tmp_path / "doc.md",
        "---\ntitle: From the front matter\n---\n\n# The *main* title\n\nFirst `line`\nsecond line.\n\n"
        "![a *red* thing](red.png) Text beside [a link](https://example.org/).\n\n"
        "## Part two\n\n- one\n- two\n\n[![blue][pic]](https://example.org/)\n\n"
        "```\ncode <b>\n```\n\n[pic]: <img/blue one.png>\n",
    )
    document = read_document(path)
    assert (document.id, document.source, document.title) == ("doc", str(path), "The main title")
    assert document.body == ("First line second line.\n\nText beside a link.\n\nPart two\n\none\n\ntwo\n\ncode <b>")
    assert [(image.name, image.alt) for image in document.images] == [
        ("red.png", "a red thing"),
        ("img/blue one.png", "blue"),
    ]
    assert [image.image.getpixel((0, 0)) for image in document.images] == [(255, 0, 0), (0, 0, 255)]
    assert document.problems == []


@pytest.mark.parametrize(
    "text, title, body",
    [
        ("---\ntitle: Front\n---\n\n## Section\n\nText.", "Front", "Section\n\nText."),
        ("Opening.\n\n## Section\n\nText.", "Section", "Opening.\n\nText."),
        ("## Kicker\n\n# Main\n\nText.", "Main", "Kicker\n\nText."),
        ("Only text.", "my-file", "Only text."),
        ("---\ntitle: [not, a, string]\n---\n\nText.", "my-file", "Text."),
        ("Main\n====\n\nText.", "Main", "Text."),
    ],
)
def test_markdown_title(tmp_path, text, title, body):
    document = read_document(write(tmp_path / "my-file.md", text))
    assert (document.title, document.body) == (title, body)
    assert document.problems == []


def test_broken_front_matter_is_reported(tmp_path):
    document = read_document(write(tmp_path / "a.md", "---\ntitle: 'open\n---\n\nText.\n"))
    assert (document.title, document.body, kinds(document)) == ("a", "Text.", {"front_matter": 1})


def test_a_report_as_people_write_it(tmp_path):
    """The kind of document of which front matter, attributes and marks were body text, and no image was found."""
    for name, colour in {"sales chart.png": "red", "store.png": "green", "plan.png": "blue"}.items():
        save_image(tmp_path / name, colour)
    path = write(
        tmp_path / "report.md",
        '+++\ntitle = "Sales in the second quarter"\ndate = 2026-07-01\n+++\n\nSales rose in all stores.[^1]\n\n'
        "![A chart of the sales](sales chart.png)\n\n*Sales by month; the launch was in *April*.*\n\n"
        "| store | sales |\n|---|---|\n| Prague | 12 |\n| Dublin | 7 |\n\n![[store.png]]\n\n"
        '<figure><img src="plan.png" alt="Plan of the store"><figcaption>It has two floors.</figcaption></figure>\n\n'
        "The new store opens in autumn.[^1] {width=50%}\n\n[^1]: By the company's own figures.\n",
    )
    document = read_document(path)
    assert document.title == "Sales in the second quarter"
    assert document.body.split("\n\n") == [
        "Sales rose in all stores.",
        "store | sales",
        "Prague | 12",
        "Dublin | 7",
        "The new store opens in autumn.",
        "By the company's own figures.",
    ]
    assert [(image.name, image.alt, image.caption) for image in document.images] == [
        ("sales chart.png", "A chart of the sales", "Sales by month; the launch was in April."),
        ("store.png", "", ""),
        ("plan.png", "Plan of the store", "It has two floors."),
    ]
    assert colours(document) == [(255, 0, 0), (0, 128, 0), (0, 0, 255)]
    assert document.problems == []


@pytest.mark.parametrize(
    ("image", "name", "alt", "caption"),
    [
        ("![A](a b.png)", "a b.png", "A", ""),
        ('![A *b*](a b.png "The title")', "a b.png", "A b", "The title"),
        ("![A](<a b.png> 'The title')", "a b.png", "A", "The title"),
        ("![A](a%20b.png)", "a b.png", "A", ""),
        ("![A](sub/a (1) b.png)", "sub/a (1) b.png", "A", ""),
        ("![](sub\\a (1) b.png)", "sub\\a (1) b.png", "", ""),
        ("![[a b.png]]", "a b.png", "", ""),
        ("![[a b.png|300]]", "a b.png", "", ""),
        ("![[a b.png|300x200]]", "a b.png", "", ""),
        ("![[a b.png|The market|300]]", "a b.png", "The market", ""),
        ("![[100% #1?.png]]", "100% #1?.png", "", ""),
        ("![A](a%20b.png){width=50%}", "a b.png", "A", ""),
        ("![A](a%20b.png){: .wide}", "a b.png", "A", ""),
        ("[![A](a b.png)](https://example.org/) {.wide}", "a b.png", "A", ""),
        ("![A](a b.png)\n*Below.*", "a b.png", "A", "Below."),
        ("![A](a b.png)  \n_Below._", "a b.png", "A", "Below."),
        ("![A](a b.png)\n\n*Below.*", "a b.png", "A", "Below."),
        ("![[a b.png]]\n\n*Below.*", "a b.png", "", "Below."),
        ("<img src='a b.png' alt=A width=300>", "a b.png", "A", ""),
        ("<figure>\n\n![A](a b.png)\n\n<figcaption>Below.</figcaption>\n</figure>", "a b.png", "A", "Below."),
        ("<p align=center><img src='a b.png' alt=A></p>", "a b.png", "A", ""),
    ],
)
def test_an_image_in_its_many_forms(tmp_path, image, name, alt, caption):
    for file in ("a b.png", "sub/a (1) b.png", "100% #1?.png"):
        save_image(tmp_path / file, "red")
    document = read_document(write(tmp_path / "doc.md", f"Text.\n\n{image}\n\nAfter."))
    assert [(found.name, found.alt, found.caption) for found in document.images] == [(name, alt, caption)]
    assert document.body == "Text.\n\nAfter." and document.problems == []


@pytest.mark.parametrize(
    ("text", "body"),
    [
        ("A line.\n\n*Italic.*", "A line.\n\nItalic."),
        ("![](a.png) Words.\n\n*Italic.*", "Words.\n\nItalic."),
        ("![](a.png)\n\n*Italic* and more.", "Italic and more."),
        ("![](a.png)\n\nWords.\n\n*Italic.*", "Words.\n\nItalic."),
        ("A set {a, b}, {x} and `{width=50%}`.", "A set {a, b}, {x} and {width=50%}."),
        ("## Head {#head .wide}\n\nText {.a key='b c'}\nmore\n{: .b}", "Text more"),
        ("[TOC]\n\nText.\n\n[[_TOC_]]\n\n{:toc}\n\n[[toc]]", "Text."),
        ("The [TOC] mark.", "The [TOC] mark."),
        (
            "One.[^a] Two.[^b] Again.[^a]\n\n[^b]: Second.\n\n[^a]: First.\n\n    More of it.\n\nThree.",
            "One. Two. Again.\n\nThree.\n\nFirst.\n\nMore of it.\n\nSecond.",
        ),
        ("One.^[Inline *note*.] Two.\n\n[^x]: Never named.", "One. Two.\n\nInline note.\n\nNever named."),
        ("One.[^x]", "One.[^x]"),
        ("```\n![a](a.png) {.x}\n[^1]: code\n```", "![a](a.png) {.x}\n[^1]: code"),
        ("`![[a.png]]` and `![](b c.png)`", "![[a.png]] and ![](b c.png)"),
        ("![ not ](closed", "![ not ](closed"),
        ("a | b\n--|--\n1 | `x`", "a | b\n\n1 | x"),
        ("<details><summary>More</summary>\n\nHidden *words*.\n\n</details>", "More\n\nHidden words."),
        ("<aside>\n\nA note.\n\n</aside>\n\nAdvertisement", "A note.\n\nAdvertisement"),
        ("1 < 2 & 3 > 2, &lt;b&gt; \\<i\\>", "1 < 2 & 3 > 2, <b> <i>"),
    ],
)
def test_what_is_text(tmp_path, text, body):
    save_image(tmp_path / "a.png", "red")
    assert read_document(write(tmp_path / "doc.md", text)).body == body


@pytest.mark.parametrize(
    ("front", "title", "problems"),
    [
        ("+++\ntitle = 'Front  matter'\n+++\n", "Front matter", {}),
        ("+++\n+++\n", "doc", {}),
        ("+++\n[a]\ntitle = 'Not this'\n+++\n", "doc", {}),
        ("+++\ntitle = 'Long'\n" + "#" * 20_000 + "\n+++\n", "doc", {"front_matter": 1}),
        ("+++\ntitle = 7\n+++\n", "doc", {}),
        ("+++\ntitle = open\n+++\n", "doc", {"front_matter": 1}),
        ("+++\na = " + "[" * 5000 + "\n+++\n", "doc", {"front_matter": 1}),
        ("---\ntitle: Front\n---\n", "Front", {}),
    ],
)
def test_front_matter_is_no_text(tmp_path, front, title, problems):
    document = read_document(write(tmp_path / "doc.md", f"{front}\nText.\n"))
    assert (document.title, document.body, kinds(document)) == (title, "Text.", problems)


def test_front_matter_that_is_never_closed_is_text(tmp_path):
    assert read_document(write(tmp_path / "doc.md", "+++\nText.")).body == "+++ Text."


def test_an_embedded_note_is_a_problem(tmp_path):
    document = read_document(write(tmp_path / "doc.md", "Text. ![[Other note]] ![[../secret.png]]"))
    assert kinds(document) == {"missing_image": 1, "outside_folder": 1} and document.body == "Text."


def test_the_caption_of_an_image_that_is_not_read_is_kept(tmp_path):
    document = read_document(write(tmp_path / "doc.md", "Text.\n\n![A](none.png)\n\n*Short.*\n"))
    assert [str(problem) for problem in document.problems] == [
        "missing image: none.png: there is no such file (described as: A – Short.)"
    ]
    long = "A caption of many words. " * 9
    document = read_document(write(tmp_path / "doc.md", f"Text.\n\n![A](none.png)\n\n*{long.strip()}*\n"))
    assert document.body == f"Text.\n\n{long.strip()}"


@pytest.mark.parametrize(
    "text",
    [
        "^[" * 5_000 + "]" * 5_000,
        "![[" * 3_000,
        "![a](b c" * 9_000,
        "![" * 3_000 + "](a b)" * 3_000,
        "{a=b" * 50_000 + "}",
        "x {" + "a=b.c" * 50_000,
        "![](a.png)\n\n*i*\n\n" * 4_000,
        "[^a]: " * 2_000 + "x",
        "+++\n" + "a." * 100_000 + "\n+++\n",
        "> " * 5_000 + "x",
    ],
)
def test_hostile_documents_take_no_time(tmp_path, text):
    start = time.process_time()
    try:
        assert read_document(write(tmp_path / "doc.md", f"{text}\n\nText.")).body
    except DocumentError as error:
        assert "nested too deeply" in str(error) or "no body text" in str(error)
    assert time.process_time() - start < 15


def test_html_is_read_without_what_browsers_do_not_show(tmp_path):
    save_image(tmp_path / "a.png", "red")
    text = (
        "Text <img src='a.png' alt=A> more <b>bold</b> for <your-name>.\n\n<div>words <IMG src=a.png alt=Again></div>\n\n"
        "<!-- note -->\n\n<script>let x</script>\n\n<p hidden>two words</p>\n\n<video src=a.mp4>\n\nAfter <svg>it</svg>.\n"
    )
    document = read_document(write(tmp_path / "doc.md", text))
    assert [(image.name, image.alt) for image in document.images] == [("a.png", "Again")]
    assert document.body == "Text more bold for .\n\nwords\n\nAfter it."
    assert [str(problem) for problem in document.problems] == [
        "raw html: HTML in the document, not read: 1 svg, 1 video, 2 words"
    ]


@pytest.mark.parametrize(
    "text, message",
    [("![" * 10_001, "more than 10,000 opening brackets"), ("a" * 1_000_001, "the limit is 1,000,000")],
)
def test_markdown_that_would_take_long_is_refused(tmp_path, text, message):
    with pytest.raises(DocumentError, match=message):
        read_document(write(tmp_path / "a.md", text))


def test_unclosed_raw_html_takes_linear_time(tmp_path):
    start = time.process_time()
    for markup in ("<div>" + "<!--" * 50_000 + "<a " * 50_000, "> <!--\n\n" * 10_000, "<script>\n\n" * 10_000):
        assert read_document(write(tmp_path / "a.md", f"Text.\n\n{markup}")).body.startswith("Text.")
    assert time.process_time() - start < 10


def test_images_of_markdown_are_limited_and_counted_once(tmp_path):
    for number in range(201):
        save_image(tmp_path / f"{number}.png", (number, 0, 0))
    text = "Text. " + "".join(f"![]({number}.png) ![]({number}.png)" for number in range(201))
    document = read_document(write(tmp_path / "a.md", text))
    assert [image.name for image in document.images] == [f"{number}.png" for number in range(200)]
    assert [str(problem) for problem in document.problems] == [
        "image limit: 2 images after the first 200 are not read"
    ]
