"""Who follows the writing of a summary, and may stop it."""

from ...documents.parts import DocumentError


class WritingStopped(DocumentError):
    """The result of a document whose [`Watcher`] stopped its writing."""


class Watcher:
    """
    Follows the writing of one summary; this one does nothing, and its subclasses override what they need. All methods are
    called from the thread that writes, and what they raise ends the whole batch.

    Attributes:
        follows_text (`bool`, defaults to `True`): Whether `text` and `standing` are called at all; without them nothing is
            decoded and checked on the way.
    """

    follows_text: bool = True

    def text(self, piece: str) -> None:
        """
        Takes text as the model writes it, in whole words. It is raw: sentences without support, or one that is not finished
        at the limit, may not be in the summary. Beams and extracts have none.
        """

    def standing(self, piece: str) -> None:
        """
        Takes text that the summary begins with for certain. Joined, the pieces are the summary, or its beginning where the
        finished text turns out to be degenerate. Beams and extracts come in one piece.
        """

    def stopped(self) -> bool:
        """
        Whether to stop the writing; asked before the document is read and after each token, until the summary ends. Once is
        enough. An extract is made in one go, and asks before.
        """
        return False


class StopsOnly(Watcher):
    """
    Hands on whether another watcher stops, and no text: that of a document's parts is not the summary's.

    Args:
        watcher (`Watcher`): The other one.
    """

    follows_text = False

    def __init__(self, watcher: Watcher):
        self._watcher = watcher

    def stopped(self) -> bool:
        """Whether the other one stops."""
        return self._watcher.stopped()
