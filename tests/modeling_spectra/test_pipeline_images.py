"""Which pixels the pipeline makes of files, addresses and encoded images, and what it says of those that it cannot read."""

import base64
import functools
import http.server
import io
import threading
import time

import numpy as np
import pytest
from PIL import Image

from modeling_spectra import MultimodalSummarizationPipeline
from spectra_sum.documents.local_images import open_local_image
from spectra_sum.documents.parts import Document, DocumentImage
from spectra_sum.models.loading import LoadedModel
from spectra_sum.summaries.options import SummaryOptions
from spectra_sum.summaries.summarizer import Summarizer
from tests.modeling_spectra.pipeline_setup import NEW_TOKENS
from tests.tiny import SENTENCES, picture

# As the models are.
pytestmark = pytest.mark.usefixtures("float64")


def test_an_unreadable_image_is_named(summarizer, tmp_path, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    whole = io.BytesIO()
    picture(1, (200, 200)).save(whole, "PNG")
    (tmp_path / "truncated.png").write_bytes(whole.getvalue()[:2000])
    (tmp_path / "text.png").write_text("no image")
    with http.server.HTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler) as closed:
        url = f"http://127.0.0.1:{closed.server_port}/a.png"
    for image in (tmp_path / "truncated.png", str(tmp_path / "text.png"), tmp_path / "missing.png", url):
        with pytest.raises(ValueError, match="^article 0: image 1 .* cannot be read: ") as error:
            summarizer([{"text": "a", "images": [picture(1), image]}])
        assert str(image) in str(error.value)


def test_paths_and_urls_are_read_like_the_image_itself(summarizer, tmp_path, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    image = picture(5).convert("RGBA")
    # Over white it is another image than without its transparency.
    image.putalpha(picture(6, mode="L"))
    image.save(tmp_path / "a.png")
    assert summarizer({"text": SENTENCES[0], "images": [image.convert("RGB")]}) != summarizer(
        {"text": SENTENCES[0], "images": [image]}
    )
    expected = summarizer({"text": SENTENCES[0], "images": [image]})
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=tmp_path)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            for source in (
                tmp_path / "a.png",
                str(tmp_path / "a.png"),
                f"http://127.0.0.1:{server.server_port}/a.png",
            ):
                assert summarizer({"text": SENTENCES[0], "images": [source]}) == expected
            with pytest.raises(ValueError, match="image 0 .*nothing.png.* cannot be read"):
                summarizer({"text": "a", "images": [f"http://127.0.0.1:{server.server_port}/nothing.png"]})
        finally:
            server.shutdown()
            thread.join()
    assert summarizer({"text": SENTENCES[0], "images": [Image.new("RGB", (9, 9))]}) != expected


def special_images(folder):
    """A file of each kind whose pixels are easily misread, by name."""
    noise = picture(21, (40, 30))
    hidden = noise.convert("RGBA")
    hidden.putalpha(picture(22, (40, 30), "L").point(lambda value: 255 * (value > 128)))
    grey = Image.fromarray(np.arange(0, 1200 * 50, 50, dtype=np.uint16).reshape(30, 40))
    few = noise.quantize(8)
    few.info["transparency"] = bytes([0, 255, 0, 255, 90, 255, 0, 255])
    exif = Image.Exif()
    exif[0x0112] = 6
    made = {
        "ordinary.jpg": (noise, {}),
        "ordinary.png": (noise, {}),
        "transparent.png": (hidden, {}),
        "grey_alpha.png": (hidden.convert("LA"), {}),
        "sixteen_bit.png": (grey, {}),
        "palette.png": (few, {}),
        "cmyk.jpg": (noise.convert("CMYK"), {}),
        "turned.jpg": (noise, {"exif": exif}),
        "large.jpg": (picture(23, (300, 200)).resize((1500, 1000)), {}),
    }
    for name, (image, options) in made.items():
        image.save(folder / name, **options)
    return [folder / name for name in made]


def test_the_pipeline_and_the_command_lines_summarizer_agree(loaded, tmp_path):
    """On the pixels that a file is read as, and so on everything."""
    model, processor = loaded
    summarizer = MultimodalSummarizationPipeline(model, processor, max_new_tokens=NEW_TOKENS)
    documents = Summarizer(LoadedModel(model, processor, trained=True), SummaryOptions(max_new_tokens=NEW_TOKENS))
    probabilities = {}
    for path in special_images(tmp_path):
        other = tmp_path / "ordinary.png"
        images = [DocumentImage(file.name, "", open_local_image(file)) for file in (path, other)]
        expected = documents.summarize(Document("a", "a.md", "Harbour", SENTENCES[0], images))
        content = path.read_bytes()
        uri = f"data:image/{path.suffix[1:]};base64,{base64.b64encode(content).decode()}"
        with Image.open(path) as opened:
            for source in (path, str(path), opened, uri, base64.b64encode(content).decode()):
                article = {"text": SENTENCES[0], "title": "Harbour", "images": [source, other]}
                result = summarizer(article, return_evidence=True)
                assert result["summary_text"] == expected.summary
                assert result["image_probabilities"] == expected.probabilities
                assert [image["index"] for image in result["selected_images"]] == expected.selected
                assert [tuple(entry.values()) for entry in result["evidence"]] == [
                    (entry.sentence, entry.image_weights) for entry in expected.evidence
                ]
        probabilities[path.name] = expected.probabilities[0]
    # What a file is not read as: its hidden colours, and white.
    for name, wrong in (("transparent.png", other), ("sixteen_bit.png", Image.new("RGB", (40, 30), "white"))):
        result = summarizer({"text": SENTENCES[0], "title": "Harbour", "images": [wrong, other]})
        assert abs(result["image_probabilities"][0] - probabilities[name]) > 1e-3


def test_an_image_is_waited_for_as_long_as_asked(summarizer, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    released = threading.Event()

    class Slow(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            released.wait(30)

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Slow) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            start = time.monotonic()
            with pytest.raises(ValueError, match="image 0 .*slow.png.* cannot be read: timed out"):
                summarizer({"text": "a", "images": [f"http://127.0.0.1:{server.server_port}/slow.png"]}, timeout=0.2)
            assert time.monotonic() - start < 10
        finally:
            released.set()
            server.shutdown()
            thread.join()
