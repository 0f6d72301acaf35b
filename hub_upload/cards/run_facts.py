"""What is known of a model: the facts that its training run and its evaluations left on disk.

`run.json`, `trainer_state.json` and `metrics.json` may hold local paths: they are read here, and never uploaded.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from spectra_sum.documents.parts import printable
from spectra_sum.models.loading import weight_digests
from spectra_sum.models.sources import ModelError
from spectra_sum.tables import Evaluation, EvaluationError, read_evaluation

from ..errors import HubError

SPLITS = ("test", "validation")
# Beside its scores, the Trainer measures itself.
NO_SCORES = ("runtime", "samples", "samples_per_second", "steps_per_second", "model_preparation_time")


@dataclass(frozen=True)
class EvaluationFacts:
    """
    What `spectra-sum evaluate` measured, and how.

    Attributes:
        scores (`Evaluation`): Scores with intervals, the data and the number of articles.
        text_only (`bool`): The images were withheld from the summarizer.
        settings (`Mapping[str, Any]`): Settings of generation and selection.
        versions (`Mapping[str, str]`): Versions of the packages that it ran with.
        same_weights (`bool`): What was evaluated is known to be these weights. A merged model's evaluation cannot be
            told from that of its adapter and base, and older evaluations do not say what they evaluated.
    """

    scores: Evaluation
    text_only: bool
    settings: Mapping[str, Any]
    versions: Mapping[str, str]
    same_weights: bool


@dataclass(frozen=True)
class RunFacts:
    """
    Everything is optional: what is absent has no place in the card.

    Attributes:
        record (`Mapping[str, Any]`): `run.json`, which `trainer/train.py` writes when a run starts; empty without one.
        log (`tuple[Mapping[str, Any], ...]`): `log_history` of `trainer_state.json`, in the order of its steps.
        steps (`int`, *optional*): Optimizer steps after which these weights were saved.
        last_step (`int`, *optional*): The run's last step, after which it went back to the best checkpoint; `None` where
            the weights are those of the last step.
        metrics (`Mapping[str, float]`): The run's own scores, by name without the split's prefix, in natural units.
        metrics_split (`str`, *optional*): The split that `metrics` was measured on.
        metrics_articles (`int`, *optional*): How many of its articles `metrics` was measured on.
        evaluations (`tuple[EvaluationFacts, ...]`): What `spectra-sum evaluate` measured.
        adapter (`Mapping[str, Any]`): `adapter_config.json`; empty for a model that is none.
    """

    record: Mapping[str, Any]
    log: tuple[Mapping[str, Any], ...]
    steps: int | None
    last_step: int | None
    metrics: Mapping[str, float]
    metrics_split: str | None
    metrics_articles: int | None
    evaluations: tuple[EvaluationFacts, ...]
    adapter: Mapping[str, Any]

    @property
    def is_adapter_base(self) -> bool:
        """The base that a LoRA run saved before it trained."""
        return self.record.get("adapter_base") is True

    @property
    def was_trained(self) -> bool | None:
        """Whether a training run made these weights; `None` where nothing is recorded."""
        if self.is_adapter_base:
            # Of a model that was trained before, the record of that run tells.
            return None if self.record.get("initial_model") else False
        if self.steps is not None:
            return self.steps > 0
        return True if self.record else None


def read_run_facts(run: Path, evaluations: Sequence[Path] = ()) -> RunFacts:
    """
    Reads the facts of a run's folder, of one of its checkpoints, or of a model's folder.

    Args:
        run (`Path`): The folder with the model or adapter. For a checkpoint, `run.json` is that of the run's folder above
            it; the run's scores are not taken from there, since they are those of the finished run.
        evaluations (`Sequence[Path]`, *optional*, defaults to `()`): Folders that `spectra-sum evaluate` wrote for it.

    Raises:
        HubError: A file is damaged, or an evaluation is not one of this model; the message names the file.
    """
    places = [run, run.parent] if run.name.startswith("checkpoint-") else [run]
    path = next((place / "run.json" for place in places if (place / "run.json").is_file()), run / "run.json")
    record = _read_json(path)
    _check_record(record, path)
    state = _read_json(run / "trainer_state.json")
    log = state.get("log_history", [])
    if not isinstance(log, list) or not all(isinstance(entry, dict) and _is_logged(entry) for entry in log):
        raise HubError(
            f"{printable(run / 'trainer_state.json')}: its log_history is damaged; restore or delete the file."
        )
    steps, last_step = _steps(state, record)
    metrics, split, articles = _own_metrics(run / "metrics.json")
    if split is not None and articles is None:
        # A run of an earlier version evaluated the whole split.
        articles = record.get("data", {}).get("articles", {}).get(split)
    config = _read_config(run)
    return RunFacts(
        record=record,
        log=tuple(log),
        steps=steps,
        last_step=last_step,
        metrics=metrics,
        metrics_split=split,
        metrics_articles=articles,
        evaluations=_read_evaluations(evaluations, config, run),
        adapter=_read_json(run / "adapter_config.json"),
    )


def count_parameters(folder: Path) -> dict[str, int]:
    """
    Counts the parameters of the weight files, which need not be loaded for it.

    Args:
        folder (`Path`): A folder with safetensors of a model or adapter.

    Returns:
        Numbers by part, such as `vision_tower`, `visual_path` and `language_model`; a language model's adapter is
        `lora`. Empty where there are no weights. A tensor that two modules share is counted once.

    Raises:
        HubError: A file is damaged; the message names it.
    """
    counts: dict[str, int] = {}
    for path in sorted(folder.glob("*model*.safetensors")):
        try:
            with safe_open(path, framework="pt") as weights:
                sizes = {name: math.prod(weights.get_slice(name).get_shape()) for name in weights.keys()}
        except (SafetensorError, OSError) as error:
            raise HubError(f"{printable(path)}: the weights cannot be read ({error}); save the model again.") from None
        for name, size in sizes.items():
            part = "lora" if ".lora_" in name else name.removeprefix("base_model.model.").partition(".")[0]
            counts[part] = counts.get(part, 0) + size
    return counts


def _steps(state: Mapping[str, Any], record: Mapping[str, Any]) -> tuple[int | None, int | None]:
    """The step of the weights, and the run's last one if the Trainer went back from it to the best checkpoint."""
    steps, best = state.get("global_step"), state.get("best_global_step")
    if not isinstance(steps, int):
        return None, None
    goes_back = record.get("arguments", {}).get("training", {}).get("load_best_model_at_end") is True
    # A checkpoint's weights are its own: only when the training ends, with this entry, does the Trainer go back.
    ended = any("train_runtime" in entry for entry in state.get("log_history", ()))
    return (best, steps) if goes_back and ended and isinstance(best, int) and best != steps else (steps, None)


def _read_evaluations(folders: Sequence[Path], config: Mapping[str, Any], run: Path) -> tuple[EvaluationFacts, ...]:
    facts: list[EvaluationFacts] = []
    # Reading all weights takes a while, and old evaluations do not need it.
    own_weights: dict[str, str] | None = None
    for folder in folders:
        try:
            scores = read_evaluation(folder)
        except EvaluationError as error:
            raise HubError(str(error)) from None
        path = folder / "metrics.json"
        content = _read_json(path)
        if content["source"]["kind"] != "model":
            raise HubError(f"{printable(path)}: this is the evaluation of {scores.source}; name one of this model.")
        for key, value in (content.get("variant") or {}).items():
            if key in config and config[key] != value:
                raise HubError(
                    f"{printable(path)}: the evaluated model has {key} {value!r:.40}, this one {config[key]!r:.40}; name an "
                    "evaluation of this model."
                )
        weights = content.get("weights")
        if weights and own_weights is None:
            try:
                own_weights = weight_digests(str(run))
            except ModelError as error:
                raise HubError(str(error)) from None
        same_weights = _are_same(weights, own_weights, path) if weights else False
        for other in facts:
            same = (other.scores.data_name, other.scores.split) == (scores.data_name, scores.split)
            same = same and other.settings.get("quantize") == content["settings"].get("quantize")
            if same and other.text_only == content["source"].get("text_only", False):
                raise HubError(
                    f"{printable(path)}: an evaluation on {scores.data_name}, {scores.split}, was named already; evaluate with "
                    "another --data-name if the articles are others."
                )
        facts.append(
            EvaluationFacts(
                scores,
                text_only=bool(content["source"].get("text_only", False)),
                settings=content["settings"],
                versions=content.get("versions") or {},
                same_weights=same_weights,
            )
        )
    return tuple(facts)


def _are_same(evaluated: Any, own: Mapping[str, str], path: Path) -> bool:
    if not isinstance(evaluated, dict):
        raise HubError(
            f"{printable(path)}: weights is not what spectra-sum evaluate writes; evaluate the model again."
        )
    if evaluated.keys() != own.keys():
        # Of an adapter the merged weights, or the other way round: their digests say nothing of each other.
        return False
    different = sorted(part for part in own if evaluated[part] != own[part])
    if different:
        raise HubError(
            f"{printable(path)}: the evaluated weights are not those of this model ({', '.join(different)}); evaluate "
            "this model, or name its own evaluation."
        )
    return True


def _own_metrics(path: Path) -> tuple[dict[str, float], str | None, int | None]:
    content = _read_json(path)
    for split in SPLITS:
        metrics = {
            name.removeprefix(f"{split}_"): value
            for name, value in content.items()
            if name.startswith(f"{split}_") and name.removeprefix(f"{split}_") not in NO_SCORES
        }
        for name, value in metrics.items():
            if not _is_number(value):
                raise HubError(f"{printable(path)}: {name} is {value!r:.40}, where a finite number is needed.")
        articles = content.get(f"{split}_samples")
        if articles is not None and (isinstance(articles, bool) or not isinstance(articles, int)):
            raise HubError(f"{printable(path)}: {split}_samples is {articles!r:.40}, where a whole number is needed.")
        if metrics:
            return metrics, split, articles
    return {}, None, None


def _check_record(record: Mapping[str, Any], path: Path) -> None:
    """Checks the parts of `run.json` that a card is made of, so that a damaged file is named and nothing else fails."""
    arguments, data = record.get("arguments", {}), record.get("data", {})
    objects = {key: record.get(key, {}) for key in ("data", "backbones", "arguments", "versions", "hardware")}
    for name, value in objects.items():
        if not isinstance(value, dict):
            raise _damaged(path, name)
    objects = {f"arguments.{key}": arguments.get(key, {}) for key in ("data", "architecture", "training", "model")}
    for name, value in {**objects, "data.articles": data.get("articles", {})}.items():
        if not isinstance(value, dict):
            raise _damaged(path, name)
    if not all(isinstance(count, int) for count in data.get("articles", {}).values()):
        raise _damaged(path, "data.articles")
    if not isinstance(data.get("name", ""), str):
        raise _damaged(path, "data.name")
    for role, model in {**record.get("backbones", {}), "initial_model": record.get("initial_model")}.items():
        if model is not None and not (
            isinstance(model, dict) and all(isinstance(model.get(key), str) for key in ("name", "source"))
        ):
            raise _damaged(path, role)
    training = arguments.get("training", {})
    counts = [training.get(key, 1) for key in ("per_device_train_batch_size", "gradient_accumulation_steps")]
    if not all(isinstance(count, int) for count in (*counts, record.get("processes", 1))):
        raise _damaged(path, "the size of a batch")
    if not isinstance(record.get("resumed", []), list):
        raise _damaged(path, "resumed")
    if not isinstance(record.get("adapter_base", False), bool):
        raise _damaged(path, "adapter_base")


def _damaged(path: Path, what: str) -> HubError:
    return HubError(f"{printable(path)}: {what} is not what the trainer writes; restore the file or delete it.")


def _is_logged(entry: Mapping[str, Any]) -> bool:
    values = [value for name, value in entry.items() if "loss" in name or name in ("epoch", "train_runtime")]
    # A loss may be NaN: a run that failed is told as it was.
    return _is_number(entry.get("step")) and all(isinstance(value, int | float) for value in values)


def _read_config(run: Path) -> dict[str, Any]:
    places = (run, run / "base", run.parent / "base")
    path = next((place / "config.json" for place in places if (place / "config.json").is_file()), None)
    config = _read_json(path) if path else {}
    multi = config.get("align_weight", 0) or config.get("distill_weight", 0)
    return {**config, "objective": "multi" if multi else "lm"} if config else {}


def _read_json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise HubError(f"{printable(path)}: the file cannot be read ({error}); restore it or delete it.") from None
    if not isinstance(content, dict):
        raise HubError(f"{printable(path)}: this is no JSON object; restore the file or delete it.")
    return content


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
