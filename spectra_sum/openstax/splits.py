"""Which section is in which split: by chapter, so that no chapter is torn apart."""

import hashlib
from collections import Counter
from collections.abc import Sequence

from spectra_sum.openstax.section import Section

TEST_SHARE = 0.1
VALIDATION_SHARE = 0.08
# A book of fewer chapters is for training only.
MIN_CHAPTERS = 3


def assign_splits(sections: Sequence[Section]) -> dict[str, str]:
    """
    The split of each section, by its id.

    In each book the chapters are sorted by a hash of book and number; the first tenth is for testing, the next twelfth for
    validation, at least one each. A section that shares a picture with another one is for training, as that one is.

    Args:
        sections (`Sequence[Section]`): The sections of all books.
    """
    chapters: dict[str, set[int]] = {}
    for section in sections:
        chapters.setdefault(section.slug, set()).add(section.chapter)
    split_of = {}
    for slug, numbers in chapters.items():
        ordered = sorted(numbers, key=lambda number: hashlib.sha1(f"{slug}/{number}".encode()).digest())
        held_out = len(ordered) >= MIN_CHAPTERS
        tests, validations = (
            held_out * max(1, round(share * len(ordered))) for share in (TEST_SHARE, VALIDATION_SHARE)
        )
        for place, number in enumerate(ordered):
            test, validation = place < tests, place < tests + validations
            split_of[slug, number] = "test" if test else "validation" if validation else "train"
    uses = Counter(digest for section in sections for digest in {figure.digest for figure in section.figures})
    return {
        section.id: "train"
        if any(uses[figure.digest] > 1 for figure in section.figures)
        else split_of[section.slug, section.chapter]
        for section in sections
    }
