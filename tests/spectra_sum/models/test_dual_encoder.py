"""Loading a dual encoder: what is embedded, and errors in one line that name the model and the fix."""

import numpy as np
import pytest
import torch
from transformers import SiglipVisionModel

from spectra_sum.metrics.dual_encoder import DualEncoder
from spectra_sum.models.dual_encoder import check_dual_encoder, load_dual_encoder
from spectra_sum.models.sources import ModelError
from tests.tiny import picture, save_text_folder, save_vision_folder, vision_config
from tests.tiny_encoders import save_siglip, siglip_tokenizer


@pytest.fixture(scope="module")
def siglip(tmp_path_factory):
    folder = tmp_path_factory.mktemp("siglip")
    return save_siglip(folder / "model", siglip_tokenizer(folder))


def message(name) -> str:
    with pytest.raises(ModelError) as told:
        load_dual_encoder(str(name))
    assert "\n" not in str(told.value) and str(told.value).startswith(f"{name}: ")
    return str(told.value)


def test_it_embeds_as_the_metrics_do(siglip):
    loaded, direct = load_dual_encoder(str(siglip)), DualEncoder(str(siglip))
    np.testing.assert_array_equal(loaded.embed_images([picture(1)]), direct.embed_images([picture(1)]))
    np.testing.assert_array_equal(loaded.embed_texts(["a cat"]), direct.embed_texts(["a cat"]))


def test_what_is_no_dual_encoder_is_told_before_loading(tmp_path):
    assert "no such folder" in message(tmp_path / "nothing")
    (tmp_path / "empty").mkdir()
    assert "no config.json" in message(tmp_path / "empty")
    assert "type 'qwen2' does not embed texts and images" in message(save_text_folder(tmp_path / "text"))
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "config.json").write_text("{")
    assert "config.json is damaged" in message(tmp_path / "damaged")
    check_dual_encoder("google/siglip-base-patch16-224")
    assert "no such folder" in message("siglip")


def test_a_tower_alone_and_a_model_without_its_tokenizer_are_told(tmp_path):
    SiglipVisionModel(vision_config()).save_pretrained(tmp_path / "tower")
    assert "'siglip_vision_model' does not embed texts and images" in message(tmp_path / "tower")
    assert "cannot be loaded" in message(save_vision_folder(tmp_path / "no-tokenizer"))


def test_pickled_weights_are_not_read(siglip, tmp_path):
    folder = tmp_path / "pickled"
    folder.mkdir()
    for file in siglip.iterdir():
        if file.suffix != ".safetensors":
            (folder / file.name).write_bytes(file.read_bytes())
    torch.save({}, folder / "pytorch_model.bin")
    assert "cannot be loaded" in message(folder)


def test_an_id_that_cannot_be_fetched_is_told_in_one_line():
    assert "cannot be loaded" in message("nobody/no-such-siglip")
