"""`metrics.json` and `scores.jsonl` of an evaluation: means with confidence intervals, and every article's scores."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from spectra_sum.atomic_write import write_text_atomically
from spectra_sum.evaluation.bootstrap import mean_interval
from spectra_sum.evaluation.corpus_bleu import BLEU4, bleu_of, statistics_table
from spectra_sum.evaluation.scores import MMAE_PARTS, ArticleScores
from spectra_sum.metrics import load_metric
from spectra_sum.metrics.mmae.mmae import mmae_of

RESAMPLES = 1000
CONFIDENCE = 0.95


def interval_scores(scores: ArticleScores, *, seed: int) -> dict[str, dict[str, float | int]]:
    """Every score's mean with its percentile-bootstrap interval over the articles, and where there is what they are made of MMAE
    and BLEU-4, which is computed from each resample's counts.

    Args:
        scores (`ArticleScores`): The scores; a score that no article has is left out, with its reason.
        seed (`int`): Seed of the resampling.

    Returns:
        By the score's name `value`, `low`, `high` (95 %) and `articles`, the number behind the mean.
    """
    results: dict[str, dict[str, float | int]] = {}
    for name in scores.values:
        values = scores.defined(name)
        if not values:
            scores.not_computed.setdefault(name, "it is undefined for every article")
            continue
        low, high = mean_interval(values, confidence=CONFIDENCE, resamples=RESAMPLES, seed=seed)
        mean = sum(values) / len(values)
        results[name] = {"value": mean, "low": low, "high": high, "articles": len(values)}
    if all(name in results for name in MMAE_PARTS):
        results["mmae"] = _mmae({name: scores.values[name] for name in MMAE_PARTS}, seed)
    if scores.statistics:
        results[BLEU4] = _bleu(statistics_table(scores.statistics), seed)
    return results


def _bleu(table: np.ndarray, seed: int) -> dict[str, float | int]:
    generator, articles = np.random.default_rng(seed), len(table)
    drawn = [table[generator.integers(articles, size=articles)].sum(axis=0) for _ in range(RESAMPLES)]
    low, high = np.percentile(bleu_of(np.array(drawn)), [50 * (1 - CONFIDENCE), 50 * (1 + CONFIDENCE)]).tolist()
    return {"value": float(bleu_of(table.sum(axis=0))), "low": low, "high": high, "articles": articles}


def _mmae(parts: dict[str, list[float | None]], seed: int) -> dict[str, float | int]:
    result = load_metric("mmae").compute(**parts)
    table = np.array([[np.nan if value is None else value for value in parts[name]] for name in MMAE_PARTS])
    generator = np.random.default_rng(seed)
    resampled = []
    for _ in range(RESAMPLES):
        # Articles are drawn whole, so that the gaps of a part are drawn with them.
        drawn = table[:, generator.integers(table.shape[1], size=table.shape[1])]
        if not np.isnan(drawn).all(axis=1).any():
            resampled.append(mmae_of(np.nanmean(drawn, axis=1).tolist()))
    low, high = np.percentile(resampled, [50 * (1 - CONFIDENCE), 50 * (1 + CONFIDENCE)]).tolist()
    return {"value": result["mmae"], "low": low, "high": high, "articles": result["articles"]}


def write_results(
    folder: Path, metrics: dict[str, Any], ids: Sequence[str], values: dict[str, list[float | None]]
) -> None:
    """Writes `scores.jsonl`, one line per article, and then `metrics.json`; each is replaced as a whole."""
    rows = [
        {"id": name, **{score: column[index] for score, column in values.items()}} for index, name in enumerate(ids)
    ]
    lines = [json.dumps(row, ensure_ascii=False) for row in rows]
    write_text_atomically(folder / "scores.jsonl", "\n".join([*lines, ""]))
    write_text_atomically(folder / "metrics.json", json.dumps(metrics, indent=2, ensure_ascii=False) + "\n")
