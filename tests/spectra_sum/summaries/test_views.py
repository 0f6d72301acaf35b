"""A summary in the terminal: what is extracted, what is not ranked, and descriptions that fit a line."""

from spectra_sum.report.contents import SentenceEvidence
from spectra_sum.summaries.document_summary import DocumentSummary
from spectra_sum.summaries.summary_sentences import SummarySentence
from spectra_sum.summaries.views import report_article, terminal_text
from tests.spectra_sum.summaries.setup import document

GIVEN = document(images=[("A ship", "In <the> harbour"), ("word " * 60, ""), ("", "")], title="Ships")


def summary(origin="extracted", probabilities=(None, None, None)):
    sentences = [SummarySentence("Two ships.", "written", [1]), SummarySentence("One sank.", origin, [0])]
    scores = list(probabilities) if probabilities[0] is not None else [4.5, 6.25, None]
    evidence = [SentenceEvidence("Two ships.", [0.5, 0.5, None])]
    text = "Two ships. One sank."
    return DocumentSummary(text, [1, 0], list(probabilities), evidence, [], sentences, scores, [1, 0, None])


def test_the_terminal():
    lines = terminal_text(GIVEN, summary()).splitlines()
    assert lines[:4] == ["Ships", "=====", "  Two ships. One sank. [extracted]", "Images (* selected, with score):"]
    assert lines[4] == "  * 4.500  0.png (A ship – In <the> harbour)"
    assert lines[5].startswith("  * 6.250  1.png (word word") and lines[5].endswith("…)") and len(lines[5]) < 190
    assert lines[6] == "    not ranked  2.png"
    lines = terminal_text(GIVEN, summary("written", (0.25, 0.75, 0.5))).splitlines()
    assert lines[2:5] == [
        "  Two ships. One sank.",
        "Images (* selected, with probability):",
        "  * 0.250  0.png (A ship – In <the> harbour)",
    ]


def test_the_report(tmp_path):
    article = report_article(GIVEN, summary(), tmp_path / "1")
    assert [(image.sentence, image.score, image.selected) for image in article.images] == [
        ("One sank.", 4.5, True),
        ("Two ships.", 6.25, True),
        ("", None, False),
    ]
    assert [(sentence.text, sentence.extracted) for sentence in article.sentences] == [
        ("Two ships.", False),
        ("One sank.", True),
    ]
    assert report_article(GIVEN, summary("written"), tmp_path / "2").sentences == []
