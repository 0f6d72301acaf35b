"""`spectra-sum summarize --stream`: the text on standard error while it is written, and standard output as without it."""

import io

import pytest

from spectra_sum.documents.parts import Document
from spectra_sum.summaries.watching.live_text import LiveText
from tests import tiny
from tests.forced_texts import force_texts
from tests.spectra_sum.commands.conftest import run

TEXT = "The harbour reopened.\n\nTwo bridges \x1b[31mwere closed until the"


def test_the_text_comes_on_standard_error_and_the_output_stays(place, model_folder, monkeypatch, capsys):
    force_texts(monkeypatch, tiny.tiny_tokenizer(), [TEXT])
    arguments = ("doc.md", "note.txt", "empty.md", "--model", model_folder, "--max-new-tokens", 200)
    assert run(*arguments) == 1
    out, err = capsys.readouterr()
    assert run(*arguments, "--stream") == 1
    streamed_out, streamed_err = capsys.readouterr()
    assert streamed_out == out and "The harbour reopened." in out
    shown = TEXT.replace("\x1b", "\ufffd")
    assert err.startswith("spectra-sum: error: empty.md")
    assert streamed_err == f"{err}doc.md:\n{shown}\n\nnote.txt:\n{shown}\n\n"


class Written(io.StringIO):
    encoding = "ascii"

    def __init__(self):
        super().__init__()
        self.flushed = []

    def flush(self):
        self.flushed.append(self.getvalue())


def test_each_piece_is_seen_at_once():
    file = Written()
    with LiveText(Document("d", "d.md", "", "Body."), file) as live:
        for piece in ("One ", "süß\n", "end"):
            live.text(piece)
    assert file.flushed == [
        "d.md:\n",
        "d.md:\nOne ",
        "d.md:\nOne s??\n",
        *[f"d.md:\nOne s??\nend{end}" for end in ("", "\n\n")],
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--batch-size", "2"],
            "--stream shows one text after another; leave --batch-size (2) at 1, or --stream out.",
        ),
        (["--num-beams", "3"], "--stream shows one text after another; leave --num-beams (3) at 1, or --stream out."),
        ([], "--stream shows how a model writes; name a --model, pass --mode write, or leave it out."),
        (
            ["--mode", "extractive"],
            "--stream shows how a model writes; name a --model, pass --mode write, or leave it",
        ),
    ],
)
def test_what_cannot_be_streamed_is_refused(place, model_folder, no_loading, capsys, arguments, message):
    model = ["--model", model_folder] if arguments[:1] in (["--batch-size"], ["--num-beams"]) else []
    assert run("doc.md", "--stream", *arguments, *model) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith(f"spectra-sum: error: {message}") and err.count("\n") == 1
