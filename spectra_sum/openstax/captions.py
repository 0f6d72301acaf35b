"""A figure's caption, its credit, and notes of somebody else's copyright."""

import re

_PLACE = r"(?:(?:left|right|top|bottom|middle|center|above|below|inset|photo|image|map|data|[a-h])\b[\s,/-]*){0,4}"
# "(credit: …)", "(left credit: …)", "(data source: …)", "(modification of work by …)".
_CREDIT = re.compile(
    rf"\s*{_PLACE}(?:(?:credits?|attributions?)\b|(?:sources?|souce)\s*:|modification of\b)", re.IGNORECASE
)
# Without brackets, as the caption's last sentence.
_LAST_SENTENCE = re.compile(
    r"(?:^|(?<=[.!?)”\"’]))\s*(?:Photo )?[Cc]redits?(?: \w| [“\"][^”\"]*[”\"])?:\s.*$", re.DOTALL
)
_OWN = r"(?!\W*(?:\d{4}\W*)?(?:by\s+)?(?:Rice\s+University|OpenStax))"
_COPYRIGHT = re.compile(rf"(?:©|\bcopyright(?:ed)?\b(?:\s*©)?){_OWN}", re.IGNORECASE)
_COPYRIGHT_IN_PROSE = re.compile(rf"(?:©|\bcopyright\s+(?:©|\d{{4}}|(?:held\s+)?by\b)){_OWN}", re.IGNORECASE)
_RESERVED = re.compile(
    r"all rights reserved|\b(?:used|reprinted|reproduced)\b[^.;]{0,40}\bpermission|\b(?:with|by) permission\b|\bfair use\b",
    re.IGNORECASE,
)
_RESTRICTED = re.compile(r"\bCC[\s-]*BY(?:[\s-]+SA)?[\s-]+(?:NC|ND)\b|\bNonCommercial\b|\bNoDeriv", re.IGNORECASE)
_SHARE_ALIKE = re.compile(r"\bCC[\s-]*BY[\s-]+SA\b|\bShare-?Alike\b|\bGFDL\b", re.IGNORECASE)


def split_credit(caption: str) -> tuple[str, str]:
    """
    A caption without its credits, and these, as they stand.

    Args:
        caption (`str`): A caption on one line.
    """
    kept, credits, start = [], [], 0
    for opening, end in _brackets(caption):
        if _CREDIT.match(caption, opening + 1, end):
            kept.append(caption[start:opening].rstrip())
            credits.append(caption[opening:end].strip())
            start = end
    text = "".join([*kept, caption[start:]]).strip()
    last = _LAST_SENTENCE.search(text)
    if last:
        credits.append(last[0].strip())
        text = text[: last.start()].strip()
    return text, " ".join(credits)


def is_foreign_figure(caption: str, credit: str) -> bool:
    """Whether a note claims somebody else's copyright or a licence that forbids commercial use or changes."""
    return bool(
        _COPYRIGHT.search(credit)
        or _COPYRIGHT_IN_PROSE.search(caption)
        or _RESERVED.search(f"{caption} {credit}")
        or _RESTRICTED.search(f"{caption} {credit}")
    )


def is_share_alike(credit: str) -> bool:
    """Whether the credit names a licence that whoever changes the figure must keep (CC BY-SA, GFDL)."""
    return bool(_SHARE_ALIKE.search(credit))


def _brackets(text: str) -> list[tuple[int, int]]:
    """Where the outermost round brackets open, and where what they hold ends; one that is never closed ends the text."""
    spans, depth, opening = [], 0, 0
    for place, character in enumerate(text):
        if character == "(":
            opening = opening if depth else place
            depth += 1
        elif character == ")" and depth:
            depth -= 1
            if not depth:
                spans.append((opening, place + 1))
    return [*spans, (opening, len(text))] if depth else spans
