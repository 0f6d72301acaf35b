"""One evaluation from its options to its files."""

import json
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import datasets
import numpy as np
from accelerate import PartialState
from accelerate.utils import gather_object

from spectra_sum.atomic_write import write_text_atomically
from spectra_sum.environment import describe_commit, describe_hardware, describe_versions
from spectra_sum.evaluation.after_summary import select_after_summary
from spectra_sum.evaluation.choices import AFTER_SUMMARY, NO_SELECTION
from spectra_sum.evaluation.evaluation_report import read_article, write_evaluation_report
from spectra_sum.evaluation.prediction_files import write_predictions
from spectra_sum.evaluation.readable_articles import ReadableArticles, find_broken_images
from spectra_sum.evaluation.repetition_and_novelty import text_statistics
from spectra_sum.evaluation.result_files import CONFIDENCE, RESAMPLES, interval_scores, write_results
from spectra_sum.evaluation.scores import ArticleEmbeddings, score_articles
from spectra_sum.evaluation.selection_comparison import compare_selections
from spectra_sum.evaluation.similarity import (
    ImageEmbeddings,
    embed_images,
    embed_texts,
    reselect,
    summary_sentences,
)
from spectra_sum.evaluation.systems.sources import (
    GenerationSettings,
    SystemOutput,
    from_baseline,
    from_file,
    from_model,
    keep_to_settings,
    model_identity,
)
from spectra_sum.evaluation.systems.summarizing import SummarySettings, from_summarizer
from spectra_sum.metrics import load_metric
from spectra_sum.metrics.dual_encoder import DualEncoder
from spectra_sum.models.default_dual_encoder import DefaultDualEncoder, load_default_dual_encoder
from spectra_sum.models.dual_encoder import load_dual_encoder
from spectra_sum.models.kinds import CAUSAL, SPECTRA_SUM
from spectra_sum.models.loading import LoadedModel, load_any, load_model, weight_digests
from spectra_sum.models.sources import DEFAULT_DUAL_ENCODER
from spectra_sum.msmo.builder import stored_damage
from spectra_sum.msmo.sources import articles_digest, image_counts
from spectra_sum.records.article_images import BrokenImage
from spectra_sum.selection.after_summary import ImageRanker
from spectra_sum.selection.methods import SELECTION_METHODS, SelectionSettings
from spectra_sum.sentences import reference_sentences
from spectra_sum.summaries.on_demand.encoder import EncoderOnDemand
from spectra_sum.summaries.prediction import met_broken_images
from spectra_sum.tasks.task import SUMMARIZATION, Task

PACKAGES = (
    *("torch", "transformers", "accelerate", "datasets", "evaluate", "rouge_score", "bert_score"),
    *("numpy", "scipy", "pillow", "spectra-sum"),
)


@dataclass(frozen=True)
class EvaluationOptions:
    """What is evaluated, on what, and how; as the arguments of `spectra-sum evaluate`.

    Attributes:
        kind: "model", "predictions" or "baseline"; `source` is a folder or Hub id, a file, or one of `choices.BASELINES`.
        pretrained: Whether the model is no trained SPeCTrA-Sum, and summarizes as `spectra-sum summarize` does.
        summary: How it then summarizes; `text_encoder`, `vision` and `options.select` also say how images are selected after
            any system's summaries.
        baseline_words: Most words of the baselines that count them.
        selection: One of `choices.SELECTIONS`; `selection_text` ("generated" or "reference") is what images are compared to.
        selection_count: Images per article; None for the system's own number.
        similarity_model: Folder or Hub id of a dual encoder, or "default"; None computes no similarity score.
        bertscore: Arguments of the metric `summary_bertscore`; None computes none.
        rouge_tokenizer: Of the metric `summary_rouge`.
        verify: "full" decodes every image before any work; otherwise a broken one is found when it is read.
        task: What the articles are for; answers to instructions select no image, and `selection` is `choices.NO_SELECTION`.
    """

    kind: str
    source: str
    output: Path
    name: str
    selection: str
    generation: GenerationSettings = GenerationSettings()
    pretrained: bool = False
    summary: SummarySettings = SummarySettings()
    baseline_words: int = 150
    selection_settings: SelectionSettings = SelectionSettings()
    selection_text: str = "generated"
    selection_count: int | None = None
    similarity_model: str | None = None
    relevance_threshold: float = 0.2
    bertscore: dict[str, Any] | None = None
    rouge_tokenizer: str = "default"
    seed: int = 0
    report_articles: int = 8
    verify: str = "header"
    task: Task = SUMMARIZATION


def evaluate_system(
    options: EvaluationOptions, records: datasets.Dataset, data: dict[str, Any]
) -> dict[str, Any] | None:
    """
    Predicts, selects, scores, and writes `predictions.jsonl`, `scores.jsonl`, `metrics.json`, `report.html`, and `run.json`,
    which holds hardware and time.

    Args:
        options (`EvaluationOptions`): The options.
        records (`Dataset`): The articles.
        data (`dict`): What the result file says of the data: `name` and `split`.

    Returns:
        The content of `metrics.json`; None in a process that only helped to predict.

    Raises:
        ValueError: predictions, models or options that do not fit the data.
    """
    started = time.perf_counter()
    # Before hours of generation, not after them.
    system = {"name": options.name, "kind": options.kind, "source": options.source, "selection": options.selection}
    if options.task.has_instructions:
        system["task"] = options.task.name
    articles = articles_digest(records)
    keep_to_settings(options.output / "system.json", {**system, "articles_sha256": articles})
    encoder = _similarity_encoder(options.similarity_model)
    bertscore = None
    if options.bertscore is not None:
        probe = load_metric("summary_bertscore").compute(predictions=["a"], references=["a"], **options.bertscore)
        bertscore = {**options.bertscore, "num_layers": probe["num_layers"], "hashcode": probe["hashcode"]}
    verified = _verify_images(records) if options.verify == "full" else []
    output, weights = _predict(options, records, articles)
    if not PartialState().is_main_process:
        return None
    if options.selection == AFTER_SUMMARY and not options.pretrained:
        output.predictions = select_after_summary(output.predictions, records, _ranker(options, output))
    if encoder is not None:
        encoder.model.to(PartialState().device)
    found = None if encoder is None else embed_images(encoder, records)
    shown = [read_article(records, index) for index in range(min(options.report_articles, len(records)))]
    broken = [*verified, *met_broken_images(output.predictions), *(() if found is None else found.broken)]
    readable = ReadableArticles(records, [*broken, *(image for article in shown for image in article.broken)])
    lost = readable.counts(output.predictions)
    # Of the predictor, if it is what selects; what is said of a pretrained model holds for all that it does.
    notes = output.notes if options.pretrained or options.selection in ("vrp", "given", NO_SELECTION) else []
    output.predictions = readable.remaining(output.predictions)
    predictions, embeddings, compared = _select(options, output, readable, encoder, found)
    write_predictions(options.output / "predictions.jsonl", readable.stored(predictions), notes=notes)
    without_choice = []
    if options.selection == "gold":
        without_choice = [index for index, gold in enumerate(readable["gold_images"]) if not gold]
    scores = score_articles(
        predictions,
        readable,
        embeddings=embeddings,
        relevance_threshold=options.relevance_threshold,
        without_choice=without_choice,
        bertscore=options.bertscore,
        rouge_tokenizer=options.rouge_tokenizer,
        task=options.task,
    )
    intervals = interval_scores(scores, seed=options.seed)
    bodies = None if options.task.has_instructions else readable["article"]
    statistics = text_statistics([prediction["summary"] for prediction in predictions], bodies)
    dropped = {**output.dropped, **scores.counts, **lost}
    comparison = {}
    if encoder is not None:
        sentences = summary_sentences([prediction["summary"] for prediction in predictions])
        sentences_cut = encoder.count_cut([sentence for row in sentences for sentence in row])
        if sentences_cut:
            dropped["summary_sentences_cut"] = sentences_cut
        comparison = compare_selections(
            options.selection,
            predictions,
            compared,
            embeddings,
            list(readable["gold_images"]),
            count=options.selection_count or output.selection_count,
            settings=options.selection_settings,
            relevance_threshold=options.relevance_threshold,
            seed=options.seed,
            without_choice=without_choice,
        )
    found_damage = stored_damage(records)
    damage = {"damage": found_damage} if found_damage else {}
    metrics = {
        "system": options.name,
        **({"task": options.task.name} if options.task.has_instructions else {}),
        "source": {"kind": options.kind, "name": options.source, "text_only": options.generation.text_only},
        "variant": output.variant,
        "weights": weights,
        "selection": options.selection,
        "data": {**data, "articles": len(records), "articles_sha256": articles, **damage},
        "scores": intervals,
        "text_statistics": interval_scores(statistics, seed=options.seed),
        "selections": comparison,
        "not_computed": scores.not_computed,
        "dropped": dropped,
        "broken_images": readable.named(),
        "notes": [*notes, *readable.notes()],
        "settings": {
            **_settings(options, output, bertscore, _called(options.similarity_model, encoder)),
            **scores.signatures,
        },
        "versions": describe_versions((*PACKAGES, "bitsandbytes") if options.generation.quantize else PACKAGES),
    }
    run = {
        "commit": describe_commit(),
        "hardware": describe_hardware(),
        "processes": PartialState().num_processes,
        **({} if output.seconds is None else {"seconds_per_article": output.seconds}),
        **({"dropped": lost} if lost else {}),
        "seconds": time.perf_counter() - started,
    }
    # What differs from run to run of the same evaluation stands apart.
    write_text_atomically(options.output / "run.json", json.dumps(run, indent=2) + "\n")
    write_results(options.output, metrics, records["id"], {**scores.values, **scores.statistics})
    write_evaluation_report(options.output / "report.html", metrics, predictions, readable, shown=shown)
    return metrics


def _similarity_encoder(name: str | None) -> DualEncoder | DefaultDualEncoder | None:
    if name is None:
        return None
    return load_default_dual_encoder() if name == DEFAULT_DUAL_ENCODER else DualEncoder(name)


def _verify_images(records: datasets.Dataset) -> list[BrokenImage]:
    """The broken images of all articles, which the processes share out."""
    state = PartialState()
    return gather_object(find_broken_images(records, range(state.process_index, len(records), state.num_processes)))


def _predict(
    options: EvaluationOptions, records: datasets.Dataset, articles: str
) -> tuple[SystemOutput, dict[str, str] | None]:
    """The predictions, and what tells a trained model's weights from others."""
    if options.kind == "baseline":
        words, text_encoder = options.baseline_words, options.summary.text_encoder
        where = {"folder": options.output / "batches", "articles_sha256": articles}
        return from_baseline(options.source, records, words=words, text_encoder=text_encoder, **where), None
    if options.kind == "predictions":
        return from_file(Path(options.source), records, selects=not options.task.has_instructions), None
    if options.pretrained and not options.task.has_instructions:
        loaded = load_any(options.source, quantize=options.generation.quantize)
        output = from_summarizer(
            loaded,
            options.source,
            records,
            options.output / "batches",
            options.summary,
            batch_size=options.generation.batch_size,
            text_only=options.generation.text_only,
            quantize=options.generation.quantize,
            articles_sha256=articles,
        )
        return output, None
    if options.pretrained:
        # As a trained model writes answers; its own prompts ask for summaries.
        loaded = load_any(options.source, quantize=options.generation.quantize)
        loaded.processor.prompt_template = options.task.prompt_template
    else:
        loaded = load_model(options.source, quantize=options.generation.quantize)
    limit = loaded.model.config.max_selected_images
    if options.selection == "vrp" and (options.selection_count or 0) > limit:
        raise ValueError(f"this model's predictor selects at most {limit} images; lower --selection-count.")
    identity = {**model_identity(options.source, loaded), "articles_sha256": articles}
    # While they are those that were loaded: a training run may go on in the folder.
    digests = PartialState().is_main_process and not options.pretrained
    weights = weight_digests(options.source) if digests else None
    generation = options.generation
    if loaded.kind == CAUSAL:
        generation = replace(generation, text_only=True)
    batches, selects = options.output / "batches", not options.task.has_instructions
    output = from_model(loaded, identity, records, batches, generation, options.seed, select_images=selects)
    if options.task.has_instructions:
        output.notes = _task_notes(loaded, options.task, records)
    return output, weights


def _task_notes(loaded: LoadedModel, task: Task, records: datasets.Dataset) -> list[str]:
    """What must be known of a model's answers: a prompt for something else, and images that it does not see."""
    notes, processor = [], loaded.processor
    if loaded.kind != SPECTRA_SUM:
        blind = ", and sees no images: it reads the instruction alone" if loaded.kind == CAUSAL else ""
        notes.append(f"a pretrained model that was not trained for {task.name} here{blind}")
    if processor.prompt_template != task.prompt_template:
        notes.append(
            f"the model's own prompt stands around the instruction, {processor.prompt_template!r}: it was not trained for "
            f"{task.name}"
        )
    unseen = sum(count > processor.max_images for count in image_counts(records))
    if unseen:
        notes.append(
            f"{unseen} of {len(records)} records have more than the {processor.max_images} images that the model sees "
            "(max_images)"
        )
    return notes


def _ranker(options: EvaluationOptions, output: SystemOutput) -> ImageRanker:
    settings = options.summary
    return ImageRanker(
        EncoderOnDemand(settings.text_encoder),
        load_dual_encoder(settings.vision) if settings.vision else None,
        settings.options.select or "dpp-map",
        options.selection_count or output.selection_count,
    )


def _select(
    options: EvaluationOptions,
    output: SystemOutput,
    records: ReadableArticles,
    encoder: DualEncoder | None,
    found: ImageEmbeddings | None,
) -> tuple[list[dict[str, Any]], ArticleEmbeddings | None, ArticleEmbeddings | None]:
    """The predictions with their selections, the embeddings that are scored, and those that selections compare."""
    predictions, method = output.predictions, options.selection
    embeddings = compared = None
    if encoder is not None:
        sentences = summary_sentences([prediction["summary"] for prediction in predictions])
        embeddings = compared = ArticleEmbeddings(embed_texts(encoder, sentences), found.of(records.kept))
        if options.selection_text == "reference":
            references = [reference_sentences(summary) for summary in records["summary"]]
            compared = ArticleEmbeddings(embed_texts(encoder, references), embeddings.images)
    if method == NO_SELECTION:
        predictions = [{**prediction, "selected": [], "probabilities": []} for prediction in predictions]
    elif method == "gold":
        gold = records["gold_images"]
        predictions = [
            {**prediction, "selected": list(chosen), "probabilities": []}
            for prediction, chosen in zip(predictions, gold, strict=True)
        ]
    elif method in SELECTION_METHODS:
        basis = compared
        if method == "random":
            # It looks at no image; only their number counts.
            ones = [np.ones((images, 1), dtype=np.float32) for images in records.image_counts()]
            basis = ArticleEmbeddings([np.ones((0, 1), dtype=np.float32)] * len(records), ones)
        predictions = reselect(
            method,
            predictions,
            basis,
            count=options.selection_count or output.selection_count,
            settings=options.selection_settings,
            seed=options.seed,
        )
    elif options.selection_count is not None:
        predictions = [
            {**prediction, "selected": prediction["selected"][: options.selection_count]} for prediction in predictions
        ]
    return predictions, embeddings, compared


def _after_summary(options: EvaluationOptions) -> dict[str, str | None]:
    settings = options.summary
    return {
        "select": settings.options.select or "dpp-map",
        "text_encoder": settings.text_encoder,
        "vision": settings.vision,
    }


def _called(name: str | None, encoder: DualEncoder | DefaultDualEncoder | None) -> str | None:
    """What results call the similarity model: of the default one, which it is."""
    return encoder.description if isinstance(encoder, DefaultDualEncoder) else name


def _settings(
    options: EvaluationOptions, output: SystemOutput, bertscore: dict[str, Any] | None, similarity_model: str | None
) -> dict[str, Any]:
    count = options.selection_count or output.selection_count
    # Gold images and those that a file names are taken as they are.
    own_count = options.selection_count if options.selection in ("gold", "given") else count
    return {
        **output.settings,
        "selection": {"method": options.selection, "count": own_count},
        **({"after_summary": _after_summary(options)} if options.selection == AFTER_SUMMARY else {}),
        "compared_selections": {"count": count, "text": options.selection_text, **vars(options.selection_settings)},
        "similarity_model": similarity_model,
        "relevance_threshold": options.relevance_threshold,
        "bertscore": bertscore,
        "rouge_tokenizer": options.rouge_tokenizer,
        "seed": options.seed,
        "bootstrap": {"resamples": RESAMPLES, "confidence": CONFIDENCE},
    }
