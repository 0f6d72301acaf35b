"""Texts and images in the joint space of a dual encoder, for the similarity metrics."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch
    from PIL import Image
    from transformers import PreTrainedModel, ProcessorMixin

# SigLIP 2 of fixed resolution has the type "siglip", that of variable resolution (NaFlex) "siglip2".
MODEL_TYPES = ("clip", "siglip", "siglip2")


class DualEncoder:
    """
    A frozen SigLIP, SigLIP 2 or CLIP in float32: unit embeddings of texts and images.

    Args:
        model (`str` or `PreTrainedModel`):
            Folder or Hub id, of which only safetensors are read and no code is run; or the model as `AutoModel`
            loads it, which is put on `device` and into evaluation mode.
        processor (`ProcessorMixin`, *optional*):
            With the model's tokenizer and image processor; by default the one saved with the model.
        device (`str`, *optional*, defaults to `"cpu"`):
            Where the model runs.

    Raises:
        ValueError: The model is no dual encoder of these kinds, its weights are incomplete, a loaded model comes
            without its processor, or the processor lacks a part.
    """

    def __init__(
        self, model: str | PreTrainedModel, processor: ProcessorMixin | None = None, device: str = "cpu"
    ) -> None:
        import torch
        from transformers import AutoConfig, AutoModel, AutoProcessor

        if isinstance(model, str):
            name = model
            _check_type(name, AutoConfig.from_pretrained(name, trust_remote_code=False).model_type)
            if processor is None:
                processor = AutoProcessor.from_pretrained(name, trust_remote_code=False)
            model, report = AutoModel.from_pretrained(
                name, trust_remote_code=False, use_safetensors=True, dtype=torch.float32, output_loading_info=True
            )
            if report["missing_keys"]:
                lacking = sorted(report["missing_keys"])
                raise ValueError(
                    f"{name}: the weights lack {len(lacking)} tensors, {lacking[0]} among them; a dual encoder must "
                    "be saved whole."
                )
        else:
            _check_type(type(model).__name__, model.config.model_type)
            if processor is None:
                raise ValueError(f"{type(model).__name__}: a loaded model needs its processor; give `processor`.")
        for part in ("tokenizer", "image_processor"):
            if not hasattr(processor, part):
                raise ValueError(f"{type(processor).__name__}: `processor` needs a tokenizer and an image processor.")
        self.model = model.to(device).eval()
        self.tokenizer = processor.tokenizer
        self.image_processor = processor.image_processor
        self.max_length = model.config.text_config.max_position_embeddings
        # SigLIP was trained on texts padded to the full length, with the padding visible. CLIP is causal and pools at
        # the end token: what follows it has no influence.
        self.padding = "longest" if model.config.model_type == "clip" else "max_length"

    def embed_texts(self, texts: Sequence[str], batch_size: int = 32) -> np.ndarray:
        """
        Embeds texts; what exceeds the text tower's length (64 tokens in SigLIP, 77 in CLIP) is cut off.

        Args:
            texts (`list[str]`): T texts.
            batch_size (`int`, *optional*, defaults to `32`): Texts per forward pass.

        Returns:
            `np.ndarray` of shape `(T, D)`, float32: unit rows.
        """
        if not texts:
            return self.embed_texts([""])[:0]
        rows = []
        for start in range(0, len(texts), batch_size):
            tokens = self.tokenizer(
                list(texts[start : start + batch_size]),
                padding=self.padding,
                padding_side="right",
                max_length=self.max_length,
                truncation=True,
                return_tensors="pt",
            )
            rows.append(self._unit_rows(self.model.get_text_features, input_ids=tokens["input_ids"]))
        return np.concatenate(rows)

    def embed_images(self, images: Sequence[Image.Image], batch_size: int = 32) -> np.ndarray:
        """
        Embeds images.

        Args:
            images (`list[PIL.Image.Image]`): I images of any size and mode; they are read as RGB.
            batch_size (`int`, *optional*, defaults to `32`): Images per forward pass.

        Returns:
            `np.ndarray` of shape `(I, D)`, float32: unit rows.
        """
        if not images:
            return self.embed_texts([])
        rows = []
        for start in range(0, len(images), batch_size):
            batch = [image.convert("RGB") for image in images[start : start + batch_size]]
            inputs = self.image_processor(images=batch, return_tensors="pt")
            rows.append(self._unit_rows(self.model.get_image_features, **inputs))
        return np.concatenate(rows)

    def count_cut(self, texts: Sequence[str]) -> int:
        """How many of the texts are longer than the text tower reads, so that `embed_texts` cuts them."""
        if not texts:
            return 0
        return sum(len(ids) > self.max_length for ids in self.tokenizer(list(texts), verbose=False)["input_ids"])

    def _unit_rows(self, get_features, **inputs: torch.Tensor) -> np.ndarray:
        import torch

        with torch.inference_mode():
            features = get_features(**{name: value.to(self.model.device) for name, value in inputs.items()})
            return torch.nn.functional.normalize(features.pooler_output.float(), dim=-1).cpu().numpy()


def _check_type(name: str, model_type: str) -> None:
    if model_type not in MODEL_TYPES:
        raise ValueError(
            f"{name}: a model of type {model_type!r} has no text and image tower with a joint space that the metrics "
            f"know; give a dual encoder of one of the types {', '.join(MODEL_TYPES)}."
        )
