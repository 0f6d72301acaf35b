"""BLEU-4 from the counts of single articles, against sacrebleu on whole sets of them."""

import numpy as np
import pytest
from sacrebleu.metrics import BLEU

from spectra_sum.evaluation.corpus_bleu import STATISTICS, bleu_of, statistics_table
from spectra_sum.evaluation.result_files import interval_scores
from spectra_sum.evaluation.scores import score_answers
from spectra_sum.metrics import load_metric

WORDS = "a red boat and the old car share one lamp .".split()


def random_texts(generator, count, longest):
    return [" ".join(generator.choice(WORDS, generator.integers(0, longest + 1))) for _ in range(count)]


@pytest.mark.parametrize("longest", [2, 5, 12])
def test_any_set_of_articles_has_the_bleu_that_sacrebleu_gives_it(longest):
    """Also where no n-gram of an order matches, which is smoothed, and where texts are too short to have any."""
    generator = np.random.default_rng(longest)
    answers, references = random_texts(generator, 40, longest), random_texts(generator, 40, longest)
    references = [reference or "the lamp" for reference in references]
    columns = score_answers(answers, references).statistics
    rows = np.array([columns[name] for name in STATISTICS]).T
    sets = [generator.integers(40, size=generator.integers(1, 9)) for _ in range(60)]
    found = bleu_of(np.array([rows[chosen].sum(axis=0) for chosen in sets]))
    expected = [
        BLEU().corpus_score([answers[i] for i in chosen], [[references[i] for i in chosen]]).score / 100
        for chosen in sets
    ]
    assert found == pytest.approx(expected, abs=1e-12)
    assert (longest == 2 and not any(expected)) or len(set(np.round(expected, 6))) > 20


def test_the_metric_s_counts_by_hand():
    result = load_metric("bleu").compute(
        predictions=["a red boat", "", "x"], references=[["the red boat sails"], ["a"], [""]], statistics=True
    )
    # Tokens, those of the reference, matches of 1 to 4 words, and phrases of 1 to 4 words.
    assert result["statistics"] == [[3, 4, 2, 1, 0, 0, 3, 2, 1, 0], [0, 1, 0, 0, 0, 0, 0, 0, 0, 0], None]
    assert "per_example" not in result


def test_the_interval_resamples_articles_and_not_their_bleu():
    generator = np.random.default_rng(3)
    references = random_texts(generator, 30, 12)
    answers = [text if index % 2 else " ".join(text.split()[::-1]) for index, text in enumerate(references)]
    # One record alone has no reference.
    scores = score_answers([*answers, "a"], [*references, " "])
    kept = [index for index, reference in enumerate(references) if reference]
    assert scores.counts["records_without_reference_for_bleu"] == 31 - len(kept)
    result = interval_scores(scores, seed=1)["bleu4"]
    assert result["articles"] == len(kept)
    whole = BLEU().corpus_score([answers[i] for i in kept], [[references[i] for i in kept]]).score / 100
    assert result["value"] == scores.means()["bleu4"] == pytest.approx(whole, abs=1e-12)
    table = statistics_table(scores.statistics)
    draws = np.random.default_rng(99).integers(len(table), size=(4000, len(table)))
    low, high = np.percentile(bleu_of(table[draws].sum(axis=1)), [2.5, 97.5])
    assert (result["low"], result["high"]) == (pytest.approx(low, abs=0.03), pytest.approx(high, abs=0.03))
    assert low < whole < high
