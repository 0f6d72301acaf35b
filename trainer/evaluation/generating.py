"""`evaluate()` and `predict()` by writing summaries, as `Seq2SeqTrainer` does with `predict_with_generate`."""

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from accelerate.data_loader import prepare_data_loader
from accelerate.utils import gather_object
from datasets import Dataset
from torch import nn
from torch.utils.data import DataLoader, IterableDataset
from transformers.trainer_utils import EvalLoopOutput, PredictionOutput

from modeling_spectra import SpectraSumForConditionalGeneration
from spectra_sum.errors import SpectraSumError
from spectra_sum.evaluation.readable_articles import without_broken
from spectra_sum.evaluation.scores import score_predictions
from spectra_sum.records.article_images import BrokenImage, ReadImages
from spectra_sum.summaries.prediction import met_broken_images, predict_batch, with_broken_images
from spectra_sum.tasks.task import Task
from trainer.arguments import SpectraTrainingArguments
from trainer.broken_images import BrokenImages
from trainer.checkpoints.writing import WholeCheckpointTrainer
from trainer.data import check_articles
from trainer.evaluation.sets import EvaluationCollator, EvenShare, evaluated_columns, summary_tokens
from trainer.objectives.loss_records import LossRecords
from trainer.sharding import unsharded


class SummaryPredictionOutput(PredictionOutput):
    """The `PredictionOutput` of [`GeneratingTrainer.predict`], and the summaries as texts.

    Attributes:
        predictions (`np.ndarray` of shape `(N, generation_max_new_tokens)`): Token ids of the N summaries, in the set's
            order, padded with the tokenizer's padding; `processing_class.batch_decode` makes texts of them. What
            `preprocess_logits_for_metrics` made of them, where there is one.
        label_ids (`np.ndarray` of shape `(N, S)`, *optional*): Token ids of the reference summaries with their end tokens,
            padded with −100. None where the articles have no summaries.
        metrics (`dict[str, float]`): The losses, the scores, and what `compute_metrics` returned, with their prefix.
        articles (`list[dict]`): Per article `{"id", "summary" (str), "selected" (indices of images, best first),
            "probabilities" (one per scored image)}` as [`predict_summaries`] gives them, broken images included.
    """

    articles: list[dict[str, Any]]

    def __new__(cls, *fields: Any, articles: list[dict[str, Any]] | None = None) -> "SummaryPredictionOutput":
        output = super().__new__(cls, *fields)
        output.articles = articles or []
        return output


@dataclass
class _Progress:
    """What one evaluation has seen so far, in all processes but for `written`, which is this one's.

    `counted` (B of all processes, bool) is false for the repetitions in the last batch; `written` holds per batch its number,
    the process, what was written for its articles, and what it is scored against.
    """

    batches: int = 0
    articles: int = 0
    have_summaries: bool | None = None
    counted: torch.Tensor | None = None
    written: list[tuple[int, int, list[dict[str, Any]], list[dict[str, Any]]]] = field(default_factory=list)


class GeneratingTrainer(WholeCheckpointTrainer):
    """A trainer whose evaluation adds losses up over all tokens and articles, and writes the summaries that it scores.

    A set to evaluate on is anything with `__len__` and `__getitem__` (a list of dicts, a `Subset`, a `datasets.Dataset`), or
    an `IterableDataset` of torch or `datasets`, which is read once and in its order. Its articles are dicts with `id`,
    `title`, `article` and `images`; with `summary` (the list of its sentences) there are losses and scores, too. No article
    is left out, also with `dataloader_drop_last`, and none counts twice. All processes must read the same set.
    """

    args: SpectraTrainingArguments
    eval_max_length: int
    use_images: bool
    task: Task
    loss_records: dict[str, LossRecords]
    broken_images: BrokenImages

    def __init__(self, **kwargs: Any):
        super().__init__(**kwargs)
        self._eval_dataloaders: dict[str, DataLoader] = {}
        self._progress = _Progress()
        self._predicted: list[dict[str, Any]] = []

    @property
    @abstractmethod
    def base_model(self) -> SpectraSumForConditionalGeneration:
        """The model without its wrappers."""

    @abstractmethod
    def run_model(self, model: nn.Module, inputs: dict[str, Any]) -> Any:
        """A forward pass on a batch of the training's collator."""

    @abstractmethod
    def total_loss(self, parts: dict[str, float]) -> float:
        """The loss that `parts` (`loss_lm` and others) add up to."""

    def get_eval_dataloader(self, eval_dataset: Any = None) -> DataLoader:
        """As the Trainer's; but with `dataloader_persistent_workers`, too, a set that is passed gets its own articles."""
        if eval_dataset is None or isinstance(eval_dataset, str):
            return super().get_eval_dataloader(eval_dataset)
        return self._get_dataloader(eval_dataset, "Evaluation", self.args.eval_batch_size)

    def _get_dataloader(
        self,
        dataset: Any,
        description: str,
        batch_size: int,
        sampler_fn: Callable | None = None,
        is_training: bool = False,
        dataloader_key: str | None = None,
    ) -> DataLoader:
        if is_training:
            return super()._get_dataloader(dataset, description, batch_size, sampler_fn, True, dataloader_key)
        for_prediction = description == "test"
        with_prompts = self._generates(for_prediction)
        columns = evaluated_columns(self.data_collator, self.use_images and with_prompts, for_prediction)
        check_articles(dataset, "the set to predict" if for_prediction else "the set to evaluate on", columns)
        args = self.args
        collate = EvaluationCollator(
            self.data_collator, self.processing_class, self.eval_max_length, self.use_images, with_prompts
        )
        stream = isinstance(dataset, IterableDataset)
        shared = stream and args.world_size > 1
        # Each worker would read a stream from its beginning.
        workers = 0 if stream else args.dataloader_num_workers
        if shared:
            dataset = EvenShare(dataset, batch_size, args.process_index, args.world_size)
        # The order of the set, whatever train_sampling_strategy says, and all of it.
        loader = DataLoader(
            dataset,
            batch_size=batch_size,
            collate_fn=collate,
            num_workers=workers,
            pin_memory=args.dataloader_pin_memory,
            persistent_workers=args.dataloader_persistent_workers and workers > 0,
            multiprocessing_context=args.dataloader_multiprocessing_context if workers else None,
            prefetch_factor=args.dataloader_prefetch_factor if workers else None,
            in_order=args.dataloader_in_order,
        )
        if shared:
            loader = prepare_data_loader(
                loader, args.device, num_processes=1, process_index=0, put_on_device=True, dispatch_batches=False
            )
        else:
            loader = self.accelerator.prepare(loader)
        if dataloader_key is not None and args.dataloader_persistent_workers:
            self._eval_dataloaders[dataloader_key] = loader
        return loader

    def _generates(self, for_prediction: bool) -> bool:
        return (self.args.predict_with_generate or for_prediction) and not self.args.prediction_loss_only

    def evaluation_loop(
        self,
        dataloader: DataLoader,
        description: str,
        prediction_loss_only: bool | None = None,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "eval",
    ) -> EvalLoopOutput:
        """The Trainer's loop: losses, summaries and selections of each batch; then the scores of all of them.

        Returns:
            `EvalLoopOutput`: See [`SummaryPredictionOutput`] for its fields. Its metrics are the loss and its parts, scores
            as [`score_predictions`] names them, and what `compute_metrics` returned, which wins over scores of the same name.
        """
        generates = self._generates(for_prediction=description == "Prediction")
        self.loss_records["eval"].take(self.accelerator)
        self._progress = progress = _Progress()
        self.gather_function = self._gather_counted
        output = super().evaluation_loop(dataloader, description, not generates, ignore_keys, metric_key_prefix)
        losses = self.loss_records["eval"].take(self.accelerator)
        if losses:
            losses["loss"] = self.total_loss(losses)
        written = sorted(gather_object(progress.written), key=lambda entry: entry[:2])
        self._predicted = [article for _, _, articles, _ in written for article in articles]
        scores = {}
        if written and progress.have_summaries:
            references = [reference for _, _, _, batch in written for reference in batch]
            pairs = [without_broken(*pair) for pair in zip(self._predicted, references, strict=True)]
            scores = score_predictions([pair[0] for pair in pairs], _scored([pair[1] for pair in pairs]), self.task)
        scores, losses = (
            {f"{metric_key_prefix}_{name}": value for name, value in values.items()} for values in (scores, losses)
        )
        metrics = {**scores, **output.metrics, **losses}
        return output._replace(metrics=metrics, num_samples=progress.articles)

    def prediction_step(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        prediction_loss_only: bool,
        ignore_keys: list[str] | None = None,
    ) -> tuple[None, torch.Tensor | None, torch.Tensor | None]:
        """The losses of a batch, which are recorded and not returned, and its summaries.

        Returns:
            `tuple`: None, and with the batch's prompts the tokens of the summaries (B, `generation_max_new_tokens`), and of
            the references (B, S); see [`SummaryPredictionOutput`].
        """
        inputs = dict(inputs)
        prompts, references = inputs.pop("prompts", None), inputs.pop("references")
        places = inputs.pop("places", None)
        size, repetitions = len(references), inputs.pop("repetitions")
        own = size - repetitions if repetitions else self._count_own(size)
        self._count(own, size, "labels" in inputs)
        labels = None
        if "labels" in inputs:
            inputs = self._prepare_inputs(inputs)
            labels = summary_tokens(inputs["labels"])
            # Where parameters are sharded, all processes gather them together: the model runs also where nothing counts.
            batch = {name: values[: max(own, 1)] for name, values in inputs.items()}
            with torch.no_grad(), self.compute_loss_context_manager():
                if own:
                    self.compute_loss(model, batch)
                else:
                    self.run_model(model, batch)
        if prompts is None or prediction_loss_only:
            return None, None, None
        # Each process has its own number of tokens.
        with unsharded(self.model), self.autocast_smart_context_manager():
            predictions, tokens = predict_batch(
                self.base_model,
                self.processing_class,
                prompts,
                [reference["id"] for reference in references],
                select_images=not self.task.has_instructions,
                max_new_tokens=self.args.generation_max_new_tokens,
                num_beams=self.args.generation_num_beams,
                synced_gpus=False,
            )
        read = [ReadImages([], indices, [BrokenImage(*fields) for fields in broken]) for indices, broken in places]
        predictions = list(map(with_broken_images, predictions, read))
        self.broken_images.add(met_broken_images(predictions[:own]))
        progress = self._progress
        progress.written.append((progress.batches, self.args.process_index, predictions[:own], references[:own]))
        missing = self.args.generation_max_new_tokens - tokens.shape[1]
        padding = self.processing_class.tokenizer.pad_token_id
        return None, nn.functional.pad(tokens, (0, missing), value=padding), labels

    def predict(
        self, test_dataset: Any, ignore_keys: list[str] | None = None, metric_key_prefix: str = "test"
    ) -> SummaryPredictionOutput:
        """Write a summary and select images for every article, also without `predict_with_generate`.

        Args:
            test_dataset: A set as described at [`GeneratingTrainer`]; its articles may have no summaries.
            ignore_keys (`list[str]`, *optional*): Of no effect: the model's own outputs are not returned.
            metric_key_prefix (`str`, *optional*, defaults to `"test"`): Of the metrics' names: `test_loss`, `test_rouge1`, …

        Raises:
            SpectraSumError: The set is empty, its articles lack a column, or only some of them have summaries.
        """
        output = super().predict(test_dataset, ignore_keys, metric_key_prefix)
        return SummaryPredictionOutput(*output, articles=self._predicted)

    def _count_own(self, size: int) -> int:
        """How many of a batch of `size` articles are no repetitions, with which accelerate fills the last batches up."""
        state = self.accelerator.gradient_state
        if self.args.world_size == 1 or not state.end_of_dataloader or state.remainder <= 0:
            return size
        return min(max(state.remainder - self.args.process_index * size, 0), size)

    def _count(self, own: int, size: int, has_summaries: bool) -> None:
        """Take a batch of all processes into account.

        Raises:
            SpectraSumError: Some articles of the set have summaries and some have none; in all processes.
        """
        progress, device = self._progress, self.args.device
        counts = self.accelerator.gather(torch.tensor([[own, has_summaries]], device=device)).tolist()
        progress.batches += 1
        progress.articles += sum(count for count, _ in counts)
        progress.counted = torch.cat([torch.arange(size, device=device) < count for count, _ in counts])
        found = {bool(labelled) for _, labelled in counts} | ({progress.have_summaries} - {None})
        if len(found) > 1:
            raise SpectraSumError(
                "some articles of the set have a summary and some have none: give all of them one, or none."
            )
        (progress.have_summaries,) = found

    def _gather_counted(self, values: torch.Tensor) -> torch.Tensor:
        """What all processes have for the articles of a batch, without repetitions."""
        return self.accelerator.gather(values)[self._progress.counted]


def _scored(references: list[dict[str, Any]]) -> Dataset:
    """What the scores read of the articles, by columns. Without gold images an article has none of them."""
    names = [name for name in references[0] if all(name in reference for reference in references)]
    columns = {name: [reference[name] for reference in references] for name in names}
    columns["gold_images"] = [reference.get("gold_images", []) for reference in references]
    return Dataset.from_dict(columns)
