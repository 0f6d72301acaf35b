"""What the cached features of a split depend on: a record of it, and the digest that names the split's folder."""

import hashlib
import json
import tempfile
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from torch import nn
from transformers import AutoConfig, AutoTokenizer, PreTrainedTokenizerBase

from modeling_spectra import SpectraSumConfig, SpectraSumForConditionalGeneration, SpectraSumProcessor
from modeling_spectra.rgb_images import MAX_SIDE
from spectra_sum.metrics.dual_encoder import reads_lower_case
from spectra_sum.models.default_dual_encoder import default_dual_encoder_identity
from spectra_sum.models.loading import weight_digests
from spectra_sum.own_data.formats import CLOSED_WORLD
from trainer.arguments import DataArguments
from trainer.objectives.dpp_teacher import process_numbers

FORMAT_VERSION = 2
# They say where something was loaded from, not what it is.
ORIGIN = (
    # Saving a processor, as LoRA's base is saved, leaves it in the image processor.
    "auto_map",
    "_name_or_path",
    "name_or_path",
    "transformers_version",
    "is_local",
    "local_files_only",
    "torch_dtype",
    "dtype",
)


def describe_dataset(data_args: DataArguments, records: Dataset) -> dict[str, Any]:
    """Which articles a split's name stands for: contents are compared shard by shard, so that data which are not made by code
    need no more than the id of their first article. They keep their features wherever they are moved, and with any limit of
    articles.
    """
    if data_args.dataset == CLOSED_WORLD:
        return {
            "name": data_args.dataset,
            "seed": data_args.closed_world_seed,
            "difficulty": data_args.closed_world_difficulty,
        }
    return {"first_article": records.select_columns(["id"])[:1]["id"]}


def describe_towers(
    model: SpectraSumForConditionalGeneration,
    processor: SpectraSumProcessor,
    autocast: torch.dtype | None,
    *,
    embeddings_alone: bool = False,
) -> dict[str, Any]:
    """What image embeddings and patches depend on: the frozen weights themselves, wherever they came from, and the pixels.

    Args:
        model, processor: The model without PEFT.
        autocast (`torch.dtype`, *optional*): Of the training's mixed precision.
        embeddings_alone (`bool`, *optional*, defaults to `False`): Leave the vision tower out, which is trained beside an
            embedding tower.
    """
    config = model.config
    towers = {} if embeddings_alone else {"vision": (model.vision_tower, config.vision_config)}
    if model.embedding_tower is not None:
        towers["embedding"] = (model.embedding_tower, config.embedding_vision_config)
    image_processor = {
        name: value for name, value in processor.image_processor.to_dict().items() if name not in ORIGIN
    }
    # Named only where they are several: what was cached before they could be stays.
    several = {"vision_feature_layers": config.tower_layers} if len(config.tower_layers) > 1 else {}
    return several | {
        "towers": {
            name: {"weights": _module_digest(tower), "dtype": str(tower.dtype), "config": _bare(part.to_dict())}
            for name, (tower, part) in towers.items()
        },
        "autocast": str(autocast) if autocast else None,
        "vision_feature_layer": config.tower_layers[-1],
        "max_candidate_images": config.max_candidate_images,
        "image_processor": image_processor,
        "pad_to_square": processor.pad_to_square,
        "longest_side": MAX_SIDE,
    }


def describe_teacher(name: str, config: SpectraSumConfig) -> dict[str, Any]:
    """What sentence embeddings and marginals depend on beside the images; nothing is loaded into memory for it.

    Args:
        name (`str`): Folder or Hub id of the dual encoder. Its name does not count, but its weights do: a revision of the
            Hub that changes them changes this.
        config (`SpectraSumConfig`): With the numbers of the teacher's process.
    """
    dual_encoder, tokenizer = AutoConfig.from_pretrained(name), AutoTokenizer.from_pretrained(name)
    # Named only where it changes the texts: what was cached of other dual encoders before there was this rule stays.
    lower_case = {"lower_case": True} if reads_lower_case(dual_encoder.model_type, tokenizer) else {}
    return {
        "weights": weight_digests(name)["model"],
        "config": _bare(dual_encoder.to_dict()),
        "tokenizer": _tokenizer_digest(tokenizer),
        **lower_case,
        **_process(config),
    }


def describe_default_teacher(config: SpectraSumConfig) -> dict[str, Any]:
    """As [`describe_teacher`] of the default dual encoder, whose embeddings of the images count, too.

    Raises:
        ModelError: The heads of the default dual encoder are damaged.
    """
    return {"default": default_dual_encoder_identity(), **_process(config)}


def _process(config: SpectraSumConfig) -> dict[str, Any]:
    numbers = process_numbers(config)
    # What was cached before it could be set stays.
    if numbers["text_scale"] is None:
        del numbers["text_scale"]
    return numbers


def feature_key(
    kind: str, dataset: dict[str, Any], split: str, towers: dict[str, Any], teacher: dict[str, Any] | None
) -> tuple[str, dict[str, Any]]:
    """The name of a split's folder and the record that it is the SHA-256 digest of.

    Args:
        kind (`str`): `"embeddings"` or `"patches"`.
        dataset, towers, teacher: Of [`describe_dataset`], [`describe_towers`] and [`describe_teacher`] or
            [`describe_default_teacher`]; no teacher: no loss needs one.
        split (`str`): Name of the split.
    """
    record = {
        "format": FORMAT_VERSION,
        "kind": kind,
        "dataset": dataset,
        "split": split,
        "images": towers,
        "teacher": teacher,
    }
    text = json.dumps(record, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest(), json.loads(text)


def _module_digest(module: nn.Module) -> str:
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def _tokenizer_digest(tokenizer: PreTrainedTokenizerBase) -> str:
    digest = hashlib.sha256()
    with tempfile.TemporaryDirectory() as folder:
        tokenizer.save_pretrained(folder)
        for path in sorted(Path(folder).iterdir()):
            content = path.read_bytes()
            if path.suffix == ".json":
                content = json.dumps(_bare(json.loads(content)), sort_keys=True).encode()
            digest.update(path.name.encode() + b"\0" + hashlib.sha256(content).digest())
    return digest.hexdigest()


def _bare(settings: dict[str, Any]) -> dict[str, Any]:
    return {
        name: _bare(value) if isinstance(value, dict) else value
        for name, value in settings.items()
        if name not in ORIGIN
    }
