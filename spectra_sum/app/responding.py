"""What happens when a visitor presses the button, or a program asks: input in, a page's part or JSON out."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import gradio as gr

from spectra_sum.documents.parts import Document, DocumentError
from spectra_sum.errors import SpectraSumError

from ..uploads.article_input import Limits, read_article
from .settings import RequestSettings, SettingChoices
from .summary_json import summary_json
from .summary_view import render_error, render_summary, render_writing
from .writer import Writer, as_it_comes


class Asked(NamedTuple):
    """
    What a visitor or a program sends; `None` for what is left out.

    Attributes:
        title, text (`str`, *optional*): As they were pasted.
        document (`str`, *optional*): Path of an uploaded document.
        images (`list[str]`, *optional*): Paths of uploaded images.
        length (`str`, *optional*), num_beams (`int`, *optional*), captions (`str`, *optional*): As of [`RequestSettings`].
    """

    title: str | None
    text: str | None
    document: str | None
    images: list[str] | None
    length: str | None
    num_beams: int | None
    captions: str | None

    def read(self, choices: SettingChoices, limits: Limits) -> tuple[Document, RequestSettings]:
        """
        The article and the settings.

        Raises:
            DocumentError: Something is not offered, too long, too large or of the wrong type.
        """
        own = choices.defaults
        settings = RequestSettings(
            self.length or own.length,
            own.num_beams if self.num_beams is None else self.num_beams,
            self.captions or own.captions,
        )
        choices.check(settings)
        return read_article(self.title or "", self.text or "", self.document, self.images or [], limits), settings


def make_show(writer: Writer, limits: Limits) -> Callable[..., Iterator[str]]:
    """
    The function behind the button.

    Args:
        writer (`Writer`): Writes the summary.
        limits (`Limits`): What is accepted.

    Returns:
        A function of the fields of [`Asked`] that yields HTML: the text as it comes, and in the end the summary with what
        must be known of it and of the model, or a message that says why there is none.
    """

    # Programs know the arguments by these names, and may leave them out.
    def show(
        title: str | None = None,
        text: str | None = None,
        document: str | None = None,
        images: list[str] | None = None,
        length: str | None = None,
        num_beams: int | None = None,
        captions: str | None = None,
    ) -> Iterator[str]:
        try:
            asked = Asked(title, text, document, images, length, num_beams, captions)
            article, settings = asked.read(writer.choices, limits)
            shown = partial(render_writing, article.title)
            yield shown("")
            written = yield from as_it_comes(lambda pieces: writer.write(article, settings, pieces), shown)
        except ValueError as error:
            yield render_error(_message(error))
        else:
            yield render_summary(article, *written)

    return show


def make_answer(writer: Writer, limits: Limits) -> Callable[..., dict[str, Any]]:
    """
    The function that answers programs: of the same arguments [`summary_json`]. What is wrong with them is an error of
    Gradio, which clients get as one.
    """

    def answer(
        title: str | None = None,
        text: str | None = None,
        document: str | None = None,
        images: list[str] | None = None,
        length: str | None = None,
        num_beams: int | None = None,
        captions: str | None = None,
    ) -> dict[str, Any]:
        try:
            asked = Asked(title, text, document, images, length, num_beams, captions)
            article, settings = asked.read(writer.choices, limits)
            return summary_json(article, writer.write(article, settings))
        except ValueError as error:
            raise gr.Error(_message(error), print_exception=False) from None

    return answer


def _message(error: ValueError) -> str:
    if isinstance(error, DocumentError | SpectraSumError):
        return str(error)
    # Of a checked article a model refuses but one whose title leaves no room for the text.
    return f"The model cannot read this: {error}"
