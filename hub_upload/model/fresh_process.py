"""The check before a push: a staged folder is loaded in a fresh interpreter, as on the machine of a stranger."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NoReturn

import torch
from PIL import Image, ImageDraw

from ..errors import HubError
from . import bare_load

# What installs with this project and is hidden from the fresh process.
PROJECT_PACKAGES = ("configuration_spectra", "hub_upload", "modeling_spectra", "spectra_sum", "trainer", "tests")
# Nothing of the caller's Hub, token or code reaches the process that runs the folder's code.
HIDDEN_VARIABLES = ("HF_", "HUGGING", "TRANSFORMERS_", "PYTHON")
# Bytes: with less left, the disk is taken for full. Nothing else may tell, as a message is written to that disk, too.
FULL_DISK = 4_000_000


def make_sample(folder: Path) -> dict[str, Any]:
    """An article with two drawn images, which are written into `folder`."""
    paths = []
    for name, draw_shape in (("circle", ImageDraw.ImageDraw.ellipse), ("square", ImageDraw.ImageDraw.rectangle)):
        image = Image.new("RGB", (64, 48), (225, 230, 240) if name == "circle" else (40, 60, 50))
        draw_shape(ImageDraw.Draw(image), (12, 8, 44, 40), fill=(200, 40, 40) if name == "circle" else (240, 210, 60))
        paths.append(str(folder / f"{name}.png"))
        image.save(paths[-1])
    return {
        "title": "Harbour reopens",
        "text": "The harbour reopened on Monday. Two bridges stay closed until the repairs are paid for.",
        "images": paths,
    }


def load_in_fresh_process(
    folder: Path, sample: Mapping[str, Any], *, is_adapter: bool, report: Callable[[str], None]
) -> dict[str, Any]:
    """
    Loads a folder with its own code and summarizes the sample, in an isolated interpreter that lacks the project, with
    empty caches, offline and on the CPU.

    Args:
        folder (`Path`): The staged folder.
        sample (`Mapping[str, Any]`): From [`make_sample`].
        is_adapter (`bool`): Load it by `AutoPeftModel` rather than `AutoModel` and the pipeline.
        report (`Callable[[str], None]`): Is told of each step.

    Returns:
        `tensors`, {name: digest}; `shared`, {name: first name of the same memory}; `tokens`, `summary` and `selected`
        of the sample; for a whole model also the outputs of `pipeline` and, if it has one, of its endpoint's `handler`.

    Raises:
        HubError: A step failed; the message names it.
    """
    job = {
        "folder": str(folder),
        "sample": dict(sample),
        "adapter": is_adapter,
        "blocked": PROJECT_PACKAGES,
        "threads": torch.get_num_threads(),
    }
    with tempfile.TemporaryDirectory(prefix="spectra-sum-") as name, tempfile.TemporaryFile("w+") as errors:
        home = Path(name)
        environment = {key: value for key, value in os.environ.items() if not key.startswith(HIDDEN_VARIABLES)}
        environment |= {"HF_HOME": str(home / "home"), "HF_MODULES_CACHE": str(home / "modules")}
        environment |= {"HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": ""}
        (home / "work").mkdir()
        (home / "job.json").write_text(json.dumps(job), encoding="utf-8")
        process = subprocess.Popen(
            [sys.executable, "-I", bare_load.__file__, str(home / "job.json")],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            cwd=home / "work",
            env=environment,
        )
        current, result = "start", None
        try:
            for line in process.stdout:
                if line.startswith("STEP "):
                    current = line.removeprefix("STEP ").strip()
                    report(f"in a fresh process: {current}")
                elif line.startswith("RESULT"):
                    result = json.loads(line.removeprefix("RESULT"))
            process.wait()
        finally:
            process.kill()
            process.wait()
        if process.returncode or result is None:
            errors.seek(0)
            lines = [line.strip() for line in errors.read().splitlines() if line.strip()]
            _refuse(current, _reason(process.returncode, lines, shutil.disk_usage(home).free))
    return result


def _reason(code: int, lines: list[str], free: int) -> str:
    """Why a process ended: what it said last, the signal that killed it, a full disk."""
    reason = lines[-1] if lines else f"it ended with exit code {code} and said nothing"
    if code < 0:
        reason = f"it was killed by {signal.Signals(-code).name}"
        reason += ", as the system does when memory runs out" if -code == signal.SIGKILL else ""
    if free < FULL_DISK:
        place = tempfile.gettempdir()
        reason += f" (the disk of {place} is full, {free / 1e6:.1f} MB are free: set TMPDIR to a larger disk)"
    return reason


def compare_loaded(result: Mapping[str, Any], tensors: Mapping[str, str], outputs: Mapping[str, Any]) -> None:
    """
    Compares what the fresh process found with the source.

    Args:
        result (`Mapping[str, Any]`): From [`load_in_fresh_process`].
        tensors (`Mapping[str, str]`): {name: digest} of the source's weights.
        outputs (`Mapping[str, Any]`): `tokens`, `summary` and `selected` of the local model on the same sample.

    Raises:
        HubError: Something differs; the message says what.
    """
    found, shared = result["tensors"], result["shared"]
    lost = sorted(tensors.keys() - found.keys())
    if lost:
        _refuse("tensors", f"{len(lost)} tensors of the source are not loaded, {lost[0]} among them")
    changed = sorted(name for name in tensors if found[name] != tensors[name])
    if changed:
        _refuse("tensors", f"{len(changed)} of {len(tensors)} tensors differ from the source, {changed[0]} among them")
    # A tied tensor is saved once and loaded under both names.
    saved = {shared.get(name, name) for name in tensors}
    made_up = sorted(name for name in found.keys() - tensors.keys() if shared.get(name, name) not in saved)
    if made_up:
        _refuse("tensors", f"{len(made_up)} loaded tensors are not in the source, {made_up[0]} among them")
    for name in ("tokens", "summary", "selected"):
        if result[name] != outputs[name]:
            _refuse("sample", f"{name} of the sample differ from those of the local model")
    if "pipeline" in result:
        output = result["pipeline"]
        indices = [image["index"] for image in output["selected_images"]]
        if output["summary_text"] != outputs["summary"] or indices != outputs["selected"]:
            _refuse("pipeline", "the pipeline's summary or images of the sample differ from those of the local model")
    if "handler" in result and result["handler"] != result["pipeline"]:
        _refuse("handler", "the endpoint's answer to the sample differs from the pipeline's")


def _refuse(check: str, what: str) -> NoReturn:
    raise HubError(f"the check in a fresh process failed at {check!r}: {what}; nothing was uploaded.")
