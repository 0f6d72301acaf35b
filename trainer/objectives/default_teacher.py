"""The default dual encoder as the teacher, for vision towers that have no text encoder; not of the paper."""

import hashlib
from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from modeling_spectra import SpectraSumConfig
from spectra_sum.errors import SpectraSumError
from spectra_sum.models.default_dual_encoder import DefaultDualEncoder, load_default_dual_encoder
from trainer.objectives.dpp_teacher import SummaryTeacher, process_numbers

# A kilobyte each: the embeddings of large data, which see few epochs, must not fill the memory.
MOST_KEPT_IMAGES = 2**17


def check_default_teacher(align_weight: float, distill_weight: float, use_images: bool) -> None:
    """Check that the default dual encoder can be the teacher and has something to teach.

    L_distill needs its labels alone. L_align also compares the targets v̄, the model's own image embeddings, with the
    summary's embedding t (§6), and between that tower's space and this teacher's there is no cosine.

    Args:
        align_weight, distill_weight (`float`): Of the model's configuration.
        use_images (`bool`): False where the images are withheld.

    Raises:
        SpectraSumError: naming the argument and the fix.
    """
    if not use_images:
        raise SpectraSumError("teacher default labels images, and use_images false withholds them: leave teacher out.")
    if align_weight > 0:
        raise SpectraSumError(
            f"align_weight is {align_weight}, and with teacher default there are no texts in the space of the vision tower "
            "to align with: set align_weight to 0."
        )
    if distill_weight == 0:
        raise SpectraSumError(
            "teacher default labels images for L_distill, and distill_weight is 0: set it over 0, or leave teacher out."
        )


class DefaultTeacher(SummaryTeacher):
    """Labels from the default dual encoder: it embeds images and texts itself, whatever tower the model has.

    The embeddings of the images met first, at most `MOST_KEPT_IMAGES`, are kept by their pixels as long as the process
    lives: later epochs embed texts alone.

    Args:
        encoder (`DefaultDualEncoder`): As [`load_default_dual_encoder`] gives it.
        device (`torch.device`): Where the labels are computed; the encoder is where it was loaded.
        process: See [`SummaryTeacher`].
    """

    reads_images = True

    def __init__(self, encoder: DefaultDualEncoder, device: torch.device, **process: float | str | None):
        super().__init__(**process)
        self.encoder = encoder
        self._device = device
        self._kept: dict[bytes, np.ndarray] = {}

    @property
    def device(self) -> torch.device:
        return self._device

    def encode(self, texts: list[str]) -> Tensor:
        self.truncated_texts += self.encoder.count_cut(texts)
        with torch.autocast(self.device.type, enabled=False):
            return torch.from_numpy(self.encoder.embed_texts(texts)).to(self.device)

    def embed_images(self, images: Sequence[Sequence[Image.Image]], image_mask: Tensor) -> Tensor:
        """The embeddings that the labels are made of.

        Args:
            images (`list[list[PIL.Image.Image]]`): Of each of B articles those that the relevance predictor scores.
            image_mask (`torch.Tensor` of shape `(B, N)`, bool): True on real images, which are the first ones of a row.

        Returns:
            `torch.Tensor` of shape `(B, N, d)`, float32: L2-normalised, zero at padding.
        """
        rows = [self._embed(image) for article in images for image in article]
        # Without any image the width d is the encoder's to tell.
        flat = torch.from_numpy(np.stack(rows) if rows else self.encoder.embed_images([])).to(image_mask.device)
        embeds = flat.new_zeros(*image_mask.shape, flat.shape[-1])
        embeds[image_mask] = flat
        return embeds

    def _embed(self, image: Image.Image) -> np.ndarray:
        key = hashlib.sha256(f"{image.mode} {image.size}".encode() + image.tobytes()).digest()
        if key not in self._kept:
            # One at a time: in batches its last digits would depend on its neighbours, and a resumed run has others.
            with torch.autocast(self.device.type, enabled=False):
                (row,) = self.encoder.embed_images([image])
            if len(self._kept) == MOST_KEPT_IMAGES:
                return row
            self._kept[key] = row
        return self._kept[key]


def load_default_teacher(config: SpectraSumConfig, device: torch.device) -> DefaultTeacher:
    """The default dual encoder from its packages as the teacher.

    Args:
        config (`SpectraSumConfig`): With the numbers of the teacher's process.
        device (`torch.device`): Where the labels are computed.

    Raises:
        ModelError: A package is not installed or another one, or the heads are damaged.
    """
    # The networks are made with random weights first: what is random after this must not depend on the teacher.
    with torch.random.fork_rng(devices=[]):
        encoder = load_default_dual_encoder()
    return DefaultTeacher(encoder, device, **process_numbers(config))
