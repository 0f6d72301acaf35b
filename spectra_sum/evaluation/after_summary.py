"""Images selected by finished summaries, whatever system wrote them."""

from collections.abc import Sequence
from typing import Any

import datasets
from tqdm.auto import tqdm

from spectra_sum.records.article_images import UndecodedArticles
from spectra_sum.records.record_documents import document_of
from spectra_sum.selection.after_summary import ImageRanker
from spectra_sum.sentences import split_sentences


def select_after_summary(
    predictions: Sequence[dict[str, Any]], records: datasets.Dataset, ranker: ImageRanker
) -> list[dict[str, Any]]:
    """
    The predictions with the images that the ranker selects by their summaries; `broken_images` as in [`predict_summaries`].

    Args:
        predictions: In the records' order.
        records (`Dataset`): Their articles.
        ranker (`ImageRanker`): What compares images and their texts with a summary's sentences.
    """
    articles = UndecodedArticles(records)
    selected = []
    for row, prediction in enumerate(tqdm(predictions, desc="selection", unit="article", disable=None)):
        document, read = document_of(articles[row])
        ranking = ranker.rank(
            split_sentences(prediction["summary"]),
            [image.image for image in document.images],
            [image.caption for image in document.images],
            [image.alt for image in document.images],
        )
        places = [read.indices[place] for place in ranking.selected]
        prediction = {**prediction, "selected": places, "probabilities": []}
        if read.broken:
            prediction["broken_images"] = list(map(list, read.broken))
        selected.append(prediction)
    return selected
