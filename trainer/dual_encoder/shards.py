"""Features that are computed once: in shards, of which a run that goes on keeps those that are there."""

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from tqdm.auto import tqdm

ITEMS_PER_SHARD = 256


def computed_once(
    folder: Path, name: str, items: Sequence[str], settings: object, compute: Callable[[Sequence[int]], Tensor]
) -> Tensor:
    """
    The features of all items: from the shards in `folder`, or computed and kept there.

    Args:
        folder (`Path`): Where shards lie; it is made.
        name (`str`): What is shown beside the progress bar, and begins the files' names.
        items (`Sequence[str]`): What tells the items from others: a shard is of its own items alone.
        settings (`object`): All else that features depend on, as JSON takes it.
        compute (`Callable`): The features (n, d) of the items at n places.

    Returns:
        `torch.Tensor` of shape `(N, d)`, float32.
    """
    folder.mkdir(parents=True, exist_ok=True)
    parts = []
    starts = range(0, len(items), ITEMS_PER_SHARD)
    for start in tqdm(starts, desc=name, unit="shard", disable=None):
        places = range(start, min(start + ITEMS_PER_SHARD, len(items)))
        key = json.dumps([settings, [items[place] for place in places]], sort_keys=True)
        file = folder / f"{name}-{hashlib.sha256(key.encode()).hexdigest()[:16]}.safetensors"
        if not file.is_file():
            # Renamed when it is whole: a killed run leaves no half shard.
            partial = file.with_suffix(f".{os.getpid()}.partial")
            save_file({"features": compute(places).float().contiguous()}, partial)
            partial.rename(file)
        parts.append(load_file(file)["features"])
    return torch.cat(parts)
