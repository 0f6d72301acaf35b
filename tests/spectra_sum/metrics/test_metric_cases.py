"""Every metric module against its file of cases computed by hand; each says why its result is right."""

import json
from pathlib import Path

import evaluate
import pytest

import spectra_sum.metrics

FOLDER = Path(spectra_sum.metrics.__file__).parent
METRICS = sorted(path.parent.name for path in FOLDER.glob("*/__init__.py"))
FILES = {
    path.stem: json.loads(path.read_text(encoding="utf-8")) for path in Path(__file__).parent.glob("cases/*.json")
}
# A file that "needs" a model, which a fixture builds, is run by its metric's own test (in test_text_metrics.py).
CASES = [
    pytest.param(name, case, id=f"{name}-{case['name'].replace(' ', '-')}")
    for name, file in sorted(FILES.items())
    if "needs" not in file
    for case in file["cases"]
]


def assert_equal(actual: object, expected: object, tolerance: float, place: str) -> None:
    """Compares results of dictionaries, lists and numbers; text and None must be equal exactly."""
    if isinstance(expected, dict):
        assert isinstance(actual, dict), place
        # A case may leave out results that its inputs say nothing new about, but only at the top.
        assert not place.count("/") or set(actual) == set(expected), place
        for name, value in expected.items():
            assert name in actual, f"{place}/{name} is missing in {sorted(actual)}"
            assert_equal(actual[name], value, tolerance, f"{place}/{name}")
    elif isinstance(expected, list):
        assert len(actual) == len(expected), place
        for index, (one, other) in enumerate(zip(actual, expected, strict=True)):
            assert_equal(one, other, tolerance, f"{place}/{index}")
    elif isinstance(expected, int | float):
        assert actual == pytest.approx(expected, abs=tolerance, rel=0), place
    else:
        assert actual == expected, place


def test_every_metric_has_at_least_eight_cases_with_their_reasons():
    assert METRICS
    assert sorted(FILES) == METRICS
    for name, file in FILES.items():
        assert file["metric"] == name
        assert len(file["cases"]) >= 8, name
        names = [case["name"] for case in file["cases"]]
        assert len(set(names)) == len(names), name
        for case in file["cases"]:
            assert case["why"].strip(), f"{name}: {case['name']}"
            assert ("expected" in case) != ("error" in case), f"{name}: {case['name']}"


def test_files_that_metrics_share_are_the_same_everywhere():
    # Symbolic links in a checkout; some tools and every wheel make copies of them.
    shared = {file.name: file.read_bytes() for file in FOLDER.glob("*.py") if file.name != "__init__.py"}
    beside = [file for file in FOLDER.glob("*/*.py") if file.name in shared]
    assert {file.parent.name for file in beside} >= {"bleu", "cider", "max_sim"}
    assert [str(file) for file in beside if file.read_bytes() != shared[file.name]] == []


@pytest.mark.parametrize(("name", "case"), CASES)
def test_case(name, case):
    # After an error evaluate keeps its cache file locked, and the next metric waits for it.
    metric = evaluate.load(str(FOLDER / name / f"{name}.py"), keep_in_memory="error" in case)
    if "error" in case:
        with pytest.raises(ValueError) as caught:
            metric.compute(**case["inputs"])
        assert case["error"] in str(caught.value)
    else:
        result = metric.compute(**case["inputs"])
        assert_equal(result, case["expected"], case.get("tolerance", 1e-9), name)
        assert [key for key in result if f"`{key}`" not in metric.inputs_description] == []


@pytest.mark.parametrize("name", METRICS)
def test_each_metric_loads_by_folder_and_documents_itself(name):
    metric = evaluate.load(str(FOLDER / name))
    assert isinstance(metric, evaluate.Metric)
    assert metric.name == name
    assert metric.description.strip()
    assert metric.inputs_description.strip()
