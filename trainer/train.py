"""Train SPeCTrA-Sum: `accelerate launch trainer/train.py --config trainer/configs/NAME.yaml [--key value]`."""

import gc
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    # A script's own folder comes first on the path, where its modules would shadow libraries.
    sys.path[0] = str(Path(__file__).resolve().parent.parent)
    # What imports make stays: collections of garbage while they run would make the start half as long again.
    gc.disable()

from accelerate import PartialState
from datasets import Dataset, DatasetDict, IterableDataset, IterableDatasetDict

from hub_upload.repository import Target, check_target
from spectra_sum.atomic_write import write_text_atomically
from spectra_sum.errors import SpectraSumError
from spectra_sum.msmo.builder import stored_damage
from trainer.arguments import DataArguments, SpectraTrainingArguments
from trainer.broken_images import RecordBrokenImages
from trainer.building import build_trainer
from trainer.checkpoints.graceful_stop import GracefulStop
from trainer.checkpoints.push import base_repository
from trainer.checkpoints.resume_command import resume_command
from trainer.checkpoints.resuming import checkpoint_to_resume
from trainer.checkpoints.run_record import RUN_RECORD, write_run_record
from trainer.checkpoints.writing import STATE, explained
from trainer.command_line.parsing import parse_arguments
from trainer.command_line.user_errors import run
from trainer.data import article_count, first_articles, fit_to_length, is_empty, load_records
from trainer.parameter_counts import count_parameters, parameter_table
from trainer.spectra_trainer import SpectraTrainer
from trainer.trainable import uses_lora

METRICS = "metrics.json"


def load_run_records(data_args: DataArguments, args: SpectraTrainingArguments) -> DatasetDict | IterableDatasetDict:
    """The splits that a run reads: train, validation, and of test the articles of a final evaluation on it.

    Raises:
        SpectraSumError: when there are no articles for the final evaluation.
    """
    records = load_records(data_args)
    if args.final_evaluation != "test":
        records.pop("test", None)
    elif "test" not in records or is_empty(records["test"]):
        raise SpectraSumError(
            f"final_evaluation: {data_args.dataset} has no test articles; pass validation, or none for no evaluation."
        )
    else:
        records["test"] = first_articles(records["test"], args.max_final_articles)
    return records


def records_in_use(
    trainer: SpectraTrainer, records: DatasetDict | IterableDatasetDict, data_args: DataArguments
) -> DatasetDict | IterableDatasetDict:
    """The records as [`fit_to_length`] leaves them, as the trainer has those of training and validation already.

    Raises:
        SpectraSumError: when the test articles do not fit into `max_length`.
    """
    own = {"train": trainer.train_dataset, "validation": trainer.eval_dataset}
    others = type(records)({name: split for name, split in records.items() if name not in own})
    return type(records)({**own, **fit_to_length(others, trainer.processing_class, data_args)})


def count_articles(trainer: SpectraTrainer, records: DatasetDict | IterableDatasetDict) -> dict[str, int]:
    """How many articles of each split are used: training and validation leave the oversized ones out. Streams have no count."""
    used = {"train": trainer.train_dataset, "validation": trainer.eval_dataset}
    counts = {name: article_count(used.get(name, split)) for name, split in records.items()}
    return {name: count for name, count in counts.items() if count is not None}


def final_records(records: DatasetDict | IterableDatasetDict, args: SpectraTrainingArguments) -> Any | None:
    """The articles of the final evaluation, at most `max_final_articles`; None where none was asked for."""
    if args.final_evaluation == "none":
        return None
    final = first_articles(records[args.final_evaluation], args.max_final_articles)
    # Those of a stream are few, and their number is told before they are evaluated.
    return list(final) if isinstance(final, IterableDataset) else final


def announce_evaluation(final: Any | None, args: SpectraTrainingArguments) -> str:
    """What will be evaluated once the training has ended, in one line."""
    if final is None:
        return f"final evaluation: none, and no {METRICS} (--final_evaluation)"
    generates = args.predict_with_generate and not args.prediction_loss_only
    how = "losses, summaries and selected images" if generates else "losses alone"
    return (
        f"final evaluation: {len(final):,} {args.final_evaluation} articles, {how} "
        f"(--final_evaluation {args.final_evaluation}, --max_final_articles {args.max_final_articles})"
    )


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write a result file, as a whole or not at all."""
    write_text_atomically(path, json.dumps(content, indent=2, sort_keys=True) + "\n")


def check_push(args: SpectraTrainingArguments, with_base: bool) -> None:
    """Check, before any long work, that `push_to_hub` will be able to push.

    Raises:
        HubError: naming what is wrong and the fix. Later failures are warnings and end no training.
    """
    check_target(Target(args.hub_model_id, private=args.hub_private_repo, revision=args.hub_revision))
    if with_base:
        check_target(Target(base_repository(args.hub_model_id), private=args.hub_private_repo))


def main(argv: Sequence[str] | None = None) -> SpectraTrainer:
    """Train, save the model in the output folder, and evaluate it as `final_evaluation` says, into `metrics.json`.

    SIGTERM and Ctrl-C during the training save a checkpoint and leave by SystemExit, with code 143 and 130.

    Args:
        argv (`Sequence[str]`, *optional*): Defaults to the arguments of the process.

    Raises:
        SpectraSumError: for arguments and files that do not fit; before any long work.
        CheckpointError: when a checkpoint or the model could not be written.
    """
    data_args, architecture, args, model_args = parse_arguments(argv)
    checkpoint = checkpoint_to_resume(args)
    if args.push_to_hub and PartialState().is_main_process:
        check_push(args, uses_lora(args, model_args))
    records = load_run_records(data_args, args)
    trainer = build_trainer(data_args, architecture, args, model_args, records)
    records = records_in_use(trainer, records, data_args)
    final = final_records(records, args)
    parameters = count_parameters(trainer.model)
    if trainer.is_world_process_zero():
        print(parameter_table(parameters), flush=True)
        print(announce_evaluation(final, args), flush=True)
    articles = count_articles(trainer, records)
    kept = {name: split for name, split in records.items() if isinstance(split, Dataset)}
    damage = {name: counts for name, split in kept.items() if (counts := stored_damage(split))}
    write_run_record(data_args, architecture, args, model_args, articles, checkpoint, parameters, damage)
    broken_images = RecordBrokenImages(trainer.broken_images, kept)
    trainer.add_callback(broken_images)
    with GracefulStop(trainer, checkpoint, resume_command(argv)) as stop:
        trainer.train(resume_from_checkpoint=checkpoint)
    if trainer.stopped_early:
        if trainer.is_world_process_zero():
            print(stop.message(), file=sys.stderr, flush=True)
        # Left to the interpreter's end, the threads of gloo may abort a process that has stopped in order.
        PartialState().destroy_process_group()
        raise SystemExit(stop.exit_code)
    if trainer.is_world_process_zero():
        # Of the model that was here before.
        Path(args.output_dir, METRICS).unlink(missing_ok=True)
    with explained(args.output_dir):
        # A push of the whole run follows, with its results.
        trainer.save_model(_internal_call=True)
    with explained(args.output_dir, STATE):
        trainer.save_state()
    metrics = {}
    if final is not None:
        metrics = trainer.evaluate(final, metric_key_prefix=args.final_evaluation)
        metrics[f"{args.final_evaluation}_samples"] = len(final)
    dropped = broken_images.record(args)
    if trainer.is_world_process_zero():
        if final is not None:
            write_json(Path(args.output_dir) / METRICS, {**metrics, **dropped})
        for name, count in dropped.items():
            print(f"counted: {count} {name} ({RUN_RECORD} names the images)")
    if args.push_to_hub:
        trainer.push_to_hub()
    return trainer


if __name__ == "__main__":
    sys.exit(run(main, "train.py"))
