"""Filling the feature cache: what is missing, stale or torn is computed, by all processes together, before it is read.

All processes, on whatever nodes, must see the same `cache_dir`. Nothing is removed but torn shards, and another shard takes a
stale one's place at once: a run that has the old one open reads on in it, and one that opens the new one and was started with
other articles ends with an error.
"""

import json
import os
import shutil
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType

import torch
from accelerate import PartialState
from accelerate.utils import gather_object
from datasets import DatasetDict
from filelock import Timeout
from tqdm.auto import tqdm
from transformers.utils import logging

from modeling_spectra import SpectraSumForConditionalGeneration, SpectraSumProcessor
from spectra_sum.atomic_write import write_text_atomically
from spectra_sum.errors import SpectraSumError
from spectra_sum.models.sources import DEFAULT_DUAL_ENCODER
from trainer.arguments import DataArguments, SpectraTrainingArguments
from trainer.checkpoints.graceful_stop import EXIT_CODE
from trainer.features.cache import CachedFeatures, SplitFeatures
from trainer.features.extraction import FeatureExtractor
from trainer.features.key import (
    describe_dataset,
    describe_default_teacher,
    describe_teacher,
    describe_towers,
    feature_key,
)
from trainer.objectives.dpp_teacher import SummaryTeacher

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
    build_teacher: Callable[[], SummaryTeacher],
    checksum: bool = False,
) -> CachedFeatures:
    """The features of all splits, of which those that the cache lacks are computed first. Every process calls it.

    Args:
        data_args (`DataArguments`): `cache`, `cache_dir` and `teacher`.
        args (`SpectraTrainingArguments`): Device, precision, batch size and workers.
        model, processor: The model without PEFT; the towers that the features come from must be frozen.
        records (`DatasetDict`): The articles, by split.
        dual_encoder (`str`, *optional*): As `find_dual_encoder` gives it; None when no loss needs a teacher.
        build_teacher (`Callable`): Loads the teacher; called only if something is missing.
        checksum (`bool`, *optional*, defaults to `False`): See [`fill`].

    Raises:
        ValueError: A tower that they come from is trained, the disk is too small, an image cannot be read, or two articles
            have one id.
    """
    patches = data_args.cache == "patches"
    # An embedding tower gives the embeddings, and the vision tower may then learn.
    reads_vision_tower = patches or model.embedding_tower is None
    towers = [model.vision_tower] if reads_vision_tower else []
    towers += [] if model.embedding_tower is None else [model.embedding_tower]
    trained = any(parameter.requires_grad for tower in towers for parameter in tower.parameters())
    if trained or (reads_vision_tower and args.train_vision_tower != "none"):
        raise SpectraSumError(
            f"cache {data_args.cache!r}: the vision tower is trained (train_vision_tower {args.train_vision_tower}), so that "
            "its features change; freeze it or set cache to none."
        )
    autocast = torch.bfloat16 if args.bf16 else torch.float16 if args.fp16 else None
    config, dtype = model.config, model.vision_tower.dtype
    patch_bytes = config.num_patches * config.tower_grid.width * dtype.itemsize if patches else 0
    embedding_bytes = config.image_embedding_size * torch.float32.itemsize
    images = describe_towers(model, processor, autocast, embeddings_alone=args.train_vision_tower != "none")
    own_images = dual_encoder is not None and data_args.teacher == DEFAULT_DUAL_ENCODER
    labels, sentence_bytes = None, 0
    if own_images:
        labels = describe_default_teacher(config)
        sentence_bytes = labels["default"]["joint"] * torch.float32.itemsize
    elif dual_encoder is not None:
        labels, sentence_bytes = describe_teacher(dual_encoder, config), embedding_bytes
    image_texts = dual_encoder is not None and config.teacher_text_scale is not None
    splits = []
    for name, split in records.items():
        if image_texts and "captions" not in split.column_names:
            raise SpectraSumError(
                f"teacher_text_scale: the {name} articles have no captions that the teacher could read; leave it out."
            )
        key, record = feature_key(data_args.cache, describe_dataset(data_args, split), name, images, labels)
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
                bytes_per_sentence=sentence_bytes,
                whole_summaries=config.teacher_long_summary == "truncate",
                image_texts=image_texts,
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
        image_texts=image_texts,
        teacher_reads_images=own_images,
    )
    fill(splits, extractor, show_size=patches, progress=not args.disable_tqdm, checksum=checksum)
    return CachedFeatures(
        splits,
        embedding_size=config.image_embedding_size,
        with_teacher=dual_encoder is not None,
        patch_shape=(config.num_patches, config.tower_grid.width) if patches else None,
        patch_dtype=dtype if patches else None,
    )


def fill(
    splits: Sequence[SplitFeatures],
    extractor: FeatureExtractor,
    *,
    show_size: bool = False,
    progress: bool = True,
    checksum: bool = False,
) -> None:
    """Check what there is, and compute the rest together with the other processes; return when everything is there.

    Args:
        splits (`Sequence[SplitFeatures]`): The same in every process of the launch.
        extractor (`FeatureExtractor`): Computes features.
        show_size (`bool`, *optional*, defaults to `False`): Say first what it takes and what is free on the disk.
        progress (`bool`, *optional*, defaults to `True`): Show a progress bar in the main process.
        checksum (`bool`, *optional*, defaults to `False`): Read all shards whole and compare their checksums. Otherwise headers,
            sizes and the articles are compared, which finds everything but numbers that changed in place.

    Raises:
        ValueError: What is missing does not fit on the disk, the folder cannot be written, or an image cannot be read.
        SystemExit: With code 143, after SIGTERM; what is complete stays.
    """
    with _stopped_by_sigterm():
        _fill(splits, extractor, show_size, progress, checksum)


@contextmanager
def _stopped_by_sigterm() -> Iterator[None]:
    """Within the block SIGTERM ends the process by SystemExit, which lets go of locks and removes what is half written."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    process = os.getpid()

    def stop(number: int, frame: FrameType | None) -> None:
        if os.getpid() != process:
            # Of a forked process, which inherited this handler.
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        signal.signal(number, signal.SIG_IGN)
        print(
            "stopped by SIGTERM while the feature cache was filled; what is complete stays: run the same command again to go "
            "on.",
            file=sys.stderr,
            flush=True,
        )
        raise SystemExit(EXIT_CODE)

    previous = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        # None: a handler that was not installed from Python, which Python cannot install again.
        signal.signal(signal.SIGTERM, signal.SIG_DFL if previous is None else previous)


def _fill(
    splits: Sequence[SplitFeatures], extractor: FeatureExtractor, show_size: bool, progress: bool, checksum: bool
) -> None:
    state = PartialState()
    bar_off = not progress or not state.is_local_main_process
    shards = [(split, shard) for split in splits for shard in split.shards()]
    places = range(state.process_index, len(shards), state.num_processes)
    own = [shards[index] for index in places]
    problems = _find_problems(tqdm(own, desc="checking the feature cache", unit="shard", disable=bar_off), checksum)
    checked = [
        (index, problems.get((split, shard)), split.contents.get(shard))
        for index, (split, shard) in zip(places, own, strict=True)
    ]
    if state.num_processes > 1:
        checked = gather_object(checked)
    bad = {index: problem for index, problem, _ in checked if problem is not None}
    for index, problem, content in checked:
        if problem is None:
            # What one process has checked, all of them will read.
            split, shard = shards[index]
            split.contents[shard] = content
    found = Counter(bad.values())
    pending = [shards[index] for index in sorted(bad)]
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


def _find_problems(shards: Iterable[Shard], checksum: bool) -> dict[Shard, str]:
    """Why which shards cannot be used; torn ones are deleted, unless another process is replacing them."""
    problems = {}
    for split, shard in shards:
        # No lock: a complete cache may be read-only, and what has its name is complete.
        problem = split.problem(shard, checksum=checksum)
        if problem == "torn":
            with suppress(Timeout), _locked(split, shard):
                if split.problem(shard, checksum=checksum) == "torn":
                    split.path(shard).unlink()
        if problem is not None:
            problems[split, shard] = problem
    return problems


@contextmanager
def _locked(split: SplitFeatures, shard: int) -> Iterator[None]:
    """Holds a shard's lock, or raises Timeout at once."""
    try:
        lock = split.lock(shard).acquire(blocking=False)
    except PermissionError as error:
        raise SpectraSumError(
            f"cache_dir {split.folder.parent}: shard {shard} of {split.name} is missing or cannot be used, and {error.filename} "
            "cannot be written; ask its owner to fill the cache, or name a cache_dir of your own."
        ) from error
    with lock:
        yield


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
        raise SpectraSumError(
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
                if split.problem(shard) is None:
                    bar.update(len(split.articles(shard)))
                    continue
                try:
                    with _locked(split, shard):
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
