import math
import os
import re
from html.parser import HTMLParser

import pytest
from PIL import Image

from spectra_sum.atomic_write import write_text_atomically
from spectra_sum.evaluation.curves import CalibrationPoint, PrecisionAtK
from spectra_sum.report import (
    CalibrationCurve,
    GateOpening,
    PrecisionCurve,
    RelevancePoint,
    ReportArticle,
    ReportImage,
    ReportSentence,
    ScoreTable,
    SelectionRow,
    SentenceEvidence,
    TrainingCurve,
    VariantRow,
    write_report,
)
from spectra_sum.report.charts import Axes, line_chart, number, ticks_between

HOSTILE = (
    "\"'><script>alert(1)</script><img src=http://example.org/x onerror=alert(2)>{{ 7777 * 77 }}</title></style>&amp;"
)
VOID = {"meta", "img", "br", "line", "path", "circle", "rect", "link", "input"}


class Page(HTMLParser):
    """The page's elements as (tag, attributes), its visible text, and whether all tags are closed in order."""

    def __init__(self, html):
        super().__init__(convert_charrefs=True)
        self.elements, self.stack, self.texts = [], [], []
        self.feed(html)
        self.close()
        assert self.stack == []

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag not in VOID:
            self.stack.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.stack.pop() == tag

    def handle_data(self, data):
        if "style" not in self.stack:
            self.texts.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.texts).split())

    def all(self, tag, name=None):
        found = [attributes for element, attributes in self.elements if element == tag]
        return found if name is None else [attributes[name] for attributes in found if name in attributes]


def picture(colour="red", size=(48, 48)):
    return Image.new("RGB", size, colour)


def render(tmp_path, **arguments):
    path = tmp_path / "report.html"
    write_report(path, **{"title": "A report", "articles": [], **arguments})
    html = path.read_text(encoding="utf-8")
    return html, Page(html)


def full_arguments(text="plain"):
    images = [
        ReportImage(picture("red"), text, 0.9371, True, True, text),
        ReportImage(picture("blue", (2000, 1000)), "", 0.25, False, False),
        ReportImage(picture("green"), "third", None, False, None, caption=text + " caption"),
    ]
    evidence = [SentenceEvidence(text, [0.625, 0.375, None])]
    return {
        "title": text,
        "articles": [
            ReportArticle(text, text, text, images, text, text, evidence, [text]),
            ReportArticle("second", "No images here", "word " * 400, [], "A summary."),
        ],
        "curves": [
            TrainingCurve(text, "loss_lm", [(0, 4.0), (10, 2.0), (20, 1.25)]),
            TrainingCurve("other", text, [(0, 1.0), (20, 0.5)]),
        ],
        "gates": [GateOpening(text, 1, 0.125, [(0, 0.0), (20, 0.125)]), GateOpening(text, 3, 0.775)],
        "variants": [VariantRow(text, 0.911, 0.822, 0.733, 0.994, {text: 0.865, "trend": 0.571}, 41.2, 2_345_678)],
        "selection": [SelectionRow(text, 0.847, 0.613), SelectionRow("random", 0.41, None)],
        "chance": {text: 0.267},
        "notes": [text],
        **evaluation_arguments(text),
    }


def evaluation_arguments(text="plain"):
    return {
        "score_tables": [ScoreTable(text, ["Score", text], [[text, "0.312 (0.301 to 0.324)"]], [text])],
        "trade_off": [RelevancePoint(text, 0.712, 0.345), RelevancePoint("mmr", 0.612, 0.445)],
        "relevance_label": text,
        "diversity_label": text,
        "precision_curves": [
            PrecisionCurve(text, [PrecisionAtK(1, 0.75, 1200, 1100), PrecisionAtK(2, 0.5, 1200, 987)])
        ],
        "calibration": [
            CalibrationCurve(
                text,
                [CalibrationPoint(0.0, 0.1, 0.0625, 0.125, 1500), CalibrationPoint(0.5, 0.6, 0.55, 0.75, 300)],
                0.0854,
            )
        ],
    }


def test_numbers_and_marks_appear(tmp_path):
    html, page = render(tmp_path, **full_arguments())
    shown = "0.937 0.250 0.911 0.822 0.733 0.994 0.865 0.571 0.847 0.613 0.410 0.125 0.775 0.267".split()
    shown += "0.312 (0.301 to 0.324)|0.712 0.345|0.612 0.445|1 0.750 1,200 1,100|2 0.500 1,200 987".split("|")
    shown += "1,200 articles at every k; 987 of them with at least 2 scored images.|ECE 0.085, 1,800 images".split("|")
    shown += "0 to 0.1 0.062 0.125 1,500|0.5 to 0.6 0.550 0.750 300".split("|")
    for value in [*shown, "41 s", "2.35 M", "62 %", "38 %", "not ranked", "400 words"]:
        assert value in page.text, value
    assert page.text.count("selected") >= 1 and page.text.count("✓") == 1 and page.text.count("★") == 1
    assert html.count('class="card selected"') == 1


def test_the_page_is_valid_and_self_contained(tmp_path):
    html5lib = pytest.importorskip("html5lib")
    html, page = render(tmp_path, **full_arguments())
    html5lib.HTMLParser(strict=True).parse(html)
    assert page.all("script") == page.all("link") == page.all("iframe") == page.all("object") == []
    assert all(source.startswith("data:image/") for source in page.all("img", "src"))
    assert all(target.startswith("#") for target in page.all("a", "href"))
    assert "url(" not in html and "@import" not in html
    identifiers = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(identifiers) == len(set(identifiers))
    assert {target[1:] for target in page.all("a", "href")} <= set(identifiers)


def test_the_page_is_accessible(tmp_path):
    _, page = render(tmp_path, **full_arguments())
    assert page.all("html", "lang") == ["en"]
    assert len(page.all("h1")) == 1
    assert len(page.all("img", "alt")) == len(page.all("img")) and all(page.all("img", "alt"))
    assert len(page.all("th", "scope")) == len(page.all("th")) > 0
    charts = [svg for svg in page.all("svg") if "aria-hidden" not in svg]
    labels = [svg["aria-label"] for svg in charts if "aria-label" in svg]
    assert len(charts) == 6 and all(svg["role"] == "img" for svg in charts)
    assert labels[0] == "Precision of the first k images by k: plain ends at 0.5."
    assert len(labels) == 4 and "ends at 1.25" in labels[1]
    # The other two are described by their own elements.
    assert len(page.all("desc")) == 2
    for text in [
        "Relevance against diversity plain across, plain upwards: plain at 0.712, 0.345; mmr at 0.612, 0.445.",
        "Calibration of plain Mean predicted probability and share of gold images per bin, 0.062: 0.125 of 1,500; "
        "0.550: 0.750 of 300. Expected calibration error 0.085, 1,800 images.",
    ]:
        assert text in page.text


def test_hostile_text_stays_text(tmp_path):
    html, page = render(tmp_path, **full_arguments(HOSTILE))
    _, harmless = render(tmp_path, **full_arguments())
    assert [tag for tag, _ in page.elements] == [tag for tag, _ in harmless.elements]
    names = {name for _, attributes in page.elements for name in attributes}
    assert names == {name for _, attributes in harmless.elements for name in attributes}
    assert not any(name.startswith("on") for name in names)
    # once in every place where a text appears, from the title to the chart legends
    # (cut in one of them: the label of a dot)
    assert page.text.count(HOSTILE) == harmless.text.count("plain") - 1 >= 39
    assert HOSTILE in page.all("img", "alt")
    assert str(7777 * 77) not in re.sub(r"base64,[^\"]*", "", html).split("<body>")[1]


def test_tiny_images_are_exact_and_large_ones_are_reduced(tmp_path):
    _, page = render(tmp_path, **full_arguments())
    tiny, large, *_ = [image for image in page.all("img")]
    assert tiny["src"].startswith("data:image/png") and tiny["class"] == "pixelated"
    assert (tiny["width"], tiny["height"]) == ("48", "48")
    assert large["src"].startswith("data:image/jpeg") and "class" not in large
    assert (large["width"], large["height"]) == ("640", "320")


def test_evidence_is_strongest_first_and_the_rest_is_summed(tmp_path):
    images = [ReportImage(picture(), f"image {index}") for index in range(8)]
    weights = [0.05, 0.1, 0.3, 0.02, 0.2, 0.25, 0.08, None]
    article = ReportArticle("a", "T", "B", images, "S.", evidence=[SentenceEvidence("S.", weights)])
    _, page = render(tmp_path, articles=[article])
    thumbnails = re.findall(r"Image (\d) (\d+) %", page.text)
    assert thumbnails == [("3", "30"), ("6", "25"), ("5", "20"), ("2", "10"), ("7", "8")]
    assert "2 others 7 %" in page.text


def test_an_image_may_be_a_path(tmp_path):
    picture().save(tmp_path / "a.png")
    article = ReportArticle("a", "T", "B", [ReportImage(tmp_path / "a.png", "red")], "")
    _, page = render(tmp_path, articles=[article])
    assert page.all("img", "alt") == ["red"]
    assert "The summary is empty." in page.text


def test_a_caption_stands_beside_the_alternative_text_or_for_it(tmp_path):
    texts = [("A ship", "On Monday."), ("", "The market."), ("Same.", "Same."), ("", "")]
    images = [ReportImage(picture(), alt, caption=caption) for alt, caption in texts]
    _, page = render(tmp_path, articles=[ReportArticle("a", "T", "B", images, "S.")])
    assert page.all("img", "alt") == ["A ship", "The market.", "Same.", "Image 4, no description"]
    assert (
        "Image 1 not ranked On Monday. Alternative text A ship Image 2 not ranked The market. Image 3 not ranked Same. Image 4"
        in page.text
    )


def test_what_must_be_known_of_a_summary_stands_right_below_it(tmp_path):
    article = ReportArticle("a", "T", "B", [ReportImage(picture(), "A ship")], "S.", remarks=["<b>"], notes=["lost"])
    html, page = render(tmp_path, articles=[article])
    assert "S. <b> Images" in page.text and page.text.index("lost") > page.text.index("Image 1")
    assert "<li>&lt;b&gt;</li>" in html


def test_only_long_bodies_are_collapsed(tmp_path):
    articles = [ReportArticle("a", "T", "Short.\n\nTwo.", [], "S"), ReportArticle("b", "T", "long " * 300, [], "S")]
    html, page = render(tmp_path, articles=articles)
    assert len(page.all("details")) == 1
    assert "<p>Short.</p>" in html and "<p>Two.</p>" in html


def test_wrong_weights_and_unknown_chance_are_refused(tmp_path):
    article = ReportArticle("the-id", "T", "B", [], "S", evidence=[SentenceEvidence("S", [0.5])])
    with pytest.raises(ValueError, match="the-id.*1 image weights for 0 images"):
        write_report(tmp_path / "r.html", title="t", articles=[article])
    with pytest.raises(ValueError, match="no column for .*'colour'"):
        write_report(tmp_path / "r.html", title="t", articles=[], chance={"colour": 0.5})
    assert list(tmp_path.iterdir()) == []


def test_ticks():
    assert ticks_between(0, 4.2) == [0, 1, 2, 3, 4, 5]
    assert ticks_between(0, 350) == [0, 100, 200, 300, 400]
    assert ticks_between(0.0, 0.0) == ticks_between(0.7, 0.7) == [0, 1]
    assert ticks_between(0.7, 0.1 * 7) == ticks_between(0.1 + 0.6, 0.7 + 1e-12) == [0, 1]
    assert ticks_between(-0.3, 0.4) == pytest.approx([-0.4, -0.2, 0, 0.2, 0.4])
    assert [number(value) for value in (0, 0.30000000000000004, 12345.6, 999.7, 0.012345)] == [
        "0",
        "0.3",
        "12,346",
        "1,000",
        "0.0123",
    ]


def test_line_chart_positions():
    chart = line_chart("t", {"a": [(0, 5.0), (50, 2.5), (100, 0.0)]}, {"a": 0})
    # The plot spans x 48..388 and y 12..204 of the viewBox; y grows downwards.
    assert chart.lines[0].path == "M48.0 12.0L218.0 108.0L388.0 204.0"
    assert [(tick.position, tick.label) for tick in chart.axes.x_ticks][:2] == [(48.0, "0"), (116.0, "20")]
    assert [(tick.position, tick.label) for tick in chart.axes.y_ticks] == [
        (204.0, "0"),
        (165.6, "1"),
        (127.2, "2"),
        (88.8, "3"),
        (50.4, "4"),
        (12.0, "5"),
    ]


def test_tick_labels_differ():
    labels = {(0.8, 0.801, 0.802): ["0.8", "0.801", "0.802"], (0.8004, 0.8005, 0.8006): ["0.8004", "0.8005", "0.8006"]}
    for values, expected in labels.items():
        axes = Axes(values, values)
        assert [tick.label for tick in axes.x_ticks] == [tick.label for tick in axes.y_ticks] == expected


def test_line_chart_with_given_ticks():
    chart = line_chart("t", {"a": [(1, 1.0), (3, 0.5)]}, {"a": 0}, "k", [1, 2, 3])
    assert chart.lines[0].path == "M48.0 12.0L388.0 108.0"
    assert [(tick.position, tick.label) for tick in chart.axes.x_ticks] == [(48.0, "1"), (218.0, "2"), (388.0, "3")]
    assert chart.description == "t by k: a ends at 0.5."


def test_line_chart_breaks_at_values_that_are_not_finite():
    points = [(0, 1.0), (1, 1.0), (2, math.nan), (3, 1.0), (4, 1.0), (5, math.inf)]
    line = line_chart("t", {"a": points, "empty": [(0, math.nan)]}, {"a": 0, "empty": 1}).lines
    assert [part.name for part in line] == ["a"]
    assert re.sub(r"[\d. ]", "", line[0].path) == "MLML"
    assert line[0].last_value == "1"
    assert line_chart("t", {"a": [(0, math.nan)]}, {"a": 0}) is None
    assert line_chart("t", {"a": [(7, 3.0)]}, {"a": 0}).lines[0].path.startswith("M")


def test_atomic_write_keeps_the_old_file_on_failure(tmp_path):
    path = tmp_path / "a.txt"
    write_text_atomically(path, "old")
    with pytest.raises(UnicodeEncodeError):
        write_text_atomically(path, "new \ud800")
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_images_show_their_score_and_sentence_and_extracted_sentences_are_marked(tmp_path):
    red, blue = Image.new("RGB", (120, 90), "red"), Image.new("RGB", (120, 90), "blue")
    images = [
        ReportImage(red, "", selected=True, score=5.217, sentence="A <ship> came.", caption="The ship"),
        ReportImage(blue, ""),
    ]
    sentences = [ReportSentence("A <ship> came.", False), ReportSentence("It left.", True)]
    article = ReportArticle("1", "Ships", "Body.", images, "A <ship> came. It left.", sentences=sentences)
    write_report(tmp_path / "r.html", title="Report", articles=[article])
    html = (tmp_path / "r.html").read_text()
    assert "<q>A &lt;ship&gt; came.</q>" in html and "<ship>" not in html
    text = " ".join(re.sub(r"<[^>]+>", " ", html.partition("</style>")[2]).split())
    assert "A &lt;ship&gt; came. It left. extracted" in text
    assert "score 5.22 belongs to A &lt;ship&gt; came. The ship" in text and "not ranked" in text
    assert "A score says" in text and "p is the relevance" not in text
