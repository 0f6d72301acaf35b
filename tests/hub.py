"""The Hub that the environment names (HF_ENDPOINT with a token), for the tests that publish."""

import os
import uuid
from dataclasses import dataclass, field

import huggingface_hub.constants
import pytest
from huggingface_hub import HfApi, get_token


@dataclass
class Hub:
    """The Hub under test; repositories named by `new_id` are deleted at the end.

    Args:
        api (`HfApi`): Of the Hub.
        namespace (`str`): The token's user.
        made (`list[tuple[str, str]]`): Type and id of the repositories to delete.
    """

    api: HfApi
    namespace: str
    made: list[tuple[str, str]] = field(default_factory=list)

    def new_id(self, name: str, repo_type: str = "model") -> str:
        """An id that no other test has."""
        repo_id = f"{self.namespace}/{name}-{uuid.uuid4().hex[:12]}"
        self.made.append((repo_type, repo_id))
        return repo_id

    def environment(self, home: os.PathLike, **more: str) -> dict[str, str]:
        """For a process of its own, online, with an own `HF_HOME`."""
        offline = ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "TRANSFORMERS_OFFLINE")
        kept = {name: value for name, value in os.environ.items() if name not in offline and name != "PYTHONPATH"}
        return {**kept, "HF_HOME": str(home), "HF_TOKEN": get_token(), "HF_HUB_DISABLE_PROGRESS_BARS": "1", **more}


@pytest.fixture(scope="session")
def hub_api():
    if not os.environ.get("HF_ENDPOINT"):
        pytest.skip("HF_ENDPOINT names no Hub to push to")
    if get_token() is None:
        pytest.skip("there is no token for the Hub that HF_ENDPOINT names")
    return HfApi(endpoint=os.environ["HF_ENDPOINT"])


@pytest.fixture
def hub(hub_api, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    made = Hub(hub_api, hub_api.whoami()["name"])
    yield made
    for repo_type, repo_id in made.made:
        hub_api.delete_repo(repo_id, repo_type=repo_type, missing_ok=True)
