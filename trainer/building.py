"""From arguments to a trainer: backbones, model, teacher, collator."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from datasets import DatasetDict, IterableDatasetDict
from huggingface_hub.errors import StrictDataclassError
from peft import PeftModel, get_peft_model
from safetensors import SafetensorError
from torch import nn
from transformers import AutoModel, AutoTokenizer, TrainerCallback, set_seed
from transformers.utils import logging
from trl import ModelConfig

from modeling_spectra import (
    SpectraSumConfig,
    SpectraSumForConditionalGeneration,
    SpectraSumProcessor,
    register_auto_classes,
)
from spectra_sum.errors import SpectraSumError
from spectra_sum.models.efficientnet_lite import save_efficientnet_lite0
from spectra_sum.models.loading import save_random_vision
from spectra_sum.models.sources import DEFAULT_DUAL_ENCODER, EFFICIENTNET_LITE0, ModelError, find_smollm2
from spectra_sum.tasks.task import TASKS, Task
from trainer.arguments import ArchitectureArguments, DataArguments, SpectraTrainingArguments
from trainer.checkpoints.resuming import resuming_is_asked_for
from trainer.checkpoints.run_record import write_base_record
from trainer.closed_world.backbones import (
    TextModelSettings,
    TokenizerSettings,
    siglip_settings,
    train_siglip,
    train_text_model,
    train_tokenizer,
)
from trainer.collator import SummarizationCollator
from trainer.data import CLOSED_WORLD, count_excess_images, fit_to_length
from trainer.features.cache import CachedFeatures
from trainer.features.filling import prepare_features
from trainer.objectives.default_teacher import check_default_teacher, load_default_teacher
from trainer.objectives.dpp_teacher import DPPTeacher, SummaryTeacher, process_numbers
from trainer.quantization import quantize_language_model
from trainer.spectra_trainer import SpectraTrainer
from trainer.trainable import lora_config, set_guidance_trainable, set_trainable, uses_lora
from trainer.vision_tower import hold_embeddings_apart, lora_pattern

logger = logging.get_logger(__name__)

# What transformers and the model's own checks raise for folders and ids that are not there, incomplete, damaged or of
# another kind, and for fields of the configuration that contradict each other.
LOADING_ERRORS = (OSError, ValueError, SafetensorError, StrictDataclassError)
# Types of the towers whose embeddings are those of a dual encoder.
DUAL_ENCODER_TOWERS = ("siglip_vision_model", "clip_vision_model")


@contextmanager
def told_in_one_line(what: str) -> Iterator[None]:
    """Around loading a pretrained model.

    Args:
        what (`str`): Folders or ids that are loaded, for the message.

    Raises:
        ModelError: from what says that they cannot be.
    """
    try:
        yield
    except SpectraSumError:
        raise
    except LOADING_ERRORS as error:
        raise ModelError(f"{what}: the model cannot be built: {' '.join(str(error).split())}") from error


def prepare_backbones(data_args: DataArguments, records: DatasetDict, output: Path) -> tuple[str, str]:
    """Folders or ids of the vision and text backbones (the latter a causal language model, or the `llava_onevision`
    model; an `instructblip` model is both); the closed world's are trained if they are missing.
    """
    if data_args.instructblip:
        return data_args.instructblip, data_args.instructblip
    vision, text = data_args.vision_backbone, data_args.llava_onevision or data_args.text_backbone
    with PartialState().main_process_first():
        if data_args.closed_world_backbones and not (vision and text):
            folder = Path(data_args.closed_world_backbones)
            seed, difficulty = data_args.closed_world_seed, data_args.closed_world_difficulty
            tokenizer = train_tokenizer(folder / "tokenizer", TokenizerSettings(seed=seed, difficulty=difficulty))
            vision = vision or str(train_siglip(folder / "siglip", tokenizer, siglip_settings(seed, difficulty)))
            text = text or str(
                train_text_model(folder / "text", tokenizer, records["train"], TextModelSettings(seed=seed))
            )
        if vision == EFFICIENTNET_LITE0:
            vision = str(_packaged_vision(output / "efficientnet_lite0"))
        if vision is None:
            folder = output / "random_vision"
            if not folder.is_dir():
                save_random_vision(folder)
            vision = str(folder)
    return vision, str(find_smollm2()) if text == "smollm2" else text


def _packaged_vision(folder: Path) -> Path:
    """EfficientNet-Lite0 from its package, as a folder that transformers reads."""
    if not folder.is_dir():
        partial = folder.with_name(f"{folder.name}.partial")
        save_efficientnet_lite0(partial)
        partial.rename(folder)
    return folder


def build_model(
    data_args: DataArguments,
    architecture: ArchitectureArguments,
    args: SpectraTrainingArguments,
    model_args: ModelConfig,
    backbones: tuple[str, str] | None,
) -> tuple[SpectraSumForConditionalGeneration, SpectraSumProcessor]:
    """The model to train and its processor: new on `backbones`, with the prompt of the `task`, or the one of
    `model_name_or_path`, whose prompt stays.

    Raises:
        ModelError: when they cannot be loaded, or cannot be built as the arguments say.
    """
    fields = {name: value for name, value in vars(architecture).items() if value is not None}
    task = TASKS[data_args.task]
    prompt = {"prompt_template": task.prompt_template} if task.prompt_template else {}
    if model_args.dtype is None:
        # Mixed precision keeps the trained weights in float32; under QLoRA bf16 means the weights, too.
        dtype = torch.bfloat16 if model_args.load_in_4bit and args.bf16 else torch.float32
    elif model_args.dtype == "auto":
        dtype = torch.float32 if args.bf16 or args.fp16 else None
    else:
        dtype = getattr(torch, model_args.dtype)
    named = [model_args.model_name_or_path] if backbones is None else dict.fromkeys(backbones)
    with told_in_one_line(" and ".join(named)):
        if backbones is None:
            path = model_args.model_name_or_path
            register_auto_classes()
            model = SpectraSumForConditionalGeneration.from_pretrained(path, dtype=dtype or "auto", **fields)
            processor = SpectraSumProcessor.from_pretrained(path)
            for name, value in model.config.processor_options().items():
                setattr(processor, name, value)
            _warn_of_other_prompt(path, processor, task)
        elif data_args.instructblip:
            model, processor = SpectraSumForConditionalGeneration.from_instructblip(
                data_args.instructblip, dtype=dtype, **prompt, **fields
            )
        elif data_args.llava_onevision:
            vision, llava_onevision = backbones
            model, processor = SpectraSumForConditionalGeneration.from_llava_onevision(
                llava_onevision, vision, dtype=dtype, **prompt, **fields
            )
        else:
            model, processor = SpectraSumForConditionalGeneration.from_backbones(
                *backbones, dtype=dtype, **prompt, **fields
            )
        if model_args.attn_implementation:
            model.set_attn_implementation(model_args.attn_implementation)
    return model, processor


def _warn_of_other_prompt(model: str, processor: SpectraSumProcessor, task: Task) -> None:
    if task.prompt_template not in (None, processor.prompt_template) and PartialState().is_main_process:
        logger.warning(
            f"{model} keeps its own prompt, {processor.prompt_template!r}, in which an instruction of {task.name} takes the "
            "body's place; a new model's prompt is the instruction alone."
        )


def build_teacher(vision: str, config: SpectraSumConfig, device: torch.device) -> DPPTeacher:
    """The DPP teacher of the dual encoder whose vision part gives the model its image embeddings.

    Raises:
        ModelError: when the dual encoder or its tokenizer cannot be loaded.
        SpectraSumError: when it has no text encoder.
    """
    with told_in_one_line(vision):
        dual_encoder = AutoModel.from_pretrained(vision).to(device)
    if not hasattr(dual_encoder, "get_text_features"):
        raise SpectraSumError(
            f"{vision} has no text encoder, which the teacher needs; use a full SigLIP or CLIP model, or set "
            "align_weight and distill_weight to 0."
        )
    with told_in_one_line(vision):
        tokenizer = AutoTokenizer.from_pretrained(vision)
    return DPPTeacher(dual_encoder, tokenizer, **process_numbers(config))


def load_teacher(
    data_args: DataArguments, dual_encoder: str, config: SpectraSumConfig, device: torch.device
) -> SummaryTeacher:
    """The teacher that `teacher` names; see [`load_default_teacher`] and [`build_teacher`]."""
    if data_args.teacher == DEFAULT_DUAL_ENCODER:
        return load_default_teacher(config, device)
    return build_teacher(dual_encoder, config, device)


def find_dual_encoder(
    data_args: DataArguments, config: SpectraSumConfig, backbones: tuple[str, str] | None
) -> str | None:
    """Folder or Hub id of the teacher's dual encoder, or `"default"` where `teacher` is that; None when no loss needs a teacher.

    A teacher is the encoder that the model's image embeddings come from; only the default one brings its own.

    Raises:
        SpectraSumError: a loss needs a teacher, and there is no dual encoder, or the image embeddings are not of one.
        SpectraSumError: The default one has nothing to teach, or cannot teach it; see [`check_default_teacher`].
    """
    if data_args.teacher == DEFAULT_DUAL_ENCODER:
        check_default_teacher(config.align_weight, config.distill_weight, data_args.use_images)
        return DEFAULT_DUAL_ENCODER
    if not data_args.use_images or (config.align_weight == 0 and config.distill_weight == 0):
        return None
    vision = backbones[0] if backbones else data_args.vision_backbone
    if vision is None or (backbones and data_args.vision_backbone is None and data_args.random_vision):
        raise SpectraSumError(
            "align_weight and distill_weight need the dual encoder of the vision tower as their teacher: pass "
            "vision_backbone, set both weights to 0, or align_weight alone with teacher default."
        )
    embedding_tower = (config.embedding_vision_config or config.vision_config).model_type
    if embedding_tower not in DUAL_ENCODER_TOWERS:
        raise SpectraSumError(
            f"the image embeddings are of a {embedding_tower!r} tower, which has no text encoder, and align_weight and "
            "distill_weight need one as their teacher: set both weights to 0, or align_weight alone with teacher default, or "
            "pass a SigLIP or CLIP model as vision_backbone."
        )
    return vision


def cached_features(
    data_args: DataArguments,
    args: SpectraTrainingArguments,
    model: SpectraSumForConditionalGeneration | PeftModel,
    processor: SpectraSumProcessor,
    records: DatasetDict,
    dual_encoder: str | None,
    *,
    checksum: bool = False,
) -> CachedFeatures:
    """What `cache` asks for, of all splits: see [`prepare_features`]. The teacher is loaded only if something is missing."""
    model = model.get_base_model() if isinstance(model, PeftModel) else model
    return prepare_features(
        data_args,
        args,
        model,
        processor,
        records,
        dual_encoder=dual_encoder,
        build_teacher=lambda: load_teacher(data_args, dual_encoder, model.config, args.device),
        checksum=checksum,
    )


def make_trainable(
    model: SpectraSumForConditionalGeneration,
    processor: SpectraSumProcessor,
    data_args: DataArguments,
    args: SpectraTrainingArguments,
    model_args: ModelConfig,
    *,
    keep_base: bool = True,
) -> SpectraSumForConditionalGeneration | PeftModel:
    """The model with its trained part unfrozen, under LoRA where language model or vision tower has adapters.

    Args:
        model, processor: As [`build_model`] returns them.
        data_args, args, model_args: As parsed.
        keep_base (`bool`, *optional*, defaults to `True`): Save the base that an adapter needs into the output folder;
            a model that will not be saved itself can go without.
    """
    tower = args.train_vision_tower
    if args.train == "guidance":
        set_guidance_trainable(model)
    else:
        if tower != "none":
            hold_embeddings_apart(model)
        set_trainable(model, train_language_model=not args.freeze_language_model, train_vision_tower=tower)
    if not data_args.use_images:
        # Nothing would train it, and DDP would wait for its gradients.
        model.visual_path.requires_grad_(False)
    if not uses_lora(args, model_args):
        return model
    tower_layers = lora_pattern(model) if tower == "lora" else None
    if keep_base:
        # The adapter names its base, which must be a whole SPeCTrA-Sum model: PEFT saves only what it trains.
        base = Path(args.output_dir).resolve() / "base"
        if PartialState().is_main_process and not (resuming_is_asked_for(args) and base.is_dir()):
            partial = base.with_name("base.partial")
            for part in (model, processor):
                part.save_pretrained(partial)
            write_base_record(partial, data_args, model_args)
            shutil.rmtree(base, ignore_errors=True)
            partial.rename(base)
        model.name_or_path = str(base)
    if model_args.load_in_4bit:
        quantize_language_model(model, model_args, args.device, torch.bfloat16 if args.bf16 else None)
    saved_whole = ["visual_path"] if data_args.use_images else []
    saved_whole += ["vision_tower"] if tower not in ("none", "lora") else []
    trained = {part: _trained_names(getattr(model, part)) for part in saved_whole}
    model = get_peft_model(model, lora_config(model_args, saved_whole=saved_whole, tower_layers=tower_layers))
    for part, names in trained.items():
        # PEFT trains what it saves whole as a whole, too.
        for name, value in getattr(model.get_base_model(), part).modules_to_save["default"].named_parameters():
            value.requires_grad_(name in names)
    return model


def _trained_names(part: nn.Module) -> set[str]:
    return {name for name, value in part.named_parameters() if value.requires_grad}


def build_trainer(
    data_args: DataArguments,
    architecture: ArchitectureArguments,
    args: SpectraTrainingArguments,
    model_args: ModelConfig,
    records: DatasetDict | IterableDatasetDict,
    callbacks: list[TrainerCallback] | None = None,
) -> SpectraTrainer:
    """Model, teacher, collator and trainer for the given arguments."""
    parts = trainer_parts(data_args, architecture, args, model_args, records)
    return SpectraTrainer(args=args, callbacks=callbacks, **parts)


def trainer_parts(
    data_args: DataArguments,
    architecture: ArchitectureArguments,
    args: SpectraTrainingArguments,
    model_args: ModelConfig,
    records: DatasetDict | IterableDatasetDict,
    *,
    keep_base: bool = True,
) -> dict[str, Any]:
    """Model, teacher, collator and articles as keyword arguments of [`SpectraTrainer`].

    Args:
        data_args, architecture, args, model_args: As parsed.
        records (`DatasetDict` or `IterableDatasetDict`): The articles, by split.
        keep_base (`bool`, *optional*, defaults to `True`): As of [`make_trainable`].
    """
    output = Path(args.output_dir)
    set_seed(args.seed)
    backbones = None if model_args.model_name_or_path else prepare_backbones(data_args, records, output)
    # Again, since making the backbones drew random numbers: the visual path must not depend on whether they were there.
    set_seed(args.seed)
    model, processor = build_model(data_args, architecture, args, model_args, backbones)
    config = model.config
    if data_args.dataset == CLOSED_WORLD and (processor.reads_captions or config.teacher_text_scale is not None):
        logger.warning(
            "the closed world's captions say in words what its images show: with captions, vrp_image_texts or "
            "teacher_text_scale nothing is measured of how images are read."
        )
    dual_encoder = find_dual_encoder(data_args, config, backbones)
    teacher = features = None
    if dual_encoder is not None and data_args.cache == "none":
        teacher = load_teacher(data_args, dual_encoder, config, args.device)
    model = make_trainable(model, processor, data_args, args, model_args, keep_base=keep_base)
    if data_args.cache != "none":
        features = cached_features(data_args, args, model, processor, records, dual_encoder)
    excess = {name: count_excess_images(split, config.max_candidate_images) for name, split in records.items()}
    if TASKS[data_args.task].has_instructions:
        unseen = {name: count_excess_images(split, config.max_images) for name, split in records.items()}
        if any(unseen.values()):
            logger.warning(f"images beyond max_images={config.max_images} of a record, which are not seen: {unseen}")
    trained_on = type(records)({name: records[name] for name in ("train", "validation")})
    records = fit_to_length(trained_on, processor, data_args)
    if any(excess.values()):
        logger.warning(f"images beyond max_candidate_images={config.max_candidate_images}, never scored: {excess}")
    train_records, eval_records = records["train"], records["validation"]
    if data_args.cache == "patches":
        # A column of images is decoded with every article that is read; writing summaries needs them still.
        train_records = train_records.remove_columns("images")
        eval_records = eval_records if args.predict_with_generate else eval_records.remove_columns("images")
    return {
        "model": model,
        "teacher": teacher,
        "cached_teacher": features is not None and dual_encoder is not None,
        "eval_max_length": data_args.max_length,
        "use_images": data_args.use_images,
        "task": TASKS[data_args.task],
        "broken_images": features.broken_images if features is not None else (),
        "data_collator": SummarizationCollator(
            processor,
            data_args.max_length,
            data_args.use_images,
            features,
            teacher_reads_texts=teacher is not None and teacher.text_scale is not None,
            teacher_reads_images=teacher is not None and teacher.reads_images,
        ),
        "train_dataset": train_records,
        "eval_dataset": eval_records,
        "processing_class": processor,
    }
