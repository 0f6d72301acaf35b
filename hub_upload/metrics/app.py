"""The app of a metric's Space: inputs as JSON, the metric's result as JSON. Every Space gets this file as its `app.py`."""

import html
import json
from pathlib import Path
from typing import Any

import evaluate
import gradio as gr
from huggingface_hub import SpaceCard

# ROUGE-L needs memory for each pair of words of a summary and its reference.
MAX_CHARACTERS = 20_000
# Bytes; the page takes no files, but Gradio's server has an address for them.
MAX_FILE_SIZE = 1_000
# Seconds between looks at the server's files, and their age when they are deleted.
FILE_LIFETIME = 3600
# Keeps options such as the number of resamples within what a small Space computes in a moment.
MAX_OPTION = 10_000
TOO_DEEP = "The lists are nested too deeply; no metric reads more than a few levels."
# What the metrics, and `evaluate` on their behalf, raise for inputs that they cannot use.
INPUT_ERRORS = (ValueError, TypeError, KeyError, OverflowError, OSError)


def compute(module: Path, text: str) -> dict[str, Any]:
    """
    Runs a metric.

    Args:
        module (`Path`): File of the metric.
        text (`str`): A JSON object with the metric's inputs and options. Texts as options (models, devices) are refused:
            a visitor must not choose what the Space downloads or reads.

    Raises:
        ValueError: The text is no such object, or the metric cannot use it.
    """
    if len(text) > MAX_CHARACTERS:
        raise ValueError(f"The inputs have {len(text):,} characters; at most {MAX_CHARACTERS:,} are read here.")
    try:
        inputs = json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"This is no JSON: {error}") from None
    except RecursionError:
        raise ValueError(TOO_DEEP) from None
    # A metric that raised keeps what it was given, so that each run has its own.
    metric = evaluate.load(str(module), module_type="metric", keep_in_memory=True)
    features = metric.features[0] if isinstance(metric.features, list) else metric.features
    if not isinstance(inputs, dict) or not all(isinstance(inputs.get(name), list) for name in features):
        raise ValueError(f"Give a JSON object with the lists {', '.join(features)}.")
    for name in inputs.keys() - features.keys():
        value = inputs[name]
        if value is not None and not (isinstance(value, int | float) and abs(value) <= MAX_OPTION):
            raise ValueError(f"{name}: options are numbers up to {MAX_OPTION:,}, true or false here.")
    try:
        return metric.compute(**inputs)
    except RecursionError:
        raise ValueError(TOO_DEEP) from None
    except INPUT_ERRORS as error:
        raise ValueError(str(error)) from error


def build_app(folder: Path) -> gr.Blocks:
    """
    The page of a Space.

    Args:
        folder (`Path`): With README.md, and example.json, which names the metric and holds inputs for it.
    """
    example = json.loads((folder / "example.json").read_text(encoding="utf-8"))

    def run(text: str) -> dict[str, Any]:
        try:
            return compute(folder / f"{example['metric']}.py", text)
        except ValueError as error:
            # The page shows messages as HTML, and a message may quote what a visitor typed.
            raise gr.Error(html.escape(str(error)), duration=None, print_exception=False) from None

    with gr.Blocks(
        title=example["metric"], analytics_enabled=False, delete_cache=(FILE_LIFETIME, FILE_LIFETIME)
    ) as app:
        gr.Markdown(SpaceCard.load(folder / "README.md").text)
        inputs = gr.Code(
            json.dumps(example["inputs"], indent=2),
            language="json",
            label=f"Inputs (at most {MAX_CHARACTERS:,} characters)",
        )
        button = gr.Button("Compute", variant="primary")
        result = gr.JSON(label="Result")
        button.click(run, inputs, result, api_name="compute", concurrency_limit=1)
    return app.queue(max_size=20)


def launch(app: gr.Blocks, wait: bool = True) -> str:
    """
    Starts the server.

    Args:
        app (`gr.Blocks`): Of [`build_app`].
        wait (`bool`, *optional*, defaults to `True`): Return only when the server has ended.

    Returns:
        The page's URL.
    """
    return app.launch(max_file_size=MAX_FILE_SIZE, prevent_thread_lock=not wait)[1]


if __name__ == "__main__":
    launch(build_app(Path(__file__).parent))
