"""Image selections that rest on embeddings: by hand-made ones, reproducible, and compared on the same summaries."""

import numpy as np
import pytest

from spectra_sum.evaluation import choices
from spectra_sum.evaluation.scores import ArticleEmbeddings
from spectra_sum.evaluation.selection_comparison import compare_selections
from spectra_sum.evaluation.similarity import embed_images, embed_texts, reselect, summary_sentences
from spectra_sum.metrics.dual_encoder import DualEncoder
from spectra_sum.msmo.closed_world_difficulty import DIFFICULTIES
from spectra_sum.selection.methods import SELECTION_METHODS, SelectionSettings
from tests.double_precision import EPSILON


def rows(*values: tuple[float, float]) -> np.ndarray:
    return np.array(values, dtype=np.float32).reshape(-1, 2)


# Relevance of the first article's images, its largest cosine to a sentence: 0.8, 1, 0, 0.6. Images 0 and 3 stand at a
# right angle.
SENTENCES = [rows((1, 0)), rows((0, 1)), rows((0, 1))]
IMAGES = [rows((0.8, 0.6), (1, 0), (0, -1), (0.6, -0.8)), rows((1, 0), (0.6, 0.8)), rows()]
EMBEDDINGS = ArticleEmbeddings(SENTENCES, IMAGES)
PREDICTIONS = [
    {"id": name, "summary": "x", "selected": [0][: len(images)], "probabilities": [0.5] * len(images)}
    for name, images in zip("abc", IMAGES, strict=True)
]


def selected(method: str, count: int = 3, seed: int = 0, **settings: float) -> list[list[int]]:
    changed = reselect(method, PREDICTIONS, EMBEDDINGS, count=count, settings=SelectionSettings(**settings), seed=seed)
    assert [row["id"] for row in changed] == ["a", "b", "c"]
    return [row["selected"] for row in changed]


def test_choices_agree_with_the_methods():
    assert set(choices.SELECTIONS) == {"vrp", "given", "gold", "after-summary", *SELECTION_METHODS}
    assert set(choices.NEED_SIMILARITY) == set(SELECTION_METHODS) - {"random"}
    assert set(choices.OWN_SELECTION) == {"model", "pretrained", "predictions", *choices.BASELINES}
    assert set(choices.OWN_SELECTION.values()) <= set(choices.SELECTIONS)
    assert choices.DIFFICULTIES == tuple(DIFFICULTIES)


def test_clip_ranks_by_the_largest_cosine():
    assert selected("clip") == [[1, 0, 3], [1, 0], []]
    assert selected("clip", count=1) == [[1], [1], []]


def test_mmr_by_hand():
    # After image 1, whose cosines to the others are their relevances r here, λ·r - (1 - λ)·r falls with r for λ < 0.5.
    assert selected("mmr", count=2, mmr_trade_off=0.4)[0] == [1, 2]
    assert selected("mmr", count=2, mmr_trade_off=0.9)[0] == [1, 0]


def test_only_the_teacher_has_probabilities():
    settings = SelectionSettings()
    for method in SELECTION_METHODS:
        changed = reselect(method, PREDICTIONS, EMBEDDINGS, count=2, settings=settings, seed=0)
        lengths = [len(row["probabilities"]) for row in changed]
        assert lengths == ([4, 2, 0] if method == "teacher" else [0, 0, 0])
        assert all(0 <= value <= 1 for row in changed for value in row["probabilities"])
    # The method's predictions are new ones; those given stay.
    assert [row["probabilities"] for row in PREDICTIONS] == [[0.5] * 4, [0.5] * 2, []]


def test_random_is_reproducible_and_independent_of_other_articles():
    images = [np.ones((6, 1), dtype=np.float32)] * 40
    blank = [np.ones((0, 1), dtype=np.float32)] * 40
    predictions = [{"id": str(i), "summary": "", "selected": [], "probabilities": []} for i in range(40)]

    def draw(rows: list[np.ndarray], seed: int = 0, count: int = 40) -> list[list[int]]:
        changed = reselect(
            "random",
            predictions[:count],
            ArticleEmbeddings(blank[:count], rows[:count]),
            count=3,
            settings=SelectionSettings(),
            seed=seed,
        )
        return [row["selected"] for row in changed]

    drawn = draw(images)
    assert drawn == draw(images)
    assert drawn[:5] == draw(images, count=5)
    assert drawn[1:] == draw([images[0][:2], *images[1:]])[1:]
    assert drawn != draw(images, seed=100)
    assert all(len(set(row)) == 3 for row in drawn)
    # Each of 40 draws misses an image with probability 1/2.
    assert set(sum(drawn, [])) == set(range(6))
    assert len({tuple(row) for row in drawn}) > 10


def test_comparison_by_hand():
    result = compare_selections(
        "vrp",
        PREDICTIONS,
        EMBEDDINGS,
        EMBEDDINGS,
        [[1], [1], []],
        count=2,
        settings=SelectionSettings(),
        relevance_threshold=0.2,
        seed=0,
    )
    assert list(result) == ["vrp", *SELECTION_METHODS]
    # The own selection is image 0 of each article: relevances 0.8 and 0; no pair, no distance.
    assert result["vrp"] == {
        "image_precision": 0.0,
        "hit_at_1": 0.0,
        "recall": 0.0,
        "max_sim": pytest.approx(0.4),
        "clip_score": pytest.approx(2.5 * 0.4),
    }
    # [1, 0] and [1, 0]: the gold image first, and another one.
    assert result["clip"]["image_precision"] == 0.5
    assert result["clip"]["hit_at_1"] == result["clip"]["recall"] == 1.0
    assert result["clip"]["max_sim"] == pytest.approx((1 + 0.8) / 2)
    assert result["clip"]["clip_score"] == pytest.approx(2.5 * ((1 + 0.8) / 2 + 0.8 / 2) / 2)
    assert result["clip"]["pcd_mean"] == pytest.approx((0.2 + 0.4) / 2)
    own = compare_selections(
        "clip",
        reselect("clip", PREDICTIONS, EMBEDDINGS, count=2, settings=SelectionSettings(), seed=0),
        EMBEDDINGS,
        EMBEDDINGS,
        [[1], [1], []],
        count=2,
        settings=SelectionSettings(),
        relevance_threshold=0.2,
        seed=0,
    )
    assert sorted(own) == sorted(SELECTION_METHODS)
    assert own["clip"] == result["clip"]
    # Selected by other sentences, scored by the summaries': images 1 and 0 of the second article change places.
    swapped = ArticleEmbeddings([-rows for rows in EMBEDDINGS.sentences], EMBEDDINGS.images)
    other = compare_selections(
        "vrp",
        PREDICTIONS,
        swapped,
        EMBEDDINGS,
        [[1], [1], []],
        count=1,
        settings=SelectionSettings(),
        relevance_threshold=0.2,
        seed=0,
    )
    assert other["vrp"] == result["vrp"]
    assert other["clip"]["hit_at_1"] == 0.0


def test_embeddings_stay_with_their_articles(records, encoder_folder):
    encoder = DualEncoder(str(encoder_folder))
    texts = summary_sentences(["Two ships sank. A bridge was closed.", "", "Dr. Ash spoke."])
    assert texts == [["Two ships sank.", "A bridge was closed."], [], ["Dr. Ash spoke."]]
    embedded = embed_texts(encoder, texts)
    assert [len(part) for part in embedded] == [2, 0, 1]
    np.testing.assert_allclose(
        embedded[0][1:], encoder.embed_texts(["A bridge was closed."]), rtol=0, atol=8 * EPSILON
    )
    np.testing.assert_allclose(embedded[2], encoder.embed_texts(["Dr. Ash spoke."]), rtol=0, atol=8 * EPSILON)
    images = embed_images(encoder, records).rows
    assert [len(part) for part in images] == [len(record["images"]) for record in records]
    np.testing.assert_allclose(images[2], encoder.embed_images(records[2]["images"]), rtol=0, atol=8 * EPSILON)
    assert images[-1].shape == (0, images[0].shape[1])
