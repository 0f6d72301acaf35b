"""The form in a real browser: keyboard, refusal of incomplete answers, the saved CSV, and its analysis."""

import csv
import time
from itertools import product
from pathlib import Path

import pytest

from spectra_sum.human_eval.answers import filter_answers, read_answers, read_key
from spectra_sum.human_eval.export import write_batch
from spectra_sum.human_eval.items import build_batch
from spectra_sum.human_eval.questions import ANSWER_COLUMNS, QUESTIONS
from tests.chromium import EXECUTABLE, Chromium

pytestmark = pytest.mark.skipif(EXECUTABLE is None, reason="no Chromium is installed")


@pytest.fixture
def browser(tmp_path):
    browser = Chromium(tmp_path / "profile", tmp_path / "downloads")
    yield browser
    browser.close()


def test_answering_saving_and_analysing(browser, records, predictions, tmp_path):
    batch = build_batch(records, predictions, items=1, attention_checks=1, seed=5)
    folder = tmp_path / "batch"
    folder.mkdir()
    write_batch(folder, batch, {})
    browser.viewport(390, 800)
    browser.open(folder / "form.html")

    assert browser.value("document.querySelectorAll('fieldset').length") == 3 * 4
    assert browser.value("document.documentElement.scrollWidth") <= 390
    assert browser.value("[...document.images].every((image) => image.naturalWidth > 0)")
    # A style or script that the policy blocks leaves the browser's defaults behind.
    assert browser.value("getComputedStyle(document.querySelector('.scale')).display") == "grid"
    assert browser.value("progress.textContent") == "0 of 12 questions answered."

    # Nothing answered: refused with a message, and the focus is where the first answer is missing.
    browser.value("document.querySelector('button').focus()")
    browser.press("Enter", 13, "\r")
    said = browser.value("message.textContent")
    assert said.startswith(
        "Please enter your worker id. Nothing is saved yet: 12 questions have no answer (Item 1 of 3,"
    )
    assert browser.value("document.activeElement.id") == "worker"
    assert browser.value("document.querySelectorAll('fieldset[aria-invalid=true]').length") == 12

    # A worker id that would need quoting, or that a spreadsheet would run.
    browser.type("=a,b")
    assert not browser.value("worker.checkValidity()")
    browser.value("worker.select()")
    browser.type("worker-7")

    # By keyboard alone: Tab into each question, arrows to the rating. Space takes the first, 1.
    checks = {item.id: item.expected for item in batch.items if item.expected is not None}
    chosen = {}
    for (position, item), (place, question) in product(enumerate(batch.items), enumerate(QUESTIONS)):
        rating = checks.get(item.id) or 1 + (position + place) % 5
        chosen[item.id, question.name] = str(rating)
        skip_last = position == 2 and place == 3
        while browser.value("document.activeElement.name") != f"{item.id} {question.name}":
            browser.press("Tab", 9)
        if not skip_last:
            browser.press(" ", 32, " ")
            for _ in range(rating - 1):
                browser.press("ArrowRight", 39)
    assert browser.value("progress.textContent") == "11 of 12 questions answered."
    browser.value("document.querySelector('button').focus()")
    browser.press("Enter", 13, "\r")
    assert browser.value("message.textContent") == "Nothing is saved yet: 1 question has no answer (Item 3 of 3)."
    assert browser.value("document.activeElement.name") == f"{batch.items[2].id} overall"
    assert list((tmp_path / "downloads").glob("*")) == []

    browser.press(" ", 32, " ")
    for _ in range(int(chosen[batch.items[2].id, "overall"]) - 1):
        browser.press("ArrowRight", 39)
    browser.value("document.querySelector('button').focus()")
    browser.press("Enter", 13, "\r")
    name = f"answers-{batch.id}-worker-7.csv"
    assert browser.value("message.textContent") == f"Saved as {name}. Please send us this file."
    saved = _wait_for(tmp_path / "downloads" / name)
    assert browser.failures == []

    assert saved.read_bytes().count(b"\r\n") == 4
    rows = list(csv.reader(saved.read_text().splitlines()))
    assert rows[0] == list(ANSWER_COLUMNS)
    assert [row[:2] for row in rows[1:]] == [[item.id, "worker-7"] for item in batch.items]
    for row in rows[1:]:
        assert row[2:] == [chosen[row[0], question.name] for question in QUESTIONS]

    key = read_key(folder / "key.json")
    filtered = filter_answers(read_answers([saved], key), key)
    assert [answer.item_id for answer in filtered.answers] == [i.id for i in batch.items if i.expected is None]
    assert filtered.dropped["workers_failing_checks"] == 0


def _wait_for(path: Path) -> Path:
    """Chromium renames a download into place when it is complete."""
    end = time.monotonic() + 30
    while not path.exists():
        assert time.monotonic() < end, f"no file {path.name}"
        time.sleep(0.05)
    return path
