"""Every fusion and every way of reading the images, as the suite of `test_fusions.py` runs them: a new one is one entry here."""

import torch

from tests.tiny import tiny_model

# Fields of the configuration; sizes are those of `tests/tiny.py`.
CASES = {
    "concat": {"fusion": "concat"},
    "concat of latents": {"fusion": "concat", "concat_tokens": "latents"},
    "sampler": {"fusion": "sampler", "gate_feed_forward": True},
    "dvp": {"fusion": "dvp"},
    "adapter": {"fusion": "adapter", "gate_layers": None, "adapter_rank": 8},
    "adapter of patches": {"fusion": "adapter", "adapter_reads": "patches", "adapter_rank": 8},
    "modulation": {"fusion": "modulation", "modulation_rank": 8},
    "modulation of the dvp": {"fusion": "modulation", "visual_states": "dvp", "modulation_rank": 8},
    "parameter-free": {"fusion": "sampler", "cross_attention": "parameter_free", "keep_share": 0.5},
    "states of the tower": {"fusion": "sampler", "visual_states": "tower"},
    "layers side by side": {"fusion": "sampler", "vision_feature_layers": [0, 2]},
    "deep query shallow": {"fusion": "sampler", "vision_feature_layers": [0, 1, 2], "feature_fusion": "query"},
    "k-means": {"fusion": "sampler", "sampler_type": "kmeans"},
    "q-former": {"fusion": "sampler", "sampler_type": "qformer"},
}
INSIDE = [name for name, fields in CASES.items() if fields["fusion"] != "concat"]


@torch.no_grad()
def open_zeros(model):
    """Give what starts at zero, which is what makes a new model equal to its base, values that matter."""
    generator = torch.Generator().manual_seed(5)
    for parameter in model.visual_path.parameters():
        if not parameter.any():
            parameter.copy_(0.6 * torch.randn(parameter.shape, generator=generator) + 0.3)
    return model


def case_model(name, *, opened=True, **fields):
    """A tiny model of a case, whose images matter unless it is to be as new."""
    fields = CASES[name] | fields
    model = tiny_model(**fields)
    return open_zeros(model) if opened else model
