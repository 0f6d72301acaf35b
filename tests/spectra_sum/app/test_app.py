"""What the app makes of a visitor's input: limits, broken files, escapes, and what it shows."""

import shutil
from html.parser import HTMLParser
from pathlib import Path

import pytest

from spectra_sum.app.pipeline_writer import PipelineWriter
from spectra_sum.app.responding import make_show
from spectra_sum.app.summary_view import render_summary, render_writing
from spectra_sum.documents.parts import Document, DocumentImage, Problem
from spectra_sum.uploads.article_input import Limits, read_article
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
