"""Any causal language model as a text model: its own logits and texts, its own prompt, and what is refused."""

import importlib.util
import json
import shutil

import pytest
import torch
from bitsandbytes.nn import Linear4bit
from safetensors.torch import load_file
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    BloomConfig,
    BloomForCausalLM,
    Gemma2Config,
    Gemma2ForCausalLM,
    GenerationConfig,
    GPT2Config,
    GPT2LMHeadModel,
    MambaConfig,
    MambaForCausalLM,
    Qwen2ForCausalLM,
)

from spectra_sum.models import precision
from spectra_sum.models.loading import load_any
from spectra_sum.models.sources import ModelError, find_smollm2
from tests import tiny
from tests.tiny_gguf import save_gguf

TOKENS = {"vocab_size": tiny.VOCABULARY, "bos_token_id": None, "eos_token_id": 1, "pad_token_id": 0}
LAYERS = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "initializer_range": tiny.SPREAD}
# Beside the usual layout: other names of layers and settings, no limit of positions, bounded logits and a sliding window.
OTHERS = {
    "gpt2": lambda: GPT2LMHeadModel(
        GPT2Config(n_embd=32, n_layer=2, n_head=4, n_positions=300, initializer_range=tiny.SPREAD, **TOKENS)
    ),
    "bloom": lambda: BloomForCausalLM(BloomConfig(**LAYERS, **TOKENS)),
    "gemma2": lambda: Gemma2ForCausalLM(
        Gemma2Config(
            **LAYERS,
            **TOKENS,
            intermediate_size=48,
            num_key_value_heads=2,
            head_dim=8,
            sliding_window=8,
            final_logit_softcapping=1.0,
        )
    ),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny.save_text_folder(tmp_path_factory.mktemp("text") / "qwen2", chat=True)


def save_other(folder, name):
    torch.manual_seed(0)
    OTHERS[name]().save_pretrained(folder)
    tiny.tiny_tokenizer().save_pretrained(folder)
    return folder


def inputs_of(loaded):
    """Two prompts of unlike length, the shorter one padded."""
    data = loaded.processor(tiny.SENTENCES[:2], title=["Ships", ""])
    return data, {name: data[name] for name in ("input_ids", "attention_mask")}


def check_own(loaded, language_model):
    """Logits and greedy texts are the language model's own, bit for bit."""
    data, plain = inputs_of(loaded)
    ends = loaded.model.generation_config.eos_token_id
    with torch.no_grad():
        assert torch.equal(loaded.model(**data).logits, language_model(**plain).logits)
    greedy = {"max_new_tokens": 12, "do_sample": False, "eos_token_id": ends, "pad_token_id": 0}
    assert torch.equal(loaded.model.generate(**data, max_new_tokens=12), language_model.generate(**plain, **greedy))
    beams = loaded.model.generate(**data, max_new_tokens=5, num_beams=2)
    assert torch.equal(beams, language_model.generate(**plain, **greedy | {"max_new_tokens": 5, "num_beams": 2}))


@pytest.mark.parametrize("name", OTHERS)
def test_all_architectures_keep_their_logits(tmp_path, name):
    folder = save_other(tmp_path / name, name)
    loaded = load_any(str(folder))
    check_own(loaded, AutoModelForCausalLM.from_pretrained(folder).eval())
    assert loaded.kind == "causal" and not loaded.trained and loaded.revision is None
    assert loaded.notice.startswith(
        f"{folder} is a pretrained text model ({name}): it reads text and captions and sees no"
    )
    # Without a chat template the prompt is plain text.
    assert loaded.processor.tokenizer.decode(inputs_of(loaded)[0]["input_ids"][0]).endswith("Summary:")


def test_sharded_tied_weights_in_bfloat16(tmp_path, monkeypatch):
    torch.manual_seed(1)
    model = Qwen2ForCausalLM(tiny.text_config(tie_word_embeddings=True)).to(torch.bfloat16)
    model.save_pretrained(tmp_path, max_shard_size="20KB")
    tiny.tiny_tokenizer(chat=True).save_pretrained(tmp_path)
    assert (tmp_path / "model.safetensors.index.json").is_file()
    for fast, dtype in ((False, torch.float32), (True, torch.bfloat16)):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
        monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda fast=fast: fast)
        loaded = load_any(str(tmp_path))
        assert loaded.model.language_model.dtype == dtype
        check_own(loaded, AutoModelForCausalLM.from_pretrained(tmp_path, dtype=dtype).eval())
        assert precision.computing_dtype(torch.float16) == torch.float32


def test_settings_that_a_base_was_published_with_bend_nothing(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "base")
    settings = {"do_sample": True, "temperature": 0.1, "top_p": 0.5, "repetition_penalty": 5.0}
    GenerationConfig(eos_token_id=3, **settings).save_pretrained(tmp_path / "base")
    loaded = load_any(str(tmp_path / "base"))
    ends = loaded.model.generation_config.eos_token_id
    assert set(ends) == {3, loaded.processor.tokenizer.eos_token_id}
    check_own(loaded, AutoModelForCausalLM.from_pretrained(folder).eval())


def test_images_are_refused_and_none_are_ranked(folder):
    loaded = load_any(str(folder))
    data, _ = inputs_of(loaded)
    values, mask = tiny.pixels(1, 1)
    with pytest.raises(ValueError, match="pixel_values"):
        loaded.model.generate(**data, pixel_values=values, image_mask=mask)
    with pytest.raises(ValueError, match="ranks no images"):
        loaded.model.select_images(pixel_values=values, image_mask=mask)
    assert loaded.processor.num_image_tokens == 0 and loaded.model.gate_openings() == {}


def test_loading_leaves_the_random_state_alone(folder):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    load_any(str(folder))
    assert torch.equal(torch.rand(3), expected)


def test_a_template_is_told_not_to_think(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "thinking")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.chat_template += (
        "{% if enable_thinking is defined and enable_thinking is false %}<think></think>{% endif %}"
    )
    tokenizer.save_pretrained(tmp_path / "thinking")
    assert load_any(str(tmp_path / "thinking")).processor.prompt_text("A storm.").endswith("<think></think>")
    tokenizer.chat_template = "{{ 'Hello' }}"
    tokenizer.save_pretrained(tmp_path / "thinking")
    with pytest.raises(ModelError, match="the chat template renders neither a text nor a list of parts"):
        load_any(str(tmp_path / "thinking"))


def test_tokenizers_without_padding_without_end_and_none(folder, tmp_path, monkeypatch):
    tokenizer = AutoTokenizer.from_pretrained(folder)
    for pad, eos in ((None, "<|im_end|>"), (None, None)):
        tokenizer.pad_token, tokenizer.eos_token = pad, eos
        with monkeypatch.context() as patch:
            patch.setattr(AutoTokenizer, "from_pretrained", lambda *args, **options: tokenizer)
            if eos:
                check_own(load_any(str(folder)), AutoModelForCausalLM.from_pretrained(folder).eval())
                continue
            with pytest.raises(ModelError, match="no end token, so that no summary would end; set its eos_token"):
                load_any(str(folder))
    place = tmp_path / "none"
    place.mkdir()
    for file in ("config.json", "model.safetensors"):
        shutil.copy(folder / file, place)
    with pytest.raises(
        ModelError, match="its tokenizer is missing or has no words; save it into the folder with the model"
    ):
        load_any(str(place))


def test_a_tokenizer_whose_package_is_missing(folder, monkeypatch):
    def refuse(*args, **options):
        raise ImportError("This tokenizer requires the SentencePiece library but it was not found.")

    monkeypatch.setattr(AutoTokenizer, "from_pretrained", refuse)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(
        ModelError, match="its tokenizer needs sentencepiece; install it with: pip install sentencepiece$"
    ):
        load_any(str(folder))


def test_a_repositorys_code_never_runs(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "own")
    harm = tmp_path / "harm"
    (tmp_path / "own" / "modeling.py").write_text(f"open({str(harm)!r}, 'w')\nclass Model: pass\n")
    file = tmp_path / "own" / "config.json"
    config = json.loads(file.read_text()) | {"auto_map": {"AutoModelForCausalLM": "modeling.Model"}}
    file.write_text(json.dumps(config))
    check_own(load_any(str(tmp_path / "own")), AutoModelForCausalLM.from_pretrained(folder).eval())
    file.write_text(json.dumps(config | {"model_type": "own"}))
    with pytest.raises(ModelError, match="lies in its repository, and none of that is run"):
        load_any(str(tmp_path / "own"))
    assert not harm.exists()


def test_weights_that_are_not_read(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "pickle")
    weights = load_file(tmp_path / "pickle" / "model.safetensors")
    (tmp_path / "pickle" / "model.safetensors").unlink()
    torch.save(weights, tmp_path / "pickle" / "pytorch_model.bin")
    with pytest.raises(
        ModelError, match=r"no weights as safetensors .*, and pickle files .* are never read; save it anew"
    ):
        load_any(str(tmp_path / "pickle"))
    torch.manual_seed(0)
    MambaForCausalLM(MambaConfig(hidden_size=16, num_hidden_layers=1, state_size=4, **TOKENS)).save_pretrained(
        tmp_path / "mamba"
    )
    with pytest.raises(ModelError, match="a 'mamba' model is no transformer with attention heads"):
        load_any(str(tmp_path / "mamba"))


def test_in_4_bits_exactly_the_decoder_is(tmp_path):
    # bitsandbytes computes rightly with widths of multiples of 64 alone.
    folder = tiny.save_text_folder(tmp_path / "wide", hidden_size=64, intermediate_size=64)
    model = load_any(str(folder), quantize="language-model").model
    found = {name for name, module in model.named_modules() if isinstance(module, Linear4bit)}
    parts = (*(f"self_attn.{part}_proj" for part in "qkvo"), *(f"mlp.{part}_proj" for part in ("gate", "up", "down")))
    prefix = "language_model.model.layers"
    assert found == {f"{prefix}.{layer}.{part}" for layer in range(tiny.TEXT_LAYERS) for part in parts}
    loaded = load_any(str(folder), quantize="language-model")
    assert loaded.model.generate(**inputs_of(loaded)[0], max_new_tokens=3).shape[0] == 2
    with pytest.raises(ModelError, match="a text model has no new modules; choose --quantize language-model"):
        load_any(str(folder), quantize="new-modules")


def test_a_gguf_file(folder, tmp_path):
    pytest.importorskip("gguf", reason="needs the package gguf")
    file = save_gguf(tmp_path / "tiny.gguf", folder)
    loaded = load_any(str(file))
    assert loaded.kind == "causal" and loaded.notice.startswith("tiny.gguf is a pretrained text model (qwen2)")
    check_own(loaded, AutoModelForCausalLM.from_pretrained(folder).eval())
    own, _ = inputs_of(load_any(str(folder)))
    assert inputs_of(loaded)[0]["input_ids"].tolist() == own["input_ids"].tolist()
    with pytest.raises(ModelError, match="unpacked as they are; leave --quantize out"):
        load_any(str(file), quantize="language-model")


def test_smollm2_is_the_wheels_file(loaded_smollm2):
    loaded, file = loaded_smollm2, find_smollm2()
    assert loaded.notice.startswith(f"{file.name} is a pretrained text model (llama): it reads text and captions")
    assert loaded.processor.prompt_text("A storm.").endswith("<|im_start|>assistant\n")
    assert sum(value.numel() for value in loaded.model.language_model.parameters()) == 134_515_008
