"""What a sweep leaves: a table of its trials as JSON and Markdown, and the best one as a training configuration."""

import json
from collections import Counter
from collections.abc import Sequence
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from spectra_sum.atomic_write import write_text_atomically
from spectra_sum.environment import describe_commit, describe_hardware, describe_versions
from spectra_sum.errors import SpectraSumError
from trainer.parameter_counts import TRAINED
from trainer.search.space import SearchSpace
from trainer.search.trial import PARAMETERS, REASON

if TYPE_CHECKING:
    from optuna import Study
    from optuna.trial import FrozenTrial

PACKAGES = ("torch", "transformers", "accelerate", "peft", "trl", "optuna")
# User attribute of a trial: the reason why it has failed if it is interrupted.
IF_INTERRUPTED = "reason_if_interrupted"
STATES = ("completed", "pruned", "failed", "interrupted", "running", "waiting")


def trial_state(trial: "FrozenTrial") -> str:
    """`completed`, `pruned` (cannot be built), `failed` (out of memory, a loss that is no number, interrupted for the
    second time), `interrupted` (killed or ended by any other error: it is tried again), `running` or `waiting`.
    """
    state = trial.state.name
    if state == "FAIL":
        return "failed" if {REASON, IF_INTERRUPTED} & trial.user_attrs.keys() else "interrupted"
    return {"COMPLETE": "completed"}.get(state, state.lower())


def complete_config(config: str | Path, argv: Sequence[str], arguments: Sequence[Any]) -> dict[str, Any]:
    """A configuration file's content with the arguments of the command line in it.

    Args:
        config (`str` or `Path`): The YAML file of a training.
        argv (`Sequence[str]`): The arguments beside it.
        arguments (`Sequence`): The dataclasses that both were parsed into.

    Raises:
        ValueError: when an argument is not given by its full name.
    """
    content = yaml.safe_load(Path(config).read_text(encoding="utf-8")) or {}
    for token in argv:
        if not token.startswith("--"):
            continue
        name = token.removeprefix("--").partition("=")[0].replace("-", "_")
        values = [vars(part)[name] for part in arguments if name in vars(part)]
        if not values:
            raise SpectraSumError(
                f"{token}: a sweep takes arguments of training by their full name, each with its value."
            )
        content[name] = values[0].value if isinstance(values[0], Enum) else values[0]
    return content


def write_results(study: "Study", space: SearchSpace, output: Path, config: dict[str, Any]) -> dict[str, Any]:
    """Write `trials.json`, `trials.md` and, once a trial is completed, `best.yaml` into the study's folder.

    Args:
        study (`optuna.Study`): With the trials so far.
        space (`SearchSpace`): What they chose from.
        output (`Path`): The folder.
        config (`dict[str, Any]`): The whole configuration that the trials' values are put into.

    Returns:
        The content of `trials.json`.
    """
    rows = [_row(trial, space) for trial in study.trials]
    counts = Counter(row["state"] for row in rows)
    completed = [row for row in rows if row["state"] == "completed"]
    pick = min if space.direction == "minimize" else max
    best = pick(completed, key=lambda row: row["value"]) if completed else None
    results = {
        "study": study.study_name,
        "objective": space.objective,
        "direction": space.direction,
        "counts": {state: counts[state] for state in STATES if counts[state]},
        "reasons": dict(Counter(row["reason"] for row in rows if row["reason"])),
        "best": best and best["number"],
        "trials": rows,
        "config": config,
        "commit": describe_commit(),
        "versions": describe_versions(PACKAGES),
        "hardware": describe_hardware(),
    }
    write_text_atomically(output / "trials.json", json.dumps(results, indent=2, sort_keys=True, default=str) + "\n")
    write_text_atomically(output / "trials.md", _markdown(results))
    if best:
        path = output / "best.yaml"
        found = config | best["arguments"] | {"output_dir": str(output / "best")}
        head = [
            f"# accelerate launch trainer/train.py --config {path}",
            "#",
            f"# Trial {best['number']} of the study {study.study_name}: the best {space.objective}, {best['value']:.6g}, of "
            f"{len(completed)} completed trials.",
        ]
        body = yaml.safe_dump(found, sort_keys=False, default_flow_style=None, allow_unicode=True, width=120)
        write_text_atomically(path, "\n".join(head) + "\n" + body)
    return results


def _row(trial: "FrozenTrial", space: SearchSpace) -> dict[str, Any]:
    state, attributes = trial_state(trial), trial.user_attrs
    reason = attributes.get(REASON, attributes.get(IF_INTERRUPTED) if state == "failed" else None)
    seconds = trial.duration.total_seconds() if trial.duration and state != "interrupted" else None
    return {
        "number": trial.number,
        "state": state,
        "value": trial.value if state == "completed" else None,
        "arguments": space.fields(trial.params),
        "reason": reason,
        "parameters": attributes.get(PARAMETERS),
        "seconds": None if seconds is None else round(seconds, 1),
    }


def _markdown(results: dict[str, Any]) -> str:
    names = sorted({name for row in results["trials"] for name in row["arguments"]})
    sign = 1 if results["direction"] == "minimize" else -1
    rows = sorted(results["trials"], key=lambda row: (row["value"] is None, sign * (row["value"] or 0), row["number"]))
    header = ["trial", results["objective"], *names, "trained parameters", "seconds", "state", "reason"]
    lines = [header, ["---"] * len(header)]
    for row in rows:
        cells = [row["number"], None if row["value"] is None else f"{row['value']:.6g}"]
        cells += [row["arguments"].get(name) for name in names]
        trained = row["parameters"] and sum(part[TRAINED] for part in row["parameters"].values())
        cells += [trained and f"{trained:,}", row["seconds"], row["state"], row["reason"]]
        lines.append(["" if cell is None else str(cell).replace("|", "\\|") for cell in cells])
    counts = ", ".join(f"{count} {state}" for state, count in results["counts"].items()) or "none yet"
    title = f"# Study {results['study']}\n\nTrials: {counts}. {results['objective']} is each trial's best; "
    title += f"the study's aim is to {results['direction']} it.\n\n"
    return title + "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"
