"""What follows from the fields of a configuration: what is read of the images, and its sizes."""

from .fusion_settings import tower_layer_of, tower_layers
from .vision_grid import Grid, common_grid, embedding_size_of, grids_of


class DerivedSizesMixin:
    """Properties of [`SpectraSumConfig`]."""

    @property
    def states_read(self) -> str | None:
        """What the fusion reads of the images: the latents of the `"sampler"`, the states of the `"dvp"` or the `"tower"`, or
        `"patches"`; None for `"concat"`."""
        if self.fusion == "concat":
            return None
        if self.adapter_reads == "patches":
            return "patches"
        return self.visual_states or ("dvp" if self.fusion == "dvp" else "sampler")

    @property
    def has_sampler(self) -> bool:
        """Whether latents are made of an image's patches."""
        if self.fusion == "concat":
            return self.concat_tokens == "latents"
        return self.states_read in ("sampler", "dvp")

    @property
    def sampler_layers(self) -> int:
        """Layers of the sampler (n of §9)."""
        return self.sampler_depth if self.qformer_config is None else self.qformer_config.num_hidden_layers

    @property
    def sampler_width(self) -> int:
        """Width of the sampler's states, before they are projected."""
        if self.sampler_type == "kmeans":
            return self.patch_embedding_size
        config = self.text_config if self.qformer_config is None else self.qformer_config
        return config.hidden_size

    @property
    def guidance_span(self) -> tuple[int, int]:
        """(l, k) of §9: `guidance_layers`, or twice the sampler's last layer."""
        return tuple(self.guidance_layers or (self.sampler_layers, self.sampler_layers))

    @property
    def has_image_embeddings(self) -> bool:
        """Whether a tower gives embeddings to rank images by: all do but a SigLIP without its pooling head."""
        return getattr(self.embedding_vision_config or self.vision_config, "vision_use_head", True)

    @property
    def image_embedding_size(self) -> int:
        """Width of the image embeddings (d_img): CLIP's projection, the pooled output of other towers."""
        return embedding_size_of(self.embedding_vision_config or self.vision_config)

    @property
    def tower_layers(self) -> list[int]:
        """The vision tower's hidden states that are read as patches, side by side."""
        return tower_layers(self)

    @property
    def tower_widths(self) -> list[int]:
        """Their widths."""
        return [grids_of(self.vision_config, self.image_size)[layer].width for layer in self.tower_layers]

    @property
    def tower_grid(self) -> Grid:
        """The patches that the tower gives, and caches keep: of all these hidden states side by side."""
        return common_grid(self.vision_config, self.tower_layers, self.image_size)

    @property
    def num_patches(self) -> int:
        """Patches per image (P), without class and register tokens, but for InstructBLIP's tower."""
        return self.tower_grid.num_patches

    @property
    def patch_embedding_size(self) -> int:
        """Width of the patches (d_v) that sampler and projector read: of all hidden states, or of the deep one that queries."""
        return self.tower_widths[-1] if self.feature_fusion == "query" else self.tower_grid.width

    @property
    def visual_state_sizes(self) -> dict[int, int]:
        """{layer of G: width of the visual states that it reads} (d_s); empty for `"concat"`."""
        if self.fusion == "concat":
            return {}
        if self.states_read == "tower":
            widths = dict(zip(self.tower_layers, self.tower_widths, strict=True))
            return {layer: widths[tower_layer_of(layer, self)] for layer in self.gate_layers}
        width = self.patch_embedding_size if self.states_read == "patches" else self.text_config.hidden_size
        return dict.fromkeys(self.gate_layers, width)

    @property
    def num_image_tokens(self) -> int:
        """Placeholders of one image in the prompt: for `"concat"` its patches and a newline, or its latents; otherwise 0."""
        if self.fusion != "concat":
            return 0
        return self.num_latents if self.concat_tokens == "latents" else self.num_patches + 1


__all__ = ["DerivedSizesMixin"]
