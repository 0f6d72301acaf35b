"""Towers of any type: patches and embeddings are those that transformers' own classes give, and a model on one is whole."""

import json
import os
import subprocess
import sys

import pytest
import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import (
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForImageClassification,
    CLIPImageProcessor,
    ConvNextConfig,
    EfficientNetConfig,
    ResNetConfig,
    ResNetModel,
    ViTConfig,
    ViTImageProcessor,
)
from transformers.utils import logging

from modeling_spectra import SpectraSumConfig, SpectraSumForConditionalGeneration, SpectraSumProcessor
from modeling_spectra.vision_grid import TOWER_TYPES
from tests.bare_process import WITHOUT_THE_PROJECT
from tests.double_precision import EXACT, double_precision
from tests.tiny import (
    IMAGE_SIZE,
    SENTENCES,
    picture,
    pixels,
    save_text_folder,
    save_vision_folder,
    text_config,
    tokens,
    vision_config,
)
from tests.vision_towers import BATCH_NORM, EFFICIENT, KINDS, STAGES, TRANSFORMER, save_tower_folder, tiny_towers

pytestmark = pytest.mark.usefixtures("preloaded_python")

FIELDS = {"dvp_num_layers": 3, "gate_layers": [1, 3], "num_latents": 2, "max_images": 3, "max_candidate_images": 6}
load_backbones = SpectraSumForConditionalGeneration.from_backbones


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Of each kind of tower and a language model, in float64."""
    root = tmp_path_factory.mktemp("towers")
    with double_precision():
        folders = {kind: str(save_tower_folder(root / kind.replace(" ", "_"), kind)) for kind in KINDS}
        return folders | {"text": str(save_text_folder(root / "text"))}


def open_gates(model):
    with torch.no_grad():
        for module in model.visual_path.cross_attentions.values():
            module.gate.alpha.fill_(0.7)
    return model


def test_every_type_is_tested():
    # SigLIP and CLIP are in most tests; InstructBLIP's tower comes with its whole checkpoint alone.
    elsewhere = {"siglip_vision_model", "clip_vision_model", "instructblip_vision_model"}
    assert {tower.config.model_type for tower in tiny_towers().values()} == TOWER_TYPES.keys() - elsewhere


@torch.no_grad()
@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize(
    ("kind", "layer"),
    [(kind, layer) for kind in KINDS for layer in ((-1, -2, 0) if kind != "efficientnet" else (-1, 0))],
)
def test_patches_and_embeddings_are_transformers_own(folders, kind, layer):
    model, _ = load_backbones(
        folders[kind], folders["text"], dtype=torch.float64, vision_feature_layer=layer, **FIELDS
    )
    own = AutoModel.from_pretrained(folders[kind], dtype=torch.float64).eval()
    values, mask = pixels(2, 0, 3)
    patches, embeds = model.embed_images(values, mask)
    assert patches.shape[2:] == (model.config.num_patches, model.config.patch_embedding_size)
    side, prefix = round(model.config.num_patches**0.5), tiny_towers()[kind].prefix
    for row, image in mask.nonzero().tolist():
        outputs = own(values[row, image][None], output_hidden_states=True)
        states = outputs.last_hidden_state if kind == "efficientnet" else outputs.hidden_states[layer]
        if states.dim() == 4:
            assert states.shape[-2:] == (side, side)
            expected = torch.stack([states[0, :, y, x] for y in range(side) for x in range(side)])
        else:
            expected = states[0, prefix:]
        torch.testing.assert_close(patches[row, image], expected, **EXACT)
        pooled = outputs.pooler_output
        if kind in ("vit", "deit"):
            pooled = outputs.last_hidden_state[:, 0]
        torch.testing.assert_close(embeds[row, image], pooled.flatten() / pooled.norm(), **EXACT)
    assert not patches[~mask].any() and not embeds[~mask].any()
    assert torch.equal(model.pool_images(values, mask), embeds)
    assert torch.equal(model.patch_images(values, mask), patches)
    # Images must matter, or nothing is said by all this.
    assert (embeds[0, 0] - embeds[0, 1]).abs().max() > 1e-4 and (patches[0, 0] - patches[0, 1]).abs().max() > 1e-4


@torch.no_grad()
@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("kind", [kind for kind, tower in tiny_towers().items() if tower.classifies])
def test_what_the_classifier_of_a_checkpoint_reads_is_the_embedding(folders, kind):
    """Another class of transformers gives the same logits from it."""
    model, _ = load_backbones(folders[kind], folders["text"], dtype=torch.float64, **FIELDS)
    classifier = AutoModelForImageClassification.from_pretrained(folders[kind], dtype=torch.float64).eval()
    values, mask = pixels(3)
    head = classifier.classifier[-1] if kind == "resnet" else classifier.classifier
    logits = classifier(values[0]).logits
    embeds = model.pool_images(values, mask)[0]
    # Of unit length: the logits without their bias, up to one factor per image.
    weights = head.weight @ embeds.T
    scales = (logits - head.bias) / weights.T
    torch.testing.assert_close(scales, scales.mean(1, keepdim=True).expand_as(scales), rtol=1e-6, atol=1e-6)


@torch.no_grad()
@pytest.mark.parametrize("side", [32, 33, 35, 47, 48, 61])
@pytest.mark.parametrize(
    "config",
    [
        ConvNextConfig(**STAGES, num_stages=2, patch_size=3),
        ResNetConfig(**STAGES, embedding_size=8, layer_type="basic"),
        ResNetConfig(**STAGES, embedding_size=8, downsample_in_first_stage=True, downsample_in_bottleneck=True),
        EfficientNetConfig(**EFFICIENT),
        EfficientNetConfig(**EFFICIENT, depthwise_padding=[1, 3]),
        EfficientNetConfig(**EFFICIENT | {"depth_coefficient": 1.4}, depthwise_padding=[2, 5]),
    ],
    ids=lambda config: config.model_type,
)
def test_the_grid_is_that_of_the_tower_for_every_size(config, side):
    outputs = AutoModel.from_config(config).eval()(torch.randn(1, 3, side, side), output_hidden_states=True)
    kind = TOWER_TYPES[config.model_type]
    maps = [outputs.last_hidden_state] if kind.last_alone else outputs.hidden_states
    assert [(grid.width, grid.side, grid.side) for grid in kind.grids(config, side)] == [x.shape[1:] for x in maps]
    assert kind.embedding_size(config) == outputs.pooler_output.flatten(1).shape[1]


def test_sizes_of_published_towers():
    b0 = {"width_coefficient": 1.0, "depth_coefficient": 1.0, "hidden_dim": 1280, "depthwise_padding": [16]}
    for vision, size, patches, width in (
        ({"model_type": "vit"}, None, 196, 768),
        ({"model_type": "dinov2", "image_size": 518, "patch_size": 14}, 224, 256, 768),
        ({"model_type": "convnext"}, 224, 49, 768),
        ({"model_type": "convnext"}, 384, 144, 768),
        ({"model_type": "resnet"}, 224, 49, 2048),
        ({"model_type": "efficientnet", **b0, "image_size": 224}, None, 49, 1280),
    ):
        config = SpectraSumConfig(vision_config=vision, image_size=size, text_config=text_config(), **FIELDS)
        assert (config.num_patches, config.patch_embedding_size) == (patches, width)
        assert config.image_embedding_size == width


@torch.no_grad()
@pytest.mark.parametrize("fusion", ["dvp", "concat"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_saved_model_is_the_same(folders, tmp_path, kind, fusion):
    """Statistics of batch norms too; at closed gates it is the language model."""
    fields = FIELDS | {"fusion": fusion}
    model, processor = load_backbones(folders[kind], folders["text"], dtype=torch.float32, **fields)
    inputs = processor(SENTENCES[:2], images=[[picture(1), picture(2)], []])
    assert inputs["pixel_values"].shape[-2:] == (IMAGE_SIZE, IMAGE_SIZE)
    if fusion == "dvp":
        language = AutoModelForCausalLM.from_pretrained(folders["text"], dtype=torch.float32)
        ids = {name: inputs[name] for name in ("input_ids", "attention_mask")}
        real = inputs["attention_mask"].bool()
        expected = language(**ids, position_ids=(real.long().cumsum(1) - 1).clamp(min=0)).logits
        assert torch.equal(model(**inputs).logits[real], expected[real])
        open_gates(model)
        assert not torch.equal(model(**inputs).logits[real], expected[real])
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    loaded = SpectraSumForConditionalGeneration.from_pretrained(tmp_path)
    state = model.state_dict()
    assert set(loaded.state_dict()) == set(state)
    assert all(torch.equal(loaded.state_dict()[name], value) for name, value in state.items())
    again = SpectraSumProcessor.from_pretrained(tmp_path)(SENTENCES[:2], images=[[picture(1), picture(2)], []])
    assert torch.equal(again["pixel_values"], inputs["pixel_values"])
    assert torch.equal(loaded(**again).logits, model(**inputs).logits)
    assert torch.equal(loaded.generate(**again, max_new_tokens=4), model.generate(**inputs, max_new_tokens=4))
    assert loaded.select_images(**again).indices == model.select_images(**inputs).indices


# What a user runs who has torch, transformers and pillow, and the folders.
USER_SCRIPT = (
    WITHOUT_THE_PROJECT
    + """

import json
import torch
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor

torch.set_num_threads(1)
job = json.loads(sys.stdin.read())
result = {}
for kind, folder in job["folders"].items():
    processor = AutoProcessor.from_pretrained(folder, trust_remote_code=True)
    model = AutoModelForImageTextToText.from_pretrained(folder, trust_remote_code=True)
    inputs = processor(text=job["text"], images=[job["images"]])
    result[kind] = {
        "module": type(model).__module__.partition(".")[0],
        "tower": type(model.vision_tower).__module__.partition(".")[0],
        "tokens": model.generate(**inputs, max_new_tokens=5).tolist(),
        "selected": model.select_images(**inputs).indices,
    }
result["loaded"] = sorted(PROJECT & set(sys.modules))
print("RESULT" + json.dumps(result))
"""
)


def test_a_bare_process_loads_each_and_generates(folders, tmp_path):
    images = []
    for index in range(2):
        picture(index).save(tmp_path / f"{index}.png")
        images.append(str(tmp_path / f"{index}.png"))
    saved, expected = {}, {}
    for kind in KINDS:
        model, processor = load_backbones(folders[kind], folders["text"], dtype=torch.float32, **FIELDS)
        saved[kind] = str(tmp_path / kind.replace(" ", "_"))
        open_gates(model).save_pretrained(saved[kind])
        processor.save_pretrained(saved[kind])
        inputs = processor(text=SENTENCES[:1], images=[images])
        expected[kind] = {
            "module": "transformers_modules",
            "tower": "transformers",
            "tokens": model.generate(**inputs, max_new_tokens=5).tolist(),
            "selected": model.select_images(**inputs).indices,
        }
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    environment |= {"HF_MODULES_CACHE": str(tmp_path / "modules"), "HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1"}
    run = subprocess.run(
        [sys.executable, "-I", "-c", USER_SCRIPT],
        input=json.dumps({"folders": saved, "text": SENTENCES[:1], "images": images}),
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=environment,
        timeout=300,
    )
    assert run.returncode == 0, run.stderr[-3000:]
    [line] = [line for line in run.stdout.splitlines() if line.startswith("RESULT")]
    assert json.loads(line.removeprefix("RESULT")) == expected | {"loaded": []}


@pytest.mark.parametrize("kind", KINDS)
def test_a_frozen_tower_stays_in_evaluation_mode(folders, kind):
    model, processor = load_backbones(folders[kind], folders["text"], dtype=torch.float32, **FIELDS)
    model.vision_tower.requires_grad_(False)
    model.train()
    assert model.training and model.language_model.training and model.visual_path.training
    assert not any(module.training for module in model.vision_tower.modules())
    before = {name: value.clone() for name, value in model.vision_tower.state_dict().items()}
    model(**processor("Rain.", images=[picture(1), picture(2)], summary="Sun.")).loss.backward()
    assert all(torch.equal(value, before[name]) for name, value in model.vision_tower.state_dict().items())
    # One that is trained is as every module is, but for its batch norms.
    model.vision_tower.requires_grad_(True)
    model.train()
    for module in model.vision_tower.modules():
        assert module.training != isinstance(module, nn.BatchNorm2d)
    assert not any(module.training for module in model.eval().modules())


@torch.no_grad()
@pytest.mark.parametrize("kind", KINDS)
def test_in_bfloat16_it_is_transformers_own(folders, tmp_path, kind):
    """Cast from float64, under autocast, and loaded again: the same numbers, and near those of float64."""
    model, _ = load_backbones(folders[kind], folders["text"], dtype=torch.bfloat16, **FIELDS)
    own = AutoModel.from_pretrained(folders[kind], dtype=torch.bfloat16).eval()
    exact, _ = load_backbones(folders[kind], folders["text"], dtype=torch.float64, **FIELDS)
    values, mask = pixels(2)
    patches, embeds = model.embed_images(values, mask)
    outputs = own(values[0].to(torch.bfloat16), output_hidden_states=True)
    states = outputs.last_hidden_state if kind == "efficientnet" else outputs.hidden_states[-1]
    states = states.flatten(2).mT if states.dim() == 4 else states[:, tiny_towers()[kind].prefix :]
    assert patches.dtype == torch.bfloat16 and embeds.dtype == torch.float32
    assert torch.equal(patches[0], states)
    reference = exact.embed_images(values.double(), mask)
    scale = reference[0].abs().max()
    assert (patches.double() - reference[0]).abs().max() < 0.1 * scale
    single, _ = load_backbones(folders[kind], folders["text"], dtype=torch.float32, **FIELDS)
    with torch.autocast("cpu", torch.bfloat16):
        mixed, mixed_embeds = single.embed_images(values, mask)
    assert mixed.dtype == torch.float32
    assert 0 < (mixed.double() - reference[0]).abs().max() < 0.1 * scale
    assert (mixed_embeds.double() - reference[1]).abs().max() < 0.1
    model.save_pretrained(tmp_path)
    loaded = SpectraSumForConditionalGeneration.from_pretrained(tmp_path)
    assert torch.equal(loaded.patch_images(values, mask), patches)


@torch.no_grad()
@pytest.mark.parametrize("kind", BATCH_NORM)
def test_statistics_of_batch_norms_have_the_models_dtype(folders, kind):
    for dtype in (torch.float64, torch.float32, torch.bfloat16):
        model, _ = load_backbones(folders[kind], folders["text"], dtype=dtype, **FIELDS)
        statistics = {value.dtype for name, value in model.named_buffers() if "running_" in name}
        assert statistics == {dtype} == {value.dtype for value in model.vision_tower.parameters()}


@torch.no_grad()
@pytest.mark.parametrize("kind", ["dinov2", "convnext", "resnet", "efficientnet"])
def test_attention_is_chosen_for_what_attends(folders, tmp_path, kind):
    """Towers of convolutions would refuse sdpa, which all the rest of a model may be asked for."""
    model, processor = load_backbones(folders[kind], folders["text"], dtype=torch.float32, **FIELDS)
    inputs = processor("Rain.", images=[picture(1)])
    expected = open_gates(model)(**inputs).logits
    model.save_pretrained(tmp_path)
    attends = kind == "dinov2"
    for loaded in (
        model,
        SpectraSumForConditionalGeneration.from_pretrained(tmp_path, attn_implementation="sdpa"),
        SpectraSumForConditionalGeneration.from_pretrained(tmp_path),
    ):
        assert loaded.attn_implementations() == {
            "": "sdpa",
            "text_config": "sdpa",
            "vision_config": "sdpa" if attends else "eager",
        }
        assert torch.equal(loaded(**inputs).logits, expected)
        loaded.set_attn_implementation("eager")
        assert set(loaded.attn_implementations().values()) == {"eager"}
        loaded.set_attn_implementation("sdpa")
        assert (loaded.attn_implementations()["vision_config"] == "sdpa") == attends


def test_a_checkpoint_without_a_pooling_layer_is_said_to_have_none(folders, caplog):
    logging.enable_propagation()
    try:
        model, _ = load_backbones(folders["vit"], folders["text"], **FIELDS)
        assert "has no pooling layer: an image's embedding is the last state of its class token" in caplog.text
        caplog.clear()
        other, _ = load_backbones(folders["vit with pooling layer"], folders["text"], **FIELDS)
        assert "pooling layer" not in caplog.text
    finally:
        logging.disable_propagation()
    assert model.config.image_embedding_size == TRANSFORMER["hidden_size"] and model.vision_tower.pooler is None
    assert other.config.image_embedding_size == 20


@pytest.mark.parametrize("kind", ["vit", "resnet", "efficientnet", "convnext"])
def test_checkpoints_that_lack_weights_are_refused(folders, tmp_path, kind):
    save_tower_folder(tmp_path, kind)
    state = load_file(tmp_path / "model.safetensors")
    lost = next(name for name in sorted(state) if "classifier" not in name)
    save_file({name: x for name, x in state.items() if name != lost}, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(ValueError, match="lacks weights of its backbone.*use a checkpoint of the whole tower"):
        load_backbones(str(tmp_path), folders["text"], **FIELDS)


@pytest.mark.parametrize(
    ("vision", "fields", "message"),
    [
        ({"model_type": "bert"}, {}, "vision_config has model_type 'bert', of which no grid of patches can be read"),
        ({"model_type": "swin"}, {}, "vision_config has model_type 'swin'.*types: siglip_vision_model, .*resnet"),
        (ResNetConfig(**STAGES), {}, r"image_size is not set, and vision_config \(resnet\) names no square"),
        (ViTConfig(**TRANSFORMER | {"image_size": [16, 24]}), {}, "image_size is not set"),
        (ViTConfig(**TRANSFORMER), {"image_size": 32}, r"reads images of 16 pixels and the model images of 32"),
        (ViTConfig(**TRANSFORMER | {"patch_size": [8, 4]}), {}, "square patches"),
        (ViTConfig(**TRANSFORMER, num_channels=1), {}, "images of 1 channels"),
        (ViTConfig(**TRANSFORMER), {"vision_feature_layer": 3}, r"layer is 3.*\(vit\) has 3 hidden states.*-3\.\.2"),
        (ResNetConfig(**STAGES), {"image_size": 32, "vision_feature_layer": -4}, r"has 3 hidden states.*-3\.\.2"),
        (EfficientNetConfig(**EFFICIENT), {"vision_feature_layer": -2}, r"\(efficientnet\) has 1 hidden states"),
        (
            EfficientNetConfig(**EFFICIENT),
            {"image_size": 7},
            r"image_size is 7, of which vision_config \(efficientnet\)",
        ),
        (ConvNextConfig(**STAGES, num_stages=2), {"image_size": 7}, "leaves no patch"),
    ],
)
def test_towers_that_give_no_grid_are_refused_in_one_line(vision, fields, message):
    with pytest.raises(StrictDataclassError, match=message) as caught:
        SpectraSumConfig(vision_config=vision, text_config=text_config(), **FIELDS, **fields)
    [line] = [line for line in str(caught.value).splitlines() if "ValueError" in line]
    assert line.rstrip().endswith(".")


@pytest.mark.parametrize(
    ("image_processor", "message"),
    [
        (ViTImageProcessor(size={"shortest_edge": 16}), "3 × 16 × 32 and 3 × 32 × 16 of a wide and a tall image"),
        (ViTImageProcessor(size={"height": 16, "width": 24}), "makes 3 × 16 × 24 and 3 × 16 × 24"),
        (ViTImageProcessor(size={"height": 32, "width": 32}), "reads images of 16 pixels and the model images of 32"),
    ],
)
def test_an_image_processor_must_make_what_the_tower_reads(folders, tmp_path, image_processor, message):
    image_processor.save_pretrained(save_tower_folder(tmp_path / "vit", "vit"))
    with pytest.raises((ValueError, StrictDataclassError), match=message):
        load_backbones(str(tmp_path / "vit"), folders["text"], **FIELDS)
    # SigLIP and CLIP, too.
    image_processor.save_pretrained(save_vision_folder(tmp_path / "siglip"))
    with pytest.raises((ValueError, StrictDataclassError), match=message):
        load_backbones(str(tmp_path / "siglip"), folders["text"], **FIELDS)


def test_the_image_processor_decides_what_convolutions_and_interpolated_positions_read(folders, tmp_path):
    larger = CLIPImageProcessor(size={"shortest_edge": 40}, crop_size=40)
    for kind, patches in (("dinov2", 25), ("resnet", 25), ("convnext", 25), ("efficientnet", 25)):
        save_tower_folder(tmp_path / kind, kind)
        larger.save_pretrained(tmp_path / kind)
        model, processor = load_backbones(str(tmp_path / kind), folders["text"], dtype=torch.float32, **FIELDS)
        assert (model.config.image_size, model.config.num_patches) == (40, patches)
        inputs = processor("Rain.", images=[picture(1, size=(70, 50))])
        assert inputs["pixel_values"].shape == (1, 1, 3, 40, 40)
        assert model.embed_images(inputs["pixel_values"], inputs["image_mask"])[0].shape[2] == patches


def test_pixels_of_another_size_are_refused(folders):
    model, _ = load_backbones(folders["resnet"], folders["text"], dtype=torch.float32, **FIELDS)
    values = torch.zeros(1, 1, 3, IMAGE_SIZE, 2 * IMAGE_SIZE)
    with pytest.raises(ValueError, match="images of 16 × 32 pixels; the model reads squares of 16"):
        model(input_ids=tokens(1, 4), pixel_values=values)


def test_the_side_of_a_saved_configuration_is_kept(tmp_path):
    config = SpectraSumConfig(
        vision_config=ResNetConfig(**STAGES),
        image_size=33,
        text_config=text_config(),
        vision_feature_layer=1,
        **FIELDS,
    )
    config.save_pretrained(tmp_path)
    loaded = SpectraSumConfig.from_pretrained(tmp_path)
    assert (loaded.image_size, loaded.num_patches, loaded.patch_embedding_size) == (33, 81, 8)
    # What was saved before there was the field has none.
    saved = json.loads((tmp_path / "config.json").read_text())
    saved["vision_config"] = vision_config().to_dict()
    del saved["image_size"]
    (tmp_path / "config.json").write_text(json.dumps(saved))
    assert SpectraSumConfig.from_pretrained(tmp_path).image_size == IMAGE_SIZE


def test_a_tower_of_a_model_is_the_class_that_transformers_has_for_it():
    config = SpectraSumConfig(vision_config=ResNetConfig(**STAGES), image_size=32, text_config=text_config(), **FIELDS)
    assert type(SpectraSumForConditionalGeneration(config).vision_tower) is ResNetModel
