"""Scores of the benchmark `figure_selection.py`, their means over sections, and its table."""

import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from spectra_sum.evaluation.bootstrap import mean_interval, paired_difference

COUNT = 3
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
    """Means with intervals over the sections, and what both texts gain over captions alone."""
    result: dict[str, Any] = {}
    for test in ("separation", "gold"):
        counted = [row[test] for row in rows if row[test]]
        values: dict[str, Any] = defaultdict(lambda: defaultdict(lambda: defaultdict(list)))
        for row in counted:
            for summary, systems in row.items():
                for system, scores in systems.items():
                    for score, value in scores.items():
                        values[summary][system][score].append(value)
        result[test] = {
            "sections": len(counted),
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
    """The result as Markdown."""
    lines = []
    for split, measured in result["splits"].items():
        for test, scores, head in (
            ("separation", ("own_share", "auc"), "own among the 3 best | AUC"),
            ("gold", (f"precision_at_{COUNT}", "precision_at_1"), "gold among the 3 selected | the first is gold"),
        ):
            part = measured[test]
            what = "own figures among as many of other sections" if test == "separation" else "weak gold labels"
            lines += [f"**{split}**, {part['sections']} sections, {what}", "", f"| summary | figures by | {head} |"]
            lines.append("| --- | --- | --- | --- |")
            for summary, systems in part["scores"].items():
                for system, found in systems.items():
                    cells = [f"{m['value']:.3f} ({m['low']:.3f} to {m['high']:.3f})" for m in map(found.get, scores)]
                    lines.append("| " + " | ".join([summary, system, *cells]) + " |")
            lines.append("")
    for bar in result["goals"]:
        verdict = "met" if bar["met"] else "missed"
        lines.append(
            f"AUC at least {GOAL:.2f} by captions and the summary {bar['summary']}, test: {bar['auc']:.3f}, {verdict}."
        )
    settings = result["settings"]
    encoder = settings["text_encoder"]
    versions = ", ".join(f"{name} {version}" for name, version in result["versions"].items())
    return "\n".join(
        [
            *lines,
            "",
            f"95 % intervals over sections, each the mean of {settings['draws']} draws; {encoder['name']} {encoder['revision']}; "
            f"{result['hardware']['processor']}, {result['hardware']['threads']} thread; {versions}; commit {result['commit']}",
        ]
    )
