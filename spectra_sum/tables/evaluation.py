"""Reads what `spectra-sum evaluate` wrote: a folder with `metrics.json` and `scores.jsonl`."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..documents.parts import printable
from ..tasks.task import SUMMARIZATION


class EvaluationError(ValueError):
    """A folder that holds no readable evaluation, or evaluations that cannot stand in one table."""


@dataclass(frozen=True)
class Score:
    """
    A system's mean score, in natural units.

    Args:
        value (`float`): The mean.
        low (`float`, *optional*): Lower end of its confidence interval, where the evaluation gives one.
        high (`float`, *optional*): Upper end.
        articles (`int`): Number of articles behind the mean.
    """

    value: float
    low: float | None
    high: float | None
    articles: int


@dataclass(frozen=True)
class Evaluation:
    """
    One system on one data set.

    Args:
        system (`str`): The system's name.
        source (`str`): What was evaluated, in words, such as `"model runs/experiment/model"`.
        objective (`str`, *optional*): `"lm"` or `"multi"` for a trained variant; `None` for baselines and peers.
        selection (`str`): How the images were selected.
        data_name (`str`): Name of the data set.
        split (`str`): Its split.
        articles (`int`): Number of articles evaluated.
        articles_sha256 (`str`): Digest of the articles' content; equal digests mean equal articles.
        similarity_model (`str`, *optional*): The dual encoder behind MaxSim, CLIPScore, distances and MMAE.
        relevance_threshold (`float`): That of the filtered distances.
        bertscore (`str`, *optional*): Model, layer and the library's hash code of BERTScore, in words.
        rouge_tokenizer (`str`): What ROUGE takes for words, a tokenizer of the metric `summary_rouge`.
        scores (`Mapping[str, Score]`): Mean scores by name.
        selections (`Mapping[str, Mapping[str, float]]`): Mean scores by name, by a selection of images for the same
            summaries; the system's own is among them.
        not_computed (`Mapping[str, str]`): Reason by name of a score that is missing.
        dropped (`Mapping[str, int]`): What was left out, with its count.
        notes (`Sequence[str]`): Remarks on the results, such as that the selecting predictor was not trained.
        per_article (`Mapping[str, Mapping[str, float | None]]`): Scores by name, by the article's id.
        task (`str`, *optional*, defaults to `"summarization"`): What was evaluated.
        bleu (`str`, *optional*): The library's signature of BLEU-4.
    """

    system: str
    source: str
    objective: str | None
    selection: str
    data_name: str
    split: str
    articles: int
    articles_sha256: str
    similarity_model: str | None
    relevance_threshold: float
    bertscore: str | None
    rouge_tokenizer: str
    scores: Mapping[str, Score]
    selections: Mapping[str, Mapping[str, float]]
    not_computed: Mapping[str, str]
    dropped: Mapping[str, int]
    notes: Sequence[str]
    per_article: Mapping[str, Mapping[str, float | None]]
    task: str = SUMMARIZATION.name
    bleu: str | None = None


def read_evaluations(folders: Sequence[str | Path]) -> list[Evaluation]:
    """
    Reads several evaluations, in the order given.

    Raises:
        EvaluationError: A folder or file is missing or malformed, or two systems have one name.
    """
    evaluations = [read_evaluation(folder) for folder in folders]
    places: dict[str, str | Path] = {}
    for folder, evaluation in zip(folders, evaluations, strict=True):
        if evaluation.system in places:
            raise EvaluationError(
                f"{printable(places[evaluation.system])} and {printable(folder)} hold systems of the same name "
                f"({evaluation.system!r}); evaluate one of them again under another name."
            )
        places[evaluation.system] = folder
    return evaluations


def read_evaluation(folder: str | Path) -> Evaluation:
    """
    Reads one evaluation.

    Args:
        folder (`str` or `Path`): The folder that was given to `spectra-sum evaluate --output`.

    Raises:
        EvaluationError: The folder or one of its two files is missing or malformed; the message names the file and key.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise EvaluationError(
            f"{printable(folder)}: there is no such folder; name one that `spectra-sum evaluate` wrote."
        )
    metrics_path = folder / "metrics.json"
    shown = printable(metrics_path)
    metrics = _parsed(_read(metrics_path), shown)
    source = _entry(metrics, "source", dict, shown)
    objective = _objective(metrics, shown)
    data = _entry(metrics, "data", dict, shown)
    articles = _entry(data, "articles", int, shown)
    dropped = _entry(metrics, "dropped", dict, shown)
    settings = _entry(metrics, "settings", dict, shown)
    selections = _entry(metrics, "selections", dict, shown)
    per_article = _read_per_article(folder / "scores.jsonl")
    if len(per_article) != articles:
        raise EvaluationError(
            f"{printable(folder / 'scores.jsonl')}: {len(per_article)} articles, but metrics.json counts {articles}; "
            "the two are of different runs, evaluate again."
        )
    return Evaluation(
        system=_entry(metrics, "system", str, shown),
        source=f"{_entry(source, 'kind', str, shown)} {_entry(source, 'name', str, shown)}",
        objective=objective,
        selection=_entry(metrics, "selection", str, shown),
        data_name=_entry(data, "name", str, shown),
        split=_entry(data, "split", str, shown),
        articles=articles,
        articles_sha256=_entry(data, "articles_sha256", str, shown),
        similarity_model=_optional(settings, "similarity_model", str, f"{shown}, settings"),
        relevance_threshold=_number(settings.get("relevance_threshold"), f"{shown}, settings", "relevance_threshold"),
        bertscore=_bertscore(settings, f"{shown}, settings"),
        # Results of before there was a choice do not name it.
        rouge_tokenizer=_entry(
            {"rouge_tokenizer": "default", **settings}, "rouge_tokenizer", str, f"{shown}, settings"
        ),
        scores={
            name: _score(entry, f"{shown}, score {name!r}")
            for name, entry in _entry(metrics, "scores", dict, shown).items()
        },
        selections={
            name: {
                score: _number(value, f"{shown}, selection {name!r}", score)
                for score, value in _entry(selections, name, dict, f"{shown}, selections").items()
            }
            for name in selections
        },
        not_computed={name: str(reason) for name, reason in _entry(metrics, "not_computed", dict, shown).items()},
        dropped={what: _entry(dropped, what, int, f"{shown}, dropped") for what in dropped},
        # Older evaluations have none.
        notes=[str(note) for note in _entry({"notes": [], **metrics}, "notes", list, shown)],
        per_article=per_article,
        # Summaries, and older results, do not name it.
        task=_entry({"task": SUMMARIZATION.name, **metrics}, "task", str, shown),
        bleu=_optional({"bleu": None, **settings}, "bleu", str, f"{shown}, settings"),
    )


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise EvaluationError(
            f"{printable(path)}: there is no such file; run `spectra-sum evaluate` to its end."
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise EvaluationError(f"{printable(path)}: the file cannot be read ({error}).") from None


def _parsed(text: str, shown: str) -> dict[str, Any]:
    try:
        parsed = json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise EvaluationError(f"{shown}: not valid JSON ({error}); evaluate again.") from None
    if not isinstance(parsed, dict):
        raise EvaluationError(f"{shown}: not a JSON object; evaluate again.")
    return parsed


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is no number of JSON")


def _entry(mapping: Mapping[str, Any], key: str, kind: type, shown: str) -> Any:
    value = mapping.get(key)
    # In Python, and not in JSON, true and false are integers.
    if not isinstance(value, kind) or isinstance(value, bool):
        found = f"is {value!r:.40}" if key in mapping else "is missing"
        raise EvaluationError(f"{shown}: {key!r} {found}, where a {kind.__name__} is needed; evaluate again.")
    return value


def _optional(mapping: Mapping[str, Any], key: str, kind: type, shown: str) -> Any:
    return None if key in mapping and mapping[key] is None else _entry(mapping, key, kind, shown)


def _bertscore(settings: Mapping[str, Any], shown: str) -> str | None:
    setting = _optional(settings, "bertscore", dict, shown)
    if setting is None:
        return None
    shown = f"{shown}, bertscore"
    model, layer = _entry(setting, "model", str, shown), _entry(setting, "num_layers", int, shown)
    return f"{model}, layer {layer}, {_entry(setting, 'hashcode', str, shown)}"


def _objective(metrics: Mapping[str, Any], shown: str) -> str | None:
    if metrics.get("variant") is None:
        return None
    objective = _entry(metrics, "variant", dict, shown).get("objective")
    if objective not in ("lm", "multi", None):
        raise EvaluationError(f"{shown}: objective is {objective!r:.40}, where 'lm', 'multi' or null is needed.")
    return objective


def _number(value: Any, shown: str, what: str) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise EvaluationError(f"{shown}: {what} is {value!r:.40}, where a finite number is needed; evaluate again.")
    return float(value)


def _score(entry: Any, shown: str) -> Score:
    if not isinstance(entry, dict):
        raise EvaluationError(f"{shown}: not a JSON object; evaluate again.")
    low, high = (None if entry.get(end) is None else _number(entry[end], shown, end) for end in ("low", "high"))
    return Score(_number(entry.get("value"), shown, "value"), low, high, _entry(entry, "articles", int, shown))


def _read_per_article(path: Path) -> dict[str, dict[str, float | None]]:
    per_article: dict[str, dict[str, float | None]] = {}
    # Not splitlines(), which also parts at characters that JSON leaves as they are inside a string.
    for number, line in enumerate(_read(path).split("\n"), start=1):
        if not line.strip():
            continue
        shown = f"{printable(path)}, line {number}"
        record = _parsed(line, shown)
        article = _entry(record, "id", str, shown)
        if article in per_article:
            raise EvaluationError(f"{shown}: the id {article!r:.60} stands there twice; evaluate again.")
        per_article[article] = {
            name: None if value is None else _number(value, shown, name)
            for name, value in record.items()
            if name != "id"
        }
    return per_article
