"""Which tensors of a LLaVA-OneVision checkpoint and of a full SigLIP a model holds, compared bit for bit with the files."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from torch import nn
from transformers import PreTrainedModel

from .tensor_files import check_taken, same_bits, tensors_of

# Prefixes of a checkpoint's keys, in the layouts of transformers 4 and 5, and where SPeCTrA-Sum holds the tensors.
DESTINATIONS = (
    (r"(?:language_model\.)?lm_head\.", "language_model.lm_head."),
    (r"(?:model\.)?language_model\.(?:model\.)?", "language_model.model."),
    (r"(?:model\.)?vision_tower\.(?:vision_model\.)?", "vision_tower."),
    (r"(?:model\.)?multi_modal_projector\.", "visual_path.projector."),
    (r"(?:model\.)?(?=image_newline$)", "visual_path.projector."),
)
PROJECTOR = "visual_path.projector."
UNKNOWN = "no part of LLaVA-OneVision"
# What decides, beside the tensors, whether two SigLIP towers compute the same.
TOWER_SETTINGS = (
    "model_type",
    "hidden_size",
    "intermediate_size",
    "num_attention_heads",
    "num_channels",
    "image_size",
    "patch_size",
    "hidden_act",
    "layer_norm_eps",
)


@dataclass
class LlavaOnevisionReport:
    """What became of each tensor of the two checkpoints.

    Attributes:
        used (`dict[str, str]`): Key of the LLaVA-OneVision checkpoint → tensor of the model, equal to it bit for bit
            (after the cast to the model's dtype, where that is another).
        unused (`dict[str, str]`): Key of the LLaVA-OneVision checkpoint → why nothing is computed with it.
        embedding_used (`dict[str, str]`): As `used`, of the `embedding_vision` checkpoint.
        embedding_unused (`list[str]`): Its other keys.
        newly_initialized (`list[str]`): Tensors of the model that no checkpoint has.
        one_tower (`bool`): One tower gives patches and embeddings, since the layers that both share are equal.
        differing_tower_tensors (`list[str]`): The shared tensors and settings that are not equal.
        compared_tower_tensors (`int`): Number of shared tensors.
        additional_parameters (`int`): Parameters that the embeddings cost beside the checkpoint's own tower.
    """

    used: dict[str, str] = field(default_factory=dict)
    unused: dict[str, str] = field(default_factory=dict)
    embedding_used: dict[str, str] = field(default_factory=dict)
    embedding_unused: list[str] = field(default_factory=list)
    newly_initialized: list[str] = field(default_factory=list)
    one_tower: bool = False
    differing_tower_tensors: list[str] = field(default_factory=list)
    compared_tower_tensors: int = 0
    additional_parameters: int = 0

    def summary(self) -> str:
        """The report in a few lines."""
        if self.one_tower:
            towers = f"one tower: all {self.compared_tower_tensors} shared tensors are equal"
        elif not self.compared_tower_tensors:
            towers = "the checkpoint's tower alone, without image embeddings"
        else:
            towers = (
                f"two towers: {len(self.differing_tower_tensors)} differences in {self.compared_tower_tensors} shared "
                f"tensors, the first in {self.differing_tower_tensors[0]}"
            )
        reasons = sorted(set(self.unused.values()))
        unused = "; ".join(f"{list(self.unused.values()).count(reason)} {reason}" for reason in reasons)
        return "\n".join(
            (
                f"{len(self.used)} tensors taken from LLaVA-OneVision and {len(self.embedding_used)} for the image "
                "embeddings, all bit for bit those of the files",
                f"{len(self.unused)} unused{': ' if unused else ''}{unused}",
                f"{towers}; {self.additional_parameters:,} parameters more than the checkpoint's tower",
                f"{len(self.newly_initialized)} tensors newly initialised",
            )
        )


def compare_towers(
    own: PreTrainedModel, full: PreTrainedModel, layers_read: int, report: LlavaOnevisionReport
) -> None:
    """Write down whether the full tower's hidden state after `layers_read` layers is that of LLaVA-OneVision's own."""
    differing = [
        f"config.{name}"
        for name in TOWER_SETTINGS
        if getattr(own.config, name, None) != getattr(full.config, name, None)
    ]
    theirs = full.state_dict()
    for name, tensor in own.state_dict().items():
        if _reason_unused(f"vision_tower.{name}", True, layers_read) is None:
            report.compared_tower_tensors += 1
            if name not in theirs or not same_bits(tensor, theirs[name]):
                differing.append(name)
    report.differing_tower_tensors, report.one_tower = differing, not differing


def _destination(key: str) -> str | None:
    """A checkpoint's key → the tensor's name in SPeCTrA-Sum; None for what LLaVA-OneVision does not have."""
    for pattern, prefix in DESTINATIONS:
        if match := re.match(pattern, key):
            return prefix + key[match.end() :]
    return None


def _reason_unused(destination: str | None, concat: bool, layers_read: int) -> str | None:
    """Why nothing is computed with a tensor of LLaVA-OneVision; None for what is used."""
    if destination is None:
        return UNKNOWN
    if destination.startswith(PROJECTOR):
        return None if concat else 'only read with fusion="concat"'
    if destination.startswith(("vision_tower.post_layernorm.", "vision_tower.head.")):
        return "of the tower, after the patches are read"
    layer = re.match(r"vision_tower\.encoder\.layers\.(\d+)\.", destination)
    if layer and int(layer[1]) >= layers_read:
        return "of the tower, after the patches are read"
    return None


def lacking_keys(missing: Iterable[str], concat: bool, layers_read: int) -> list[str]:
    """Of the keys that a LLaVA-OneVision checkpoint lacks, those that something is computed with."""
    return [key for key in sorted(missing) if _reason_unused(_destination(key), concat, layers_read) is None]


def compare_with_files(
    model: nn.Module,
    files: dict[str, list[str]],
    concat: bool,
    layers_read: int,
    report: LlavaOnevisionReport,
) -> None:
    """Compare what was taken with the `files` of LLaVA-OneVision and, if it was read, SigLIP, and write down where each key
    went.

    Raises:
        ValueError: naming the tensor that differs, or that no file has.
    """
    checkpoint, *others = files
    state = model.state_dict()
    for key, tensor in tensors_of(files[checkpoint]):
        name = _destination(key)
        if reason := _reason_unused(name, concat, layers_read):
            report.unused[key] = reason
            continue
        check_taken(state, name, key, tensor, checkpoint)
        report.used[key] = name
    tower = "vision_tower." if report.one_tower else "embedding_tower."
    for embedding_vision in others:
        for key, tensor in tensors_of(files[embedding_vision]):
            # A dual encoder holds its vision part under this prefix, and a tower alone may or may not.
            names = [tower + key, tower + key.removeprefix("vision_model.")]
            name = next((each for each in names if each in state), None)
            if name is None:
                report.embedding_unused.append(key)
                continue
            check_taken(state, name, key, tensor, embedding_vision)
            report.embedding_used[key] = name
    taken = {*report.used.values(), *report.embedding_used.values()}
    if model.config.text_config.tie_word_embeddings:
        taken.add("language_model.lm_head.weight")
    rest = sorted(set(state) - taken)
    lacking = [
        name
        for name in rest
        if name.startswith(("language_model.", "embedding_tower.", PROJECTOR))
        or (name.startswith("vision_tower.") and _reason_unused(name, concat, layers_read) is None)
    ]
    if lacking:
        raise ValueError(f"{' and '.join(files)} lack {lacking[0]}; use whole checkpoints.")
    held = {_destination(key) for key in report.unused}
    report.newly_initialized = [name for name in rest if name not in held]


__all__ = ["LlavaOnevisionReport", "compare_towers", "compare_with_files", "lacking_keys"]
