"""A summary as the terminal and the report show it."""

from pathlib import Path

from ..documents.parts import Document, printable, shortened
from ..report import ReportArticle, ReportImage, ReportSentence
from .document_summary import DocumentSummary
from .summary_sentences import EXTRACTED

# Alternative texts may be pages; the report has them whole.
LONGEST_DESCRIPTION = 160


def terminal_text(document: Document, summary: DocumentSummary) -> str:
    """Title, summary, images and remarks as lines; an extracted sentence is marked where others were written."""
    lines = [document.title, "=" * min(len(document.title), 80)]
    lines += [f"  {printable(line)}" for line in _marked(summary).splitlines()] or ["  (the summary is empty)"]
    if document.images:
        by_predictor = any(probability is not None for probability in summary.probabilities)
        lines.append(f"Images (* selected, with {'probability' if by_predictor else 'score'}):")
    for index, (image, score) in enumerate(zip(document.images, summary.scores, strict=True)):
        mark = "*" if index in summary.selected else " "
        shown = "not ranked" if score is None else f"{score:.3f}"
        description = shortened(image.description, LONGEST_DESCRIPTION)
        lines.append(f"  {mark} {shown}  {image.name}" + (f" ({description})" if description else ""))
    problems = document.problems + summary.problems
    if problems:
        lines.append("Left out, and other remarks:")
        lines += [f"  - {problem}" for problem in problems]
    return "\n".join([*lines, ""])


def report_article(document: Document, summary: DocumentSummary, folder: Path) -> ReportArticle:
    """
    The summary for the report.

    Args:
        document (`Document`): The document.
        summary (`DocumentSummary`): Its summary.
        folder (`Path`): The images wait here for the report, in files: those of thousands of documents do not fit into
            memory.
    """
    images = []
    for index, image in enumerate(document.images):
        folder.mkdir(exist_ok=True)
        path = folder / f"{index}.png"
        image.image.save(path, compress_level=1)
        place = summary.image_sentences[index]
        chosen = index in summary.selected
        images.append(
            ReportImage(
                path,
                image.alt,
                summary.probabilities[index],
                chosen,
                name=image.name,
                caption=image.caption,
                score=summary.scores[index],
                sentence=summary.sentences[place].text if chosen and place is not None else "",
            )
        )
    sentences = [ReportSentence(sentence.text, sentence.origin == EXTRACTED) for sentence in summary.sentences]
    return ReportArticle(
        id=document.source,
        title=document.title,
        body=document.body,
        images=images,
        summary=summary.summary,
        reference=document.reference,
        evidence=summary.evidence,
        sentences=sentences if _is_mixed(summary) else [],
        remarks=[str(problem) for problem in summary.problems],
        notes=[str(problem) for problem in document.problems],
    )


def _marked(summary: DocumentSummary) -> str:
    if not _is_mixed(summary):
        return summary.summary
    marked = (f"{each.text} [extracted]" if each.origin == EXTRACTED else each.text for each in summary.sentences)
    return " ".join(marked)


def _is_mixed(summary: DocumentSummary) -> bool:
    return len({sentence.origin for sentence in summary.sentences}) > 1
