"""Scores of the benchmark `figure_selection.py`, their means over sections, and its table."""

import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from spectra_sum.evaluation.bootstrap import mean_interval, paired_difference

COUNT = 3
NO_SUMMARY = "none"
# By test its two scores, and what its table shows.
TESTS = {
    "separation": (("own_share", "auc"), f"own figures among the {COUNT} best / area under the curve"),
    "gold": (("precision_at_1", f"precision_at_{COUNT}"), f"the first is gold / gold among the {COUNT} selected"),
}
# Area under the curve by captions with a generated summary, on the test sections.
GOAL = 0.80


def own_share(own: Sequence[float | None], foreign: Sequence[float | None], count: int) -> float:
    """The expected share of own figures among the `count` best, where equal scores stand in random order; None is last."""
    own, foreign = _ranks(own), _ranks(foreign)
    count = min(count, len(own) + len(foreign))
    share, left = 0.0, count
    for score in sorted({*own, *foreign}, reverse=True):
        equal_own, equal = own.count(score), own.count(score) + foreign.count(score)
        taken = min(left, equal)
        share += taken * equal_own / equal
        left -= taken
    return share / count


def area_under_curve(own: Sequence[float | None], foreign: Sequence[float | None]) -> float:
    """The share of pairs in which the own figure has the larger score; an equal one counts half. None is the least."""
    own, foreign = _ranks(own), _ranks(foreign)
    return statistics.fmean((one > other) + (one == other) / 2 for one in own for other in foreign)


def _ranks(scores: Sequence[float | None]) -> list[float]:
    return [float("-inf") if score is None else score for score in scores]


def precision(selected: Sequence[int], gold: Sequence[int]) -> float:
    """The share of gold figures among the selected; 0 where none is."""
    return statistics.fmean(index in gold for index in selected) if selected else 0.0


def aggregate(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """
    Means with intervals over the sections, by test, summary, system and score, and what both texts gain over captions alone.

    Args:
        rows: Per section and summary; a row holds the scores of each test by system.
    """
    result: dict[str, Any] = {}
    for test in TESTS:
        counted = [row for row in rows if row[test]]
        values: dict[str, Any] = defaultdict(lambda: defaultdict(lambda: defaultdict(list)))
        for row in counted:
            for system, scores in row[test].items():
                for score, value in scores.items():
                    values[row["summary"]][system][score].append(value)
        result[test] = {
            "sections": len({row["id"] for row in counted}),
            "scores": {
                summary: {
                    system: {score: _mean(found) for score, found in scores.items()}
                    for system, scores in systems.items()
                }
                for summary, systems in values.items()
            },
        }
        if test == "separation":
            result[test]["both_minus_caption"] = {
                summary: asdict(paired_difference(systems["both"]["auc"], systems["caption"]["auc"]))
                for summary, systems in values.items()
                if "both" in systems
            }
    return result


def _mean(values: Sequence[float]) -> dict[str, float]:
    low, high = mean_interval(values)
    return {"value": statistics.fmean(values), "low": low, "high": high}


def render(result: Mapping[str, Any]) -> str:
    """The result as Markdown: of each split and test a table of systems by summaries."""
    lines = []
    for split, measured in result["splits"].items():
        for test, (scores, title) in TESTS.items():
            part = measured[test]
            summaries = [name for name in part["scores"] if name != NO_SUMMARY]
            systems = dict.fromkeys(system for name in summaries for system in part["scores"][name])
            lines += [f"**{split}**, {part['sections']} sections: {title}", ""]
            lines += [f"| figures by | {' | '.join(summaries)} |", "| --- " * (len(summaries) + 1) + "|"]
            for system in systems:
                cells = [_cell(part["scores"][name].get(system), scores) for name in summaries]
                lines.append("| " + " | ".join([system, *cells]) + " |")
            without = [
                f"{system} {_cell(found, scores)}" for system, found in part["scores"].get(NO_SUMMARY, {}).items()
            ]
            lines += ["", f"Without a summary: {'; '.join(without)}.", ""]
    for goal in result["goals"]:
        verdict = "met" if goal["met"] else "missed"
        lines += [
            f"AUC at least {GOAL:.2f} by captions and {goal['summary']}, test: {goal['auc']:.3f}, {verdict}.",
            "",
        ]
    settings = result["settings"]
    encoder = settings["text_encoder"]
    versions = ", ".join(f"{name} {version}" for name, version in result["versions"].items())
    facts = (
        f"95 % intervals over sections, {settings['draws']} draws of foreign figures each; {encoder['name']} "
        f"({encoder['revision']}); {result['hardware']['processor']}; {versions}; commit {result['commit']}"
    )
    return "\n".join([*lines, facts])


def _cell(found: Mapping[str, Mapping[str, float]] | None, scores: Sequence[str]) -> str:
    """Both scores, the second one with its interval."""
    if found is None:
        return ""
    first, second = (found[score] for score in scores)
    return f"{first['value']:.3f} / {second['value']:.3f} ({second['low']:.3f} to {second['high']:.3f})"
