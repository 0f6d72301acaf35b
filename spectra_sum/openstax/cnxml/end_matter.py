"""What a section has beside its text: objectives, exercises, references, boxes around a link."""

import re
from xml.etree.ElementTree import Element

from spectra_sum.openstax.cnxml.xml_reading import classes, local_name

# Left out wherever they stand. Figures are read apart.
_NEVER_TEXT = {
    "caption",
    "commentary",
    "equation",
    "exercise",
    "figure",
    "footnote",
    "glossary",
    "iframe",
    "injected-exercise",
    "label",
    "media",
    "metadata",
    "problem",
    "solution",
    "subfigure",
    "table",
    "title",
}
_SUMMARY = re.compile(r"(?:[a-z]+-)?summary")
# By the words of a section's class.
_END_MATTER = re.compile(
    r"\b(?:objectives?|outcomes?|exercises?|questions?|problems?|homework|practice|quiz|review|choice|matching|blank|"
    r"true-false|answers?|response|critical-thinking|discussion|projects?|references?|bibliography|cited|citations|reading|"
    r"readings|exploration|research|resources|glossary|key-terms|key-equations|key-concepts|formula-review|footnotes|notes|"
    r"self-check|figuring|thought)\b"
)
# By the words of a note's class. Their text only says what lies behind the link.
_LINKS = {"interactive", "link-to-learning", "media-podcast", "media-video", "link-to-material", "watch-it"}


def is_summary(element: Element) -> bool:
    """Whether this is the section in which the authors sum up."""
    return local_name(element) == "section" and any(_SUMMARY.fullmatch(word) for word in classes(element))


def is_left_out(element: Element) -> bool:
    """Whether an element and all that is in it is no part of the body."""
    name, words = local_name(element), classes(element)
    if name == "section":
        return is_summary(element) or any(_END_MATTER.search(word) for word in words) or _only_exercises(element)
    if name == "note":
        return bool(_LINKS & set(words))
    return name in _NEVER_TEXT


def _only_exercises(section: Element) -> bool:
    names = [local_name(child) for child in section if local_name(child) not in ("title", "label")]
    return bool(names) and set(names) <= {"exercise", "injected-exercise"}
