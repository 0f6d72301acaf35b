"""Figures of a folder in the MSMO layout, with their books and texts."""

import pytest

from spectra_sum.errors import SpectraSumError
from tests.trainer.dual_encoder.setup import write_split
from trainer.dual_encoder.figures import read_figures


def test_figures_come_with_texts_and_books(tmp_path):
    write_split(tmp_path, "train", 2)
    figures = read_figures(tmp_path, "train")
    assert [(figure.image.name, figure.section, figure.book) for figure in figures] == [
        ("train0000_0.jpg", "train0000", "book0"),
        ("train0000_1.jpg", "train0000", "book0"),
        ("train0001_0.jpg", "train0001", "book1"),
        ("train0001_1.jpg", "train0001", "book1"),
    ]
    assert [(figure.caption, figure.alt) for figure in figures] == [
        ("A red figure.", "It shows red."),
        ("A green figure.", "It shows green."),
        ("A blue figure.", "It shows blue."),
        ("", "It shows yellow."),
    ]


def test_books_may_be_unknown(tmp_path):
    write_split(tmp_path, "valid", books=False)
    assert {figure.book for figure in read_figures(tmp_path, "validation")} == {""}


def test_what_cannot_be_trained_on_is_told(tmp_path):
    write_split(tmp_path, "train", texts=False)
    with pytest.raises(SpectraSumError, match="none of its train figures has a caption or an alternative text"):
        read_figures(tmp_path, "train")
    with pytest.raises(SpectraSumError, match="nowhere: there is no such file or folder"):
        read_figures(tmp_path / "nowhere", "train")
