"""A tiny SAM, with random weights or trained in seconds to find bright objects on dark ground."""

import numpy as np
import torch
from PIL import Image
from torch.nn.functional import binary_cross_entropy_with_logits, mse_loss
from transformers import SamConfig, SamImageProcessorPil, SamModel

SIDE = 64
_VISION = {
    "hidden_size": 16,
    "output_channels": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "image_size": SIDE,
    "patch_size": 4,
    "mlp_dim": 32,
    "global_attn_indexes": [0],
    "num_pos_feats": 8,
    "window_size": 0,
}
_PROMPT = {"hidden_size": 16, "image_size": SIDE, "patch_size": 4, "mask_input_channels": 4}
_DECODER = {"hidden_size": 16, "mlp_dim": 32, "num_attention_heads": 2, "iou_head_hidden_dim": 16}


def image_processor():
    square = {"height": SIDE, "width": SIDE}
    return SamImageProcessorPil(
        size={"longest_edge": SIDE}, pad_size=square, mask_size={"longest_edge": SIDE}, mask_pad_size=square
    )


def random_model():
    """With weights and logits so large that points matter and masks are stable."""
    torch.manual_seed(0)
    wide = {"initializer_range": 0.3}
    config = SamConfig(
        vision_config={**_VISION, **wide}, prompt_encoder_config=_PROMPT, mask_decoder_config=_DECODER, **wide
    )
    return _with_larger_logits(SamModel(config).eval(), 1000)


def draw_photograph(generator, width=SIDE, height=SIDE):
    """
    A bright rectangle on dark ground.

    Returns:
        The image and where the rectangle is: bool, (height, width).
    """
    sides = [int(generator.integers(length // 4, length // 2 + 1)) for length in (width, height)]
    left, top = (
        int(generator.integers(2, length - side - 1)) for length, side in zip((width, height), sides, strict=True)
    )
    box = (left, top, left + sides[0], top + sides[1])
    image = Image.new("RGB", (width, height), tuple(generator.integers(0, 90, 3).tolist()))
    image.paste(tuple(generator.integers(170, 256, 3).tolist()), box)
    mask = np.zeros((height, width), dtype=bool)
    mask[box[1] : box[3], box[0] : box[2]] = True
    return image, mask


def trained_model(steps=80):
    """A SAM that expects an IoU near 0.97 of its masks, wherever it is asked."""
    torch.manual_seed(0)
    model = SamModel(SamConfig(vision_config=_VISION, prompt_encoder_config=_PROMPT, mask_decoder_config=_DECODER))
    generator, processor = np.random.default_rng(0), image_processor()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(steps):
        images, masks = zip(*[draw_photograph(generator) for _ in range(4)], strict=True)
        points = torch.tensor(generator.integers(0, SIDE, (4, 1, 1, 2)), dtype=torch.float32)
        made = model(
            pixel_values=processor(images=list(images), return_tensors="pt").pixel_values,
            input_points=points,
            input_labels=torch.ones(4, 1, 1, dtype=torch.long),
        )
        target = torch.tensor(np.stack(masks), dtype=torch.float32)[:, None, None].expand_as(made.pred_masks)
        loss = binary_cross_entropy_with_logits(made.pred_masks, target)
        loss = loss + mse_loss(made.iou_scores, torch.full_like(made.iou_scores, 0.97))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return _with_larger_logits(model.eval(), 4)


def save_model(model, folder):
    model.save_pretrained(folder)
    image_processor().save_pretrained(folder)
    return folder


def _with_larger_logits(model, factor):
    with torch.no_grad():
        for network in model.mask_decoder.output_hypernetworks_mlps:
            network.proj_out.weight *= factor
            network.proj_out.bias *= factor
    return model
