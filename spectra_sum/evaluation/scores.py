"""Scores of predictions against their records: the project's metric modules, applied to what the records have."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from spectra_sum.evaluation.corpus_bleu import BLEU4, STATISTICS, bleu_of, statistics_table
from spectra_sum.metrics import load_metric
from spectra_sum.sentences import reference_sentences, split_sentences
from spectra_sum.tasks.task import BLEU, CIDER, FACTS, IMAGE_PRECISION, SUMMARIZATION, Task

MMAE_PARTS = ("rougeL", "max_sim", "image_precision")
_ROUGE = ("rouge1", "rouge2", "rougeL", "rougeLsum")
_ROUGE_COUNTS = (
    *("empty_predictions", "articles_without_reference"),
    *("references_in_another_script", "predictions_in_another_script"),
)
_BERTSCORE = ("bertscore_precision", "bertscore_recall", "bertscore_f1")
_BERTSCORE_CUTS = ("predictions_cut", "references_cut")
_IMAGE = ("image_precision", "hit_at_1", "recall")
_DISTANCE = ("pcd_mean", "pcd_max", "pcd_mean_filtered", "pcd_max_filtered")


@dataclass
class ArticleScores:
    """Scores of every article.

    Attributes:
        values: By the score's name one number per article, None where the score is undefined for it.
        counts: What the metrics left out or found empty, by its name.
        not_computed: By the score's name the reason why there is none.
        statistics: By the names in [`corpus_bleu.STATISTICS`] one number per article, None for one without a reference; empty
            without BLEU.
        signatures: How a metric was set, by its name.
    """

    values: dict[str, list[float | None]] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    not_computed: dict[str, str] = field(default_factory=dict)
    statistics: dict[str, list[float | None]] = field(default_factory=dict)
    signatures: dict[str, str] = field(default_factory=dict)

    def means(self) -> dict[str, float]:
        """The mean of each score over the articles for which it is defined, and BLEU-4 of all of them."""
        means = {name: sum(defined) / len(defined) for name in self.values if (defined := self.defined(name))}
        if self.statistics:
            means[BLEU4] = float(bleu_of(statistics_table(self.statistics).sum(axis=0)))
        return means

    def defined(self, name: str) -> list[float]:
        """A score's values without the articles for which it is undefined."""
        return [value for value in self.values[name] if value is not None]

    def merge(self, other: "ArticleScores") -> None:
        """Take over everything of other scores of the same articles."""
        for name in ("values", "counts", "not_computed", "statistics", "signatures"):
            getattr(self, name).update(getattr(other, name))

    def add(self, result: dict[str, Any], names: Sequence[str], counts: Mapping[str, str]) -> None:
        """Take scores from a metric's result, and its counts under the names that `counts` gives them, if not zero."""
        self.values.update({name: [_number(value) for value in result["per_example"][name]] for name in names})
        self.counts.update({label: int(result[name]) for name, label in counts.items() if result[name]})


@dataclass
class ArticleEmbeddings:
    """Unit vectors of a dual encoder: per article those of its summary's sentences (S, D) and of its images (N, D)."""

    sentences: list[np.ndarray]
    images: list[np.ndarray]


def coverage_by_article(
    selected: Sequence[Sequence[int]], captions: Sequence[Sequence[str]], gold: Sequence[Sequence[int]]
) -> list[float | None]:
    """Per article 1 if its selection shows everything that its gold images show, else 0; None without gold images.

    Gold images with equal captions show the same; one of them is enough.
    """
    return [
        float({texts[i] for i in chosen} >= {texts[i] for i in wanted}) if wanted else None
        for chosen, texts, wanted in zip(selected, captions, gold, strict=True)
    ]


def coverage(
    selected: Sequence[Sequence[int]], captions: Sequence[Sequence[str]], gold: Sequence[Sequence[int]]
) -> float:
    """The mean of [`coverage_by_article`] over the articles with gold images.

    Raises:
        ValueError: when no article has gold images.
    """
    covered = [value for value in coverage_by_article(selected, captions, gold) if value is not None]
    if not covered:
        raise ValueError("coverage needs at least one article with gold images.")
    return sum(covered) / len(covered)


def score_articles(
    predictions: Sequence[dict[str, Any]],
    records: Any,
    *,
    embeddings: ArticleEmbeddings | None = None,
    relevance_threshold: float = 0.2,
    without_choice: Collection[int] = (),
    bertscore: dict[str, Any] | None = None,
    rouge_tokenizer: str = "default",
    task: Task = SUMMARIZATION,
) -> ArticleScores:
    """ROUGE, and as far as records and arguments allow it, what the task is measured by: the scores of images, similarity and
    facts, or CIDEr and BLEU-4.

    Args:
        predictions: From [`predict_summaries`] or a file, in the order of the records.
        records (`Dataset`): Articles with `summary` (lines) and `gold_images`; `facts` and `captions` in the closed
            world.
        embeddings (`ArticleEmbeddings`, *optional*): For MaxSim, CLIPScore and pairwise cosine distance.
        relevance_threshold (`float`, *optional*, defaults to `0.2`): The distance's relevance filter.
        without_choice (`Collection[int]`, *optional*, defaults to `()`): Articles in which the system could not choose,
            as gold images are no choice where none are annotated: MaxSim, CLIPScore and distances leave them out.
        bertscore (`dict`, *optional*): Arguments of the metric `summary_bertscore`.
        rouge_tokenizer (`str`, *optional*, defaults to `"default"`): Of the metric `summary_rouge`.
        task (`Task`, *optional*, defaults to `SUMMARIZATION`): Which metrics are computed.
    """
    scores = ArticleScores()
    summaries = [prediction["summary"] for prediction in predictions]
    selected = [prediction["selected"] for prediction in predictions]
    gold = list(records["gold_images"])
    references = list(records["summary"])

    # ROUGE-Lsum compares sentences, which the metric takes line by line; the other kinds do not see line breaks.
    try:
        result = load_metric("summary_rouge").compute(
            predictions=["\n".join(split_sentences(summary)) for summary in summaries],
            references=["\n".join(reference_sentences(summary)) for summary in references],
            resamples=0,
            tokenizer=rouge_tokenizer,
            per_example=True,
        )
    except ValueError as error:
        # It refuses to average over nothing, such as references whose script its tokenizer does not know.
        scores.not_computed.update(dict.fromkeys(_ROUGE, str(error)))
    else:
        scores.add(result, _ROUGE, {name: name for name in _ROUGE_COUNTS})
    if bertscore is None:
        scores.not_computed.update(dict.fromkeys(_BERTSCORE, "no BERTScore model was named"))
    else:
        result = load_metric("summary_bertscore").compute(
            predictions=summaries,
            references=[" ".join(sentences) for sentences in references],
            per_example=True,
            **bertscore,
        )
        scores.add(result, _BERTSCORE, {name: f"bertscore_{name}" for name in _BERTSCORE_CUTS})
    if CIDER in task.metrics and BLEU in task.metrics:
        scores.merge(score_answers(summaries, [" ".join(lines) for lines in references]))
    if IMAGE_PRECISION in task.metrics:
        scores.merge(
            score_images(
                selected,
                gold,
                embeddings=embeddings,
                relevance_threshold=relevance_threshold,
                without_choice=without_choice,
            )
        )
        if any(name not in scores.values for name in MMAE_PARTS):
            scores.not_computed["mmae"] = "it needs ROUGE-L, MaxSim and image precision"
    if FACTS in task.metrics and "facts" in records.column_names:
        result = load_metric("visual_facts").compute(
            predictions=summaries, references=list(records["facts"]), per_example=True
        )
        scores.add(result, list(result["per_example"]), {"articles_without_facts": "articles_without_facts"})
        if "captions" in records.column_names:
            scores.values["coverage"] = coverage_by_article(selected, list(records["captions"]), gold)
    return scores


def score_answers(answers: Sequence[str], references: Sequence[str]) -> ArticleScores:
    """
    CIDEr-D of every answer, in [0, 10], with the IDF of these references, and the counts of BLEU-4 of all of them.

    Args:
        answers, references (`Sequence[str]`): Of the same records; a reference may be empty, and the record is then left out.
    """
    scores = ArticleScores()
    try:
        result = load_metric(CIDER).compute(predictions=answers, references=references, per_example=True)
    except ValueError as error:
        scores.not_computed[CIDER] = str(error)
    else:
        if result["articles"] == 1:
            scores.not_computed[CIDER] = "the IDF of one reference alone is 0"
        else:
            scores.add(result, (CIDER,), {"articles_without_reference": "records_without_reference_for_cider"})
    try:
        result = load_metric(BLEU).compute(predictions=answers, references=references, statistics=True)
    except ValueError as error:
        scores.not_computed[BLEU4] = str(error)
    else:
        blank = [None] * len(STATISTICS)
        columns = zip(*(row or blank for row in result["statistics"]), strict=True)
        scores.statistics = {
            name: [_number(value) for value in column] for name, column in zip(STATISTICS, columns, strict=True)
        }
        scores.signatures[BLEU] = result["signature"]
        if result["articles_without_reference"]:
            scores.counts["records_without_reference_for_bleu"] = result["articles_without_reference"]
    return scores


def score_images(
    selected: Sequence[Sequence[int]],
    gold: Sequence[Sequence[int]],
    *,
    embeddings: ArticleEmbeddings | None = None,
    relevance_threshold: float = 0.2,
    without_choice: Collection[int] = (),
) -> ArticleScores:
    """The scores of selections alone: image precision, and with embeddings MaxSim, CLIPScore and distances.

    Arguments as in [`score_articles`].
    """
    scores = ArticleScores()
    if not any(gold):
        scores.not_computed.update(dict.fromkeys(_IMAGE, "no article has gold images"))
    else:
        result = load_metric("image_precision").compute(predictions=selected, references=gold, per_example=True)
        counts = {"articles_without_gold": "articles_without_gold"}
        scores.add(result, _IMAGE, {**counts, "empty_selections": "articles_with_gold_but_no_selection"})
    metrics: dict[str, tuple[tuple[str, ...], dict[str, str], dict[str, Any]]] = {
        "max_sim": (
            ("max_sim",),
            {"empty_selections": "articles_with_images_but_no_selection", "empty_summaries": "empty_summaries"},
            {},
        ),
        "clip_score": (("clip_score",), {}, {}),
        "pairwise_cosine_distance": (
            _DISTANCE,
            {
                "images_filtered_out": "images_filtered_out",
                "articles_undefined": "articles_without_two_selected_images",
                "articles_filtered_undefined": "articles_without_two_relevant_images",
            },
            {"relevance_threshold": relevance_threshold},
        ),
    }
    if embeddings is None:
        names = [name for names, _, _ in metrics.values() for name in names]
        scores.not_computed.update(dict.fromkeys(names, "no similarity model was named"))
        return scores
    sentences = [rows.tolist() for rows in embeddings.sentences]
    images = [
        rows[list(chosen)].tolist() if len(rows) and index not in without_choice else None
        for index, (rows, chosen) in enumerate(zip(embeddings.images, selected, strict=True))
    ]
    without_images = sum(not len(rows) for rows in embeddings.images)
    if without_images:
        scores.counts["articles_without_images"] = without_images
    for name, (names, counts, arguments) in metrics.items():
        try:
            result = load_metric(name).compute(predictions=sentences, references=images, per_example=True, **arguments)
        except ValueError as error:
            # A metric refuses to average over nothing, such as distances where no selection has two images.
            scores.not_computed.update(dict.fromkeys(names, str(error)))
        else:
            scores.add(result, names, counts)
    return scores


def score_predictions(
    predictions: Sequence[dict[str, Any]], records: Any, task: Task = SUMMARIZATION
) -> dict[str, float]:
    """The means of [`score_articles`] without a similarity model: what a training run logs.

    Returns:
        `rouge1`, `rouge2`, `rougeL`, `rougeLsum`; `image_precision` when an article has gold images and images were
        scored; in the closed world also `coverage`, `text_facts` and `visual_facts_KIND`. All in [0, 1]. Of a task with
        instructions `cider`, in [0, 10], and `bleu4` beside ROUGE.
    """
    means = score_articles(predictions, records, task=task).means()
    if not any(prediction["probabilities"] for prediction in predictions):
        for name in (*_IMAGE, "coverage"):
            means.pop(name, None)
    return means


def _number(value: float | bool | None) -> float | None:
    return None if value is None else float(value)
