"""What is logged of the losses and of the teacher, on hand-computed cases."""

import logging

import pytest
import torch
from accelerate import Accelerator

from trainer.objectives import loss_records
from trainer.objectives.loss_records import LossRecords

pytestmark = pytest.mark.usefixtures("float64")


@pytest.fixture
def accelerator():
    return Accelerator(cpu=True)


def test_losses_are_means_per_step_and_others_per_article(accelerator):
    records = LossRecords()
    # Two micro-batches of one step, each a part of the step's loss, and a second step.
    for value in (0.25, 0.5, 1.25):
        records.add(loss_lm=value)
    records.add(3, teacher_spread=0.5)
    records.add(1, teacher_spread=0.1)
    assert records.take(accelerator, steps=2) == pytest.approx({"loss_lm": 1.0, "teacher_spread": 0.4}, rel=1e-9)
    assert records.take(accelerator) == {}
    records.add(3, loss_lm=2.0)
    records.add(1, loss_lm=4.0)
    assert records.take(accelerator) == {"loss_lm": 2.5}


def test_the_teacher_is_judged_on_articles_with_several_images(accelerator):
    records = LossRecords()
    marginals = torch.tensor([[0.9, 0.1, 0.9], [0.2, 0.6, 0.0], [0.7, 0.0, 0.0]])
    mask = torch.tensor([[1, 1, 1], [1, 1, 0], [1, 0, 0]]).bool()
    # The first picks one of two equal ones, the second the worse one, the third has nothing to choose from.
    logits = torch.tensor([[0.0, 1.0, 2.0], [2.0, 1.0, -9.0], [0.0, -9.0, -9.0]])
    records.add_teacher(logits, marginals, mask)
    taken = records.take(accelerator)
    assert taken == pytest.approx({"teacher_spread": (0.8 + 0.4) / 2, "vrp_agreement": 0.5}, rel=1e-9)
    records.add_teacher(logits[2:], marginals[2:], mask[2:])
    assert records.take(accelerator) == {}


@pytest.mark.parametrize(("spread", "warnings"), [(0.19, 1), (0.21, 0)])
def test_labels_that_hardly_differ_are_warned_of_once(accelerator, caplog, monkeypatch, spread, warnings):
    monkeypatch.setattr(loss_records.logger, "propagate", True)
    marginals, mask = torch.tensor([[0.5, 0.5 + spread]]), torch.ones(1, 2).bool()
    records = LossRecords(warn=True)
    with caplog.at_level(logging.WARNING):
        for step in range(1, 251):
            records.add_teacher(torch.zeros(1, 2), marginals, mask)
            # Also where every step is logged.
            records.take(accelerator)
            assert len(caplog.records) == (warnings if step >= 100 else 0)
    assert all("raise teacher_beta" in record.getMessage() for record in caplog.records)
