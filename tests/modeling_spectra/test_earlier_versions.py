"""A model folder that an earlier version saved: it loads, selects the same images and writes the same tokens.

`saved_by_part_4/` holds what commit 4bba4de wrote with `save_pretrained` (a tiny random model in bfloat16, its processor,
without the copied source files), five images, and in `expected.json` what that commit made of them in float32.
"""

import json
from pathlib import Path

import pytest
import torch
from PIL import Image
from transformers import AutoModel, AutoModelForImageTextToText, AutoProcessor

from modeling_spectra import SpectraSumForConditionalGeneration, SpectraSumProcessor, register_auto_classes

FOLDER = Path(__file__).parent / "saved_by_part_4"
EXPECTED = json.loads((FOLDER / "expected.json").read_text())


@pytest.fixture(scope="module")
def inputs():
    register_auto_classes()
    processor = AutoProcessor.from_pretrained(FOLDER)
    assert type(processor) is SpectraSumProcessor
    images = [[Image.open(FOLDER / name) for name in row] for row in EXPECTED["images"]]
    return processor(EXPECTED["texts"], images=images)


def test_the_fixture_is_whole_and_small():
    assert sum(file.stat().st_size for file in FOLDER.iterdir()) < 400_000
    assert not list(FOLDER.glob("*.py")), "the installed classes are to be tested, not copies of the old ones"


@torch.no_grad()
@pytest.mark.parametrize("auto_class", [AutoModel, AutoModelForImageTextToText])
def test_the_installed_classes_give_the_same_tokens_and_selection(inputs, auto_class):
    model, report = auto_class.from_pretrained(FOLDER, dtype=torch.float32, output_loading_info=True)
    assert type(model) is SpectraSumForConditionalGeneration
    assert not any(report.values()), report
    prompts = inputs["input_ids"]
    assert prompts.tolist() == EXPECTED["prompts"]
    generated = model.generate(**inputs, max_new_tokens=12, do_sample=False)
    assert generated[:, prompts.shape[1] :].tolist() == EXPECTED["generated"]
    selection = model.select_images(**inputs)
    assert selection.indices == EXPECTED["selected"]
    expected = torch.tensor(EXPECTED["probabilities"])
    # Written with six digits.
    torch.testing.assert_close(selection.probabilities, expected, atol=1e-6, rtol=0)
    text_only = model.generate(prompts, attention_mask=inputs["attention_mask"], max_new_tokens=12, do_sample=False)
    assert text_only[:, prompts.shape[1] :].tolist() != EXPECTED["generated"], "the images of this test must matter"


@torch.no_grad()
def test_it_loads_in_its_own_dtype_and_is_saved_unchanged(tmp_path, inputs):
    model = AutoModel.from_pretrained(FOLDER)
    assert model.dtype == torch.bfloat16
    assert model(**inputs).selection_logits.isfinite().all()
    model.save_pretrained(tmp_path)
    again = SpectraSumForConditionalGeneration.from_pretrained(tmp_path).state_dict()
    before = AutoModel.from_pretrained(FOLDER).state_dict()
    assert set(again) == set(before) and all(torch.equal(again[name], before[name]) for name in before)
