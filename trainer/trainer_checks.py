"""What a `SpectraTrainer` refuses when it is made, before any long work, in one line that names the argument and the fix."""

from collections.abc import Callable, Mapping
from typing import Any

import datasets
from torch.utils.data import IterableDataset
from transformers import TrainingArguments

from modeling_spectra import SpectraSumProcessor
from spectra_sum.errors import SpectraSumError
from trainer.arguments import SpectraTrainingArguments
from trainer.collator import SummarizationCollator
from trainer.data import check_articles
from trainer.evaluation.sets import evaluated_columns


def check_arguments(kwargs: Mapping[str, Any]) -> None:
    """Check the keyword arguments of a trainer.

    Raises:
        SpectraSumError: for arguments of `transformers.Trainer` that this trainer has no use for, or that contradict each other.
    """
    args = kwargs.get("args")
    if not isinstance(args, SpectraTrainingArguments):
        raise SpectraSumError(f"args is a {type(args).__name__}: pass SpectraTrainingArguments.")
    has_articles = any(kwargs.get(name) is not None for name in ("train_dataset", "eval_dataset"))
    if has_articles and not isinstance(kwargs.get("processing_class"), SpectraSumProcessor):
        raise SpectraSumError("processing_class: pass the model's SpectraSumProcessor, which prompts are made with.")
    if kwargs.get("optimizer_cls_and_kwargs") is not None:
        raise SpectraSumError(
            "optimizer_cls_and_kwargs: each part has its own learning rate here; set optim, or pass optimizers."
        )
    if kwargs.get("compute_loss_func") is not None:
        raise SpectraSumError("compute_loss_func: the losses are the model's and the teacher's; leave it out.")
    if args.label_smoothing_factor:
        raise SpectraSumError("L_lm has no label smoothing; leave label_smoothing_factor out.")
    if not args.average_tokens_across_devices:
        raise SpectraSumError(
            "average_tokens_across_devices must stay true: L_lm is divided by the tokens of the whole step."
        )
    if args.remove_unused_columns:
        raise SpectraSumError(
            "remove_unused_columns must stay false: the collator reads what forward() does not know."
        )
    for name in ("compute_metrics", "preprocess_logits_for_metrics"):
        if kwargs.get(name) is not None and (not args.predict_with_generate or args.prediction_loss_only):
            raise SpectraSumError(
                f"{name} reads generated summaries: set predict_with_generate true and prediction_loss_only false."
            )
    if "loss" in args.include_for_metrics:
        raise SpectraSumError(
            "include_for_metrics: compute_metrics gets no losses, which are reported as eval_loss; leave 'loss' out."
        )
    config = args.accelerator_config
    if config.dispatch_batches:
        raise SpectraSumError(
            "accelerator_config: dispatch_batches cannot send texts between processes; leave it out, and each process "
            "reads its own articles."
        )
    if not config.even_batches:
        raise SpectraSumError(
            "accelerator_config: even_batches must stay true: all processes take the same number of steps."
        )


def check_sets(
    args: TrainingArguments, collate: Callable, use_images: bool, train_dataset: Any, eval_dataset: Any
) -> None:
    """Check the sets that a trainer trains and evaluates on; of streams nothing is read.

    Args:
        args (`TrainingArguments`): Of the training.
        collate (`Callable`): The training's collator.
        use_images (`bool`): False where the images are withheld.
        train_dataset: What is trained on, if anything; see [`check_articles`].
        eval_dataset: What is evaluated on, if anything, or a dict of several such sets.

    Raises:
        SpectraSumError: A set is of no use, has no articles, or lacks columns, or the arguments do not go with it.
    """
    if train_dataset is not None:
        columns = collate.columns if isinstance(collate, SummarizationCollator) else ()
        check_articles(train_dataset, "train_dataset", columns)
        if not isinstance(train_dataset, IterableDataset):
            _check_sampling(args, train_dataset)
        elif args.max_steps <= 0:
            raise SpectraSumError("max_steps: train_dataset is a stream of unknown length; pass the number of steps.")
    sets = eval_dataset if isinstance(eval_dataset, dict) else {None: eval_dataset}
    for key, articles in sets.items():
        if articles is not None:
            with_images = use_images and args.predict_with_generate and not args.prediction_loss_only
            columns = evaluated_columns(collate, with_images, without_summaries=False)
            check_articles(articles, "eval_dataset" if key is None else f"eval_dataset[{key!r}]", columns)


def _check_sampling(args: TrainingArguments, articles: Any) -> None:
    strategy, column = args.train_sampling_strategy, args.length_column_name
    if strategy in ("group_by_length", "batch_rebalance"):
        if not isinstance(articles, datasets.Dataset) or column not in articles.column_names:
            raise SpectraSumError(
                f"train_sampling_strategy: {strategy} needs the articles' lengths, as a column {column!r} "
                "(length_column_name) of a datasets.Dataset; add it, or choose random."
            )
    together = args.train_batch_size * args.world_size
    if args.dataloader_drop_last and len(articles) < together:
        raise SpectraSumError(
            f"dataloader_drop_last leaves no step: {len(articles)} articles make no whole batch of {together}; set it to "
            "false, or make per_device_train_batch_size smaller."
        )
