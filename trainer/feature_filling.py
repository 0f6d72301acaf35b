"""Filling the feature cache: what is missing, stale or torn is computed, by all processes together, before it is read."""

import json
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import torch
from accelerate import PartialState
from accelerate.utils import gather_object
from datasets import DatasetDict
from filelock import Timeout
from tqdm.auto import tqdm
from transformers.utils import logging

from modeling_spectra import SpectraSumForConditionalGeneration, SpectraSumProcessor
from spectra_sum.atomic_write import write_text_atomically
from trainer.arguments import DataArguments, SpectraTrainingArguments
from trainer.dpp_teacher import DPPTeacher
from trainer.feature_cache import CachedFeatures, SplitFeatures
from trainer.feature_extraction import FeatureExtractor
from trainer.feature_key import describe_dataset, describe_teacher, describe_towers, feature_key

logger = logging.get_logger(__name__)

# How often a process that has nothing left to compute looks whether the others are done.
WAIT_SECONDS = 0.5
Shard = tuple[SplitFeatures, int]


def prepare_features(
    data_args: DataArguments,
    args: SpectraTrainingArguments,
    model: SpectraSumForConditionalGeneration,
    processor: SpectraSumProcessor,
    records: DatasetDict,
    *,
    dual_encoder: str | None,
    build_teacher: Callable[[], DPPTeacher],
) -> CachedFeatures:
    """The features of all splits, of which those that the cache lacks are computed first. Every process calls it.

    Args:
        data_args (`DataArguments`): `cache` and `cache_dir`.
        args (`SpectraTrainingArguments`): Device, precision, batch size and workers.
        model, processor: The model without PEFT; its towers must be frozen.
        records (`DatasetDict`): The articles, by split.
        dual_encoder (`str`, *optional*): Folder or Hub id of the teacher's; None when no loss needs a teacher.
        build_teacher (`Callable`): Loads the teacher; called only if something is missing.

    Raises:
        ValueError: A tower is trained, the disk is too small, an image cannot be read, or two articles have one id.
    """
    towers = [tower for tower in (model.vision_tower, model.embedding_tower) if tower is not None]
    if any(parameter.requires_grad for tower in towers for parameter in tower.parameters()):
        raise ValueError(
            f"cache {data_args.cache!r}: the vision tower is trained, so that its features change; freeze it or set cache "
            "to none."
        )
    patches = data_args.cache == "patches"
    autocast = torch.bfloat16 if args.bf16 else torch.float16 if args.fp16 else None
    config, dtype = model.config, model.vision_tower.dtype
    patch_bytes = config.num_patches * config.vision_config.hidden_size * dtype.itemsize if patches else 0
    embedding_bytes = config.image_embedding_size * torch.float32.itemsize
    dataset, images = describe_dataset(data_args), describe_towers(model, processor, autocast)
    labels = describe_teacher(dual_encoder, config) if dual_encoder else None
    splits = []
    for name, split in records.items():
        key, record = feature_key(data_args.cache, dataset, name, images, labels)
        folder = Path(data_args.cache_dir) / key
        folder.mkdir(parents=True, exist_ok=True)
        if not (folder / "key.json").is_file():
            write_text_atomically(folder / "key.json", json.dumps(record, indent=2, sort_keys=True) + "\n")
        splits.append(
            SplitFeatures(
                folder,
                name,
                split,
                max_images=config.max_candidate_images,
                bytes_per_image=embedding_bytes + patch_bytes + (torch.float64.itemsize if dual_encoder else 0),
                bytes_per_sentence=embedding_bytes if dual_encoder else 0,
                whole_summaries=config.teacher_long_summary == "truncate",
            )
        )
    extractor = FeatureExtractor(
        model,
        processor,
        build_teacher if dual_encoder else None,
        patches=patches,
        device=args.device,
        autocast=autocast,
        batch_size=args.per_device_eval_batch_size,
        num_workers=args.dataloader_num_workers,
    )
    fill(splits, extractor, show_size=patches, progress=not args.disable_tqdm)
    return CachedFeatures(
        splits,
        embedding_size=config.image_embedding_size,
        with_teacher=dual_encoder is not None,
        patch_shape=(config.num_patches, config.vision_config.hidden_size) if patches else None,
        patch_dtype=dtype if patches else None,
    )


def fill(
    splits: Sequence[SplitFeatures], extractor: FeatureExtractor, *, show_size: bool = False, progress: bool = True
) -> None:
    """Check what there is, and compute the rest together with the other processes; return when everything is there.

    Args:
        splits (`Sequence[SplitFeatures]`): The same in every process of the launch.
        extractor (`FeatureExtractor`): Computes features.
        show_size (`bool`, *optional*, defaults to `False`): Say first what it takes and what is free on the disk.
        progress (`bool`, *optional*, defaults to `True`): Show a progress bar in the main process.

    Raises:
        ValueError: What is missing does not fit on the disk, or an image cannot be read.
    """
    state = PartialState()
    bar_off = not progress or not state.is_local_main_process
    shards = [(split, shard) for split in splits for shard in split.shards()]
    own = shards[state.process_index :: state.num_processes]
    found, busy = _remove_unusable(tqdm(own, desc="checking the feature cache", unit="shard", disable=bar_off))
    # What is looked at later may be missing; each process looks at what no other one is writing.
    gathered = [(found, [shards.index(shard) for shard in busy])]
    if state.num_processes > 1:
        gathered = gather_object(gathered)
    found = sum((counts for counts, _ in gathered), Counter())
    unsure = {shards[index] for _, indices in gathered for index in indices}
    pending = [shard for shard in shards if shard in unsure or not shard[0].path(shard[1]).is_file()]
    if state.is_main_process and (found["stale"] or found["torn"]):
        logger.warning(
            f"feature cache: {found['stale']} stale and {found['torn']} torn shards of {len(shards)} are computed anew."
        )
    _check_disk(splits, pending, show_size and state.is_main_process)
    # Nobody writes before everybody has looked at the disk.
    state.wait_for_everyone()
    if not pending:
        return
    written = _compute(pending, extractor, state.process_index, state.num_processes, bar_off)
    logger.info(f"feature cache: process {state.process_index} wrote {', '.join(written) or 'nothing'}")
    if extractor.truncated_texts:
        logger.warning(
            f"feature cache: {extractor.truncated_texts} texts were cut off at the length that the teacher's text tower "
            "reads."
        )


def _remove_unusable(shards: Iterable[Shard]) -> tuple[Counter, list[Shard]]:
    """Delete stale and torn shards; how many were what, and which are locked by another process."""
    found, busy = Counter(), []
    for split, shard in shards:
        try:
            with split.lock(shard).acquire(blocking=False):
                problem = split.problem(shard)
                if problem in ("stale", "torn"):
                    split.path(shard).unlink()
        except Timeout:
            busy.append((split, shard))
        else:
            found[problem or "good"] += 1
    return found, busy


def _check_disk(splits: Sequence[SplitFeatures], pending: Sequence[Shard], show: bool) -> None:
    folder = splits[0].folder.parent
    needed = sum(split.size([shard]) for split, shard in pending)
    free = shutil.disk_usage(folder).free
    if show:
        whole = sum(split.size(split.shards()) for split in splits)
        print(
            f"feature cache: {whole:,} bytes ({whole / 1e9:.2f} GB), of which {needed:,} ({needed / 1e9:.2f} GB) are to be "
            f"written; {free / 1e9:.2f} GB are free in {folder}",
            flush=True,
        )
    if needed > free:
        raise ValueError(
            f"cache_dir {folder}: the features need {needed / 1e9:.2f} GB more, and {free / 1e9:.2f} GB are free; make room, "
            "name another cache_dir, use cache: embeddings instead of patches, or max_train_articles."
        )


def _compute(
    pending: list[Shard], extractor: FeatureExtractor, process_index: int, num_processes: int, bar_off: bool
) -> list[str]:
    """Compute shards that nobody else is computing until all are there; the names of those computed here."""
    # Processes begin at different places, so that they seldom meet.
    start = len(pending) * process_index // num_processes
    pending = pending[start:] + pending[:start]
    total = sum(len(split.articles(shard)) for split, shard in pending)
    written = []
    with extractor, tqdm(total=total, desc="computing features", unit="article", disable=bar_off) as bar:
        while pending:
            left = []
            for split, shard in pending:
                # Complete once it has its name: no need to wait for the lock, nor to read it all.
                if split.problem(shard, checksum=False) is None:
                    bar.update(len(split.articles(shard)))
                    continue
                try:
                    with split.lock(shard).acquire(blocking=False):
                        if split.problem(shard) is None:
                            bar.update(len(split.articles(shard)))
                        else:
                            split.build(shard, extractor, bar.update)
                            written.append(f"{split.name} {shard}")
                except Timeout:
                    left.append((split, shard))
            if len(left) == len(pending):
                time.sleep(WAIT_SECONDS)
            pending = left
    return written
