"""Images of the processor: every form that one is given in, the pixels that it becomes, and what is refused."""

import base64
import functools
import http.server
import io
import logging
import threading
import warnings

import numpy as np
import pytest
import torch
from PIL import Image

from modeling_spectra.image_inputs import to_rgb
from tests.tiny import IMAGE_SIZE, picture, tiny_image_processor, tiny_processor

BODY = "The harbour reopened on Monday after the storm had passed. Engineers counted twelve damaged ships."


def test_without_images_there_are_no_pixels():
    processor = tiny_processor()
    for images in (None, [], [[]]):
        assert "pixel_values" not in processor(BODY, images=images)
    assert "pixel_values" not in processor([BODY, BODY], images=[[], None])


def test_images_of_every_kind_and_their_mask(tmp_path):
    processor, image = tiny_processor(), picture(1)
    image.save(tmp_path / "image.png")
    kinds = [
        image,
        str(tmp_path / "image.png"),
        tmp_path / "image.png",
        np.asarray(image),
        torch.tensor(np.asarray(image)),
    ]
    data = processor([BODY, "Short.", "None."], images=[kinds, [picture(2)], []])
    assert data["pixel_values"].shape == (3, 5, 3, IMAGE_SIZE, IMAGE_SIZE)
    assert data["image_mask"].tolist() == [[True] * 5, [True] + [False] * 4, [False] * 5]
    expected = tiny_image_processor()([image, picture(2)], return_tensors="pt")["pixel_values"]
    for index in range(5):
        assert torch.equal(data["pixel_values"][0, index], expected[0])
    assert torch.equal(data["pixel_values"][1, 0], expected[1])
    assert not data["pixel_values"][~data["image_mask"]].any()


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "CMYK"])
def test_other_colour_modes_are_converted(mode):
    image = picture(1).convert(mode)
    expected = tiny_image_processor()([image.convert("RGB")], return_tensors="pt")["pixel_values"][0]
    assert torch.equal(tiny_processor()(BODY, images=[image])["pixel_values"][0, 0], expected)


WHITE, BLACK, RED = (255, 255, 255), (0, 0, 0), (255, 0, 0)


def row_of(mode, *pixels):
    """An image of one row."""
    image = Image.new(mode, (len(pixels), 1))
    for x, pixel in enumerate(pixels):
        image.putpixel((x, 0), pixel)
    return image


def palette(mode="P", *alphas):
    """Red and black from a palette, the alphas being those of its entries."""
    image = row_of("P", 0, 1)
    image.putpalette(RED + BLACK)
    if mode == "P":
        image.info["transparency"] = bytes(alphas)
    else:
        image = image.convert("PA")
        image.putalpha(row_of("L", *alphas))
    return image


def with_clear(mode, colour, *pixels):
    image = row_of(mode, *pixels)
    image.info["transparency"] = colour
    return image


def pixels_of(image):
    return [image.getpixel((x, 0)) for x in range(image.width)]


# At alpha 51, a fifth, there are 255·4/5 = 204 of white, and a fifth of the colour.
@pytest.mark.parametrize(
    ("image", "expected"),
    [
        (row_of("RGBA", (255, 0, 0, 255), (0, 0, 0, 0), (200, 0, 100, 51)), [RED, WHITE, (244, 204, 224)]),
        (row_of("LA", (0, 255), (0, 0), (100, 51)), [BLACK, WHITE, (224,) * 3]),
        (row_of("LA", (0, 255), (0, 0), (100, 51)).convert("La"), [BLACK, WHITE, (224,) * 3]),
        (row_of("RGBA", (255, 0, 0, 255), (0, 0, 0, 0)).convert("RGBa"), [RED, WHITE]),
        (palette("P", 255, 0), [RED, WHITE]),
        (palette("P", 51, 255), [(255, 204, 204), BLACK]),
        (palette("PA", 255, 0), [RED, WHITE]),
        (with_clear("RGB", RED, RED, BLACK), [WHITE, BLACK]),
        (with_clear("L", 7, 7, 0), [WHITE, BLACK]),
        (with_clear("I;16", 300, 300, 257, 51400), [WHITE, (1,) * 3, (200,) * 3]),
        (row_of("1", 0, 1), [BLACK, WHITE]),
        (row_of("I;16", 0, 257, 25700, 65535), [BLACK, (1,) * 3, (100,) * 3, WHITE]),
        (row_of("I;16B", 0, 257, 25700, 65535), [BLACK, (1,) * 3, (100,) * 3, WHITE]),
        (row_of("I", 0, 1, 200), [BLACK, (1,) * 3, (200,) * 3]),
        (row_of("I", 0, 25700, 65535), [BLACK, (100,) * 3, WHITE]),
        (row_of("I", -100000, 0, 155000), [BLACK, (100,) * 3, WHITE]),
        (row_of("I", 70000, 70000), [BLACK, BLACK]),
        (row_of("F", 0.0, 0.2, 1.0), [BLACK, (51,) * 3, WHITE]),
        (row_of("F", 0.0, 1.2, 200.0), [BLACK, (1,) * 3, (200,) * 3]),
        (row_of("F", -1.0, 0.0, 4.0), [BLACK, (51,) * 3, WHITE]),
        (row_of("CMYK", (0, 0, 0, 0), (0, 0, 0, 255), (0, 255, 255, 0)), [WHITE, BLACK, RED]),
    ],
    ids=lambda value: getattr(value, "mode", ""),
)
def test_pixels_of_every_mode(image, expected):
    before = (image.mode, dict(image.info), image.tobytes())
    rgb = to_rgb(image)
    assert rgb.mode == "RGB" and rgb.info == {}
    assert np.abs(np.subtract(pixels_of(rgb), expected)).max() <= 1
    assert all(got == want for got, want in zip(pixels_of(rgb), expected, strict=True) if want in (WHITE, BLACK))
    assert to_rgb(rgb).tobytes() == rgb.tobytes()
    assert (image.mode, dict(image.info), image.tobytes()) == before


@pytest.mark.parametrize("suffix", ["png", "tiff"])
def test_16_bit_files(suffix, tmp_path):
    row_of("I;16", 0, 25700, 65535).save(tmp_path / f"grey.{suffix}")
    assert pixels_of(to_rgb(tmp_path / f"grey.{suffix}")) == [BLACK, (100,) * 3, WHITE]


@pytest.mark.parametrize("suffix", ["png", "jpg", "tiff", "webp"])
def test_images_are_upright(suffix, tmp_path):
    """Orientation 6: the file's left is the picture's top."""
    exif = Image.Exif()
    exif[0x0112] = 6
    stored = Image.new("RGB", (32, 16), "white")
    stored.paste("black", (0, 0, 16, 16))
    stored.save(tmp_path / f"a.{suffix}", exif=exif)
    with Image.open(tmp_path / f"a.{suffix}") as opened:
        images = [to_rgb(tmp_path / f"a.{suffix}"), to_rgb(opened)]
    images.append(to_rgb(images[0]))
    for upright in images:
        assert upright.size == (16, 32)
        assert max(upright.getpixel((8, 4))) < 30 and min(upright.getpixel((8, 28))) > 225


def test_large_images_are_reduced():
    image = Image.new("RGBA", (3000, 1500), (255, 0, 0, 0))
    image.paste((0, 0, 255, 255), (1500, 0, 3000, 1500))
    reduced = to_rgb(image)
    assert reduced.size == (1024, 512) and to_rgb(reduced).tobytes() == reduced.tobytes()
    assert (reduced.getpixel((500, 9)), reduced.getpixel((524, 9))) == (WHITE, (0, 0, 255))
    assert to_rgb(Image.new("P", (1024, 7))).size == (1024, 7)


@pytest.mark.parametrize(("size", "refused"), [((10, 10), False), ((15, 10), True), ((21, 10), True)])
def test_decompression_bombs_are_refused(size, refused, tmp_path, monkeypatch):
    """Between one and two times its limit Pillow only warns."""
    Image.new("L", size).save(tmp_path / "bomb.png")
    opened = Image.open(tmp_path / "bomb.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for image in (tmp_path / "bomb.png", opened):
            if refused:
                with pytest.raises(
                    ValueError, match=r"article 0: image 1: cannot read .*bomb.png: .*(100|200) pixels"
                ):
                    tiny_processor()(BODY, images=[picture(size=(5, 5)), image])
            else:
                assert to_rgb(image).size == size
    # Refused by what it declares, before any pixel is decoded.
    assert not refused or opened.tile
    opened.close()


def test_images_that_cannot_be_decoded_are_named(tmp_path):
    picture().save(tmp_path / "whole.png")
    content = (tmp_path / "whole.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(content[:200])
    with Image.open(tmp_path / "whole.png") as closed:
        pass
    with Image.open(tmp_path / "cut.png") as cut:
        for image, message in (
            (cut, "cut.png"),
            (closed, "whole.png: its file was closed"),
            (Image.open(io.BytesIO(content[:200])), "PngImageFile"),
            (row_of("F", 0.0, float("nan")), "mode=F.*no shades of grey"),
            (row_of("F", 0.0, float("inf")), "mode=F.*no shades of grey"),
            (row_of("F", -3e38, 3e38), "mode=F.*no shades of grey"),
        ):
            with pytest.raises(ValueError, match=f"article 1: image 0: cannot read the image .*{message}"):
                tiny_processor()([BODY, BODY], images=[[picture()], [image]])


def test_a_single_article_takes_a_flat_list():
    processor, images = tiny_processor(), [picture(1), picture(2)]
    flat, nested = processor(BODY, images=images), processor([BODY], images=[images])
    assert flat["pixel_values"].shape[:2] == (1, 2)
    assert all(torch.equal(flat[name], nested[name]) for name in nested)
    assert torch.equal(processor(BODY, images=[images])["pixel_values"], flat["pixel_values"])
    assert processor(BODY, images=(images[0],))["pixel_values"].shape[:2] == (1, 1)


def test_images_beyond_the_candidates_are_dropped_and_counted(caplog):
    processor = tiny_processor(max_candidate_images=4)
    library = logging.getLogger("transformers")
    library.addHandler(caplog.handler)
    try:
        data = processor([BODY, BODY], images=[[picture(i) for i in range(6)], [picture(i) for i in range(5)]])
    finally:
        library.removeHandler(caplog.handler)
    assert "3 images beyond max_candidate_images=4 are not scored" in caplog.text
    expected = tiny_image_processor()([picture(i) for i in range(4)], return_tensors="pt")["pixel_values"]
    assert torch.equal(data["pixel_values"][0], expected) and data["image_mask"].all()


def test_a_broken_image_is_named(tmp_path):
    picture().save(tmp_path / "cut.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "cut.png").read_bytes()[:60])
    (tmp_path / "text.jpg").write_text("no image")
    for name in ("cut.png", "text.jpg"):
        with pytest.raises(ValueError, match=f"cannot read the image .*{name}"):
            tiny_processor()(BODY, images=[tmp_path / name])


def arrays_of(image):
    """An RGB image as arrays of every layout and kind."""
    uint8 = np.asarray(image)
    chw = uint8.transpose(2, 0, 1)
    # Exact in float32 and float64, and within half a step of 1/255 in float16.
    scaled = [(chw / 255).astype(dtype) for dtype in (np.float16, np.float32, np.float64)]
    tensors = [torch.tensor(chw), torch.tensor(uint8), torch.tensor(chw / 255), torch.tensor(uint8 / 255).half()]
    return [uint8, chw, uint8 / 255, *scaled, *tensors, torch.tensor(chw / 255, requires_grad=True)]


def test_arrays_of_every_layout_and_kind():
    image = picture(1)
    for array in arrays_of(image):
        assert to_rgb(array).tobytes() == image.tobytes(), (array.shape, array.dtype)
    grey, clear = picture(2, mode="L"), picture(3).convert("RGBA")
    clear.putalpha(grey)
    for other in (grey, clear):
        values = np.asarray(other)
        layouts = [values, values[..., None], values[None]] if other is grey else [values, values.transpose(2, 0, 1)]
        for array in layouts:
            assert to_rgb(array).tobytes() == to_rgb(torch.tensor(array)).tobytes() == to_rgb(other).tobytes()


def test_images_of_several_articles_and_of_one():
    """One image alone is a list of one, and a stack of arrays a list of them."""
    processor, first, second = tiny_processor(), picture(1), picture(2)
    expected = processor(BODY, images=[[first]])["pixel_values"]
    for array in (first, *arrays_of(first)):
        for images in (array, [array], [[array]]):
            assert torch.equal(processor(BODY, images=images)["pixel_values"], expected)
    both = processor([BODY, BODY], images=[[first], [second]])
    alone = processor([BODY, BODY], images=[first, np.asarray(second)])
    assert all(torch.equal(alone[name], both[name]) for name in both)
    stack = np.stack([np.asarray(first), np.asarray(second)])
    expected = processor(BODY, images=[first, second])["pixel_values"]
    for images in (stack, torch.tensor(stack), [[*stack]]):
        assert torch.equal(processor(BODY, images=images)["pixel_values"], expected)
    assert torch.equal(processor([BODY], images=[stack])["pixel_values"], expected)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        ([], r"images must be a list with one entry per article \(2\)"),
        ([picture()], r"one entry per article \(2\).* not list of 1"),
        (picture(), r"one entry per article \(2\).* not Image"),
        ("a.png", r"one entry per article \(2\).* not str"),
        ([[], 3], "article 1: its images must be a list, an image or None, not int"),
        ([[], [None]], "article 1: image 0: cannot read the image None: an image is a PIL image.* not NoneType"),
        ([[], [[picture()]]], "article 1: image 0: .* not list"),
        ([[], ["missing.png"]], "article 1: image 0: cannot read the image missing.png: there is no such file"),
        ([None, ["data:image/png;base64,QUJD"]], "article 1: image 0: .*it is no image in base64"),
        ([None, ["https://example.org/a.png"]], "image 0: .*https://example.org/a.png.* fetch_images=True"),
        ([None, [np.zeros((5, 4, 2), np.uint8)]], r"image 0: cannot read the image ndarray: .* not \(5, 4, 2\)"),
        ([None, [np.zeros((0, 4, 3), np.uint8)]], r"not \(0, 4, 3\)"),
        ([None, [torch.zeros(4)]], r"not \(4,\)"),
        ([None, [np.zeros((4, 4, 3), np.int64)]], "holds uint8, or floating point from 0 to 1, not int64"),
        ([None, [np.full((4, 4, 3), 255.0)]], "goes from 0 to 1, not from 255.0 to 255.0"),
        ([None, [torch.full((3, 4, 4), -0.5)]], "goes from 0 to 1, not from -0.5 to -0.5"),
        ([None, [np.full((4, 4, 3), np.nan)]], "goes from 0 to 1, not from nan"),
    ],
)
def test_bad_images_are_named(images, message):
    with pytest.raises(ValueError, match=message):
        tiny_processor()([BODY, BODY], images=images)


def test_encoded_images(tmp_path):
    image = picture(4)
    image.save(tmp_path / "a.png")
    encoded = base64.b64encode((tmp_path / "a.png").read_bytes()).decode()
    for source in (encoded, f"data:image/png;base64,{encoded}"):
        assert to_rgb(source).tobytes() == image.tobytes()


def test_addresses_are_fetched_when_asked(tmp_path, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    picture(5).save(tmp_path / "a.png")
    asked = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            super().do_GET()

    handler = functools.partial(Handler, directory=tmp_path)
    processor = tiny_processor()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            address = f"http://127.0.0.1:{server.server_port}/a.png"
            messages = [{"role": "user", "content": [{"type": "image", "url": address}]}]
            for options in ({}, {"fetch_images": False}):
                with pytest.raises(ValueError, match="fetch_images=True"):
                    processor(BODY, images=address, **options)
                with pytest.raises(ValueError, match="fetch_images=True"):
                    processor.apply_chat_template(messages, tokenize=True, processor_kwargs=options)
            assert asked == []
            data = processor(BODY, images=address, fetch_images=True)
            options = {"tokenize": True, "return_dict": True, "processor_kwargs": {"fetch_images": True}}
            chat = processor.apply_chat_template(messages, **options)
            with pytest.raises(ValueError, match="article 0: image 0: .*nothing.png: .*404[^\n]*$"):
                processor(BODY, images=f"http://127.0.0.1:{server.server_port}/nothing.png", fetch_images=True)
        finally:
            server.shutdown()
            thread.join()
    assert asked == ["/a.png", "/a.png", "/nothing.png"]
    for inputs in (data, chat):
        assert torch.equal(inputs["pixel_values"], processor(BODY, images=picture(5))["pixel_values"])
