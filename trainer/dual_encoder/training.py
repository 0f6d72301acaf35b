"""Training the two heads: contrastive both ways (CLIP, Radford et al. 2021), with much regularisation."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, dropout, gelu, normalize
from tqdm.auto import tqdm

from spectra_sum.models.joint_heads import JointHead
from trainer.dual_encoder.features import FigureFeatures

_BLOCKS = 16
_LEAST_DEVIATION = 1e-6
_FROM_ZERO = ("learning_rate", "weight_decay", "noise", "max_scale", "seed")


@dataclass(frozen=True)
class Recipe:
    """
    How the heads are trained.

    Args:
        sides (`list[int]`): Pixels a side of the views of an image.
        blocks (`list[int]`): Blocks of EfficientNet-Lite0 that are pooled beside its final map.
        image_components (`int`): Principal components of the standardised image features that are kept.
        image_hidden, text_hidden, joint (`int`): Widths of the heads.
        epochs (`int`): Passes over the figures; each shows one text of every figure.
        batch_size (`int`): Figures of a step, each a negative of the others.
        learning_rate, weight_decay (`float`): Of AdamW; a tenth of the steps warms up, and a cosine ends it.
        dropout (`float`): Of the features between the two layers of a head.
        noise (`float`): Deviation of Gaussian noise on standardised features.
        label_smoothing (`float`): Of the cross-entropies.
        max_scale (`float`): Most of the trained scale of the cosines.
        seed (`int`): Of weights, order, texts and noise.

    Raises:
        ValueError: A field of another type, or out of its range.
    """

    sides: list[int]
    blocks: list[int]
    image_components: int
    image_hidden: int
    text_hidden: int
    joint: int
    epochs: int
    batch_size: int
    learning_rate: float
    weight_decay: float
    dropout: float
    noise: float
    label_smoothing: float
    max_scale: float
    seed: int

    def __post_init__(self):
        for name in ("sides", "blocks"):
            values = getattr(self, name)
            if not isinstance(values, list) or not all(type(value) is int and value >= 0 for value in values):
                raise ValueError(f"{name} must be a list of whole numbers, got {values!r}")
        if not self.sides or min(self.sides) < 32:
            raise ValueError(f"sides must name views of at least 32 pixels, got {self.sides!r}")
        if max(self.blocks, default=0) >= _BLOCKS:
            raise ValueError(f"blocks must be under {_BLOCKS}, got {self.blocks!r}")
        for name in ("image_components", "image_hidden", "text_hidden", "joint", "epochs", "batch_size"):
            if type(getattr(self, name)) is not int or getattr(self, name) < 1:
                raise ValueError(f"{name} must be a whole number from 1, got {getattr(self, name)!r}")
        for name, end in (("dropout", 1), ("label_smoothing", 1), *((name, math.inf) for name in _FROM_ZERO)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < end:
                raise ValueError(f"{name} must be a number from 0{'' if end > 1 else ' and under 1'}, got {value!r}")


class NoisyHead(nn.Module):
    """
    A [`JointHead`] on principal components of standardised features, with noise and dropout while it is trained.

    Args:
        features (`torch.Tensor` of shape `(N, d)`): Those that are trained on: mean, deviation and components are theirs.
        components (`int`): How many are kept; at most d.
        hidden, joint (`int`): As of [`JointHead`].
        recipe (`Recipe`): Noise and dropout.
    """

    def __init__(self, features: Tensor, components: int, hidden: int, joint: int, recipe: Recipe):
        super().__init__()
        self.mean, deviation = features.mean(0), features.std(0)
        # A feature that is the same everywhere stays 0; divided by round-off, its weights would exceed half precision.
        self.deviation = deviation.masked_fill(deviation < _LEAST_DEVIATION, 1.0)
        # In float32 it does not converge where many features never vary.
        standard = ((features - self.mean) / self.deviation).double()
        # Orthonormal columns, the last ones of the greatest variance.
        self.basis = torch.linalg.eigh(standard.mT @ standard)[1][:, -components:].to(features)
        self.head = JointHead(self.basis.shape[1], hidden, joint)
        self.recipe = recipe

    def components(self, features: Tensor) -> Tensor:
        """(n, d) → (n, components)."""
        return (features - self.mean) / self.deviation @ self.basis

    def forward(self, components: Tensor) -> Tensor:
        """(n, components) → (n, joint), L2-normalised."""
        noisy = components + self.recipe.noise * torch.randn_like(components)
        hidden = dropout(gelu(self.head.inner(noisy)), self.recipe.dropout)
        return normalize(self.head.outer(hidden), dim=-1)

    @torch.no_grad()
    def folded(self) -> JointHead:
        """The head on features as they are: what comes before its first layer becomes part of it."""
        inner, outer = self.head.inner, self.head.outer
        folded = JointHead(len(self.mean), inner.out_features, outer.out_features)
        folded.outer.load_state_dict(outer.state_dict())
        folded.inner.weight.copy_(inner.weight @ self.basis.mT / self.deviation)
        folded.inner.bias.copy_(inner.bias - folded.inner.weight @ self.mean)
        return folded.eval().requires_grad_(False)


def train_heads(features: FigureFeatures, recipe: Recipe) -> tuple[JointHead, JointHead, list[float]]:
    """
    Trains both heads.

    Args:
        features (`FigureFeatures`): Of the training figures; those without any text are passed over.
        recipe (`Recipe`): How.

    Returns:
        `tuple`: The image head, the text head, and the mean loss of each epoch.
    """
    texts = [[row for row in pair if row is not None] for pair in zip(features.captions, features.alts, strict=True)]
    figures = torch.tensor([place for place, own in enumerate(texts) if own])
    torch.manual_seed(recipe.seed)
    image = NoisyHead(features.images[figures], recipe.image_components, recipe.image_hidden, recipe.joint, recipe)
    used = sorted({row for own in texts for row in own})
    text = NoisyHead(features.texts[used], features.texts.shape[1], recipe.text_hidden, recipe.joint, recipe)
    image_parts, text_parts = image.components(features.images), text.components(features.texts)
    log_scale = nn.Parameter(torch.tensor(math.log(20.0)))
    optimizer = torch.optim.AdamW(
        [
            {"params": [*image.parameters(), *text.parameters()], "weight_decay": recipe.weight_decay},
            {"params": [log_scale], "weight_decay": 0.0},
        ],
        lr=recipe.learning_rate,
    )
    size = min(recipe.batch_size, len(figures))
    batches = len(figures) // size
    steps = recipe.epochs * batches
    # Its rise must not end at the first step, nor at the last one.
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, recipe.learning_rate, total_steps=steps, pct_start=max(0.1, min(0.75, 2 / steps))
    )
    losses = []
    for _ in tqdm(range(recipe.epochs), desc="heads", unit="epoch", disable=None):
        order = figures[torch.randperm(len(figures))]
        total = 0.0
        for batch in order[: batches * size].split(size):
            rows = torch.tensor([_one_of(texts[place]) for place in batch.tolist()])
            scale = log_scale.exp().clamp(max=recipe.max_scale)
            loss = both_ways(scale * image(image_parts[batch]) @ text(text_parts[rows]).mT, recipe.label_smoothing)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.item()
        losses.append(total / batches)
    return image.folded(), text.folded(), losses


def both_ways(logits: Tensor, label_smoothing: float) -> Tensor:
    """The mean of the cross-entropies of each image among the texts and of each text among the images, (n, n) → scalar."""
    own = torch.arange(len(logits))
    return sum(cross_entropy(each, own, label_smoothing=label_smoothing) for each in (logits, logits.mT)) / 2


def _one_of(rows: Sequence[int]) -> int:
    return rows[int(torch.randint(len(rows), ()))]
