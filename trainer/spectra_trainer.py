"""`SpectraTrainer`: the Hugging Face Trainer with L_lm + λ_align L_align + λ_distill L_distill (§6)."""

import math
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import gather_object
from datasets import Dataset
from peft import PeftModel
from torch import nn
from torch.utils.data import DataLoader, Subset
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_utils import HubStrategy
from transformers.utils import logging

from modeling_spectra import SpectraSumForConditionalGeneration, SpectraSumOutput
from spectra_sum.errors import SpectraSumError
from spectra_sum.records.article_images import BrokenImage, UndecodedArticles
from spectra_sum.tasks.task import SUMMARIZATION, Task
from trainer.arguments import SpectraTrainingArguments
from trainer.broken_images import BrokenImages
from trainer.checkpoints.adapter_card import AdapterRun
from trainer.checkpoints.adapter_files import finish_adapter
from trainer.checkpoints.graceful_stop import keep_workers
from trainer.checkpoints.integrity import QUEUE_FILE
from trainer.checkpoints.push import CheckpointPush
from trainer.collator import SummarizationCollator
from trainer.evaluation.generating import GeneratingTrainer
from trainer.objectives.default_teacher import check_default_teacher
from trainer.objectives.dpp_teacher import SummaryTeacher, TeacherLabels, best_images_embedding, summary_embedding
from trainer.objectives.loss_records import LossRecords
from trainer.objectives.losses import alignment_loss, distillation_loss
from trainer.objectives.negative_queue import NegativeQueue
from trainer.sharding import original_class, prepare_sharding, shards_on_cpus
from trainer.trainable import parameter_groups
from trainer.trainer_checks import check_arguments, check_sets

logger = logging.get_logger(__name__)

# What the collator adds for the losses; the model does not know it.
FOR_THE_LOSSES = (
    "summary_sentences",
    "image_texts",
    "teacher_images",
    "negative_keys",
    "article_ids",
    "broken_images",
)
FOR_THE_LOSSES += TeacherLabels._fields


class PushNegatives(TrainerCallback):
    """Pushes the image targets of a finished optimizer step into the trainer's negative queue."""

    def __init__(self, trainer: "SpectraTrainer"):
        self.trainer = trainer

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self.trainer.push_pending_negatives()


class SpectraTrainer(GeneratingTrainer):
    """Trains [`SpectraSumForConditionalGeneration`], bare or under PEFT, with all three losses.

    Each loss is a sum of per-article terms over the articles of the optimizer step (L_lm: of per-token terms over its
    tokens), so that gradient accumulation 1 × 4 equals 4 × 1. The weights λ, γ and the size of the queue are fields of
    the model's configuration; a loss of weight 0 is not computed.

    Logged beside the Trainer's own values: `loss_lm`, `loss_align`, `loss_distill` (unweighted), `gate_LAYER` (mean
    |tanh α|), `teacher_spread` (mean of max − min of an article's labels) and `vrp_agreement` (share of articles with
    several images whose best image by the predictor is the teacher's best), and `teacher_truncated_texts` (sentences cut
    off at the text tower's limit so far), when there are any.

    Args:
        teacher (`SummaryTeacher`, *optional*): Needed unless `align_weight` and `distill_weight` are 0: the [`DPPTeacher`] of
            the model's image embeddings, or a [`DefaultTeacher`], for L_distill alone.
        cached_teacher (`bool`, *optional*, defaults to `False`): The collator adds the teacher's [`TeacherLabels`] to every
            batch, so that no teacher is needed.
        eval_max_length (`int`, *optional*, defaults to `2048`): Most text tokens of a prompt in evaluation.
        use_images (`bool`, *optional*, defaults to `True`): False evaluates without images.
        task (`Task`, *optional*, defaults to `SUMMARIZATION`): What the articles are for, which says what is scored.
        broken_images (`Sequence[BrokenImage]`, *optional*): Images that are known to be broken. Those that are met later are
            added to the attribute of this name, a [`BrokenImages`]: they are left out, and training goes on.
        compute_metrics (`Callable`, *optional*): Gets an `EvalPrediction` of all articles of an evaluation, on generated
            summaries: `predictions` and `label_ids` are arrays of token ids as [`SummaryPredictionOutput`] describes them.
            What it returns is reported with the prefix, and can be `metric_for_best_model`. Needs `predict_with_generate`.
        preprocess_logits_for_metrics (`Callable`, *optional*): Gets the tokens written for a batch (B,
            `generation_max_new_tokens`) and those of its references (B, S), padded as above, both tensors; what it returns
            takes the place of `predictions`. There are no logits.
        data_collator (`Callable`, *optional*): A [`SummarizationCollator`] of `eval_max_length` by default.
        kwargs: Of `transformers.Trainer`; `args` is a [`SpectraTrainingArguments`], and `processing_class` the model's
            processor. `train_dataset` and `eval_dataset` (or a dict of several) are as [`GeneratingTrainer`] describes.

    A loss or a gradient that is NaN or infinite ends the training with a FloatingPointError that names the articles.

    Raises:
        ValueError: when a loss is on and there is no teacher.
        SpectraSumError: for arguments and sets that cannot be trained on; see [`check_arguments`] and [`check_sets`].
    """

    # L_align and L_distill are divided by the articles of the whole step here, L_lm by its tokens in the model.
    loss_is_scaled_for_ga = True

    def __init__(
        self,
        *,
        teacher: SummaryTeacher | None = None,
        cached_teacher: bool = False,
        eval_max_length: int = 2048,
        use_images: bool = True,
        task: Task = SUMMARIZATION,
        broken_images: Sequence[BrokenImage] = (),
        **kwargs: Any,
    ):
        check_arguments(kwargs)
        if kwargs.get("data_collator") is None:
            kwargs["data_collator"] = SummarizationCollator(
                kwargs.get("processing_class"),
                eval_max_length,
                use_images,
                teacher_reads_texts=teacher is not None and teacher.text_scale is not None,
                teacher_reads_images=use_images and teacher is not None and teacher.reads_images,
            )
        sets = (kwargs.get(name) for name in ("train_dataset", "eval_dataset"))
        check_sets(kwargs["args"], kwargs["data_collator"], use_images, *sets)
        super().__init__(**kwargs)
        self.broken_images = BrokenImages(broken_images)
        self.args: SpectraTrainingArguments
        config = self.base_model.config
        self.uses_teacher = use_images and (config.align_weight > 0 or config.distill_weight > 0)
        if self.uses_teacher and teacher is None and not cached_teacher:
            raise SpectraSumError(
                "align_weight and distill_weight need a teacher: pass a DPPTeacher, or set both to 0 (L_lm alone)."
            )
        if teacher is not None and teacher.reads_images:
            check_default_teacher(config.align_weight, config.distill_weight, use_images)
            if not getattr(self.data_collator, "teacher_reads_images", False):
                raise SpectraSumError(
                    "teacher: it reads the images, which data_collator does not give it; make that with "
                    "teacher_reads_images=True."
                )
        self.teacher = teacher
        self.eval_max_length = eval_max_length
        self.use_images = use_images
        self.task = task
        self.negative_queue = NegativeQueue(
            config.negative_queue_size, config.image_embedding_size, device=self.args.device
        )
        self._pending_negatives: list[tuple[torch.Tensor, torch.Tensor]] = []
        self._own_articles: list[str] = []
        self._articles_in_step, self._steps_since_log = 1, 0
        self.loss_records = {"train": LossRecords(warn=True), "eval": LossRecords()}
        self.add_callback(PushNegatives(self))
        prepare_sharding(self.accelerator, self.model, self.args.optim)

    @property
    def base_model(self) -> SpectraSumForConditionalGeneration:
        """The SPeCTrA-Sum model without the wrappers of PEFT and accelerate."""
        model = self.accelerator.unwrap_model(self.model)
        return model.get_base_model() if isinstance(model, PeftModel) else model

    def create_accelerator_and_postprocess(self) -> None:
        """As the Trainer does; FSDP also on CPUs."""
        super().create_accelerator_and_postprocess()
        # Of an IterableDataset one process would read for all, and its batches hold texts, which cannot be sent.
        self.accelerator.dataloader_config.dispatch_batches = False
        self.is_fsdp_enabled |= shards_on_cpus(self.accelerator)

    def autocast_smart_context_manager(self, cache_enabled: bool | None = True) -> AbstractContextManager:
        """Of every forward pass: accelerate makes autocast a part of the model's forward, but not with FSDP2."""
        return self.accelerator.autocast() if self.accelerator.is_fsdp2 else super().autocast_smart_context_manager()

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        """The optimizer of `args.optim` over the groups of [`parameter_groups`]."""
        if self.optimizer is None:
            model = self.model if model is None else model
            optimizer_class, kwargs = self.get_optimizer_cls_and_kwargs(self.args, model)
            if {"params", "model", "optimizer_dict"} & kwargs.keys():
                raise SpectraSumError(f"optim {self.args.optim}: it makes its own parameter groups; choose another.")
            groups = parameter_groups(model, self.get_decay_parameter_names(model), self.args)
            self.optimizer = optimizer_class(groups, **kwargs)
        return self.optimizer

    def _get_dataloader(
        self, dataset: Any, description: str, batch_size: int, sampler_fn: Callable | None = None, **kwargs: Any
    ) -> DataLoader:
        articles, sampler = dataset, sampler_fn
        # The collator decodes images: `datasets` would end the training at a broken one.
        decodes = isinstance(self.data_collator, SummarizationCollator)
        if decodes and isinstance(dataset, Subset) and isinstance(dataset.dataset, Dataset):
            articles = Subset(UndecodedArticles(dataset.dataset), dataset.indices)
        elif decodes and isinstance(dataset, Dataset):
            articles = UndecodedArticles(dataset)
            # A sampler by lengths reads a column.
            sampler = sampler_fn and (lambda _: sampler_fn(dataset))
        return keep_workers(super()._get_dataloader(articles, description, batch_size, sampler, **kwargs))

    def get_batch_samples(
        self, epoch_iterator: Any, num_batches: int, device: torch.device
    ) -> tuple[list, torch.Tensor | int | None]:
        """Also counts the articles of the optimizer step, over all processes, and keeps the ids of this one's."""
        batches, num_items = super().get_batch_samples(epoch_iterator, num_batches, device)
        self._own_articles = [identifier for batch in batches for identifier in batch["article_ids"]]
        articles = len(self._own_articles)
        if self.args.world_size > 1:
            articles = self.accelerator.gather(torch.tensor(articles, device=device)).sum().item()
        self._articles_in_step = articles
        return batches, num_items

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> torch.Tensor | tuple[torch.Tensor, SpectraSumOutput]:
        """L_lm + λ_align L_align + λ_distill L_distill of one micro-batch, normalised over the optimizer step; in evaluation,
        over the batch. An evaluation's own loss is that of its sums; see [`total_loss`].
        """
        phase = "train" if model.training else "eval"
        self.broken_images.add(
            BrokenImage(*fields) for article in inputs.get("broken_images", ()) for fields in article
        )
        outputs = self.run_model(model, inputs, num_items_in_batch if model.training else None)
        keys, article_ids = inputs["negative_keys"], inputs["article_ids"]
        articles = self._articles_in_step if model.training else len(keys)
        config = self.base_model.config
        parts = {"loss_lm": outputs.loss}
        if self.uses_teacher and outputs.image_embeds is not None:
            labels = self._teacher_labels(inputs, outputs)
            terms = self._teacher_terms(outputs, inputs["image_mask"], labels, keys, phase)
            parts.update({f"loss_{name}": values.sum() / articles for name, values in terms.items()})
        loss = outputs.loss
        if "loss_distill" in parts:
            loss = loss + config.distill_weight * parts["loss_distill"]
        if "loss_align" in parts:
            loss = loss + config.align_weight * parts["loss_align"]
        values = self._check_finite(parts, article_ids)
        records = self.loss_records[phase]
        if model.training:
            records.add(**values)
        else:
            records.add(int((inputs["labels"][:, 1:] != -100).sum()), loss_lm=values.pop("loss_lm"))
            records.add(articles, **values)
        if model.training and self.args.world_size > 1:
            # DDP and FSDP average gradients over the processes, but the terms are already divided by the step's total.
            loss = loss * self.accelerator.num_processes
        return (loss, outputs) if return_outputs else loss

    def run_model(
        self, model: nn.Module, inputs: dict[str, Any], num_items_in_batch: torch.Tensor | int | None = None
    ) -> SpectraSumOutput:
        """A forward pass on a batch of the collator, with L_lm over its own tokens unless `num_items_in_batch` is given."""
        inputs = {name: value for name, value in inputs.items() if name not in FOR_THE_LOSSES}
        # The prompt needs no logits: with a large vocabulary they would take most of the memory.
        before_a_label = nn.functional.pad(inputs["labels"][:, 1:] != -100, (0, 1))
        warm = self.state.global_step >= self.base_model.config.vrp_warmup_steps
        return model(
            **inputs,
            logits_to_keep=before_a_label,
            num_items_in_batch=num_items_in_batch,
            reduce_by_relevance=not model.training or warm,
        )

    def total_loss(self, parts: dict[str, float]) -> float:
        """The loss that `parts`, which are means over all tokens or articles, add up to."""
        config = self.base_model.config
        weights = {"loss_lm": 1.0, "loss_align": config.align_weight, "loss_distill": config.distill_weight}
        return sum(weight * parts[name] for name, weight in weights.items() if name in parts)

    def _teacher_labels(self, inputs: dict[str, Any], outputs: SpectraSumOutput) -> TeacherLabels:
        if TeacherLabels._fields[0] in inputs:
            return TeacherLabels(*(inputs[name] for name in TeacherLabels._fields))
        mask = inputs["image_mask"]
        if self.teacher.reads_images:
            image_embeds = self.teacher.embed_images(inputs["teacher_images"], mask)
        else:
            image_embeds = outputs.image_embeds.detach()
        return self.teacher.label(image_embeds, mask, inputs["summary_sentences"], inputs.get("image_texts"))

    def _check_finite(self, parts: dict[str, torch.Tensor], article_ids: list[str]) -> dict[str, float]:
        """Stop at a loss that is NaN or infinite: the Trainer would leave it out of its log and go on with its gradient.

        Raises:
            FloatingPointError: naming the part and the batch's articles.
        """
        # One transfer for all of them.
        values = dict(zip(parts, torch.stack([part.detach() for part in parts.values()]).tolist(), strict=True))
        if broken := [f"{name} is {value}" for name, value in values.items() if not math.isfinite(value)]:
            raise self._not_finite(", ".join(broken), article_ids)
        return values

    def _get_grad_norm(self, model: nn.Module, grad_norm: torch.Tensor | float | None = None) -> torch.Tensor | float:
        """Stop before the optimizer applies a gradient that is NaN or infinite, which finite losses may have."""
        grad_norm = super()._get_grad_norm(model, grad_norm)
        # Under FSDP2 it is a DTensor.
        grad_norm = grad_norm.full_tensor() if hasattr(grad_norm, "full_tensor") else grad_norm
        # In fp16 a gradient may overflow: the scaler leaves the step out, and lowers its scale.
        if self.accelerator.scaler is None and not math.isfinite(grad_norm):
            # It is that of all processes, which get here together.
            articles = gather_object(self._own_articles) if self.args.world_size > 1 else self._own_articles
            raise self._not_finite(f"the gradient's norm is {float(grad_norm)}", articles)
        return grad_norm

    def _not_finite(self, what: str, article_ids: list[str]) -> FloatingPointError:
        return FloatingPointError(
            f"{what} after {self.state.global_step} steps, on the articles {', '.join(article_ids)}; the last checkpoint is "
            "untouched: lower learning_rate, or look at these articles, and resume from it."
        )

    def _teacher_terms(
        self,
        outputs: SpectraSumOutput,
        image_mask: torch.Tensor,
        labels: TeacherLabels,
        keys: torch.Tensor,
        phase: str,
    ) -> dict[str, torch.Tensor]:
        """The per-article terms of L_distill and L_align, (B,) each, and what is logged of the teacher."""
        config = self.base_model.config
        image_embeds = outputs.image_embeds.detach()
        marginals, sentence_embeds, sentence_mask = labels
        self.loss_records[phase].add_teacher(outputs.selection_logits, marginals, image_mask)
        terms = {}
        if config.distill_weight > 0:
            terms["distill"] = distillation_loss(
                outputs.selection_logits, marginals, image_mask, config.distill_count_weight
            )
        if config.align_weight > 0:
            targets, has_images = best_images_embedding(
                image_embeds, marginals, image_mask, count=config.teacher_max_images
            )
            negatives, negative_mask = self.negative_queue.negatives(keys)
            terms["align"] = alignment_loss(
                outputs.summary_embeds,
                targets,
                summary_embedding(sentence_embeds, sentence_mask),
                negatives,
                negative_mask,
                # From the output, not the module: DDP sees only parameters that were used inside its forward.
                temperature=outputs.alignment_temperature,
                has_images=has_images,
            )
            if phase == "train":
                self._pending_negatives.append((targets[has_images].cpu(), keys[has_images].cpu()))
        return terms

    def push_pending_negatives(self) -> None:
        """Move the image targets of a finished optimizer step, of all processes, into the queue."""
        self._steps_since_log += 1
        pending, self._pending_negatives = self._pending_negatives, []
        if self.args.world_size > 1:
            pending = gather_object(pending)
        for embeds, keys in pending:
            self.negative_queue.push(embeds, keys)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add the loss parts, the gate openings and the state of the teacher to the Trainer's own values."""
        if "loss" in logs:
            logs.update(self.loss_records["train"].take(self.accelerator, steps=self._steps_since_log))
            self._steps_since_log = 0
            if self.teacher is not None and self.teacher.truncated_texts:
                logs["teacher_truncated_texts"] = self.teacher.truncated_texts
            logs.update({f"gate_{layer}": value for layer, value in self.base_model.gate_openings().items()})
        super().log(logs, start_time)

    def init_hf_repo(self, token: str | None = None, private: bool | None = None) -> None:
        """Prepare pushing; the repository is made by the first push, after its checks. The token is HF_TOKEN's."""
        if self.is_world_process_zero():
            self.hub_model_id = self.args.hub_model_id
            self.checkpoint_push = CheckpointPush(self.args)

    def _push_from_checkpoint(self, checkpoint_folder: str) -> None:
        if not self.is_world_process_zero() or self.args.hub_strategy == HubStrategy.END or self.stopped_early:
            return
        self.callback_handler.on_push_begin(self.args, self.state, self.control)
        step = self.state.global_step
        if not self.checkpoint_push.start(Path(checkpoint_folder), f"Training in progress, step {step}"):
            logger.warning(f"the checkpoint of step {step} is not pushed: another push is going on.")

    def push_to_hub(
        self, commit_message: str = "End of training", blocking: bool = True, revision: str | None = None
    ) -> "bool | Future[bool]":
        """Save the model in the run's folder and push that, as `spectra-sum push model` does. The token is HF_TOKEN's.

        Args:
            commit_message (`str`, *optional*): Of the commit.
            blocking (`bool`, *optional*, defaults to `True`): Wait for the end of the push.
            revision (`str`, *optional*): Branch to push to; defaults to `hub_revision` of the arguments.

        Returns:
            Whether the push succeeded, or its future without `blocking`; a failure is logged, never raised. True on
            the other processes.

        Raises:
            ValueError: when the arguments have no `push_to_hub`.
        """
        if not self.args.push_to_hub:
            raise SpectraSumError("push_to_hub: pass push_to_hub and hub_model_id as training arguments.")
        self.save_model(_internal_call=True)
        if not self.is_world_process_zero():
            return True
        self.callback_handler.on_push_begin(self.args, self.state, self.control)
        push = self.checkpoint_push.finish(commit_message, revision)
        return push.result() if blocking else push

    def _save(self, output_dir: str | None = None, state_dict: dict | None = None) -> None:
        with original_class(self.model):
            super()._save(output_dir, state_dict)

    def complete_model(self, folder: Path, target: Path) -> None:
        """What an adapter needs beside what PEFT writes."""
        model = self.accelerator.unwrap_model(self.model)
        if isinstance(model, PeftModel):
            finish_adapter(model, folder, target, AdapterRun.of(self.args, self.state))

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        super()._save_optimizer_and_scheduler(output_dir)
        if self.args.should_save:
            self.negative_queue.save(Path(output_dir) / QUEUE_FILE)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        super()._load_optimizer_and_scheduler(checkpoint)
        if checkpoint is not None:
            self.negative_queue.load(Path(checkpoint) / QUEUE_FILE)
