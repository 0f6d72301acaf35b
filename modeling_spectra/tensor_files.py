"""The tensors of a checkpoint's files, and whether a model holds them bit for bit."""

from collections.abc import Iterator, Mapping

import torch

# A checkpoint is read by what transformers reads it with: the published modules import nothing that it does not bring.
from transformers.modeling_utils import safe_open
from transformers.utils import SAFE_WEIGHTS_INDEX_NAME, SAFE_WEIGHTS_NAME, cached_file, logging
from transformers.utils.hub import get_checkpoint_shard_files


def same_bits(left: torch.Tensor, right: torch.Tensor) -> bool:
    """Whether two tensors have the same shape, dtype and bits."""
    if left.shape != right.shape or left.dtype != right.dtype:
        return False
    left, right = (each.contiguous().view(-1).view(torch.uint8) for each in (left, right))
    return torch.equal(left, right)


def safetensors_files(source: str, revision: str = "main") -> list[str]:
    """The weight files of a folder or Hub id.

    Raises:
        ValueError: when it has none in the safetensors format.
    """
    options = {"revision": revision, "_raise_exceptions_for_missing_entries": False}
    single = cached_file(source, SAFE_WEIGHTS_NAME, **options)
    if single is not None:
        return [single]
    index = cached_file(source, SAFE_WEIGHTS_INDEX_NAME, **options)
    if index is None:
        raise ValueError(f"{source} has no safetensors; other weights are not read: use a checkpoint that has them.")
    return get_checkpoint_shard_files(source, index, revision=revision)[0]


def tensors_of(files: list[str]) -> Iterator[tuple[str, torch.Tensor]]:
    """Keys and tensors of safetensors files, one tensor in memory at a time."""
    for file in files:
        with safe_open(file, framework="pt") as shard:
            for key in logging.tqdm(shard.keys(), desc="comparing weights", unit="tensor", leave=False):
                yield key, shard.get_tensor(key)


def check_taken(state: Mapping[str, torch.Tensor], name: str, key: str, read: torch.Tensor, source: str) -> None:
    """Check that a model's tensor `name` is what stands as `key` in the files of `source`, cast to its dtype.

    Raises:
        ValueError: The model has no such tensor, or another one.
    """
    if name not in state:
        raise ValueError(
            f"{source} has {key}, for which the model has no {name}; its configuration is of another model."
        )
    if not same_bits(state[name], read.to(state[name].dtype)):
        raise ValueError(f"after loading, {name} differs from {key} in the files of {source}: do not use this model.")


__all__ = ["check_taken", "safetensors_files", "same_bits", "tensors_of"]
