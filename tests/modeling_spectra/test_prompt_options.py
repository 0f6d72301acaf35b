"""How the processor cuts, pads and returns: in transformers' words, checked against a tokenizer's own `pad`."""

import numpy as np
import pytest
import torch
from tokenizers.processors import TemplateProcessing
from transformers import BatchFeature
from transformers.tokenization_utils_base import TruncationStrategy
from transformers.utils import PaddingStrategy, TensorType

from modeling_spectra import SpectraSumProcessor
from tests.tiny import NUM_PATCHES, SENTENCES, picture, tiny_image_processor, tiny_processor, tiny_tokenizer

TEXTS = [SENTENCES[0], "Short.", " ".join(SENTENCES)]
PER_IMAGE = NUM_PATCHES + 1


def alone(processor, **options):
    """The ids of each text, made without a batch."""
    return [processor(text, **options)["input_ids"][0].tolist() for text in TEXTS]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"padding": True},
        {"padding": None},
        {"padding": "longest"},
        {"padding": PaddingStrategy.LONGEST},
        {"pad_to_multiple_of": 16},
        {"padding": "max_length", "max_length": 120},
        {"padding": PaddingStrategy.MAX_LENGTH, "max_length": 120, "pad_to_multiple_of": 32},
        {"padding": "max_length", "max_length": [120, 100, 118]},
    ],
    ids=str,
)
@pytest.mark.parametrize("chat", [False, True])
def test_padding_is_the_tokenizers(chat, options):
    processor = tiny_processor(chat)
    data = processor(TEXTS, **options)
    own = {"padding": options.get("padding") or True, "max_length": 120}
    own |= {name: options[name] for name in ("pad_to_multiple_of",) if name in options}
    rows = [{"input_ids": ids} for ids in alone(processor)]
    expected = processor.tokenizer.pad(rows, padding_side="left", return_tensors="pt", **own)
    assert torch.equal(data["input_ids"], expected["input_ids"])
    assert torch.equal(data["attention_mask"], expected["attention_mask"])
    assert data["article_mask"].shape == data["input_ids"].shape and data["article_mask"].dtype == torch.bool
    for row, text in enumerate(TEXTS):
        assert processor.tokenizer.decode(data["input_ids"][row][data["article_mask"][row]]) == text


@pytest.mark.parametrize("padding", [False, "do_not_pad", PaddingStrategy.DO_NOT_PAD])
def test_without_padding_rows_keep_their_lengths(padding):
    processor = tiny_processor()
    data = processor(TEXTS, padding=padding, return_tensors=None)
    assert data["input_ids"] == alone(processor)
    assert [len(row) for row in data["attention_mask"]] == [len(row) for row in data["input_ids"]]
    assert all(mask == 1 for row in data["attention_mask"] for mask in row)
    with pytest.raises(ValueError, match=r"without padding the rows have different lengths .*padding=True"):
        processor(TEXTS, padding=padding)
    # Equal ones fit, as one article does.
    assert processor([TEXTS[0]] * 2, padding=padding)["input_ids"].tolist() == [data["input_ids"][0]] * 2


def test_summaries_are_padded_on_the_right():
    processor = tiny_processor()
    data = processor(
        TEXTS, summary=["A storm.", "Rain, and then more rain.", "Ships."], padding="max_length", max_length=130
    )
    assert data["input_ids"].shape == data["labels"].shape == (3, 130)
    for row in range(3):
        size = int(data["attention_mask"][row].sum())
        assert (
            data["attention_mask"][row, :size].all()
            and data["labels"][row, size - 1] == processor.tokenizer.eos_token_id
        )
        assert (data["labels"][row, size:] == -100).all()


@pytest.mark.parametrize("images_first", [False, True])
def test_max_length_leaves_room_for_the_placeholders(images_first):
    """One width, whatever the number of images; `max_length` itself counts text."""
    processor = tiny_processor(True, num_image_tokens=PER_IMAGE, images_first=images_first)
    most = 60
    for counts in ((0, 1, 2), (3, 4, 0), (0, 0, 0)):
        images = [[picture(index) for index in range(count)] for count in counts]
        data = processor(TEXTS, images=images, padding="max_length", max_length=most)
        assert data["input_ids"].shape == (3, most + 3 * PER_IMAGE)
        text = data["attention_mask"].sum(1) - PER_IMAGE * torch.tensor(counts).clamp(max=3)
        assert text[2] == most and (text <= most).all()


@pytest.mark.parametrize(
    "truncation",
    [None, True, "longest_first", "only_first", TruncationStrategy.LONGEST_FIRST, TruncationStrategy.ONLY_FIRST],
)
def test_truncation_cuts_the_body(truncation):
    processor = tiny_processor()
    data = processor(TEXTS, max_length=40, truncation=truncation)
    assert data["attention_mask"].sum(1).tolist() == [min(40, len(ids)) for ids in alone(processor)]
    assert all(processor.tokenizer.decode(row).endswith("\n\nSummary:") for row in data["input_ids"])


@pytest.mark.parametrize("truncation", [False, "do_not_truncate", TruncationStrategy.DO_NOT_TRUNCATE])
def test_without_truncation_nothing_is_cut(truncation):
    processor = tiny_processor()
    data = processor(TEXTS, max_length=40, truncation=truncation, return_tensors=None, padding=False)
    assert data["input_ids"] == alone(processor)
    # As in transformers, max_length is then no limit, not even without room for the frame.
    assert processor(TEXTS[0], max_length=1, truncation=truncation)["input_ids"].tolist() == [alone(processor)[0]]
    with pytest.raises(ValueError, match=r"article 2 has \d+ tokens, and padding='max_length' pads to 40"):
        processor(TEXTS, max_length=40, truncation=truncation, padding="max_length")


@pytest.mark.parametrize("summary", [None, ["A storm.", "b", "Ships."]])
def test_kinds_of_return(summary):
    processor = tiny_processor()
    inputs = {"text": TEXTS, "images": [[picture(1)], [], [picture(2), picture(3)]], "summary": summary}
    expected = processor(**inputs, return_tensors="pt")
    assert all(isinstance(value, torch.Tensor) for value in expected.values())
    assert all(torch.equal(value, expected[name]) for name, value in processor(**inputs).items())
    for kind in ("np", TensorType.NUMPY):
        data = processor(**inputs, return_tensors=kind)
        assert set(data) == set(expected)
        for name, value in expected.items():
            assert isinstance(data[name], np.ndarray) and data[name].dtype == value.numpy().dtype
            assert np.array_equal(data[name], value.numpy())
    data = processor(**inputs, return_tensors=None)
    assert isinstance(data["input_ids"][0][0], int) and isinstance(data["image_mask"][0][0], bool)
    # Lists are what tensors can be made of later, as of every processor's.
    later = BatchFeature(dict(data), tensor_type="pt")
    assert set(later) == set(expected)
    assert all(
        torch.equal(later[name], value) and later[name].dtype == value.dtype for name, value in expected.items()
    )


def test_the_start_token_is_a_special_token():
    tokenizer = tiny_tokenizer()
    tokenizer.add_special_tokens({"bos_token": "<|start|>"})
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="<|start|> $A", special_tokens=[("<|start|>", tokenizer.bos_token_id)]
    )
    processor = SpectraSumProcessor(tiny_image_processor(), tokenizer)
    prompt = f"{TEXTS[0]}\n\nSummary:"
    for given in (None, True, False):
        ids = processor(TEXTS[0], add_special_tokens=given)["input_ids"][0].tolist()
        assert ids == tokenizer(prompt, add_special_tokens=given is not False)["input_ids"]
    labels = processor(TEXTS[0], summary="Rain.", add_special_tokens=False)["labels"][0]
    assert labels[-1] == tokenizer.eos_token_id


def test_grouped_options_are_the_same():
    processor = tiny_processor()
    expected = processor(TEXTS, max_length=40, padding="max_length", return_tensors="np")
    grouped = processor(
        TEXTS, text_kwargs={"max_length": 40, "padding": "max_length"}, common_kwargs={"return_tensors": "np"}
    )
    assert all(np.array_equal(grouped[name], expected[name]) for name in expected)
    with pytest.raises(ValueError, match="max_length is given twice, once in text_kwargs"):
        processor(TEXTS, max_length=40, text_kwargs={"max_length": 50})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"padding": "longst"}, "padding must be True, False or one of .*'longest'.* not 'longst'"),
        ({"padding": 3}, "padding must be"),
        ({"truncation": "middle"}, "truncation must be"),
        ({"truncation": "only_second"}, "one text that may be cut, the article's body"),
        ({"padding_side": "right"}, "padding_side='right' is not possible: generation goes on at the end of each row"),
        ({"padding_side": "left", "summary": "b"}, "padding_side='left' is not possible: prompts with a summary"),
        ({"max_length": 0}, "max_length must be a whole number from 1, not 0"),
        ({"max_length": True}, "max_length must be a whole number from 1, not True"),
        ({"max_length": [20.5]}, "max_length must be a whole number from 1, not 20.5"),
        ({"max_length": "20"}, "max_length must be a whole number or a list of them, not '20'"),
        ({"max_length": [20, 30]}, r"max_length must be a list with one entry per article \(1\)"),
        ({"pad_to_multiple_of": 0}, "pad_to_multiple_of must be a whole number from 1, not 0"),
        ({"pad_to_multiple_of": 8, "padding": False}, "pad_to_multiple_of needs padding"),
        ({"return_tensors": "tf"}, "return_tensors must be 'pt', 'np' or None, not 'tf'"),
        ({"return_tensors": "mlx"}, "return_tensors must be 'pt', 'np' or None, not 'mlx'"),
        ({"return_attention_mask": False}, "return_attention_mask=False is not possible: it alone says"),
        ({"stride": 4}, "stride is not possible: only the end of the body is cut"),
        ({"return_overflowing_tokens": True}, "return_overflowing_tokens is not possible"),
        ({"return_offsets_mapping": True}, "return_offsets_mapping is not possible: .*article_mask"),
        ({"is_split_into_words": True}, "is_split_into_words is not possible: .*join the words"),
        ({"text_pair": "b"}, "text_pair is not possible: an article has text, title and summary"),
        ({"do_resize": False}, "do_resize is not possible: .*settings belong to processor.image_processor"),
        ({"images_kwargs": {"size": 4}}, "images_kwargs is not possible: .*the vision tower"),
        ({"videos": ["a.mp4"]}, "videos is not possible: an article has text and images only"),
        ({"text_kwargs": {"stride": 4}}, "stride is not possible"),
    ],
)
def test_what_would_break_the_prompt_is_refused_by_name(options, message):
    with pytest.raises(ValueError, match=message):
        tiny_processor()(**{"text": "A storm.", **options})


def test_the_side_that_a_batch_needs_may_be_asked_for():
    processor = tiny_processor()
    assert torch.equal(processor(TEXTS, padding_side="left")["input_ids"], processor(TEXTS)["input_ids"])
    options = {"summary": ["a", "b", "c"], "return_attention_mask": True, "return_offsets_mapping": False, "stride": 0}
    expected = processor(TEXTS, summary=["a", "b", "c"])
    assert torch.equal(processor(TEXTS, padding_side="right", **options)["labels"], expected["labels"])


def test_unknown_options_are_a_type_error():
    for options in ({"max_lenght": 3}, {"text_kwargs": {"max_lenght": 3}}):
        with pytest.raises(TypeError, match="max_lenght"):
            tiny_processor()("A storm.", **options)
