"""Summaries and image selections for a whole dataset: the prediction format that every score reads."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from tqdm.auto import tqdm
from transformers import BatchFeature, PreTrainedModel, ProcessorMixin

from modeling_spectra.summarization import with_image_features


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
    **generation: Any,
) -> BatchPredictions:
    """Write the summaries and select the images of one batch.

    Args:
        model (`SpectraSumForConditionalGeneration`): In evaluation mode.
        processor (`SpectraSumProcessor`): The model's own.
        inputs (`Mapping`): What the processor makes of B articles without summaries, on any device.
        article_ids (`Sequence[str]`): Their ids.
        generation: Arguments of `generate`; greedy search unless they say otherwise.
    """
    inputs = with_image_features(model, BatchFeature(dict(inputs)).to(model.device))
    sequences = model.generate(**inputs, **{"do_sample": False, **generation})
    length = inputs["input_ids"].shape[1]
    summaries = processor.decode_summaries(sequences, length)
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
    **generation: Any,
) -> list[dict[str, Any]]:
    """Write a summary and select images for every record.

    Args:
        model (`SpectraSumForConditionalGeneration`): Set to evaluation here and set back afterwards.
        processor (`SpectraSumProcessor`): The model's own.
        records: Articles with the columns id, title, article and images.
        batch_size (`int`, *optional*, defaults to `8`): Articles per batch.
        max_length (`int`, *optional*, defaults to `2048`): Most text tokens of a prompt.
        use_images (`bool`, *optional*, defaults to `True`): False withholds all images.
        progress (`bool`, *optional*, defaults to `True`): Show a progress bar.
        generation: Arguments of `generate`; greedy search unless they say otherwise.

    Returns:
        Per record `{"id", "summary", "selected" (indices, best first), "probabilities" (one per scored image)}`.
    """
    was_training = model.training
    model.eval()
    predictions: list[dict[str, Any]] = []
    bar = tqdm(total=len(records), desc="summaries", unit="article", disable=not progress)
    for start in range(0, len(records), batch_size):
        batch = [records[index] for index in range(start, min(start + batch_size, len(records)))]
        inputs = processor(
            text=[record["article"] for record in batch],
            title=[record["title"] for record in batch],
            images=[record["images"] for record in batch] if use_images else None,
            max_length=max_length,
        )
        predictions += predict_batch(
            model, processor, inputs, [record["id"] for record in batch], **generation
        ).predictions
        bar.update(len(batch))
    bar.close()
    model.train(was_training)
    return predictions
