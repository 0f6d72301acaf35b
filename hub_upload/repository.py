"""A folder → a repository on the Hub: checked before any long work, then pushed as one atomic commit."""

import errno
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx2
from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, RepoCard, get_token
from huggingface_hub.errors import (
    HfHubHTTPError,
    HFValidationError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.hf_api import DatasetInfo, ModelInfo, SpaceInfo

from .errors import HubError

# Every card that this project writes carries it: a repository with another card was made by somebody else.
PROJECT_TAG = "spectra-sum"
# What git takes for a branch, and no commit's hash.
_BRANCH = re.compile(r"(?![0-9a-f]{40}$)(?!.*\.\.)\w[\w.-]*(/\w[\w.-]*)*(?<!\.lock)(?<!\.)")

# The answer to a commit may be lost after it was made.
_AGAIN = "run the same command again: nothing is uploaded or committed twice."


@dataclass(frozen=True)
class Target:
    """
    Where a folder goes.

    Args:
        repo_id (`str`): `"namespace/name"`.
        repo_type (`str`, *optional*, defaults to `"model"`): `"model"`, `"dataset"` or `"space"`.
        private (`bool`, *optional*): Visibility; by default an existing repository keeps its own, and a new one gets
            what is usual in its namespace.
        revision (`str`, *optional*): A branch, made from the main one when it is missing. Defaults to the main branch.
        create_pr (`bool`, *optional*, defaults to `False`): Open a pull request instead of committing to the branch.
        space_sdk (`str`, *optional*): Of a Space, such as `"gradio"`.
    """

    repo_id: str
    repo_type: str = "model"
    private: bool | None = None
    revision: str | None = None
    create_pr: bool = False
    space_sdk: str | None = None


@dataclass(frozen=True)
class Push:
    """
    What a push did; its text is one line for the user.

    Attributes:
        repo_id (`str`): The repository.
        url (`str`): Of the repository, or of the pull request.
        commit (`str`): Hash of the revision's newest commit.
        changed (`bool`): False when the repository held all of it already, and no commit was made.
        files (`int`): Files of the folder.
        size (`int`): Their bytes.
    """

    repo_id: str
    url: str
    commit: str
    changed: bool
    files: int
    size: int

    def __str__(self) -> str:
        done = f"commit {self.commit[:12]}" if self.changed else f"nothing to change, still commit {self.commit[:12]}"
        return f"{self.url}: {self.files} files, {self.size / 1e6:.1f} MB, {done}"


def check_target(target: Target) -> None:
    """
    Checks, before any long work, that a push can go there: the id is well-formed, the token is valid and may write, the
    repository is new, empty or one of this project's, and its visibility is the one asked for. Nothing is uploaded; only
    in a namespace of somebody else a missing repository is made here, since nothing else tells whether that is allowed.

    Raises:
        HubError: Naming what is wrong and the fix.
    """
    with hub_errors(target.repo_id):
        namespace, slash, _ = target.repo_id.partition("/")
        if not slash:
            raise HubError(f"{target.repo_id}: the namespace is missing; pass --repo-id NAMESPACE/NAME.")
        if target.create_pr and target.revision:
            raise HubError("--create-pr opens its own branch; leave --revision out.")
        if target.revision and not _BRANCH.fullmatch(target.revision):
            raise HubError(
                f"--revision {target.revision}: this is no name for a branch; take letters, digits, - and _."
            )
        if get_token() is None:
            raise HubError("there is no token; set HF_TOKEN or run `hf auth login` with a token that may write.")
        api = HfApi()
        user = api.whoami()
        if user.get("auth", {}).get("accessToken", {}).get("role") == "read":
            raise HubError("the token may only read; set HF_TOKEN to one that may write.")
        if _existing_repository(api, target) is None:
            own = {user["name"], *(organization["name"] for organization in user.get("orgs", ()))}
            if namespace not in own:
                _create_repository(api, target)


def push_folder(folder: Path, target: Target, message: str) -> Push:
    """
    Makes a revision equal to a folder by one commit: files are added or replaced, and those that the folder lacks are
    deleted. Large files are uploaded first and not again when a push is repeated; until the commit at the end the
    revision stays as it was. When nothing differs there is no commit.

    Args:
        folder (`Path`): All of its files are pushed.
        target (`Target`): The repository; made when it is missing.
        message (`str`): Of the commit.

    Raises:
        HubError: The push was refused, or the connection was lost; the revision is as before.
    """
    with hub_errors(target.repo_id):
        api = HfApi()
        place = {"repo_id": target.repo_id, "repo_type": target.repo_type, "revision": target.revision}
        if _existing_repository(api, target) is None:
            _create_repository(api, target)
        if target.revision:
            api.create_branch(target.repo_id, repo_type=target.repo_type, branch=target.revision, exist_ok=True)
        before = api.repo_info(**place)
        _check_visibility(before, target)
        sources = {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}
        # The server's own file, which says what is stored as a large file.
        stale = {sibling.rfilename for sibling in before.siblings} - sources.keys() - {".gitattributes"}
        info = api.create_commit(
            **place,
            operations=[CommitOperationAdd(name, path) for name, path in sources.items()]
            + [CommitOperationDelete(name) for name in sorted(stale)],
            commit_message=message,
            # Refused by the server when somebody else has pushed in between.
            parent_commit=before.sha,
            create_pr=target.create_pr,
        )
        if target.private and not api.repo_info(target.repo_id, repo_type=target.repo_type).private:
            raise HubError(
                f"the {target.repo_type} {target.repo_id} was made public during this push, which has arrived; make it "
                "private in its settings at once."
            )
        return Push(
            repo_id=target.repo_id,
            url=info.pr_url or str(info.repo_url),
            commit=info.oid,
            changed=info.oid != before.sha,
            files=len(sources),
            size=sum(path.stat().st_size for path in sources.values()),
        )


def write_dry_run(folder: Path, destination: Path) -> None:
    """
    Copies a folder that would be pushed, so that the user can look at it. Needs no network.

    Raises:
        HubError: `destination` exists and is no empty folder.
    """
    check_dry_run(destination)
    destination = destination.absolute()
    with tempfile.TemporaryDirectory(prefix=".dry-run-", dir=destination.parent) as name:
        partial = Path(name) / "folder"
        shutil.copytree(folder, partial)
        if destination.is_dir():
            destination.rmdir()
        partial.rename(destination)


def check_dry_run(destination: Path) -> None:
    """
    Checks, before any long work, that [`write_dry_run`] may write there.

    Raises:
        HubError: `destination` exists and is no empty folder, or the folder above it is missing.
    """
    if destination.exists() and not (destination.is_dir() and not any(destination.iterdir())):
        raise HubError(f"--dry-run {destination}: this exists and is no empty folder; name a new one.")
    if not destination.absolute().parent.is_dir():
        raise HubError(f"--dry-run {destination}: there is no folder {destination.parent}; make it first.")


@contextmanager
def hub_errors(what: str) -> Iterator[None]:
    """
    Turns the errors of the Hub's client into a [`HubError`] of one line that begins with `what`, holds no token and no
    signed address, and names the fix.
    """
    try:
        yield
    except OfflineModeIsEnabled:
        raise HubError(f"{what}: offline mode is on; unset HF_HUB_OFFLINE and TRANSFORMERS_OFFLINE to push.") from None
    except HFValidationError as error:
        raise HubError(f"{what}: this is no repository id: {_first_line(str(error))}") from None
    except HfHubHTTPError as error:
        raise HubError(f"{what}: {_http_reason(error)}") from error
    except (httpx2.RequestError, ConnectionError) as error:
        raise HubError(
            f"{what}: the connection to the Hub failed ({type(error).__name__}); check the network and HF_ENDPOINT and "
            f"{_AGAIN}"
        ) from error
    except json.JSONDecodeError as error:
        raise HubError(f"{what}: what answers at HF_ENDPOINT is no Hub; check the address.") from error
    except UnicodeEncodeError as error:
        raise HubError(f"{what}: the token holds characters that no token has; set HF_TOKEN again.") from error
    except OSError as error:
        # Copying a folder collects its errors in one that has no number.
        if error.errno == errno.ENOSPC or os.strerror(errno.ENOSPC) in str(error):
            raise HubError(
                f"{what}: the disk is full ({error.filename or 'no file named'}); make room, or set TMPDIR to a "
                "larger disk, and run the same command again."
            ) from error
        raise


def _existing_repository(api: HfApi, target: Target) -> ModelInfo | DatasetInfo | SpaceInfo | None:
    """The repository, or None when there is none yet; refuses one that the push must not change."""
    place = {"repo_id": target.repo_id, "repo_type": target.repo_type}
    try:
        info = api.repo_info(**place)
    except RepositoryNotFoundError:
        return None
    _check_visibility(info, target)
    if target.create_pr:
        # A pull request changes nothing by itself.
        return info
    revision = _branch(api, target)
    found = api.repo_info(**place, revision=revision) if revision else info
    files = {sibling.rfilename for sibling in found.siblings} - {".gitattributes"}
    # The Hub itself writes the card of a new Space, in its first commit.
    if not files or (files == {"README.md"} and len(api.list_repo_commits(**place, revision=revision)) == 1):
        return info
    tags = []
    if "README.md" in files:
        card = api.hf_hub_download(target.repo_id, "README.md", repo_type=target.repo_type, revision=revision)
        tags = RepoCard.load(card).data.to_dict().get("tags") or []
    if PROJECT_TAG not in tags:
        raise HubError(
            f"the {target.repo_type} {target.repo_id} is taken: it holds files, and its card lacks the tag "
            f"{PROJECT_TAG!r} of what this command makes; take another id, or propose the change with --create-pr."
        )
    return info


def _branch(api: HfApi, target: Target) -> str | None:
    """The branch to push to if it is there; None for the main one, which a missing branch is made from."""
    if target.revision is None:
        return None
    refs = api.list_repo_refs(target.repo_id, repo_type=target.repo_type)
    if target.revision in {tag.name for tag in refs.tags}:
        raise HubError(f"--revision {target.revision}: this is a tag, which stays as it is; name a branch.")
    return target.revision if target.revision in {branch.name for branch in refs.branches} else None


def _check_visibility(info: ModelInfo | DatasetInfo | SpaceInfo, target: Target) -> None:
    if target.private is not None and info.private != target.private:
        is_now, wanted = ("private", "public") if info.private else ("public", "private")
        raise HubError(
            f"the {target.repo_type} {target.repo_id} exists and is {is_now}, not {wanted}; change it in its settings or "
            "take another id."
        )


def _create_repository(api: HfApi, target: Target) -> None:
    api.create_repo(target.repo_id, repo_type=target.repo_type, private=target.private, space_sdk=target.space_sdk)


def _http_reason(error: HfHubHTTPError) -> str:
    status = error.response.status_code
    said = _first_line(error.server_message or "")
    if status == 401:
        return "the Hub refuses the token; set HF_TOKEN to a valid one, or run `hf auth login`."
    if status == 403:
        return f"the token lacks the right; use the token of an owner or member ({said or 'forbidden'})."
    if isinstance(error, RevisionNotFoundError):
        return "there is no such revision; check --revision."
    if status == 404:
        return "the Hub has no such repository, or the token may not see it; check the id."
    if status == 409:
        return f"the name is taken ({said or 'conflict'}); take another id."
    if status == 412:
        return "somebody else has pushed meanwhile; nothing was committed: run the same command again."
    if status == 429:
        return "the Hub asks for a pause (too many requests); wait and run the same command again."
    if status == 507:
        return "the Hub's storage is full; nothing was committed."
    if status >= 500:
        return f"the Hub has an error of its own ({status}); {_AGAIN}"
    return f"the Hub refuses the push ({status}: {said or 'no reason given'})."


def _first_line(text: str) -> str:
    return next(iter(text.strip().splitlines()), "")
