"""The vision tower in training (§10): which part of it learns, and the frozen copy that image embeddings come from then."""

import copy
import re
from collections.abc import Iterable

import torch
from torch import nn
from trl import ModelConfig

from modeling_spectra import SpectraSumForConditionalGeneration
from spectra_sum.errors import SpectraSumError
from trainer.arguments import DataArguments, SpectraTrainingArguments

LAST_LAYERS = re.compile(r"last-([1-9]\d*)", re.ASCII)
WHOLE_WEIGHTS = "none, last-N (as last-2) or all"


def check_vision_tower(data_args: DataArguments, args: SpectraTrainingArguments, model_args: ModelConfig) -> None:
    """Check `train_vision_tower` and what goes with it, as far as it is known before anything is loaded.

    Raises:
        SpectraSumError: naming the arguments that are wrong or contradict each other.
    """
    mode, factor = args.train_vision_tower, args.vision_tower_learning_rate_factor
    last_layers(mode)
    if not 0 < factor < float("inf"):
        raise SpectraSumError(f"vision_tower_learning_rate_factor is {factor}; pass a positive number, such as 0.1.")
    if mode == "none":
        return
    if not data_args.use_images:
        raise SpectraSumError(
            f"train_vision_tower {mode}: without images nothing trains it; leave it or use_images false out."
        )
    if args.train == "guidance":
        raise SpectraSumError(f"train guidance trains nothing beside it: leave train_vision_tower {mode} out.")
    if data_args.cache == "patches":
        raise SpectraSumError(
            f"train_vision_tower {mode}: the patches of a tower that learns cannot be read from a cache: set cache to none, "
            "or to embeddings where align_weight or distill_weight is on."
        )
    if mode == "lora" and not (model_args.use_peft or args.freeze_language_model):
        raise SpectraSumError(
            "train_vision_tower lora saves adapters beside frozen backbones: leave freeze_language_model true, or train the "
            f"tower's own weights ({WHOLE_WEIGHTS})."
        )


def last_layers(mode: str) -> int | None:
    """N of `last-N`; None for the other values of `train_vision_tower`.

    Raises:
        SpectraSumError: It is none of them.
    """
    found = LAST_LAYERS.fullmatch(mode)
    if found is None and mode not in ("none", "all", "lora"):
        raise SpectraSumError(f"train_vision_tower is {mode!r}; pass lora, {WHOLE_WEIGHTS}.")
    return int(found[1]) if found else None


def hold_embeddings_apart(model: SpectraSumForConditionalGeneration) -> None:
    """Give the model a frozen copy of its vision tower for image embeddings, where a loss reads these.

    The teacher's labels, the targets of L_align and what the relevance predictor reads come from the embeddings, and would
    drift with a tower that learns. A model that has an `embedding_tower` keeps it, and one whose `align_weight` and
    `distill_weight` are 0 needs none.
    """
    config = model.config
    if model.embedding_tower is not None or (config.align_weight == 0 and config.distill_weight == 0):
        return
    model.embedding_tower = copy.deepcopy(model.vision_tower).requires_grad_(False)
    config.embedding_vision_config = model.embedding_tower.config


def set_tower_trainable(model: SpectraSumForConditionalGeneration, mode: str) -> None:
    """Choose the parameters of the vision tower that are trained, and freeze the others.

    Args:
        model (`SpectraSumForConditionalGeneration`): Without PEFT.
        mode (`str`): `train_vision_tower`. With `"lora"` all are frozen here: PEFT adds what is trained.

    Raises:
        SpectraSumError: It is no value of `train_vision_tower`, or the tower has fewer layers that can learn.
    """
    count = last_layers(mode)
    trained: set[str] = set()
    if mode not in ("none", "lora"):
        trained = read_parameters(model)
    if count is not None:
        trained &= _from_the_last(model.vision_tower, count, trained)
    for name, parameter in model.vision_tower.named_parameters():
        parameter.requires_grad_(name in trained)


def read_parameters(model: SpectraSumForConditionalGeneration) -> set[str]:
    """Names, within the vision tower, of the parameters that what the model learns from depends on.

    That is what its patches depend on, and where there is no embedding tower its pooled output, too, if the sampler reads
    that. What lies behind the hidden states that are read gets no gradient. The tower runs once, on a blank image.
    """
    tower, side = model.vision_tower, model.config.image_size
    before = {name: parameter.requires_grad for name, parameter in tower.named_parameters()}
    mask = torch.ones(1, 1, dtype=torch.bool, device=model.device)
    blank = torch.zeros(1, 1, 3, side, side, device=model.device)
    tower.requires_grad_(True)
    with torch.enable_grad():
        if model.embedding_tower is None and model.visual_path.reads_embeddings:
            outputs = model.embed_images(blank, mask)
        else:
            outputs = (model.patch_images(blank, mask),)
    leaves = _leaves(outputs)
    for name, parameter in tower.named_parameters():
        parameter.requires_grad_(before[name])
    return {name for name, parameter in tower.named_parameters() if id(parameter) in leaves}


def lora_pattern(model: SpectraSumForConditionalGeneration) -> str:
    """A regular expression of the linear layers, of attention and MLPs, in those layers of the vision tower that can learn.

    Raises:
        SpectraSumError: There are none, as in ResNet and EfficientNet.
    """
    tower, read = model.vision_tower, read_parameters(model)
    path = _path_of_layers(tower)
    linear = [
        name.removeprefix(f"{path}.").split(".", 1)
        for name, module in tower.named_modules()
        if isinstance(module, nn.Linear) and name.startswith(f"{path}.") and f"{name}.weight" in read
    ]
    if not linear:
        raise SpectraSumError(
            f"train_vision_tower lora: this tower ({tower.config.model_type}) has no linear layers that could learn; pass "
            f"{WHOLE_WEIGHTS}."
        )
    # Layers are read as a whole or not at all, and all of them are made alike.
    indices, names = (dict.fromkeys(part) for part in zip(*linear, strict=True))
    return rf"vision_tower\.{re.escape(path)}\.({'|'.join(indices)})\.({'|'.join(map(re.escape, names))})"


def _from_the_last(tower: nn.Module, count: int, read: Iterable[str]) -> set[str]:
    """The parameters of the last `count` layers among those that are read, and of all that stands behind them."""
    path = _path_of_layers(tower)
    # In the order in which they were registered, which in every tower of transformers is that of its forward pass.
    names = [name for name, _ in tower.named_parameters()]
    read = set(read)
    layers = dict.fromkeys(
        name[len(path) + 1 :].partition(".")[0] for name in names if name in read and name.startswith(f"{path}.")
    )
    if count > len(layers):
        raise SpectraSumError(
            f"train_vision_tower last-{count}: this tower ({tower.config.model_type}) has {len(layers)} layers that can "
            f"learn; pass at most last-{len(layers)}, or all."
        )
    first = f"{path}.{list(layers)[-count]}."
    start = next(index for index, name in enumerate(names) if name.startswith(first))
    return set(names[start:])


def _path_of_layers(tower: nn.Module) -> str:
    """Name of the list of a tower's layers; of ConvNeXt's and ResNet's stages, and of EfficientNet's blocks."""
    return next(name for name, module in tower.named_modules() if isinstance(module, nn.ModuleList))


def _leaves(outputs: Iterable[torch.Tensor]) -> set[int]:
    """Identities of the parameters in the graph behind `outputs`."""
    pending = [output.grad_fn for output in outputs]
    seen, leaves = set(), set()
    while pending:
        node = pending.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        # Only the node that accumulates a leaf's gradient has it.
        if hasattr(node, "variable"):
            leaves.add(id(node.variable))
        pending += [following for following, _ in node.next_functions]
    return leaves
