"""Summaries and image selections for a whole dataset: the prediction format that every score reads."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from tqdm.auto import tqdm
from transformers import BatchFeature, PreTrainedModel, ProcessorMixin

from modeling_spectra.summarization import with_image_features

from ..records.article_images import BrokenImage, ReadImages, read_images, undecoded
from ..records.image_texts import captions_for


class BatchPredictions(NamedTuple):
    """What [`predict_batch`] makes of B articles.

    `predictions` are the entries that [`predict_summaries`] describes, and `tokens` (B, T), int64, the ids that were written
    after the prompts, padded behind their ends as generate does it.
    """

    predictions: list[dict[str, Any]]
    tokens: torch.Tensor


@torch.no_grad()
def predict_batch(
    model: PreTrainedModel,
    processor: ProcessorMixin,
    inputs: Mapping[str, torch.Tensor],
    article_ids: Sequence[str],
    select_images: bool = True,
    **generation: Any,
) -> BatchPredictions:
    """Write the summaries and select the images of one batch.

    Args:
        model (`SpectraSumForConditionalGeneration`): In evaluation mode.
        processor (`SpectraSumProcessor`): The model's own.
        inputs (`Mapping`): What the processor makes of B articles without summaries, on any device.
        article_ids (`Sequence[str]`): Their ids.
        select_images (`bool`, *optional*, defaults to `True`): False: no image is ranked, which not every vision tower can.
        generation: Arguments of `generate`; greedy search unless they say otherwise.
    """
    inputs = with_image_features(model, BatchFeature(dict(inputs)).to(model.device))
    sequences = model.generate(**inputs, **{"do_sample": False, **generation})
    length = inputs["input_ids"].shape[1]
    summaries = processor.decode_summaries(sequences, length)
    if not select_images:
        bare = {"selected": [], "probabilities": []}
        rows = zip(article_ids, summaries, strict=True)
        return BatchPredictions([{"id": name, "summary": text, **bare} for name, text in rows], sequences[:, length:])
    selection = model.select_images(**inputs)
    predictions = []
    for index, article_id in enumerate(article_ids):
        scored = int(inputs["image_mask"][index].sum()) if "image_mask" in inputs else 0
        predictions.append(
            {
                "id": article_id,
                "summary": summaries[index],
                "selected": selection.indices[index],
                "probabilities": selection.probabilities[index, :scored].tolist(),
            }
        )
    return BatchPredictions(predictions, sequences[:, length:])


def predict_summaries(
    model: PreTrainedModel,
    processor: ProcessorMixin,
    records: Sequence[dict[str, Any]],
    *,
    batch_size: int = 8,
    max_length: int = 2048,
    use_images: bool = True,
    progress: bool = True,
    select_images: bool = True,
    **generation: Any,
) -> list[dict[str, Any]]:
    """Write a summary and select images for every record.

    Args:
        model (`SpectraSumForConditionalGeneration`): Set to evaluation here and set back afterwards.
        processor (`SpectraSumProcessor`): The model's own.
        records: Articles with the columns id, title, article and images, and, for a model that reads captions, captions and
            alt_texts as far as there are any. A broken image is left out.
        batch_size (`int`, *optional*, defaults to `8`): Articles per batch.
        max_length (`int`, *optional*, defaults to `2048`): Most text tokens of a prompt.
        use_images (`bool`, *optional*, defaults to `True`): False withholds all images.
        progress (`bool`, *optional*, defaults to `True`): Show a progress bar.
        select_images (`bool`, *optional*, defaults to `True`): As of [`predict_batch`].
        generation: Arguments of `generate`; greedy search unless they say otherwise.

    Returns:
        Per record `{"id", "summary", "selected" (indices, best first), "probabilities" (one per scored image)}`. Where
        images are broken, their probabilities are `None`, and `"broken_images"` has them as lists of the fields of
        [`BrokenImage`].
    """
    was_training = model.training
    model.eval()
    predictions: list[dict[str, Any]] = []
    articles = undecoded(records)
    bar = tqdm(total=len(records), desc="summaries", unit="article", disable=not progress)
    for start in range(0, len(records), batch_size):
        batch = [articles[index] for index in range(start, min(start + batch_size, len(articles)))]
        read = [read_images(record, processor.max_candidate_images) for record in batch] if use_images else None
        inputs = processor(
            text=[record["article"] for record in batch],
            title=[record["title"] for record in batch],
            images=None if read is None else [article.images for article in read],
            captions=captions_for(processor, batch, read),
            max_length=max_length,
        )
        names = [record["id"] for record in batch]
        written = predict_batch(model, processor, inputs, names, select_images, **generation).predictions
        predictions += written if read is None else map(with_broken_images, written, read)
        bar.update(len(batch))
    bar.close()
    model.train(was_training)
    return predictions


def with_broken_images(prediction: dict[str, Any], read: ReadImages) -> dict[str, Any]:
    """
    A prediction on the images that could be read → the prediction that counts all images of the article.

    Args:
        prediction (`dict`): An entry of [`predict_batch`].
        read (`ReadImages`): What the batch was made of.
    """
    if not read.broken:
        return prediction
    probabilities = prediction["probabilities"]
    scores = dict(zip(read.indices, probabilities, strict=True)) if probabilities else {}
    return {
        **prediction,
        "selected": [read.indices[place] for place in prediction["selected"]],
        "probabilities": [scores.get(index) for index in range(len(read.indices) + len(read.broken)) if scores],
        "broken_images": list(map(list, read.broken)),
    }


def met_broken_images(predictions: Sequence[dict[str, Any]]) -> list[BrokenImage]:
    """The broken images that [`predict_summaries`] met."""
    return [BrokenImage(*fields) for prediction in predictions for fields in prediction.get("broken_images", ())]
