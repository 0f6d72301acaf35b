"""Texts and images in the joint space of a dual encoder, for the similarity metrics."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from .rgb_images import flat_rgb

if TYPE_CHECKING:
    from PIL import Image
    from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase, ProcessorMixin

# SigLIP 2 of fixed resolution has the type "siglip", that of variable resolution (NaFlex) "siglip2".
MODEL_TYPES = ("clip", "siglip", "siglip2")
# transformers reads SigLIP's own tokenizer by these, imports them only then, and does not require them itself.
RUNTIME_PACKAGES = ("protobuf", "sentencepiece")


def reads_lower_case(model_type: str, tokenizer: PreTrainedTokenizerBase) -> bool:
    """
    Whether a dual encoder's texts are put into lower case before they are tokenized: those of SigLIP 2, which was
    trained so (Tschannen et al., "SigLIP 2", arXiv 2502.14786, section 2.1).

    The tokenizers of SigLIP and CLIP see to that themselves; the Gemma tokenizer, with which the checkpoints of SigLIP 2
    are published, does not. Of fixed resolution these have the type of SigLIP, so that the tokenizer tells them.

    Args:
        model_type (`str`): Of the dual encoder's configuration.
        tokenizer (`PreTrainedTokenizerBase`): The dual encoder's own.
    """
    from transformers import GemmaTokenizer

    return model_type == "siglip2" or (model_type == "siglip" and isinstance(tokenizer, GemmaTokenizer))


class TextReader:
    """
    Texts as the text tower of a dual encoder was trained to read them: one rule for metrics, selections and labels.

    Texts of SigLIP 2 are put into lower case, see [`reads_lower_case`]. All are cut and padded, on the right, to the
    tower's length. There is no attention mask: SigLIP was trained with its padding visible, and CLIP, being causal,
    reads up to the end token.

    Args:
        tokenizer (`PreTrainedTokenizerBase`): The dual encoder's own.
        config (`PreTrainedConfig`): The dual encoder's.

    Attributes:
        max_length (`int`): Tokens that the tower reads: 64 in SigLIP and SigLIP 2, 77 in CLIP.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, config: PreTrainedConfig) -> None:
        self.tokenizer = tokenizer
        self.max_length = config.text_config.max_position_embeddings
        self.lower_case = reads_lower_case(config.model_type, tokenizer)

    def input_ids(self, texts: Sequence[str]) -> torch.Tensor:
        """T texts → token ids of shape `(T, max_length)`."""
        tokens = self.tokenizer(
            self._prepared(texts),
            padding="max_length",
            padding_side="right",
            max_length=self.max_length,
            truncation=True,
            return_tensors="pt",
        )
        return tokens["input_ids"]

    def count_cut(self, texts: Sequence[str]) -> int:
        """How many of the texts are longer than the tower reads."""
        if not texts:
            return 0
        ids = self.tokenizer(self._prepared(texts), verbose=False)["input_ids"]
        return sum(len(row) > self.max_length for row in ids)

    def _prepared(self, texts: Sequence[str]) -> list[str]:
        return [text.lower() for text in texts] if self.lower_case else list(texts)


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
        ValueError: The model is no dual encoder of these kinds, its weights are incomplete, a package for its tokenizer
            is missing, a loaded model comes without its processor, or the processor lacks a part.
    """

    def __init__(
        self, model: str | PreTrainedModel, processor: ProcessorMixin | None = None, device: str = "cpu"
    ) -> None:
        from transformers import AutoConfig, AutoModel

        if isinstance(model, str):
            name = model
            _check_type(name, AutoConfig.from_pretrained(name, trust_remote_code=False).model_type)
            if processor is None:
                processor = _load_processor(name)
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
        self.text_reader = TextReader(processor.tokenizer, model.config)
        self.image_processor = processor.image_processor

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
            ids = self.text_reader.input_ids(texts[start : start + batch_size])
            rows.append(self._unit_rows(self.model.get_text_features, input_ids=ids))
        return np.concatenate(rows)

    def embed_images(self, images: Sequence[Image.Image], batch_size: int = 32) -> np.ndarray:
        """
        Embeds images.

        Args:
            images (`list[PIL.Image.Image]`):
                I images of any size and mode, read as the summarizer reads them: upright and RGB, transparency over
                white, 16 bits scaled to 8, reduced to 1024 pixels a side.
            batch_size (`int`, *optional*, defaults to `32`): Images per forward pass.

        Returns:
            `np.ndarray` of shape `(I, D)`, float32: unit rows.
        """
        if not images:
            return self.embed_texts([])
        rows = []
        for start in range(0, len(images), batch_size):
            batch = [flat_rgb(image) for image in images[start : start + batch_size]]
            inputs = self.image_processor(images=batch, return_tensors="pt")
            rows.append(self._unit_rows(self.model.get_image_features, **inputs))
        return np.concatenate(rows)

    def count_cut(self, texts: Sequence[str]) -> int:
        """How many of the texts are longer than the text tower reads, so that `embed_texts` cuts them."""
        return self.text_reader.count_cut(texts)

    def _unit_rows(self, get_features, **inputs: torch.Tensor) -> np.ndarray:
        with torch.inference_mode():
            features = get_features(**{name: value.to(self.model.device) for name, value in inputs.items()})
            return torch.nn.functional.normalize(features.pooler_output.float(), dim=-1).cpu().numpy()


def _load_processor(name: str) -> ProcessorMixin:
    from transformers import AutoProcessor

    try:
        return AutoProcessor.from_pretrained(name, trust_remote_code=False)
    except ImportError as error:
        raise ValueError(
            f"{name}: a package that its tokenizer or image processor needs is missing; SigLIP's tokenizer needs "
            f"`pip install {' '.join(RUNTIME_PACKAGES)}`."
        ) from error


def _check_type(name: str, model_type: str) -> None:
    if model_type not in MODEL_TYPES:
        raise ValueError(
            f"{name}: a model of type {model_type!r} has no text and image tower with a joint space that the metrics "
            f"know; give a dual encoder of one of the types {', '.join(MODEL_TYPES)}."
        )
