"""A model whose Q-Former reads text is published with the second tokenizer, in a folder of its own."""

import json

import pytest

from hub_upload.model.push import push_model
from hub_upload.repository import Target
from modeling_spectra import SpectraSumForConditionalGeneration, SpectraSumProcessor
from tests.tiny import SENTENCES
from tests.tiny_instructblip import save_instructblip_folder

pytestmark = pytest.mark.usefixtures("preloaded_python")


def test_both_tokenizers_are_published_and_name_no_folder(tmp_path):
    checkpoint = save_instructblip_folder(tmp_path / "checkpoint")
    model, processor = SpectraSumForConditionalGeneration.from_instructblip(
        str(checkpoint), image_guidance="bidirectional"
    )
    folder, dry = tmp_path / "model", tmp_path / "dry"
    for part in (model, processor):
        part.save_pretrained(folder)
    pushed = push_model(folder, Target("me/sam"), license="mit", dry_run=dry)
    own = {name for name in pushed.files if name.startswith("qformer_tokenizer")}
    assert own == {"qformer_tokenizer/tokenizer.json", "qformer_tokenizer/tokenizer_config.json"}
    assert pushed.left_out == ()
    settings = json.loads((dry / "qformer_tokenizer" / "tokenizer_config.json").read_text())
    assert str(tmp_path) not in json.dumps(settings)
    inputs, expected = (
        each(text=SENTENCES)["qformer_input_ids"] for each in (SpectraSumProcessor.from_pretrained(dry), processor)
    )
    assert inputs.tolist() == expected.tolist()
