"""What the tests of `spectra-sum summarize` share: a tiny model, a working folder with documents, and the command."""

import pytest
from PIL import Image
from transformers.utils import logging

from spectra_sum import cli
from spectra_sum.models.sources import ModelError
from tests import tiny
from tests.hashing_encoder import HashingEncoder


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    tiny.tiny_model(gate=0.8, vrp_context="article").save_pretrained(folder)
    tiny.tiny_processor(max_candidate_images=6).save_pretrained(folder)
    return str(folder)


@pytest.fixture(autouse=True)
def transformers_logging():
    """The command makes transformers quiet for its process; other tests share this one."""
    verbosity = logging.get_verbosity()
    yield
    logging.set_verbosity(verbosity)
    logging.enable_progress_bar()


@pytest.fixture(autouse=True)
def no_default_vision(monkeypatch):
    """Whether the packages of the default dual encoder are installed must not matter here."""

    def missing():
        raise ModelError("it is not installed")

    monkeypatch.setattr("spectra_sum.models.sources.find_efficientnet_lite0", missing)


@pytest.fixture
def place(tmp_path, monkeypatch):
    """The working folder: a document with two good images, a broken, a missing and a remote one."""
    for name, colour in (("red.png", "red"), ("blue.png", "blue")):
        Image.new("RGB", (32, 24), colour).save(tmp_path / name)
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n cut")
    (tmp_path / "doc.md").write_text(
        "# The harbour <b>\n\nIt reopened on Monday.\n\n![A red ship](red.png)\n![](broken.png)\n![](blue.png)\n"
        "![](none.png)\n![](https://example.org/x.png)\n"
    )
    (tmp_path / "note.txt").write_text("Only a few words.")
    (tmp_path / "empty.md").write_text("")
    (tmp_path / "pictures").mkdir()
    Image.new("RGB", (32, 24), "green").save(tmp_path / "pictures" / "green.png")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def hashing_encoder(monkeypatch):
    """The default sentence encoder counts words, and no package is needed."""
    encoder = HashingEncoder()
    monkeypatch.setattr("spectra_sum.models.text_encoder.load_text_encoder", lambda name: encoder)
    monkeypatch.setattr("spectra_sum.commands.summarize.check_text_encoder", lambda name: None)
    return encoder


@pytest.fixture
def no_loading(monkeypatch):
    """Fails the test when the command goes on to load a model."""

    def refuse(*args):
        raise AssertionError("a model was loaded before the input was checked")

    monkeypatch.setattr("spectra_sum.commands.summarize._load_summarizer", refuse)


def run(*arguments):
    return cli.main(["summarize", *map(str, arguments)])
