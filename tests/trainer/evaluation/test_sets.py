"""Sets to evaluate on: shares of a stream, batches, and the tokens of summaries."""

import itertools

import pytest
import torch
from torch.utils.data import DataLoader, IterableDataset

from spectra_sum.errors import SpectraSumError
from tests.tiny import picture, tiny_processor
from trainer.collator import SummarizationCollator
from trainer.evaluation.sets import EvaluationCollator, EvenShare, Repetition, summary_tokens


class Numbers(IterableDataset):
    def __init__(self, count: int):
        self.count = count

    def __iter__(self):
        yield from ({"id": str(number)} for number in range(self.count))


@pytest.mark.parametrize(("count", "size", "world"), [*itertools.product(range(8), (1, 2, 3), (2, 3))])
def test_shares_of_a_stream_are_even_and_hold_every_article_once(count, size, world):
    batches = [
        list(DataLoader(EvenShare(Numbers(count), size, rank, world), batch_size=size, collate_fn=list))
        for rank in range(world)
    ]
    assert len({len(own) for own in batches}) == 1
    # As they are gathered: batch by batch, the processes in turn.
    gathered = [article for turn in zip(*batches, strict=True) for own in turn for article in own]
    assert len(gathered) == -(-count // (size * world)) * size * world
    counted = [article["id"] for article in gathered if not isinstance(article, Repetition)]
    assert counted == [str(number) for number in range(count)]
    for own in itertools.chain(*batches):
        # Repetitions come last in a batch.
        kinds = [isinstance(article, Repetition) for article in own]
        assert len(own) == size and kinds == sorted(kinds)


def article(name: str, **fields) -> dict:
    return {"id": name, "title": "Ships", "article": "Two ships.", "images": [picture()], **fields}


def collator(**fields) -> EvaluationCollator:
    processor = tiny_processor()
    fields = {"max_length": 60, "use_images": True, "with_prompts": True, **fields}
    return EvaluationCollator(SummarizationCollator(processor, 60), processor, **fields)


def test_a_batch_holds_what_the_losses_the_prompts_and_the_scores_need():
    records = [article("a", summary=["One.", "Two."], gold_images=[0]), article("b", summary=["A ship."], other=1)]
    batch = collator()([records[0], Repetition(records[1])])
    assert batch["repetitions"] == 1
    assert batch["references"] == [
        {"id": "a", "summary": ["One.", "Two."], "gold_images": [0]},
        {"id": "b", "summary": ["A ship."]},
    ]
    prompts = collator().processor(
        text=["Two ships."] * 2, title=["Ships"] * 2, images=[record["images"] for record in records], max_length=60
    )
    assert batch["prompts"].keys() == prompts.keys()
    assert all(torch.equal(batch["prompts"][name], value) for name, value in prompts.items())
    training = SummarizationCollator(tiny_processor(), 60)(records)
    assert torch.equal(batch["labels"], training["labels"]) and torch.equal(batch["input_ids"], training["input_ids"])
    assert "prompts" not in collator(with_prompts=False)(records)
    assert "pixel_values" not in collator(use_images=False)(records)["prompts"]


def test_articles_without_summaries_give_prompts_alone():
    batch = collator()([article("a"), article("b", summary=None)])
    assert batch.keys() == {"input_ids", "places", "prompts", "references", "repetitions"}
    with pytest.raises(SpectraSumError, match="article b has no summary, and others of its set have one"):
        collator()([article("a", summary=["One."]), article("b")])


def test_a_summary_that_is_one_text_is_refused():
    with pytest.raises(SpectraSumError, match="article a: its summary is one text, where the list of its sentences"):
        collator()([article("a", summary="One. Two.")])


def test_tokens_of_summaries():
    labels = torch.tensor([[-100, -100, 5, 6, -100], [-100, 7, -100, -100, -100]])
    assert summary_tokens(labels).tolist() == [[5, 6], [7, -100]]
