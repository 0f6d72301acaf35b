"""Images chosen after the summary, from its text: by their pixels, their captions and their alternative texts."""

from collections.abc import Sequence
from functools import cached_property
from typing import NamedTuple, Protocol

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from spectra_sum.selection.background_sentences import BACKGROUND_SENTENCES
from spectra_sum.selection.methods import SelectionSettings, select_by_relevance
from spectra_sum.selection.ranking import best
from spectra_sum.selection.standard_scores import standard_scores

# What each is called among the methods of `methods.py`.
RANKER_METHODS = {"dpp-map": "dpp-map", "mmr": "mmr", "relevance": "clip"}
VISION, CAPTION, ALT = "vision", "caption", "alt"
# Whose pixels are compared.
EVERY_IMAGE, WITHOUT_TEXTS = "every_image", "without_texts"
PIXELS = (EVERY_IMAGE, WITHOUT_TEXTS)
# For relevance in standard scores. β is that of §5, 20 per cosine: SigLIP's cosines spread by .035, which makes .7 per
# standard deviation. λ balances scores that spread by about 1.4 with cosines between images. On validation sections of
# msmo_openstax precision is level from β = .35 and λ = .2 on.
RANKER_SETTINGS = SelectionSettings(beta=0.7, mmr_trade_off=0.3)


class SentenceEmbeddings(Protocol):
    """What the ranker needs of a sentence encoder, such as [`~spectra_sum.models.text_encoder.TextEncoder`]."""

    def embed(self, texts: Sequence[str]) -> Tensor:
        """L2-normalised embeddings (N, d)."""


class JointEmbeddings(Protocol):
    """What it needs of a dual encoder, such as [`~spectra_sum.metrics.dual_encoder.DualEncoder`]."""

    def embed_texts(self, texts: Sequence[str]) -> np.ndarray:
        """L2-normalised embeddings (N, d)."""

    def embed_images(self, images: Sequence[Image.Image]) -> np.ndarray:
        """L2-normalised embeddings (N, d)."""


class ImageRanking(NamedTuple):
    """
    The images of one document, ranked; lists about images are in the order given.

    Attributes:
        scores (`list[float | None]`): Relevance to the summary in standard scores, see [`ImageRanker`]; `None` for images
            that are not ranked.
        selected (`list[int]`): Indices of the selected images, best first.
        sentences (`list[int | None]`): For each image the index of the sentence that it belongs to.
        ranked_by (`list[str | None]`): What decided: `"vision"`, `"caption"` or `"alt"`.
    """

    scores: list[float | None]
    selected: list[int]
    sentences: list[int | None]
    ranked_by: list[str | None]


class _Items(NamedTuple):
    """Images, captions or alternative texts of a document, as one encoder sees them."""

    images: list[int]
    kinds: list[str]
    embeds: Tensor
    scores: Tensor


class ImageRanker:
    """
    Ranks a document's images by its summary, and selects.

    An image is as relevant as what of it comes nearest to a sentence: its pixels by a dual encoder, its caption or its
    alternative text, read whole, by a sentence encoder. Cosines of unlike encoders cannot be compared; scores are
    therefore standard scores ([`standard_scores`]): by how many standard deviations the cosine exceeds this encoder's
    cosines between the document's images (or texts) and sentences about other things. Figures of textbook sections have a
    median of 6 by their texts and their own section's summary, figures of other sections of the book 3. An encoder to
    which images and sentences are all alike rarely exceeds that, and so leaves the word to the other.

    An image's likeness to another is the cosine of their pixels' embeddings where both have one, else that of the texts
    that rank them; between the one and the other kind it is taken to be 0.

    Args:
        text_encoder (`TextEncoder`, *optional*): Embeds captions, alternative texts and sentences. Without one these texts
            are not read.
        vision (`DualEncoder`, *optional*): Embeds images and sentences. Without one pixels are not read.
        method (`str`, *optional*, defaults to `"dpp-map"`): `"dpp-map"`, `"mmr"` or `"relevance"`, as in
            [`~spectra_sum.selection.methods.select`], where relevance alone is called clip.
        count (`int`, *optional*, defaults to `3`): Most images that are selected.
        settings (`SelectionSettings`, *optional*, defaults to `RANKER_SETTINGS`): Numbers of the methods, for standard
            scores.
        pixels (`str`, *optional*, defaults to `"every_image"`): Whose pixels `vision` compares: those of every image, or
            `"without_texts"`, of images that no text ranks. For an encoder that is far less sure than texts are.

    Raises:
        ValueError: An unknown method or value of `pixels`, or a count under 1.
    """

    def __init__(
        self,
        text_encoder: SentenceEmbeddings | None = None,
        vision: JointEmbeddings | None = None,
        method: str = "dpp-map",
        count: int = 3,
        settings: SelectionSettings = RANKER_SETTINGS,
        pixels: str = EVERY_IMAGE,
    ):
        if method not in RANKER_METHODS:
            raise ValueError(f"unknown selection method {method!r}; known are {', '.join(RANKER_METHODS)}")
        if count < 1:
            raise ValueError(f"count must be at least 1, got {count}")
        if pixels not in PIXELS:
            raise ValueError(f"unknown value of pixels {pixels!r}; known are {', '.join(PIXELS)}")
        self.text_encoder = text_encoder
        self.vision = vision
        self.method = method
        self.count = count
        self.settings = settings
        self.pixels = pixels

    def rank(
        self,
        sentences: Sequence[str],
        images: Sequence[Image.Image | None],
        captions: Sequence[str],
        alts: Sequence[str],
    ) -> ImageRanking:
        """
        Ranks the N images of a document.

        Args:
            sentences (`Sequence[str]`): The summary's. Blank ones are passed over; without any other nothing is ranked.
            images (`Sequence[PIL.Image.Image | None]` of length N): `None` for one that cannot be read, which its texts
                may still rank.
            captions (`Sequence[str]` of length N): Empty where there is none.
            alts (`Sequence[str]` of length N): Alternative texts, likewise.

        Raises:
            ValueError: Lists of different lengths, or an encoder whose embeddings are not finite.
        """
        count = len(images)
        if len(captions) != count or len(alts) != count:
            raise ValueError(
                f"images, captions and alts do not agree: {count}, {len(captions)} and {len(alts)}; give one of each "
                "per image, an empty text where there is none"
            )
        ranking = ImageRanking([None] * count, [], [None] * count, [None] * count)
        places = [index for index, sentence in enumerate(sentences) if sentence.strip()]
        read = [sentences[index] for index in places]
        groups = self._compare(read, images, captions, alts) if read else []
        rows: dict[int, tuple[int, Tensor]] = {}
        for group, items in enumerate(groups):
            for image, kind, embed, scores in zip(*items, strict=True):
                sentence = best(scores)
                score = scores[sentence].item()
                current = ranking.scores[image]
                if current is None or score > current:
                    ranking.scores[image] = score
                    ranking.sentences[image] = places[sentence]
                    ranking.ranked_by[image] = kind
                    # Pixels come first, and are compared wherever there are any.
                    if image not in rows or rows[image][0] == group:
                        rows[image] = group, embed
        ranking.selected.extend(self._select(ranking.scores, rows))
        return ranking

    def _compare(
        self,
        sentences: Sequence[str],
        images: Sequence[Image.Image | None],
        captions: Sequence[str],
        alts: Sequence[str],
    ) -> list[_Items]:
        """What there is of the images, by the encoders that there are, with the scores of each to each sentence."""
        groups = []
        seen = [index for index, image in enumerate(images) if image is not None]
        if self.pixels == WITHOUT_TEXTS and self.text_encoder is not None:
            seen = [index for index in seen if not (captions[index].strip() or alts[index].strip())]
        if self.vision is not None and seen:
            embeds = torch.from_numpy(self.vision.embed_images([images[index] for index in seen])).double()
            targets = torch.from_numpy(self.vision.embed_texts(sentences)).double()
            scores = standard_scores(embeds @ targets.mT, embeds @ self._vision_background.mT)
            groups.append(_Items(seen, [VISION] * len(seen), embeds, scores))
        texts = [
            (index, kind, text.strip())
            for kind, given in ((CAPTION, captions), (ALT, alts))
            for index, text in enumerate(given)
            if text.strip()
        ]
        if self.text_encoder is not None and texts:
            owners, kinds, read = map(list, zip(*texts, strict=True))
            embeds, targets = self.text_encoder.embed(read).double(), self.text_encoder.embed(sentences).double()
            scores = standard_scores(embeds @ targets.mT, embeds @ self._text_background.mT)
            groups.append(_Items(owners, kinds, embeds, scores))
        return groups

    def _select(self, scores: Sequence[float | None], rows: dict[int, tuple[int, Tensor]]) -> list[int]:
        """Among the images that are ranked; `rows` has of each the group of its embedding, and the embedding."""
        ranked = sorted(rows)
        if not ranked:
            return []
        widths = {group: len(embed) for group, embed in rows.values()}
        starts = dict(zip(widths, np.cumsum([0, *widths.values()]).tolist(), strict=False))
        # Each group has dimensions of its own, so that cosines between groups are 0.
        embeds = torch.zeros(len(ranked), sum(widths.values()), dtype=torch.float64)
        for place, image in enumerate(ranked):
            group, embed = rows[image]
            embeds[place, starts[group] : starts[group] + len(embed)] = embed
        relevance = torch.tensor([scores[image] for image in ranked], dtype=torch.float64)
        method = RANKER_METHODS[self.method]
        chosen = select_by_relevance(method, embeds, relevance, count=self.count, settings=self.settings, seed=0)
        return [ranked[index] for index in chosen.indices]

    @cached_property
    def _vision_background(self) -> Tensor:
        return torch.from_numpy(self.vision.embed_texts(BACKGROUND_SENTENCES)).double()

    @cached_property
    def _text_background(self) -> Tensor:
        return self.text_encoder.embed(BACKGROUND_SENTENCES).double()
