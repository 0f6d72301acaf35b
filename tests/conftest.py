"""Environment of all tests: no network, one thread, no garbage looked for while modules are imported.

It must be set before any library reads it.
"""

import gc
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import FunctionType, ModuleType

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_DATASETS_OFFLINE"] = "1"
os.environ["TRANSFORMERS_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

gc.disable()

import pytest  # noqa: E402
import torch  # noqa: E402

from tests import preloaded_python as preloading  # noqa: E402
from tests.double_precision import double_precision  # noqa: E402
from tests.hub import hub, hub_api  # noqa: E402, F401

torch.set_num_threads(1)


# Files that stay in one process together.
TOGETHER = {
    # SmolLM2 is unpacked once.
    "test_causal.py": "smollm2",
    "test_summarize_command.py": "smollm2",
}


def starts_servers(module: ModuleType) -> bool:
    """Whether a file forks processes from a server that has imported the trainer."""
    owners = (value.__module__ for value in vars(module).values() if isinstance(value, type | FunctionType))
    return "tests.forked_process" in owners


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """With several processes, the tests of a file stay in one, since they share what its fixtures make.

    So do the files that fork from one server, which each process would have to start anew. These groups are the largest and
    so begin first, and with them the longest tests. The files that publish metrics, under names that are given, share one.
    """
    preloaded = {item.path for item in items if "preloaded_python" in item.fixturenames}
    groups: dict[Path, str] = {}
    for item in items:
        if item.path not in groups:
            forked = "forked" if starts_servers(item.module) else str(item.path)
            groups[item.path] = "preloaded" if item.path in preloaded else TOGETHER.get(item.path.name, forked)
        item.add_marker(pytest.mark.xdist_group(groups[item.path]))


def pytest_make_parametrize_id(val: object) -> str | None:
    """A long text is cut: whole, the hostile documents alone would make ten megabytes of what processes tell each other."""
    return f"{val[:40]!r}…{len(val)}" if isinstance(val, str) and len(val) > 60 else None


def pytest_collection_finish() -> None:
    """What the imports have made stays: each training collects garbage at its end, and would look at all of it anew."""
    gc.freeze()
    gc.enable()


@pytest.fixture
def float64(request: pytest.FixtureRequest) -> Iterator[None]:
    """For tests that compare two orders of the same sums. The mark `float32` leaves a test of half precision out."""
    if request.node.get_closest_marker("float32"):
        yield
        return
    with double_precision():
        yield


@pytest.fixture(scope="session")
def preloaded_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with preloading.start(tmp_path_factory.mktemp("preloaded")) as client:
        yield client


@pytest.fixture(scope="module")
def preloaded_python(preloaded_server: str) -> Iterator[None]:
    """`sys.executable` has imported torch, for the tests of a file that names this fixture."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "executable", preloaded_server)
        yield
