"""Loads a staged folder as a stranger does; run as a script in a process of its own, see [`fresh_process`].

The job is the JSON file that the argument names. Standard output holds a line `STEP name` before each step and at the end a line
`RESULT` with JSON; an error ends the process with its traceback.
"""

import base64
import gc
import hashlib
import importlib
import json
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

MAX_NEW_TOKENS = 16


class BlockedPackages:
    """A finder that hides packages: what is installed here need not be there on the machine of a stranger.

    Args:
        names: The top-level packages.
    """

    def __init__(self, names: Iterable[str]):
        self.names = set(names)

    def find_spec(self, name: str, path: object = None, target: ModuleType | None = None) -> None:
        if name.partition(".")[0] in self.names:
            raise ModuleNotFoundError(f"{name} is a package of the project, which users of the model do not have")


def tensor_digest(tensor: "torch.Tensor") -> str:
    """Dtype, shape and the SHA-256 of the bytes."""
    import torch

    # A view of bytes reaches bfloat16 too, which numpy lacks, and needs no copy.
    data = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
    return f"{tensor.dtype} {list(tensor.shape)} {hashlib.sha256(data).hexdigest()}"


def summarize_sample(model: Any, processor: Any, sample: Mapping[str, Any]) -> dict[str, Any]:
    """Tokens, text and selected images of the sample article."""
    data = processor(text=sample["text"], title=sample["title"], images=[sample["images"]])
    tokens = model.generate(**data, max_new_tokens=MAX_NEW_TOKENS, do_sample=False, num_beams=1)
    return {
        "tokens": tokens.tolist(),
        "summary": processor.decode_summaries(tokens, data["input_ids"].shape[1])[0],
        "selected": model.select_images(**data).indices[0],
    }


def step(name: str) -> None:
    """Tells the parent process what comes next."""
    print(f"STEP {name}", flush=True)


def load_model(folder: str, sample: Mapping[str, Any]) -> dict[str, Any]:
    """A whole model through the Auto classes, through the pipeline, and through its handler if it has one."""
    from transformers import AutoConfig, AutoModel, AutoProcessor, pipeline

    step("AutoConfig")
    AutoConfig.from_pretrained(folder, trust_remote_code=True)
    step("AutoProcessor")
    processor = AutoProcessor.from_pretrained(folder, trust_remote_code=True)
    step("AutoModel")
    model = AutoModel.from_pretrained(folder, trust_remote_code=True).eval()
    step("tensors")
    state = model.state_dict()
    owners: dict[tuple[int, Any], str] = {}
    shared = {name: owners.setdefault((value.data_ptr(), value.shape), name) for name, value in state.items()}
    result = {"tensors": {name: tensor_digest(value) for name, value in state.items()}, "shared": shared}
    step("sample")
    result |= summarize_sample(model, processor, sample)
    # Two copies of a large model might not fit.
    del model, state
    gc.collect()
    step("pipeline")
    summarize = pipeline("multimodal-summarization", model=folder, trust_remote_code=True, device="cpu")
    article = {name: sample[name] for name in ("text", "title", "images")}
    result["pipeline"] = summarize(article, max_new_tokens=MAX_NEW_TOKENS, num_beams=1)
    if (Path(folder) / "handler.py").is_file():
        del summarize
        gc.collect()
        step("handler")
        result["handler"] = ask_handler(folder, article)
    return result


def ask_handler(folder: str, article: Mapping[str, Any]) -> dict[str, Any]:
    """What an Inference Endpoint answers, called as the Hub's toolkit calls it."""
    sys.path.insert(0, folder)
    # The folder is what is uploaded.
    sys.dont_write_bytecode = True
    handler = importlib.import_module("handler").EndpointHandler(path=folder)
    images = [base64.b64encode(Path(image).read_bytes()).decode() for image in article["images"]]
    return handler({"inputs": {**article, "images": images}, "parameters": {"max_new_tokens": MAX_NEW_TOKENS}})


def load_adapter(folder: str, sample: Mapping[str, Any]) -> dict[str, Any]:
    """An adapter through AutoPeftModel."""
    from peft import AutoPeftModel, get_peft_model_state_dict
    from transformers import AutoProcessor

    step("AutoProcessor")
    processor = AutoProcessor.from_pretrained(folder, trust_remote_code=True)
    step("AutoPeftModel")
    model = AutoPeftModel.from_pretrained(folder, trust_remote_code=True).eval()
    step("tensors")
    state = get_peft_model_state_dict(model, save_embedding_layers=False)
    result = {"tensors": {name: tensor_digest(value) for name, value in state.items()}, "shared": {}}
    step("sample")
    return result | summarize_sample(model, processor, sample)


def main() -> None:
    """Does the job."""
    job = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    sys.meta_path.insert(0, BlockedPackages(job["blocked"]))
    # What imports make stays: at Python's threshold of 700, collections of garbage would be a fifth of the start.
    gc.set_threshold(100_000)
    import torch
    from transformers.utils import logging

    logging.disable_progress_bar()
    torch.set_num_threads(job["threads"])
    load = load_adapter if job["adapter"] else load_model
    print("RESULT" + json.dumps(load(job["folder"], job["sample"])), flush=True)


if __name__ == "__main__":
    main()
