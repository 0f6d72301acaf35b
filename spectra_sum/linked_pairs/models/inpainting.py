"""Backgrounds painted by an inpainting pipeline of diffusers."""

import importlib.metadata
import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoPipelineForInpainting, DiffusionPipeline
from huggingface_hub import hf_hub_download
from PIL import Image
from transformers.utils.hub import extract_commit_hash

from ...models.loaded import loading, one_line
from ...models.precision import computing_dtype
from ...models.sources import ModelError
from .naming import PIPELINE_FILE, check_inpainting_model


class InpaintingModel:
    """
    A model that paints around objects.

    Args:
        pipeline (`DiffusionPipeline`): One of diffusers' inpainting pipelines.
        name (`str`): Folder or Hub id that it was loaded from.
        revision (`str`, *optional*): Commit of its repository; None for a folder.
        steps (`int`, *optional*): Denoising steps; as the pipeline has them by default where it is None.
    """

    def __init__(
        self, pipeline: DiffusionPipeline, name: str, *, revision: str | None = None, steps: int | None = None
    ):
        self.pipeline = pipeline
        self.name = name
        self.revision = revision
        parameters = inspect.signature(pipeline.__call__).parameters
        # Of what lies under the mask nothing is to be kept; some pipelines' default is less.
        self.options: dict[str, Any] = {"strength": 1.0} if "strength" in parameters else {}
        if steps is not None:
            self.options["num_inference_steps"] = steps

    @property
    def record(self) -> dict[str, Any]:
        """Which model, and how it paints, for JSON."""
        return {
            "model": self.name,
            "revision": self.revision,
            "pipeline": type(self.pipeline).__name__,
            "options": self.options,
            "dtype": str(self.pipeline.dtype).removeprefix("torch."),
            "device": self.pipeline.device.type,
            "diffusers": importlib.metadata.version("diffusers"),
        }

    def paint(self, image: Image.Image, mask: Image.Image, description: str, seed: int) -> Image.Image | None:
        """
        Paints what is white in the mask.

        Args:
            image (`Image`): RGB; its sides are multiples of what the pipeline asks for, 8 or 16 pixels.
            mask (`Image`): Mode L, of the image's size.
            description (`str`): What is painted.
            seed (`int`): The source of chance. The same one gives the same pixels on the same machine.

        Returns:
            `Image`: RGB, of the image's size; outside of the mask pixels may have changed, too. None where the pipeline's safety
            checker refuses it.

        Raises:
            ModelError: The pipeline fails, such as for lack of memory.
        """
        try:
            made = self.pipeline(
                prompt=description,
                image=image,
                mask_image=mask,
                height=image.height,
                width=image.width,
                # On the CPU, so that a GPU starts from the same noise.
                generator=torch.Generator("cpu").manual_seed(seed),
                **self.options,
            )
        except (ValueError, TypeError, RuntimeError) as error:
            raise ModelError(f"{self.name}: painting {description!r} failed: {one_line(error)}") from error
        refused: Sequence[bool] = getattr(made, "nsfw_content_detected", None) or [False]
        return None if refused[0] else made.images[0].convert("RGB").resize(image.size)


def load_inpainting_model(name: str, steps: int | None = None) -> InpaintingModel:
    """
    Loads a pipeline from a folder or the Hub, on the GPU if there is one. Only safetensors are read, and no code of a repository
    runs.

    Args:
        name (`str`): Folder or Hub id.
        steps (`int`, *optional*): Denoising steps; the pipeline's own default without them.

    Raises:
        ModelError: diffusers is missing, or the pipeline cannot be fetched, loaded or used for inpainting.
    """
    check_inpainting_model(name)
    with loading(name):
        revision = None if Path(name).is_dir() else extract_commit_hash(hf_hub_download(name, PIPELINE_FILE), None)
        pipeline = AutoPipelineForInpainting.from_pretrained(
            name, revision=revision, dtype=computing_dtype(None), use_safetensors=True
        )
        pipeline = pipeline.to("cuda" if torch.cuda.is_available() else "cpu")
    pipeline.set_progress_bar_config(desc="painting", unit="step", leave=False, disable=None)
    return InpaintingModel(pipeline, name, revision=revision, steps=steps)
