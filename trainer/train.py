"""Train SPeCTrA-Sum: `accelerate launch trainer/train.py --config trainer/configs/NAME.yaml [--key value]`."""

import json
import shutil
import sys
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    # A script's own folder comes first on the path, where its modules would shadow libraries.
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

import torch
from accelerate import PartialState
from datasets import DatasetDict
from peft import get_peft_model
from transformers import AutoModel, AutoTokenizer, TrainerCallback, set_seed
from transformers.utils import logging
from trl import ModelConfig, TrlParser

from hub_upload.repository import Target, check_target
from modeling_spectra import (
    SpectraSumConfig,
    SpectraSumForConditionalGeneration,
    SpectraSumProcessor,
    register_auto_classes,
)
from spectra_sum.atomic_write import write_text_atomically
from spectra_sum.model_sources import find_smollm2
from spectra_sum.pretrained import save_random_vision
from trainer.arguments import ArchitectureArguments, DataArguments, SpectraTrainingArguments
from trainer.checkpoint_push import base_repository, check_hub_arguments
from trainer.closed_world_backbones import (
    TextModelSettings,
    TokenizerSettings,
    siglip_settings,
    train_siglip,
    train_text_model,
    train_tokenizer,
)
from trainer.collator import SummarizationCollator
from trainer.data import CLOSED_WORLD, count_excess_images, drop_oversized, load_records
from trainer.dpp_teacher import DPPTeacher
from trainer.run_record import write_base_record, write_run_record
from trainer.spectra_trainer import SpectraTrainer
from trainer.trainable import lora_config, set_trainable

logger = logging.get_logger(__name__)

# Of TRL's ModelConfig: quantised training is not supported yet, and what LoRA adapts and saves is decided here.
UNUSED_MODEL_ARGUMENTS = (
    "model_revision",
    "lora_target_parameters",
    "lora_modules_to_save",
    "lora_task_type",
    "load_in_8bit",
    "load_in_4bit",
    "bnb_4bit_quant_type",
    "use_bnb_nested_quant",
)


def parse_arguments(
    argv: list[str] | None = None,
) -> tuple[DataArguments, ArchitectureArguments, SpectraTrainingArguments, ModelConfig]:
    """Arguments from `--config FILE.yaml` and the command line, which wins.

    Raises:
        ValueError: for combinations that cannot be trained; the message names the arguments.
    """
    parser = TrlParser((DataArguments, ArchitectureArguments, SpectraTrainingArguments, ModelConfig))
    data_args, architecture, args, model_args = parser.parse_args_and_config(argv)
    if model_args.model_name_or_path and (data_args.text_backbone or data_args.closed_world_backbones):
        raise ValueError(
            "pass either model_name_or_path (a SPeCTrA-Sum model) or backbones, not both; only vision_backbone may go "
            "with it, as the teacher."
        )
    ignored = [name for name in UNUSED_MODEL_ARGUMENTS if getattr(model_args, name) != getattr(ModelConfig(), name)]
    if ignored:
        raise ValueError(f"this trainer has no use for {', '.join(ignored)}; leave them out.")
    check_hub_arguments(args)
    if model_args.use_peft and not args.freeze_language_model:
        raise ValueError("use_peft trains adapters on a frozen language model: leave freeze_language_model true.")
    if data_args.closed_world_backbones and data_args.dataset != CLOSED_WORLD:
        raise ValueError("closed_world_backbones belongs to dataset: closed_world; pass vision_ and text_backbone.")
    has_text = data_args.closed_world_backbones or model_args.model_name_or_path or data_args.text_backbone
    if not has_text:
        raise ValueError("no language model: pass text_backbone, model_name_or_path or closed_world_backbones.")
    has_vision = data_args.closed_world_backbones or model_args.model_name_or_path or data_args.vision_backbone
    if not has_vision and not data_args.random_vision:
        raise ValueError("no vision tower: pass vision_backbone, or random_vision to train without a pretrained one.")
    if data_args.dataset != CLOSED_WORLD and not Path(data_args.dataset).is_dir():
        raise ValueError(f"dataset {data_args.dataset!r} is neither {CLOSED_WORLD!r} nor a folder.")
    return data_args, architecture, args, model_args


def checkpoint_to_resume(args: SpectraTrainingArguments) -> str | None:
    """The checkpoint named by `resume_from_checkpoint` ("latest" or "true": the newest in the output folder).

    Raises:
        ValueError: when there is none to resume, or when the output folder holds some and resuming was not asked for.
    """
    output = Path(args.output_dir)
    # A checkpoint whose writing was cut off lacks the file that the Trainer writes last.
    complete = [path for path in output.glob("checkpoint-*") if (path / "trainer_state.json").is_file()]
    newest = max(complete, key=lambda path: int(path.name.rpartition("-")[2]), default=None)
    latest = str(newest) if newest else None
    wanted = args.resume_from_checkpoint
    if wanted in (None, False, "false", "False"):
        if latest is not None:
            raise ValueError(
                f"{latest} exists: pass --resume_from_checkpoint latest to go on, or another --output_dir to start anew."
            )
        return None
    if wanted in (True, "true", "True", "latest"):
        if latest is None:
            raise ValueError(f"resume_from_checkpoint: there is no checkpoint in {args.output_dir}.")
        return latest
    if not Path(wanted).is_dir():
        raise ValueError(f"resume_from_checkpoint: there is no folder {wanted}.")
    return wanted


def prepare_backbones(data_args: DataArguments, records: DatasetDict, output: Path) -> tuple[str, str]:
    """Folders or ids of the vision and text backbones; the closed world's are trained if they are missing."""
    vision, text = data_args.vision_backbone, data_args.text_backbone
    with PartialState().main_process_first():
        if data_args.closed_world_backbones and not (vision and text):
            folder = Path(data_args.closed_world_backbones)
            seed, difficulty = data_args.closed_world_seed, data_args.closed_world_difficulty
            tokenizer = train_tokenizer(folder / "tokenizer", TokenizerSettings(seed=seed, difficulty=difficulty))
            vision = vision or str(train_siglip(folder / "siglip", tokenizer, siglip_settings(seed, difficulty)))
            text = text or str(
                train_text_model(folder / "text", tokenizer, records["train"], TextModelSettings(seed=seed))
            )
        if vision is None:
            folder = output / "random_vision"
            if not folder.is_dir():
                save_random_vision(folder)
            vision = str(folder)
    return vision, str(find_smollm2()) if text == "smollm2" else text


def build_model(
    data_args: DataArguments,
    architecture: ArchitectureArguments,
    args: SpectraTrainingArguments,
    model_args: ModelConfig,
    backbones: tuple[str, str] | None,
) -> tuple[SpectraSumForConditionalGeneration, SpectraSumProcessor]:
    """The model to train and its processor: new on `backbones`, or the one of `model_name_or_path`."""
    fields = {name: value for name, value in vars(architecture).items() if value is not None}
    dtype = None if model_args.dtype in (None, "auto") else getattr(torch, model_args.dtype)
    # Mixed precision keeps the trained weights in float32.
    dtype = torch.float32 if dtype is None and (args.bf16 or args.fp16) else dtype
    if backbones is None:
        path = model_args.model_name_or_path
        register_auto_classes()
        model = SpectraSumForConditionalGeneration.from_pretrained(path, dtype=dtype or "auto", **fields)
        processor = SpectraSumProcessor.from_pretrained(path)
        processor.max_images, processor.max_candidate_images = (
            model.config.max_images,
            model.config.max_candidate_images,
        )
    else:
        model, processor = SpectraSumForConditionalGeneration.from_backbones(*backbones, dtype=dtype, **fields)
    if model_args.attn_implementation:
        model.set_attn_implementation(model_args.attn_implementation)
    return model, processor


def build_teacher(vision: str, config: SpectraSumConfig, device: torch.device) -> DPPTeacher:
    """The DPP teacher of the dual encoder whose vision part is the model's tower."""
    dual_encoder = AutoModel.from_pretrained(vision).to(device)
    if not hasattr(dual_encoder, "get_text_features"):
        raise ValueError(
            f"{vision} has no text encoder, which the teacher needs; use a full SigLIP or CLIP model, or set "
            "align_weight and distill_weight to 0."
        )
    return DPPTeacher(
        dual_encoder,
        AutoTokenizer.from_pretrained(vision),
        beta=config.teacher_beta,
        sigma=config.teacher_sigma,
        kappa=config.teacher_kappa,
        epsilon=config.teacher_epsilon,
        long_summary=config.teacher_long_summary,
    )


def build_trainer(
    data_args: DataArguments,
    architecture: ArchitectureArguments,
    args: SpectraTrainingArguments,
    model_args: ModelConfig,
    records: DatasetDict,
    callbacks: list[TrainerCallback] | None = None,
) -> SpectraTrainer:
    """Model, teacher, collator and trainer for the given arguments."""
    output = Path(args.output_dir)
    set_seed(args.seed)
    backbones = None if model_args.model_name_or_path else prepare_backbones(data_args, records, output)
    # Again, since making the backbones drew random numbers: the visual path must not depend on whether they were there.
    set_seed(args.seed)
    model, processor = build_model(data_args, architecture, args, model_args, backbones)
    config = model.config
    teacher = None
    if data_args.use_images and (config.align_weight > 0 or config.distill_weight > 0):
        vision = backbones[0] if backbones else data_args.vision_backbone
        if vision is None or (backbones and data_args.vision_backbone is None and data_args.random_vision):
            raise ValueError(
                "align_weight and distill_weight need the dual encoder of the vision tower as their teacher: pass "
                "vision_backbone, or set both weights to 0."
            )
        teacher = build_teacher(vision, config, args.device)
    set_trainable(model, train_language_model=not args.freeze_language_model)
    if model_args.use_peft:
        # The adapter names its base, which must be a whole SPeCTrA-Sum model: PEFT saves only what it trains.
        base = output.resolve() / "base"
        if PartialState().is_main_process and not (args.resume_from_checkpoint and base.is_dir()):
            partial = base.with_name("base.partial")
            for part in (model, processor):
                part.save_pretrained(partial)
            write_base_record(partial, data_args, model_args)
            shutil.rmtree(base, ignore_errors=True)
            partial.rename(base)
        model.name_or_path = str(base)
        trainable = {name for name, value in model.visual_path.named_parameters() if value.requires_grad}
        model = get_peft_model(model, lora_config(model_args))
        for name, value in model.get_base_model().visual_path.modules_to_save["default"].named_parameters():
            value.requires_grad_(name in trainable)
    records = drop_oversized(records, processor, data_args.max_length)
    excess = {name: count_excess_images(split, config.max_candidate_images) for name, split in records.items()}
    if any(excess.values()):
        logger.warning(f"images beyond max_candidate_images={config.max_candidate_images}, never scored: {excess}")
    return SpectraTrainer(
        model=model,
        args=args,
        teacher=teacher,
        eval_max_length=data_args.max_length,
        use_images=data_args.use_images,
        data_collator=SummarizationCollator(processor, data_args.max_length, data_args.use_images),
        train_dataset=records["train"],
        eval_dataset=records["validation"],
        processing_class=processor,
        callbacks=callbacks,
    )


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
    """Train, save the model in the output folder, and evaluate it on the test split (or validation) into `metrics.json`."""
    data_args, architecture, args, model_args = parse_arguments(argv)
    checkpoint = checkpoint_to_resume(args)
    if args.push_to_hub and PartialState().is_main_process:
        check_push(args, model_args.use_peft)
    records = load_records(data_args)
    trainer = build_trainer(data_args, architecture, args, model_args, records)
    write_run_record(data_args, architecture, args, model_args, count_articles(trainer, records), checkpoint)
    trainer.train(resume_from_checkpoint=checkpoint)
    # A push of the whole run follows, with its results.
    trainer.save_model(_internal_call=True)
    trainer.save_state()
    split = "test" if "test" in records else "validation"
    metrics = trainer.evaluate(records[split], metric_key_prefix=split)
    if trainer.is_world_process_zero():
        write_json(Path(args.output_dir) / "metrics.json", metrics)
    if args.push_to_hub:
        trainer.push_to_hub()
    return trainer


if __name__ == "__main__":
    main()
