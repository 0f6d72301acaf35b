"""What a visitor may set for a request, within what the model can do."""

from collections.abc import Mapping
from dataclasses import dataclass

from spectra_sum.documents.parts import DocumentError
from spectra_sum.summaries.options import LENGTHS

# The length that the app was started with.
DEFAULT_LENGTH = "default"
MOST_BEAMS = 4


@dataclass(frozen=True)
class RequestSettings:
    """
    The settings of a request.

    Args:
        length (`str`, *optional*, defaults to `"default"`): That, or a name of `LENGTHS`.
        num_beams (`int`, *optional*, defaults to `1`): Beams of the search; with more than one no text is shown on the way.
        captions (`str`, *optional*, defaults to `"none"`): `"prompt"`: captions, or else alternative texts, are read, too.
    """

    length: str = DEFAULT_LENGTH
    num_beams: int = 1
    captions: str = "none"


@dataclass(frozen=True)
class SettingChoices:
    """
    The settings that a model offers.

    Args:
        lengths (`Mapping[str, int]`): Tokens of each length by name, see [`lengths_within`].
        captions (`tuple[str, ...]`): Ways with captions, the one that is taken without a choice first.
        tokens (`int`, *optional*): Most tokens of a summary without a choice; `None`: as the model's pipeline has it.
        num_beams (`int`, *optional*, defaults to `1`): Beams without a choice.
    """

    lengths: Mapping[str, int]
    captions: tuple[str, ...]
    tokens: int | None = None
    num_beams: int = 1

    @property
    def defaults(self) -> RequestSettings:
        """The settings without a choice."""
        return RequestSettings(num_beams=self.num_beams, captions=self.captions[0])

    @property
    def most_beams(self) -> int:
        """Most beams of a request."""
        return max(MOST_BEAMS, self.num_beams)

    def check(self, settings: RequestSettings) -> None:
        """
        Holds a request to what is offered; a client need not use the page.

        Raises:
            DocumentError: One of its settings is not.
        """
        for name, value, choices in (
            ("length", settings.length, (DEFAULT_LENGTH, *self.lengths)),
            ("captions", settings.captions, self.captions),
        ):
            if value not in choices:
                raise DocumentError(f"The {name} must be one of {', '.join(choices)}, not {value!r}.")
        if settings.num_beams not in range(1, self.most_beams + 1):
            raise DocumentError(f"The beams must be from 1 to {self.most_beams}, not {settings.num_beams!r}.")


def lengths_within(positions: int) -> dict[str, int]:
    """The `LENGTHS` that leave half of a model's positions, or more, to the article."""
    return {name: tokens for name, tokens in LENGTHS.items() if 2 * tokens <= positions}
