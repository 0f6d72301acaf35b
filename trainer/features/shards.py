"""Shards of the feature cache: a safetensors file with what was computed of some consecutive articles of a split.

Per image it holds `image_embeds` (I, d), and where they are cached `marginals` (I,) and `patches` (I, P, d_v); per sentence
of the reference summaries `sentence_embeds` (S, d); where images were broken, `broken_indices` (X,), their places among the
images of their article, of which nothing else is held; per article `image_starts`, `sentence_starts` and `broken_starts`
(A + 1,), its place in those, and `article_stamps` and `article_digests` (A, 32), by which changed articles are told.
"""

import hashlib
import json
import os
import shutil
import zlib
from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from spectra_sum.errors import SpectraSumError
from spectra_sum.records.image_texts import COLUMNS as TEXT_COLUMNS
from spectra_sum.sentences import reference_sentences

# Shards that a process keeps mapped.
MOST_OPEN = 64
# What is read of an image file at either end, where most files of MSMO are read whole.
EDGE_BYTES = 2**16
PER_IMAGE = ("image_embeds", "marginals", "patches")
PER_SENTENCE = ("sentence_embeds",)
PER_BROKEN = ("broken_indices",)
STARTS = ("image_starts", "sentence_starts", "broken_starts")
# How many articles a shard begins with, and a digest of what they are.
Content = tuple[int, bytes]


def id_key(identifier: str) -> int:
    """The int64 number of an article's id."""
    return int.from_bytes(hashlib.sha256(identifier.encode()).digest()[:8], "big", signed=True)


def article_digests(rows: pyarrow.Table, max_images: int) -> list[bytes]:
    """What tells an article's content from another's, as far as features depend on it, wherever the dataset lies.

    Images inside the dataset count with their bytes, image files with name, size, and their first and last 64 KiB.

    Args:
        rows (`pyarrow.Table`): The columns id, summary and images (undecoded) of A articles, and where the teacher reads them
            captions and alt_texts.
        max_images (`int`): Images beyond the first `max_images` are never read.

    Returns:
        `list[bytes]`: A SHA-256 digests.
    """
    return _digests(rows, max_images, _describe_content)


def article_stamps(rows: pyarrow.Table, max_images: int) -> list[bytes]:
    """[`article_digests`] with the time of change in place of an image file's bytes.

    Reading millions of files would take longer than a training starts: only articles whose stamps differ are read.
    """
    return _digests(rows, max_images, _describe_file)


def _digests(rows: pyarrow.Table, max_images: int, describe: Callable[[Path], list[Any]]) -> list[bytes]:
    digests = []
    for row in rows.to_pylist():
        identifier, summary, images = row["id"], row["summary"], row["images"]
        # Not the lines: an article whose sentences another rule found counts as changed, and all others stay as they are.
        sentences = reference_sentences(summary)
        content = [identifier, sentences, [_describe_image(image, describe) for image in images[:max_images]]]
        content += [row[name] for name in TEXT_COLUMNS if name in row]
        digests.append(hashlib.sha256(json.dumps(content).encode()).digest())
    return digests


def _describe_image(image: dict[str, Any], describe: Callable[[Path], list[Any]]) -> list[Any]:
    if image["bytes"] is not None:
        return [hashlib.sha256(image["bytes"]).hexdigest()]
    path = Path(image["path"])
    try:
        return [path.name, *describe(path)]
    except OSError:
        # Whoever decodes it says so.
        return [path.name, None, None]


def _describe_file(path: Path) -> list[Any]:
    status = path.stat()
    return [status.st_size, status.st_mtime_ns]


def _describe_content(path: Path) -> list[Any]:
    with open(path, "rb") as file:
        digest = hashlib.sha256(file.read(EDGE_BYTES))
        size = file.seek(0, os.SEEK_END)
        file.seek(max(EDGE_BYTES, size - EDGE_BYTES))
        digest.update(file.read())
    return [size, digest.hexdigest()]


def write_shard(path: Path, tensors: dict[str, torch.Tensor]) -> None:
    """Write a shard as a whole or not at all; the caller holds the shard's lock."""
    # safetensors writes under a random name, which a killed process leaves behind: a folder makes it easy to find.
    partial = path.with_name(f".{path.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    try:
        temporary = partial / path.name
        temporary.touch()
        readable = temporary.stat().st_mode
        save_file(tensors, temporary, metadata={"checksum": _checksum(tensors)})
        # Its files are the owner's alone; a cache may be shared by a group.
        temporary.chmod(readable)
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def check_shard(
    path: Path, stamps: Sequence[bytes], digests: Callable[[], Sequence[bytes]], *, checksum: bool
) -> tuple[str | None, Content | None]:
    """Why a shard cannot be used for these articles, or what it holds of them.

    Args:
        path (`Path`): The shard.
        stamps (`Sequence[bytes]`): Of [`article_stamps`], of the articles that it should begin with.
        digests (`Callable`): Gives their [`article_digests`]; asked only if stamps differ.
        checksum (`bool`): Read the whole file and compare its checksum. Without it a file that was cut off is found, and one
            whose numbers were changed in place is not.

    Returns:
        `"missing"`, `"torn"` (cut off, or changed since it was written), `"stale"` (of other articles) or None, and for None
        the content by which a [`ShardReader`] knows the shard again.
    """
    if not path.is_file():
        return "missing", None
    try:
        with safe_open(path, framework="pt") as file:
            stored = {name: file.get_tensor(name) for name in ("article_stamps", "article_digests")}
            if checksum:
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
                if (file.metadata() or {}).get("checksum") != _checksum(tensors):
                    return "torn", None
    except SafetensorError:
        return "torn", None
    if _begins_with(stored["article_stamps"], stamps) or _begins_with(stored["article_digests"], digests()):
        return None, shard_content(stored["article_digests"], len(stamps))
    return "stale", None


def _begins_with(stored: torch.Tensor, digests: Sequence[bytes]) -> bool:
    # More articles than these are those of a run with a higher limit.
    return torch.equal(stored[: len(digests)], digest_tensor(digests))


def shard_content(digests: torch.Tensor, count: int) -> Content:
    """The content of a shard's first `count` articles, by its `article_digests`."""
    return count, hashlib.sha256(digests[:count].numpy().tobytes()).digest()


def digest_tensor(digests: Sequence[bytes]) -> torch.Tensor:
    """A digests → (A, 32), uint8."""
    return torch.tensor([list(digest) for digest in digests], dtype=torch.uint8)


def _checksum(tensors: dict[str, torch.Tensor]) -> str:
    """CRC-32 over names, types, shapes and contents: it finds accidents, and runs at the speed of a disk."""
    value = 0
    for name in sorted(tensors):
        tensor = tensors[name]
        value = zlib.crc32(f"{name} {tensor.dtype} {list(tensor.shape)}".encode(), value)
        value = zlib.crc32(tensor.contiguous().reshape(-1).view(torch.uint8).numpy(), value)
    return f"{value:08x}"


class ShardReader:
    """Reads single articles out of shards, which are mapped into memory when they are first needed.

    It can be handed to other processes, forked or spawned; each opens the files for itself.
    """

    def __init__(self):
        self._open_files: OrderedDict[Path, tuple[Any, list[torch.Tensor]]] = OrderedDict()
        self._process = os.getpid()

    def __getstate__(self) -> dict[str, Any]:
        return {}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__()

    def read(self, path: Path, row: int, content: Content) -> dict[str, torch.Tensor]:
        """The features of one article; they lie in mapped memory until they are copied.

        Args:
            path (`Path`): The shard.
            row (`int`): The article's place in it.
            content (`Content`): What [`check_shard`] found in it.

        Raises:
            ValueError: Another run has replaced the shard in the meantime, or removed it. One that is mapped is still the
                one that was checked.
        """
        file, index = self._open(path, content)
        slices = {
            name: starts[row : row + 2].tolist()
            for group, starts in zip((PER_IMAGE, PER_SENTENCE, PER_BROKEN), index, strict=False)
            for name in group
        }
        names = set(file.keys())
        return {name: file.get_slice(name)[start:end] for name, (start, end) in slices.items() if name in names}

    def _open(self, path: Path, content: Content) -> tuple[Any, list[torch.Tensor]]:
        if self._process != os.getpid():
            self.__init__()
        if path not in self._open_files:
            try:
                file = safe_open(path, framework="pt")
            except (OSError, SafetensorError) as error:
                raise SpectraSumError(f"{path} was there at the start and cannot be read now: {error}") from error
            if shard_content(file.get_tensor("article_digests"), content[0]) != content:
                raise SpectraSumError(
                    f"{path} holds other articles than at the start: another run with other data uses the same "
                    "cache_dir; start this one again with a cache_dir of its own."
                )
            # A shard without broken images has no starts of theirs.
            index = [file.get_tensor(name) for name in STARTS if name in file.keys()]  # noqa: SIM118
            self._open_files[path] = file, index
            if len(self._open_files) > MOST_OPEN:
                self._open_files.popitem(last=False)
        self._open_files.move_to_end(path)
        return self._open_files[path]
