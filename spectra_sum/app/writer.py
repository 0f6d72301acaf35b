"""What the app needs of whatever writes its summaries, and text on its way from there to the page."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue
from typing import Any, NamedTuple, TypeVar

from spectra_sum.documents.parts import Document

from .settings import RequestSettings, SettingChoices

T = TypeVar("T")


class Pieces:
    """
    Text between two threads.

    Attributes:
        unwanted (`bool`): Whether nobody waits for it any more, as a visitor has gone: who writes may stop.
    """

    def __init__(self) -> None:
        self.unwanted = False
        self._queue: SimpleQueue[str | None] = SimpleQueue()

    def put(self, piece: str) -> None:
        """Takes what was written next."""
        self._queue.put(piece)

    def end(self) -> None:
        """Nothing more will come."""
        self._queue.put(None)

    def take(self) -> str | None:
        """All that has come since, as soon as there is any; `None` after the end."""
        piece = self._queue.get()
        while piece is not None and not self._queue.empty():
            more = self._queue.get()
            if more is None:
                self.end()
                break
            piece += more
        return piece


class Written(NamedTuple):
    """
    What was made of an article.

    Attributes:
        result (`dict`): As the `multimodal-summarization` pipeline returns it, evidence included. There may also be
            `"image_scores"`, what the images were ranked by where that is no probability, and `"sentences"`, each with
            `"text"`, `"origin"` and its selected `"images"`.
        remarks (`list[str]`): What must be known of it and of the model.
    """

    result: dict[str, Any]
    remarks: list[str]


class Writer(ABC):
    """
    Writes summaries, one at a time.

    Attributes:
        choices (`SettingChoices`): The settings that it offers.
    """

    choices: SettingChoices

    @abstractmethod
    def write(self, article: Document, settings: RequestSettings, pieces: Pieces | None = None) -> Written:
        """
        Summarizes an article.

        Args:
            article (`Document`): The article.
            settings (`RequestSettings`): Some that are offered.
            pieces (`Pieces`, *optional*): Are given the raw text while it is written, if it can be told.

        Raises:
            ValueError: It cannot be summarized; the message is for the visitor.
        """


def as_it_comes(write: Callable[[Pieces], T], show: Callable[[str], str]) -> Generator[str, None, T]:
    """
    Runs a function in a thread of its own; yields its text so far, shown, whenever there is more, and returns its result.
    Closed early, it tells the function that its text is unwanted, and waits for it: none is left running.
    """
    pieces = Pieces()
    with ThreadPoolExecutor(1) as thread:
        future = thread.submit(write, pieces)
        future.add_done_callback(lambda _: pieces.end())
        try:
            text = ""
            while (piece := pieces.take()) is not None:
                text += piece
                yield show(text)
            return future.result()
        finally:
            pieces.unwanted = True
