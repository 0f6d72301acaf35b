"""Texts as dual encoders read them: real tokenizers of SigLIP and SigLIP 2, against transformers' own classes."""

import json
import shutil
from pathlib import Path

import evaluate
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from transformers import (
    AutoTokenizer,
    GemmaTokenizer,
    Siglip2Model,
    Siglip2Tokenizer,
    SiglipModel,
    SiglipProcessor,
    SiglipTokenizer,
)
from transformers.utils.import_utils import BACKENDS_MAPPING

import spectra_sum.metrics
from spectra_sum.metrics.dual_encoder import DualEncoder, TextReader, reads_lower_case
from tests.spectra_sum.metrics.test_image_metrics import save_encoder
from tests.tiny import picture
from tests.tiny_encoders import TEXT_LENGTH, gemma_tokenizer, save_siglip, siglip_tokenizer

FOLDER = Path(spectra_sum.metrics.__file__).parent
SUMMARY = ["The Harbour reopened, on Monday!", "Two bridges were closed."]
CASED, LOWER = "The Blue Group", "the blue group"


@pytest.fixture(scope="module")
def siglip(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("siglip")
    return save_siglip(folder / "model", siglip_tokenizer(folder))


@pytest.fixture(scope="module")
def siglip2_folders(tmp_path_factory) -> dict[str, Path]:
    """SigLIP 2 of fixed resolution (type "siglip") and of variable resolution (type "siglip2"), as they are published."""
    folder = tmp_path_factory.mktemp("siglip2")
    return {kind: save_siglip(folder / kind, gemma_tokenizer(), kind) for kind in ("siglip", "siglip2")}


def differ(first: np.ndarray, second: np.ndarray) -> bool:
    """Far beyond any round-off; the padding is most of what a tiny tower sees, so that cosines stay near 1."""
    return np.abs(first - second).max() > 0.002


def by_transformers(folder: Path, texts: list[str], images: list) -> tuple[np.ndarray, np.ndarray]:
    """Unit embeddings that SigLIP's own forward pass gives, from its own processor, as its documentation calls them."""
    processor = SiglipProcessor.from_pretrained(folder)
    assert isinstance(processor.tokenizer, SiglipTokenizer)
    inputs = processor(text=texts, images=images, padding="max_length", return_tensors="pt")
    with torch.no_grad():
        outputs = SiglipModel.from_pretrained(folder).eval()(**inputs)
    return outputs.text_embeds.double().numpy(), outputs.image_embeds.double().numpy()


def test_metrics_with_siglips_own_tokenizer_are_those_of_transformers(siglip):
    images = [picture(seed) for seed in range(3)]
    texts, pictures = by_transformers(siglip, SUMMARY, images)
    inputs = {"predictions": ["\n".join(SUMMARY)], "references": [images], "model": str(siglip)}
    result = evaluate.load(str(FOLDER / "max_sim")).compute(**inputs)
    assert result["texts_cut"] == 0
    # Float32 on either side: cosines agree to a few of its epsilons.
    assert result["max_sim"] == pytest.approx((texts @ pictures.T).max(), abs=1e-6)
    summary = texts.mean(axis=0) / np.linalg.norm(texts.mean(axis=0))
    expected = 2.5 * np.maximum(pictures @ summary, 0).mean()
    assert evaluate.load(str(FOLDER / "clip_score")).compute(**inputs)["clip_score"] == pytest.approx(
        expected, abs=1e-6
    )
    assert np.ptp(texts @ pictures.T) > 0.005 and expected > 0


def test_siglips_tokenizer_sees_to_case_and_punctuation_itself(siglip):
    encoder = DualEncoder(str(siglip))
    assert not encoder.text_reader.lower_case
    rows = encoder.embed_texts(["The Blue Group!", "the blue group", "the blue ships"])
    np.testing.assert_array_equal(rows[0], rows[1])
    assert differ(rows[0], rows[2])


@pytest.mark.parametrize("kind", ["siglip", "siglip2"])
def test_texts_of_siglip2_are_read_in_lower_case(siglip2_folders, kind):
    folder = siglip2_folders[kind]
    encoder = DualEncoder(str(folder))
    rows = encoder.embed_texts([CASED, LOWER, "the blue ships"])
    assert rows[0] @ rows[1] == pytest.approx(1, abs=1e-6) and differ(rows[0], rows[2])
    # By hand: the ids of the lower-case text, its end token, and padding up to 64.
    tokenizer = gemma_tokenizer()
    ids = tokenizer(LOWER).input_ids
    assert ids[-1] == tokenizer.eos_token_id and ids != tokenizer(CASED).input_ids
    ids += [tokenizer.pad_token_id] * (TEXT_LENGTH - len(ids))
    model = {"siglip": SiglipModel, "siglip2": Siglip2Model}[kind].from_pretrained(folder).eval()
    with torch.no_grad():
        expected = F.normalize(model.get_text_features(input_ids=torch.tensor([ids])).pooler_output, dim=-1)
    np.testing.assert_allclose(rows[0], expected[0].numpy(), atol=1e-6)


def test_a_fixed_resolution_siglip2_is_told_by_its_gemma_tokenizer(siglip2_folders, tmp_path):
    folder = shutil.copytree(siglip2_folders["siglip"], tmp_path / "copy")
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    # Both names stand in published folders.
    for name in ("GemmaTokenizer", "GemmaTokenizerFast"):
        (folder / "tokenizer_config.json").write_text(json.dumps({**settings, "tokenizer_class": name}))
        tokenizer = AutoTokenizer.from_pretrained(folder)
        assert isinstance(tokenizer, GemmaTokenizer)
        assert tokenizer(CASED).input_ids != tokenizer(LOWER).input_ids
        assert reads_lower_case("siglip", tokenizer)
        assert not reads_lower_case("clip", tokenizer)
    # What transformers reads a folder of the other type by lowers by itself; lower-case text stays as it is.
    tokenizer = AutoTokenizer.from_pretrained(siglip2_folders["siglip2"])
    assert isinstance(tokenizer, Siglip2Tokenizer)
    assert tokenizer(CASED).input_ids == tokenizer(LOWER).input_ids == gemma_tokenizer()(LOWER).input_ids


@pytest.mark.parametrize("kind", ["siglip", "clip"])
def test_texts_of_others_keep_their_case(kind, tmp_path):
    encoder = DualEncoder(str(save_encoder(tmp_path, kind)))
    assert not encoder.text_reader.lower_case
    rows = encoder.embed_texts([CASED, LOWER])
    assert differ(rows[0], rows[1])


def test_texts_are_counted_as_cut_by_what_is_read(siglip2_folders):
    reader = TextReader(gemma_tokenizer(), SiglipModel.from_pretrained(siglip2_folders["siglip"]).config)
    tokenizer = gemma_tokenizer()
    # A text that only fits in lower case.
    words = next(
        text
        for text in (" ".join(["Bridges Were"] * count) for count in range(1, 60))
        if len(tokenizer(text.lower()).input_ids) <= TEXT_LENGTH < len(tokenizer(text).input_ids)
    )
    assert reader.count_cut([words]) == 0
    assert reader.count_cut([words, SUMMARY[1] * 20, ""]) == 1
    assert reader.input_ids([words, ""]).shape == (2, TEXT_LENGTH)


@pytest.mark.parametrize("package", ["sentencepiece", "protobuf"])
def test_a_package_that_siglips_tokenizer_needs_is_named(siglip, monkeypatch, package):
    # As transformers finds it where the package is not installed.
    monkeypatch.setitem(BACKENDS_MAPPING, package, (lambda: False, f"{{0}} requires {package}\nand so on"))
    with pytest.raises(ValueError, match="pip install protobuf sentencepiece") as caught:
        DualEncoder(str(siglip))
    assert str(siglip) in str(caught.value) and "\n" not in str(caught.value)
    assert f"requires {package}" in str(caught.value.__cause__)
