"""Pushing during training: `spectra-sum push model` in a process of its own, which cannot harm the run."""

import os
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from transformers.trainer_utils import HubStrategy
from transformers.utils import logging

from spectra_sum.errors import SpectraSumError
from trainer.arguments import SpectraTrainingArguments
from trainer.checkpoints.run_record import RUN_RECORD

logger = logging.get_logger(__name__)

# In the run's folder, so that files can be linked instead of copied.
SNAPSHOTS = ".checkpoints-being-pushed"


def base_repository(repo_id: str) -> str:
    """Where the base of a LoRA run is pushed, which its adapter names."""
    return f"{repo_id}-base"


def check_hub_arguments(args: SpectraTrainingArguments) -> None:
    """
    Raises:
        ValueError: for `push_to_hub` with arguments that this trainer does not publish by.
    """
    if not args.push_to_hub:
        return
    if not args.hub_model_id or "/" not in args.hub_model_id:
        raise SpectraSumError("push_to_hub needs hub_model_id: namespace/name.")
    if args.hub_token is not None:
        raise SpectraSumError("hub_token would be kept with the run; set HF_TOKEN or run `hf auth login` instead.")
    if args.hub_strategy not in (HubStrategy.END, HubStrategy.EVERY_SAVE):
        raise SpectraSumError(
            f"hub_strategy: {args.hub_strategy.value} would publish local resume files; choose end or every_save."
        )


class CheckpointPush:
    """Pushes saved models one after the other, in the background; a failure is logged as one line.

    A folder is pushed as it was when the push was asked for: the Trainer may delete a checkpoint at any time. A LoRA
    run first pushes its base, once, to [`base_repository`].

    Args:
        args (`SpectraTrainingArguments`): `output_dir`, `hub_model_id`, `hub_private_repo`, `hub_revision` and
            `hub_always_push` are used.
    """

    def __init__(self, args: SpectraTrainingArguments):
        self.args = args
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="push")
        self._running: Future[bool] | None = None
        self._base_pushed = False
        self._snapshots = Path(args.output_dir, SNAPSHOTS)
        # A run that was killed leaves its snapshots.
        shutil.rmtree(self._snapshots, ignore_errors=True)

    def start(self, folder: Path, message: str) -> bool:
        """Push a checkpoint; false when it is left out since another push is going on (see `hub_always_push`)."""
        if self._running and not self._running.done() and not self.args.hub_always_push:
            return False
        snapshot = None
        try:
            self._snapshots.mkdir(exist_ok=True)
            snapshot = Path(tempfile.mkdtemp(dir=self._snapshots))
            shutil.copytree(folder, snapshot, copy_function=_link_or_copy, dirs_exist_ok=True)
            # What the card is made of, beside the checkpoint's own log.
            shutil.copy2(Path(self.args.output_dir, RUN_RECORD), snapshot)
        except OSError as error:
            # A full disk, for one: the checkpoint itself is there, so training can go on.
            if snapshot is not None:
                shutil.rmtree(snapshot, ignore_errors=True)
            self._warn(message, str(error))
        else:
            self._running = self._worker.submit(self._push_snapshot, snapshot, message)
        return True

    def finish(self, message: str, revision: str | None = None) -> "Future[bool]":
        """Push the finished run's folder after all pushes before it; the result is false when that failed."""
        self._running = self._worker.submit(self._push_run, message, revision)
        return self._running

    def _push_run(self, message: str, revision: str | None) -> bool:
        done = self._push(Path(self.args.output_dir), message, revision)
        shutil.rmtree(self._snapshots, ignore_errors=True)
        return done

    def _push_snapshot(self, snapshot: Path, message: str) -> bool:
        try:
            return self._push(snapshot, message, None)
        finally:
            shutil.rmtree(snapshot, ignore_errors=True)

    def _push(self, folder: Path, message: str, revision: str | None) -> bool:
        repo_id, revision = self.args.hub_model_id, revision or self.args.hub_revision
        if not (folder / "adapter_config.json").is_file():
            return self._run(folder, repo_id, message, revision)
        base = base_repository(repo_id)
        # The base's own repository has one revision: what an adapter is trained on does not change.
        self._base_pushed = self._base_pushed or self._run(Path(self.args.output_dir, "base"), base, message, None)
        return self._base_pushed and self._run(folder, repo_id, message, revision, "--adapter", "--base", base)

    def _run(self, folder: Path, repo_id: str, message: str, revision: str | None, *options: str) -> bool:
        command = [sys.executable, "-m", "spectra_sum.cli", "push", "model", str(folder), "--repo-id", repo_id]
        command += ["--message", message, *options]
        command += ["--private"] if self.args.hub_private_repo else []
        command += ["--revision", revision] if revision else []
        # The checks load the model again, for which the training's GPU has no room.
        environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
        try:
            done = subprocess.run(command, env=environment, capture_output=True, text=True)
        except OSError as error:
            # No memory or no process is left for it, for example.
            self._warn(message, str(error))
            return False
        if done.returncode:
            reason = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
            self._warn(message, reason)
        else:
            logger.info(done.stdout.strip())
        return done.returncode == 0

    def _warn(self, message: str, reason: str) -> None:
        logger.warning(f"'{message}' was not pushed to {self.args.hub_model_id}; training goes on. {reason}")


def _link_or_copy(source: str, target: str) -> str:
    try:
        os.link(source, target)
    except OSError:
        # Not every file system has hard links.
        shutil.copy2(source, target)
    return target
