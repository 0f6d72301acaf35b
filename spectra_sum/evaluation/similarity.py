"""Embeddings of summaries and images by a dual encoder, and image selections that rest on them."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from datasets import Dataset
from tqdm.auto import tqdm

from spectra_sum.evaluation.scores import ArticleEmbeddings
from spectra_sum.metrics.dual_encoder import DualEncoder
from spectra_sum.records.article_images import BrokenImage, UndecodedArticles, read_images
from spectra_sum.seeds import stable_seed
from spectra_sum.selection.methods import SelectionSettings, select
from spectra_sum.sentences import split_sentences


def embed_texts(encoder: DualEncoder, texts: Sequence[Sequence[str]]) -> list[np.ndarray]:
    """Unit vectors (S, D) of every article's sentences; (0, D) where there are none."""
    rows = encoder.embed_texts([sentence for sentences in texts for sentence in sentences])
    return np.split(rows, np.cumsum([len(sentences) for sentences in texts])[:-1])


class ImageEmbeddings(NamedTuple):
    """Unit vectors (N, D) of every article's readable images, (0, D) where there are none; their places among the article's
    images; and the images that are broken."""

    rows: list[np.ndarray]
    indices: list[list[int]]
    broken: list[BrokenImage]

    def of(self, kept: Sequence[Sequence[int]]) -> list[np.ndarray]:
        """The unit vectors of the images at the given places alone, which must be readable."""
        return [
            rows if list(wanted) == indices else rows[[indices.index(index) for index in wanted]]
            for rows, indices, wanted in zip(self.rows, self.indices, kept, strict=True)
        ]


def embed_images(encoder: DualEncoder, records: Dataset) -> ImageEmbeddings:
    """Embeds the images of all articles (columns id and images), as models see them."""
    rows, indices, broken = [], [], []
    articles = UndecodedArticles(records.select_columns(["id", "images"]))
    for index in tqdm(range(len(articles)), desc="embedding images", unit="article", disable=None):
        read = read_images(articles[index])
        rows.append(encoder.embed_images(read.images))
        indices.append(read.indices)
        broken += read.broken
    return ImageEmbeddings(rows, indices, broken)


def summary_sentences(summaries: Sequence[str]) -> list[list[str]]:
    """The sentences of each summary."""
    return [split_sentences(summary) for summary in summaries]


def reselect(
    method: str,
    predictions: Sequence[dict[str, Any]],
    embeddings: ArticleEmbeddings,
    *,
    count: int,
    settings: SelectionSettings,
    seed: int,
) -> list[dict[str, Any]]:
    """The predictions with the images that a method of [`select`] selects for them.

    Args:
        method (`str`): One of `SELECTION_METHODS`.
        embeddings (`ArticleEmbeddings`): Its sentences are what images are to be relevant to.
        count (`int`): Images per article.
        settings (`SelectionSettings`): The methods' parameters.
        seed (`int`): For random selection: an article's draw depends on it and on the article's id alone.
    """
    changed = []
    for index, prediction in enumerate(predictions):
        chosen = select(
            method,
            torch.from_numpy(embeddings.images[index]),
            torch.from_numpy(embeddings.sentences[index]),
            count=count,
            settings=settings,
            seed=stable_seed(seed, prediction["id"]),
        )
        # Only the teacher's scores are probabilities.
        probabilities = [float(score) for score in chosen.scores] if method == "teacher" else []
        changed.append({**prediction, "selected": chosen.indices, "probabilities": probabilities})
    return changed
