"""The summaries of pretrained models, by the summarizer of `spectra-sum summarize`, for a whole split."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
from accelerate import PartialState

from spectra_sum.documents.parts import DocumentError
from spectra_sum.evaluation.systems.resumable_prediction import predict_in_batches, seconds_per_article
from spectra_sum.evaluation.systems.sources import SystemOutput, keep_to_settings, model_identity
from spectra_sum.models.dual_encoder import load_dual_encoder
from spectra_sum.models.loading import LoadedModel
from spectra_sum.models.sources import DEFAULT_TEXT_ENCODER
from spectra_sum.records.record_documents import document_of
from spectra_sum.summaries.on_demand.encoder import EncoderOnDemand
from spectra_sum.summaries.options import SummaryOptions
from spectra_sum.summaries.summarizer import Summarizer
from spectra_sum.summaries.summary_sentences import EXTRACTED

# Remarks of the summarizer that are counted, by what the results call them.
COUNTED = {
    "long_document": "bodies_read_in_extracts",
    "body_cut": "bodies_cut",
    "image_limit": "articles_with_images_not_shown",
    "summary_cut": "summaries_cut",
    "degenerate_summary": "degenerate_summaries",
    "not_ranked": "articles_with_images_not_ranked",
}


@dataclass(frozen=True)
class SummarySettings:
    """What a summarizer is made of beside its model.

    Attributes:
        options: How it summarizes.
        text_encoder: For long documents, captions and alternative texts.
        vision: Folder or Hub id of a dual encoder; None for image selection by texts alone.
    """

    options: SummaryOptions = SummaryOptions()
    text_encoder: str = DEFAULT_TEXT_ENCODER
    vision: str | None = None


def from_summarizer(
    loaded: LoadedModel,
    source: str,
    records: datasets.Dataset,
    folder: Path,
    settings: SummarySettings,
    *,
    batch_size: int,
    text_only: bool,
    quantize: str | None,
    articles_sha256: str,
) -> SystemOutput:
    """A pretrained model's summaries, with the images that are selected after them; resumed from `folder`.

    Args:
        loaded (`LoadedModel`): The model.
        source (`str`): What it was loaded by.
        records (`Dataset`): The articles.
        folder (`Path`): Where finished batches are kept.
        settings (`SummarySettings`): How it summarizes.
        batch_size (`int`): Articles that are written at once.
        text_only (`bool`): Withhold images and captions.
        quantize (`str`, *optional*): How it was loaded.
        articles_sha256 (`str`): What tells the records from others.

    Raises:
        ValueError: when the folder holds predictions of other settings, or an article cannot be summarized.
    """
    encoder = EncoderOnDemand(settings.text_encoder)
    vision = load_dual_encoder(settings.vision) if settings.vision else None
    summarizer = Summarizer(loaded, settings.options, encoder, vision=vision)
    summarizer.model.to(PartialState().device)
    recorded = {
        **summarizer.options.to_dict(),
        "text_encoder": settings.text_encoder,
        "vision": settings.vision,
        "batch_size": batch_size,
        "text_only": text_only,
        "quantize": quantize,
    }
    identity = {**model_identity(source, loaded), "articles_sha256": articles_sha256}
    keep_to_settings(folder / "settings.json", {**recorded, **identity})

    def predict(articles: list[dict[str, Any]]) -> list[dict[str, Any]]:
        made = [document_of(article, use_images=not text_only) for article in articles]
        summaries = summarizer.summarize_batch([entry.document for entry in made])
        predictions = []
        for article, entry, summary in zip(articles, made, summaries, strict=True):
            if isinstance(summary, DocumentError):
                raise ValueError(f"article {summary}")
            prediction = {
                "id": article["id"],
                "summary": summary.summary,
                "selected": [entry.read.indices[place] for place in summary.selected],
                "probabilities": [],
                "remarks": [problem.kind for problem in summary.problems],
                "extracted": [sentence.origin == EXTRACTED for sentence in summary.sentences],
            }
            if entry.read.broken:
                prediction["broken_images"] = list(map(list, entry.read.broken))
            predictions.append(prediction)
        return predictions

    predictions = predict_in_batches(predict, records, folder, batch_size=batch_size, seed=settings.options.seed or 0)
    remarks = Counter(kind for prediction in predictions for kind in set(prediction.pop("remarks")))
    dropped = {label: remarks[kind] for kind, label in COUNTED.items() if remarks[kind]}
    extracted = [mark for prediction in predictions for mark in prediction.pop("extracted")]
    if any(extracted):
        dropped["sentences_extracted"] = sum(extracted)
        dropped["sentences"] = len(extracted)
    return SystemOutput(
        predictions,
        loaded.model.config.max_selected_images,
        dropped=dropped,
        settings=recorded,
        notes=[loaded.notice] if loaded.notice else [],
        seconds=seconds_per_article(folder),
    )
