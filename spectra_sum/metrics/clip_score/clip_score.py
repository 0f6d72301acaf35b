"""CLIPScore of multimodal summaries, as an `evaluate` module."""

from __future__ import annotations

import math
from functools import partial
from statistics import fmean
from typing import TYPE_CHECKING, Any

import evaluate
import numpy as np

from .article_embeddings import (
    INPUTS_DESCRIPTION,
    EmbeddedArticle,
    SimilarityInputs,
    embed_articles,
    similarity_features,
)
from .dual_encoder import DualEncoder

# The two above read images by it, and evaluate fetches only what this module itself imports.
from .rgb_images import flat_rgb as flat_rgb

if TYPE_CHECKING:
    from transformers import PreTrainedModel, ProcessorMixin

_DESCRIPTION = """
CLIPScore = weight * max(cos(summary, image), 0) with weight 2.5, the mean over the selected images of an article, then the
mean over the articles that have images (Hessel et al., "CLIPScore: A Reference-free Evaluation Metric for Image
Captioning", EMNLP 2021). In [0, weight]; papers print it times 100. Each image's cosine is cut at 0 by itself.

The embedding of the summary is the normalised mean of the unit embeddings of its sentences: a text tower reads 64 to 77
tokens, so a whole summary does not fit. (Torchmetrics' functional form has the weight 100 and cuts only the mean over all
pairs at 0.)

An article without images is left out and counted. With images of which none is selected, or with a summary without text,
an article scores 0 and is counted. With one image it is that image's score. There are no ties to break, and the order of
the sentences and images does not matter.
"""
_CITATION = """
@inproceedings{hessel-etal-2021-clipscore,
    title = "{CLIPS}core: A Reference-free Evaluation Metric for Image Captioning",
    author = "Hessel, Jack and Holtzman, Ari and Forbes, Maxwell and Le Bras, Ronan and Choi, Yejin",
    booktitle = "Proceedings of EMNLP", year = "2021"}
"""
_KWARGS_DESCRIPTION = f"""{INPUTS_DESCRIPTION}
    weight (`float`, *optional*, defaults to 2.5): The factor of the score, positive.

Returns:
    `clip_score`; `articles`: how many were averaged; `articles_without_images`: how many were left out;
    `empty_selections` and `empty_summaries`: how many of the averaged ones selected nothing, or say nothing (an article
    may be both); `texts_cut` (only with `model`): sentences that were cut at the text tower's length.

Raises:
    ValueError: no article has images, an input cannot be used, or the embeddings of a summary's sentences cancel out; the
        message names the article.
"""


@evaluate.utils.file_utils.add_start_docstrings(_DESCRIPTION, _KWARGS_DESCRIPTION)
class ClipScore(SimilarityInputs, evaluate.Metric):
    """The weighted cosine of a summary and its images, averaged over the articles with images."""

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation=_CITATION,
            inputs_description=_KWARGS_DESCRIPTION,
            features=similarity_features(),
        )

    def _compute(
        self,
        predictions: list,
        references: list,
        model: str | PreTrainedModel | None = None,
        processor: ProcessorMixin | None = None,
        device: str = "cpu",
        batch_size: int = 32,
        weight: float = 2.5,
        per_example: bool = False,
    ) -> dict[str, Any]:
        if not (math.isfinite(weight) and weight > 0):
            raise ValueError(f"clip_score: weight must be a positive number, got {weight}.")
        load_encoder = partial(DualEncoder, model, processor, device) if model else None
        articles, cut = embed_articles(self.name, predictions, references, load_encoder, batch_size)
        scores = [_article_score(index, article, weight) for index, article in enumerate(articles)]
        averaged = [article for article in articles if article.images is not None]
        result: dict[str, Any] = {
            "clip_score": fmean(score for score in scores if score is not None),
            "articles": len(averaged),
            "articles_without_images": len(articles) - len(averaged),
            "empty_selections": sum(not len(article.images) for article in averaged),
            "empty_summaries": sum(not len(article.sentences) for article in averaged),
            **cut,
        }
        if per_example:
            result["per_example"] = {"clip_score": scores}
        return result


def _article_score(index: int, article: EmbeddedArticle, weight: float) -> float | None:
    if article.images is None:
        return None
    if not len(article.images) or not len(article.sentences):
        return 0.0
    summary = article.sentences.mean(axis=0)
    length = np.linalg.norm(summary)
    # Opposite sentences leave only round-off, whose direction means nothing.
    if length < 1e-12:
        raise ValueError(
            f"clip_score: article {index}: its sentences' embeddings cancel out, so the summary has no embedding."
        )
    return weight * fmean(np.clip(article.images @ (summary / length), 0.0, 1.0).tolist())
