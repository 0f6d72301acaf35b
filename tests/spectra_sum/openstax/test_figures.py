"""Image files to small JPEG."""

import io

import numpy as np
import pytest
from PIL import Image

from spectra_sum.openstax.figures import small_jpeg


def opened(path):
    return Image.open(io.BytesIO(small_jpeg(path)))


@pytest.mark.parametrize(
    ("size", "small"), [((800, 533), (384, 256)), ((100, 768), (50, 384)), ((300, 200), (300, 200))]
)
def test_the_longer_side_is_384_pixels_at_most(size, small, tmp_path):
    Image.new("RGB", size).save(tmp_path / "a.png")
    image = opened(tmp_path / "a.png")
    assert (image.size, image.format, image.mode) == (small, "JPEG", "RGB")


def test_transparency_is_white(tmp_path):
    image = Image.new("RGBA", (64, 64), (255, 0, 0, 0))
    image.paste((0, 0, 255, 255), (32, 0, 64, 64))
    image.save(tmp_path / "a.png")
    pixels = np.asarray(opened(tmp_path / "a.png")).astype(int)
    assert np.abs(pixels[:, :24] - 255).max() < 8 and np.abs(pixels[:, 40:] - (0, 0, 255)).max() < 12


def test_a_turned_photograph_is_upright_and_tells_nothing_else(tmp_path):
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "where I live"
    Image.new("RGB", (60, 40)).save(tmp_path / "a.jpg", exif=exif)
    image = opened(tmp_path / "a.jpg")
    assert image.size == (40, 60) and not image.getexif()


def test_sixteen_bit_grey_keeps_its_shades(tmp_path):
    shades = np.linspace(0, 65535, 64 * 64).reshape(64, 64).astype(np.uint16)
    Image.fromarray(shades).save(tmp_path / "a.png")
    pixels = np.asarray(opened(tmp_path / "a.png").convert("L")).astype(float)
    assert np.abs(pixels - shades / 257).max() < 8


@pytest.mark.parametrize(
    "content", [b"", b"no image", b"<svg xmlns='http://www.w3.org/2000/svg'/>", b"%!PS-Adobe-3.0 EPSF-3.0\n"]
)
def test_what_is_no_image_is_refused(content, tmp_path):
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(ValueError, match="no image in one of the formats"):
        small_jpeg(tmp_path / "a.png")


def test_a_decompression_bomb_is_refused(tmp_path, monkeypatch):
    Image.new("RGB", (64, 64)).save(tmp_path / "a.png")
    monkeypatch.setattr("spectra_sum.msmo.layout.MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(ValueError, match="64 x 64 pixels"):
        small_jpeg(tmp_path / "a.png")
