"""SIGTERM and Ctrl-C end a training as a checkpoint: preemption, a time limit, a node that is drained, a user."""

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
# Where both came, the first of these is what the training was stopped by.
SIGNALS = (signal.SIGTERM, signal.SIGINT)
ONCE_MORE = b"\nCtrl-C: a checkpoint is saved after the running step; once more ends the training at once, without.\n"


class GracefulStop(TrainerCallback):
    """Within `with GracefulStop(trainer) as stop: trainer.train()`, SIGTERM and SIGINT (Ctrl-C) save a checkpoint and end
    the training.

    The running optimizer step is finished, with its log entry. A push that is due after it is left out, and an evaluation
    is made when the training goes on. An evaluation that is running is finished first. With several processes it is
    enough that one gets the signal, and they may get it at different steps: they agree at the end of each step, so that
    all save and stop at the same one. Outside of the `with`, the signals do what they did before; one that came after the
    last step had saved does it at the end of the `with`. A second SIGINT is a KeyboardInterrupt at once.

    The Trainer's own `enable_jit_checkpoint` is not used: each of its processes saves at a moment of its own, where the
    collective calls of saving wait for the others forever, and it saves before the optimizer step but after the step's
    dropout was drawn, so that the resumed run computes another gradient than the uninterrupted one.

    Args:
        trainer (`SpectraTrainer`): Whose training is stopped; its `stopped_early` is set then.
        checkpoint (`str`, *optional*): From which it goes on, and to which an evaluation that was left out belongs.
        resume_command (`str`, *optional*): The command that goes on with the training, for the message.

    Attributes:
        received (`set[signal.Signals]`): The signals that came to this process, or, once stopped, to any.
    """

    def __init__(self, trainer: Any, checkpoint: str | None = None, resume_command: str | None = None):
        self.trainer = trainer
        self.received: set[signal.Signals] = set()
        self._checkpoint = checkpoint
        self._resume_command = resume_command
        self._process = os.getpid()
        self._first_step = True
        self._after_a_step = False
        self._previous: dict[signal.Signals, Callable[[int, FrameType | None], Any] | int | None] = {}

    def __enter__(self) -> "GracefulStop":
        self.trainer.add_callback(self)
        self._previous = {number: signal.signal(number, self._request) for number in SIGNALS}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for number, previous in self._previous.items():
            # None: a handler that was not installed from Python, which Python cannot install again.
            signal.signal(number, signal.SIG_DFL if previous is None else previous)
        self.trainer.remove_callback(self)
        if self.received and error is None and not self.trainer.stopped_early:
            signal.raise_signal(self._stopped_by())

    @property
    def exit_code(self) -> int:
        """What a shell reports for a process that the signal ended: 143 for SIGTERM, 130 for SIGINT."""
        return 128 + self._stopped_by()

    def message(self) -> str:
        """For the user of a training that was stopped: at which step, and in a line of its own how to go on."""
        args, state = self.trainer.args, self.trainer.state
        stopped = f"stopped by {self._stopped_by().name} after step {state.global_step} of {state.max_steps}"
        stopped += f"; {_last_checkpoint(args, state)} is saved"
        if args.save_only_model:
            return f"{stopped}: it holds the model alone (save_only_model), which cannot be resumed."
        if self._resume_command is None:
            return f"{stopped}: run the same command with --resume_from_checkpoint latest to go on from it."
        return f"{stopped}. To go on from it:\n{self._resume_command}"

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

    def _stopped_by(self) -> signal.Signals:
        return next(number for number in SIGNALS if number in self.received)

    def _request(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._process:
            # Of a forked process, which inherited this handler. Ctrl-C in a terminal comes to all of them, and the
            # training needs its workers for the running step.
            if number == signal.SIGINT:
                return
            # To ignore SIGTERM would leave the parent waiting for the end of a process that it terminates.
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        if number == signal.SIGINT:
            if number in self.received:
                raise KeyboardInterrupt
            if self.trainer.is_world_process_zero():
                # What is interrupted may be printing, which cannot be entered twice.
                os.write(2, ONCE_MORE)
        self.received.add(signal.Signals(number))

    def _evaluate(self) -> None:
        state = self.trainer.state
        metrics = self.trainer._evaluate(None, None)
        self.trainer._determine_best_metric(metrics, None)
        # The Trainer does it when it saves, which came before this evaluation.
        if state.best_global_step == state.global_step and self._checkpoint is not None:
            state.best_model_checkpoint = self._checkpoint

    def _agreed(self, args: TrainingArguments) -> bool:
        if args.world_size > 1:
            own = torch.tensor([float(number in self.received) for number in SIGNALS], device=args.device)
            counts = self.trainer.accelerator.reduce(own, reduction="sum").tolist()
            # A signal that comes now counts at the next step: what the others know of decides.
            agreed = {number for number, count in zip(SIGNALS, counts, strict=True) if count}
            self.received |= agreed
            return bool(agreed)
        return bool(self.received)

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


def outlive_signals(initialize: Callable[[int], None] | None, worker: int) -> None:
    """
    Starts a worker of a DataLoader that only its own training process can end by SIGTERM, and nobody by SIGINT.

    torchrun and SLURM send SIGTERM to all processes of a job, and a terminal SIGINT. A worker that it ended would be an
    error in the training, which then could not finish its step. But Python ends the workers of a process that fails by
    SIGTERM, and waits for them.

    Args:
        initialize (`Callable`, *optional*): The worker's own `worker_init_fn`.
        worker (`int`): Its number.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
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
    """The DataLoader itself, as accelerate prepared it, with workers of [`outlive_signals`]."""
    # accelerate's one only reads through to the one that starts the workers.
    inner = loader.base_dataloader
    inner.worker_init_fn = functools.partial(outlive_signals, inner.worker_init_fn)
    return loader
