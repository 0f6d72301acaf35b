"""What of a written summary stands: supported sentences, and the document's own in the place of others."""

from spectra_sum.summaries.grounding import grounded, grounded_text
from tests.spectra_sum.extraction.written_vectors import WrittenDown

STORM, COST, ELEPHANTS = "A storm came.", "It cost millions.", "Elephants danced."
SOURCE = ["The storm closed the harbour.", "The repair costs four million euros.", "Ducks were fed."]
VECTORS = {
    STORM: [1, 0, 0.1],
    COST: [0, 1, 0.2],
    ELEPHANTS: [0.2, 0.1, 1],
    SOURCE[0]: [1, 0, 0],
    SOURCE[1]: [0, 1, 0],
    SOURCE[2]: [0.6, 0.8, 0],
}


def never():
    raise AssertionError("the document's own sentences were asked for")


def ground(written, *, own=never, threshold=0.5, text=None):
    encoder = WrittenDown(VECTORS)
    text = " ".join(written) if text is None else text
    sentences, problems = grounded(text, written, SOURCE, own, encoder, threshold)
    return [(sentence.text, sentence.origin) for sentence in sentences], problems, encoder


def test_supported_sentences_stand_as_they_were_written():
    sentences, problems, _ = ground([STORM, COST])
    assert sentences == [(STORM, "written"), (COST, "written")] and problems == []


def test_one_without_support_gives_way_to_the_nearest_that_is_left():
    # Of the elephants' cosines, 0.2, 0.1 and 0.2 (each over √1.05), the first is the storm's already.
    sentences, problems, _ = ground([STORM, ELEPHANTS, COST])
    assert sentences == [(STORM, "written"), (SOURCE[2], "extracted"), (COST, "written")] and problems == []
    assert ground([ELEPHANTS], threshold=0.19)[0] == [(ELEPHANTS, "written")]
    assert ground([ELEPHANTS], threshold=0.2)[0][0][1] == "extracted"


def test_a_summary_that_repeats_itself_gives_way_whole_and_nothing_is_embedded():
    written = [STORM] * 4
    sentences, [problem], encoder = ground(written, own=lambda: SOURCE[:2])
    assert sentences == [(SOURCE[0], "extracted"), (SOURCE[1], "extracted")]
    assert problem.kind == "degenerate_summary"
    assert problem.detail == (
        'what the model wrote repeats itself: "a storm came ." again and again makes up 100 % of it; sentences of the '
        "document stand in its place"
    )
    assert encoder.calls == []


def test_an_empty_summary_gives_way_too():
    sentences, [problem], _ = ground([], own=lambda: SOURCE[:1], text="")
    assert sentences == [(SOURCE[0], "extracted")]
    assert problem.detail == "what the model wrote is empty; sentences of the document stand in its place"
    assert ground([], own=lambda: [], text="")[0] == []


def test_where_no_sentence_is_left_to_stand_in_one_is_left_out_and_told():
    encoder = WrittenDown(VECTORS)
    text = f"{STORM}\n\n{ELEPHANTS} {STORM}"
    sentences, [problem] = grounded(text, [STORM, ELEPHANTS, STORM], SOURCE[:1], never, encoder, 0.5)
    assert [sentence.text for sentence in sentences] == [STORM, STORM]
    assert str(problem) == "left out: 1 sentence without support in the document, which has none left to stand in"
    assert grounded_text(text, sentences) == f"{STORM} {STORM}"
