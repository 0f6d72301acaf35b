"""Model, configuration and processor of SPeCTrA-Sum: the flat folder that is published with the weights."""

from transformers import AutoConfig, AutoModel, AutoModelForImageTextToText, AutoProcessor
from transformers.pipelines import PIPELINE_REGISTRY

from .configuration_spectra import PIPELINE_TASK, SpectraSumConfig
from .modeling_spectra import SpectraSumForConditionalGeneration, SpectraSumOutput
from .pipeline_spectra import MultimodalSummarizationPipeline
from .processing_spectra import SpectraSumProcessor


def register_auto_classes() -> None:
    """Let the Auto classes use the installed code for this model type, instead of asking to run a repository's own.

    `pipeline("multimodal-summarization", model=MODEL, processor=PROCESSOR)` then knows the task as well; for a folder
    or Hub id it asks for `trust_remote_code=True` or `pipeline_class=MultimodalSummarizationPipeline`.
    """
    AutoConfig.register(SpectraSumConfig.model_type, SpectraSumConfig, exist_ok=True)
    AutoModel.register(SpectraSumConfig, SpectraSumForConditionalGeneration, exist_ok=True)
    AutoModelForImageTextToText.register(SpectraSumConfig, SpectraSumForConditionalGeneration, exist_ok=True)
    AutoProcessor.register(SpectraSumConfig, SpectraSumProcessor, exist_ok=True)
    if PIPELINE_TASK not in PIPELINE_REGISTRY.get_supported_tasks():
        PIPELINE_REGISTRY.register_pipeline(
            PIPELINE_TASK, MultimodalSummarizationPipeline, pt_model=AutoModelForImageTextToText
        )


__all__ = [
    "MultimodalSummarizationPipeline",
    "SpectraSumConfig",
    "SpectraSumForConditionalGeneration",
    "SpectraSumOutput",
    "SpectraSumProcessor",
    "register_auto_classes",
]
