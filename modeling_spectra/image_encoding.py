"""What the model makes of an article's images before any text: embeddings, the choice of the best, visual states."""

from typing import Any

import torch
from torch import nn
from torch.nn import functional as F
from transformers.modeling_outputs import ModelOutput

from .outputs_spectra import EncodedImages, ImageSelection
from .qformer_sampler import QueryText
from .vision_grid import patches_of, pooled_of, reading_arguments


class ImageEncodingMixin:
    """Embeds, encodes and ranks the images of a batch of articles; part of [`SpectraSumForConditionalGeneration`]."""

    def _check_count(self, values: torch.Tensor, name: str) -> None:
        if not 1 <= values.shape[1] <= self.config.max_candidate_images:
            raise ValueError(
                f"{name} holds {values.shape[1]} images per article; it must hold 1 to max_candidate_images "
                f"({self.config.max_candidate_images}). The processor drops and reports the rest, and leaves pixel_values "
                "out when no article has an image."
            )

    def _checked_mask(self, image_mask: torch.Tensor | None, **inputs: torch.Tensor | None) -> torch.Tensor:
        """The mask of images (B, N), all true where none is given, once it is sure that all inputs are of the same images."""
        given = {name: values for name, values in inputs.items() if values is not None}
        for name, values in given.items():
            self._check_count(values, name)
        first = next(iter(given.values()))
        if image_mask is None:
            image_mask = torch.ones(first.shape[:2], dtype=torch.bool, device=first.device)
        shapes = {name: tuple(values.shape[:2]) for name, values in (given | {"image_mask": image_mask}).items()}
        if len(set(shapes.values())) > 1:
            raise ValueError(f"articles and images per article must be the same in all of {shapes}.")
        return image_mask.bool()

    def _run_tower(
        self, tower: nn.Module, pixel_values: torch.Tensor, image_mask: torch.Tensor, **kwargs: Any
    ) -> tuple[ModelOutput, torch.Tensor]:
        """The tower's output for the images that ran, and their mask (B, N)."""
        self._check_count(pixel_values, "pixel_values")
        side = self.config.image_size
        if pixel_values.shape[-2:] != (side, side):
            # Convolutions would give another grid.
            height, width = pixel_values.shape[-2:]
            raise ValueError(
                f"pixel_values holds images of {height} × {width} pixels; the model reads squares of {side} (image_size): use "
                "its own processor."
            )
        ran = image_mask.clone()
        if not ran.any():
            # Where parameters are sharded over processes, each of them has to run the tower, with or without images.
            ran[0, 0] = True
        trainable = torch.is_grad_enabled() and any(parameter.requires_grad for parameter in tower.parameters())
        with torch.set_grad_enabled(trainable):
            return tower(pixel_values[ran].to(tower.dtype), **kwargs), ran

    def _patches_of(self, outputs: ModelOutput, ran: torch.Tensor, image_mask: torch.Tensor) -> torch.Tensor:
        config = self.config
        features = patches_of(outputs, config.vision_config, config.tower_layers, config.tower_grid)
        # Under autocast a tower's outputs are narrower than its weights.
        return _place(features.to(self.vision_tower.dtype), ran, image_mask)

    def _embeddings_of(self, outputs: ModelOutput, ran: torch.Tensor, image_mask: torch.Tensor) -> torch.Tensor:
        # In float32, since the teacher magnifies small differences.
        return _place(F.normalize(pooled_of(outputs).float(), dim=-1), ran, image_mask)

    def embed_images(self, pixel_values: torch.Tensor, image_mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Run the vision tower, or both towers, on the real images of a batch.

        Args:
            pixel_values: (B, N, 3, H, W).
            image_mask: (B, N), true on real images.

        Returns:
            Patches (B, N, P, Σ d_v), of all hidden states that are read, in the tower's dtype and L2-normalised embeddings
            (B, N, d_img) in float32, both 0 on padded images. A tower without trainable parameters leaves no graph.

        Raises:
            ValueError: when N is 0 or more than `max_candidate_images`, or images are of another size than `image_size`.
        """
        if self.embedding_tower is not None:
            return self.patch_images(pixel_values, image_mask), self.pool_images(pixel_values, image_mask)
        reading = reading_arguments(self.config.vision_config, self.config.tower_layers)
        outputs, ran = self._run_tower(self.vision_tower, pixel_values, image_mask, **reading)
        return self._patches_of(outputs, ran, image_mask), self._embeddings_of(outputs, ran, image_mask)

    def pool_images(self, pixel_values: torch.Tensor, image_mask: torch.Tensor) -> torch.Tensor:
        """The embeddings of [`embed_images`] alone, of the embedding tower where there is one.

        Raises:
            ValueError: also when no tower gives any.
        """
        if not self.config.has_image_embeddings:
            raise ValueError(
                "this model's vision tower has no pooling head, so that it ranks no images: load it with embedding_vision, "
                "or rank the images by another model."
            )
        outputs, ran = self._run_tower(self.embedding_tower or self.vision_tower, pixel_values, image_mask)
        return self._embeddings_of(outputs, ran, image_mask)

    def patch_images(self, pixel_values: torch.Tensor, image_mask: torch.Tensor) -> torch.Tensor:
        """The patches of [`embed_images`] alone."""
        reading = reading_arguments(self.config.vision_config, self.config.tower_layers)
        outputs, ran = self._run_tower(self.vision_tower, pixel_values, image_mask, **reading)
        return self._patches_of(outputs, ran, image_mask)

    @torch.no_grad()
    def image_features(self, pixel_values: torch.Tensor, image_mask: torch.Tensor) -> dict[str, torch.Tensor]:
        """What `generate`, `select_images` and a forward pass of the same articles would each compute anew, without a graph.

        Args:
            pixel_values: (B, N, 3, H, W).
            image_mask: (B, N), true on real images.

        Returns:
            Arguments of theirs: `image_embeds`, and `patches` where one pass of the only tower gives both. A second tower
            runs on the images alone that the summarizer sees. `patches` alone where no tower gives embeddings.
        """
        if not self.config.has_image_embeddings:
            return {"patches": self.patch_images(pixel_values, image_mask)}
        if self.embedding_tower is not None:
            return {"image_embeds": self.pool_images(pixel_values, image_mask)}
        patches, image_embeds = self.embed_images(pixel_values, image_mask)
        return {"image_embeds": image_embeds, "patches": patches}

    def encode_images(
        self,
        pixel_values: torch.Tensor | None = None,
        image_mask: torch.Tensor | None = None,
        article_embeds: torch.Tensor | None = None,
        reduce_by_relevance: bool = True,
        image_embeds: torch.Tensor | None = None,
        patches: torch.Tensor | None = None,
        rank_images: bool = True,
        image_text_embeds: torch.Tensor | None = None,
        qformer_input_ids: torch.Tensor | None = None,
        qformer_attention_mask: torch.Tensor | None = None,
    ) -> EncodedImages:
        """Everything that is computed from an article's images, once per article.

        An article with more than `max_images` images is reduced to the relevance predictor's best (§4), in the
        article's order, or to its first ones when `reduce_by_relevance` is false or no tower gives embeddings.

        Args:
            pixel_values: (B, N, 3, H, W), N at most `max_candidate_images`; not needed with `image_embeds` and `patches`.
            image_mask: (B, N), true on real images; all by default.
            article_embeds: (B, d), mean input embedding of the article's tokens, for a predictor with context. Without
                it such a predictor gives no logits.
            image_embeds: (B, N, d_img), what [`pool_images`] gave for these images. The vision tower then sees the
                images alone that the summarizer sees.
            patches: (B, N, P, d_v), what [`patch_images`] gave for these images.
            rank_images: False where nobody reads embeddings and logits, as in generation: without a reduction and without
                `add_pooled_embedding` there is then no use for an embedding tower, which does not run.
            image_text_embeds: (B, N, d), what [`image_text_embeddings`] gives, for a predictor with `vrp_image_texts`.
            qformer_input_ids, qformer_attention_mask: (B, S), the prompt's text for a Q-Former with `qformer_text`.

        Raises:
            ValueError: for no or too many images, for inputs of different shapes (B, N), or when a reduction needs
                `article_embeds` and they are missing.
        """
        config = self.config
        embeds = config.has_image_embeddings
        if pixel_values is None and ((embeds and image_embeds is None) or patches is None):
            raise ValueError("pass pixel_values, or both image_embeds and patches.")
        image_mask = self._checked_mask(
            image_mask,
            pixel_values=pixel_values,
            image_embeds=image_embeds,
            patches=patches,
            image_text_embeds=image_text_embeds,
        )
        count = image_mask.shape[1]
        reduced = count > config.max_images and reduce_by_relevance and embeds
        if embeds and image_embeds is None and patches is None and self.embedding_tower is None:
            patches, image_embeds = self.embed_images(pixel_values, image_mask)
        elif embeds and image_embeds is None and (rank_images or reduced or self.visual_path.reads_embeddings):
            image_embeds = self.pool_images(pixel_values, image_mask)
        predictor, logits = self.visual_path.relevance_predictor, None
        if image_embeds is not None and (predictor.context == "none" or article_embeds is not None):
            logits = predictor(image_embeds, image_mask, article_embeds, image_text_embeds).to(image_mask.device)
            logits = logits.masked_fill(~image_mask, torch.finfo(logits.dtype).min)

        order = torch.where(image_mask, 0.0, -torch.inf)
        if reduced:
            if logits is None:
                raise ValueError(
                    f"choosing {config.max_images} of {count} images with vrp_context={predictor.context!r} needs the "
                    "article's tokens; when continuing from a cache, pass the visual_key_values of the first call."
                )
            order = logits.detach().masked_fill(~image_mask, -torch.inf)
        kept = order.argsort(dim=1, descending=True, stable=True)[:, : config.max_images]
        # The article's order with the padding last, wherever it stood: an image's index counts real images only.
        kept = kept.masked_fill(~image_mask.gather(1, kept), count).sort(dim=1).values
        kept_mask, kept = kept < count, kept.clamp(max=count - 1)
        if patches is None:
            patches = self.patch_images(_take_images(pixel_values, kept), kept_mask)
        else:
            patches = _take_images(patches, kept).to(self.vision_tower.dtype)
        kept_embeds = None
        if self.visual_path.reads_embeddings:
            kept_embeds = _take_images(image_embeds, kept).to(patches.dtype)
        query_text = None
        if config.qformer_text and qformer_input_ids is not None:
            mask = torch.ones_like(qformer_input_ids) if qformer_attention_mask is None else qformer_attention_mask
            query_text = QueryText(qformer_input_ids, mask)
        read = patches, kept_embeds, kept_mask, query_text
        key_values = visual_tokens = None
        if config.fusion == "concat":
            visual_tokens = self.visual_path.visual_tokens(*read)
        else:
            key_values = self.visual_path(*read)
        return EncodedImages(image_embeds, logits, key_values, visual_tokens, kept.masked_fill(~kept_mask, -1))

    def article_embeddings(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        article_mask: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Mean input embedding (B, d) of the article's tokens (a of §4), without gradient.

        Without `article_mask` (B, up to T) every attended token counts that is neither a placeholder nor part of the
        summary, that is, has no label.
        """
        length = input_ids.shape[1]
        if article_mask is not None:
            mask = F.pad(article_mask.bool(), (0, length - article_mask.shape[1]))
        else:
            mask = torch.ones_like(input_ids, dtype=torch.bool)
            if attention_mask is not None:
                mask = mask & attention_mask.bool()
            if labels is not None:
                mask = mask & (labels == -100)
            if self.config.image_token_id is not None:
                mask = mask & (input_ids != self.config.image_token_id)
        with torch.no_grad():
            weights = mask.to(self.dtype)
            embeds = self.get_input_embeddings()(input_ids)
            return (weights[:, None] @ embeds.to(self.dtype)).squeeze(1) / weights.sum(1, keepdim=True).clamp(min=1)

    @torch.no_grad()
    def image_text_embeddings(
        self, image_text_ids: torch.Tensor | None, image_text_mask: torch.Tensor | None = None
    ) -> torch.Tensor | None:
        """Mean input embedding (B, N, d) of the tokens of each image's text (c_i of §12), 0 for an image without any.

        Args:
            image_text_ids: (B, N, S).
            image_text_mask: (B, N, S), true on real tokens; all by default.

        Returns:
            None without ids, and for a predictor that reads no image texts.
        """
        if image_text_ids is None or not self.config.vrp_image_texts:
            return None
        mask = torch.ones_like(image_text_ids) if image_text_mask is None else image_text_mask
        if mask.shape != image_text_ids.shape:
            raise ValueError(
                f"image_text_mask has the shape {tuple(mask.shape)} and image_text_ids {tuple(image_text_ids.shape)}; they "
                "must be the same."
            )
        weights = mask.to(self.dtype)
        embeds = self.get_input_embeddings()(image_text_ids).to(self.dtype)
        return (weights[..., None, :] @ embeds).squeeze(-2) / weights.sum(-1, keepdim=True).clamp(min=1)

    @torch.no_grad()
    def select_images(
        self,
        pixel_values: torch.Tensor | None = None,
        image_mask: torch.Tensor | None = None,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        article_mask: torch.Tensor | None = None,
        max_selected_images: int | None = None,
        threshold: float | None = None,
        image_embeds: torch.Tensor | None = None,
        patches: torch.Tensor | None = None,
        image_text_ids: torch.Tensor | None = None,
        image_text_mask: torch.Tensor | None = None,
        qformer_input_ids: torch.Tensor | None = None,
        qformer_attention_mask: torch.Tensor | None = None,
    ) -> ImageSelection:
        """Rank the images by p̂_i = σ(ℓ_i) and take the best (§4); equal ones in the article's order.

        Args:
            pixel_values: (B, N, 3, H, W); without them and without `image_embeds` nothing is selected.
            image_mask: (B, N), true on real images. Padded images are never selected.
            input_ids, attention_mask, article_mask: (B, T), the prompt; needed unless `vrp_context` is `"none"`.
            max_selected_images (`int`, *optional*): Defaults to the configuration's.
            threshold (`float`, *optional*): Least probability of a selected image.
            image_embeds: (B, N, d_img), what [`pool_images`] gave for these images; no tower runs then.
            patches, qformer_input_ids, qformer_attention_mask: Not read: the arguments of `generate` are those of this
                method, too.
            image_text_ids, image_text_mask: (B, N, S), the images' texts for a predictor with `vrp_image_texts`.

        Raises:
            ValueError: when the predictor reads the article and `input_ids` are missing, for too many images, for inputs of
                different shapes (B, N), and when no tower gives embeddings.
        """
        if pixel_values is None and image_embeds is None:
            batch_size = 0 if input_ids is None else input_ids.shape[0]
            return ImageSelection([[] for _ in range(batch_size)], torch.zeros(batch_size, 0, device=self.device))
        predictor = self.visual_path.relevance_predictor
        texts = self.image_text_embeddings(image_text_ids, image_text_mask)
        image_mask = self._checked_mask(
            image_mask, pixel_values=pixel_values, image_embeds=image_embeds, image_text_ids=texts
        )
        article_embeds = None
        if predictor.context != "none":
            if input_ids is None:
                raise ValueError(
                    f"vrp_context={predictor.context!r} reads the article: pass input_ids to select_images."
                )
            article_embeds = self.article_embeddings(input_ids, attention_mask, article_mask)
        if image_embeds is None:
            image_embeds = self.pool_images(pixel_values, image_mask)
        logits = predictor(image_embeds, image_mask, article_embeds, texts).to(image_mask.device)
        probabilities = logits.float().sigmoid().masked_fill(~image_mask, 0.0)
        limit = self.config.max_selected_images if max_selected_images is None else max_selected_images
        ranking = logits.masked_fill(~image_mask, -torch.inf).argsort(dim=1, descending=True, stable=True).tolist()
        indices = [
            [i for i in ranked if real[i] and (threshold is None or row[i] >= threshold)][:limit]
            for ranked, real, row in zip(ranking, image_mask.tolist(), probabilities.tolist(), strict=True)
        ]
        return ImageSelection(indices, probabilities)


def _place(values: torch.Tensor, ran: torch.Tensor, image_mask: torch.Tensor) -> torch.Tensor:
    """Values of the images that ran (images, …) at their places (B, N, …), 0 on padded images."""
    # Of the images' device, whatever the tower's is.
    values = values.to(image_mask.device)
    placed = values.new_zeros(*image_mask.shape, *values.shape[1:])
    placed[ran] = values
    return placed.masked_fill(~image_mask[(..., *[None] * (values.dim() - 1))], 0.0)


def _take_images(values: torch.Tensor, indices: torch.Tensor) -> torch.Tensor:
    """The images `indices` (B, N') of values (B, N, …) → (B, N', …)."""
    shape = (*indices.shape, *values.shape[2:])
    return values.gather(1, indices[(..., *[None] * (values.dim() - 2))].expand(shape))


__all__ = ["ImageEncodingMixin"]
