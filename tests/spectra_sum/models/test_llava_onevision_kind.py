"""A LLaVA-OneVision folder as a summarizer: its summaries are transformers' own on the same images."""

import json

import pytest
import torch
from transformers import AutoTokenizer, LlavaOnevisionForConditionalGeneration, LlavaOnevisionImageProcessor

from spectra_sum.models.loading import load_any
from spectra_sum.models.sources import ModelError
from tests import tiny
from tests.tiny_llava_onevision import PARTS_TEMPLATE, save_llava_onevision_folder, save_siglip_folder

IMAGES = [
    [tiny.picture(0, (20, 14)), tiny.picture(1, (13, 30))],
    [tiny.picture(2, (9, 31)), tiny.picture(3), tiny.picture(4)],
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("llava")
    return save_llava_onevision_folder(root / "llava", save_siglip_folder(root / "siglip"))


def test_summaries_are_those_of_transformers(folder):
    loaded = load_any(str(folder))
    assert loaded.kind == "llava-onevision" and not loaded.trained and loaded.revision is None
    assert loaded.notice.startswith(
        f"{folder} is a pretrained LLaVA-OneVision, not trained to summarize: it sees the first 5"
    )
    assert loaded.model.embedding_tower is None
    theirs = LlavaOnevisionForConditionalGeneration.from_pretrained(folder).eval()
    tokenizer, image_processor = (
        AutoTokenizer.from_pretrained(folder),
        LlavaOnevisionImageProcessor.from_pretrained(folder),
    )
    for text, images in zip(tiny.SENTENCES, IMAGES, strict=False):
        data = loaded.processor(text, images=images, title="Ships")
        message = loaded.processor.prompt_template.format(title="Ships", body=text)
        content = [*({"type": "image"} for _ in images), {"type": "text", "text": message}]
        prompt = tokenizer.apply_chat_template(
            [{"role": "user", "content": content}],
            chat_template=PARTS_TEMPLATE,
            tokenize=False,
            add_generation_prompt=True,
        )
        # As its processor does, which needs torchvision: the patches of each image, and its line break.
        prompt = prompt.replace("<image>", "<image>" * (tiny.NUM_PATCHES + 1))
        expected = {**tokenizer(prompt, return_tensors="pt"), **image_processor([images], return_tensors="pt")}
        assert data["input_ids"].tolist() == expected["input_ids"].tolist()
        own = loaded.model.generate(**data, max_new_tokens=8)
        greedy = {"max_new_tokens": 8, "do_sample": False, "eos_token_id": loaded.model.generation_config.eos_token_id}
        assert own.tolist() == theirs.generate(**expected, **greedy).tolist()
        blank = data | {"pixel_values": torch.zeros_like(data["pixel_values"])}
        with torch.no_grad():
            assert (loaded.model(**blank).logits - loaded.model(**data).logits).abs().max() > 0.1


def test_half_precision_is_computed_in_float32_where_it_is_slow(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    half = save_llava_onevision_folder(tmp_path / "half", save_siglip_folder(tmp_path / "siglip"), dtype=torch.float16)
    assert json.loads((half / "config.json").read_text())["dtype"] == "float16"
    assert load_any(str(half)).model.dtype == torch.float32


def test_4_bits_and_other_towers_are_refused(folder, tmp_path):
    with pytest.raises(ModelError, match="not put in 4 bits while it is read; save it with from_llava_onevision"):
        load_any(str(folder), quantize="language-model")
    other = save_llava_onevision_folder(
        tmp_path / "other", save_siglip_folder(tmp_path / "siglip"), vision_feature_layer=[-1, -2]
    )
    with pytest.raises(ModelError, match="reads its patches from several layers"):
        load_any(str(other))
