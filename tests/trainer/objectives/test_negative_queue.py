"""The negative queue: order, capacity, keys, and its saved file."""

import pytest
import torch
from safetensors.torch import load_file, save_file

from trainer.objectives.negative_queue import NegativeQueue


def targets(*numbers):
    """One recognisable target of width 2 per number."""
    return torch.tensor([[float(number), 1.0] for number in numbers]).reshape(-1, 2)


def content(queue):
    return queue.embeds[:, 0].tolist(), queue.keys.tolist()


def test_the_newest_entries_stay_in_order():
    queue = NegativeQueue(size=4, dim=2)
    assert len(queue) == 0
    queue.push(targets(1, 2), torch.tensor([11, 12]))
    queue.push(targets(3), torch.tensor([13]))
    assert content(queue) == ([1, 2, 3], [11, 12, 13])
    queue.push(targets(4, 5, 6), torch.tensor([14, 15, 16]))
    assert content(queue) == ([3, 4, 5, 6], [13, 14, 15, 16]) and len(queue) == 4
    queue.push(targets(*range(20, 26)), torch.arange(120, 126))
    assert content(queue) == ([22, 23, 24, 25], [122, 123, 124, 125])
    queue.push(targets(), torch.zeros(0, dtype=torch.int64))
    assert content(queue) == ([22, 23, 24, 25], [122, 123, 124, 125])


def test_entries_with_the_articles_key_are_no_negatives():
    queue = NegativeQueue(size=4, dim=2)
    queue.push(targets(1, 2, 3), torch.tensor([7, -8, 7]))
    embeds, mask = queue.negatives(torch.tensor([7, -8, 9]))
    assert torch.equal(embeds, targets(1, 2, 3))
    assert mask.tolist() == [[False, True, False], [True, False, True], [True, True, True]]


def test_an_empty_queue_gives_no_negatives():
    embeds, mask = NegativeQueue(size=4, dim=2).negatives(torch.tensor([1, 2, 3]))
    assert embeds.shape == (0, 2) and mask.shape == (3, 0) and mask.dtype == torch.bool


def test_stored_targets_are_copies_without_gradient():
    queue = NegativeQueue(size=4, dim=2)
    pushed = targets(1, 2).to(torch.bfloat16).requires_grad_()
    queue.push(pushed, torch.tensor([1, 2]))
    with torch.no_grad():
        pushed.zero_()
    assert content(queue) == ([1, 2], [1, 2])
    assert queue.embeds.dtype == torch.float32 and not queue.embeds.requires_grad


@pytest.mark.parametrize("pushed", [0, 3, 6])
def test_a_saved_queue_continues_like_the_original(pushed, tmp_path):
    original, restored = NegativeQueue(size=4, dim=2), NegativeQueue(size=4, dim=2)
    original.push(targets(*range(pushed)), 2**40 + torch.arange(pushed))
    original.save(tmp_path / "queue.safetensors")
    restored.push(targets(99), torch.tensor([99]))
    restored.load(tmp_path / "queue.safetensors")
    kept = list(range(pushed))[-4:]
    assert content(restored) == (kept, [2**40 + number for number in kept])
    for queue in (original, restored):
        queue.push(targets(50, 51), torch.tensor([50, 51]))
    assert content(restored) == content(original)


def test_errors_name_the_file_and_the_difference(tmp_path):
    path = tmp_path / "queue.safetensors"
    with pytest.raises(FileNotFoundError, match="queue.safetensors"):
        NegativeQueue(size=4, dim=2).load(path)
    NegativeQueue(size=4, dim=2).save(path)
    with pytest.raises(ValueError, match="queue.safetensors.*size 4 and dim 2, this one size 8 and dim 2"):
        NegativeQueue(size=8, dim=2).load(path)
    with pytest.raises(ValueError, match="size 4 and dim 2, this one size 4 and dim 3"):
        NegativeQueue(size=4, dim=3).load(path)
    state = load_file(path)
    del state["keys"]
    save_file(state, path)
    with pytest.raises(ValueError, match=r"\['embeds', 'keys', 'size'\]"):
        NegativeQueue(size=4, dim=2).load(path)


def test_bad_pushes_and_sizes_are_named():
    queue = NegativeQueue(size=4, dim=2)
    with pytest.raises(ValueError, match=r"keys \(n,\)"):
        queue.push(targets(1, 2), torch.tensor([1]))
    with pytest.raises(ValueError, match=r"\(n, 2\)"):
        queue.push(torch.ones(2, 3), torch.tensor([1, 2]))
    with pytest.raises(ValueError, match="only articles that have images"):
        queue.push(torch.zeros(1, 2), torch.tensor([1]))
    with pytest.raises(ValueError, match="size >= 1"):
        NegativeQueue(size=0, dim=2)
