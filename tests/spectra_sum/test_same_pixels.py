"""One rule for pixels: model, evaluation, metrics, reports and forms see the same image, computed by hand here."""

import base64
import io
import re
from collections.abc import Callable
from pathlib import Path

import datasets
import evaluate
import numpy as np
import pytest
import torch
from PIL import Image

import modeling_spectra.rgb_images
import spectra_sum.metrics
from spectra_sum.documents.local_images import open_local_image
from spectra_sum.evaluation.similarity import embed_images
from spectra_sum.human_eval.images import encode_image
from spectra_sum.human_eval.items import build_batch
from spectra_sum.human_eval.questions import HumanEvalError
from spectra_sum.metrics.dual_encoder import DualEncoder
from spectra_sum.report import ReportArticle, ReportImage, write_report
from tests.spectra_sum.metrics.test_image_metrics import save_encoder
from tests.tiny import picture, tiny_processor

METRICS = Path(spectra_sum.metrics.__file__).parent
SIZE = (20, 14)
SENTENCE = "Two bridges were closed."
# Whole numbers whose products with 255 and whose 16-bit neighbours leave no rounding to choose.
NOISE = np.random.default_rng(0).integers(0, 256, (SIZE[1], SIZE[0], 3), dtype=np.uint8)


def clear(path: Path) -> np.ndarray:
    """Transparent on the left: white there, whatever colour lies under it."""
    pixels = np.dstack([NOISE, np.full(NOISE.shape[:2], 255, np.uint8)])
    pixels[:, :12, 3] = 0
    Image.fromarray(pixels).save(path)
    return np.where(pixels[..., 3:] == 0, np.uint8(255), NOISE)


def deep_grey(path: Path) -> np.ndarray:
    """16 bits: 257 of them are one of the 255 shades of 8 bits."""
    Image.fromarray(NOISE[..., 0].astype(np.uint16) * 257).save(path)
    return np.repeat(NOISE[..., :1], 3, axis=2)


def cmyk(path: Path) -> np.ndarray:
    """Without black, cyan is the lack of red, and so on; full black is black."""
    inks = np.dstack([255 - NOISE, np.zeros(NOISE.shape[:2], np.uint8)])
    inks[:5, :, 3] = 255
    Image.frombytes("CMYK", SIZE, inks.tobytes()).save(path)
    return np.where(inks[..., 3:] == 255, np.uint8(0), NOISE)


def palette(path: Path) -> np.ndarray:
    """The second of three colours is transparent."""
    indices = NOISE[..., 0] % 3
    image = Image.fromarray(indices, "L")
    image.putpalette([200, 10, 30, 0, 0, 0, 20, 90, 180])
    image.save(path, transparency=1)
    return np.array([[200, 10, 30], [255, 255, 255], [20, 90, 180]], np.uint8)[indices]


def turned(path: Path) -> np.ndarray:
    """Stored lying on its side, with the order (EXIF orientation 6) to turn it clockwise."""
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.ascontiguousarray(np.rot90(NOISE))).save(path, exif=exif)
    return NOISE


KINDS: dict[str, tuple[Callable[[Path], np.ndarray], str]] = {
    "transparent": (clear, "png"),
    "16-bit grey": (deep_grey, "png"),
    "CMYK": (cmyk, "tiff"),
    "palette with transparency": (palette, "png"),
    "EXIF orientation": (turned, "png"),
}


@pytest.fixture(params=KINDS)
def file(request, tmp_path) -> tuple[Path, Image.Image]:
    """An image file and the pixels that it stands for, as RGB."""
    write, suffix = KINDS[request.param]
    path = tmp_path / f"image.{suffix}"
    expected = write(path)
    with Image.open(path) as stored:
        # Without the rule it looks otherwise, except CMYK, where the rule is Pillow's own.
        naive = np.asarray(stored.convert("RGB"))
        assert request.param == "CMYK" or naive.shape != expected.shape or (naive != expected).any()
    return path, Image.fromarray(expected)


@pytest.fixture(scope="module")
def encoder_folder(tmp_path_factory) -> Path:
    return save_encoder(tmp_path_factory.mktemp("encoder"), "siglip")


def loaded(path: Path) -> Image.Image:
    """As a user has it in memory, of no file."""
    with Image.open(io.BytesIO(path.read_bytes())) as image:
        image.load()
    return image


def test_the_model_sees_these_pixels(file):
    path, expected = file
    processor = tiny_processor()
    wanted = processor(text="", images=[expected])["pixel_values"]
    for given in (str(path), loaded(path)):
        assert torch.equal(processor(text="", images=[given])["pixel_values"], wanted)
    np.testing.assert_array_equal(np.asarray(open_local_image(path)), np.asarray(expected))


def test_evaluation_embeds_these_pixels(file, encoder_folder):
    path, expected = file
    features = datasets.Features({"id": datasets.Value("string"), "images": datasets.List(datasets.Image())})
    records = datasets.Dataset.from_dict({"id": ["a"], "images": [[str(path)]]}, features=features)
    encoder = DualEncoder(str(encoder_folder))
    (rows,) = embed_images(encoder, records).rows
    wanted = encoder.embed_images([expected])
    np.testing.assert_array_equal(rows, wanted)
    np.testing.assert_array_equal(encoder.embed_images([loaded(path)]), wanted)
    # And these are what the encoder's own processor makes of the plain picture.
    pixel_values = encoder.image_processor(images=[expected], return_tensors="pt")["pixel_values"]
    with torch.no_grad():
        features = encoder.model.get_image_features(pixel_values=pixel_values).pooler_output
    np.testing.assert_allclose(wanted, torch.nn.functional.normalize(features, dim=-1).numpy(), atol=1e-6)


@pytest.mark.parametrize("name", ["max_sim", "clip_score", "pairwise_cosine_distance"])
def test_each_metric_embeds_these_pixels(name, file, encoder_folder):
    path, expected = file
    metric = evaluate.load(str(METRICS / name), keep_in_memory=True)

    def scores(image: str | Image.Image) -> dict:
        images = [[image, picture(1)]]
        return metric.compute(predictions=[SENTENCE], references=images, model=str(encoder_folder))

    wanted = scores(expected)
    # A path, an image in memory, and one that Pillow opened and that knows its file.
    with Image.open(path) as opened:
        for given in (str(path), loaded(path), opened):
            assert scores(given) == wanted


def test_reports_and_forms_show_these_pixels(file, tmp_path):
    path, expected = file
    for given in (path, loaded(path)):
        article = ReportArticle("a", "Title", "Body.", [ReportImage(given, "alt", selected=True)], "Summary.")
        write_report(tmp_path / "report.html", title="A report", articles=[article])
        page = (tmp_path / "report.html").read_text(encoding="utf-8")
        shown = {base64.b64decode(data) for data in re.findall(r"data:image/png;base64,([\w+/=]+)", page)}
        assert shown
        for data in shown:
            np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(data))), np.asarray(expected))
    encoded = encode_image(loaded(path))
    assert (encoded.kind, encoded.width, encoded.height) == ("png", *SIZE)
    image = Image.open(io.BytesIO(encoded.content))
    assert image.mode == "RGB" and image.info == {}
    np.testing.assert_array_equal(np.asarray(image), np.asarray(expected))


def test_the_metrics_rule_is_the_models_own_file():
    own = Path(modeling_spectra.rgb_images.__file__).resolve()
    links = [*METRICS.glob("*/rgb_images.py"), METRICS / "rgb_images.py"]
    assert len(links) == 4
    # In a wheel, which has no links, they are copies.
    assert all(link.read_bytes() == own.read_bytes() for link in links)


def test_an_image_that_cannot_be_decoded_is_named(encoder_folder, tmp_path, monkeypatch):
    features = {"id": datasets.Value("string"), "images": datasets.List(datasets.Image())}
    content = (tmp_path / "broken.png", tmp_path / "whole.png")
    picture(0).save(content[1])
    content[0].write_bytes(content[1].read_bytes()[:-100])
    rows = {"id": ["a", "b"], "images": [[str(content[1])], [str(content[0])]]}
    records = datasets.Dataset.from_dict(rows, features=datasets.Features(features))
    embedded = embed_images(DualEncoder(str(encoder_folder)), records)
    assert [len(rows) for rows in embedded.rows] == [1, 0]
    assert [(image.article, image.file) for image in embedded.broken] == [("b", str(content[0]))]
    # Too large for everybody who goes by the rule, although it can be opened.
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", SIZE[0] * SIZE[1] - 1)
    record = {"id": "c", "title": "t", "article": "b", "summary": ["s"], "images": [picture(0)], "gold_images": []}
    rows = datasets.Dataset.from_list([record], features=datasets.Features({**_FEATURES, **features}))
    predictions = {"one": [{"summary": "s", "selected": [0]}]}
    with pytest.raises(HumanEvalError, match="article 'c': image 0 cannot be decoded"):
        build_batch(rows, predictions, items=1, attention_checks=0, seed=0)
    with pytest.raises(ValueError, match="max_sim: article 0: an image cannot be decoded"):
        evaluate.load(str(METRICS / "max_sim")).compute(
            predictions=[SENTENCE], references=[[picture(0)]], model=str(encoder_folder)
        )


_FEATURES = {
    **dict.fromkeys(("title", "article"), datasets.Value("string")),
    "summary": datasets.List(datasets.Value("string")),
    "gold_images": datasets.List(datasets.Value("int64")),
}
