"""What a training logs of its losses and of its teacher: sums in each process, means over all of them."""

from collections import defaultdict

import torch
from accelerate import Accelerator, PartialState
from transformers.utils import logging

from trainer.objectives.dpp_teacher import mean_spread

logger = logging.get_logger(__name__)

RECORDED = ("loss_lm", "loss_align", "loss_distill", "teacher_spread", "vrp_agreement")
# The teacher's labels must discriminate; under this mean spread (max − min) they hardly do.
LEAST_SPREAD = 0.2
# So many articles with several images tell.
ENOUGH_ARTICLES = 100


class LossRecords:
    """Sums of the values named in `RECORDED`, since they were last taken.

    Args:
        warn (`bool`, *optional*, defaults to `False`): Warn once, in the main process, of a teacher whose labels hardly differ.
    """

    def __init__(self, warn: bool = False) -> None:
        self._warns = warn and PartialState().is_main_process
        self._sums: dict[str, float] = defaultdict(float)
        self._counts: dict[str, int] = defaultdict(int)
        self._spread, self._articles = 0.0, 0

    def add(self, count: int = 1, **values: float) -> None:
        """Values that are means over `count` (tokens or articles, or 1 for a share of a step's sum)."""
        for name, value in values.items():
            self._sums[name] += count * value
            self._counts[name] += count

    def add_teacher(self, logits: torch.Tensor, marginals: torch.Tensor, image_mask: torch.Tensor) -> None:
        """The spread of the labels and how often the predictor's best image is the teacher's; all (B, N).

        Articles with less than two images count for neither.
        """
        several = image_mask.sum(1) > 1
        count = int(several.sum())
        if not count:
            return
        spread = float(mean_spread(marginals, image_mask))
        # Equal labels (duplicates) are equally right.
        chosen = marginals.gather(1, logits.detach().argmax(1, keepdim=True)).squeeze(1)
        agreement = (chosen >= marginals.masked_fill(~image_mask, -1).amax(1) - 1e-6)[several].double().mean()
        self.add(count, teacher_spread=spread, vrp_agreement=float(agreement))
        self._spread, self._articles = self._spread + count * spread, self._articles + count
        if self._warns and self._articles >= ENOUGH_ARTICLES and self._spread / self._articles < LEAST_SPREAD:
            self._warns = False
            logger.warning(
                f"the teacher's labels spread only {self._spread / self._articles:.3f} on average (under {LEAST_SPREAD}); "
                "raise teacher_beta."
            )

    def take(self, accelerator: Accelerator, steps: int | None = None) -> dict[str, float]:
        """Means over all processes since the last call; every process must call it.

        Args:
            accelerator (`Accelerator`): Of the training.
            steps (`int`, *optional*): Divide losses by so many optimizer steps, since the micro-batches of a step add up;
                otherwise by their counts.
        """
        # A process may have had no images since the last call; all of them must reduce the same values. In float64: many
        # batches add up to what one of them would give.
        totals = torch.tensor([[self._sums[name], self._counts[name]] for name in RECORDED], dtype=torch.float64)
        if accelerator.num_processes > 1:
            totals = accelerator.reduce(totals.to(accelerator.device), reduction="sum")
        self._sums, self._counts = defaultdict(float), defaultdict(int)
        return {
            name: total / (steps if steps and name.startswith("loss") else count)
            for name, (total, count) in zip(RECORDED, totals.tolist(), strict=True)
            if count
        }
