import html.parser
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spectra_sum.evaluation.curves import CalibrationPoint, PrecisionAtK
from spectra_sum.report import CalibrationCurve, PrecisionCurve, RelevancePoint, ScoreTable, write_report
from spectra_sum.report.reliability_chart import short_count
from spectra_sum.report.scatter_chart import scatter_chart

HOSTILE = '"><script>alert(1)</script>'


class Elements(html.parser.HTMLParser):
    """The page's elements as (tag, attributes)."""

    def __init__(self, page):
        super().__init__()
        self.all = []
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.all.append((tag, dict(attributes)))

    def of(self, tag, *classes):
        found = [attributes for element, attributes in self.all if element == tag]
        return [attributes for attributes in found if set(classes) <= set(attributes.get("class", "").split())]


def render(tmp_path, **arguments):
    write_report(tmp_path / "r.html", title="t", articles=[], **arguments)
    page = (tmp_path / "r.html").read_text(encoding="utf-8")
    return page, Elements(page)


def test_absent_sections_are_absent(tmp_path):
    page, elements = render(tmp_path)
    body = page.split("<body>")[1]
    for tag in ("section", "svg", "table", "details", "nav", "footer"):
        assert elements.of(tag) == [], tag
    for word in ("Relevance", "Precision", "Calibration", "#scores"):
        assert word not in body


@pytest.mark.parametrize(
    ("arguments", "identifier"),
    [
        ({"score_tables": [ScoreTable("Scores", ["Score"], [["a"]])]}, "scores-1"),
        ({"trade_off": [RelevancePoint("a", 0.5, 0.5)]}, "trade-off"),
        ({"precision_curves": [PrecisionCurve("a", [PrecisionAtK(1, 0.5, 2, 2)])]}, "precision"),
        ({"calibration": [CalibrationCurve("a", [CalibrationPoint(0.5, 0.6, 0.5, 0.5, 2)], 0.0)]}, "calibration"),
    ],
)
def test_each_section_stands_alone(tmp_path, arguments, identifier):
    _, elements = render(tmp_path, **arguments)
    assert [section["aria-labelledby"] for section in elements.of("section")] == [identifier]
    assert [heading["id"] for heading in elements.of("h2")] == [identifier]
    assert [link["href"] for link in elements.of("a")] == [f"#{identifier}"]


def test_positions_of_relevance_against_diversity(tmp_path):
    points = [RelevancePoint("a", 0.4, 0.2), RelevancePoint("b", 0.9, 0.45), RelevancePoint("c", 0.65, 0.3)]
    _, elements = render(tmp_path, trade_off=points)
    # The x axis runs from 0.4 at 48 to 0.9 at 388, the y axis from 0.2 at 264 to 0.45 at 34.
    dots = [(float(dot["cx"]), float(dot["cy"])) for dot in elements.of("circle", "dot")]
    assert dots == [(48, 264), (388, 34), (218, 172)]
    ticks = [text["x"] for text in elements.of("text") if text.get("text-anchor") == "middle" and text["y"] == "280"]
    assert ticks == ["48.0", "116.0", "184.0", "252.0", "320.0", "388.0"]


def test_positions_of_precision_over_k(tmp_path):
    points = [PrecisionAtK(k, precision, 9, 9) for k, precision in [(1, 1.0), (2, 0.75), (3, 0.25)]]
    _, elements = render(tmp_path, precision_curves=[PrecisionCurve("a", points)])
    # k from 1 at 48 to 3 at 388, precision from 0 at 204 to 1 at 12.
    paths = [path["d"] for path in elements.of("path", "line")]
    assert paths[0] == "M48.0 12.0L218.0 60.0L388.0 156.0"


def test_a_single_k_and_many_have_an_axis(tmp_path):
    _, elements = render(tmp_path, precision_curves=[PrecisionCurve("a", [PrecisionAtK(1, 0.5, 9, 9)])])
    assert elements.of("path", "line")[0]["d"].startswith("M48.0 ")
    points = [PrecisionAtK(k, 0.5, 9, 9) for k in range(1, 31)]
    _, elements = render(tmp_path, precision_curves=[PrecisionCurve("a", points)])
    # 0, 10, 20 and 30: 1 lies at 48 + 340 / 30.
    assert elements.of("path", "line")[0]["d"].startswith("M59.3 ")
    assert [text["x"] for text in elements.of("text") if text["y"] == "220"] == ["48.0", "161.3", "274.7", "388.0"]


def test_positions_of_calibration(tmp_path):
    points = [CalibrationPoint(0.0, 0.1, 0.05, 0.25, 40), CalibrationPoint(0.5, 0.6, 0.5, 1.0, 10)]
    _, elements = render(tmp_path, calibration=[CalibrationCurve("a", points, 0.25)])
    # Both axes span [0, 1]: x from 48 to 388, y from 230 to 30.
    assert [(dot["cx"], dot["cy"]) for dot in elements.of("circle", "dot")] == [("65.0", "180.0"), ("218.0", "30.0")]
    assert elements.of("path", "line")[0]["d"] == "M65.0 180.0L218.0 30.0"
    diagonal = elements.of("line", "diagonal")[0]
    assert [diagonal[name] for name in ("x1", "y1", "x2", "y2")] == ["48", "230", "388", "30"]
    # The bars stand on 318; the highest is 40 units high, so the other 10. A bin is 34 units wide, less the gaps.
    bars = [[float(bar[name]) for name in ("x", "y", "width", "height")] for bar in elements.of("rect", "count-bar")]
    assert bars == [[49, 278, 32, 40], [219, 308, 32, 10]]


def test_counts_are_left_out_of_narrow_bars(tmp_path):
    points = [CalibrationPoint(i / 40, (i + 1) / 40, i / 40, 0.5, 1234) for i in range(40)]
    page, elements = render(tmp_path, calibration=[CalibrationCurve("a", points, 0.25)])
    assert len(elements.of("rect")) == 40 and ">1.2k<" not in page
    page, _ = render(tmp_path, calibration=[CalibrationCurve("a", [CalibrationPoint(0, 0.1, 0, 0, 1234)], 0.0)])
    assert ">1.2k<" in page and "<td>1,234</td>" in page


def test_short_counts():
    counts = {1: "1", 999: "999", 1000: "1.0k", 1250: "1.2k", 9949: "9.9k", 9950: "10k", 12_345: "12k"}
    counts |= {999_499: "999k", 999_600: "1.0M", 12_345_678: "12M"}
    assert {count: short_count(count) for count in counts} == counts


def text_box(point):
    """Where the label is, at seven units per character and 15 per line."""
    width = 7 * len(point.label)
    left = point.label_x - {"start": 0, "middle": width / 2, "end": width}[point.anchor]
    return left, point.label_y - 7.5, left + width, point.label_y + 7.5


def overlap(one, other):
    return min(one[2], other[2]) - max(one[0], other[0]) > 0.2 and min(one[3], other[3]) - max(one[1], other[1]) > 0.2


@pytest.mark.parametrize(
    "positions",
    [
        [(0.7, 0.3)] * 6,
        [(0.7 + 0.002 * i, 0.3 + 0.001 * i) for i in range(6)] + [(0.4, 0.2), (0.9, 0.45)],
        [(0.4, 0.2), (0.9, 0.2), (0.4, 0.4), (0.9, 0.4)],
    ],
    ids=["same place", "cluster", "corners"],
)
def test_labels_keep_clear(positions):
    chart = scatter_chart("t", [(f"method {i}", x, y) for i, (x, y) in enumerate(positions)], "x", "y")
    boxes = [text_box(point) for point in chart.points]
    for one, other in itertools.combinations(boxes, 2):
        assert not overlap(one, other)
    for box, point in itertools.product(boxes, chart.points):
        assert not overlap(box, (point.x - 4.5, point.y - 4.5, point.x + 4.5, point.y + 4.5))
    for left, top, right, bottom in boxes:
        assert left >= 48 and right <= 400 and top >= 30 and bottom <= 268


@given(st.lists(st.tuples(st.floats(0, 2), st.floats(-1, 1)), min_size=1, max_size=12))
def test_all_points_lie_in_the_plot(positions):
    chart = scatter_chart("t", [("name", x, y) for x, y in positions], "x", "y")
    assert len(chart.points) == len(positions)
    assert all(48 <= point.x <= 388 and 34 <= point.y <= 264 for point in chart.points)


def test_a_long_name_is_cut_in_the_plot_only(tmp_path):
    name = "a name that is much too long for a plot"
    page, _ = render(tmp_path, trade_off=[RelevancePoint(name, 0.5, 0.5)])
    assert ">a name that is much too l…</text>" in page
    assert f'<th scope="row">{name}</th>' in page and f"<title>{name}: 0.5, 0.5</title>" in page


def test_names_are_escaped(tmp_path):
    page, elements = render(
        tmp_path,
        score_tables=[ScoreTable(HOSTILE, [HOSTILE], [[HOSTILE]], [HOSTILE])],
        trade_off=[RelevancePoint(HOSTILE, 0.5, 0.5)],
        relevance_label=HOSTILE,
        diversity_label=HOSTILE,
        precision_curves=[PrecisionCurve(HOSTILE, [PrecisionAtK(1, 0.5, 2, 2)])],
        calibration=[CalibrationCurve(HOSTILE, [CalibrationPoint(0.5, 0.6, 0.5, 0.5, 2)], 0.0)],
    )
    assert elements.of("script") == [] and "<script" not in page
    assert "&lt;script&gt;" in page and "&amp;lt;" not in page


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"score_tables": [ScoreTable("S", ["a", "b"], [["1", "2"], ["1"]])]}, "table 'S': a row has 1 texts for 2"),
        ({"trade_off": [RelevancePoint("vrp", float("nan"), 0.5)]}, "point 'vrp' .* not finite"),
        ({"precision_curves": [PrecisionCurve("vrp", [])]}, "precision curve 'vrp' has no points"),
        ({"precision_curves": [PrecisionCurve("a", [PrecisionAtK(1, 0.5, 2, 2)])] * 2}, "two precision curves .* 'a'"),
        ({"calibration": [CalibrationCurve("vrp", [], 0.0)]}, "calibration curve 'vrp' has no points"),
    ],
)
def test_bad_contents_are_refused(tmp_path, arguments, message):
    with pytest.raises(ValueError, match=message):
        render(tmp_path, **arguments)
    assert list(tmp_path.iterdir()) == []
