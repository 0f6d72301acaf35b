"""Embeddings of summaries and images by a dual encoder, and image selections that rest on them."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from PIL import Image
from tqdm.auto import tqdm

from modeling_spectra.rgb_images import DECODING_ERRORS, flat_rgb
from spectra_sum.evaluation.scores import ArticleEmbeddings
from spectra_sum.metrics.dual_encoder import DualEncoder
from spectra_sum.seeds import stable_seed
from spectra_sum.selection.methods import SelectionSettings, select
from spectra_sum.sentences import split_sentences


def embed_texts(encoder: DualEncoder, texts: Sequence[Sequence[str]]) -> list[np.ndarray]:
    """Unit vectors (S, D) of every article's sentences; (0, D) where there are none."""
    rows = encoder.embed_texts([sentence for sentences in texts for sentence in sentences])
    return np.split(rows, np.cumsum([len(sentences) for sentences in texts])[:-1])


def embed_images(encoder: DualEncoder, records: Dataset) -> list[np.ndarray]:
    """Unit vectors (N, D) of every article's images, as the model sees them; (0, D) where there are none.

    Raises:
        ValueError: An image cannot be read; it names the article.
    """
    records = records.select_columns(["id", "images"])
    embeddings = []
    for index in tqdm(range(len(records)), desc="embedding images", unit="article", disable=None):
        embeddings.append(encoder.embed_images(_images(records, index)))
    return embeddings


def _images(records: Dataset, index: int) -> list[Image.Image]:
    try:
        return [flat_rgb(image) for image in records[index]["images"]]
    except DECODING_ERRORS as error:
        identifier = records.select_columns(["id"])[index]["id"]
        raise ValueError(f"article {identifier}: cannot read one of its images: {error}") from error


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
