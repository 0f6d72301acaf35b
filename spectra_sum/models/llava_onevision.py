"""A LLaVA-OneVision checkpoint as a summarizer: its own prompt, its images in the prompt, and nothing trained."""

from transformers import AutoConfig

from modeling_spectra import SpectraSumConfig, SpectraSumForConditionalGeneration

from .kinds import LLAVA_ONEVISION
from .loaded import LoadedModel, loading
from .precision import computing_dtype
from .sources import ModelError


def load_llava_onevision(name: str, *, revision: str | None = None, quantize: str | None = None) -> LoadedModel:
    """
    LLaVA-OneVision as a model with `fusion="concat"`, every tensor compared with its safetensors files.

    Args:
        name (`str`): Folder or Hub id, in transformers' format.
        revision (`str`, *optional*): Of the Hub.
        quantize (`str`, *optional*): Refused.

    Raises:
        ModelError: It cannot be loaded, or is to be quantized; the message names it and the fix.
    """
    if quantize is not None:
        raise ModelError(
            f"{name}: LLaVA-OneVision is not put in 4 bits while it is read; save it with from_llava_onevision(…, "
            'fusion="concat") and save_pretrained first, and pass that folder.'
        )
    seen = SpectraSumConfig.max_images
    with loading(name):
        stored = AutoConfig.from_pretrained(name, revision=revision or "main").dtype
        model, processor = SpectraSumForConditionalGeneration.from_llava_onevision(
            name,
            revision=revision or "main",
            fusion="concat",
            # Before there is a summary no image is better than another: those after the first are not seen.
            max_candidate_images=seen,
            distill_weight=0.0,
            dtype=computing_dtype(stored),
        )
    notice = (
        f"{name} is a pretrained LLaVA-OneVision, not trained to summarize: it sees the first {seen} images; images are "
        "selected after the summary, by their texts and, with --vision, by what they show."
    )
    return LoadedModel(model, processor, False, LLAVA_ONEVISION, notice, revision)
