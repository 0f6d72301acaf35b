"""What the raters are asked: four questions per item on a 5-point scale (the paper's section 5.1; the wording is ours)."""

from dataclasses import dataclass

RATING_LABELS = {1: "very poor", 2: "poor", 3: "fair", 4: "good", 5: "very good"}
GOOD_RATING = 4
"""The share of ratings from here upwards is reported as % ≥ 4."""


@dataclass(frozen=True)
class Question:
    """`name` is the column of the answers, `label` a heading, `text` the question itself."""

    name: str
    label: str
    text: str


QUESTIONS = (
    Question("text_quality", "Text quality", "Is the summary well written, and true to the article?"),
    Question("image_relevance", "Image relevance", "Do the images belong to what the article is about?"),
    Question(
        "image_diversity", "Image diversity", "Do the images show different things instead of repeating each other?"
    ),
    Question("overall", "Overall", "How good is the summary, text and images together?"),
)
ANSWER_COLUMNS = ("item_id", "worker_id", *(question.name for question in QUESTIONS))


class HumanEvalError(ValueError):
    """An export that cannot be made, or a key or answers that cannot be used; the message is one line."""
