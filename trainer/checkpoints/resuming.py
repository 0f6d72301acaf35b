"""Which checkpoint a training goes on from."""

import itertools
import json
import re
import shutil
from pathlib import Path

from accelerate.utils import broadcast_object_list
from transformers.trainer import TRAINER_STATE_NAME
from transformers.utils import logging

from spectra_sum.errors import SpectraSumError
from trainer.arguments import SpectraTrainingArguments
from trainer.checkpoints.integrity import checkpoint_problem, saved_processes

logger = logging.get_logger(__name__)

CHECKPOINT = re.compile(r"checkpoint-(\d+)")
# Names that the Trainer does not take for checkpoints: it would count them when it deletes old ones.
UNUSABLE, ABANDONED = "unusable-", "abandoned-"
# Where a checkpoint stands while it is written again, see WholeCheckpointTrainer.
REPLACED = re.compile(r"\.(checkpoint-\d+)\.replaced")


def resuming_is_asked_for(args: SpectraTrainingArguments) -> bool:
    """Whether `resume_from_checkpoint` asks for anything; "false" comes as text from a command line."""
    return args.resume_from_checkpoint not in (None, False, "false", "False")


def checkpoint_to_resume(args: SpectraTrainingArguments) -> str | None:
    """The checkpoint named by `resume_from_checkpoint` ("latest" or "true": the newest sound one in the output folder).

    A damaged checkpoint that is newer than the one taken is renamed to `unusable-checkpoint-STEP`, one whose writing was
    cut off is removed, and a warning says so. When a checkpoint is named, newer ones in the output folder belong to a
    training that is abandoned, and all do when the named one is not one of them: they are renamed to
    `abandoned-NUMBER-checkpoint-STEP`, so that "latest" is always of the training that went on last, and nothing is written
    over them. A checkpoint that was set aside to be written again gets
    its name back when that was not finished. With several processes the main process decides for all.

    Raises:
        ValueError: when there is none to resume, when the named one is damaged, or when the output folder holds some
            and resuming was not asked for.
    """
    if args.world_size == 1:
        return _decide(args)
    outcome: list[str | ValueError | None] = [None]
    if args.process_index == 0:
        try:
            outcome = [_decide(args)]
        except ValueError as error:
            outcome = [error]
    (decision,) = broadcast_object_list(outcome)
    if isinstance(decision, ValueError):
        raise decision
    return decision


def newest_sound_checkpoint(output: str | Path) -> str | None:
    """The newest checkpoint in a run's folder that can be resumed, if there is one."""
    return next((str(path) for path in _newest_first(Path(output)) if checkpoint_problem(path) is None), None)


def _newest_first(output: Path) -> list[Path]:
    found = [path for path in output.glob("checkpoint-*") if CHECKPOINT.fullmatch(path.name) and path.is_dir()]
    return sorted(found, key=_step, reverse=True)


def _step(path: Path) -> int:
    return int(path.name.rpartition("-")[2])


def _decide(args: SpectraTrainingArguments) -> str | None:
    output = Path(args.output_dir)
    wanted = args.resume_from_checkpoint
    _restore_replaced(output)
    if not resuming_is_asked_for(args):
        # One whose writing was cut off lacks the file that the Trainer writes last; it is no reason to refuse.
        complete = [path for path in _newest_first(output) if (path / TRAINER_STATE_NAME).is_file()]
        if complete:
            raise SpectraSumError(
                f"{complete[0]} exists: pass --resume_from_checkpoint latest to go on, or another --output_dir to start "
                "anew."
            )
        return None
    checkpoint = _latest(output) if wanted in (True, "true", "True", "latest") else _named(Path(wanted), output)
    saved = saved_processes(checkpoint)
    if saved != args.world_size:
        logger.warning(
            f"the number of processes is {args.world_size}, and {checkpoint} has the random states of {saved}: the training "
            "does not go on exactly as it would have without the interruption. If as many processes saved it, rng_state "
            "files are lost."
        )
    return checkpoint


def _named(wanted: Path, output: Path) -> str:
    _restore_replaced(wanted.parent)
    if not wanted.is_dir():
        raise SpectraSumError(f"resume_from_checkpoint: there is no folder {wanted}.")
    problem = checkpoint_problem(wanted)
    if problem is not None:
        sound = newest_sound_checkpoint(wanted.parent)
        raise SpectraSumError(
            f"resume_from_checkpoint: {wanted} is damaged: {problem}; "
            + (f"the newest sound one is {sound}." if sound else "there is no sound one beside it.")
        )
    step = json.loads((wanted / TRAINER_STATE_NAME).read_text(encoding="utf-8"))["global_step"]
    present = _newest_first(output)
    is_own = any(path.samefile(wanted) for path in present)
    newer = [path for path in present if not is_own or (_step(path) >= step and not path.samefile(wanted))]
    if newer:
        told = ", ".join(f"{path.name} is renamed to {_abandon(path).name}" for path in newer)
        logger.warning(f"the training goes on from {wanted}, and other checkpoints are set aside: {told}.")
    return str(wanted)


def _abandon(path: Path) -> Path:
    names = (f"{ABANDONED}{number}-{path.name}" for number in itertools.count(1))
    return path.rename(next(path.with_name(name) for name in names if not path.with_name(name).exists()))


def _restore_replaced(output: Path) -> None:
    for replaced in output.glob(".checkpoint-*.replaced"):
        name = REPLACED.fullmatch(replaced.name)
        if name is None:
            continue
        path = output / name[1]
        problem = checkpoint_problem(path)
        if problem is None:
            # The new one is whole; only the removal of the old one is missing.
            shutil.rmtree(replaced)
        elif checkpoint_problem(replaced) is None:
            told = f"{_set_aside(path, problem)}, and " if path.is_dir() else ""
            replaced.rename(path)
            logger.warning(f"{told}{path}, which was being written again, is the earlier one.")


def _latest(output: Path) -> str:
    damaged: list[tuple[Path, str]] = []
    for path in _newest_first(output):
        problem = checkpoint_problem(path)
        if problem is None:
            if damaged:
                told = ", ".join(_set_aside(*entry) for entry in damaged)
                logger.warning(f"damaged checkpoints: {told}; the training goes on from {path}.")
            return str(path)
        damaged.append((path, problem))
    if damaged:
        told = ", ".join(f"{path.name} ({problem})" for path, problem in damaged)
        raise SpectraSumError(
            f"resume_from_checkpoint: no checkpoint in {output} is sound: {told}; delete them, or pass another "
            "--output_dir, and start anew."
        )
    raise SpectraSumError(f"resume_from_checkpoint: there is no checkpoint in {output}.")


def _set_aside(path: Path, problem: str) -> str:
    if not (path / TRAINER_STATE_NAME).is_file():
        shutil.rmtree(path)
        return f"{path.name} ({problem}), cut off while it was written, is removed"
    unusable = path.with_name(UNUSABLE + path.name)
    shutil.rmtree(unusable, ignore_errors=True)
    path.rename(unusable)
    return f"{path.name} ({problem}) is renamed to {unusable.name}"
