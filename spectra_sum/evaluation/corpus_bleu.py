"""BLEU-4 of any set of articles from the counts of each, as the metric `bleu` gives them: it is no mean over articles."""

from collections.abc import Mapping, Sequence

import numpy as np

BLEU4 = "bleu4"
_ORDERS = (1, 2, 3, 4)
STATISTICS = (
    *("bleu_tokens", "bleu_reference_tokens"),
    *(f"bleu_matches_{order}" for order in _ORDERS),
    *(f"bleu_ngrams_{order}" for order in _ORDERS),
)
"""Names of an article's counts in `scores.jsonl`: tokens of text and reference, and per order matching and all n-grams."""


def bleu_of(sums: np.ndarray) -> np.ndarray:
    """
    BLEU-4 in [0, 1] with `exp` smoothing, as `sacrebleu` computes it.

    Args:
        sums (`np.ndarray` of shape `(…, 10)`): Sums of `STATISTICS` over the articles of each set.

    Returns:
        `np.ndarray` of shape `(…,)`: 0 where nothing matches, or no text has four tokens.
    """
    sums = np.asarray(sums, dtype=np.float64)
    tokens, reference = sums[..., 0], sums[..., 1]
    matches, ngrams = sums[..., 2:6], sums[..., 6:10]
    # The first order without a match counts as half of one, the next one as a quarter, …
    missed = np.cumsum((matches == 0) & (ngrams > 0), axis=-1)
    precisions = np.where(matches > 0, matches, 0.5**missed) / np.maximum(ngrams, 1)
    brevity = np.minimum(0, 1 - reference / np.maximum(tokens, 1))
    value = np.exp(brevity + np.log(precisions).mean(axis=-1))
    return np.where((matches.sum(axis=-1) > 0) & (ngrams > 0).all(axis=-1), value, 0.0)


def statistics_table(columns: Mapping[str, Sequence[float | None]]) -> np.ndarray:
    """The counts by their names → (articles, 10), in order and without the articles that have none."""
    rows = zip(*(columns[name] for name in STATISTICS), strict=True)
    kept = [row for row in rows if None not in row]
    return np.array(kept, dtype=np.float64).reshape(len(kept), len(STATISTICS))
