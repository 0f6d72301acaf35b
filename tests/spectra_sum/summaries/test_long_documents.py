"""What is read of documents that do not fit, and summaries that are extracts."""

import pytest

from modeling_spectra.summarization import text_length_limit
from spectra_sum.documents.parts import DocumentError
from spectra_sum.sentences import split_sentences
from spectra_sum.summaries.long_documents import count_tokens, read_for
from spectra_sum.summaries.options import OptionsError, SummaryOptions
from spectra_sum.summaries.summarizer import Summarizer
from tests.hashing_encoder import HashingEncoder
from tests.spectra_sum.summaries.setup import SENTENCES, document, kinds, loaded_model

# 40 sentences; the tiny model reads 512 tokens.
LONG = "\n\n".join(" ".join(f"{sentence[:-1]} on day {day}." for sentence in SENTENCES) for day in range(8))


def filled(**options):
    return SummaryOptions(max_new_tokens=8, **options).filled(trained=False, ranks=False)


@pytest.fixture(scope="module")
def loaded():
    return loaded_model(trained=False, kind="causal")


def test_a_long_document_is_reduced_to_what_fits(loaded):
    encoder = HashingEncoder()
    reading = read_for(loaded, document(LONG), filled(captions="none"), encoder)
    limit = text_length_limit(loaded.model, loaded.processor, 0, 8)
    assert loaded.processor.num_text_tokens(LONG, "A title") > limit
    used = loaded.processor.num_text_tokens(reading.body, "A title")
    # Full: no sentence of the document would fit any more.
    shortest = min(count_tokens(loaded.processor, sentence) for sentence in split_sentences(LONG))
    assert limit - shortest - 2 <= used <= limit
    whole = split_sentences(LONG)
    places = [whole.index(sentence) for sentence in reading.sentences]
    assert places == sorted(set(places)) and split_sentences(reading.body) == reading.sentences
    assert [str(problem) for problem in reading.problems] == [
        f"long document: {len(places)} of its 40 sentences were read, chosen by centroid"
    ]


def test_the_summarizer_reads_all_of_the_extract(loaded):
    result = Summarizer(loaded, SummaryOptions(max_new_tokens=8), HashingEncoder()).summarize(document(LONG))
    assert "long_document" in kinds(result) and "body_cut" not in kinds(result)
    cut = Summarizer(loaded, SummaryOptions(max_new_tokens=8, long="cut"), HashingEncoder()).summarize(document(LONG))
    assert "body_cut" in kinds(cut) and "long_document" not in kinds(cut)


def test_a_document_that_fits_needs_no_encoder(loaded):
    encoder = HashingEncoder()
    given = document()
    reading = read_for(loaded, given, filled(), encoder)
    assert (reading.body, reading.problems, encoder.embedded) == (given.body, [], [])
    assert reading.sentences == SENTENCES


def test_captions_take_their_room_and_not_most_of_it(loaded):
    loaded = loaded._replace(processor=Summarizer(loaded).processor)
    assert loaded.processor.captions == "prompt"
    few = document(LONG, [("", "A ship in the harbour")] * 2)
    reading = read_for(loaded, few, filled(), HashingEncoder())
    assert reading.images == [] and reading.captions == ["A ship in the harbour"] * 2
    limit = text_length_limit(loaded.model, loaded.processor, 0, 8)
    arguments = (reading.body, "A title", 0, reading.captions)
    assert loaded.processor.num_text_tokens(*arguments) <= limit
    assert loaded.processor.num_caption_lines(*arguments, max_length=limit) == 2
    many = document(LONG, [("A quay by night", "")] * 60)
    reading = read_for(loaded, many, filled(), HashingEncoder())
    assert reading.captions == ["A quay by night"] * 60
    assert loaded.processor.num_text_tokens(reading.body, "A title") >= limit // 2 - 30
    result = Summarizer(loaded, SummaryOptions(max_new_tokens=8), HashingEncoder()).summarize(many)
    assert "captions_cut" in kinds(result) and "body_cut" not in kinds(result)


def test_a_model_that_was_trained_on_extracts_reads_extracts(loaded):
    small = loaded._replace(extract_words=30)
    reading = read_for(small, document(), filled(), HashingEncoder())
    assert 20 <= len(reading.body.split()) <= 30
    cut = read_for(small, document(), filled(long="cut"), HashingEncoder())
    assert cut.body == document().body


@pytest.mark.parametrize(
    "trained, kind, shown, problem",
    [
        (True, "spectra-sum", 6, "2 images after the first 6 are not scored"),
        (False, "llava-onevision", 3, "5 images after the first 3 are not shown to the model"),
        (False, "causal", 0, None),
    ],
)
def test_images_that_a_model_is_given(loaded, trained, kind, shown, problem):
    loaded = loaded._replace(trained=trained, kind=kind)
    options = SummaryOptions(max_new_tokens=8).filled(trained=trained, ranks=trained)
    reading = read_for(loaded, document(images=[("", "")] * 8), options, HashingEncoder())
    assert len(reading.images) == shown
    assert [each.detail for each in reading.problems] == ([problem] if problem else [])


def test_a_title_without_end_names_the_document(loaded):
    with pytest.raises(
        DocumentError, match=r"doc.md: the title leaves no room for the body within the model's \d+ tok"
    ):
        read_for(loaded, document(title="title " * 600), filled(), HashingEncoder())


def test_an_extract_is_the_documents_own_sentences_within_its_length():
    summarizer = Summarizer(None, SummaryOptions(mode="extractive", length="short"), HashingEncoder())
    result = summarizer.summarize(document(LONG, [("A damaged ship near the bridge", "")]))
    assert len(result.summary.split()) <= 45 < len(result.summary.split()) + 15
    assert [sentence.origin for sentence in result.sentences] == ["extracted"] * len(result.sentences)
    assert all(sentence.text in LONG for sentence in result.sentences)
    assert result.summary == " ".join(sentence.text for sentence in result.sentences)
    assert [str(problem) for problem in result.problems] == ["extracted: all sentences are the document's own"]
    assert result.selected == [0] and result.probabilities == [None] and result.evidence == []
    encoder, texts = HashingEncoder(), [sentence.text for sentence in result.sentences]
    cosines = encoder.embed(["A damaged ship near the bridge"]) @ encoder.embed(texts).T
    assert result.image_sentences == [int(cosines.argmax())]
    assert result.sentences[result.image_sentences[0]].images == [0]


def test_extracts_need_no_model_and_written_summaries_need_one(loaded):
    for arguments in ((None,), (loaded, SummaryOptions(mode="extractive"))):
        with pytest.raises(OptionsError, match="`mode` write needs a model, and extractive takes none"):
            Summarizer(*arguments)
