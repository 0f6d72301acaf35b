"""Checkpoints and models that are written as a whole or not at all: on a full disk the last good ones stay."""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import Trainer
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from modeling_spectra import SpectraSumConfig
from spectra_sum.models.quantization_choices import BASE_QUANTIZATION_FILE
from trainer.checkpoints.integrity import is_complete, one_line
from trainer.checkpoints.resuming import newest_sound_checkpoint

# In the folder that is written to: a rename within a file system cannot fail for lack of space.
PARTIAL = ".model.partial"
CHECKPOINT, MODEL, STATE = "the checkpoint", "the model", "the state of the finished training"
KEPT = {
    CHECKPOINT: "what was written of it is removed",
    MODEL: "a model that was there before is untouched",
    STATE: "the trained model is written",
}
# What would make a whole model be taken for an adapter, or tell of another model than the adapter's base.
OF_ONE_MODEL = (
    "model*.safetensors*",
    "config.json",
    "adapter_model*.safetensors*",
    "adapter_config.json",
    BASE_QUANTIZATION_FILE,
)


class CheckpointError(RuntimeError):
    """A checkpoint or a model could not be written. One line: the folder, why, the free space, and what is left."""


class WholeCheckpointTrainer(Trainer):
    """The Trainer, with checkpoints and models that are written as a whole or not at all.

    - A checkpoint that could not be written is removed, in any case before `save_total_limit` would delete an older
      one. Nothing of an earlier, abandoned checkpoint of the same step gets mixed with it.
    - A run that is resumed from the checkpoint of its last step trains no further.
    - A model is written beside the files that it replaces, and then moved into place.

    Raises:
        CheckpointError: by `train()`, when a checkpoint could not be written.
    """

    # Set by a GracefulStop: the run is not finished, and nothing of it is published.
    stopped_early = False

    def _determine_best_metric(self, metrics: dict[str, float], trial: Any) -> bool:
        # With save_strategy "best" the answer decides about saving: a run that is stopped must save in any case.
        return super()._determine_best_metric(metrics, trial) or self.stopped_early

    def _run_epoch(self, **kwargs: Any) -> None:
        if self.state.global_step >= self.state.max_steps:
            # Resumed from the checkpoint of the last step, within an epoch: the Trainer would train one more.
            self.control.should_training_stop = True
            return
        super()._run_epoch(**kwargs)

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        folder = Path(self._get_output_dir(trial), f"{PREFIX_CHECKPOINT_DIR}-{self.state.global_step}")
        replaced = folder.with_name(f".{folder.name}.replaced")
        if self.args.should_save:
            shutil.rmtree(replaced, ignore_errors=True)
            if folder.is_dir():
                folder.rename(replaced)
        # Every process writes its random state into the folder.
        self.accelerator.wait_for_everyone()
        try:
            super()._save_checkpoint(model, trial)
        except BaseException as error:
            if is_complete(folder):
                # What failed came after it: a push, for example.
                raise
            failure = _describe(folder, error, CHECKPOINT)
            if self.args.should_save:
                shutil.rmtree(folder, ignore_errors=True)
                if replaced.is_dir():
                    replaced.rename(folder)
            if not isinstance(error, Exception):
                raise
            raise failure from error
        if self.args.should_save:
            shutil.rmtree(replaced, ignore_errors=True)

    def _save_rng_state(self, output_dir: str) -> None:
        if self.args.world_size == 1:
            return super()._save_rng_state(output_dir)
        failure = None
        try:
            super()._save_rng_state(output_dir)
        except Exception as error:  # torch.save raises a RuntimeError for a full disk
            failure = error
        # What follows declares the checkpoint complete and deletes older ones: no process may be behind, or have failed.
        failures = self.accelerator.reduce(torch.tensor(float(failure is not None), device=self.args.device), "sum")
        if failure is not None:
            raise failure
        if failures.item():
            raise OSError("another process could not write its random state")

    def _save(self, output_dir: str | None = None, state_dict: dict | None = None) -> None:
        if not self.args.should_save:
            return super()._save(output_dir, state_dict)
        target = Path(output_dir or self.args.output_dir)
        partial = target / PARTIAL
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        try:
            super()._save(str(partial), state_dict)
            self.complete_model(partial, target)
            _move_over(partial, target)
        finally:
            shutil.rmtree(partial, ignore_errors=True)

    def complete_model(self, folder: Path, target: Path) -> None:
        """Add to the model that was just written into `folder` what belongs to it, before it is moved into `target`."""


@contextmanager
def explained(folder: str | Path, what: str = MODEL) -> Iterator[None]:
    """
    Around writing what a finished training leaves: what goes wrong becomes one line.

    Args:
        folder (`str` or `Path`): The output folder of the run.
        what (`str`, *optional*, defaults to `MODEL`): What is written: `MODEL`, or `STATE` after it.

    Raises:
        CheckpointError: from whatever went wrong: a full disk is an OSError, a RuntimeError from torch, and an Exception
            of their own from safetensors and tokenizers.
    """
    try:
        yield
    except Exception as error:
        raise _describe(Path(folder), error, what) from error


def _describe(folder: Path, error: BaseException, what: str) -> CheckpointError:
    existing = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.is_dir())
    free = shutil.disk_usage(existing).free / 1e9
    left = newest_sound_checkpoint(folder.parent if what == CHECKPOINT else folder)
    next_step = "go on with --resume_from_checkpoint latest" if left else "start again"
    return CheckpointError(
        f"{what} could not be written to {folder} ({type(error).__name__}: {one_line(error)}), where {free:.2f} GB are "
        f"free; {KEPT[what]}, and the newest whole checkpoint is {left}: make room, then {next_step}."
    )


def _move_over(source: Path, target: Path) -> None:
    """Move all files of one folder into another, where weights and configurations that would be of another model go."""
    files = [path.relative_to(source) for path in source.rglob("*") if path.is_file()]
    for path in files:
        (target / path).parent.mkdir(parents=True, exist_ok=True)
        (source / path).replace(target / path)
    for pattern in OF_ONE_MODEL:
        for path in target.glob(pattern):
            if path.relative_to(target) not in files and (path.name != "config.json" or _is_ours(path)):
                path.unlink()


def _is_ours(path: Path) -> bool:
    """Whether a configuration is of a SPeCTrA-Sum model; another one is the user's."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))["model_type"] == SpectraSumConfig.model_type
    except (ValueError, LookupError, TypeError):
        return False
