"""The collator's batches: the sentences of a summary, however its lines are cut."""

import pytest

from tests.tiny import picture, tiny_processor
from trainer.collator import SummarizationCollator

SENTENCES = ["The harbour reopened on Monday.", "Dr. Ash counted 12 ships!", "Two bridges were closed."]


def batch_of(summary: list[str]) -> dict:
    record = {
        "id": "a",
        "title": "Storm",
        "article": "The storm had passed.",
        "images": [picture()],
        "summary": summary,
    }
    return SummarizationCollator(tiny_processor(), max_length=400)([record])


@pytest.mark.parametrize(
    "summary",
    [SENTENCES, [" ".join(SENTENCES)], [f"{SENTENCES[0]} {SENTENCES[1]}", "", SENTENCES[2]], ["\n".join(SENTENCES)]],
)
def test_a_paragraph_is_split_into_sentences(summary):
    batch = batch_of(summary)
    assert batch["summary_sentences"] == [SENTENCES]


def test_the_text_that_is_learned_is_the_paragraph_itself():
    lines, paragraph = batch_of(SENTENCES), batch_of([" ".join(SENTENCES)])
    assert lines["labels"].tolist() == paragraph["labels"].tolist()
    assert batch_of([" \n"])["summary_sentences"] == [[]]
