"""L_distill and L_align against a direct transcription of their formulas in plain Python."""

import math

import pytest
import torch
import torch.nn.functional as F

from tests.double_precision import EXACT
from trainer.objectives.losses import alignment_loss, distillation_loss

pytestmark = pytest.mark.usefixtures("float64")


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


def dot(a, b):
    return sum(x * y for x, y in zip(a, b, strict=True))


def transcribed_distillation(logits, labels, mask, gamma):
    terms = []
    for article_logits, article_labels, article_mask in zip(logits, labels, mask, strict=True):
        pairs = [(x, p) for x, p, real in zip(article_logits, article_labels, article_mask, strict=True) if real]
        if not pairs:
            terms.append(0.0)
            continue
        entropy = sum(-p * math.log(sigmoid(x)) - (1 - p) * math.log(1 - sigmoid(x)) for x, p in pairs) / len(pairs)
        gap = sum(sigmoid(x) for x, _ in pairs) - sum(p for _, p in pairs)
        terms.append(entropy + gamma * gap**2)
    return terms


def transcribed_alignment(z, targets, text, negatives, mask, tau, has_images):
    terms = []
    for n in range(len(z)):
        if not has_images[n]:
            terms.append(0.0)
            continue
        allowed = [negative for negative, allow in zip(negatives, mask[n], strict=True) if allow]
        term = -math.log(sigmoid(dot(z[n], targets[n]) / tau))
        if allowed:
            term -= sum(math.log(sigmoid(-dot(z[n], v) / tau)) for v in allowed) / len(allowed)
            term -= sum(math.log(sigmoid(-dot(text[n], v) / tau)) for v in allowed) / len(allowed)
        terms.append(term)
    return terms


@pytest.fixture
def distillation_case():
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(4, 5, generator=generator)
    labels = torch.rand(4, 5, generator=generator, dtype=torch.float64)
    mask = torch.tensor([[1, 1, 1, 1, 1], [0, 1, 0, 1, 0], [0, 0, 0, 0, 0], [1, 0, 0, 0, 0]]).bool()
    return logits, labels, mask


@pytest.fixture
def alignment_case():
    generator = torch.Generator().manual_seed(1)
    z, targets, text = F.normalize(torch.randn(3, 4, 6, generator=generator), dim=-1)
    negatives = F.normalize(torch.randn(5, 6, generator=generator), dim=-1)
    mask = torch.tensor([[1, 1, 1, 1, 1], [0, 1, 0, 1, 1], [0, 0, 0, 0, 0], [1, 1, 0, 0, 0]]).bool()
    has_images = torch.tensor([True, True, True, False])
    targets = targets.masked_fill(~has_images[:, None], 0.0)
    return z, targets, text, negatives, mask, has_images


@pytest.mark.parametrize("gamma", [0.0, 0.01, 1.0])
def test_distillation_equals_its_formula(distillation_case, gamma):
    logits, labels, mask = distillation_case
    expected = transcribed_distillation(logits.tolist(), labels.tolist(), mask.tolist(), gamma)
    loss = distillation_loss(logits, labels, mask, gamma)
    torch.testing.assert_close(loss, torch.tensor(expected), **EXACT)


def test_distillation_gradient(distillation_case):
    """d/dl_i = (sigmoid(l_i) - p_i) / N + 2·gamma·(sum sigmoid - sum p)·sigmoid'(l_i); 0 at padding."""
    logits, labels, mask = distillation_case
    logits = logits.masked_fill(~mask, torch.nan).requires_grad_()
    labels = labels.masked_fill(~mask, torch.nan)
    distillation_loss(logits, labels, mask, 0.5).sum().backward()
    for row in range(4):
        real = mask[row].nonzero()[:, 0].tolist()
        probabilities = {i: sigmoid(logits[row, i].item()) for i in real}
        gap = sum(probabilities[i] - labels[row, i].item() for i in real)
        for i in range(5):
            expected = 0.0
            if i in real:
                p = probabilities[i]
                expected = (p - labels[row, i].item()) / len(real) + 2 * 0.5 * gap * p * (1 - p)
            assert logits.grad[row, i].item() == pytest.approx(expected, abs=1e-9)


def test_distillation_has_its_minimum_at_the_labels():
    labels = torch.tensor([[0.9, 0.4, 0.7]])
    logits = labels.logit().requires_grad_()
    distillation_loss(logits, labels, torch.ones(1, 3, dtype=torch.bool), 0.01).sum().backward()
    torch.testing.assert_close(logits.grad, torch.zeros(1, 3), **EXACT)


def test_distillation_without_images_and_with_extreme_logits():
    for width in (0, 2):
        logits = torch.zeros(2, width, requires_grad=True)
        loss = distillation_loss(logits, torch.zeros(2, width), torch.zeros(2, width).bool(), 0.01)
        loss.sum().backward()
        assert loss.tolist() == [0.0, 0.0] and not logits.grad.any()
    logits = torch.tensor([[500.0, -500.0]], requires_grad=True)
    loss = distillation_loss(logits, torch.tensor([[0.0, 1.0]]), torch.ones(1, 2, dtype=torch.bool), 0.01)
    loss.sum().backward()
    assert loss.item() == pytest.approx(500.0, rel=1e-9) and logits.grad.isfinite().all()


@pytest.mark.parametrize("tau", [0.1, 1.0])
def test_alignment_equals_its_formula(alignment_case, tau):
    z, targets, text, negatives, mask, has_images = alignment_case
    expected = transcribed_alignment(
        z.tolist(), targets.tolist(), text.tolist(), negatives.tolist(), mask.tolist(), tau, has_images.tolist()
    )
    loss = alignment_loss(z, targets, text, negatives, mask, temperature=torch.tensor(tau), has_images=has_images)
    torch.testing.assert_close(loss, torch.tensor(expected), **EXACT)


@pytest.mark.float32
def test_distillation_is_float32(distillation_case):
    logits, labels, mask = distillation_case
    for dtype in (torch.float32, torch.bfloat16):
        assert distillation_loss(logits.to(dtype), labels, mask, 0.01).dtype == torch.float32


@pytest.mark.float32
def test_alignment_is_float32_under_autocast(alignment_case):
    z, targets, text, negatives, mask, has_images = alignment_case
    numbers = {"temperature": torch.tensor(0.1), "has_images": has_images}
    expected = alignment_loss(z, targets, text, negatives, mask, **numbers)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        actual = alignment_loss(z, targets, text, negatives, mask, **numbers)
    assert actual.dtype == torch.float32 and torch.equal(actual, expected)


def test_frozen_term_reaches_only_the_temperature(alignment_case):
    """Gradients against a numerical derivative of the transcription, with all three terms in tau's."""
    z, targets, text, negatives, mask, has_images = alignment_case
    leaves = [tensor.clone().requires_grad_() for tensor in (z, targets, text, negatives)]
    tau = torch.tensor(0.3, requires_grad=True)
    alignment_loss(*leaves, mask, temperature=tau, has_images=has_images).sum().backward()
    assert all(leaf.grad is None for leaf in leaves[1:])

    def transcribed(tau, z):
        return sum(
            transcribed_alignment(
                z, targets.tolist(), text.tolist(), negatives.tolist(), mask.tolist(), tau, has_images.tolist()
            )
        )

    # The central difference is wrong by about step² beside what it loses in the subtraction.
    step = 1e-5
    slope = (transcribed(0.3 + step, z.tolist()) - transcribed(0.3 - step, z.tolist())) / (2 * step)
    assert tau.grad.item() == pytest.approx(slope, rel=1e-7)
    for row, column in [(0, 0), (1, 3), (2, 5), (3, 1)]:
        up, down = z.tolist(), z.tolist()
        up[row][column] += step
        down[row][column] -= step
        slope = (transcribed(0.3, up) - transcribed(0.3, down)) / (2 * step)
        assert leaves[0].grad[row, column].item() == pytest.approx(slope, rel=1e-7, abs=1e-9)
    assert not leaves[0].grad[3].any()


def test_third_term_alone_moves_the_temperature():
    """With z orthogonal to everything the first two terms are constant in tau; the third is not."""
    z, target = torch.tensor([[0.0, 0.0, 1.0]], requires_grad=True), torch.tensor([[1.0, 0.0, 0.0]])
    text, negatives = torch.tensor([[0.0, 1.0, 0.0]]), torch.tensor([[0.6, 0.8, 0.0]])
    tau = torch.tensor(0.5, requires_grad=True)
    mask, has_images = torch.ones(1, 1, dtype=torch.bool), torch.tensor([True])
    alignment_loss(z, target, text, negatives, mask, temperature=tau, has_images=has_images).sum().backward()
    # -log sigmoid(-0.8 / tau) has the derivative -sigmoid(0.8 / tau)·0.8 / tau².
    assert tau.grad.item() == pytest.approx(-sigmoid(0.8 / 0.5) * 0.8 / 0.5**2, rel=1e-9)


def test_alignment_without_negatives_and_without_images(alignment_case):
    z, targets, text, negatives, mask, _ = alignment_case
    z, tau = z.clone().requires_grad_(), torch.tensor(0.1, requires_grad=True)
    no_images = torch.zeros(4, dtype=torch.bool)
    loss = alignment_loss(z, targets, text, negatives, mask, temperature=tau, has_images=no_images)
    loss.sum().backward()
    assert loss.tolist() == [0.0] * 4 and not z.grad.any() and tau.grad.item() == 0.0

    empty = negatives[:0], mask[:, :0]
    loss = alignment_loss(z, targets, text, *empty, temperature=tau, has_images=~no_images)
    expected = [-math.log(sigmoid(dot(a, b) / 0.1)) for a, b in zip(z.tolist(), targets.tolist(), strict=True)]
    torch.testing.assert_close(loss, torch.tensor(expected), **EXACT)
    loss.sum().backward()
    assert z.grad.isfinite().all() and tau.grad.isfinite()


def test_alignment_is_finite_at_a_tiny_temperature(alignment_case):
    z, targets, text, negatives, mask, has_images = alignment_case
    z, tau = z.clone().requires_grad_(), torch.tensor(1e-4, requires_grad=True)
    loss = alignment_loss(z, targets, text, negatives, mask, temperature=tau, has_images=has_images)
    loss.sum().backward()
    assert loss.isfinite().all() and z.grad.isfinite().all() and tau.grad.isfinite()
