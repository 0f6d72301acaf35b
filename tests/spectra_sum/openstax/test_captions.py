"""Captions, credits, and notes of somebody else's copyright."""

import pytest

from spectra_sum.openstax.captions import is_foreign_figure, is_share_alike, split_credit


@pytest.mark.parametrize(
    ("caption", "text", "credit"),
    [
        ("A goat. (credit: “Kid” by S/flickr, CC BY 2.0)", "A goat.", "(credit: “Kid” by S/flickr, CC BY 2.0)"),
        ("A goat (credit: X).", "A goat.", "(credit: X)"),
        (
            "A (left) and B (right). (credit left: X (Y University); credit right: Z)",
            "A (left) and B (right).",
            "(credit left: X (Y University); credit right: Z)",
        ),
        (
            "Data. (source: Pew) (attribution: Copyright Rice University, OpenStax, under CC BY 4.0 license)",
            "Data.",
            "(source: Pew) (attribution: Copyright Rice University, OpenStax, under CC BY 4.0 license)",
        ),
        ("Data. (data source: Pew; attribution: OpenStax)", "Data.", "(data source: Pew; attribution: OpenStax)"),
        ("Husserl. (left credit: A; right credit: B)", "Husserl.", "(left credit: A; right credit: B)"),
        ("A rock. (modification of work by D. Roddy/USGS)", "A rock.", "(modification of work by D. Roddy/USGS)"),
        ("First. (credit: A) Second.", "First. Second.", "(credit: A)"),
        ("Onions (left). Credit: NASA", "Onions (left).", "Credit: NASA"),
        (
            "Cells. Credit: Rao, A. and Fletcher, S., Texas A&M University.",
            "Cells.",
            "Credit: Rao, A. and Fletcher, S., Texas A&M University.",
        ),
        ("Cells. (credit a: X", "Cells.", "(credit a: X"),
        ("The source (the Sun) gives (credit is due) light.", "The source (the Sun) gives light.", "(credit is due)"),
        (
            "Historians credit Bacon. Credits were cheap (a source of debt).",
            "Historians credit Bacon. Credits were cheap (a source of debt).",
            "",
        ),
        ("", "", ""),
    ],
)
def test_split_credit(caption, text, credit):
    assert split_credit(caption) == (text, credit)


@pytest.mark.parametrize(
    "caption",
    [
        "Epithelium. LM × 1600. (Micrograph provided by the Regents of University of Michigan Medical School © 2012)",
        "A map. (credit: Copyright 2010 by A. Mapmaker)",
        "A map. (credit: A. Mapmaker, used with permission)",
        "A map. (credit: reprinted by kind permission of A. Mapmaker)",
        "A map, copyright 1999. ",
        "A poster. (credit: Studio, fair use)",
        "A poster. (credit: A. Painter, all rights reserved)",
        "A poster. (credit: A. Painter/flickr, CC BY-NC 2.0)",
        "A poster. (credit: A. Painter/flickr, CC-BY-NC-SA 2.0)",
        "A poster. (credit: A. Painter/flickr, CC BY ND 2.0)",
        "Two maps. (attribution: Copyright Rice University; credit b: © A. Mapmaker)",
    ],
)
def test_figures_of_somebody_else(caption):
    assert is_foreign_figure(*split_credit(caption))


@pytest.mark.parametrize(
    "caption",
    [
        "A chart. (attribution: Copyright Rice University, OpenStax, under CC BY 4.0 license)",
        "A chart. (attribution: Copyright © 2021 Rice University)",
        "A goat. (credit: S/flickr, CC BY 2.0)",
        "The first copyright law protected maps. (credit: Library of Congress, Public Domain)",
        "A letter of permission to travel. (credit: NARA)",
        "A goat. (credit: S/Wikimedia Commons, CC BY-SA 4.0)",
        "No credit at all.",
    ],
)
def test_figures_that_are_free(caption):
    assert not is_foreign_figure(*split_credit(caption))


def test_share_alike_is_seen():
    assert is_share_alike("(credit: S/Wikimedia Commons, CC BY-SA 4.0)") and is_share_alike("(credit: S, GFDL)")
    assert not is_share_alike("(credit: S/flickr, CC BY 2.0)")
