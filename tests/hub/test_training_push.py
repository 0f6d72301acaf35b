"""`--push_to_hub`: a run's checkpoints and result arrive on the Hub, and a Hub that is not there ends no run."""

import json
import logging
import socket
from pathlib import Path

import pytest
from huggingface_hub import ModelCard, hf_hub_download
from safetensors.torch import load_file

from hub_upload.errors import HubError
from tests.tiny import save_text_folder, save_vision_folder
from trainer import checkpoint_push
from trainer.train import main

SETTINGS = """
dataset: closed_world
closed_world_articles: 8
closed_world_eval_articles: 2
max_length: 400
num_latents: 3
sampler_depth: 1
dvp_num_layers: 3
gate_layers: [1, 3]
vrp_hidden_size: 16
max_images: 3
max_candidate_images: 6
align_weight: 0.0
distill_weight: 0.0
use_cpu: true
disable_tqdm: true
report_to: none
logging_steps: 1
per_device_train_batch_size: 2
generation_max_new_tokens: 8
freeze_language_model: false
learning_rate: 0.01
max_steps: 2
save_steps: 2
push_to_hub: true
"""


@pytest.fixture
def train(tmp_path, monkeypatch):
    """Trains two steps and pushes to the given id; online, also in the processes that it starts."""
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_DATASETS_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "settings.yaml").write_text(SETTINGS)
    vision, text = save_vision_folder(tmp_path / "vision"), save_text_folder(tmp_path / "text")

    def run(repo_id: str) -> Path:
        output = tmp_path / "run"
        argv = ["--config", str(tmp_path / "settings.yaml"), "--output_dir", str(output), "--hub_model_id", repo_id]
        main([*argv, "--vision_backbone", str(vision), "--text_backbone", str(text)])
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
