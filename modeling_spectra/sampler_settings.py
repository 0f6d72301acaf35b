"""What a sampler is made of where its settings leave it open, and which settings go together (§1, §9)."""

from transformers import AutoConfig, PreTrainedConfig


def fresh_qformer(config: PreTrainedConfig) -> PreTrainedConfig:
    """The configuration of a Q-Former that comes from no checkpoint: of the language model's width, without dropout.

    Args:
        config (`SpectraSumConfig`): `sampler_depth`, `sampler_num_heads`, `sampler_feed_forward_multiplier`, `hidden_act`.
    """
    width = config.text_config.hidden_size
    return AutoConfig.for_model(
        "instructblip_qformer",
        hidden_size=width,
        num_hidden_layers=config.sampler_depth,
        num_attention_heads=config.sampler_num_heads,
        intermediate_size=config.sampler_feed_forward_multiplier * width,
        hidden_act=config.hidden_act,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        initializer_range=config.initializer_range,
        encoder_hidden_size=config.patch_embedding_size,
    )


def check_sampler(config: PreTrainedConfig) -> None:
    """Check what a `SpectraSumConfig` says of sampler and guidance.

    Raises:
        ValueError: naming the field to change.
    """
    if not config.has_sampler:
        for name, plain in (("sampler_type", "perceiver"), ("image_guidance", "none")):
            if getattr(config, name) != plain:
                reads, other = (
                    ("visual_states", "sampler") if config.fusion != "concat" else ("concat_tokens", "latents")
                )
                if config.adapter_reads == "patches":
                    reads, other = "adapter_reads", "latents"
                raise ValueError(
                    f"{name} is {getattr(config, name)!r}, and fusion={config.fusion!r} has no sampler with "
                    f'{reads}={getattr(config, reads)!r}: set {reads} to "{other}", or leave {name} out.'
                )
    if config.fusion != "concat" and config.concat_tokens != "patches":
        raise ValueError(
            f'concat_tokens is {config.concat_tokens!r}, which fusion="concat" alone reads; fusion is {config.fusion!r}: set '
            'concat_tokens to "patches".'
        )
    if config.sampler_type == "kmeans":
        if config.image_guidance != "none":
            raise ValueError(
                'image_guidance is set, and sampler_type is "kmeans", which has no layers to guide: set sampler_type to '
                '"perceiver" or "qformer".'
            )
        if config.num_latents > config.num_patches:
            raise ValueError(
                f"num_latents is {config.num_latents}, and an image has {config.num_patches} patches to cluster: set num_latents "
                f"to at most {config.num_patches}."
            )
    qformer = config.qformer_config
    if config.sampler_type != "qformer" and (qformer is not None or config.qformer_text):
        name = "qformer_config" if qformer is not None else "qformer_text"
        raise ValueError(f'{name} is set, and sampler_type is {config.sampler_type!r}: set sampler_type to "qformer".')
    if qformer is not None and qformer.encoder_hidden_size != config.patch_embedding_size:
        raise ValueError(
            f"qformer_config reads patches of width {qformer.encoder_hidden_size} (encoder_hidden_size), and vision_config gives "
            f"{config.patch_embedding_size}: make them the same."
        )
    if len(config.guidance_span) != 2 or not (
        1 <= config.guidance_span[0] <= config.guidance_span[1] <= config.sampler_layers
    ):
        raise ValueError(
            f"guidance_layers is {list(config.guidance_span)}; it is [l, k] with 1 <= l <= k <= {config.sampler_layers}, the "
            "layers of the sampler."
        )
    if config.guidance_former == "linear" and config.guidance_span[0] != config.guidance_span[1]:
        raise ValueError(
            f"guidance_layers is {list(config.guidance_span)}; a linear layer has no l of its own: set l to k."
        )


__all__ = ["check_sampler", "fresh_qformer"]
