"""Reading a key and the raters' answers, and leaving out the raters who failed the attention checks."""

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ..documents.parts import printable
from .questions import ANSWER_COLUMNS, QUESTIONS, RATING_LABELS, HumanEvalError


@dataclass(frozen=True)
class KeyEntry:
    """Where an item comes from; `expected` is the rating that an attention check asks for, else `None`."""

    system: str
    article_id: str
    expected: int | None


@dataclass(frozen=True)
class Answer:
    """The ratings (1 to 5, by question) that one rater gave to one item."""

    item_id: str
    worker_id: str
    ratings: dict[str, int]


@dataclass
class WorkerChecks:
    """How one rater did on the attention checks, and whether the rater's answers count."""

    answered: int = 0
    passed: int = 0
    kept: bool = True


@dataclass
class FilteredAnswers:
    """
    Attributes:
        answers (`list[Answer]`): Those that count: of the raters who were kept, without attention checks.
        workers (`dict[str, WorkerChecks]`): All raters, in order of their first answer.
        dropped (`dict[str, int]`): What was left out, counted.
    """

    answers: list[Answer]
    workers: dict[str, WorkerChecks]
    dropped: dict[str, int] = field(default_factory=dict)


def read_key(path: Path) -> dict[str, KeyEntry]:
    """
    Reads the `key.json` of an export.

    Raises:
        HumanEvalError: It is no such file.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        entries = {
            item_id: KeyEntry(entry["system"], entry["article_id"], entry["expected"])
            for item_id, entry in content["items"].items()
        }
    except (ValueError, KeyError, TypeError, AttributeError):
        raise HumanEvalError(f"{printable(path)}: this is no key; pass the key.json that the export wrote.") from None
    for item_id, entry in entries.items():
        if not isinstance(entry.system, str) or entry.expected not in (None, *RATING_LABELS):
            raise HumanEvalError(
                f"{printable(path)}: {item_id!r} has no system, or expects a rating outside 1..5; pass the key.json that "
                "the export wrote."
            )
    return entries


def read_answers(paths: Sequence[Path], key: dict[str, KeyEntry]) -> list[Answer]:
    """
    Reads answers: UTF-8 CSV with the columns item_id, worker_id, text_quality, image_relevance, image_diversity and
    overall, in any order and among others, which are not read (crowd platforms add their own).

    Raises:
        HumanEvalError: The first thing that is wrong, with file, row (as a spreadsheet counts: the header is row 1) and
            fix: no text, no answers, a missing column, a row of another length, an empty worker id, an item that is not
            in the key, a rating other than 1 to 5, or a second answer of the same rater to the same item.
    """
    answers: list[Answer] = []
    places: dict[tuple[str, str], str] = {}
    for path in paths:
        for row, cells in _rows(path):
            place = f"{printable(path)}, row {row}"
            answer = _checked(cells, place, key)
            name = (answer.worker_id, answer.item_id)
            if name in places:
                raise HumanEvalError(
                    f"{place}: worker {answer.worker_id!r} answered {answer.item_id!r} already ({places[name]}); keep one."
                )
            places[name] = place
            answers.append(answer)
    return answers


def filter_answers(
    answers: Sequence[Answer], key: dict[str, KeyEntry], min_checks_passed: int | None = None
) -> FilteredAnswers:
    """
    Leaves out the raters who failed the attention checks, then the checks themselves.

    A check is passed when all four ratings are the one it asks for. A rater who answered no check cannot be judged and is
    left out like one who failed; both are counted. If the key has no checks, all raters stay.

    Args:
        min_checks_passed (`int`, *optional*):
            How many checks a rater must have passed; 0 keeps everybody. By default all that the rater answered, and at
            least one.

    Raises:
        HumanEvalError: `min_checks_passed` exceeds the number of checks, or no answer is left.
    """
    checks = {item_id: entry.expected for item_id, entry in key.items() if entry.expected is not None}
    if min_checks_passed is not None and min_checks_passed > len(checks):
        raise HumanEvalError(
            f"--min-checks-passed {min_checks_passed}: the key has {len(checks)} attention checks; ask for fewer."
        )
    workers: dict[str, WorkerChecks] = {}
    for answer in answers:
        worker = workers.setdefault(answer.worker_id, WorkerChecks())
        if answer.item_id in checks:
            worker.answered += 1
            worker.passed += set(answer.ratings.values()) == {checks[answer.item_id]}
    for worker in workers.values():
        if min_checks_passed is not None:
            worker.kept = worker.passed >= min_checks_passed
        elif checks:
            worker.kept = worker.passed == worker.answered > 0

    rated = [answer for answer in answers if answer.item_id not in checks]
    counted = [answer for answer in rated if workers[answer.worker_id].kept]
    if not counted:
        raise HumanEvalError(
            f"no answer is left: {len(rated)} to rated items came from {len(workers)} workers, of whom "
            f"{sum(worker.kept for worker in workers.values())} passed the attention checks; lower --min-checks-passed or "
            "add answers."
        )
    gone = [worker for worker in workers.values() if not worker.kept]
    dropped = {
        "workers_failing_checks": sum(worker.answered > 0 for worker in gone),
        "workers_without_check": sum(worker.answered == 0 for worker in gone),
        "answers_of_dropped_workers": len(rated) - len(counted),
        "answers_to_attention_checks": len(answers) - len(rated),
        "items_without_answers": len(set(key) - set(checks) - {answer.item_id for answer in counted}),
    }
    return FilteredAnswers(counted, workers, dropped)


def _rows(path: Path) -> list[tuple[int, dict[str, str]]]:
    shown = printable(path)
    try:
        # utf-8-sig: spreadsheets write a byte order mark.
        reader = csv.reader(io.StringIO(path.read_bytes().decode("utf-8-sig"), newline=""), strict=True)
        lines = [line for line in enumerate(reader, start=1) if line[1]]
    except UnicodeDecodeError:
        raise HumanEvalError(f"{shown}: this is no UTF-8 text; save the answers as CSV in UTF-8.") from None
    except csv.Error as error:
        raise HumanEvalError(f"{shown}, line {reader.line_num}: this is no valid CSV ({error}).") from None
    header = [name.strip() for name in lines[0][1]] if lines else []
    missing = [name for name in ANSWER_COLUMNS if name not in header]
    if missing:
        raise HumanEvalError(
            f"{shown}, row 1: the columns {', '.join(missing)} are missing; name them in the first row."
        )
    twice = [name for name in ANSWER_COLUMNS if header.count(name) > 1]
    if twice:
        raise HumanEvalError(f"{shown}, row 1: the column {twice[0]} stands there twice; keep one.")
    if len(lines) == 1:
        raise HumanEvalError(f"{shown}: the file holds no answers.")
    for row, cells in lines[1:]:
        if len(cells) != len(header):
            raise HumanEvalError(f"{shown}, row {row}: {len(cells)} cells for {len(header)} columns; mend the row.")
    return [(row, dict(zip(header, cells, strict=True))) for row, cells in lines[1:]]


def _checked(cells: dict[str, str], place: str, key: dict[str, KeyEntry]) -> Answer:
    item_id, worker_id = cells["item_id"].strip(), printable(cells["worker_id"]).strip()
    if item_id not in key:
        raise HumanEvalError(
            f"{place}: the key has no item {printable(item_id)!r}; are these answers to another export?"
        )
    if not worker_id:
        raise HumanEvalError(f"{place}: the worker_id is empty; agreement needs to know who rated.")
    ratings = {}
    for question in QUESTIONS:
        value = cells[question.name].strip()
        if value not in map(str, RATING_LABELS):
            raise HumanEvalError(f"{place}: {question.name} is {printable(value)!r}; it must be 1, 2, 3, 4 or 5.")
        ratings[question.name] = int(value)
    return Answer(item_id, worker_id, ratings)
