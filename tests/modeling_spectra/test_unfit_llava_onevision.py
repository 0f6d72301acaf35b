"""from_llava_onevision takes nothing unfit: lacking tensors, settings that cannot be represented, other pixels."""

import json

import pytest
import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors.torch import load_file, save_file
from transformers import LlavaOnevisionForConditionalGeneration, SiglipVisionModel

import modeling_spectra.llava_onevision
from modeling_spectra import SpectraSumForConditionalGeneration
from tests.tiny import save_text_folder, tiny_image_processor, vision_config
from tests.tiny_llava_onevision import FIELDS, save_llava_onevision_folder, save_siglip_folder

load = SpectraSumForConditionalGeneration.from_llava_onevision


def drop(folder, part):
    file = folder / "model.safetensors"
    tensors = load_file(file)
    dropped = [key for key in tensors if part in key]
    assert dropped
    save_file({key: tensors[key] for key in tensors if key not in dropped}, file, metadata={"format": "pt"})


@pytest.mark.parametrize(
    ("part", "fusion", "lacks"),
    [
        ("layers.2.mlp.up_proj", "dvp", True),
        ("lm_head", "dvp", True),
        ("patch_embedding.bias", "dvp", True),
        ("linear_2.bias", "concat", True),
        ("image_newline", "concat", True),
        ("linear_2.bias", "dvp", False),
        ("post_layernorm", "dvp", False),
    ],
)
def test_a_lacking_tensor_is_named(siglip_folder, tmp_path, part, fusion, lacks):
    folder = save_llava_onevision_folder(tmp_path, siglip_folder)
    drop(folder, part)
    if lacks:
        with pytest.raises(ValueError, match=rf"lacks 1 tensors, the first is \S*{part}"):
            load(str(folder), str(siglip_folder), fusion=fusion, **FIELDS)
    else:
        _, _, report = load(str(folder), str(siglip_folder), fusion=fusion, output_loading_info=True, **FIELDS)
        assert any(part in name for name in report.newly_initialized) == (part == "post_layernorm")


def test_a_key_that_llava_onevision_does_not_know_is_reported(siglip_folder, tmp_path):
    folder = save_llava_onevision_folder(tmp_path, siglip_folder)
    file = folder / "model.safetensors"
    save_file(load_file(file) | {"aligner.weight": torch.ones(2)}, file, metadata={"format": "pt"})
    _, _, report = load(str(folder), str(siglip_folder), output_loading_info=True, **FIELDS)
    assert report.unused["aligner.weight"] == "no part of LLaVA-OneVision"


@pytest.mark.parametrize("broken", ["lm_head.weight", "model.language_model.layers.3.mlp.down_proj.weight"])
def test_a_model_that_differs_from_its_files_is_refused(llava_onevision_folders, siglip_folder, monkeypatch, broken):
    """As if loading had made a tensor up."""

    class Broken(LlavaOnevisionForConditionalGeneration):
        @classmethod
        def from_pretrained(cls, *args, **kwargs):
            model, report = LlavaOnevisionForConditionalGeneration.from_pretrained(*args, **kwargs)
            with torch.no_grad():
                model.get_parameter(broken)[0, 0] += 1
            return model, report

    monkeypatch.setattr(modeling_spectra.llava_onevision, "LlavaOnevisionForConditionalGeneration", Broken)
    with pytest.raises(ValueError, match=rf"after loading, \S*{broken.partition('layers')[2] or broken} differs"):
        load(str(llava_onevision_folders["untied"]), str(siglip_folder), **FIELDS)


def edit_json(file, **values):
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"vision_feature_layer": [-2, -1]}, "from several layers"),
        ({"vision_feature_select_strategy": "default"}, "drops a patch"),
        ({"multimodal_projector_bias": False}, "no biases"),
        ({"vision_config": {"model_type": "clip_vision_model"}}, "only SigLIP"),
        ({"model_type": "llava_next"}, "no LLaVA-OneVision"),
    ],
)
def test_what_cannot_be_represented_is_refused(siglip_folder, tmp_path, values, message):
    folder = save_llava_onevision_folder(tmp_path, siglip_folder)
    edit_json(folder / "config.json", **values)
    with pytest.raises(ValueError, match=message):
        load(str(folder), str(siglip_folder), **FIELDS)


def test_other_pixels_are_refused(llava_onevision_folders, siglip_folder, tmp_path):
    llava = str(llava_onevision_folders["untied"])
    other = save_siglip_folder(tmp_path / "mean")
    edit_json(other / "preprocessor_config.json", image_mean=[0.4] * 3)
    with pytest.raises(ValueError, match=r"differ in image_mean: \[0.5, 0.5, 0.5\] and \[0.4, 0.4, 0.4\]"):
        load(llava, str(other), **FIELDS)
    edit_json(other / "preprocessor_config.json", image_mean=[0.5] * 3, size={"height": 24, "width": 24})
    with pytest.raises(ValueError, match="differ in size"):
        load(llava, str(other), **FIELDS)
    wrong = save_llava_onevision_folder(tmp_path / "size", siglip_folder)
    for folder in (wrong, other):
        edit_json(folder / "preprocessor_config.json", size={"height": 32, "width": 32})
    with pytest.raises(ValueError, match="but its tower reads 16 pixels"):
        load(str(wrong), str(other), **FIELDS)
    config = vision_config()
    config.patch_size = 4
    SiglipVisionModel(config).save_pretrained(tmp_path / "patch")
    tiny_image_processor().save_pretrained(tmp_path / "patch")
    with pytest.raises(ValueError, match="has patch_size 4 and the tower of .* 8;"):
        load(llava, str(tmp_path / "patch"), **FIELDS)


def test_unfit_checkpoints_and_fields_are_refused(llava_onevision_folders, siglip_folder, tmp_path, monkeypatch):
    llava = str(llava_onevision_folders["untied"])
    with pytest.raises(ValueError, match="no LLaVA-OneVision"):
        load(str(save_text_folder(tmp_path / "text")), str(siglip_folder))
    for name in ("text_config", "image_token_id", "vision_feature_layer", "widht"):
        with pytest.raises(TypeError, match=name):
            load(llava, str(siglip_folder), **{name: 1})
    with monkeypatch.context() as patch:
        # Before the weights are read.
        patch.setattr(LlavaOnevisionForConditionalGeneration, "from_pretrained", None)
        with pytest.raises(StrictDataclassError, match="gate_layers"):
            load(llava, str(siglip_folder), **FIELDS | {"gate_layers": [9]})
    headless = vision_config()
    headless.vision_use_head = False
    SiglipVisionModel(headless).save_pretrained(tmp_path / "headless")
    tiny_image_processor().save_pretrained(tmp_path / "headless")
    with pytest.raises(ValueError, match="vision_use_head"):
        load(llava, str(tmp_path / "headless"), **FIELDS)
    folder = save_llava_onevision_folder(tmp_path / "token", siglip_folder, image_token_index=399)
    with pytest.raises(ValueError, match="at id 399"):
        load(str(folder), str(siglip_folder), fusion="concat")
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    torch.save(weights, folder / "pytorch_model.bin")
    with pytest.raises(ValueError, match="has no safetensors"):
        load(str(folder), str(siglip_folder), **FIELDS)
