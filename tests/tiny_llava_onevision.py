"""Tiny LLaVA-OneVision folders, saved by transformers, with the SigLIP that their towers come from."""

import json
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import (
    LlavaOnevisionConfig,
    LlavaOnevisionForConditionalGeneration,
    LlavaOnevisionImageProcessor,
    SiglipVisionModel,
)

from tests.tiny import IMAGE_SIZE, SPREAD, save_vision_folder, text_config, tiny_tokenizer, vision_config

# As the published checkpoints': only parts of a message are rendered, and a plain string disappears.
PARTS_TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + ' ' }}"
    "{% for content in message['content'] | selectattr('type', 'equalto', 'image') %}{{ '<image>' }}{% endfor %}"
    "{% for content in message['content'] | selectattr('type', 'equalto', 'text') %}{{ '\\n' + content['text'] }}"
    "{% endfor %}{{ '<|im_end|>' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
SIDES = {"height": IMAGE_SIZE, "width": IMAGE_SIZE}
# Of a model that is made of such a folder.
FIELDS = {"dvp_num_layers": 3, "gate_layers": [1, 3], "num_latents": 2, "max_images": 3, "max_candidate_images": 6}


def save_siglip_folder(folder: Path) -> Path:
    """The full SigLIP of two layers, with the tokenizer of its text encoder."""
    save_vision_folder(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder


def save_llava_onevision_folder(
    folder: Path,
    siglip: Path,
    *,
    tied: bool = False,
    trained_tower: bool = True,
    template: str = "chat_template.jinja",
    dtype: torch.dtype = torch.float32,
    max_shard_size: str = "1GB",
    seed: int = 6,
    **fields,
) -> Path:
    """A LLaVA-OneVision model whose tower is the first layer of `siglip`, trained further or as it was.

    Args:
        template: The file with the chat template, as the processor of transformers 5 (`chat_template.jinja`) or 4
            (`chat_template.json`) writes it; none without a name.
        fields: Of `LlavaOnevisionConfig`.
    """
    torch.manual_seed(seed)
    tower = vision_config()
    tower.num_hidden_layers, tower.vision_use_head = 1, False
    tokenizer = tiny_tokenizer(chat=True)
    tokenizer.chat_template = None
    tokenizer.add_special_tokens({"extra_special_tokens": ["<image>", "<video>"]}, replace_extra_special_tokens=False)
    config = LlavaOnevisionConfig(
        vision_config=tower,
        text_config=text_config(tie_word_embeddings=tied),
        **{
            "image_token_index": tokenizer.convert_tokens_to_ids("<image>"),
            "video_token_index": tokenizer.convert_tokens_to_ids("<video>"),
            "image_grid_pinpoints": [[IMAGE_SIZE, IMAGE_SIZE], [IMAGE_SIZE, 2 * IMAGE_SIZE]],
            **fields,
        },
    )
    model = LlavaOnevisionForConditionalGeneration(config)
    for parameter in model.model.multi_modal_projector.parameters():
        nn.init.normal_(parameter, std=SPREAD)
    weights = SiglipVisionModel.from_pretrained(siglip, config=vision_config()).state_dict()
    own = model.model.vision_tower
    own.load_state_dict({name: weights[name] for name in own.state_dict()})
    if trained_tower:
        with torch.no_grad():
            own.encoder.layers[0].mlp.fc1.weight.add_(0.1)
            own.embeddings.position_embedding.weight[0, 0] += 0.1
    model.to(dtype).save_pretrained(folder, max_shard_size=max_shard_size)
    tokenizer.save_pretrained(folder)
    LlavaOnevisionImageProcessor(
        size=SIDES,
        image_mean=[0.5] * 3,
        image_std=[0.5] * 3,
        image_grid_pinpoints=config.image_grid_pinpoints,
    ).save_pretrained(folder)
    if template == "chat_template.jinja":
        (folder / template).write_text(PARTS_TEMPLATE)
    elif template:
        (folder / template).write_text(json.dumps({"chat_template": PARTS_TEMPLATE}))
    return folder


def rename_keys(folder: Path, layout: str) -> set[str]:
    """Write the folder's single file again with the keys of transformers 4 or 5; returns them."""
    file = folder / "model.safetensors"
    tensors = {}
    for key, tensor in load_file(file).items():
        part, _, rest = key.removeprefix("model.").partition(".")
        if part == "language_model" and rest.startswith("lm_head."):
            part, rest = "lm_head", rest.removeprefix("lm_head.")
        rest = rest.removeprefix("model.").removeprefix("vision_model.")
        prefixes = {
            "4": {
                "lm_head": "language_model.lm_head.",
                "language_model": "language_model.model.",
                "vision_tower": "vision_tower.vision_model.",
                "multi_modal_projector": "multi_modal_projector.",
                "image_newline": "image_newline",
            },
            "5": {
                "lm_head": "lm_head.",
                "language_model": "model.language_model.",
                "vision_tower": "model.vision_tower.",
                "multi_modal_projector": "model.multi_modal_projector.",
                "image_newline": "model.image_newline",
            },
        }
        tensors[prefixes[layout][part] + rest] = tensor
    save_file(tensors, file, metadata={"format": "pt"})
    return set(tensors)
