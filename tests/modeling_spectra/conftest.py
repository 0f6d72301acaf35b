"""A model with each fusion and its processor, and their pipeline; LLaVA-OneVision checkpoints."""

import pytest
import torch

from modeling_spectra import MultimodalSummarizationPipeline, SpectraSumForConditionalGeneration
from tests.double_precision import double_precision
from tests.modeling_spectra.pipeline_setup import POSITIONS, VARIANTS
from tests.tiny import save_text_folder, save_vision_folder
from tests.tiny_llava_onevision import save_llava_onevision_folder, save_siglip_folder


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


@pytest.fixture(scope="module")
def siglip_folder(tmp_path_factory):
    return save_siglip_folder(tmp_path_factory.mktemp("siglip"))


@pytest.fixture(scope="module")
def llava_onevision_folders(tmp_path_factory, siglip_folder):
    """The 7B layout (own output head) with a tower that was trained further, the 0.5B layout (tied) with SigLIP's own."""
    root = tmp_path_factory.mktemp("llava_onevision")
    return {
        "untied": save_llava_onevision_folder(root / "untied", siglip_folder),
        "tied": save_llava_onevision_folder(root / "tied", siglip_folder, tied=True, trained_tower=False),
    }
