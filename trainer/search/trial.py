"""The trials of a sweep: one trainer that builds and trains the model of each trial anew."""

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from accelerate.utils.memory import should_reduce_batch_size
from huggingface_hub.errors import StrictDataclassError
from peft import PeftModel
from transformers import PreTrainedModel, set_seed
from trl import ModelConfig

from spectra_sum.errors import SpectraSumError
from trainer.arguments import ArchitectureArguments, SpectraTrainingArguments
from trainer.objectives.loss_records import LossRecords
from trainer.objectives.negative_queue import NegativeQueue
from trainer.parameter_counts import count_parameters
from trainer.search.space import SearchSpace
from trainer.spectra_trainer import SpectraTrainer
from trainer.trainable import uses_lora

if TYPE_CHECKING:
    from optuna.trial import BaseTrial, Trial

LORA_ARGUMENTS = ("lora_r", "lora_alpha", "lora_dropout", "use_rslora", "use_dora")
OPTIMISATION_ARGUMENTS = (
    "learning_rate",
    "visual_path_learning_rate_factor",
    "gate_learning_rate_factor",
    "vision_tower_learning_rate_factor",
    "weight_decay",
    "warmup_steps",
    "max_grad_norm",
    "optim",
    "adam_beta1",
    "adam_beta2",
    "lr_scheduler_type",
    "per_device_train_batch_size",
    "gradient_accumulation_steps",
)
# All trials share the articles as they were prepared, the features in a cache and the teacher.
SHARED_ARCHITECTURE = (
    *("fusion", "max_images", "max_candidate_images", "max_selected_images"),
    *("vision_feature_layer", "vision_feature_layers", "visual_states"),
)
LOSS_WEIGHTS = ("align_weight", "distill_weight")
REASON = "reason"
PARAMETERS = "parameters"


class TrialFailed(RuntimeError):
    """A trial that ran out of memory or whose loss was no number; the sweep goes on with the next."""


def check_searchable(
    space: SearchSpace, architecture: Any, args: SpectraTrainingArguments, model_args: ModelConfig
) -> None:
    """Check that a sweep can set every argument of the search.

    Raises:
        ValueError: naming the argument and the fix.
    """
    fields = ArchitectureArguments.__dataclass_fields__
    for name in space.arguments:
        if name in SHARED_ARCHITECTURE or name.startswith("teacher_"):
            raise SpectraSumError(
                f"search: {name} is shared by all trials; set it in the config, one study for each value."
            )
        if name in LORA_ARGUMENTS and not uses_lora(args, model_args):
            raise SpectraSumError(f"search: {name} needs use_peft: true in the config.")
        if name not in (*fields, *LORA_ARGUMENTS, *OPTIMISATION_ARGUMENTS):
            raise SpectraSumError(
                f"search: {name} cannot be searched; it must be a field of SpectraSumConfig or one of "
                f"{', '.join((*LORA_ARGUMENTS, *OPTIMISATION_ARGUMENTS))}."
            )
    weights = [name for name in LOSS_WEIGHTS if name in space.arguments]
    if weights and 0.0 in (architecture.align_weight, architecture.distill_weight):
        raise SpectraSumError(f"search: {', '.join(weights)} can be searched if the config turns both losses on.")
    if weights and space.objective == "eval_loss":
        raise SpectraSumError(
            "search: eval_loss cannot compare different loss weights; use the objective eval_loss_lm."
        )
    for choices in space.parameters.values():
        for name, value in (pair for chosen in choices.values() for pair in chosen.items()):
            # The Trainer casts to the type of the value that it has.
            if name in OPTIMISATION_ARGUMENTS and (present := getattr(args, name)) is not None:
                try:
                    same = type(present)(value) == value
                except (TypeError, ValueError):
                    same = False
                if not same:
                    raise SpectraSumError(
                        f"search: {name} cannot be {value!r}; the config gives it the type {type(present).__name__}."
                    )


class TrialTrainer(SpectraTrainer):
    """Trains a model per trial, for [`~transformers.Trainer.hyperparameter_search`] with Optuna.

    A trial starts like a training of its own: same seed, empty queue of negatives, no earlier model in memory. One that
    cannot be built is pruned, one that runs out of memory or whose loss is NaN or infinite has failed; the reason is
    the trial's user attribute `reason`, the counts of its model's parameters are `parameters`.

    Args:
        space (`SearchSpace`): What the trials choose from.
        architecture, model_args: As parsed; a trial's values replace theirs.
        build (`Callable`): Makes the trained model of an architecture and a `ModelConfig`.
        first_model: The model of the config itself, which the Trainer looks at before the first trial.
        kwargs: Of [`SpectraTrainer`], without `model`.
    """

    def __init__(
        self,
        *,
        space: SearchSpace,
        architecture: Any,
        model_args: ModelConfig,
        build: Callable[[Any, ModelConfig], PreTrainedModel | PeftModel],
        first_model: PreTrainedModel | PeftModel,
        **kwargs: Any,
    ):
        self.space = space
        self.architecture = architecture
        self.model_args = model_args
        self.build = build
        self._first_model: PreTrainedModel | PeftModel | None = first_model
        self._best: float | None = None
        super().__init__(model_init=self._model_of_trial, **kwargs)

    def best_objective(self, metrics: dict[str, float]) -> float:
        """The best value of the objective so far in this trial: the paper keeps the best validation loss.

        Raises:
            ValueError: when the evaluation has no such metric.
        """
        if self.space.objective not in metrics:
            raise SpectraSumError(
                f"objective: the evaluation reports no {self.space.objective}, but {', '.join(sorted(metrics))}."
            )
        best = min if self.space.direction == "minimize" else max
        value = metrics[self.space.objective]
        self._best = value if self._best is None else best(self._best, value)
        return self._best

    def training_arguments(self, trial: "BaseTrial") -> dict[str, Any]:
        """The trial's values of training arguments, which the Trainer sets itself."""
        fields = self.space.suggest(trial)
        return {name: value for name, value in fields.items() if name in OPTIMISATION_ARGUMENTS}

    def train(
        self,
        resume_from_checkpoint: str | bool | None = None,
        trial: "Trial | None" = None,
        ignore_keys_for_eval: list[str] | None = None,
    ) -> Any:
        """Train the model of the trial."""
        self._best = None
        try:
            return super().train(resume_from_checkpoint, trial, ignore_keys_for_eval)
        except Exception as error:
            reason = _reason_of_failure(error)
            if reason is None:
                raise
        # Not within the handler: the earlier exception would hold the whole model as long as this one lives.
        trial.set_user_attr(REASON, reason)
        raise TrialFailed(reason)

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        """As of the Trainer; without evaluations within the training loop it is called at the trial's end."""
        try:
            return super().evaluate(*args, **kwargs)
        except Exception as error:
            reason = _reason_of_failure(error)
            if reason is None:
                raise
        self._trial.set_user_attr(REASON, reason)
        raise TrialFailed(reason)

    def _model_of_trial(self, trial: "Trial | None") -> PreTrainedModel | PeftModel:
        if trial is None:
            model, self._first_model = self._first_model, None
            return model
        self._start_afresh()
        fields = self.space.suggest(trial)
        architecture = {
            name: value for name, value in fields.items() if name in ArchitectureArguments.__dataclass_fields__
        }
        lora = {name: value for name, value in fields.items() if name in LORA_ARGUMENTS}
        try:
            model = self.build(
                dataclasses.replace(self.architecture, **architecture), dataclasses.replace(self.model_args, **lora)
            )
        except (ValueError, StrictDataclassError) as error:
            from optuna import TrialPruned

            reason = _one_line(error)
            trial.set_user_attr(REASON, reason)
            raise TrialPruned(reason) from error
        # A training outside of a sweep starts from here with the seed's first numbers, too.
        set_seed(self.args.seed)
        trial.set_user_attr(PARAMETERS, count_parameters(model))
        config = model.get_base_model().config if isinstance(model, PeftModel) else model.config
        self.negative_queue = NegativeQueue(
            config.negative_queue_size, config.image_embedding_size, device=self.args.device
        )
        return model

    def _start_afresh(self) -> None:
        """Forget the earlier trial, whose model would stand in memory beside the new one."""
        self.model = self.model_wrapped = self.optimizer = self.lr_scheduler = None
        handler = self.callback_handler
        handler.model = handler.optimizer = handler.lr_scheduler = None
        self.accelerator.free_memory()
        self._pending_negatives = []
        self._articles_in_step, self._steps_since_log = 1, 0
        self.loss_records = {"train": LossRecords(warn=True), "eval": LossRecords()}


def _reason_of_failure(error: Exception) -> str | None:
    """Why the trial has failed; None for an error that is no matter of the trial."""
    if isinstance(error, TrialFailed):
        return str(error)
    if isinstance(error, FloatingPointError):
        return f"not finite: {_one_line(error)}"
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)) or should_reduce_batch_size(error):
        return f"out of memory: {_one_line(error)}"
    return None


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())
