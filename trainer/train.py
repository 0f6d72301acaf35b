"""Train SPeCTrA-Sum: `accelerate launch trainer/train.py --config trainer/configs/NAME.yaml [--key value]`."""

import json
import sys
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    # A script's own folder comes first on the path, where its modules would shadow libraries.
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from accelerate import PartialState
from datasets import DatasetDict
from trl import ModelConfig, TrlParser

from hub_upload.repository import Target, check_target
from spectra_sum.atomic_write import write_text_atomically
from trainer.arguments import ArchitectureArguments, DataArguments, SpectraModelConfig, SpectraTrainingArguments
from trainer.building import build_trainer
from trainer.checkpoints.graceful_stop import EXIT_CODE, GracefulStop
from trainer.checkpoints.push import base_repository, check_hub_arguments
from trainer.checkpoints.resuming import checkpoint_to_resume
from trainer.checkpoints.run_record import write_run_record
from trainer.checkpoints.writing import STATE, CheckpointError, explained
from trainer.data import CLOSED_WORLD, drop_oversized, load_records
from trainer.parameter_counts import count_parameters, parameter_table
from trainer.quantization import check_quantization_arguments
from trainer.spectra_trainer import SpectraTrainer

# Of TRL's ModelConfig: 4 bits are NF4, 8 bits are not supported, and what LoRA adapts and saves is decided here.
UNUSED_MODEL_ARGUMENTS = (
    "model_revision",
    "lora_target_parameters",
    "lora_modules_to_save",
    "lora_task_type",
    "load_in_8bit",
    "bnb_4bit_quant_type",
)


def check_llava_onevision(
    data_args: DataArguments, architecture: ArchitectureArguments, model_args: ModelConfig
) -> None:
    """Check what goes with `llava_onevision`.

    Raises:
        ValueError: naming the arguments that contradict it, or the one that it needs.
    """
    if data_args.llava_onevision is None:
        return
    given = {
        "model_name_or_path": model_args.model_name_or_path,
        "text_backbone": data_args.text_backbone,
        "closed_world_backbones": data_args.closed_world_backbones,
        "random_vision": data_args.random_vision,
        "vision_feature_layer": architecture.vision_feature_layer,
        "projector_hidden_act": architecture.projector_hidden_act,
    }
    if names := [name for name, value in given.items() if value not in (None, False)]:
        raise ValueError(f"llava_onevision takes the place of {', '.join(names)}: leave one or the other out.")
    if data_args.vision_backbone is None:
        raise ValueError(
            "llava_onevision needs vision_backbone for its image embeddings and as the teacher: pass the SigLIP that its "
            "tower was made from."
        )


def parse_arguments(
    argv: list[str] | None = None,
) -> tuple[DataArguments, ArchitectureArguments, SpectraTrainingArguments, ModelConfig]:
    """Arguments from `--config FILE.yaml` and the command line, which wins.

    Raises:
        ValueError: for combinations that cannot be trained; the message names the arguments.
    """
    parser = TrlParser((DataArguments, ArchitectureArguments, SpectraTrainingArguments, SpectraModelConfig))
    data_args, architecture, args, model_args = parser.parse_args_and_config(argv)
    check_llava_onevision(data_args, architecture, model_args)
    check_cache_arguments(data_args)
    if model_args.model_name_or_path and (data_args.text_backbone or data_args.closed_world_backbones):
        raise ValueError(
            "pass either model_name_or_path (a SPeCTrA-Sum model) or backbones, not both; only vision_backbone may go "
            "with it, as the teacher."
        )
    ignored = [name for name in UNUSED_MODEL_ARGUMENTS if getattr(model_args, name) != getattr(ModelConfig(), name)]
    if ignored:
        raise ValueError(f"this trainer has no use for {', '.join(ignored)}; leave them out.")
    if args.label_smoothing_factor:
        raise ValueError("L_lm has no label smoothing; leave label_smoothing_factor out.")
    if args.n_gpu > 1:
        raise ValueError(
            f"{args.n_gpu} GPUs are visible to one process, which would split its batches over them (nn.DataParallel): "
            "start with accelerate launch for a process per GPU, or set CUDA_VISIBLE_DEVICES=0."
        )
    check_quantization_arguments(model_args)
    check_hub_arguments(args)
    if args.enable_jit_checkpoint:
        raise ValueError(
            "leave enable_jit_checkpoint out: SIGTERM saves a checkpoint already, at the end of its step."
        )
    if model_args.use_peft and not args.freeze_language_model:
        raise ValueError("use_peft trains adapters on a frozen language model: leave freeze_language_model true.")
    if data_args.closed_world_backbones and data_args.dataset != CLOSED_WORLD:
        raise ValueError("closed_world_backbones belongs to dataset: closed_world; pass vision_ and text_backbone.")
    has_text = data_args.closed_world_backbones or model_args.model_name_or_path or data_args.text_backbone
    if not has_text and not data_args.llava_onevision:
        raise ValueError(
            "no language model: pass text_backbone, llava_onevision, model_name_or_path or closed_world_backbones."
        )
    has_vision = data_args.closed_world_backbones or model_args.model_name_or_path or data_args.vision_backbone
    if not has_vision and not data_args.random_vision:
        raise ValueError("no vision tower: pass vision_backbone, or random_vision to train without a pretrained one.")
    if data_args.dataset != CLOSED_WORLD and not Path(data_args.dataset).is_dir():
        raise ValueError(f"dataset {data_args.dataset!r} is neither {CLOSED_WORLD!r} nor a folder.")
    return data_args, architecture, args, model_args


def check_cache_arguments(data_args: DataArguments) -> None:
    """Check what goes with `cache`.

    Raises:
        ValueError: naming the argument that is missing or contradicts it.
    """
    if data_args.cache == "none":
        return
    if data_args.cache_dir is None:
        raise ValueError(f"cache {data_args.cache!r} needs cache_dir, the folder that it is kept in.")
    if not data_args.use_images:
        raise ValueError(f"cache {data_args.cache!r} holds features of images: leave it out with use_images false.")


def records_in_use(trainer: SpectraTrainer, records: DatasetDict, max_length: int) -> DatasetDict:
    """The records without the oversized ones, which the trainer has left out of training and validation already.

    Raises:
        ValueError: when no test article fits into `max_length`.
    """
    own = {"train": trainer.train_dataset, "validation": trainer.eval_dataset}
    others = DatasetDict({name: split for name, split in records.items() if name not in own})
    return DatasetDict({**own, **drop_oversized(others, trainer.processing_class, max_length)})


def count_articles(trainer: SpectraTrainer, records: DatasetDict) -> dict[str, int]:
    """How many articles of each split are used: training and validation leave the oversized ones out."""
    used = {"train": trainer.train_dataset, "validation": trainer.eval_dataset}
    return {name: len(used.get(name, split)) for name, split in records.items()}


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


def main(argv: list[str] | None = None) -> SpectraTrainer:
    """Train, save the model in the output folder, and evaluate it on the test split (or validation) into `metrics.json`.

    SIGTERM during the training saves a checkpoint and leaves by SystemExit with code 143.
    """
    data_args, architecture, args, model_args = parse_arguments(argv)
    checkpoint = checkpoint_to_resume(args)
    if args.push_to_hub and PartialState().is_main_process:
        check_push(args, model_args.use_peft)
    records = load_records(data_args)
    trainer = build_trainer(data_args, architecture, args, model_args, records)
    records = records_in_use(trainer, records, data_args.max_length)
    parameters = count_parameters(trainer.model)
    if trainer.is_world_process_zero():
        print(parameter_table(parameters), flush=True)
    articles = count_articles(trainer, records)
    write_run_record(data_args, architecture, args, model_args, articles, checkpoint, parameters)
    with GracefulStop(trainer, checkpoint) as stop:
        trainer.train(resume_from_checkpoint=checkpoint)
    if trainer.stopped_early:
        if trainer.is_world_process_zero():
            print(stop.message(), file=sys.stderr)
        raise SystemExit(EXIT_CODE)
    with explained(args.output_dir):
        # A push of the whole run follows, with its results.
        trainer.save_model(_internal_call=True)
    with explained(args.output_dir, STATE):
        trainer.save_state()
    split = "test" if "test" in records else "validation"
    metrics = trainer.evaluate(records[split], metric_key_prefix=split)
    if trainer.is_world_process_zero():
        write_json(Path(args.output_dir) / "metrics.json", metrics)
    if args.push_to_hub:
        trainer.push_to_hub()
    return trainer


if __name__ == "__main__":
    try:
        main()
    except CheckpointError as error:
        sys.exit(f"error: {error}")
