"""What the tests of parity and of generation share: ragged prompts, in a batch and alone, and the text model by itself."""

import torch
import torch.nn.functional as F
from transformers import AutoModelForCausalLM

from tests.tiny import VOCABULARY, tokens

PLACEHOLDER = VOCABULARY - 1


def bare_text_model(model):
    """The text model by itself, without hooks, with the same weights."""
    bare = AutoModelForCausalLM.from_config(model.config.text_config).eval()
    bare.load_state_dict(model.language_model.state_dict())
    bare.set_attn_implementation(model.config._attn_implementation)
    assert not any(layer._forward_pre_hooks for layer in bare.model.layers)
    return bare


def prompts(model, counts, length=6, seed=4):
    """Left-padded input_ids and attention_mask, with placeholders before the text for `fusion="concat"`."""
    text = tokens(len(counts), length, seed)
    per_image, most = model.config.num_image_tokens, model.config.max_images
    rows = [
        torch.cat([torch.full((min(count, most) * per_image,), PLACEHOLDER), text[row, row % 2 :]])
        for row, count in enumerate(counts)
    ]
    width = max(map(len, rows))
    input_ids = torch.stack([F.pad(row, (width - len(row), 0), value=0) for row in rows])
    attention_mask = torch.stack([F.pad(torch.ones_like(row), (width - len(row), 0)) for row in rows])
    return {"input_ids": input_ids, "attention_mask": attention_mask}


def positions(attention_mask):
    """Each token's place among the tokens of its own row, 0 on padding."""
    rows = [
        [max(sum(row[: index + 1]) - 1, 0) * row[index] for index in range(len(row))]
        for row in attention_mask.tolist()
    ]
    return torch.tensor(rows)


def alone(inputs, values, row, count):
    """One article without any padding."""
    kept = inputs["attention_mask"][row].bool()
    single = {"input_ids": inputs["input_ids"][row][kept][None]}
    if count:
        single |= {"pixel_values": values[row, :count][None]}
    return single
