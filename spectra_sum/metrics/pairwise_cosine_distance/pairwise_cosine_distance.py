"""Pairwise cosine distance (PCD) of selected images, as an `evaluate` module."""

from __future__ import annotations

from functools import partial
from statistics import fmean
from typing import TYPE_CHECKING, Any

import evaluate
import numpy as np

from .article_embeddings import INPUTS_DESCRIPTION, SimilarityInputs, embed_articles, similarity_features
from .dual_encoder import DualEncoder

# The two above read images by it, and evaluate fetches only what this module itself imports.
from .rgb_images import flat_rgb as flat_rgb

if TYPE_CHECKING:
    from transformers import PreTrainedModel, ProcessorMixin

_DESCRIPTION = """
Diversity of the selected images: PCD(i, j) = 1 - cos(image i, image j) for every unordered pair of an article's selected
images. `pcd_mean` and `pcd_max` are the mean and the largest distance of an article, averaged over the articles with at
least two selected images (Ali et al., "Towards Visually Grounded Multimodal Summarization via Cross-Modal Transformer and
Gated Attention", arXiv 2605.11753). In [0, 2]; the paper prints them times 100.

Unrelated images are diverse too. So `pcd_mean_filtered` and `pcd_max_filtered` first drop the images whose relevance, the
largest cosine to a sentence of the summary, is under `relevance_threshold`, and average over the articles that keep at
least two; an image exactly at the threshold stays. Without text in the summary no image is relevant. The paper does not
give its threshold; cosines of SigLIP are far smaller than those of CLIP, so choose it for the encoder.

An article without images, or with fewer than two selected (or left by the filter), has no pair: it is left out and counted.
Equal images have distance 0. There are no ties to break, and the order of the images does not matter.
"""
_CITATION = """
@article{ali-etal-spectra-sum,
    title = "Towards Visually Grounded Multimodal Summarization via Cross-Modal Transformer and Gated Attention",
    author = "Ali and Moll{\\'a}-Aliod and Naseem", journal = "arXiv:2605.11753"}
"""
_KWARGS_DESCRIPTION = f"""{INPUTS_DESCRIPTION}
    relevance_threshold (`float`, *optional*, defaults to 0.2): Cosine in [-1, 1] under which the filter drops an image.

Returns:
    `pcd_mean`, `pcd_max`, `pcd_mean_filtered`, `pcd_max_filtered` (the filtered ones are `None` when the filter leaves no
    article a pair); `articles` and `articles_filtered`: how many were averaged; `articles_undefined` and
    `articles_filtered_undefined`: how many have images, but no pair; `articles_without_images`: how many have no images;
    `images`: how many are selected in all; `images_filtered_out`: how many of them the filter dropped;
    `empty_selections`, `empty_summaries`: how many articles with images selected nothing, or say nothing; `texts_cut`
    (only with `model`): sentences that were cut at the text tower's length.

Raises:
    ValueError: no article has two selected images, or an input cannot be used; the message names the article.
"""


@evaluate.utils.file_utils.add_start_docstrings(_DESCRIPTION, _KWARGS_DESCRIPTION)
class PairwiseCosineDistance(SimilarityInputs, evaluate.Metric):
    """Mean and largest cosine distance among selected images, with and without a filter by relevance."""

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
        relevance_threshold: float = 0.2,
        per_example: bool = False,
    ) -> dict[str, Any]:
        if not -1.0 <= relevance_threshold <= 1.0:
            raise ValueError(
                f"pairwise_cosine_distance: relevance_threshold is a cosine in [-1, 1], got {relevance_threshold}."
            )
        load_encoder = partial(DualEncoder, model, processor, device) if model else None
        articles, cut = embed_articles(self.name, predictions, references, load_encoder, batch_size)
        scores: dict[str, list[float | None]] = {
            name: [] for name in ("pcd_mean", "pcd_max", "pcd_mean_filtered", "pcd_max_filtered")
        }
        images = relevant_images = 0
        for article in articles:
            selected = np.empty((0, 0)) if article.images is None else article.images
            relevant = selected[:0]
            if len(selected) and len(article.sentences):
                relevance = (article.sentences @ selected.T).max(axis=0)
                relevant = selected[relevance >= relevance_threshold]
            images += len(selected)
            relevant_images += len(relevant)
            for suffix, rows in (("", selected), ("_filtered", relevant)):
                distances = _distances(rows)
                scores[f"pcd_mean{suffix}"].append(fmean(distances) if distances else None)
                scores[f"pcd_max{suffix}"].append(max(distances, default=None))
        defined = {name: [value for value in values if value is not None] for name, values in scores.items()}
        if not defined["pcd_mean"]:
            raise ValueError(
                "pairwise_cosine_distance: no article has two selected images; there is nothing to average over."
            )
        with_images = [article for article in articles if article.images is not None]
        count, count_filtered = len(defined["pcd_mean"]), len(defined["pcd_mean_filtered"])
        result: dict[str, Any] = {
            **{name: fmean(values) if values else None for name, values in defined.items()},
            "articles": count,
            "articles_filtered": count_filtered,
            "articles_undefined": len(with_images) - count,
            "articles_filtered_undefined": len(with_images) - count_filtered,
            "articles_without_images": len(articles) - len(with_images),
            "images": images,
            "images_filtered_out": images - relevant_images,
            "empty_selections": sum(not len(article.images) for article in with_images),
            "empty_summaries": sum(not len(article.sentences) for article in with_images),
            **cut,
        }
        if per_example:
            result["per_example"] = scores
        return result


def _distances(rows: np.ndarray) -> list[float]:
    if len(rows) < 2:
        return []
    return (1.0 - np.clip(rows @ rows.T, -1.0, 1.0))[np.triu_indices(len(rows), k=1)].tolist()
