"""Image files that nobody vouches for: the model's pixels, and errors instead of tracebacks."""

import base64
import io
import subprocess
import sys
from urllib.parse import urlsplit

import pytest
from PIL import Image

from modeling_spectra.processing_spectra import to_rgb
from spectra_sum.documents.html.page import read_html
from spectra_sum.documents.linked_files import LinkedFiles
from spectra_sum.documents.local_images import READABLE_FORMATS, ImageError, open_data_image, open_local_image
from spectra_sum.documents.reading import read_document


def clear_png(colour=(200, 0, 0)):
    """The content of a PNG whose left half is transparent."""
    image = Image.new("RGBA", (8, 4), (*colour, 255))
    image.paste((*colour, 0), (0, 0, 4, 4))
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def test_files_and_data_have_the_models_pixels(tmp_path):
    path = tmp_path / "clear.png"
    path.write_bytes(clear_png())
    expected = to_rgb(path)
    assert (expected.getpixel((0, 0)), expected.getpixel((7, 0))) == ((255, 255, 255), (200, 0, 0))
    uri = "data:image/png;base64," + base64.b64encode(clear_png()).decode()
    for image in (open_local_image(path), open_data_image(uri)):
        assert (image.mode, image.tobytes()) == ("RGB", expected.tobytes())


def test_16_bit_grey_is_not_white(tmp_path):
    grey = Image.new("I;16", (3, 1))
    for x, value in enumerate((0, 25700, 65535)):
        grey.putpixel((x, 0), value)
    grey.save(tmp_path / "grey.png")
    image = open_local_image(tmp_path / "grey.png")
    assert [image.getpixel((x, 0))[0] for x in range(3)] == [0, 100, 255]


@pytest.mark.parametrize(("size", "kind"), [((10, 10), None), ((15, 10), "oversized"), ((21, 10), "oversized")])
def test_decompression_bombs(size, kind, tmp_path, monkeypatch):
    Image.new("L", size).save(tmp_path / "bomb.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    if kind is None:
        assert open_local_image(tmp_path / "bomb.png").size == size
        return
    with pytest.raises(ImageError, match="more than 100 pixels") as error:
        open_local_image(tmp_path / "bomb.png")
    assert error.value.kind == "oversized_image"


def test_other_formats_are_not_decoded(tmp_path):
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png", "PPM")
    assert to_rgb(tmp_path / "a.png").size == (4, 4)
    with pytest.raises(ImageError, match="no image in one of the formats JPEG, PNG"):
        open_local_image(tmp_path / "a.png")


@pytest.mark.skipif("AVIF" not in READABLE_FORMATS, reason="this Pillow reads no AVIF")
def test_avif_is_read_where_pillow_reads_it(tmp_path):
    Image.new("RGB", (32, 24), "red").save(tmp_path / "a.avif")
    (tmp_path / "doc.md").write_text("Text. ![](a.avif)")
    [image] = read_document(tmp_path / "doc.md").images
    red, green, blue = image.image.getpixel((9, 9))
    assert red > 240 and green < 16 and blue < 16
    (tmp_path / "a.avif").write_bytes((tmp_path / "a.avif").read_bytes()[:-20])
    assert [problem.kind for problem in read_document(tmp_path / "doc.md").problems] == ["broken_image"]


def test_the_formats_are_those_of_this_pillow():
    assert ("AVIF" in READABLE_FORMATS) == (".avif" in Image.registered_extensions())


@pytest.mark.parametrize(
    "uri",
    [
        "data:,\ud800",
        "data:image/png;base64,\ud800",
        "data:image/png;base64,é",
        "data:image/png;base64,abc",
        "data:\ud800;base64,",
        "data:",
    ],
)
def test_damaged_data_uris(uri):
    with pytest.raises(ImageError) as error:
        open_data_image(uri)
    assert error.value.kind == "broken_image"
    str(error.value).encode()


def test_a_lone_surrogate_in_a_page_is_a_problem_of_it(tmp_path):
    """Some character sets that a page may declare decode to one."""
    document = read_html(tmp_path / "page.html", '<body><p>The text of a page.</p><img src="data:,\ud800"></body>')
    assert document.images == [] and [problem.kind for problem in document.problems] == ["broken_image"]


def test_data_uris_are_kept_in_no_cache(tmp_path):
    urlsplit.cache_clear()
    for uri in ("data:image/png;base64,AAAA", "DATA:,x"):
        with pytest.raises(ImageError, match="data: addresses are not read") as error:
            LinkedFiles(tmp_path).find(uri)
        assert error.value.kind == "unsupported_image"
    assert urlsplit.cache_info().currsize == 0


def test_reading_articles_loads_no_model_code():
    code = (
        "import sys, spectra_sum.msmo.layout; print({'torch', 'transformers', 'modeling_spectra'} & set(sys.modules))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout == "set()\n"
