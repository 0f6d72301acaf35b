"""Features in shards: computed once, gone on with, and anew where what they depend on is another."""

import pytest
import torch

from trainer.dual_encoder import shards
from trainer.dual_encoder.shards import computed_once


@pytest.fixture(autouse=True)
def small_shards(monkeypatch):
    monkeypatch.setattr(shards, "ITEMS_PER_SHARD", 2)


class Lengths:
    """Computes the length of each item; `asked` are the places that it was asked for."""

    def __init__(self, items, fails_at=None):
        self.items, self.fails_at, self.asked = items, fails_at, []

    def __call__(self, places):
        if self.fails_at in places:
            raise KeyboardInterrupt
        self.asked += places
        return torch.tensor([[float(len(self.items[place]))] for place in places])


def test_features_come_in_the_items_order_and_are_computed_once(tmp_path):
    items = ["a", "bbb", "cc", "", "eeeee"]
    first = Lengths(items)
    expected = torch.tensor([[1.0], [3.0], [2.0], [0.0], [5.0]])
    assert torch.equal(computed_once(tmp_path, "texts", items, {"side": 1}, first), expected)
    again = Lengths(items)
    assert torch.equal(computed_once(tmp_path, "texts", items, {"side": 1}, again), expected)
    assert (first.asked, again.asked) == ([0, 1, 2, 3, 4], [])


def test_a_run_that_was_interrupted_goes_on(tmp_path):
    items = ["a", "bbb", "cc", "", "eeeee"]
    with pytest.raises(KeyboardInterrupt):
        computed_once(tmp_path, "texts", items, None, Lengths(items, fails_at=3))
    rest = Lengths(items)
    assert computed_once(tmp_path, "texts", items, None, rest).flatten().tolist() == [1, 3, 2, 0, 5]
    assert rest.asked == [2, 3, 4]


def test_other_items_and_settings_are_computed_anew(tmp_path):
    items = ["a", "bbb", "cc"]
    computed_once(tmp_path, "texts", items, 1, Lengths(items))
    for changed, settings, asked in ((["a", "bbbb", "cc"], 1, [0, 1]), (items, 2, [0, 1, 2])):
        compute = Lengths(changed)
        assert computed_once(tmp_path, "texts", changed, settings, compute).flatten().tolist() == list(
            map(len, changed)
        )
        assert compute.asked == asked


def test_no_half_shard_stays(tmp_path):
    computed_once(tmp_path / "new", "texts", ["a", "b", "c"], None, Lengths(["a", "b", "c"]))
    assert {path.suffix for path in (tmp_path / "new").iterdir()} == {".safetensors"}
