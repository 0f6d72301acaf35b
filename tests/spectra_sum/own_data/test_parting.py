"""A validation split by the hash of ids."""

import hashlib

import pytest
from datasets import Dataset

from spectra_sum.own_data.formats import OwnDataError
from spectra_sum.own_data.parting import part_off_validation, part_stream, place_of


def dataset(*ids):
    return Dataset.from_dict({"id": list(ids)})


def test_a_place_is_a_uniform_number_of_the_id_alone():
    digest = hashlib.sha256(b"validation\nb7").hexdigest()
    assert place_of("b7") == int(digest[:16], 16) / 16**16
    places = sorted(place_of(f"article {number}") for number in range(2000))
    # Kolmogorov and Smirnov: .0364 is the 1 % bound for 2000 values.
    assert max(abs(place - (index + 0.5) / 2000) for index, place in enumerate(places)) < 0.0364


def test_each_article_is_on_the_side_of_its_id():
    ids = [f"article {number}" for number in range(300)]
    train, validation = part_off_validation("data", dataset(*ids), 0.1)
    assert list(validation["id"]) == [name for name in ids if place_of(name) < 0.1]
    assert sorted([*train["id"], *validation["id"]]) == sorted(ids)
    # Where articles are added and sorted otherwise, no article changes its side.
    again, others = part_off_validation("data", dataset("new", *reversed(ids)), 0.1)
    assert set(others["id"]) - {"new"} == set(validation["id"])
    stream = part_stream(dataset(*ids).to_iterable_dataset(), 0.1)
    assert [[row["id"] for row in part] for part in stream] == [list(train["id"]), list(validation["id"])]


@pytest.mark.parametrize(("share", "count"), [(1e-9, 1), (1 - 1e-9, 2)])
def test_no_side_is_empty(share, count):
    ids = sorted(("a", "b", "c"), key=place_of)
    train, validation = part_off_validation("data", dataset("a", "b", "c"), share)
    assert set(validation["id"]) == set(ids[:count])
    assert set(train["id"]) == set(ids[count:])


def test_one_article_makes_no_two_splits():
    with pytest.raises(OwnDataError, match="data: training needs at least two articles, one of them for validation"):
        part_off_validation("data", dataset("a"), 0.5)
