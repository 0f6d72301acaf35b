"""A model on the Hub: its configuration at one commit, and one line for each way in which it cannot be fetched."""

from pathlib import Path
from typing import Any, NamedTuple

from huggingface_hub import HfApi, constants, hf_hub_download
from huggingface_hub.errors import (
    DisabledRepoError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    HTTPError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from transformers.utils import ADAPTER_CONFIG_NAME, CONFIG_NAME
from transformers.utils.hub import extract_commit_hash

from .kinds import SPECTRA_SUM, check_adapter_base, kind_of_config, read_config, without_config
from .sources import ModelError

# Of huggingface_hub, and what its connections raise.
_FETCHING_ERRORS = (HTTPError, HFValidationError, OSError)


class HubModel(NamedTuple):
    """The kind of a model on the Hub, and the commit that its configuration was read at."""

    kind: str
    revision: str | None


def find_hub_model(name: str) -> HubModel:
    """
    The kind of a model on the Hub, by its configuration; its weights are not fetched. A LoRA adapter's is its base's.

    Args:
        name (`str`): Hub id.

    Raises:
        ModelError: It cannot be fetched, or is of another kind. The message says why, and what to do.
    """
    try:
        adapter = _fetched(name, ADAPTER_CONFIG_NAME)
        if adapter is not None:
            _check_base(name, read_config(adapter, name))
            return HubModel(SPECTRA_SUM, extract_commit_hash(str(adapter), None))
        config = _fetched(name, CONFIG_NAME)
        if config is None:
            raise ModelError(f"{name}: {without_config(HfApi().list_repo_files(name))}")
        return HubModel(kind_of_config(read_config(config, name), name), extract_commit_hash(str(config), None))
    except _FETCHING_ERRORS as error:
        raise ModelError(f"{name}: {_reason(name, error)}") from error


def _check_base(name: str, settings: dict[str, Any]) -> None:
    base = settings.get("base_model_name_or_path")
    if not isinstance(base, str) or Path(base).exists():
        return
    config = _fetched(base, CONFIG_NAME, settings.get("revision"))
    if config is not None:
        check_adapter_base(read_config(config, base), name, base)


def _fetched(name: str, file: str, revision: str | None = None) -> Path | None:
    """A small file of a repository, from the cache where it is there; None where the repository has no such file."""
    try:
        return Path(hf_hub_download(name, file, revision=revision))
    except RemoteEntryNotFoundError:
        return None
    except LocalEntryNotFoundError:
        # Without a network the cache knows only which files it was asked for.
        if file == ADAPTER_CONFIG_NAME:
            return None
        raise


def _reason(name: str, error: Exception) -> str:
    """What went wrong, and what to do."""
    hub = constants.ENDPOINT
    if isinstance(error, LocalEntryNotFoundError) and isinstance(error.__cause__, HfHubHTTPError):
        # What the Hub answered, where the cache could not help out.
        error = error.__cause__
    if isinstance(error, GatedRepoError):
        return (
            f"its owner wants to be asked first (a gated model): accept the conditions at {hub}/{name}, then log in with hf "
            "auth login, or set HF_TOKEN."
        )
    if isinstance(error, DisabledRepoError):
        return f"{hub} has disabled this model; choose another."
    if isinstance(error, RevisionNotFoundError):
        return f"its repository at {hub} has no such revision; repair the adapter's base."
    if isinstance(error, RepositoryNotFoundError):
        return _missing(name, hub)
    if isinstance(error, LocalEntryNotFoundError | OfflineModeIsEnabled) and constants.HF_HUB_OFFLINE:
        return (
            "it is not in the cache, and HF_HUB_OFFLINE=1 forbids to fetch it; unset it, or pass a folder, a .gguf file or "
            "smollm2."
        )
    if isinstance(error, HFValidationError):
        return "this is no Hub id; pass owner/name, or a folder."
    if isinstance(error, HfHubHTTPError) and error.response is not None:
        status = error.response.status_code
        advice = "log in with hf auth login, or set HF_TOKEN." if status in (401, 403) else "try again later."
        return f"{hub} answers {status}; {advice}"
    return f"{hub} cannot be reached, and it is not in the cache; pass a folder, a .gguf file or smollm2."


def _missing(name: str, hub: str) -> str:
    for kind, advice in (("dataset", "pass a model; evaluate takes data as --data"), ("space", "pass a model")):
        try:
            if HfApi().repo_exists(name, repo_type=kind):
                return f"this is a {kind} at {hub}; {advice}."
        except _FETCHING_ERRORS:
            break
    return f"there is no such model at {hub}, or this account may not see it; check the name, or log in with hf auth login."
