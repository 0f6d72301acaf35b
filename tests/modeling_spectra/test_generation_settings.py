"""The generation settings of a new model: greedy, with its base's special tokens and none of its other settings."""

import pytest
import torch
from transformers import GenerationConfig, Qwen2ForCausalLM

from modeling_spectra import SpectraSumForConditionalGeneration
from tests.tiny import picture, save_text_folder, save_vision_folder
from tests.tiny_llava_onevision import save_llava_onevision_folder, save_siglip_folder

FIELDS = {"dvp_num_layers": 3, "gate_layers": [1, 3], "num_latents": 2, "max_images": 3, "max_candidate_images": 6}
# As instruction models are published, with a penalty that no greedy summary would overlook.
PUBLISHED = {
    "bos_token_id": 7,
    "eos_token_id": [3, 1],
    "pad_token_id": 0,
    "do_sample": True,
    "repetition_penalty": 5.0,
    "temperature": 0.7,
    "top_p": 0.8,
    "top_k": 20,
}


@pytest.fixture(scope="module", params=["backbones", "llava_onevision"])
def made(request, tmp_path_factory):
    """A model and its processor, from a base whose published settings are not greedy."""
    root = tmp_path_factory.mktemp("settings")
    if request.param == "backbones":
        text = save_text_folder(root / "text")
        GenerationConfig(**PUBLISHED).save_pretrained(text)
        assert Qwen2ForCausalLM.from_pretrained(text).generation_config.repetition_penalty == 5.0
        vision = save_vision_folder(root / "vision")
        return SpectraSumForConditionalGeneration.from_backbones(str(vision), str(text), **FIELDS)
    siglip = save_siglip_folder(root / "siglip")
    llava = save_llava_onevision_folder(root / "llava", siglip)
    GenerationConfig(**PUBLISHED).save_pretrained(llava)
    return SpectraSumForConditionalGeneration.from_llava_onevision(str(llava), str(siglip), **FIELDS)


def test_special_tokens_are_kept_and_nothing_else(made, tmp_path):
    model, processor = made
    ends = sorted({3, 1, processor.tokenizer.eos_token_id})
    expected = {
        "bos_token_id": 7,
        "eos_token_id": ends,
        "pad_token_id": processor.tokenizer.pad_token_id,
        "do_sample": False,
        "num_beams": 1,
    }
    model.save_pretrained(tmp_path)
    loaded = SpectraSumForConditionalGeneration.from_pretrained(tmp_path)
    for settings in (model.generation_config, loaded.generation_config):
        said = {name: value for name, value in settings.to_diff_dict().items() if name != "transformers_version"}
        assert {**{"do_sample": settings.do_sample, "num_beams": settings.num_beams}, **said} == expected


@torch.no_grad()
def test_generation_is_greedy_without_a_penalty(made):
    model, processor = made
    data = processor("A storm, a storm, a storm.", images=[picture()])
    prompt = data["input_ids"]
    sequence = prompt
    images = {name: data[name] for name in ("pixel_values", "image_mask")}
    for _ in range(24):
        logits = model(input_ids=sequence, attention_mask=torch.ones_like(sequence), **images).logits[:, -1]
        sequence = torch.cat([sequence, logits.argmax(-1, keepdim=True)], dim=1)
    found = model.generate(**data, max_new_tokens=24, eos_token_id=None)
    assert torch.equal(found, sequence)
    penalized = model.generate(**data, max_new_tokens=24, eos_token_id=None, repetition_penalty=5.0)
    assert not torch.equal(penalized, sequence), "the base's penalty would show in this test"
