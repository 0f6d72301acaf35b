"""Scores of predictions: against rouge_score itself, hand-computed image scores, and hand-made embeddings."""

import datasets
import numpy as np
import pytest
from rouge_score.rouge_scorer import RougeScorer

from spectra_sum.evaluation.scores import ArticleEmbeddings, score_articles, score_images, score_predictions
from tests.double_precision import EPSILON

SUMMARIES = ["The red cat ran. A dog slept.", "", "Blue boats sailed on Monday, said Dr. Ash."]
REFERENCES = [["A dog was sleeping.", "The red cat ran."], ["Nothing was said."], ["Boats sailed."]]
SELECTED = [[2, 0], [], [1]]
GOLD = [[0, 1], [0], []]


def fact(value: str, *alternatives: str, source: str = "image", kind: str = "trend") -> dict:
    return {"kind": kind, "value": value, "alternatives": list(alternatives), "source": source}


@pytest.fixture
def records() -> datasets.Dataset:
    return datasets.Dataset.from_dict({"id": list("abc"), "summary": REFERENCES, "gold_images": GOLD})


@pytest.fixture
def world(records) -> datasets.Dataset:
    """With captions and facts, of which the first article states "red" and not "blue"; the second states nothing."""
    facts = [[fact("red", "blue"), fact("dog", source="text")], [fact("blue", "red")], [fact("ash", source="text")]]
    captions = [["cat", "dog", "dog"], ["x", "x"], ["y", "z"]]
    return records.add_column("facts", facts).add_column("captions", captions)


def predictions(probabilities: list[float] | None = None) -> list[dict]:
    return [
        {"id": name, "summary": summary, "selected": selected, "probabilities": probabilities or []}
        for name, summary, selected in zip("abc", SUMMARIES, SELECTED, strict=True)
    ]


def test_rouge_is_that_of_rouge_score_with_sentences_as_lines(records):
    scores = score_articles(predictions(), records)
    lines = ["The red cat ran.\nA dog slept.", "", SUMMARIES[2]]
    kinds = ["rouge1", "rouge2", "rougeL", "rougeLsum"]
    scorer = RougeScorer(kinds, use_stemmer=True)
    for kind in kinds:
        expected = [
            scorer.score("\n".join(reference), text)[kind].fmeasure
            for reference, text in zip(REFERENCES, lines, strict=True)
        ]
        assert scores.values[kind] == pytest.approx(expected, abs=1e-12)
    # Sentences in the other order: the order costs ROUGE-L, and must not cost ROUGE-Lsum.
    assert scores.values["rougeLsum"][0] == scores.values["rouge1"][0] > scores.values["rougeL"][0]
    assert scores.counts["empty_predictions"] == 1


def test_a_reference_in_one_paragraph_scores_as_its_sentences(records):
    paragraphs = records.remove_columns("summary").add_column("summary", [[" ".join(lines)] for lines in REFERENCES])
    scores, expected = score_articles(predictions(), paragraphs), score_articles(predictions(), records)
    assert scores.values["rougeLsum"] == expected.values["rougeLsum"]
    # One line would have cost ROUGE-Lsum the order of the sentences.
    assert (
        scores.values["rougeLsum"][0]
        > RougeScorer(["rougeL"], use_stemmer=True).score(" ".join(REFERENCES[0]), SUMMARIES[0])["rougeL"].fmeasure
    )


EMPTY = "articles_with_gold_but_no_selection"


def test_image_scores_by_hand(records):
    scores = score_articles(predictions(), records)
    # [2, 0] against {0, 1}: one of two, the first one wrong, one of two found. Nothing selected: 0. No gold: undefined.
    assert scores.values["image_precision"] == [0.5, 0.0, None]
    assert scores.values["hit_at_1"] == [0.0, 0.0, None]
    assert scores.values["recall"] == [0.5, 0.0, None]
    assert scores.means()["image_precision"] == 0.25
    assert scores.defined("recall") == [0.5, 0.0]
    assert scores.counts == {"empty_predictions": 1, "articles_without_gold": 1, EMPTY: 1}
    assert {"facts", "coverage", "text_facts"}.isdisjoint(scores.values)


def test_facts_and_coverage_by_hand(world):
    scores = score_articles(predictions(), world)
    assert scores.values["text_facts"] == [1.0, None, 1.0]
    assert scores.values["visual_facts_trend"] == [1.0, 0.0, None]
    # The first selection shows a dog and a cat, as its gold images do; the second shows nothing.
    assert scores.values["coverage"] == [1.0, 0.0, None]
    assert scores.means()["coverage"] == 0.5


def test_what_is_not_computed_says_why(records):
    reasons = score_articles(predictions(), records).not_computed
    assert set(reasons) == {
        *("bertscore_precision", "bertscore_recall", "bertscore_f1", "mmae", "max_sim", "clip_score"),
        *("pcd_mean", "pcd_max", "pcd_mean_filtered", "pcd_max_filtered"),
    }
    assert reasons["max_sim"] == "no similarity model was named"
    no_gold = score_images(SELECTED, [[], [], []])
    assert no_gold.values == {}
    assert no_gold.not_computed["image_precision"] == "no article has gold images"


def unit(*rows: tuple[float, float]) -> np.ndarray:
    return np.array(rows, dtype=np.float32).reshape(-1, 2)


def test_similarity_scores_by_hand():
    embeddings = ArticleEmbeddings(
        # Article b has no text; article d has no images.
        [unit((1, 0), (0, 1)), unit(), unit((1, 0)), unit((1, 0))],
        [unit((0.6, 0.8), (1, 0), (0, 1)), unit((1, 0)), unit((1, 0), (-0.6, 0.8)), unit()],
    )
    scores = score_images([[2, 0], [0], [1, 0], []], [[0], [], [], []], embeddings=embeddings)
    assert scores.values["max_sim"] == pytest.approx([1.0, 0.0, 1.0, None])
    # The summary of a points to (1, 1)/√2: cosines 1/√2 and 1.4/√2. That of c: 1 and -0.6, which counts as 0.
    mean_cosine = (1 + 1.4) / 2 / np.sqrt(2)
    assert scores.values["clip_score"] == pytest.approx([2.5 * mean_cosine, 0.0, 2.5 / 2, None], abs=8 * EPSILON)
    assert scores.values["pcd_mean"] == pytest.approx([0.2, None, 1.6, None], abs=8 * EPSILON)
    # c's second image has a cosine of -0.6 to the summary and is no longer there to pair with.
    assert scores.values["pcd_max_filtered"] == pytest.approx([0.2, None, None, None], abs=8 * EPSILON)
    assert scores.counts["articles_without_images"] == 1
    # b's image has no text to be relevant to.
    assert scores.counts["images_filtered_out"] == 2
    lenient = score_images(
        [[2, 0], [0], [1, 0], []], [[0], [], [], []], embeddings=embeddings, relevance_threshold=-1.0
    )
    assert lenient.values["pcd_max_filtered"] == pytest.approx([0.2, None, 1.6, None], abs=8 * EPSILON)


def test_distances_without_any_pair_are_not_computed():
    embeddings = ArticleEmbeddings([unit((1, 0))], [unit((1, 0), (0, 1))])
    scores = score_images([[1]], [[]], embeddings=embeddings)
    assert "two selected images" in scores.not_computed["pcd_mean"]
    assert scores.values == {"max_sim": [0.0], "clip_score": [0.0]}


def test_bertscore_of_equal_texts_is_one_whatever_their_line_breaks(records, bert_folder):
    same = [{**prediction, "summary": " ".join(REFERENCES[i])} for i, prediction in enumerate(predictions())]
    scores = score_articles(same, records, bertscore={"model": str(bert_folder)})
    assert scores.values["bertscore_f1"] == pytest.approx([1.0] * 3, abs=16 * EPSILON)
    assert {"bertscore_precision", "bertscore_recall", "bertscore_f1"}.isdisjoint(scores.not_computed)
    shorter = score_articles(predictions(), records, bertscore={"model": str(bert_folder)})
    assert shorter.values["bertscore_f1"][1] == 0.0


def test_training_logs_images_only_where_images_were_scored(world):
    with_images = score_predictions(predictions([0.5, 0.5]), world)
    assert with_images["image_precision"] == 0.25
    assert with_images["coverage"] == 0.5
    without = score_predictions(predictions(), world)
    assert {"image_precision", "hit_at_1", "recall", "coverage"}.isdisjoint(without)
    assert without["text_facts"] == with_images["text_facts"] == 1.0
    assert without["visual_facts_trend"] == 0.5
