"""Summaries of the app by a summarizer, which takes models that no pipeline has."""

from dataclasses import asdict

from spectra_sum.documents.parts import Document
from spectra_sum.summaries.options import CAPTIONS
from spectra_sum.summaries.summarizer import Summarizer
from spectra_sum.summaries.watching.watcher import Watcher

from .settings import DEFAULT_LENGTH, RequestSettings, SettingChoices, lengths_within
from .writer import Pieces, Writer, Written


class SummarizerWriter(Writer):
    """
    Writes with a summarizer.

    Args:
        summarizer (`Summarizer`): With the options that hold where a request has no others.
    """

    def __init__(self, summarizer: Summarizer):
        self.summarizer = summarizer
        own = summarizer.processor.captions
        self.choices = SettingChoices(
            lengths_within(summarizer.model.config.text_config.max_position_embeddings),
            (own, *(way for way in CAPTIONS if way != own)),
            summarizer.options.max_new_tokens,
            summarizer.options.num_beams,
        )

    def write(self, article: Document, settings: RequestSettings, pieces: Pieces | None = None) -> Written:
        """
        Summarizes an article.

        Raises:
            DocumentError: The title leaves no room for the body.
            ModelError: The sentence encoder is needed, and cannot be loaded.
        """
        watcher = None if pieces is None else _PiecesWatcher(pieces)
        summary = self._with(settings).summarize(article, watcher)
        result = {
            "summary_text": summary.summary,
            "selected_images": [
                {"index": index, "probability": summary.probabilities[index]} for index in summary.selected
            ],
            "image_probabilities": summary.probabilities,
            "image_scores": summary.scores,
            "evidence": [
                {"sentence": entry.sentence, "image_weights": entry.image_weights} for entry in summary.evidence
            ],
            "sentences": [asdict(sentence) for sentence in summary.sentences],
        }
        return Written(result, [str(problem) for problem in summary.problems])

    def _with(self, settings: RequestSettings) -> Summarizer:
        if settings == self.choices.defaults:
            return self.summarizer
        changes = {"num_beams": settings.num_beams}
        if settings.length != DEFAULT_LENGTH:
            changes["max_new_tokens"] = self.choices.lengths[settings.length]
        if settings.captions != self.choices.captions[0]:
            changes["captions"] = settings.captions
        return self.summarizer.with_options(**changes)


class _PiecesWatcher(Watcher):
    def __init__(self, pieces: Pieces):
        self._pieces = pieces

    def text(self, piece: str) -> None:
        self._pieces.put(piece)

    def stopped(self) -> bool:
        return self._pieces.unwanted
