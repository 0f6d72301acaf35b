"""`--push_to_hub`: a run's checkpoints and result arrive on the Hub, and a Hub that is not there ends no run."""

import json
import logging
import socket
from pathlib import Path

import pytest
from huggingface_hub import ModelCard, hf_hub_download
from safetensors.torch import load_file

from hub_upload.errors import HubError
from tests.trainer.training_setup import save_setup, setup_arguments
from trainer.checkpoints import push as checkpoint_push
from trainer.train import main

pytestmark = pytest.mark.usefixtures("preloaded_python")

SETTINGS = {
    "closed_world_articles": 8,
    "closed_world_eval_articles": 2,
    "align_weight": 0.0,
    "distill_weight": 0.0,
    "save_strategy": None,
    "save_steps": 2,
    "push_to_hub": True,
}


@pytest.fixture
def train(tmp_path, monkeypatch):
    """Trains two steps and pushes to the given id; online, also in the processes that it starts."""
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_DATASETS_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    save_setup(tmp_path, SETTINGS)

    def run(repo_id: str) -> Path:
        output = tmp_path / "run"
        main(setup_arguments(tmp_path, output, "--hub_model_id", repo_id))
        return output

    return run


def test_a_run_is_published_with_its_results(hub, train):
    repo_id = hub.new_id("run")
    output = train(repo_id)
    titles = [commit.title for commit in hub.api.list_repo_commits(repo_id)]
    assert titles[:2] == ["End of training", "Training in progress, step 2"]
    names = set(hub.api.list_repo_files(repo_id))
    assert {"model.safetensors", "modeling_spectra.py", "pipeline_spectra.py", "README.md", "LICENSE"} <= names
    assert not [name for name in names if name.endswith((".pt", ".bin", ".pth")) or "/" in name]
    pushed = load_file(hf_hub_download(repo_id, "model.safetensors"))
    trained = load_file(output / "model.safetensors")
    assert pushed.keys() == trained.keys()
    assert all(pushed[name].equal(trained[name]) for name in trained)
    scores = json.loads((output / "metrics.json").read_text())
    (rouge,) = [one for one in ModelCard.load(repo_id).data.eval_results if one.metric_name == "ROUGE-L"]
    assert rouge.metric_value == pytest.approx(scores["test_rougeL"], abs=1e-4)
    assert not list(output.glob(".checkpoints*"))


def test_a_hub_that_goes_away_ends_no_run(train, monkeypatch, caplog):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        closed = f"http://127.0.0.1:{taken.getsockname()[1]}"
    monkeypatch.setenv("HF_ENDPOINT", closed)
    monkeypatch.setenv("HF_TOKEN", "hf_any")
    # Only the check before the run needs the Hub to be there.
    monkeypatch.setattr("trainer.train.check_target", lambda target: None)
    monkeypatch.setattr(logging.getLogger("transformers"), "propagate", True)
    monkeypatch.setattr(checkpoint_push.logger, "propagate", True)
    output = train("ns/run")
    assert (output / "metrics.json").is_file()
    warnings = [record.getMessage() for record in caplog.records if "was not pushed" in record.getMessage()]
    assert [line.partition(" was")[0] for line in warnings] == ["'Training in progress, step 2'", "'End of training'"]
    assert all("ns/run: the connection to the Hub failed" in line for line in warnings)


def test_a_run_that_could_never_push_does_not_begin(hub, train, monkeypatch, tmp_path):
    monkeypatch.setenv("HF_TOKEN", "hf_wrongwrong")
    with pytest.raises(HubError, match="the Hub refuses the token"):
        train("ns/run")
    assert not (tmp_path / "run").exists()
