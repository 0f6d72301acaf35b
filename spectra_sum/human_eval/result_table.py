"""The analysis as a Markdown table beside the published human evaluation."""

import json
from collections.abc import Mapping
from importlib import resources
from typing import Any

from ..tables.markdown import escape_markdown
from .questions import QUESTIONS

_DROPPED = {
    "workers_failing_checks": "workers who failed the attention checks",
    "workers_without_check": "workers who answered no attention check",
    "answers_of_dropped_workers": "answers of these workers",
    "answers_to_attention_checks": "answers to attention checks (they are no ratings)",
    "items_without_answers": "items without an answer that counts",
}


def published_human_evaluation() -> dict[str, Any]:
    """The published means and their setting, from the data file of published numbers."""
    text = resources.files("spectra_sum.tables").joinpath("published.json").read_text(encoding="utf-8")
    content = json.loads(text)
    evaluation = content["human_evaluation"]
    return {**evaluation, "citation": content["sources"][evaluation["source"]]["citation"]}


def markdown(analysis: Mapping[str, Any], published: Mapping[str, Any]) -> str:
    """
    The table with its notes.

    Args:
        analysis (`Mapping[str, Any]`): Of [`analyse`].
        published (`Mapping[str, Any]`): Of [`published_human_evaluation`].
    """
    rows = [
        ["System", "Question", "Mean (SD)", "% ≥ 4", "Ratings", "Exact", "Within one", "Alpha"],
        ["---", "---", *["---:"] * 6],
    ]
    groups = [(escape_markdown(system), scores) for system, scores in analysis["systems"].items()]
    if len(groups) > 1:
        groups.append(("*all systems*", analysis["all_systems"]))
    for system, scores in groups:
        for question in QUESTIONS:
            rows.append([system, question.label, *_cells(scores[question.name])])
    for question in QUESTIONS:
        rows.append(["published ¹", question.label, f"{published['means'][question.name]:.2f}", *["–"] * 5])
    kept = sum(worker["kept"] for worker in analysis["workers"].values())
    lines = [
        "# Human evaluation",
        "",
        *(f"| {' | '.join(row)} |" for row in rows),
        "",
        f"¹ {published['citation']}, {published['where']}: {published['setting']}; other articles and other raters.",
        "",
        f"Answers of {kept} of {len(analysis['workers'])} workers count. Left out:",
        "",
        *(f"- {analysis['dropped'][name]} {words}" for name, words in _DROPPED.items()),
        "",
        "Definitions:",
        "",
        *(f"- {name}: {text}." for name, text in analysis["definitions"].items()),
        "",
    ]
    return "\n".join(lines)


def _cells(scores: Mapping[str, Any]) -> list[str]:
    def shown(value: float | None, form: str) -> str:
        return "–" if value is None else form.format(value)

    mean = shown(scores["mean"], "{:.2f}")
    return [
        f"{mean} ({shown(scores['sd'], '{:.2f}')})" if scores["ratings"] else mean,
        shown(scores["share_good"], "{:.1%}").rstrip("%"),
        str(scores["ratings"]),
        shown(scores["exact_agreement"], "{:.3f}"),
        shown(scores["within_one_agreement"], "{:.3f}"),
        shown(scores["alpha"], "{:.3f}"),
    ]
