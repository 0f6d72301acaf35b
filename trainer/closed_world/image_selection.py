"""Ways to select images, compared on the same articles: predictors with different context and those of a summary."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from tqdm.auto import tqdm

from modeling_spectra import SpectraSumConfig, SpectraSumForConditionalGeneration, SpectraSumProcessor
from modeling_spectra.visual_relevance_predictor import VisualRelevancePredictor
from spectra_sum.selection.dpp import relevance_scores
from spectra_sum.selection.methods import SelectionSettings, select_by_relevance
from spectra_sum.sentences import reference_sentences
from trainer.objectives.dpp_teacher import DPPTeacher
from trainer.objectives.losses import distillation_loss


@dataclass
class EmbeddedArticles:
    """What image selection needs of A articles with at most N images, computed once.

    image_embeds (A, N, d_img), image_mask (A, N), article_embeds (A, d), marginals and relevance (A, N) of the teacher,
    and the numbers of the teacher's process, for the methods that share them.
    """

    image_embeds: torch.Tensor
    image_mask: torch.Tensor
    article_embeds: torch.Tensor
    marginals: torch.Tensor
    relevance: torch.Tensor
    settings: SelectionSettings

    def __getitem__(self, rows: torch.Tensor) -> "EmbeddedArticles":
        tensors = {name: value for name, value in vars(self).items() if isinstance(value, torch.Tensor)}
        return replace(self, **{name: tensor[rows] for name, tensor in tensors.items()})


@torch.no_grad()
def embed_articles(
    model: SpectraSumForConditionalGeneration,
    processor: SpectraSumProcessor,
    teacher: DPPTeacher,
    records: Sequence[dict[str, Any]],
    *,
    max_length: int,
    batch_size: int = 50,
) -> EmbeddedArticles:
    """Embed articles and their images with a model's frozen tower and input embeddings, and label them."""
    count, size = len(records), model.config.max_candidate_images
    embedded = EmbeddedArticles(
        image_embeds=torch.zeros(count, size, model.config.image_embedding_size),
        image_mask=torch.zeros(count, size, dtype=torch.bool),
        article_embeds=torch.zeros(count, model.config.text_config.hidden_size),
        marginals=torch.zeros(count, size),
        relevance=torch.zeros(count, size),
        settings=SelectionSettings(
            beta=teacher.beta, sigma=teacher.sigma, kappa=teacher.kappa, epsilon=teacher.epsilon
        ),
    )
    for start in tqdm(range(0, count, batch_size), desc="embedding articles", unit="batch"):
        batch = [records[index] for index in range(start, min(start + batch_size, count))]
        inputs = processor(
            text=[record["article"] for record in batch],
            title=[record["title"] for record in batch],
            images=[record["images"] for record in batch],
            max_length=max_length,
        )
        mask = inputs["image_mask"]
        _, image_embeds = model.embed_images(inputs["pixel_values"], mask)
        sentences = teacher.embed_summaries([reference_sentences(record["summary"]) for record in batch])
        rows, images = slice(start, start + len(batch)), slice(mask.shape[1])
        embedded.image_embeds[rows, images] = image_embeds
        embedded.image_mask[rows, images] = mask
        embedded.article_embeds[rows] = model.article_embeddings(
            inputs["input_ids"], inputs["attention_mask"], inputs["article_mask"]
        )
        embedded.marginals[rows, images] = teacher(image_embeds, mask, *sentences).float()
        embedded.relevance[rows, images] = relevance_scores(*sentences, image_embeds, mask).float()
    return embedded


def train_predictor(
    config: SpectraSumConfig,
    articles: EmbeddedArticles,
    *,
    steps: int,
    seed: int,
    batch_size: int = 64,
    learning_rate: float = 1e-3,
) -> VisualRelevancePredictor:
    """A relevance predictor of `config.vrp_context`, trained with L_distill (§6) on cached embeddings."""
    torch.manual_seed(seed)
    predictor = VisualRelevancePredictor(config)
    optimizer = torch.optim.AdamW(predictor.parameters(), lr=learning_rate)
    for _ in tqdm(range(steps), desc=f"predictor ({config.vrp_context})", unit="step"):
        batch = articles[torch.randint(len(articles.image_mask), (batch_size,))]
        logits = predictor(batch.image_embeds, batch.image_mask, batch.article_embeds)
        loss = distillation_loss(logits, batch.marginals, batch.image_mask, config.distill_count_weight).mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return predictor.eval()


def best_images(scores: torch.Tensor, image_mask: torch.Tensor, count: int) -> list[list[int]]:
    """The indices of the best `count` real images of each article by `scores` (A, N); equal ones in order."""
    ranking = scores.masked_fill(~image_mask, -torch.inf).argsort(dim=1, descending=True, stable=True)
    return [
        [index for index in ranked if real[index]][:count]
        for ranked, real in zip(ranking.tolist(), image_mask.tolist(), strict=True)
    ]


def select_on_each(method: str, articles: EmbeddedArticles, *, count: int, seed: int) -> list[list[int]]:
    """The indices of the `count` images that a method of `SELECTION_METHODS` selects from each article, best first."""
    selections = []
    for embeds, relevance, mask in zip(articles.image_embeds, articles.relevance, articles.image_mask, strict=True):
        real = mask.nonzero().squeeze(-1)
        selected = select_by_relevance(
            method, embeds[real], relevance[real], count=count, settings=articles.settings, seed=seed
        )
        selections.append(real[selected.indices].tolist())
    return selections


@torch.no_grad()
def select_by_each(
    predictors: dict[str, VisualRelevancePredictor], articles: EmbeddedArticles, *, count: int, seed: int
) -> dict[str, list[list[int]]]:
    """Selections of `count` images by every predictor, by the methods that read the reference, and at random.

    `teacher`, `dpp_map` (greedy MAP of the teacher's process), `mmr` and `relevance` know the reference summary.
    """
    mask = articles.image_mask
    scores = {
        name: predictor(articles.image_embeds, mask, articles.article_embeds) for name, predictor in predictors.items()
    }
    selections = {name: best_images(values, mask, count) for name, values in scores.items()}
    selections["teacher"] = best_images(articles.marginals, mask, count)
    selections["dpp_map"] = select_on_each("dpp-map", articles, count=count, seed=seed)
    selections["mmr"] = select_on_each("mmr", articles, count=count, seed=seed)
    selections["relevance"] = best_images(articles.relevance, mask, count)
    chance = torch.rand(mask.shape, generator=torch.Generator().manual_seed(seed))
    selections["random"] = best_images(chance, mask, count)
    return selections
