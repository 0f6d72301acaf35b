"""Which hidden states of the tower a fusion reads, and which of its settings go together (§7, §10, §11)."""

from transformers import PreTrainedConfig

from .vision_grid import check_layer, grids_of

# Gates of the paper; an adapter stands in every layer.
GATE_LAYERS = (8, 16, 24)
# What a setting belongs to: {field: (its plain value, what must hold, in words)}.
BELONGS = {
    "visual_states": (None, "a fusion inside the language model, and not an adapter that reads patches"),
    "cross_attention": ("projected", 'fusion="sampler" and fusion="dvp"'),
    "keep_share": (1.0, 'cross_attention="parameter_free"'),
    "adapter_reads": ("latents", 'fusion="adapter"'),
    "feature_fusion": ("concat", "several vision_feature_layers, which no visual_states='tower' reads"),
}


def default_gate_layers(config: PreTrainedConfig) -> list[int]:
    """`gate_layers` where none are given."""
    every = range(1, config.text_config.num_hidden_layers + 1)
    return list(every if config.fusion == "adapter" else GATE_LAYERS)


def tower_layer_of(gate_layer: int, config: PreTrainedConfig) -> int:
    """⌈ℓ · L_v / max G⌉ of §11: the hidden state of the vision tower, of L_v layers, that gate ℓ reads."""
    depth = len(grids_of(config.vision_config, config.image_size)) - 1
    # -(-a // b) rounds up.
    return -(-gate_layer * depth // max(config.gate_layers))


def tower_layers(config: PreTrainedConfig) -> list[int]:
    """The hidden states of the vision tower that are read as patches, side by side in this order."""
    if config.states_read == "tower":
        return sorted({tower_layer_of(layer, config) for layer in config.gate_layers})
    return list(config.vision_feature_layers or [config.vision_feature_layer])


def check_fusion(config: PreTrainedConfig) -> None:
    """Check what a `SpectraSumConfig` says of its fusion, its gates and the tower's hidden states.

    Raises:
        ValueError: naming the field to change.
    """
    depth = config.text_config.num_hidden_layers
    inside, states = config.fusion != "concat", config.states_read
    if states == "dvp" and config.dvp_num_layers > depth:
        raise ValueError(
            f"dvp_num_layers (K) is {config.dvp_num_layers}, but the language model has only {depth} layers; "
            f"set dvp_num_layers to at most {depth}."
        )
    deepest = config.dvp_num_layers if states == "dvp" else depth
    outside = [layer for layer in config.gate_layers if not 1 <= layer <= deepest]
    if inside and (outside or not config.gate_layers):
        raise ValueError(
            f"gate_layers is {config.gate_layers}; layers count from 1 and must lie within 1..{deepest} "
            f"({'dvp_num_layers' if states == 'dvp' else 'the depth of the language model'})."
        )
    if len(set(config.gate_layers)) != len(config.gate_layers):
        raise ValueError(f"gate_layers names a layer twice: {config.gate_layers}.")
    _check_belonging(config)
    check_tower_layers(config)
    if not 0 < config.keep_share <= 1:
        raise ValueError(f"keep_share is {config.keep_share}; it must be above 0 and at most 1.")
    if config.fusion == "modulation" and not hasattr(config.text_config, "rms_norm_eps"):
        raise ValueError(
            f'fusion is "modulation", which changes RMS norms, and text_config ({config.text_config.model_type}) names none '
            "(rms_norm_eps): use a language model of the Llama or Qwen2 kind, or another fusion."
        )
    sizes = set(config.visual_state_sizes.values()) if inside else set()
    if config.cross_attention == "parameter_free" and sizes != {config.text_config.hidden_size}:
        raise ValueError(
            f'cross_attention is "parameter_free", which attends to visual states of the language model\'s width '
            f"{config.text_config.hidden_size}, and visual_states={states!r} gives {sorted(sizes)}: set visual_states to "
            '"sampler" or "dvp".'
        )


def _check_belonging(config: PreTrainedConfig) -> None:
    inside, several = config.fusion != "concat", config.vision_feature_layers is not None
    holds = {
        "visual_states": inside and config.adapter_reads == "latents",
        "cross_attention": config.fusion in ("sampler", "dvp"),
        "keep_share": config.cross_attention == "parameter_free",
        "adapter_reads": config.fusion == "adapter",
        "feature_fusion": several and len(config.vision_feature_layers) > 1,
    }
    for name, (plain, needed) in BELONGS.items():
        if getattr(config, name) != plain and not holds[name]:
            raise ValueError(f"{name} is {getattr(config, name)!r}, which belongs to {needed}: leave it at {plain!r}.")
    if several and config.states_read == "tower":
        raise ValueError(
            "vision_feature_layers is set, and visual_states is 'tower', which reads a hidden state for each gate: leave one out."
        )
    if config.vision_feature_layer != -1 and (several or config.states_read == "tower"):
        other = "vision_feature_layers is set" if several else "visual_states is 'tower'"
        raise ValueError(f"vision_feature_layer is {config.vision_feature_layer}, and {other}: leave one out.")


def check_tower_layers(config: PreTrainedConfig) -> None:
    """Check the hidden states that a `SpectraSumConfig` reads of its vision tower, before sizes are computed of them.

    Raises:
        ValueError: naming the field to change.
    """
    if config.vision_feature_layers is not None:
        count = len(config.vision_feature_layers)
        if count == 0 or len(set(config.vision_feature_layers)) != count:
            raise ValueError(
                f"vision_feature_layers is {list(config.vision_feature_layers)}; name at least one hidden state, and each once."
            )
        for layer in config.vision_feature_layers:
            check_layer(config.vision_config, layer, config.image_size, "vision_feature_layers")
    check_layer(config.vision_config, config.vision_feature_layer, config.image_size)
    widths = config.tower_widths
    if config.feature_fusion == "query" and len(set(widths)) > 1:
        raise ValueError(
            f'feature_fusion is "query", for which all vision_feature_layers have one width, and theirs are {widths}: set '
            'feature_fusion to "concat".'
        )


__all__ = ["check_fusion", "check_tower_layers", "default_gate_layers", "tower_layer_of", "tower_layers"]
