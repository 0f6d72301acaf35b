"""The systems that can be evaluated: a model, a file of predictions, or a baseline; each gives predictions."""

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import datasets
from tqdm.auto import tqdm

from spectra_sum.atomic_write import write_text_atomically
from spectra_sum.evaluation.choices import EXTRACTS, WORD_BASELINES
from spectra_sum.evaluation.prediction_files import read_predictions
from spectra_sum.evaluation.systems.baselines import SENTENCES, extract_words, lead, lead_words, oracle
from spectra_sum.evaluation.systems.resumable_prediction import (
    predict_in_batches,
    predict_resumably,
    seconds_per_article,
)
from spectra_sum.models.kinds import DEFAULT, SMOLLM2
from spectra_sum.models.loading import LoadedModel
from spectra_sum.models.sources import DEFAULT_TEXT_ENCODER, find_smollm2
from spectra_sum.models.text_encoder import load_text_encoder
from spectra_sum.msmo.sources import image_counts
from spectra_sum.records.image_texts import image_texts, texts_digest
from spectra_sum.summaries.remarks import predictor_is_trained


@dataclass
class SystemOutput:
    """What a system predicts for a split.

    Attributes:
        predictions: In the records' order.
        selection_count: How many images the system selects of an article at most.
        variant: A trained model's `fusion`, `objective` ("lm" or "multi") and `vrp_context`; None for others.
        dropped: What the system did not read, by name.
        settings: What the predictions depend on.
        notes: Remarks on the results.
        seconds: How long the prediction of an article took; None where it was not measured.
    """

    predictions: list[dict[str, Any]]
    selection_count: int
    variant: dict[str, str | None] | None = None
    dropped: dict[str, int] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    seconds: float | None = None


@dataclass(frozen=True)
class GenerationSettings:
    """How a model is loaded and run; see [`load_model`] and [`predict_summaries`]."""

    batch_size: int = 8
    max_length: int = 2048
    max_new_tokens: int = 256
    num_beams: int = 1
    text_only: bool = False
    quantize: str | None = None


UNTRAINED_PREDICTOR = (
    "the model's relevance predictor was not trained: selections and probabilities by it mean nothing"
)
# The paper selects at most three images per article.
SELECTED_IMAGES = 3


def from_baseline(
    name: str,
    records: datasets.Dataset,
    *,
    words: int = 150,
    text_encoder: str = DEFAULT_TEXT_ENCODER,
    folder: Path | None = None,
    articles_sha256: str = "",
) -> SystemOutput:
    """A baseline's summaries; it selects no images by itself.

    Args:
        name (`str`): One of `choices.BASELINES`.
        words (`int`, *optional*, defaults to `150`): Most words of the baselines that count them.
        text_encoder (`str`, *optional*): Of extracts.
        folder (`Path`, *optional*): Where finished extracts are kept, from which a killed run goes on.
        articles_sha256 (`str`, *optional*): What tells the records from others.
    """
    if name in EXTRACTS:
        return _from_extracts(name, records, words, text_encoder, folder, articles_sha256)
    if name in WORD_BASELINES:
        texts = zip(records["id"], records["article"], strict=True)
        return SystemOutput(
            [_text_alone(identifier, lead_words(body, words)) for identifier, body in texts],
            SELECTED_IMAGES,
            settings={"words": words},
        )
    texts = zip(records["id"], records["article"], records["summary"], strict=True)
    predictions = []
    for identifier, article, reference in tqdm(texts, desc=name, total=len(records), unit="article", disable=None):
        summary = lead(article) if name == "lead-3" else oracle(article, reference)
        predictions.append(_text_alone(identifier, summary))
    return SystemOutput(predictions, SELECTED_IMAGES, settings={"sentences": SENTENCES})


def _from_extracts(
    name: str, records: datasets.Dataset, words: int, text_encoder: str, folder: Path, articles_sha256: str
) -> SystemOutput:
    encoder = load_text_encoder(text_encoder)
    settings = {"words": words, "text_encoder": text_encoder, "text_encoder_revision": encoder.revision}
    identity = {"baseline": name, "articles_sha256": articles_sha256}
    keep_to_settings(folder / "settings.json", {**settings, **identity})

    def predict(articles: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [
            _text_alone(article["id"], extract_words(article["article"], encoder, words, name)) for article in articles
        ]

    predictions = predict_in_batches(predict, records, folder, batch_size=1, seed=0)
    return SystemOutput(predictions, SELECTED_IMAGES, settings=settings, seconds=seconds_per_article(folder))


def _text_alone(identifier: str, summary: str) -> dict[str, Any]:
    return {"id": identifier, "summary": summary, "selected": [], "probabilities": []}


def from_file(path: Path, records: datasets.Dataset, *, selects: bool = True) -> SystemOutput:
    """Another system's predictions, checked against the records; without `selects` they need not say which images they select."""
    predictions = read_predictions(path, records, selects=selects)
    notes = dict.fromkeys(note for prediction in predictions for note in prediction.pop("notes", ()))
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return SystemOutput(predictions, SELECTED_IMAGES, settings={"sha256": digest}, notes=list(notes))


def model_identity(source: str, loaded: LoadedModel) -> dict[str, Any]:
    """
    What tells one model from another without reading gigabytes: a folder's weights and settings by name, size and time
    (an adapter's base included), a Hub model by its commit.
    """
    folder = Path(source)
    folders = [folder, folder / "base"]
    adapter = folder / "adapter_config.json"
    if adapter.is_file():
        folders.append(Path(json.loads(adapter.read_text(encoding="utf-8"))["base_model_name_or_path"]))
    files = [path for place in folders for path in sorted(place.glob("*")) if path.suffix in (".safetensors", ".json")]
    if source in (SMOLLM2, DEFAULT):
        files = [find_smollm2()]
    elif folder.is_file():
        files = [folder]
    listing = [f"{path.parent.name}/{path.name} {path.stat().st_size} {path.stat().st_mtime_ns}" for path in files]
    return {
        "model": source,
        "model_files": hashlib.sha256("\n".join(listing).encode()).hexdigest(),
        "model_commit": loaded.revision or getattr(loaded.model.config, "_commit_hash", None),
    }


def from_model(
    loaded: LoadedModel,
    identity: dict[str, Any],
    records: datasets.Dataset,
    folder: Path,
    generation: GenerationSettings,
    seed: int,
    *,
    select_images: bool = True,
) -> SystemOutput:
    """A model's summaries and selections, resumed from `folder` where a run was interrupted.

    Args:
        loaded (`LoadedModel`): Model and processor.
        identity (`dict`): What tells this model and these records from others; it is kept with the predictions.
        records (`Dataset`): The articles.
        folder (`Path`): Where finished batches are kept.
        generation (`GenerationSettings`): How the model is run.
        seed (`int`): Seed of generation.
        select_images (`bool`, *optional*, defaults to `True`): As of [`predict_summaries`].

    Raises:
        ValueError: when the folder holds predictions of other settings, or a title leaves no room for its body.
    """
    model, processor = loaded.model, loaded.processor
    positions = model.config.text_config.max_position_embeddings
    visual = processor.max_images * processor.num_image_tokens
    max_length = min(generation.max_length, positions - generation.max_new_tokens - visual)
    settings = {**vars(generation), "max_length": max_length, "seed": seed}
    if generation.quantize is None:
        # What was predicted before there was a choice goes on.
        del settings["quantize"]
    if processor.reads_captions:
        settings["captions_sha256"] = texts_digest(records)
    dropped = _count_dropped(processor, records, max_length, use_images=not generation.text_only)
    keep_to_settings(folder / "settings.json", {**settings, **identity})
    predictions = predict_resumably(
        loaded,
        records,
        folder,
        batch_size=generation.batch_size,
        max_length=max_length,
        use_images=not generation.text_only,
        seed=seed,
        select_images=select_images,
        max_new_tokens=generation.max_new_tokens,
        num_beams=generation.num_beams,
    )
    config = model.config
    return SystemOutput(
        predictions,
        config.max_selected_images,
        variant=_variant(config) if loaded.trained else None,
        dropped=dropped,
        settings=settings,
        notes=[] if loaded.trained and predictor_is_trained(config) else [UNTRAINED_PREDICTOR],
        seconds=seconds_per_article(folder),
    )


def _variant(config: Any) -> dict[str, str]:
    # §7: the variants of the multi-objective row of the paper's tables are trained with all losses.
    objective = "multi" if config.align_weight > 0 or config.distill_weight > 0 else "lm"
    return {"fusion": config.fusion, "objective": objective, "vrp_context": config.vrp_context}


def keep_to_settings(file: Path, settings: dict[str, Any]) -> None:
    """Write the settings, or check that they are those of the predictions that are there.

    Raises:
        ValueError: naming what differs.
    """
    if file.is_file():
        found = json.loads(file.read_text(encoding="utf-8"))
        different = sorted(name for name in {*found, *settings} if found.get(name, ...) != settings.get(name, ...))
        if different:
            raise ValueError(
                f"{file.parent} holds the results of other settings ({', '.join(different)}); remove the folder "
                "or choose another --output."
            )
    else:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_text_atomically(file, json.dumps(settings, indent=2) + "\n")


def _count_dropped(processor: Any, records: datasets.Dataset, max_length: int, *, use_images: bool) -> dict[str, int]:
    """How many bodies and caption lines are cut at `max_length`, and how many images lie beyond the scored ones."""
    cut = lines_cut = 0
    for identifier, title, body in zip(records["id"], records["title"], records["article"], strict=True):
        room = processor.room_for_body(title, max_length=max_length)
        if room < 1:
            raise ValueError(
                f"the title of {identifier!r} leaves no room for its body within {max_length} tokens; raise --max-length, "
                "or lower --max-new-tokens where the model's positions set the limit."
            )
        # As the processor does, which reads the spelling of a special token as plain text.
        tokens = processor.tokenizer(body, add_special_tokens=False, split_special_tokens=True, verbose=False)
        cut += len(tokens["input_ids"]) > room
    counts = image_counts(records) if use_images else []
    beyond = sum(max(0, count - processor.max_candidate_images) for count in counts)
    if processor.captions == "prompt":
        columns = [
            name for name in ("id", "title", "article", "captions", "alt_texts") if name in records.column_names
        ]
        rows = zip(records.select_columns(columns), counts or [0] * len(records), strict=True)
        for record, count in rows:
            article = record["article"], record["title"], count, image_texts(record)
            lines_cut += processor.num_caption_lines(*article)
            lines_cut -= processor.num_caption_lines(*article, max_length=max_length)
    dropped = {"bodies_cut": cut, "caption_lines_cut": lines_cut, "images_not_scored": beyond}
    return {name: count for name, count in dropped.items() if count}
