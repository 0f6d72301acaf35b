"""The base that a published LoRA adapter points at: pinned to a commit of the Hub, and shown to be the run's own."""

import hashlib
import json
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

from huggingface_hub import HfApi, hf_hub_download, snapshot_download
from huggingface_hub.errors import RepositoryNotFoundError
from huggingface_hub.hf_api import ModelInfo
from safetensors import SafetensorError

import modeling_spectra
from modeling_spectra import SpectraSumConfig
from spectra_sum.models.sources import ModelError

from ..errors import HubError
from ..repository import hub_errors
from .folder import HUB_ID, ModelFolder, file_digests

CODE_AND_SETTINGS = ("*.py", "*.json", "*.jinja")


@dataclass(frozen=True)
class PushedBase:
    """
    A whole SPeCTrA-Sum model on the Hub.

    Attributes:
        repo_id (`str`): `"namespace/name"`.
        revision (`str`, *optional*): As the user gave it, or the commit once it is pinned.
        is_pinned (`bool`): `revision` is a commit that the Hub has confirmed.
        private (`bool`): The repository is private; known once it is pinned.
    """

    repo_id: str
    revision: str | None
    is_pinned: bool = False
    private: bool = False


def parse_base(text: str) -> PushedBase:
    """`"namespace/name"` or `"namespace/name@revision"`.

    Raises:
        ModelError: It is neither.
    """
    repo_id, at, revision = text.partition("@")
    if not HUB_ID.fullmatch(repo_id) or (at and not revision):
        raise ModelError(f"--base {text}: this is no Hub id; pass NAMESPACE/NAME or NAMESPACE/NAME@REVISION.")
    return PushedBase(repo_id, revision or None)


def pin_base(base: PushedBase, own: ModelFolder) -> PushedBase:
    """
    Resolves the base's revision to a commit, and checks that it holds the weights that the adapter was trained on: by the
    hashes of the files, or tensor by tensor where they are cut into other shards.

    Raises:
        HubError: There is no such repository or revision, or it holds another model.
    """
    with hub_errors(f"--base {base.repo_id}"):
        try:
            info = HfApi().model_info(base.repo_id, revision=base.revision, files_metadata=True)
        except RepositoryNotFoundError as error:
            raise HubError(
                f"--base {base.repo_id}: the Hub has no such repository, or the token may not see it; push the run's own "
                f"base first: spectra-sum push model {own.path} --repo-id {base.repo_id}"
            ) from error
        names = {sibling.rfilename for sibling in info.siblings}
        model_type = None
        if "config.json" in names:
            config = Path(hf_hub_download(base.repo_id, "config.json", revision=info.sha))
            try:
                model_type = json.loads(config.read_text(encoding="utf-8")).get("model_type")
            except (ValueError, AttributeError, RecursionError):
                raise _damaged(base, info, "config.json", own) from None
        if model_type != SpectraSumConfig.model_type:
            raise HubError(
                f"--base {base.repo_id}: this is no SPeCTrA-Sum model (model_type {model_type!r}); push the run's own "
                f"base first: spectra-sum push model {own.path} --repo-id {base.repo_id}-base"
            )
        try:
            is_own = _holds(info, own)
        except SafetensorError:
            raise _damaged(base, info, "a file of its weights", own) from None
        if not is_own:
            raise HubError(
                f"--base {base.repo_id}: its weights at {info.sha[:12]} are not those of {own.path}, which the adapter "
                "was trained on; name another revision or push that folder."
            )
    return replace(base, revision=info.sha, is_pinned=True, private=bool(info.private))


def _damaged(base: PushedBase, info: ModelInfo, what: str, own: ModelFolder) -> HubError:
    return HubError(
        f"--base {base.repo_id}: {what} at {info.sha[:12]} is damaged; name another revision, or push {own.path} there again."
    )


def _holds(info: ModelInfo, own: ModelFolder) -> bool:
    shards = [sibling for sibling in info.siblings if sibling.rfilename.endswith(".safetensors")]
    hashes = sorted(sibling.lfs.sha256 for sibling in shards if sibling.lfs)
    local = []
    for path in own.weights:
        with path.open("rb") as file:
            local.append(hashlib.file_digest(file, "sha256").hexdigest())
    if hashes == sorted(local):
        return True
    downloaded = [Path(hf_hub_download(info.id, shard.rfilename, revision=info.sha)) for shard in shards]
    return file_digests(downloaded) == file_digests(own.weights)


def assemble_base(base: PushedBase, own: ModelFolder, folder: Path) -> None:
    """
    Puts the base together for a check without a download of its weights: code and settings of the pinned commit, or of
    this installation when there is none, with the run's own weights.

    Args:
        base (`PushedBase`): The base.
        own (`ModelFolder`): The run's base.
        folder (`Path`): Made here.
    """
    folder.mkdir()
    sources = sorted(Path(modeling_spectra.__file__).parent.glob("*.py")) + sorted(own.path.glob("*.json*"))
    if base.is_pinned:
        with hub_errors(f"--base {base.repo_id}"):
            snapshot = snapshot_download(base.repo_id, revision=base.revision, allow_patterns=list(CODE_AND_SETTINGS))
        sources = sorted(path for pattern in CODE_AND_SETTINGS for path in Path(snapshot).glob(pattern))
    for path in sources:
        if path.name != "__init__.py" and not path.name.endswith(".safetensors.index.json"):
            shutil.copyfile(path, folder / path.name)
    index = own.path / "model.safetensors.index.json"
    for path in (*own.weights, *([index] if index.is_file() else [])):
        (folder / path.name).symlink_to(path.resolve())
