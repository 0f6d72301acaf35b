"""FSDP2: what is sharded and in which precision, and how a sharded model is saved and generates."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from accelerate import Accelerator, DistributedType, FullyShardedDataParallelPlugin, PartialState
from accelerate.utils import parse_flag_from_env
from torch import nn
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy

from modeling_spectra.fusions import FUSIONS
from spectra_sum.errors import SpectraSumError

# Keys and values of a fusion layer are projected outside of its forward pass, where FSDP2 would not gather its parameters.
# It stays in the root's group, which is gathered for the whole forward pass, as do modules too small or too few to be worth
# a group of their own.
NOT_SHARDED_ALONE = {
    *(fusion.layer.__name__ for fusion in FUSIONS.values()),
    "FeatureQuery",
    "KMeansSampler",
    "VisionSampler",
    "QFormerSampler",
    "ConcatProjector",
    "VisualRelevancePredictor",
    "AlignmentHead",
}


def layer_classes(model: nn.Module) -> list[str]:
    """Names of the layer classes in `model` that are gathered and freed one after the other, sorted."""
    present = {type(module).__name__ for module in model.modules()}
    declared = set().union(*(getattr(module, "_no_split_modules", None) or () for module in model.modules()))
    return sorted(present & declared - NOT_SHARDED_ALONE)


def shards_on_cpus(accelerator: Accelerator) -> bool:
    """Whether processes on CPUs were launched with FSDP; they shard the model then. accelerate would run them as DDP."""
    state = accelerator.state
    if state.distributed_type != DistributedType.MULTI_CPU or not parse_flag_from_env("ACCELERATE_USE_FSDP"):
        return False
    state.fsdp_plugin = FullyShardedDataParallelPlugin()
    # The accelerator's state is filled from this one whenever it is asked for.
    PartialState().distributed_type = state.distributed_type = DistributedType.FSDP
    return True


def prepare_sharding(accelerator: Accelerator, model: nn.Module, optimizer: str) -> None:
    """Complete accelerate's FSDP2 settings with what depends on the model. Nothing happens without FSDP.

    The sharded parameters keep their dtype, and `bf16` means autocast as everywhere else: accelerate's own policy would
    round the embeddings, the relevance predictor and the losses to bfloat16. Gradients are summed in float32, those of
    float64 in float64.

    Args:
        accelerator (`Accelerator`): The trainer's.
        model (`nn.Module`): What will be sharded, with its trainable parameters chosen.
        optimizer (`str`): The training argument `optim`.

    Raises:
        ValueError: for FSDP of version 1, loading in the main process alone, an optimizer that cannot work on shards, or
            trainable parameters that differ in dtype when no mixed precision makes them equal.
    """
    plugin = getattr(accelerator.state, "fsdp_plugin", None)
    if plugin is None:
        return
    if not accelerator.is_fsdp2:
        raise SpectraSumError(
            "fsdp_version: only FSDP2 is supported; set fsdp_version: 2 as in configs/accelerate/fsdp2.yaml."
        )
    if plugin.cpu_ram_efficient_loading:
        # The other processes would get uninitialised memory for all pretrained models, the unsharded teacher among them.
        raise SpectraSumError(
            "fsdp_cpu_ram_efficient_loading: set it to false; the teacher is loaded by every process."
        )
    if optimizer == "adafactor":
        # Its row and column means of a shard are no means of the matrix, and its state is not sharded.
        raise SpectraSumError(
            "optim: Adafactor does not work on the shards of FSDP2: pass --optim adamw_torch_fused, or launch with "
            "configs/accelerate/ddp.yaml."
        )
    if getattr(model, "is_loaded_in_4bit", False):
        raise SpectraSumError(
            "FSDP2 does not shard 4-bit weights: launch with configs/accelerate/ddp.yaml, or leave load_in_4bit out."
        )
    dtypes = {parameter.dtype for parameter in model.parameters() if parameter.requires_grad}
    if accelerator.mixed_precision == "no" and len(dtypes) > 1:
        raise SpectraSumError(
            f"FSDP2 shards trainable parameters of one dtype together, and these have {sorted(map(str, dtypes))}: pass "
            "--bf16 true, which trains them in float32, or --dtype float32."
        )
    if plugin.transformer_cls_names_to_wrap is None:
        plugin.transformer_cls_names_to_wrap = layer_classes(model)
    reduce_dtype = torch.float64 if torch.float64 in dtypes else torch.float32
    plugin.mixed_precision_policy = MixedPrecisionPolicy(reduce_dtype=reduce_dtype, cast_forward_inputs=False)


@contextmanager
def unsharded(model: nn.Module) -> Iterator[None]:
    """Every process holds all parameters of `model`, and can use it alone, by any method, for any number of steps.

    That takes the memory of the whole model in every process. Nothing happens to a model that is not sharded.

    Args:
        model (`nn.Module`): Sharded by FSDP2, and run at least once.
    """
    sharded = [module for module in model.modules() if isinstance(module, FSDPModule)]
    # accelerate leaves the root and the end of the language model gathered: they are needed first in the backward pass.
    resharding = [module for module in sharded if _reshards_after_forward(module)]
    for module in sharded:
        module.set_reshard_after_forward(False, recurse=False)
        module.unshard()
    # The Trainer makes generate() a forward pass of the root, which would free the root's parameters at its end.
    registered = vars(model).pop("generate", None) if sharded else None
    try:
        yield
    finally:
        if registered is not None:
            model.generate = registered
        for module in sharded:
            module.reshard()
        for module in resharding:
            module.set_reshard_after_forward(True, recurse=False)


def _reshards_after_forward(module: FSDPModule) -> bool:
    # torch has a setter for it and no getter. Older releases know one group of parameters per module.
    state = module._get_fsdp_state()
    groups = getattr(state, "_fsdp_param_groups", None) or [getattr(state, "_fsdp_param_group", None)]
    return any(group is not None and group.post_forward_mesh_info is not None for group in groups)


@contextmanager
def original_class(model: nn.Module) -> Iterator[None]:
    """`model` under the class that it had before FSDP2 replaced it, whose source files belong into its repository."""
    sharded_class = type(model)
    if not isinstance(model, FSDPModule):
        yield
        return
    model.__class__ = next(base for base in sharded_class.__mro__[1:] if not issubclass(base, FSDPModule))
    try:
        yield
    finally:
        model.__class__ = sharded_class
