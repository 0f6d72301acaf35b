"""The evaluations of a model for its card: metadata of every result, and tables beside the published rows."""

import dataclasses
import re
from collections.abc import Sequence

from huggingface_hub import EvalResult

from spectra_sum.evaluation.choices import NO_SELECTION
from spectra_sum.evaluation.corpus_bleu import BLEU4
from spectra_sum.models.quantization_choices import LANGUAGE_MODEL, NEW_MODULES
from spectra_sum.tables import Evaluation, Table, build_tables, build_task_tables, load_published, render_markdown
from spectra_sum.tables.layouts import is_comparable
from spectra_sum.tasks.task import INSTRUCTED, SUMMARIZATION, TASKS

from .run_facts import EvaluationFacts, RunFacts
from .text import markdown, markdown_table, public_name, public_text

TASK = "summarization"
NAMES = {
    "rouge1": "ROUGE-1",
    "rouge2": "ROUGE-2",
    "rougeL": "ROUGE-L",
    "rougeLsum": "ROUGE-Lsum",
    "cider": "CIDEr-D (in [0, 10])",
    "bleu4": "BLEU-4",
    "bertscore_precision": "BERTScore precision",
    "bertscore_recall": "BERTScore recall",
    "bertscore_f1": "BERTScore F1",
    "image_precision": "image precision (IP)",
    "hit_at_1": "best image is a gold image",
    "recall": "share of the gold images that is selected",
    "max_sim": "MaxSim",
    "clip_score": "CLIPScore",
    "pcd_mean": "pairwise cosine distance, mean",
    "pcd_max": "pairwise cosine distance, max",
    "pcd_mean_filtered": "pairwise cosine distance, mean, filtered",
    "pcd_max_filtered": "pairwise cosine distance, max, filtered",
    "mmae": "MMAE",
    "text_facts": "facts of the text that are right",
    "visual_facts_trend": "visual fact trend (only in the images) that is right",
    "visual_facts_setting": "visual fact setting (only in the images) that is right",
    "visual_facts_count": "visual fact count (only in the images) that is right",
    "coverage": "share of articles whose selection covers all visual facts",
    "loss": "loss",
    "loss_lm": "language-modelling loss",
    "loss_align": "alignment loss",
    "loss_distill": "distillation loss",
}
# The scores that depend on which images were selected.
SELECTION_SCORES = frozenset(
    "image_precision hit_at_1 recall max_sim clip_score pcd_mean pcd_max pcd_mean_filtered pcd_max_filtered mmae coverage".split()
)
FOREIGN = "†"
QUANTIZED = {
    LANGUAGE_MODEL: "the language model",
    NEW_MODULES: "the language model, Vision Sampler and Deep Visual Processor",
}
SELECTIONS = {
    "vrp": "the model's predictor",
    "random": "chance, not by the model",
    "teacher": "the DPP teacher, not by the model",
    "dpp-map": "DPP with greedy MAP, not by the model",
    "mmr": "maximal marginal relevance, not by the model",
    "clip": "similarity to the summary, not by the model",
    "gold": "the gold labels, not by the model",
}


def public_evaluations(facts: RunFacts, repo_id: str, hub_ids: Sequence[str]) -> list[EvaluationFacts]:
    """The evaluations with names for others' eyes; the model goes by the name of its repository."""
    name = repo_id.rpartition("/")[2]
    public = []
    for evaluation in facts.evaluations:
        scores = evaluation.scores
        # Names must differ between evaluations of one model.
        system = name if len(facts.evaluations) == 1 else f"{name} ({len(public) + 1})"
        if quantized := evaluation.settings.get("quantize"):
            system += f", {QUANTIZED.get(quantized, 'a part')} in 4 bits"
        bertscore = evaluation.settings.get("bertscore") or {}
        public.append(
            dataclasses.replace(
                evaluation,
                scores=dataclasses.replace(
                    scores,
                    system=system,
                    source=f"model {repo_id}",
                    data_name=public_name(scores.data_name),
                    similarity_model=scores.similarity_model and public_name(scores.similarity_model, hub_ids),
                    bertscore=scores.bertscore
                    and f"{public_name(bertscore['model'])}, layer {bertscore['num_layers']}",
                    not_computed={key: public_text(reason) for key, reason in scores.not_computed.items()},
                ),
            )
        )
    return public


def eval_results(
    facts: RunFacts, evaluations: Sequence[EvaluationFacts], trained_selection: bool | None, dataset_id: str | None
) -> list[EvalResult]:
    """
    The results of the model index, in natural units: those that the model itself earned.

    Scores of images that something else selected, or a predictor that is not known to be trained, of summaries written
    without the images, and of a quantized model, whose weights are others, are left to the text.
    """
    results = []
    data = facts.record.get("data", {})
    trained_on = public_name(data["name"]) if "name" in data else None
    for evaluation in evaluations:
        scores = evaluation.scores
        if evaluation.text_only or evaluation.settings.get("quantize"):
            continue
        data_id = dataset_id if scores.data_name == trained_on else None
        for name, score in scores.scores.items():
            if name in SELECTION_SCORES and not (scores.selection == "vrp" and trained_selection):
                continue
            bounds = {} if score.low is None else {"low": score.low, "high": score.high}
            results.append(
                _result(
                    name,
                    score.value,
                    scores.data_name,
                    scores.split,
                    scores.articles,
                    data_id,
                    {"articles": score.articles, **bounds},
                )
            )
    if not evaluations and facts.metrics_split and trained_on:
        results = [
            _result(name, value, trained_on, facts.metrics_split, facts.metrics_articles, dataset_id, None)
            for name, value in facts.metrics.items()
            if trained_selection or name not in SELECTION_SCORES
        ]
    return results


def evaluation_section(
    facts: RunFacts, evaluations: Sequence[EvaluationFacts], trained_selection: bool | None, with_images: bool
) -> str:
    """The section's Markdown below its heading; empty where nothing was measured of a model that was not trained."""
    if not evaluations:
        return _own_section(facts, trained_selection, with_images)
    parts = [_measured(evaluation, trained_selection) for evaluation in evaluations]
    published = load_published()
    scores = [_earned(evaluation.scores, trained_selection) for evaluation in evaluations]
    for task in (TASKS[name] for name in INSTRUCTED):
        if own := [evaluation for evaluation in scores if evaluation.task == task.name]:
            parts.append(f"### Published rows of {task.name.replace('-', ' ')}")
            parts.append(_as_section(build_task_tables(own, published, task)))
    scores = [evaluation for evaluation in scores if evaluation.task == SUMMARIZATION.name]
    if not scores:
        return "\n\n".join(parts)
    same_data = all(is_comparable(evaluation, published) for evaluation in scores)
    if same_data:
        parts.append("### Beside the published rows")
    else:
        parts.append(
            "### Published rows, measured on other data\n\nThe published rows are for orientation: they were measured on "
            f"the whole test split of {published['data']['name']}, and what was measured here was not. Whether this model is "
            "better or worse than a published one cannot be read from these tables."
        )
    parts.append("Scores are multiplied by 100 here, except MMAE.")
    parts.append(_beside_published(scores))
    return "\n\n".join(parts)


def _result(
    name: str, value: float, data: str, split: str, articles: int | None, dataset_id: str | None, args: dict | None
) -> EvalResult:
    family = name.partition("_")[0] if name.startswith("bertscore") else "rouge" if name.startswith("rouge") else name
    family = "bleu" if name == BLEU4 else family
    count = f", {articles} articles" if articles else ""
    return EvalResult(
        task_type=TASK,
        task_name="Multimodal summarization",
        dataset_type=dataset_id or re.sub(r"[^\w.-]+", "-", data),
        dataset_name=f"{data} ({split}{count})",
        dataset_split=split,
        dataset_args={"articles": articles} if articles else None,
        metric_type=family,
        metric_name=NAMES.get(name, public_text(name)),
        metric_value=value,
        metric_args=args,
    )


def _earned(scores: Evaluation, trained_selection: bool | None) -> Evaluation:
    """The evaluation without the scores of images that the model did not select."""
    if scores.selection == "vrp" and trained_selection:
        return scores
    reason = f"images selected by {_selected_by(scores, trained_selection)}"
    return dataclasses.replace(
        scores,
        scores={name: score for name, score in scores.scores.items() if name not in SELECTION_SCORES},
        not_computed={**scores.not_computed, **{name: reason for name in scores.scores if name in SELECTION_SCORES}},
        per_article={
            article: {name: value for name, value in values.items() if name not in SELECTION_SCORES}
            for article, values in scores.per_article.items()
        },
    )


def _selected_by(scores: Evaluation, trained_selection: bool | None) -> str:
    if scores.selection == "vrp" and not trained_selection:
        what = "which was not trained" if trained_selection is False else "of which no training is recorded"
        return f"the model's predictor, {what}"
    return SELECTIONS.get(scores.selection, scores.selection)


def _measured(evaluation: EvaluationFacts, trained_selection: bool | None) -> str:
    scores, settings = evaluation.scores, evaluation.settings
    own_selection = scores.selection == "vrp" and trained_selection
    how = [f"Images selected by {markdown(_selected_by(scores, trained_selection))}."]
    if scores.selection == NO_SELECTION:
        how = [f"Answers to instructions ({scores.task.replace('-', ' ')}), which select no images."]
    if not own_selection and SELECTION_SCORES & scores.scores.keys():
        how.append(f"Scores marked {FOREIGN} are of that selection, and say nothing of this model.")
    if not evaluation.same_weights:
        how.append("That exactly these weights were evaluated is the author's word: it could not be verified.")
    if evaluation.text_only:
        how.append("The images were withheld from the summarizer.")
    if quantized := settings.get("quantize"):
        what = QUANTIZED.get(quantized, "a part of the model")
        how.append(f"Measured with {what} in 4 bits (NF4): unquantized, these weights give other scores.")
    limits = [
        f"{label} {settings[key]}" for key, label in _GENERATION.items() if isinstance(settings.get(key), int | float)
    ]
    how += [f"{'; '.join(limits).capitalize()}."] if limits else []
    how += (
        [f"MaxSim, CLIPScore, distances and MMAE by {markdown(scores.similarity_model)}."]
        if scores.similarity_model
        else []
    )
    how += [f"BERTScore by {markdown(scores.bertscore)}."] if scores.bertscore else []
    how += [f"Left out or cut: {_counts(scores)}."] if scores.dropped else []
    bootstrap = settings.get("bootstrap") or {}
    interval = f"{100 * bootstrap['confidence']:g} % interval" if "confidence" in bootstrap else "interval"
    if "resamples" in bootstrap:
        how.append(
            f"The intervals are percentile bootstraps over the articles ({bootstrap['resamples']:,} resamples)."
        )
    versions = ", ".join(
        f"{name} {evaluation.versions[name]}" for name in ("transformers", "torch") if name in evaluation.versions
    )
    how += [f"Measured with {markdown(versions)}."] if versions else []
    rows = [
        [
            markdown(NAMES.get(name, name))
            + (f" {FOREIGN}" if name in SELECTION_SCORES and not own_selection else ""),
            f"{score.value:.4f}",
            "" if score.low is None else f"{score.low:.4f} to {score.high:.4f}",
            f"{score.articles:,}",
        ]
        for name, score in scores.scores.items()
    ]
    title = f"### {markdown(scores.data_name)}, {markdown(scores.split)} split, {scores.articles:,} articles"
    table = markdown_table(["score", "mean", interval, "articles"], rows)
    return "\n\n".join([title, " ".join(how), table])


_GENERATION = {
    "max_length": "text tokens at most",
    "max_new_tokens": "tokens of a summary at most",
    "num_beams": "beams",
}


def _counts(scores: Evaluation) -> str:
    return ", ".join(f"{markdown(what.replace('_', ' '))} {count:,}" for what, count in scores.dropped.items())


def _beside_published(scores: Sequence[Evaluation]) -> str:
    tables = build_tables(scores, load_published())
    objectives = {"multi": "multi_objective", "lm": "lm_only"}
    wanted = {"comparison", *(objectives[item.objective] for item in scores if item.objective)}
    return _as_section([table for table in tables if table.name in wanted])


def _as_section(tables: Sequence[Table]) -> str:
    text = render_markdown(tables)
    return re.sub(r"^## ", "#### ", text, flags=re.MULTILINE).strip()


def _evaluated(facts: RunFacts) -> str:
    evaluated = facts.metrics_articles
    whole = facts.record.get("data", {}).get("articles", {}).get(facts.metrics_split)
    if not evaluated:
        return ""
    return (
        f" ({evaluated:,} articles)"
        if whole in (None, evaluated)
        else f" (the first {evaluated:,} of {whole:,} articles)"
    )


def _own_section(facts: RunFacts, trained_selection: bool | None, with_images: bool) -> str:
    if not facts.metrics:
        return "No evaluation of these weights is recorded." if facts.was_trained else ""
    count = _evaluated(facts)
    how = f"Measured by the trainer at the end of the run on the {facts.metrics_split} split{count} of its data."
    if with_images and not trained_selection and SELECTION_SCORES & facts.metrics.keys():
        how += (
            " The images were ranked by a predictor that was not trained: what is said of the selection means nothing."
            if trained_selection is False
            else " No training of the predictor that ranked the images is recorded."
        )
    rows = [[markdown(NAMES.get(name, name)), f"{value:.4f}"] for name, value in facts.metrics.items()]
    return f"{how} There are no intervals.\n\n{markdown_table(['score', 'mean'], rows)}"
