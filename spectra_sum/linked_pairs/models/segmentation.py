"""Masks of photographs by transformers' mask generation with SAM (Kirillov et al., ICCV 2023)."""

from typing import Any

import numpy as np
import torch
from PIL import Image
from transformers import AutoConfig, AutoModelForMaskGeneration, MaskGenerationPipeline, SamImageProcessorPil

from ...models.loaded import loading, one_line
from ...models.sources import ModelError
from .naming import check_segmentation_model, check_segmenter_type

LEAST_IOU = 0.88
# Points on each side of the grid that asks for masks: one object fills more than a cell.
POINTS = 16
# Three masks of a megapixel each per point, in float32.
POINTS_AT_A_TIME = 16


class AllMasksImageProcessor(SamImageProcessorPil):
    """SAM's image processor, which keeps masks of the same object: only their removal needs torchvision, and one is chosen."""

    def post_process_for_mask_generation(
        self,
        all_masks: list[dict[str, Any]],
        all_scores: torch.Tensor,
        all_boxes: torch.Tensor,
        crops_nms_thresh: float,
    ) -> tuple[list[np.ndarray], torch.Tensor, list[dict[str, Any]], torch.Tensor]:
        """As in the parent; masks are run lengths by column, which begin with a run outside of the mask."""
        masks = []
        for runs in all_masks:
            height, width = runs["size"]
            inside = np.arange(len(runs["counts"])) % 2 == 1
            masks.append(np.repeat(inside, runs["counts"]).reshape(width, height).T)
        return masks, all_scores, all_masks, all_boxes


class SegmentationModel:
    """
    A model that finds masks.

    Args:
        pipeline (`MaskGenerationPipeline`): With an [`AllMasksImageProcessor`].
        name (`str`): Folder or Hub id that it was loaded from.
        revision (`str`, *optional*): Commit of its repository; None for a folder.
        least_iou (`float`, *optional*, defaults to 0.88): Least intersection over union with the object that the model expects of
            its mask.
    """

    def __init__(
        self,
        pipeline: MaskGenerationPipeline,
        name: str,
        *,
        revision: str | None = None,
        least_iou: float = LEAST_IOU,
    ):
        self.pipeline = pipeline
        self.name = name
        self.revision = revision
        self.least_iou = least_iou

    @property
    def record(self) -> dict[str, Any]:
        """Which model, and how it finds masks, for JSON."""
        return {
            "model": self.name,
            "revision": self.revision,
            "type": self.pipeline.model.config.model_type,
            "least_iou": self.least_iou,
            "points": POINTS,
            "device": self.pipeline.device.type,
        }

    def masks(self, image: Image.Image) -> list[np.ndarray]:
        """
        The masks of an RGB image that the model is sure of: by the IoU that it expects, and as stable as transformers asks for
        by default.

        Returns:
            `list[np.ndarray]`: Bool, (height, width) of the image, or of the largest that the model reads.

        Raises:
            ModelError: The model fails, such as for lack of memory.
        """
        longest = self.pipeline.image_processor.size["longest_edge"]
        small = image.copy()
        # Masks have the resolution that the model reads at most, and all of them are in memory.
        small.thumbnail((longest, longest), Image.Resampling.LANCZOS)
        try:
            return self.pipeline(
                small, points_per_crop=POINTS, points_per_batch=POINTS_AT_A_TIME, pred_iou_thresh=self.least_iou
            )["masks"]
        except (ValueError, TypeError, RuntimeError) as error:
            raise ModelError(f"{self.name}: finding masks failed: {one_line(error)}") from error


def load_segmentation_model(name: str, least_iou: float = LEAST_IOU) -> SegmentationModel:
    """
    Loads a SAM from a folder or the Hub, in float32, on the GPU if there is one. Only safetensors are read.

    Args:
        name (`str`): Folder or Hub id.
        least_iou (`float`, *optional*, defaults to 0.88): As in [`SegmentationModel`].

    Raises:
        ModelError: It is no such model, or it cannot be fetched or loaded.
    """
    check_segmentation_model(name)
    with loading(name):
        config = AutoConfig.from_pretrained(name)
        check_segmenter_type(name, config.model_type)
        revision = getattr(config, "_commit_hash", None)
        model = AutoModelForMaskGeneration.from_pretrained(
            name, revision=revision or "main", dtype=torch.float32, use_safetensors=True
        )
        processor = AllMasksImageProcessor.from_pretrained(name, revision=revision or "main")
        device = "cuda" if torch.cuda.is_available() else "cpu"
        pipeline = MaskGenerationPipeline(model=model.eval(), image_processor=processor, device=device)
    return SegmentationModel(pipeline, name, revision=revision, least_iou=least_iou)
