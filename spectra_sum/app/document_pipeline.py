"""A summarizer in the place of a pipeline: what the app shows of models that no pipeline has."""

from typing import Any

from spectra_sum.documents.parts import Document
from spectra_sum.summaries.summarizer import Summarizer


class DocumentPipeline:
    """
    Documents in, a pipeline's results out.

    Args:
        summarizer (`Summarizer`): Writes the summaries and selects the images.
    """

    def __init__(self, summarizer: Summarizer):
        self.summarizer = summarizer

    def summarize_document(self, document: Document) -> tuple[dict[str, Any], list[str]]:
        """
        What a pipeline returns of a document, and the summarizer's remarks. Beside the pipeline's keys there is
        `image_scores`, what the images were ranked by where that is no probability.

        Raises:
            DocumentError: The title leaves no room for the body.
        """
        summary = self.summarizer.summarize(document)
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
        }
        return result, [str(problem) for problem in summary.problems]
