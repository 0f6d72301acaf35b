"""Articles and predictions of two systems; two articles have hostile texts."""

import json
from pathlib import Path

import datasets
import pytest

from tests.tiny import picture

HOSTILE = """<script>alert("x")</script> & <img src=x onerror='alert(1)'> {{ 7 * 7 }} "quoted" </textarea>"""
SYSTEMS = ("zebra-secret", "quokka-secret")


@pytest.fixture
def records() -> datasets.Dataset:
    """12 articles; number 11 has no images, all others 4; number 0 has a hostile title, number 1 formulas."""
    rows = []
    for number in range(12):
        title = {0: HOSTILE, 1: '=HYPERLINK("http://x","y")'}.get(number, f"Title {number}")
        rows.append(
            {
                "id": f"article-secret-{number}",
                "title": title,
                "article": "+1 first paragraph.\n\nSecond." if number == 1 else f"Body {number}.\n\n{HOSTILE}",
                "summary": ["Reference."],
                "images": [picture(10 * number + n) for n in range(0 if number == 11 else 4)],
                "gold_images": [],
            }
        )
    features = datasets.Features(
        {
            "id": datasets.Value("string"),
            "title": datasets.Value("string"),
            "article": datasets.Value("string"),
            "summary": datasets.List(datasets.Value("string")),
            "images": datasets.List(datasets.Image()),
            "gold_images": datasets.List(datasets.Value("int64")),
        }
    )
    return datasets.Dataset.from_list(rows, features=features)


@pytest.fixture
def predictions(records) -> dict[str, list[dict]]:
    """The first system selects three images, the second none for article 2 and one for the others."""
    first, second = SYSTEMS
    numbers = range(len(records))
    return {
        first: [
            {"id": f"article-secret-{n}", "summary": f"Good {n}.\n{HOSTILE}", "selected": [] if n == 11 else [2, 0, 1]}
            for n in numbers
        ],
        second: [
            {
                "id": f"article-secret-{n}",
                "summary": "" if n == 3 else f"-Bad {n}.",
                "selected": [] if n in (2, 11) else [3],
            }
            for n in numbers
        ],
    }


@pytest.fixture
def files(records, predictions, tmp_path) -> dict[str, Path]:
    """The articles as a folder (`"data"`) and the predictions as files, by system."""
    paths = {"data": tmp_path / "data"}
    records.save_to_disk(paths["data"])
    for system, rows in predictions.items():
        paths[system] = tmp_path / f"{system}.jsonl"
        paths[system].write_text("".join(json.dumps(row) + "\n" for row in rows))
    return paths
