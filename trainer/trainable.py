"""What is trained: one decision, made in one place, and the learning rate of each part."""

import re
from collections.abc import Iterable, Sequence

import torch
from peft import LoraConfig
from torch import nn
from trl import ModelConfig

from modeling_spectra import SpectraSumForConditionalGeneration
from spectra_sum.errors import SpectraSumError
from trainer.arguments import SpectraTrainingArguments
from trainer.vision_tower import set_tower_trainable

LORA_LAYERS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
# The gates' parameters are called alpha; "gate" would also match the language model's gate_proj.
GATE_PARAMETER = re.compile(r"visual_path\..*\.alpha$")
# Wrappers may stand in front of a part's name.
PART = re.compile(r"(?:^|\.)(vision_tower|visual_path)\.")


def uses_lora(args: SpectraTrainingArguments, model_args: ModelConfig) -> bool:
    """Whether PEFT trains and saves the model: LoRA adapters on the language model, the vision tower or both."""
    return model_args.use_peft or args.train_vision_tower == "lora"


def set_trainable(
    model: SpectraSumForConditionalGeneration, *, train_language_model: bool, train_vision_tower: str = "none"
) -> None:
    """Train the whole visual path, and of language model and vision tower what is wanted; freeze the rest.

    Losses and variants decide what gets a gradient: alignment head and relevance predictor stay still without L_align
    and L_distill.

    Raises:
        SpectraSumError: `train_vision_tower` does not fit the tower; see [`set_tower_trainable`].
    """
    set_tower_trainable(model, train_vision_tower)
    if model.embedding_tower is not None:
        model.embedding_tower.requires_grad_(False)
    model.language_model.requires_grad_(train_language_model)
    model.visual_path.requires_grad_(True)
    if model.config.distill_weight == 0:
        model.visual_path.relevance_predictor.requires_grad_(False)
    if model.config.align_weight == 0:
        model.visual_path.alignment_head.requires_grad_(False)


def set_guidance_trainable(model: SpectraSumForConditionalGeneration) -> None:
    """Freeze everything but the guidance between images and the projection of the latents (§9).

    Raises:
        SpectraSumError: The model has no guidance, or a loss would train nothing of it.
    """
    path, config = model.visual_path, model.config
    if path.image_guidance is None:
        raise SpectraSumError("train guidance: this model has none; set image_guidance to bidirectional.")
    if config.align_weight or config.distill_weight:
        raise SpectraSumError(
            "train guidance: alignment head and relevance predictor are frozen; set align_weight and distill_weight to 0."
        )
    model.requires_grad_(False)
    for part in (path.image_guidance, path.latent_projection):
        if part is not None:
            part.requires_grad_(True)


def lora_config(
    model_args: ModelConfig, *, saved_whole: Sequence[str] = ("visual_path",), tower_layers: str | None = None
) -> LoraConfig:
    """LoRA on the language model with `use_peft`, and on the vision tower; what else is trained is saved whole.

    PEFT matches plain names by suffix and would adapt the vision tower and the cross-attention too; hence the regex.

    Args:
        model_args (`ModelConfig`): `lora_r`, `lora_alpha`, `lora_dropout`, and `lora_target_modules` (names of linear
            layers inside the language model; all of its decoder's by default).
        saved_whole (`Sequence[str]`, *optional*, defaults to `("visual_path",)`): Parts of the model that are trained and
            saved as they are; the others are left to the base.
        tower_layers (`str`, *optional*): Regular expression of the vision tower's layers, see [`lora_pattern`].
    """
    layers = model_args.lora_target_modules or LORA_LAYERS
    # TRL makes a list of one name that name.
    names = "|".join(map(re.escape, [layers] if isinstance(layers, str) else layers))
    targets = [rf"language_model\..*\.({names})"] if model_args.use_peft else []
    targets += [tower_layers] if tower_layers else []
    return LoraConfig(
        r=model_args.lora_r,
        lora_alpha=model_args.lora_alpha,
        lora_dropout=model_args.lora_dropout,
        use_rslora=model_args.use_rslora,
        use_dora=model_args.use_dora,
        target_modules="|".join(targets),
        modules_to_save=list(saved_whole) or None,
    )


def parameter_groups(
    model: nn.Module, decay_names: Iterable[str], args: SpectraTrainingArguments
) -> list[dict[str, object]]:
    """Optimizer groups with their learning rates: language model, vision tower, visual path, gates.

    Args:
        model (`nn.Module`): The model, with or without PEFT.
        decay_names: Names of the parameters that take weight decay; the gates never do.
        args (`SpectraTrainingArguments`): `learning_rate` and the factors on it.
    """
    visual_rate = args.learning_rate * args.visual_path_learning_rate_factor
    rates = {
        "language_model": args.learning_rate,
        "vision_tower": args.learning_rate * args.vision_tower_learning_rate_factor,
        "visual_path": visual_rate,
        "gates": visual_rate * args.gate_learning_rate_factor,
    }
    decay_names = set(decay_names)
    groups: dict[tuple[str, bool], list[torch.Tensor]] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        found = PART.search(name)
        part = "gates" if GATE_PARAMETER.search(name) else found[1] if found else "language_model"
        groups.setdefault((part, part != "gates" and name in decay_names), []).append(parameter)
    return [
        {"params": parameters, "lr": rates[part], "weight_decay": args.weight_decay if decays else 0.0, "part": part}
        for (part, decays), parameters in groups.items()
    ]
