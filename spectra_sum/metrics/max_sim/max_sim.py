"""MaxSim of multimodal summaries, as an `evaluate` module."""

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
MaxSim = the largest cosine between a sentence of the summary and a selected image in the joint space of a dual encoder,
averaged over the articles that have images (Zhu et al., "MSMO: Multimodal Summarization with Multimodal Output", EMNLP
2018, who used the retrieval model VSE++; here any SigLIP, SigLIP 2 or CLIP). In [-1, 1]; papers print it times 100.

An article without images is left out and counted. With images of which none is selected, or with a summary without text,
an article scores 0 and is counted. With one image it is the best sentence's cosine. Ties do not matter to a maximum, nor
does the order of the sentences and images.
"""
_CITATION = """
@inproceedings{zhu-etal-2018-msmo,
    title = "{MSMO}: Multimodal Summarization with Multimodal Output",
    author = "Zhu, Junnan and Li, Haoran and Liu, Tianshang and Zhou, Yu and Zhang, Jiajun and Zong, Chengqing",
    booktitle = "Proceedings of EMNLP", year = "2018"}
"""
_KWARGS_DESCRIPTION = f"""{INPUTS_DESCRIPTION}
Returns:
    `max_sim`; `articles`: how many were averaged; `articles_without_images`: how many were left out; `empty_selections`
    and `empty_summaries`: how many of the averaged ones selected nothing, or say nothing (an article may be both);
    `texts_cut` (only with `model`): sentences that were cut at the text tower's length.

Raises:
    ValueError: no article has images, or an input cannot be used; the message names the article.
"""


@evaluate.utils.file_utils.add_start_docstrings(_DESCRIPTION, _KWARGS_DESCRIPTION)
class MaxSim(SimilarityInputs, evaluate.Metric):
    """The largest cosine of a summary's sentences and its images, averaged over the articles with images."""

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
        per_example: bool = False,
    ) -> dict[str, Any]:
        load_encoder = partial(DualEncoder, model, processor, device) if model else None
        articles, cut = embed_articles(self.name, predictions, references, load_encoder, batch_size)
        scores: list[float | None] = []
        for article in articles:
            if article.images is None:
                scores.append(None)
            elif len(article.images) and len(article.sentences):
                scores.append(float(np.clip(article.sentences @ article.images.T, -1.0, 1.0).max()))
            else:
                scores.append(0.0)
        averaged = [article for article in articles if article.images is not None]
        result: dict[str, Any] = {
            "max_sim": fmean(score for score in scores if score is not None),
            "articles": len(averaged),
            "articles_without_images": len(articles) - len(averaged),
            "empty_selections": sum(not len(article.images) for article in averaged),
            "empty_summaries": sum(not len(article.sentences) for article in averaged),
            **cut,
        }
        if per_example:
            result["per_example"] = {"max_sim": scores}
        return result
