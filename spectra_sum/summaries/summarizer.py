"""From documents to their multimodal summaries: text, ranked images, and what each sentence attended to."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from transformers import BatchFeature

from modeling_spectra.summarization import (
    GeneratedSummary,
    ReadTokens,
    end_token_ids,
    generate_summaries,
    prepare_articles,
    sentence_evidence,
    text_length_limit,
)

from ..documents.parts import Document, DocumentError, Problem
from ..extraction.body_sentences import body_sentences
from ..extraction.extract import extract
from ..models.kinds import SPECTRA_SUM
from ..models.loaded import LoadedModel
from ..report.contents import SentenceEvidence
from ..seeds import stable_seed
from ..selection.after_summary import EVERY_IMAGE, ImageRanker, JointEmbeddings
from ..sentences import split_sentences
from .degenerate import repetition
from .document_summary import DocumentSummary, TokenCounts
from .grounding import grounded, grounded_text
from .long_documents import Reading, count_tokens, read_for
from .on_demand.encoder import EncoderOnDemand
from .options import OptionsError, SummaryOptions
from .ranking_remarks import ranking_remarks
from .remarks import model_remarks, predictor_is_trained, summary_remarks
from .summary_sentences import EXTRACTED, WRITTEN, SummarySentence, origin_remarks, sentences_by_attention
from .trimming import trimmed
from .watching.followed_rows import FollowedRow, following
from .watching.standing_text import SupportCheck
from .watching.watcher import StopsOnly, Watcher, WritingStopped

if TYPE_CHECKING:
    from ..models.text_encoder import TextEncoder

# Of extracts; a model's own configuration says how many it selects.
SELECTED_IMAGES = 3
_DECODING = ("num_beams", "do_sample", "temperature", "top_p", "repetition_penalty", "no_repeat_ngram_size")


@dataclass
class _Draft:
    """A text before its images are selected; `selected` is `None` where the finished summary decides."""

    text: str
    sentences: list[SummarySentence]
    problems: list[Problem]
    evidence: list[SentenceEvidence] = field(default_factory=list)
    probabilities: list[float | None] = field(default_factory=list)
    selected: list[int] | None = None
    tokens: TokenCounts | None = None


class Summarizer:
    """
    Summarizes documents, one at a time or in batches.

    Args:
        loaded (`LoadedModel`, *optional*):
            Model and processor; the model is moved to the GPU if there is one. `None` for extracts, which need none.
        options (`SummaryOptions`, *optional*):
            How it summarizes; `summarizer.options` has the model's defaults filled in.
        text_encoder (`TextEncoder`, *optional*):
            Finds the sentences that carry a document, and compares image texts with the summary. By default
            all-MiniLM-L6-v2, which is loaded when a document needs it.
        ranker (`ImageRanker`, *optional*):
            Selects images by the finished summary. By default one of the way of `options.select`, of the text encoder and
            of `vision`.
        vision (`DualEncoder`, *optional*):
            Lets that ranker see images; without it, it reads their captions and alternative texts alone.
        pixels (`str`, *optional*, defaults to `"every_image"`):
            Which images `vision` ranks, as of [`ImageRanker`]. With `"without_texts"` it stays unused where the model's own
            predictor selects.

    Raises:
        OptionsError: The model cannot do what the options ask for.
    """

    def __init__(
        self,
        loaded: LoadedModel | None,
        options: SummaryOptions | None = None,
        text_encoder: "TextEncoder | EncoderOnDemand | None" = None,
        ranker: ImageRanker | None = None,
        *,
        vision: JointEmbeddings | None = None,
        pixels: str = EVERY_IMAGE,
    ):
        options = options or SummaryOptions()
        if (loaded is None) != (options.mode == "extractive"):
            raise OptionsError("`mode` write needs a model, and extractive takes none.")
        trained = loaded is not None and loaded.kind == SPECTRA_SUM and loaded.trained
        ranks = trained and predictor_is_trained(loaded.model.config)
        self.options = options.filled(trained=trained, ranks=ranks)
        if vision is not None and pixels == EVERY_IMAGE and self.options.select == "vrp":
            raise OptionsError("`vision` ranks images by the finished summary, `select` vrp by the model; choose one.")
        self.text_encoder = text_encoder or EncoderOnDemand()
        self.loaded = loaded
        if loaded is not None:
            self.model = loaded.model.to("cuda" if torch.cuda.is_available() else "cpu")
            self.processor = copy.copy(loaded.processor)
            self.processor.captions = self.options.captions or loaded.processor.captions
            self.loaded = loaded._replace(processor=self.processor)
        count = SELECTED_IMAGES if loaded is None else loaded.model.config.max_selected_images
        self.ranker = ranker
        if ranker is None and self.options.select != "vrp":
            self.ranker = ImageRanker(self.text_encoder, vision, self.options.select, count, pixels=pixels)

    def with_options(self, **changes: Any) -> "Summarizer":
        """
        One with the same model, encoders and ranker and with other options.

        Args:
            changes: Fields of [`SummaryOptions`] but `mode` and `select`; the others stay as they are here.

        Raises:
            OptionsError: The model cannot do what the options ask for.
        """
        return Summarizer(self.loaded, replace(self.options, **changes), self.text_encoder, self.ranker)

    def summarize(self, document: Document, watcher: Watcher | None = None) -> DocumentSummary:
        """
        Summarizes a document and ranks its images.

        Args:
            document (`Document`): The document.
            watcher (`Watcher`, *optional*): Follows the writing, and may stop it.

        Raises:
            DocumentError: The title leaves no room for the body within the model's length.
            WritingStopped: The watcher stopped it.
            ModelError: The sentence encoder is needed, and cannot be loaded.
        """
        [result] = self.summarize_batch([document], [watcher])
        if isinstance(result, DocumentError):
            raise result
        return result

    @torch.no_grad()
    def summarize_batch(
        self, documents: Sequence[Document], watchers: Sequence[Watcher | None] | None = None
    ) -> list[DocumentSummary | DocumentError]:
        """
        Summarizes documents that are written at once; each gets the summary that it gets alone, up to rounding. Sampled
        ones are written one by one.

        Args:
            documents (`Sequence[Document]`): The documents.
            watchers (`Sequence[Watcher | None]`, *optional*): Per document who follows its writing, and may stop it.

        Returns:
            Per document its summary, or the error that keeps it from having one: [`WritingStopped`] where its watcher stopped
            it.

        Raises:
            ModelError: The sentence encoder is needed, and cannot be loaded.
        """
        watchers = [None] * len(documents) if watchers is None else watchers
        if len(watchers) != len(documents):
            raise ValueError(
                f"there are {len(documents)} documents and {len(watchers)} `watchers`; give one for each."
            )
        make = self._extracts if self.loaded is None else self._written
        drafts = make(documents, watchers)
        return [
            draft if isinstance(draft, DocumentError) else self._finished(document, draft)
            for document, draft in zip(documents, drafts, strict=True)
        ]

    def _extracts(
        self, documents: Sequence[Document], watchers: Sequence[Watcher | None]
    ) -> list[_Draft | DocumentError]:
        drafts = []
        for document, watcher in zip(documents, watchers, strict=True):
            if watcher is not None and watcher.stopped():
                drafts.append(_stopped(document))
                continue
            own = self._own_sentences(document)
            drafts.append(_Draft(" ".join(own), [SummarySentence(text, EXTRACTED) for text in own], []))
            if watcher is not None:
                FollowedRow(watcher).finish(drafts[-1].text)
        return drafts

    def _own_sentences(self, document: Document) -> list[str]:
        """The sentences that carry the document, as many as a summary may have."""
        if self.loaded is None:
            budget, size = self.options.extract_words, lambda text: len(text.split())
        else:
            budget, size = self.options.max_new_tokens, lambda text: count_tokens(self.processor, text)
        return extract(document.body, self.text_encoder, budget, size, headings=False).sentences

    def _written(
        self, documents: Sequence[Document], watchers: Sequence[Watcher | None]
    ) -> list[_Draft | DocumentError]:
        drafts: dict[int, _Draft | DocumentError] = {}
        readings: dict[int, Reading] = {}
        at_once = 1 if self.options.do_sample else len(documents)
        for index, (document, watcher) in enumerate(zip(documents, watchers, strict=True)):
            # A long document takes seconds to read, which those behind it would wait for.
            if watcher is not None and watcher.stopped():
                drafts[index] = _stopped(document)
                continue
            summarize_parts = partial(self._summaries_of_parts, at_once=at_once, watcher=watcher)
            try:
                readings[index] = read_for(self.loaded, document, self.options, self.text_encoder, summarize_parts)
            except DocumentError as error:
                drafts[index] = error
        # What is sampled in a batch would depend on the batch.
        groups = [[index] for index in readings] if self.options.do_sample else [list(readings)] if readings else []
        for group in groups:
            written = self._write(*([column[index] for index in group] for column in (documents, readings, watchers)))
            drafts.update(zip(group, written, strict=True))
        return [drafts[index] for index in range(len(documents))]

    def _summaries_of_parts(self, parts: Sequence[Document], at_once: int, watcher: Watcher | None) -> list[str]:
        """What the model writes of each part; where that repeats itself, the sentences that carry the part."""
        texts = []
        stops = None if watcher is None else StopsOnly(watcher)
        for start in range(0, len(parts), at_once):
            group = parts[start : start + at_once]
            readings = [
                Reading(part.body, [one.text for one in body_sentences(part.body)], [], [], []) for part in group
            ]
            for part, draft in zip(group, self._write(group, readings, [stops] * len(group)), strict=True):
                if isinstance(draft, DocumentError):
                    raise draft
                degenerate = not draft.text or repetition(draft.text) is not None
                texts.append(" ".join(self._own_sentences(part)) if degenerate else draft.text)
        return texts

    def _write(
        self, documents: Sequence[Document], readings: Sequence[Reading], watchers: Sequence[Watcher | None]
    ) -> list[_Draft | DocumentError]:
        limit = self.options.max_new_tokens
        try:
            inputs, read = prepare_articles(
                self.model,
                self.processor,
                [reading.body for reading in readings],
                [document.title for document in documents],
                [reading.images for reading in readings],
                limit,
                captions=[reading.captions for reading in readings] if self.processor.reads_captions else None,
            )
        except ValueError as error:
            if len(documents) == 1:
                return [DocumentError(f"{documents[0].source}: {error}")]
            rows = zip(documents, readings, watchers, strict=True)
            return [draft for row in rows for draft in self._write(*([entry] for entry in row))]
        followed = [
            None if watcher is None else self._followed(watcher, reading)
            for watcher, reading in zip(watchers, readings, strict=True)
        ]
        summaries = self._generate(documents, inputs, followed)
        selection = None
        if self.options.select == "vrp":
            selection = self.model.select_images(**inputs, threshold=self.options.threshold)
        drafts = []
        for row, (document, reading, summary) in enumerate(zip(documents, readings, summaries, strict=True)):
            if followed[row] is not None and followed[row].stopped:
                drafts.append(_stopped(document))
                continue
            own = BatchFeature({name: values[row : row + 1] for name, values in inputs.items()})
            draft = self._draft(document, reading, own, summary)
            draft.problems[:0] = self._cut_remarks(document, reading, read[row])
            if selection is not None:
                scored = len(reading.images)
                beyond = [None] * (len(document.images) - scored)
                draft.selected = selection.indices[row]
                draft.probabilities = selection.probabilities[row, :scored].tolist() + beyond
            if followed[row] is not None:
                followed[row].finish(draft.text)
            drafts.append(draft)
        return drafts

    def _followed(self, watcher: Watcher, reading: Reading) -> FollowedRow:
        threshold = self.loaded.support_threshold
        check = None if threshold is None else SupportCheck(reading.sentences, self.text_encoder, threshold)
        return FollowedRow(watcher, check)

    def _cut_remarks(self, document: Document, reading: Reading, read: ReadTokens) -> list[Problem]:
        problems = []
        whole, cut = read.whole, read.cut
        if read.cut_captions:
            # Of the tokens that were cut some are theirs.
            limit = text_length_limit(self.model, self.processor, len(reading.images), self.options.max_new_tokens)
            whole = self.processor.num_text_tokens(reading.body, document.title, len(reading.images))
            cut = whole - limit
            noun = "1 caption was" if read.cut_captions == 1 else f"{read.cut_captions} captions were"
            problems.append(Problem("captions_cut", f"{noun} not read with the text, for want of room"))
        if cut > 0:
            problems.append(Problem("body_cut", f"the last {cut} of its {whole} text tokens were not read"))
        return problems

    def _generate(
        self, documents: Sequence[Document], inputs: BatchFeature, followed: Sequence[FollowedRow | None]
    ) -> list[GeneratedSummary]:
        options = self.options
        tokenizer = self.processor.tokenizer
        ends = end_token_ids(self.model.generation_config, tokenizer)
        arguments = {name: getattr(options, name) for name in _DECODING}
        arguments |= following(followed, tokenizer, ends, options.num_beams)
        if not options.do_sample:
            return generate_summaries(self.model, tokenizer, inputs, options.max_new_tokens, **arguments)
        [document] = documents
        with torch.random.fork_rng():
            torch.manual_seed(stable_seed(options.seed, document.title, document.body))
            return generate_summaries(self.model, tokenizer, inputs, options.max_new_tokens, **arguments)

    def _draft(self, document: Document, reading: Reading, inputs: BatchFeature, summary: GeneratedSummary) -> _Draft:
        tokenizer = self.processor.tokenizer
        problems = [*reading.problems, *model_remarks(self.model.config, tokenizer, with_images=False)]
        text = summary.text.strip()
        if not summary.ended:
            whole = trimmed(text)
            reason = f"the summary was stopped at {self.options.max_new_tokens} tokens"
            text, end = (text, "before its first sentence ended") if whole is None else (whole, "")
            end = end or "and ends with its last whole sentence"
            problems.append(Problem("summary_cut", f"{reason}, {end}"))
        entries = sentence_evidence(self.model, tokenizer, inputs, summary, len(document.images))
        written = split_sentences(text)
        evidence = [SentenceEvidence(*entry) for entry in entries[: len(written)]]
        tokens = TokenCounts(int(inputs["attention_mask"].sum()), len(summary.tokens) + summary.ended)
        if self.loaded.support_threshold is None:
            problems += summary_remarks(text)
            return _Draft(text, [SummarySentence(one) for one in written], problems, evidence, tokens=tokens)
        sentences, remarks = grounded(
            text,
            written,
            reading.sentences,
            lambda: self._own_sentences(document),
            self.text_encoder,
            self.loaded.support_threshold,
        )
        if [sentence.text for sentence in sentences] != written:
            text = grounded_text(text, sentences)
            kept = {sentence.text for sentence in sentences if sentence.origin == WRITTEN}
            evidence = [entry for entry in evidence if entry.sentence in kept]
        problems += remarks
        return _Draft(text, sentences, problems, evidence, tokens=tokens)

    def _finished(self, document: Document, draft: _Draft) -> DocumentSummary:
        images, sentences = document.images, draft.sentences
        selected, scores, places = draft.selected, draft.probabilities, [None] * len(images)
        problems = [*draft.problems, *origin_remarks(sentences)]
        if selected is not None:
            by_text = {sentence.text: place for place, sentence in reversed(list(enumerate(sentences)))}
            for image, entry in enumerate(sentences_by_attention(draft.evidence, len(images))):
                places[image] = None if entry is None else by_text[draft.evidence[entry].sentence]
        elif images and sentences:
            ranking = self.ranker.rank(
                [sentence.text for sentence in sentences],
                [image.image for image in images],
                [image.caption for image in images],
                [image.alt for image in images],
            )
            selected, scores, places = ranking.selected, ranking.scores, ranking.sentences
            problems += ranking_remarks(ranking, self.ranker.pixels)
        else:
            selected, scores = [], [None] * len(images)
        for image in selected:
            if places[image] is not None:
                sentences[places[image]].images.append(image)
        return DocumentSummary(
            draft.text,
            selected,
            draft.probabilities or [None] * len(images),
            draft.evidence,
            problems,
            sentences,
            scores,
            places,
            draft.tokens,
        )


def _stopped(document: Document) -> WritingStopped:
    return WritingStopped(f"{document.source}: its writing was stopped.")
