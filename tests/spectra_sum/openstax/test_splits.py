"""Splits by chapter, and shared pictures in training."""

from collections import Counter

from spectra_sum.openstax.section import Figure, Section
from spectra_sum.openstax.splits import assign_splits


def section(book, chapter, module, *digests):
    figures = [Figure(f"{digest}.png", digest, "", "", "") for digest in digests]
    return Section(book, book, "", chapter, module, "T", ["Text."], ["Sum."], figures)


def test_chapters_stay_together_in_the_shares_of_each_book():
    sections = [
        section(book, chapter, f"m{chapter}-{place}", f"{book}-{chapter}-{place}")
        for book in ("cells", "stars")
        for chapter in range(1, 31)
        for place in range(3)
    ]
    splits = assign_splits(sections)
    by_chapter = {}
    for part in sections:
        by_chapter.setdefault((part.book, part.chapter), set()).add(splits[part.id])
    assert all(len(found) == 1 for found in by_chapter.values())
    for book in ("cells", "stars"):
        counts = Counter(min(found) for (name, _), found in by_chapter.items() if name == book)
        assert counts == {"train": 25, "validation": 2, "test": 3}
    tested = {(book, chapter) for (book, chapter), found in by_chapter.items() if found == {"test"}}
    assert {chapter for book, chapter in tested if book == "cells"} != {
        chapter for book, chapter in tested if book == "stars"
    }


def test_splits_of_a_book_depend_on_no_other_book():
    cells = [section("cells", chapter, f"m{chapter}") for chapter in range(1, 21)]
    alone = assign_splits(cells)
    others = [section("stars", chapter, f"m{chapter}") for chapter in range(1, 21)]
    assert assign_splits([*others, *cells[::-1]]).items() >= alone.items()


def test_a_book_of_few_chapters_is_for_training_unless_it_has_three():
    two = [section("cells", chapter, f"m{chapter}") for chapter in (1, 2)]
    assert set(assign_splits(two).values()) == {"train"}
    three = [*two, section("cells", 3, "m3")]
    assert sorted(assign_splits(three).values()) == ["test", "train", "validation"]


def test_sections_that_share_a_picture_are_for_training():
    sections = [section("cells", chapter, f"m{chapter}", f"own{chapter}") for chapter in range(1, 11)]
    held_out = [part for part in sections if assign_splits(sections)[part.id] != "train"]
    assert {assign_splits(sections)[part.id] for part in held_out} == {"validation", "test"}
    # Twice in one section is not shared; once in another book is.
    twice = [part._replace(figures=part.figures * 2) if part == held_out[0] else part for part in sections]
    assert assign_splits(twice) == assign_splits(sections)
    shared = [*sections, section("stars", 1, "m1", held_out[0].figures[0].digest)]
    assert assign_splits(shared)[held_out[0].id] == "train"
    assert assign_splits(shared)[held_out[1].id] == assign_splits(sections)[held_out[1].id]
