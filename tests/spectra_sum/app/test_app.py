"""What the app makes of a visitor's input: limits, broken files, escapes, and what it shows."""

import shutil
from html.parser import HTMLParser
from pathlib import Path

import pytest
from PIL import Image

import modeling_spectra.rgb_images
from spectra_sum.app.pipeline_writer import PipelineWriter
from spectra_sum.app.responding import make_show
from spectra_sum.app.summary_view import render_summary, render_writing
from spectra_sum.documents.parts import Document, DocumentError, DocumentImage, Problem
from spectra_sum.uploads.article_input import Limits, read_article
from tests.spectra_sum.documents.pages import data_uri
from tests.tiny import picture, tiny_model, tiny_processor

SIZE = (28, 24)
HOSTILE = '<script>alert("x")</script>&<img src=x onerror=alert(1)>'


class Page(HTMLParser):
    """The elements of a piece of HTML as (tag, attributes), and its text."""

    def __init__(self, html: str):
        super().__init__()
        self.elements, self.pieces = [], []
        self.feed(html)
        self.text = " ".join("".join(self.pieces).split())

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))

    def handle_data(self, data):
        self.pieces.append(data)


def save(folder: Path, name: str, seed: int, size=SIZE) -> str:
    picture(seed, size).save(folder / name)
    return str(folder / name)


def result_for(count: int, summary: str = "One. Two.", **fields):
    return {
        "summary_text": summary,
        "selected_images": [],
        "image_probabilities": [0.5] * count,
        "evidence": [],
        **fields,
    }


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


class StandIn:
    """In the place of a pipeline: answers by a function, and keeps what it was asked for."""

    def __init__(self, answer, **fields):
        self.model, self.processor = tiny_model(**fields), tiny_processor()
        self.answer, self.asked = answer, []

    def __call__(self, article, **options):
        self.asked.append((article, {name: value for name, value in options.items() if name != "streamer"}))
        return self.answer(article)


def last(pipeline, *asked, **options):
    """The page that is left when a visitor has asked."""
    *_, page = make_show(PipelineWriter(pipeline, **options), Limits())(*asked)
    return Page(page)


def refuse(article):
    raise ValueError("the title leaves <no> room")


def test_the_page_shows_messages_not_errors(tmp_path):
    pipeline = StandIn(refuse)
    page = last(pipeline, "", "", None, None)
    assert page.text == "Nothing was summarized. There is no text; paste an article or upload a document."
    assert pipeline.asked == []
    page = last(pipeline, "T", "Body.", None, [save(tmp_path, "a.png", 3)], max_new_tokens=7)
    assert page.text == "Nothing was summarized. The model cannot read this: the title leaves <no> room"
    assert pipeline.asked == [
        (
            {"text": "Body.", "title": "T", "images": [picture(3, SIZE)]},
            {"return_evidence": True, "max_new_tokens": 7, "num_beams": 1},
        )
    ]
    # A message that nobody needs to see: an error of the program is none of the visitor's.
    with pytest.raises(ZeroDivisionError):
        last(StandIn(lambda article: 1 / 0), "", "a")


def test_the_page_says_what_must_be_known_of_model_and_summary(tmp_path):
    pipeline = StandIn(
        lambda article: result_for(len(article["images"]), "purple picture picture picture"), distill_weight=0.0
    )
    untrained, repeats = "the image ranking is untrained", "the summary repeats itself"
    page = last(pipeline, "T", "Body.", None, [save(tmp_path, "a.png", 3)])
    assert untrained in page.text and repeats in page.text
    page = last(pipeline, "T", "Body.", None, [])
    assert untrained not in page.text and repeats in page.text


def test_every_text_is_escaped(tmp_path):
    folder = tmp_path / "uploads"
    folder.mkdir()
    name = "<b onclick=x>.png"
    shutil.copy(save(tmp_path, "a.png", 1), folder / name)
    article = read_article(HOSTILE, "Body.", None, [str(folder / name)])
    article.images[0] = DocumentImage(name, f'"{HOSTILE}', article.images[0].image, HOSTILE)
    article.problems.append(Problem("broken_image", HOSTILE))
    result = result_for(
        1,
        HOSTILE,
        evidence=[{"sentence": HOSTILE, "image_weights": [1.0]}],
        selected_images=[{"index": 0, "probability": 0.5}],
    )
    page = Page(render_summary(article, result, [HOSTILE]))
    assert {tag for tag, _ in page.elements} <= set("div section h2 h3 p ul ol li span img br".split())
    assert not any(attribute.startswith("on") for _, attributes in page.elements for attribute in attributes)
    sources = [attributes["src"] for tag, attributes in page.elements if tag == "img"]
    assert len(sources) == 2 and all(source.startswith("data:image/png;base64,") for source in sources)
    assert page.text.count(HOSTILE) == 7  # title, summary, two remarks, alternative text, caption, evidence

    error = last(StandIn(refuse), "", "", str(tmp_path / "<i>.pdf"), [])
    assert "<i>.pdf" in error.text
    assert [tag for tag, _ in error.elements] == ["div", "div", "strong"]
    writing = Page(render_writing(HOSTILE, HOSTILE))
    assert writing.text.count(HOSTILE) == 2 and {tag for tag, _ in writing.elements} == set("div section h2 p".split())


def test_what_a_summary_shows():
    article = Document("id", "source", "Title", "Body.")
    article.images = [DocumentImage(f"{index}.png", f"alt {index}", picture(index)) for index in range(4)]
    article.images[2] = DocumentImage("2.png", "alt 2", picture(2), "caption 2")
    article.images.append(DocumentImage("4.png", "", picture(4), "caption 4"))
    result = {
        "summary_text": "One.\nTwo.",
        "selected_images": [{"index": 3, "probability": 0.75}, {"index": 0, "probability": 0.5}],
        "image_probabilities": [0.5, 0.012, 0.25, 0.75, None],
        "evidence": [
            {"sentence": "One.", "image_weights": [0.05, 0.6, 0.1, 0.25, None]},
            {"sentence": "Two.", "image_weights": [None] * 5},
        ],
    }
    page = Page(render_summary(article, result))
    assert page.text == (
        "Summary Title One. Two. Images 2 of 5 selected "
        "✓ Selected #1 Image 4 alt 3 75.0 % ✓ Selected #2 Image 1 alt 0 50.0 % "
        "Image 3 alt 2 caption 2 25.0 % Image 2 alt 1 1.2 % Image 5 caption 4 not scored "
        "The bar is the probability that the image belongs to the summary. "
        "What each sentence looked at One. Image 2 60 % Image 4 25 % Image 3 10 % "
        "Shares of the gated cross-attention of the sentence's tokens, averaged over heads and gates; the three largest."
    )
    widths = [attributes["style"] for tag, attributes in page.elements if "style" in attributes]
    assert widths == [f"width: {width}%" for width in ("75.0", "50.0", "25.0", "1.2", "60.0", "25.0", "10.0")]
    alts = [attributes["alt"] for tag, attributes in page.elements if tag == "img"]
    assert alts == ["alt 3", "alt 0", "alt 2", "alt 1", "caption 4", "Image 2", "Image 4", "Image 3"]


def test_a_summary_without_images_or_text():
    page = Page(render_summary(Document("id", "source", "", "Body."), result_for(0, "")))
    assert page.text == "Summary (The model generated nothing.)"
