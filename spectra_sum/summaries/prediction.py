"""Summaries and image selections for a whole dataset: the prediction format that every score reads."""

from collections.abc import Sequence
from typing import Any

import torch
from tqdm.auto import tqdm
from transformers import PreTrainedModel, ProcessorMixin

from modeling_spectra.summarization import with_image_features


@torch.no_grad()
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
        inputs = with_image_features(model, inputs.to(model.device))
        sequences = model.generate(**inputs, **{"do_sample": False, **generation})
        summaries = processor.decode_summaries(sequences, inputs["input_ids"].shape[1])
        selection = model.select_images(**inputs)
        for index, record in enumerate(batch):
            scored = int(inputs["image_mask"][index].sum()) if "image_mask" in inputs else 0
            predictions.append(
                {
                    "id": record["id"],
                    "summary": summaries[index],
                    "selected": selection.indices[index],
                    "probabilities": selection.probabilities[index, :scored].tolist(),
                }
            )
        bar.update(len(batch))
    bar.close()
    model.train(was_training)
    return predictions
