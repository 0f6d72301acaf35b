"""SIGTERM ends a training as a checkpoint: preemption, a time limit, a node that is drained."""

import functools
import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

import torch
from accelerate.data_loader import DataLoaderAdapter
from transformers import DefaultFlowCallback, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

# What a shell reports for a process that SIGTERM ended.
EXIT_CODE = 128 + signal.SIGTERM


class GracefulStop(TrainerCallback):
    """Within `with GracefulStop(trainer) as stop: trainer.train()`, SIGTERM saves a checkpoint and ends the training.

    The running optimizer step is finished, with its log entry. A push that is due after it is left out, and an evaluation
    is made when the training goes on. An evaluation that is running is finished first. With several processes it is
    enough that one gets the signal, and they may get it at different steps: they agree at the end of each step, so that
    all save and stop at the same one. Outside of the `with`, SIGTERM does what it did before; one that came after the last
    step had saved does it at the end of the `with`.

    The Trainer's own `enable_jit_checkpoint` is not used: each of its processes saves at a moment of its own, where the
    collective calls of saving wait for the others forever, and it saves before the optimizer step but after the step's
    dropout was drawn, so that the resumed run computes another gradient than the uninterrupted one.

    Args:
        trainer (`SpectraTrainer`): Whose training is stopped; its `stopped_early` is set then.
        checkpoint (`str`, *optional*): From which it goes on, and to which an evaluation that was left out belongs.
    """

    def __init__(self, trainer: Any, checkpoint: str | None = None):
        self.trainer = trainer
        self._checkpoint = checkpoint
        self._requested = False
        self._process = os.getpid()
        self._first_step = True
        self._after_a_step = False
        self._previous: Callable[[int, FrameType | None], Any] | int | None = None

    def __enter__(self) -> "GracefulStop":
        self.trainer.add_callback(self)
        self._previous = signal.signal(signal.SIGTERM, self._request)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        # None: a handler that was not installed from Python, which Python cannot install again.
        signal.signal(signal.SIGTERM, signal.SIG_DFL if self._previous is None else self._previous)
        self.trainer.remove_callback(self)
        if self._requested and error is None and not self.trainer.stopped_early:
            signal.raise_signal(signal.SIGTERM)

    def message(self) -> str:
        """One line for the user of a training that was stopped: at which step, and how to go on."""
        args, state = self.trainer.args, self.trainer.state
        saved = f"{_last_checkpoint(args, state)} is saved"
        if args.save_only_model:
            how = "it holds the model alone (save_only_model), which cannot be resumed."
        else:
            how = "run the same command with --resume_from_checkpoint latest to go on from it."
        return f"stopped by SIGTERM after step {state.global_step} of {state.max_steps}; {saved}: {how}"

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        # Stopped in its last step: no further one begins.
        if state.global_step >= state.max_steps and evaluation_is_missing(args, state):
            self._evaluate()

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self._after_a_step = False
        if self._first_step and state.global_step > 0 and evaluation_is_missing(args, state):
            self._evaluate()
        self._first_step = False

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self._after_a_step = True
        if self._agreed(args):
            control.should_evaluate = False
            # What was averaged since the last entry would be lost.
            control.should_log = True
            self._stop(control)

    def on_evaluate(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        # A signal during a long evaluation waits for no further step. One before the first step does (eval_on_start).
        if self._after_a_step and self._agreed(args):
            self._stop(control)

    def on_epoch_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if self.trainer.stopped_early:
            control.should_evaluate = False
            # The last step of the epoch has saved.
            control.should_save = False

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        if self.trainer.stopped_early:
            # The Trainer would load the best checkpoint, and with save_total_limit 1 delete the one just saved, whose
            # own state names the best one.
            state.best_model_checkpoint = None

    def _request(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._process:
            # Of a forked process, which inherited this handler: to ignore the signal there would leave its parent
            # waiting for its end.
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        self._requested = True

    def _evaluate(self) -> None:
        state = self.trainer.state
        metrics = self.trainer._evaluate(None, None)
        self.trainer._determine_best_metric(metrics, None)
        # The Trainer does it when it saves, which came before this evaluation.
        if state.best_global_step == state.global_step and self._checkpoint is not None:
            state.best_model_checkpoint = self._checkpoint

    def _agreed(self, args: TrainingArguments) -> bool:
        if args.world_size == 1:
            return self._requested
        requests = torch.tensor(float(self._requested), device=args.device)
        return self.trainer.accelerator.reduce(requests, reduction="sum").item() > 0

    def _stop(self, control: TrainerControl) -> None:
        self.trainer.stopped_early = True
        control.should_save = True
        control.should_training_stop = True


def _last_checkpoint(args: TrainingArguments, state: TrainerState) -> Path:
    return Path(args.output_dir, f"{PREFIX_CHECKPOINT_DIR}-{state.global_step}")


def evaluation_is_missing(args: TrainingArguments, state: TrainerState) -> bool:
    """Whether an evaluation was due after the last step and was not made, since the training ended there.

    Leaving it out would also change the training: an evaluation draws from the same random numbers as dropout.
    """
    control, flow = TrainerControl(), DefaultFlowCallback()
    flow.on_step_end(args, state, control)
    # The last epoch ends with the last step, wherever that is.
    if float(state.epoch).is_integer() or state.global_step >= state.max_steps:
        flow.on_epoch_end(args, state, control)
    made = any(entry["step"] == state.global_step and "eval_runtime" in entry for entry in state.log_history)
    return control.should_evaluate and not made


def outlive_sigterm(initialize: Callable[[int], None] | None, worker: int) -> None:
    """
    Starts a worker of a DataLoader that only its own training process can end by SIGTERM.

    torchrun and SLURM send the signal to all processes of a job. A worker that it ended would be an error in the
    training, which then could not finish its step. But Python ends the workers of a process that fails by the same
    signal, and waits for them.

    Args:
        initialize (`Callable`, *optional*): The worker's own `worker_init_fn`.
        worker (`int`): Its number.
    """
    # Blocked in every thread that is started from here, and taken by one that learns who sent it.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    # The training's own handler, inherited by a fork. A signal that is ignored might not wait for the thread.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    threading.Thread(target=_end_with_parent, name="sigterm", daemon=True).start()
    if initialize is not None:
        initialize(worker)


def _end_with_parent() -> None:
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != os.getppid():
        pass
    # From a thread, only this ends the process; a DataLoader takes another code for a failure.
    os._exit(0)


def keep_workers(loader: DataLoaderAdapter) -> DataLoaderAdapter:
    """The DataLoader itself, as accelerate prepared it, with workers of [`outlive_sigterm`]."""
    # accelerate's one only reads through to the one that starts the workers.
    inner = loader.base_dataloader
    inner.worker_init_fn = functools.partial(outlive_sigterm, inner.worker_init_fn)
    return loader
