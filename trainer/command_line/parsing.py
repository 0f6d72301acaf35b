"""From a command line to the arguments of a training, checked together before any long work."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from transformers import TrainingArguments
from transformers.integrations import get_available_reporting_integrations
from trl import ModelConfig

from modeling_spectra import SpectraSumConfig
from spectra_sum.errors import SpectraSumError
from spectra_sum.models.sources import check_text_encoder, find_default_dual_encoder
from spectra_sum.own_data.columns import parse_columns
from spectra_sum.own_data.formats import (
    OwnDataError,
    check_no_own_options,
    check_task,
    find_source,
    is_prepared,
)
from spectra_sum.tasks.task import TASKS
from trainer.arguments import ArchitectureArguments, DataArguments, SpectraModelConfig, SpectraTrainingArguments
from trainer.checkpoints.push import check_hub_arguments
from trainer.command_line.parser import TrainingParser
from trainer.data import CLOSED_WORLD
from trainer.objectives.default_teacher import check_default_teacher
from trainer.quantization import check_quantization_arguments
from trainer.vision_tower import check_vision_tower

# Of TRL's ModelConfig: 4 bits are NF4, 8 bits are not supported, and what LoRA adapts and saves is decided here.
UNUSED_MODEL_ARGUMENTS = (
    "model_revision",
    "lora_target_parameters",
    "lora_modules_to_save",
    "lora_task_type",
    "load_in_8bit",
    "bnb_4bit_quant_type",
)
# transformers does not look whether these are there.
UNDETECTED_REPORTS = {"azure_ml", "flyte"}
OWN_DATACLASSES = (DataArguments, ArchitectureArguments, SpectraTrainingArguments, SpectraModelConfig)
MODEL_ARGUMENTS = ("model_name_or_path", "vision_backbone", "text_backbone", "llava_onevision", "instructblip")
MODEL_ARGUMENTS += ("random_vision", "closed_world_backbones", "dtype", "attn_implementation")
# Of the data's arguments: which teacher it is; its numbers are the model's.
TEACHER_ARGUMENTS = ("teacher",)
LOSS_PREFIXES = ("align_", "alignment_", "distill_", "negative_queue_", "teacher_")


def argument_groups() -> dict[str, list[str]]:
    """Names of all arguments but the refused ones of TRL, by the group of `--help` that they stand in, in its order."""
    data, architecture, training, model = (
        [field.name for field in dataclasses.fields(dataclass) if field.init] for dataclass in OWN_DATACLASSES
    )
    inherited = {field.name for field in dataclasses.fields(TrainingArguments)}
    losses = [name for name in architecture if name.startswith(LOSS_PREFIXES)]
    return {
        "data": [name for name in data if name not in (*MODEL_ARGUMENTS, *TEACHER_ARGUMENTS)],
        "model": list(MODEL_ARGUMENTS),
        "architecture": [name for name in architecture if name not in losses],
        "losses and teacher": [*losses, *TEACHER_ARGUMENTS],
        "training": [name for name in training if name not in inherited],
        "LoRA and 4 bits": [name for name in model if name not in (*MODEL_ARGUMENTS, *UNUSED_MODEL_ARGUMENTS)],
        "transformers' TrainingArguments": [name for name in training if name in inherited],
    }


def build_parser(program: str = "train.py") -> TrainingParser:
    """The parser of training.

    Args:
        program (`str`, *optional*, defaults to `"train.py"`): The script's name in `--help`.
    """
    return TrainingParser(
        OWN_DATACLASSES,
        groups=argument_groups(),
        docstrings=[dataclass.__doc__ for dataclass in OWN_DATACLASSES],
        prog=program,
        description="Arguments are given by their full names; a boolean is true or false.",
    )


def check_llava_onevision(
    data_args: DataArguments, architecture: ArchitectureArguments, model_args: ModelConfig
) -> None:
    """Check what goes with `llava_onevision`.

    Raises:
        SpectraSumError: naming the arguments that contradict it, or the one that it needs.
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
        raise SpectraSumError(f"llava_onevision takes the place of {', '.join(names)}: leave one or the other out.")
    if data_args.vision_backbone is None:
        raise SpectraSumError(
            "llava_onevision needs vision_backbone for its image embeddings and as the teacher: pass the SigLIP that its "
            "tower was made from."
        )


def check_instructblip(data_args: DataArguments, model_args: ModelConfig) -> None:
    """Check what goes with `instructblip`.

    Raises:
        SpectraSumError: naming the arguments that contradict it.
    """
    if data_args.instructblip is None:
        return
    others = ("vision_backbone", "text_backbone", "llava_onevision", "closed_world_backbones", "random_vision")
    given = {"model_name_or_path": model_args.model_name_or_path} | {name: getattr(data_args, name) for name in others}
    if names := [name for name, value in given.items() if value not in (None, False)]:
        raise SpectraSumError(f"instructblip takes the place of {', '.join(names)}: leave one or the other out.")


def parse_arguments(
    argv: Sequence[str] | None = None, program: str = "train.py"
) -> tuple[DataArguments, ArchitectureArguments, SpectraTrainingArguments, ModelConfig]:
    """Arguments from `--config FILE.yaml` and the command line, which wins.

    Args:
        argv (`Sequence[str]`, *optional*): Defaults to the arguments of the process.
        program (`str`, *optional*, defaults to `"train.py"`): The script's name in `--help`.

    Raises:
        SpectraSumError: for what cannot be parsed, and for combinations that cannot be trained; the message names the arguments.
    """
    data_args, architecture, args, model_args = build_parser(program).parse(argv)
    check_instructblip(data_args, model_args)
    check_llava_onevision(data_args, architecture, model_args)
    check_teacher_arguments(data_args, architecture, model_args)
    check_cache_arguments(data_args)
    check_extract_arguments(data_args)
    check_vision_tower(data_args, args, model_args)
    if model_args.model_name_or_path and (data_args.text_backbone or data_args.closed_world_backbones):
        raise SpectraSumError(
            "pass either model_name_or_path (a SPeCTrA-Sum model) or backbones, not both; only vision_backbone may go "
            "with it, as the teacher."
        )
    ignored = [name for name in UNUSED_MODEL_ARGUMENTS if getattr(model_args, name) != getattr(ModelConfig(), name)]
    if ignored:
        raise SpectraSumError(f"this trainer has no use for {', '.join(ignored)}; leave them out.")
    if args.label_smoothing_factor:
        raise SpectraSumError("L_lm has no label smoothing; leave label_smoothing_factor out.")
    if args.n_gpu > 1:
        raise SpectraSumError(
            f"{args.n_gpu} GPUs are visible to one process, which would split its batches over them (nn.DataParallel): "
            "start with accelerate launch for a process per GPU, or set CUDA_VISIBLE_DEVICES=0."
        )
    for name in ("max_train_articles", "max_eval_articles"):
        if (limit := getattr(data_args, name)) is not None and limit < 1:
            raise SpectraSumError(f"{name} is {limit}; pass at least 1, or leave it out for all articles.")
    if args.max_final_articles < 1:
        raise SpectraSumError("max_final_articles must be at least 1; pass final_evaluation none for no evaluation.")
    lacking = set(args.report_to) - UNDETECTED_REPORTS - set(get_available_reporting_integrations())
    if lacking:
        raise SpectraSumError(
            f"report_to: {', '.join(sorted(lacking))} cannot be used here; install it, or pass none."
        )
    check_quantization_arguments(model_args)
    check_hub_arguments(args)
    if args.enable_jit_checkpoint:
        raise SpectraSumError(
            "leave enable_jit_checkpoint out: SIGTERM saves a checkpoint already, at the end of its step."
        )
    if model_args.use_peft and not args.freeze_language_model:
        raise SpectraSumError("use_peft trains adapters on a frozen language model: leave freeze_language_model true.")
    if args.train == "guidance" and (model_args.use_peft or not args.freeze_language_model):
        raise SpectraSumError(
            "train guidance trains nothing beside it: leave use_peft out and freeze_language_model true."
        )
    if data_args.closed_world_backbones and data_args.dataset != CLOSED_WORLD:
        raise SpectraSumError(
            "closed_world_backbones belongs to dataset: closed_world; pass vision_ and text_backbone."
        )
    whole = data_args.closed_world_backbones or model_args.model_name_or_path or data_args.instructblip
    if not whole and not data_args.text_backbone and not data_args.llava_onevision:
        raise SpectraSumError(
            "no language model: pass text_backbone, llava_onevision, instructblip, model_name_or_path or "
            "closed_world_backbones."
        )
    has_vision = whole or data_args.vision_backbone
    if not has_vision and not data_args.random_vision:
        raise SpectraSumError(
            "no vision tower: pass vision_backbone, or random_vision to train without a pretrained one."
        )
    check_data_arguments(data_args, args)
    return data_args, architecture, args, model_args


def check_data_arguments(data_args: DataArguments, args: SpectraTrainingArguments) -> None:
    """Check what goes with `dataset`.

    Raises:
        SpectraSumError: It is no data, or arguments have no use for it or contradict each other; the message names them.
    """
    share = data_args.validation_share
    if share is not None and not 0 < share < 1:
        raise SpectraSumError(f"validation_share is {share}; it is a share between 0 and 1, such as 0.05.")
    task = TASKS[data_args.task]
    parse_columns(data_args.columns or (), task)
    if task.has_instructions and data_args.long_documents != "cut":
        raise SpectraSumError(f"long_documents: the instructions of {task.name} are no documents; leave it out.")
    try:
        source = find_source(data_args.dataset)
    except OwnDataError as error:
        if Path(data_args.dataset).is_dir():
            # What a folder holds is told when it is read.
            return
        raise SpectraSumError(f"dataset {error}") from None
    check_no_own_options(source, data_args.columns or (), data_args.dataset_config)
    check_task(source, task)
    if share is not None and is_prepared(source):
        raise SpectraSumError(f"validation_share: {data_args.dataset} has splits of its own; leave it out.")
    if not data_args.streaming:
        return
    if is_prepared(source) or source.kind == "saved":
        raise SpectraSumError(
            f"streaming: {data_args.dataset} is read from the disk article by article as it is; leave it out."
        )
    for name, value in (("long_documents", "cut"), ("verify", "header"), ("num_proc", None)):
        if getattr(data_args, name) != value:
            raise SpectraSumError(
                f"streaming: {name} {getattr(data_args, name)} reads all articles first; leave one or the other out."
            )
    if args.max_steps <= 0:
        raise SpectraSumError("max_steps: nobody knows the length of a stream; pass the number of steps.")


def check_cache_arguments(data_args: DataArguments) -> None:
    """Check what goes with `cache`.

    Raises:
        SpectraSumError: naming the argument that is missing or contradicts it.
    """
    if data_args.cache == "none":
        return
    if data_args.cache_dir is None:
        raise SpectraSumError(f"cache {data_args.cache!r} needs cache_dir, the folder that it is kept in.")
    if data_args.streaming:
        raise SpectraSumError(
            f"cache {data_args.cache!r} holds features of all articles, and a stream has no end: leave streaming out."
        )
    if not data_args.use_images:
        raise SpectraSumError(
            f"cache {data_args.cache!r} holds features of images: leave it out with use_images false."
        )


def check_teacher_arguments(
    data_args: DataArguments, architecture: ArchitectureArguments, model_args: ModelConfig
) -> None:
    """Check what goes with `teacher`; the weights of a `model_name_or_path` are known when that is loaded.

    Raises:
        SpectraSumError: A package of the default dual encoder is missing, or it has nothing that it can teach.
    """
    if data_args.teacher is None:
        return
    find_default_dual_encoder()
    weights = {name: getattr(architecture, name) for name in ("align_weight", "distill_weight")}
    if model_args.model_name_or_path is None or None not in weights.values():
        weights = {
            name: getattr(SpectraSumConfig, name) if value is None else value for name, value in weights.items()
        }
        check_default_teacher(**weights, use_images=data_args.use_images)


def check_extract_arguments(data_args: DataArguments) -> None:
    """Check what goes with `long_documents`.

    Raises:
        SpectraSumError: naming the argument that has no use or cannot be used.
    """
    if data_args.long_documents == "cut":
        names = [
            name
            for name in ("extract_words", "text_encoder")
            if getattr(data_args, name) != getattr(DataArguments, name)
        ]
        if names:
            raise SpectraSumError(
                f"{' and '.join(names)}: for extracts alone; pass long_documents select, or leave it out."
            )
        return
    if data_args.extract_words < 1:
        raise SpectraSumError(f"extract_words is {data_args.extract_words}; pass at least 1.")
    # Else it would be missed after the data are read.
    check_text_encoder(data_args.text_encoder)
