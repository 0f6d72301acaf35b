"""A model with each fusion and its processor, and their pipeline."""

import pytest
import torch

from modeling_spectra import MultimodalSummarizationPipeline, SpectraSumForConditionalGeneration
from tests.double_precision import double_precision
from tests.modeling_spectra.pipeline_setup import POSITIONS, VARIANTS
from tests.tiny import save_text_folder, save_vision_folder


@pytest.fixture(scope="module", params=VARIANTS)
def loaded(request, tmp_path_factory):
    root = tmp_path_factory.mktemp(request.param)
    with double_precision():
        model, processor = SpectraSumForConditionalGeneration.from_backbones(
            str(save_vision_folder(root / "vision")),
            str(save_text_folder(root / "text", max_position_embeddings=POSITIONS)),
            vrp_context="article_set",
            max_images=2,
            max_candidate_images=4,
            max_selected_images=2,
            **VARIANTS[request.param],
        )
        # Weights of the usual size would make attention so even that a mistake could hide.
        with torch.no_grad():
            for parameter in model.visual_path.parameters():
                parameter.mul_(8) if parameter.dim() > 1 else None
            for place, module in enumerate((model.visual_path.cross_attentions or {}).values()):
                module.gate.alpha.fill_(0.7 - 0.4 * place)
    return model, processor


@pytest.fixture
def summarizer(loaded):
    return MultimodalSummarizationPipeline(*loaded, max_new_tokens=3)
