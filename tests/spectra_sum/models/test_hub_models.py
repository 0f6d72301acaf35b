"""Ids on a Hub: each way in which one cannot be loaded is one line, and a model is read at one commit, which is told."""

import json
import os
import subprocess
import sys

import pytest

from tests import tiny
from tests.spectra_sum.models.hub_stub import COMMIT, files_of, hub_stub

pytestmark = pytest.mark.usefixtures("preloaded_python")

# Where the Hub is, libraries read when they are imported. Between its tries the client waits for minutes.
PROGRAM = """
import gc, json, sys, time
gc.disable()
from spectra_sum.models.loading import load_any
from spectra_sum.models.sources import ModelError

time.sleep = lambda seconds: None
answers = {}
for name in json.loads(sys.argv[1]):
    try:
        loaded = load_any(name)
        answers[name] = [loaded.kind, loaded.revision]
    except ModelError as error:
        answers[name] = str(error)
print("ANSWERS" + json.dumps(answers))
"""


def load_from(address, home, names, **environment):
    kept = {name: value for name, value in os.environ.items() if not name.endswith("_OFFLINE") and name != "HF_TOKEN"}
    settings = {"HF_ENDPOINT": address, "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1", "HF_HUB_ETAG_TIMEOUT": "5"}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, json.dumps(names)],
        env={**kept, **settings, **environment},
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.partition("ANSWERS")[2])


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tiny.save_text_folder(tmp_path_factory.mktemp("text") / "text")
    base = files_of(folder)
    return {
        "owner/text": base,
        "owner/encoder": {"config.json": b'{"model_type": "bert", "architectures": ["BertModel"]}'},
        "owner/diffusion": {"model_index.json": b"{}"},
        "owner/quants": {"README.md": b"", "model-Q4_0.gguf": b"GGUF"},
        "owner/adapter": {"adapter_config.json": b'{"base_model_name_or_path": "owner/text"}'},
    }


def test_one_line_for_each_id_and_one_commit(models, tmp_path):
    with hub_stub(models) as address:
        expected = {
            "owner/gated": f"(a gated model): accept the conditions at {address}/owner/gated, then log in",
            "owner/not-yet-granted": "(a gated model): accept the conditions",
            "owner/missing": f"there is no such model at {address}, or this account may not see it",
            "owner/data": f"this is a dataset at {address}; pass a model; evaluate takes data as --data",
            "owner/forbidden": f"{address} answers 403; log in with hf auth login, or set HF_TOKEN",
            "owner/gone": f"{address} answers 410; try again later",
            "owner/encoder": "'bert' (BertModel) is an encoder and writes no text",
            "owner/diffusion": "this is a diffusion model",
            "owner/quants": "it holds GGUF files and no config.json; download one of them and pass that file, such as model-Q4",
            "owner/adapter": "this is an adapter of a 'qwen2' model, owner/text; merge the two",
        }
        answers = load_from(address, tmp_path / "home", [*expected, "owner/text"])
        for name, reason in expected.items():
            assert answers[name].startswith(f"{name}: ") and reason in answers[name], answers[name]
            assert "\n" not in answers[name]
        assert answers["owner/text"] == ["causal", COMMIT]
    # The Hub is gone: what is in the cache still loads, and what is not is told.
    again = load_from(address, tmp_path / "home", ["owner/text", "owner/other"])
    assert again["owner/text"] == ["causal", COMMIT]
    assert again["owner/other"].startswith(f"owner/other: {address} cannot be reached, and it is not in the cache")
    offline = load_from(address, tmp_path / "home", ["owner/text", "owner/other"], HF_HUB_OFFLINE="1")
    assert offline["owner/text"] == ["causal", COMMIT]
    assert "it is not in the cache, and HF_HUB_OFFLINE=1 forbids to fetch it" in offline["owner/other"]
