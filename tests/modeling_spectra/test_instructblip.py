"""A model on an InstructBLIP checkpoint against `InstructBlipForConditionalGeneration`, and what trains of it."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    BertTokenizer,
    InstructBlipForConditionalGeneration,
    InstructBlipProcessor,
    T5Config,
)

from modeling_spectra import SpectraSumForConditionalGeneration, SpectraSumProcessor
from tests.double_precision import EXACT, double_precision
from tests.tiny import IMAGE_SIZE, SENTENCES, picture
from tests.tiny_instructblip import NUM_QUERIES, save_instructblip_folder

INSTRUCTION = "Engineers counted the ships: what happened after the storm?"
PROMPT = {"prompt_template": "{title}{body}"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return save_instructblip_folder(tmp_path_factory.mktemp("instructblip"))


@pytest.fixture
def in_double() -> Iterator[None]:
    with double_precision():
        yield


def both(folder: Path, **options):
    theirs = InstructBlipForConditionalGeneration.from_pretrained(folder, dtype=torch.float64).eval()
    model, processor = SpectraSumForConditionalGeneration.from_instructblip(
        str(folder), dtype=torch.float64, **PROMPT, **options
    )
    return theirs, InstructBlipProcessor.from_pretrained(folder), model, processor


def test_the_inputs_are_those_of_its_own_processor(folder):
    theirs = InstructBlipProcessor.from_pretrained(folder)
    _, processor = SpectraSumForConditionalGeneration.from_instructblip(str(folder), **PROMPT)
    image = picture(0)
    expected = theirs(images=image, text=INSTRUCTION, return_tensors="pt")
    inputs = processor(text=INSTRUCTION, images=image)
    for name in ("input_ids", "attention_mask", "qformer_input_ids", "qformer_attention_mask"):
        assert torch.equal(inputs[name], expected[name]), name
    assert torch.equal(inputs["pixel_values"][:, 0], expected["pixel_values"])
    assert processor.prompt_text(INSTRUCTION, num_images=1).startswith("<image>" + INSTRUCTION[:9])


@torch.no_grad()
def test_the_logits_on_one_image_are_its_own(folder, in_double):
    theirs, their_processor, model, processor = both(folder)
    image = picture(0)
    expected = their_processor(images=image, text=INSTRUCTION, return_tensors="pt")
    expected["pixel_values"] = expected["pixel_values"].double()
    inputs = processor(text=INSTRUCTION, images=image)
    inputs["pixel_values"] = expected["pixel_values"][:, None]
    logits = theirs(**expected).language_model_outputs.logits
    torch.testing.assert_close(model(**inputs).logits, logits, **EXACT)
    # Each part of the inputs matters: a wrong one would be seen.
    for name in ("pixel_values", "qformer_input_ids"):
        other = {**inputs, name: inputs[name].flip(-1)}
        assert (model(**other).logits - logits).abs().max() > 1e-3
    generated = model.generate(**inputs, max_new_tokens=6, do_sample=False)
    following = theirs.generate(**expected, max_new_tokens=6, do_sample=False, num_beams=1)
    assert torch.equal(generated[:, inputs["input_ids"].shape[1] :], following[:, -6:])


@torch.no_grad()
def test_a_batch_with_padding_gives_what_each_article_gives_alone(folder, in_double):
    _, _, model, processor = both(folder, image_guidance="bidirectional")
    model.visual_path.image_guidance.context_proj.weight.normal_(std=0.3)
    texts, images = [INSTRUCTION, "What is it?"], [[picture(0), picture(1)], [picture(2)]]
    together = processor(text=texts, images=images)
    together["pixel_values"] = together["pixel_values"].double()
    logits = model(**together).logits[:, -1]
    for index in range(2):
        alone = processor(text=texts[index], images=images[index])
        alone["pixel_values"] = alone["pixel_values"].double()
        torch.testing.assert_close(model(**alone).logits[:, -1], logits[index : index + 1], **EXACT)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_every_tensor_is_the_file_s(folder, dtype):
    model, _, report = SpectraSumForConditionalGeneration.from_instructblip(
        str(folder), dtype=dtype, output_loading_info=True
    )
    files = load_file(folder / "model.safetensors")
    state = model.state_dict()
    assert set(report.used) == set(files)
    assert all(torch.equal(state[name], files[key].to(state[name].dtype)) for key, name in report.used.items())
    assert set(report.newly_initialized) == set(state) - set(report.used.values())
    parts = {".".join(name.split(".")[:2]) for name in report.newly_initialized}
    assert parts == {"visual_path.relevance_predictor", "visual_path.alignment_head"}
    # Nothing of a Q-Former is a norm of ours, which stays in float32 beside it.
    assert {value.dtype for name, value in state.items() if "sampler" in name} == {dtype}


def test_it_is_saved_and_loaded_with_both_tokenizers(folder, tmp_path):
    model, processor = SpectraSumForConditionalGeneration.from_instructblip(str(folder), **PROMPT)
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    assert (tmp_path / "qformer_tokenizer" / "tokenizer_config.json").is_file()
    assert "qformer_tokenizer" not in json.loads((tmp_path / "processor_config.json").read_text())
    loaded = SpectraSumForConditionalGeneration.from_pretrained(tmp_path)
    assert {name: value.tolist() for name, value in loaded.state_dict().items()} == {
        name: value.tolist() for name, value in model.state_dict().items()
    }
    again = SpectraSumProcessor.from_pretrained(tmp_path)
    assert isinstance(again.qformer_tokenizer, BertTokenizer)
    texts = [INSTRUCTION, " ".join(SENTENCES)]
    first, second = processor(text=texts), again(text=texts)
    assert {name: value.tolist() for name, value in first.items()} == {
        name: value.tolist() for name, value in second.items()
    }
    # All positions that the Q-Former has.
    assert first["qformer_input_ids"].shape == (2, 40)
    assert processor.model_input_names[-2:] == ["qformer_input_ids", "qformer_attention_mask"]
    assert again.num_image_tokens == NUM_QUERIES


def test_a_tensor_that_differs_or_is_missing_is_named(folder, tmp_path):
    save_instructblip_folder(tmp_path)
    file = tmp_path / "model.safetensors"
    tensors = load_file(file)
    name = "qformer.encoder.layer.1.output.dense.bias"
    save_file({key: value for key, value in tensors.items() if key != name}, file, {"format": "pt"})
    with pytest.raises(
        ValueError, match="lacks weights of its backbone .*layer.1.output.dense.bias.*whole checkpoint"
    ):
        SpectraSumForConditionalGeneration.from_instructblip(str(tmp_path))
    save_file({**tensors, "vision_model.extra": torch.zeros(1)}, file, {"format": "pt"})
    with pytest.raises(ValueError, match="vision_model.extra, for which the model has no"):
        SpectraSumForConditionalGeneration.from_instructblip(str(tmp_path))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"text_config": T5Config(vocab_size=400, d_model=32, d_ff=32, num_layers=1, num_heads=2)},
            "encoder of its own",
        ),
        ({"image_token_index": None}, "no image_token_index"),
    ],
)
def test_other_checkpoints_are_refused(fields, message, tmp_path):
    save_instructblip_folder(tmp_path, **fields)
    with pytest.raises(ValueError, match=message):
        SpectraSumForConditionalGeneration.from_instructblip(str(tmp_path))


def test_fields_of_the_checkpoint_are_not_chosen_beside_it(folder):
    with pytest.raises(TypeError, match="num_latents"):
        SpectraSumForConditionalGeneration.from_instructblip(str(folder), num_latents=5)
    with pytest.raises(TypeError, match="fusion"):
        SpectraSumForConditionalGeneration.from_instructblip(str(folder), fusion="dvp")
    with pytest.raises(ValueError, match="no InstructBLIP"):
        model, processor = SpectraSumForConditionalGeneration.from_instructblip(str(folder))
        other = folder.parent / "other"
        model.language_model.save_pretrained(other)
        SpectraSumForConditionalGeneration.from_instructblip(str(other))


def test_a_processor_without_the_tokenizer_asks_for_it(folder):
    _, processor = SpectraSumForConditionalGeneration.from_instructblip(str(folder))
    processor.qformer_tokenizer = None
    with pytest.raises(ValueError, match="give the processor a qformer_tokenizer"):
        processor(text=INSTRUCTION)
    assert IMAGE_SIZE == processor.image_processor.size["height"]
