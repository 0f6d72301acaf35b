"""The rows of a batch, each followed by itself while `generate` writes them together."""

from collections.abc import Callable, Collection, Sequence
from typing import Any

import torch
from transformers import PreTrainedTokenizerBase, StoppingCriteria, StoppingCriteriaList, TextStreamer
from transformers.generation.streamers import BaseStreamer

from .standing_text import StandingText
from .watcher import Watcher


class FollowedRow:
    """
    A summary on its way, and who watches it.

    Args:
        watcher (`Watcher`): Who does.
        supported (`Callable`, *optional*): Of its [`StandingText`].
    """

    def __init__(self, watcher: Watcher, supported: Callable[[str], bool] | None = None):
        self.watcher = watcher
        self.stopped = False
        self._standing = StandingText(watcher.standing, supported)

    def take(self, piece: str) -> None:
        """Tells the watcher what was written; nothing more once it has stopped the writing."""
        if piece and not self.stopped:
            self.watcher.text(piece)
            self._standing.add(piece)

    def finish(self, summary: str) -> None:
        """Tells the watcher the rest of the finished summary."""
        if self.watcher.follows_text:
            self._standing.finish(summary)

    def is_stopped(self) -> bool:
        """Whether the watcher stops the writing now, or has done so before."""
        self.stopped = self.stopped or self.watcher.stopped()
        return self.stopped


class RowStreamer(BaseStreamer):
    """
    Splits what `generate` puts, tokens (B,) at each step, onto one transformers' `TextStreamer` for each row that somebody
    follows. The pieces of a row, joined, are its text up to its end token.

    Args:
        tokenizer (`PreTrainedTokenizerBase`): Decodes the tokens.
        ends (`Collection[int]`): Tokens that end a row.
        rows (`Sequence[FollowedRow | None]` of length B): Who follows; `None` for nobody.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, ends: Collection[int], rows: Sequence[FollowedRow | None]):
        self._ends = frozenset(ends)
        self._open = {
            index: _PieceStreamer(tokenizer, row.take)
            for index, row in enumerate(rows)
            if row is not None and row.watcher.follows_text
        }
        self._at_prompt = True

    def put(self, value: torch.Tensor) -> None:
        """Takes the prompts (B, P), then the tokens (B,) of each step; a row that has ended is padded."""
        if self._at_prompt:
            self._at_prompt = False
            return
        for index, streamer in list(self._open.items()):
            token = value[index : index + 1]
            if token.item() in self._ends:
                self._open.pop(index).end()
            else:
                streamer.put(token)

    def end(self) -> None:
        """Tells the rest of the rows that have not ended."""
        while self._open:
            self._open.popitem()[1].end()


class _PieceStreamer(TextStreamer):
    """Calls a function in the place of printing."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, take: Callable[[str], None]):
        super().__init__(tokenizer, skip_special_tokens=True)
        self._take = take

    def on_finalized_text(self, text: str, stream_end: bool = False) -> None:
        self._take(text)


class RowStops(StoppingCriteria):
    """
    Stops each row when its watcher says so; those beside it go on.

    Args:
        rows (`Sequence[FollowedRow | None]` of length B): Who follows; `None` for nobody.
        ends (`Collection[int]`): Tokens that end a row, whose watcher is not asked any more.
    """

    def __init__(self, rows: Sequence[FollowedRow | None], ends: Collection[int]):
        self._rows = rows
        self._ends = frozenset(ends)
        self._ended = [False] * len(rows)

    def __call__(self, input_ids: torch.LongTensor, scores: Any, **kwargs: Any) -> torch.BoolTensor:
        """Whether each of the sequences (B·K, T) stops, K of a row one after another where beams are searched."""
        beams = len(input_ids) // len(self._rows)
        if beams == 1:
            last = input_ids[:, -1].tolist()
            self._ended = [ended or token in self._ends for ended, token in zip(self._ended, last, strict=True)]
        stops = [
            row is not None and not ended and row.is_stopped()
            for row, ended in zip(self._rows, self._ended, strict=True)
        ]
        return torch.tensor(stops, device=input_ids.device).repeat_interleave(beams)


def following(
    rows: Sequence[FollowedRow | None], tokenizer: PreTrainedTokenizerBase, ends: Collection[int], num_beams: int
) -> dict[str, Any]:
    """
    Arguments of [`~modeling_spectra.summarization.generate_summaries`] by which the rows are followed; none where nobody
    does. Beams have no streamer.
    """
    arguments: dict[str, Any] = {}
    if any(row is not None for row in rows):
        arguments["stopping_criteria"] = StoppingCriteriaList([RowStops(rows, ends)])
    if num_beams == 1 and any(row is not None and row.watcher.follows_text for row in rows):
        arguments["streamer"] = RowStreamer(tokenizer, ends, rows)
    return arguments
