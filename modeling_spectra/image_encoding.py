"""What the model makes of an article's images before any text: embeddings, the choice of the best, visual states."""

import torch
from torch.nn import functional as F

from .outputs_spectra import EncodedImages, ImageSelection


class ImageEncodingMixin:
    """Embeds, encodes and ranks the images of a batch of articles; part of [`SpectraSumForConditionalGeneration`]."""

    def embed_images(self, pixel_values: torch.Tensor, image_mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Run the vision tower on the real images of a batch.

        Args:
            pixel_values: (B, N, 3, H, W).
            image_mask: (B, N), true on real images.

        Returns:
            Patches (B, N, P, d_v) and L2-normalised embeddings (B, N, d_img), both 0 on padded images. A tower without
            trainable parameters leaves no graph.

        Raises:
            ValueError: when N is 0 or more than `max_candidate_images`.
        """
        config, tower = self.config, self.vision_tower
        if not 1 <= pixel_values.shape[1] <= config.max_candidate_images:
            raise ValueError(
                f"pixel_values holds {pixel_values.shape[1]} images per article; it must hold 1 to max_candidate_images "
                f"({config.max_candidate_images}). The processor drops and reports the rest, and leaves pixel_values "
                "out when no article has an image."
            )
        patches = pixel_values.new_zeros(
            *image_mask.shape, config.num_patches, config.vision_config.hidden_size, dtype=tower.dtype
        )
        embeds = patches.new_zeros(*image_mask.shape, config.image_embedding_size)
        if not image_mask.any():
            return patches, embeds
        trainable = torch.is_grad_enabled() and any(parameter.requires_grad for parameter in tower.parameters())
        with torch.set_grad_enabled(trainable):
            outputs = tower(
                pixel_values[image_mask].to(tower.dtype), output_hidden_states=[config.vision_feature_layer]
            )
            # CLIP compares images and texts after a projection; SigLIP has none.
            pooled = outputs.image_embeds if "image_embeds" in outputs else outputs.pooler_output
            features = outputs.hidden_states[config.vision_feature_layer][:, -config.num_patches :]
            # Under autocast the tower's outputs are narrower than its weights.
            patches[image_mask] = features.to(patches.dtype)
            embeds[image_mask] = F.normalize(pooled.to(embeds.dtype), dim=-1)
        return patches, embeds

    def encode_images(
        self,
        pixel_values: torch.Tensor,
        image_mask: torch.Tensor | None = None,
        article_embeds: torch.Tensor | None = None,
        reduce_by_relevance: bool = True,
    ) -> EncodedImages:
        """Everything that is computed from an article's images, once per article.

        An article with more than `max_images` images is reduced to the relevance predictor's best (§4), in the
        article's order, or to its first ones when `reduce_by_relevance` is false.

        Args:
            pixel_values: (B, N, 3, H, W), N at most `max_candidate_images`.
            image_mask: (B, N), true on real images; all by default.
            article_embeds: (B, d), mean input embedding of the article's tokens, for a predictor with context. Without
                it such a predictor gives no logits.

        Raises:
            ValueError: for no or too many images, or when a reduction needs `article_embeds` and they are missing.
        """
        if image_mask is None:
            image_mask = torch.ones(pixel_values.shape[:2], dtype=torch.bool, device=pixel_values.device)
        image_mask = image_mask.bool()
        config, count = self.config, pixel_values.shape[1]
        patches, image_embeds = self.embed_images(pixel_values, image_mask)
        predictor, logits = self.visual_path.relevance_predictor, None
        if predictor.context == "none" or article_embeds is not None:
            logits = predictor(image_embeds, image_mask, article_embeds).masked_fill(~image_mask, -torch.inf)

        order = torch.where(image_mask, 0.0, -torch.inf)
        if count > config.max_images and reduce_by_relevance:
            if logits is None:
                raise ValueError(
                    f"choosing {config.max_images} of {count} images with vrp_context={predictor.context!r} needs the "
                    "article's tokens; when continuing from a cache, pass the visual_key_values of the first call."
                )
            order = logits.detach()
        kept = order.argsort(dim=1, descending=True, stable=True)[:, : config.max_images]
        # The article's order with the padding last, wherever it stood: an image's index counts real images only.
        kept = kept.masked_fill(~image_mask.gather(1, kept), count).sort(dim=1).values
        kept_mask, kept = kept < count, kept.clamp(max=count - 1)
        patches = patches.gather(1, kept[..., None, None].expand(-1, -1, *patches.shape[2:]))
        key_values = visual_tokens = None
        if config.fusion == "concat":
            visual_tokens = self.visual_path.projector(patches)
        else:
            kept_embeds = image_embeds.gather(1, kept[..., None].expand(-1, -1, image_embeds.shape[-1]))
            key_values = self.visual_path(patches, kept_embeds, kept_mask)
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
    def select_images(
        self,
        pixel_values: torch.Tensor | None = None,
        image_mask: torch.Tensor | None = None,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        article_mask: torch.Tensor | None = None,
        max_selected_images: int | None = None,
        threshold: float | None = None,
    ) -> ImageSelection:
        """Rank the images by p̂_i = σ(ℓ_i) and take the best (§4); equal ones in the article's order.

        Args:
            pixel_values: (B, N, 3, H, W); None selects nothing.
            image_mask: (B, N), true on real images. Padded images are never selected.
            input_ids, attention_mask, article_mask: (B, T), the prompt; needed unless `vrp_context` is `"none"`.
            max_selected_images (`int`, *optional*): Defaults to the configuration's.
            threshold (`float`, *optional*): Least probability of a selected image.

        Raises:
            ValueError: when the predictor reads the article and `input_ids` are missing.
        """
        if pixel_values is None:
            batch_size = 0 if input_ids is None else input_ids.shape[0]
            return ImageSelection([[] for _ in range(batch_size)], torch.zeros(batch_size, 0, device=self.device))
        predictor = self.visual_path.relevance_predictor
        if image_mask is None:
            image_mask = torch.ones(pixel_values.shape[:2], dtype=torch.bool, device=pixel_values.device)
        image_mask = image_mask.bool()
        article_embeds = None
        if predictor.context != "none":
            if input_ids is None:
                raise ValueError(
                    f"vrp_context={predictor.context!r} reads the article: pass input_ids to select_images."
                )
            article_embeds = self.article_embeddings(input_ids, attention_mask, article_mask)
        _, image_embeds = self.embed_images(pixel_values, image_mask)
        logits = predictor(image_embeds, image_mask, article_embeds)
        probabilities = logits.float().sigmoid().masked_fill(~image_mask, 0.0)
        limit = self.config.max_selected_images if max_selected_images is None else max_selected_images
        ranking = logits.masked_fill(~image_mask, -torch.inf).argsort(dim=1, descending=True, stable=True).tolist()
        indices = [
            [i for i in ranked if real[i] and (threshold is None or row[i] >= threshold)][:limit]
            for ranked, real, row in zip(ranking, image_mask.tolist(), probabilities.tolist(), strict=True)
        ]
        return ImageSelection(indices, probabilities)


__all__ = ["ImageEncodingMixin"]
