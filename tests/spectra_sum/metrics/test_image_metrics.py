"""The image metrics: properties, other people's formulas, and real encoders against precomputed embeddings."""

import os
import subprocess
import sys
from pathlib import Path

import evaluate
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from tokenizers import processors
from torchmetrics.functional.multimodal import clip_score as torchmetrics_clip_score
from transformers import (
    CLIPConfig,
    CLIPModel,
    CLIPProcessor,
    Siglip2Config,
    Siglip2ImageProcessor,
    Siglip2Model,
    Siglip2Processor,
    Siglip2Tokenizer,
    SiglipConfig,
    SiglipModel,
    SiglipProcessor,
    SiglipVisionModel,
)

import spectra_sum.metrics
from spectra_sum.metrics import load_metric
from spectra_sum.metrics.dual_encoder import DualEncoder
from tests.double_precision import EPSILON
from tests.tiny import SPREAD, VOCABULARY, picture, tiny_image_processor, tiny_tokenizer, vision_config

pytestmark = pytest.mark.usefixtures("preloaded_python")

FOLDER = Path(spectra_sum.metrics.__file__).parent
SIMILARITY_METRICS = ("max_sim", "clip_score", "pairwise_cosine_distance")
# Tokens that the tiny text towers read; those of SigLIP 2 are single letters here.
TEXT_LENGTHS = {"siglip": 16, "siglip2": 32, "clip": 16}
SHORT, LONG = "Two bridges were closed.", "The harbour reopened on Monday after the storm had passed, at last. " * 3
SCORES = {
    "image_precision": ("image_precision", "hit_at_1", "recall", "ip_at_k"),
    "max_sim": ("max_sim",),
    "clip_score": ("clip_score",),
    "pairwise_cosine_distance": ("pcd_mean", "pcd_max", "pcd_mean_filtered", "pcd_max_filtered"),
}
METRICS = {name: evaluate.load(str(FOLDER / name), keep_in_memory=True) for name in SCORES}


def scores_of(name: str, predictions: list, references: list, **kwargs) -> dict[str, float | None]:
    result = METRICS[name].compute(predictions=predictions, references=references, **kwargs)
    return {score: result[score] for score in SCORES[name] if score in result}


# Properties -----------------------------------------------------------------------------------------------------

# Whole numbers: no row is nearly zero, so that no cosine is mere round-off; all positive in one place: no sum cancels.
rows = st.lists(st.integers(-9, 9), min_size=3, max_size=3).map(lambda row: [float(value) for value in (*row, 5)])
articles = st.lists(
    st.tuples(st.lists(rows, max_size=3), st.none() | st.lists(rows, max_size=4)), min_size=1, max_size=4
).map(lambda drawn: [*drawn, ([[1.0, 0.0, 0.0, 5.0]], [[0.0, 1.0, 0.0, 5.0], [9.0, 1.0, 0.0, 5.0]])])
selections = st.lists(
    st.tuples(st.permutations(range(5)), st.integers(0, 5), st.sets(st.integers(0, 5), max_size=4)),
    min_size=1,
    max_size=4,
).map(lambda drawn: [([0, 1], [1]), *((order[:count], sorted(gold)) for order, count, gold in drawn)])
few = settings(max_examples=25, deadline=None)


@pytest.mark.parametrize("name", SIMILARITY_METRICS)
@few
@given(articles=articles, data=st.data())
def test_similarities_do_not_depend_on_the_order_of_images_and_sentences(name, articles, data):
    shuffled = [
        (data.draw(st.permutations(lines)), images if images is None else data.draw(st.permutations(images)))
        for lines, images in articles
    ]
    expected = scores_of(name, *map(list, zip(*articles, strict=True)))
    assert scores_of(name, *map(list, zip(*shuffled, strict=True))) == pytest.approx(expected, abs=1e-12)


@few
@given(selections=selections, data=st.data())
def test_precision_and_recall_do_not_depend_on_the_order_of_the_selection(selections, data):
    shuffled = [data.draw(st.permutations(selected)) for selected, _ in selections]
    gold = [wanted for _, wanted in selections]
    expected = scores_of("image_precision", [selected for selected, _ in selections], gold)
    actual = scores_of("image_precision", shuffled, gold)
    for score in ("image_precision", "recall"):
        assert actual[score] == expected[score]


@pytest.mark.parametrize("name", SCORES)
@few
@given(data=st.data(), copies=st.integers(2, 3))
def test_repeating_the_corpus_keeps_the_means_and_multiplies_the_counts(name, data, copies):
    corpus = data.draw(selections if name == "image_precision" else articles)
    predictions, references = map(list, zip(*corpus, strict=True))
    once = METRICS[name].compute(predictions=predictions, references=references)
    again = METRICS[name].compute(predictions=predictions * copies, references=references * copies)
    expected = {key: value if key in SCORES[name] else value * copies for key, value in once.items()}
    assert again == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("name", SCORES)
@few
@given(data=st.data())
def test_scores_keep_their_bounds_and_are_the_means_of_the_examples(name, data):
    corpus = data.draw(selections if name == "image_precision" else articles)
    predictions, references = map(list, zip(*corpus, strict=True))
    options = {"k": 2} if name == "image_precision" else {}
    result = METRICS[name].compute(predictions=predictions, references=references, per_example=True, **options)
    low = -1.0 if name == "max_sim" else 0.0
    high = {"clip_score": 2.5, "pairwise_cosine_distance": 2.0}.get(name, 1.0)
    assert set(result["per_example"]) == set(SCORES[name])
    for score, values in result["per_example"].items():
        assert len(values) == len(corpus)
        defined = [value for value in values if value is not None]
        assert all(low <= value <= high for value in defined)
        assert len(defined) == result["articles_filtered" if score.endswith("_filtered") else "articles"]
        assert result[score] == (pytest.approx(np.mean(defined), abs=1e-12) if defined else None)


@few
@given(articles=articles, lengths=st.floats(1e-3, 1e3))
def test_the_length_of_the_embeddings_does_not_matter(articles, lengths):
    predictions, references = map(list, zip(*articles, strict=True))
    longer = [[[value * lengths for value in row] for row in lines] for lines in predictions]
    for name in SIMILARITY_METRICS:
        # A threshold no cosine can meet exactly: round-off must not decide about an image.
        options = {"relevance_threshold": 0.123456789} if name == "pairwise_cosine_distance" else {}
        expected = scores_of(name, predictions, references, **options)
        assert scores_of(name, longer, references, **options) == pytest.approx(expected, abs=1e-12)


# Other people's formulas ----------------------------------------------------------------------------------------


class GivenFeatures(torch.nn.Module):
    """What torchmetrics asks of a CLIP, answering with given embeddings in order."""

    def __init__(self, text: torch.Tensor, image: torch.Tensor):
        super().__init__()
        self.text, self.image, self.config = text, image, None

    def get_text_features(self, *_) -> torch.Tensor:
        return self.text

    def get_image_features(self, *_) -> torch.Tensor:
        return self.image


def processor_of_nothing(**_) -> dict[str, torch.Tensor]:
    return {name: torch.zeros(1, 1) for name in ("pixel_values", "input_ids", "attention_mask")}


@pytest.mark.parametrize("seed", range(5))
def test_clip_score_is_that_of_torchmetrics_on_the_same_embeddings(seed):
    generator = torch.Generator().manual_seed(seed)
    text = torch.randn(1, 6, generator=generator, dtype=torch.float64)
    images = text + 1.5 * torch.randn(4, 6, generator=generator, dtype=torch.float64)
    # The module cuts each pair at 0, torchmetrics the mean: one call per pair. Its score is 100 · cos.
    pairs = torch.stack(
        [
            torchmetrics_clip_score(
                torch.zeros(3, 2, 2),
                "a summary",
                lambda image=image: (GivenFeatures(text, image), processor_of_nothing),
            )
            for image in images.split(1)
        ]
    )
    cosines = (images @ text[0]) / (images.norm(dim=1) * text.norm())
    assert torch.allclose(pairs, 100 * cosines.clamp(min=0), atol=1e-9)
    inputs = {"predictions": [text.tolist()], "references": [images.tolist()]}
    expected = pairs.mean().item()
    assert load_metric("clip_score").compute(**inputs, weight=100)["clip_score"] == pytest.approx(expected, abs=1e-9)
    assert load_metric("clip_score").compute(**inputs)["clip_score"] == pytest.approx(expected / 40, abs=1e-9)


def test_distances_are_those_of_scipy():
    from scipy.spatial.distance import pdist

    rows = np.random.default_rng(0).normal(size=(5, 4))
    result = load_metric("pairwise_cosine_distance").compute(
        predictions=[rows[:1].tolist()], references=[rows.tolist()]
    )
    distances = pdist(rows, "cosine")
    assert result["pcd_mean"] == pytest.approx(distances.mean(), abs=1e-12)
    assert result["pcd_max"] == pytest.approx(distances.max(), abs=1e-12)
    relevant = rows[[0, *(index for index in range(1, 5) if 1 - distances[index - 1] >= 0.2)]]
    assert 2 <= len(relevant) < 5
    assert result["pcd_mean_filtered"] == pytest.approx(pdist(relevant, "cosine").mean(), abs=1e-12)
    assert result["pcd_max_filtered"] == pytest.approx(pdist(relevant, "cosine").max(), abs=1e-12)


# Encoders -------------------------------------------------------------------------------------------------------


def save_encoder(folder: Path, kind: str) -> Path:
    """A dual encoder with random weights, its processor saved whole."""
    torch.manual_seed(0)
    tokenizer = tiny_tokenizer()
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="$A <|end|>", special_tokens=[("<|end|>", tokenizer.eos_token_id)]
    )
    text = {
        "vocab_size": VOCABULARY,
        "hidden_size": 24,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "max_position_embeddings": TEXT_LENGTHS[kind],
        "bos_token_id": None,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
        "projection_size": 24,
    }
    vision = vision_config("clip" if kind == "clip" else "siglip").to_dict()
    image_processor = tiny_image_processor(kind)
    if kind == "clip":
        model = CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=20))
        processor = CLIPProcessor(image_processor, tokenizer)
    elif kind == "siglip":
        model = SiglipModel(SiglipConfig(text_config=text, vision_config=vision))
        processor = SiglipProcessor(image_processor, tokenizer)
    else:
        vision = {name: value for name, value in vision.items() if name not in ("model_type", "image_size")}
        model = Siglip2Model(Siglip2Config(text_config=text, vision_config={**vision, "num_patches": 16}))
        # A folder of this type is always read with this class.
        symbols = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", "▁", *"abcdefghijklmnopqrstuvwxyz.,"]
        tokenizer = Siglip2Tokenizer({symbol: index for index, symbol in enumerate(symbols)}, [])
        processor = Siglip2Processor(Siglip2ImageProcessor(patch_size=8, max_num_patches=16), tokenizer)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0, SPREAD)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module", params=TEXT_LENGTHS)
def encoder_folder(request, tmp_path_factory):
    return save_encoder(tmp_path_factory.mktemp(request.param), request.param)


@pytest.fixture(scope="module")
def siglip_folder(tmp_path_factory):
    return save_encoder(tmp_path_factory.mktemp("siglip_alone"), "siglip")


def reference_embeddings(folder: Path, texts: list[str], images: list[Image.Image]) -> tuple[np.ndarray, np.ndarray]:
    """One at a time by the classes of the model themselves; SigLIP's texts padded as they were in training."""
    kind = {"clip": CLIPModel, "siglip": SiglipModel, "siglip2": Siglip2Model}
    config = CLIPConfig.get_config_dict(folder)[0]
    model = kind[config["model_type"]].from_pretrained(folder, dtype=torch.float32).eval()
    length = TEXT_LENGTHS[config["model_type"]]
    processor = {"clip": CLIPProcessor, "siglip": SiglipProcessor, "siglip2": Siglip2Processor}[config["model_type"]]
    processor = processor.from_pretrained(folder)
    text_rows, image_rows = [], []
    with torch.no_grad():
        for text in texts:
            ids = processor.tokenizer(text).input_ids
            end = ids[-1:] if ids[-1] == processor.tokenizer.eos_token_id else []
            ids = ids[: length - len(end)] + end if len(ids) > length else ids
            if config["model_type"] != "clip":
                ids += [model.config.text_config.pad_token_id] * (length - len(ids))
            text_rows.append(model.get_text_features(input_ids=torch.tensor([ids])).pooler_output[0])
        for image in images:
            inputs = processor.image_processor(images=image, return_tensors="pt")
            image_rows.append(model.get_image_features(**inputs).pooler_output[0])
    return F.normalize(torch.stack(text_rows), dim=1).numpy(), F.normalize(torch.stack(image_rows), dim=1).numpy()


def test_embeddings_are_those_of_the_model_and_do_not_depend_on_the_batch(encoder_folder):
    texts, images = [SHORT, LONG, "Twelve damaged ships"], [picture(seed, size=(20 + seed, 14)) for seed in range(5)]
    text_rows, image_rows = reference_embeddings(encoder_folder, texts, images)
    encoder = DualEncoder(str(encoder_folder))
    # Unit vectors in float32, whose sums are of 16 to 32 products.
    for batch_size in (1, 2, 8):
        np.testing.assert_allclose(encoder.embed_texts(texts, batch_size), text_rows, rtol=0, atol=16 * EPSILON)
        np.testing.assert_allclose(encoder.embed_images(images, batch_size), image_rows, rtol=0, atol=16 * EPSILON)
    assert encoder.embed_texts(texts).dtype == encoder.embed_images(images).dtype == np.float32
    assert encoder.embed_texts([]).shape == encoder.embed_images([]).shape == (0, text_rows.shape[1])
    # The texts differ and so do the images: a constant embedding would pass anything.
    assert np.abs(text_rows[0] - text_rows[2]).max() > 0.005
    assert np.abs(image_rows[0] - image_rows[1]).max() > 0.005
    assert encoder.count_cut(texts) == 1
    assert encoder.count_cut([]) == 0
    growing = ["a" + " a" * count for count in range(40)]
    lengths = [len(encoder.text_reader.tokenizer(text).input_ids) for text in growing]
    read = TEXT_LENGTHS[encoder.model.config.model_type]
    assert any(read - 1 <= length <= read for length in lengths)
    assert encoder.count_cut(growing) == len(growing) - sum(length <= read for length in lengths)


@pytest.mark.parametrize("name", SIMILARITY_METRICS)
def test_summaries_and_images_score_as_their_embeddings(name, encoder_folder, tmp_path):
    images = [picture(seed) for seed in range(5)]
    path = tmp_path / "four.png"
    images[4].save(path)
    summaries = [f"{SHORT}\n\n  {LONG}\n", "Twelve damaged ships", " \n", SHORT, SHORT]
    text_rows, image_rows = reference_embeddings(encoder_folder, [SHORT, LONG, "Twelve damaged ships"], images)
    result = load_metric(name).compute(
        predictions=summaries,
        references=[None, [], images[:2], [images[2], images[3], str(path)], [str(path), images[0]]],
        model=str(encoder_folder),
        batch_size=2,
        per_example=True,
    )
    expected = load_metric(name).compute(
        predictions=[text_rows[:2], text_rows[2:], [], text_rows[:1], text_rows[:1]],
        references=[None, [], image_rows[:2], image_rows[2:], image_rows[[4, 0]]],
        per_example=True,
    )
    assert result.pop("texts_cut") == 1
    for values, wanted in zip(result.pop("per_example").values(), expected.pop("per_example").values(), strict=True):
        assert values == pytest.approx(wanted, abs=80 * EPSILON)
    assert result == pytest.approx(expected, abs=80 * EPSILON)
    assert result["empty_summaries"] == result["empty_selections"] == result["articles_without_images"] == 1


def test_a_loaded_model_needs_its_processor(siglip_folder):
    model, processor = SiglipModel.from_pretrained(siglip_folder), SiglipProcessor.from_pretrained(siglip_folder)
    with pytest.raises(ValueError, match="SiglipModel: a loaded model needs its processor"):
        DualEncoder(model)
    rows = DualEncoder(model, processor).embed_texts([SHORT])
    np.testing.assert_array_equal(rows, DualEncoder(str(siglip_folder)).embed_texts([SHORT]))


@pytest.mark.parametrize("name", SIMILARITY_METRICS)
def test_a_loaded_model_with_its_processor_scores_as_its_folder(name, siglip_folder):
    images = [picture(seed) for seed in range(3)]
    inputs = {"predictions": [SHORT, LONG], "references": [images[:2], images[1:]]}
    config = SiglipConfig.from_pretrained(siglip_folder)
    config.vision_config.attention_dropout = 0.5
    # In training mode, as a model is that somebody has just trained.
    model = SiglipModel.from_pretrained(siglip_folder, config=config).train()
    processor = SiglipProcessor.from_pretrained(siglip_folder)
    of_folder = METRICS[name].compute(**inputs, model=str(siglip_folder))
    assert of_folder["texts_cut"] == 1
    assert METRICS[name].compute(**inputs, model=model, processor=processor) == of_folder
    assert METRICS[name].compute(**inputs, model=str(siglip_folder), processor=processor) == of_folder
    with pytest.raises(ValueError, match="SiglipModel: a loaded model needs its processor"):
        METRICS[name].compute(**inputs, model=model)
    with pytest.raises(ValueError, match="`processor` needs a tokenizer and an image processor"):
        METRICS[name].compute(**inputs, model=model, processor=processor.tokenizer)


def test_parts_saved_one_by_one_load_as_a_processor(siglip_folder, tmp_path):
    processor = SiglipProcessor.from_pretrained(siglip_folder)
    for part in (SiglipModel.from_pretrained(siglip_folder), processor.tokenizer, processor.image_processor):
        part.save_pretrained(tmp_path)
    rows = DualEncoder(str(tmp_path)).embed_texts([SHORT])
    np.testing.assert_array_equal(rows, DualEncoder(str(siglip_folder)).embed_texts([SHORT]))


def test_a_single_tower_is_refused(siglip_folder, tmp_path):
    tower = SiglipVisionModel.from_pretrained(siglip_folder)
    tower.save_pretrained(tmp_path)
    with pytest.raises(
        ValueError, match="'siglip_vision_model'.*give a dual encoder of one of the types clip, siglip"
    ):
        DualEncoder(str(tmp_path))
    with pytest.raises(ValueError, match="SiglipVisionModel: a model of type 'siglip_vision_model'"):
        DualEncoder(tower)


def test_incomplete_weights_are_refused(siglip_folder, tmp_path):
    model, processor = SiglipModel.from_pretrained(siglip_folder), SiglipProcessor.from_pretrained(siglip_folder)
    weights = model.state_dict()
    del weights["text_model.head.weight"]
    model.save_pretrained(tmp_path, state_dict=weights)
    processor.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="the weights lack 1 tensors, text_model.head.weight"):
        DualEncoder(str(tmp_path))


def test_only_safetensors_are_read(siglip_folder, tmp_path):
    model = SiglipModel.from_pretrained(siglip_folder)
    model.config.save_pretrained(tmp_path)
    SiglipProcessor.from_pretrained(siglip_folder).save_pretrained(tmp_path)
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(OSError, match="safetensors"):
        DualEncoder(str(tmp_path))


@pytest.mark.parametrize(
    ("image", "message"),
    [
        ("missing.png", "article 1: .*missing.png is no file"),
        (
            "https://example.org/image.png",
            "article 1: https://example.org/image.png is no file; images are read locally",
        ),
        ("broken.png", "article 1: .*broken.png cannot be decoded"),
        ("picture.eps", "article 1: .*picture.eps cannot be decoded"),
    ],
)
def test_an_image_that_cannot_be_read_is_named(siglip_folder, tmp_path, monkeypatch, image, message):
    monkeypatch.chdir(tmp_path)
    Path("broken.png").write_bytes(b"\x89PNG\r\n\x1a\n and then nothing")
    picture().save("picture.eps")
    with pytest.raises(ValueError, match=message):
        METRICS["max_sim"].compute(
            predictions=[SHORT, SHORT], references=[[picture()], [image]], model=str(siglip_folder)
        )


def test_images_are_checked_before_the_model_is_loaded():
    with pytest.raises(ValueError, match="missing.png is no file"):
        METRICS["max_sim"].compute(predictions=[SHORT], references=[["missing.png"]], model="no/such-model")


def test_images_are_read_upright_and_over_white(siglip_folder, tmp_path):
    plain = picture(1)
    exif = Image.Exif()
    exif[0x0112] = 6  # To be turned clockwise by 90 degrees.
    plain.rotate(90, expand=True).save(tmp_path / "turned.png", exif=exif)
    clear = Image.new("RGBA", (20, 14), (255, 0, 0, 0))
    clear.save(tmp_path / "clear.png")
    encoder = DualEncoder(str(siglip_folder))
    sentence = encoder.embed_texts([SHORT])
    for file, image in (("turned.png", plain), ("clear.png", Image.new("RGB", (20, 14), "white"))):
        result = METRICS["max_sim"].compute(
            predictions=[SHORT], references=[[str(tmp_path / file)]], model=str(siglip_folder)
        )
        expected = (encoder.embed_images([image]) @ sentence.T).item()
        assert result["max_sim"] == pytest.approx(expected, abs=8 * EPSILON)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_embeddings_that_are_not_finite_are_an_error(value):
    for name in SIMILARITY_METRICS:
        with pytest.raises(ValueError, match=f"{name}: article 0: image 1: its embedding is not finite"):
            METRICS[name].compute(predictions=[[[1.0, 0.0]]], references=[[[1.0, 0.0], [value, 0.0]]])


def test_a_summary_that_is_missing_is_an_error(siglip_folder):
    with pytest.raises(ValueError, match="article 1 has no summary"):
        METRICS["max_sim"].compute(
            predictions=[SHORT, None], references=[[picture()], [picture()]], model=str(siglip_folder)
        )


def test_a_batch_size_under_1_is_an_error():
    with pytest.raises(ValueError, match="batch_size must be at least 1"):
        METRICS["max_sim"].compute(predictions=[[[1.0]]], references=[[[1.0]]], batch_size=-1)


BARE = """
import sys
import evaluate

folder, model, image, cache = sys.argv[1:]
for name in ("spectra_sum", "modeling_spectra", "configuration_spectra", "trainer"):
    sys.modules[name] = None  # As where the project is not installed.
for name in ("image_precision", "max_sim", "clip_score", "pairwise_cosine_distance"):
    for path in (f"{folder}/{name}", f"{folder}/{name}/{name}.py"):
        metric = evaluate.load(path)
    assert sys.modules[type(metric).__module__].__file__.startswith(cache)
    if name == "image_precision":
        result = metric.compute(predictions=[[0, 1]], references=[[1]])
        assert result["image_precision"] == 0.5, result
        continue
    result = metric.compute(predictions=[[[1.0, 0.0]]], references=[[[1.0, 0.0], [3.0, 4.0]]])
    wanted = {"max_sim": 1.0, "clip_score": 2.0, "pairwise_cosine_distance": 0.4}[name]
    assert abs(result[{"pairwise_cosine_distance": "pcd_mean"}.get(name, name)] - wanted) < 1e-9, result
    result = metric.compute(predictions=["Two bridges."], references=[[image, image]], model=model)
    assert (result["articles"], result["texts_cut"]) == (1, 0), result
print("all loaded")
"""


def test_the_modules_load_and_compute_in_a_bare_offline_process(siglip_folder, tmp_path):
    picture().save(tmp_path / "image.png")
    environment = {name: value for name, value in os.environ.items() if name in ("PATH", "LANG", "LD_LIBRARY_PATH")}
    cache = str(tmp_path / "hf_home")
    environment |= {"HF_HOME": cache, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-I", "-c", BARE, str(FOLDER), str(siglip_folder), "image.png", cache]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().endswith("all loaded")
