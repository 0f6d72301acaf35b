"""Parts on CPU or disk: the same logits, tokens and selection as with all of them in place."""

import pytest
import torch
from accelerate import cpu_offload, disk_offload
from transformers.models.siglip.modeling_siglip import SiglipMultiheadAttentionPoolingHead

from modeling_spectra import SpectraSumForConditionalGeneration
from modeling_spectra.pooling_attention import replace_pooling_attention
from tests.modeling_spectra.parity_setup import prompts
from tests.tiny import pixels, tiny_model, vision_config

VARIANTS = [("concat", "siglip"), ("sampler", "clip"), ("dvp", "siglip")]
COUNTS = (2, 5, 0)
# What lies on disk; the rest is on the CPU.
ON_DISK = {
    "visual path": ["visual_path"],
    "gates": ["visual_path.cross_attentions"],
    "one gate": ["visual_path.cross_attentions.3"],
    "sampler and processor": ["visual_path.sampler", "visual_path.deep_visual_processor.blocks.1"],
    "heads": ["visual_path.relevance_predictor", "visual_path.alignment_head"],
    "tower": ["vision_tower"],
    "language model": ["language_model"],
}


def complete_map(module, on_disk, name=""):
    """A device map of all of the model, whose parts are cut where something on disk begins."""
    if name in on_disk:
        return {name: "disk"}
    if not any(part.startswith(f"{name}." if name else "") for part in on_disk):
        return {name: "cpu"}
    maps = [complete_map(child, on_disk, f"{name}.{key}".strip(".")) for key, child in module.named_children()]
    return {part: device for each in maps for part, device in each.items()}


def whole(fusion, vision="siglip", **fields):
    fields = {"gate_feed_forward": True, "vrp_context": "article_set", "gate_type": "channel", **fields}
    return tiny_model(fusion, vision, gate=0.9, **fields)


def inputs_of(model):
    inputs = prompts(model, COUNTS)
    inputs["pixel_values"], inputs["image_mask"] = pixels(*COUNTS)
    return inputs


@torch.no_grad()
def everything(model):
    """What users ask a model for: outputs with a loss, generated tokens, a selection, openings of gates."""
    inputs = inputs_of(model)
    labels = torch.where(torch.arange(inputs["input_ids"].shape[1]) < 3, -100, inputs["input_ids"])
    outputs = model(**inputs, labels=labels)
    names = ("loss", "logits", "image_embeds", "selection_logits", "summary_embeds", "alignment_temperature")
    found = {name: outputs[name] for name in names}
    found["generated"] = model.generate(**inputs, max_new_tokens=3, do_sample=False, num_beams=2, pad_token_id=0)
    selection = model.select_images(**inputs)
    found["probabilities"] = selection.probabilities
    found["selected"] = torch.tensor([(row + [-1] * 3)[:3] for row in selection.indices])
    found["openings"] = torch.tensor(list(model.gate_openings().values()))
    return found


def assert_same(found, expected):
    """Bit for bit: the same operations on the same numbers, wherever the weights lie between them."""
    for name, value in expected.items():
        assert torch.equal(found[name], value), name


def meta_parameters(model):
    return {name for name, parameter in model.named_parameters() if parameter.is_meta}


@pytest.mark.parametrize("offload", ["cpu", "disk"])
@pytest.mark.parametrize(("fusion", "vision"), VARIANTS)
def test_accelerates_offloading_changes_nothing(tmp_path, fusion, vision, offload):
    model = whole(fusion, vision)
    expected, names = everything(model), {name for name, _ in model.named_parameters()}
    if offload == "cpu":
        cpu_offload(model, execution_device=torch.device("cpu"))
    else:
        disk_offload(model, tmp_path, execution_device=torch.device("cpu"))
    assert meta_parameters(model) == names
    assert_same(everything(model), expected)
    assert meta_parameters(model) == names, "a weight stayed behind"


@pytest.mark.parametrize(
    ("fusion", "parts", "tied"),
    [("dvp", parts, False) for parts in ON_DISK]
    + [("dvp", "language model", True), ("sampler", "all", True), ("sampler", "visual path", False)]
    + [("concat", "all", False), ("concat", "visual path", True)],
)
def test_a_device_map_changes_nothing(tmp_path, fusion, parts, tied):
    model = whole(fusion, dict(VARIANTS)[fusion], text_fields={"tie_word_embeddings": tied})
    model.save_pretrained(tmp_path / "saved")
    expected = everything(model)
    device_map = {"": "disk"} if parts == "all" else complete_map(model, ON_DISK[parts])
    loaded = SpectraSumForConditionalGeneration.from_pretrained(
        tmp_path / "saved", device_map=device_map, offload_folder=tmp_path / "offload"
    )
    offloaded = meta_parameters(loaded)
    assert offloaded and (parts == "all" or all(name.startswith(tuple(ON_DISK[parts])) for name in offloaded))
    assert loaded.device == torch.device("cpu")
    assert_same(everything(loaded), expected)


def test_a_model_larger_than_memory_is_placed_by_itself(tmp_path):
    """`device_map="auto"`: no declared class is cut, and what finds no room lies on disk."""
    model = whole("dvp")
    model.save_pretrained(tmp_path / "saved")
    expected = everything(model)
    size = sum(parameter.nbytes for parameter in model.parameters())
    loaded = SpectraSumForConditionalGeneration.from_pretrained(
        tmp_path / "saved", device_map="auto", max_memory={"cpu": size // 3}, offload_folder=tmp_path / "offload"
    )
    assert set(loaded.hf_device_map.values()) == {"cpu", "disk"}
    for name in loaded.hf_device_map:
        parents = [name.rsplit(".", count)[0] for count in range(1, name.count(".") + 1)]
        assert not {type(loaded.get_submodule(parent)).__name__ for parent in parents} & set(loaded._no_split_modules)
    assert_same(everything(loaded), expected)


@torch.no_grad()
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_the_pooling_heads_attention_is_torchs_own(dtype):
    torch.manual_seed(0)
    head = SiglipMultiheadAttentionPoolingHead(vision_config()).to(dtype).eval()
    for parameter in head.parameters():
        torch.nn.init.normal_(parameter)
    states = torch.randn(5, 7, vision_config().hidden_size, dtype=dtype)
    expected, names = head(states), [name for name, _ in head.named_parameters()]
    replace_pooling_attention(head)
    assert torch.equal(head(states), expected)
    assert [name for name, _ in head.named_parameters()] == names
