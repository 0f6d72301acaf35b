"""A trained model or LoRA adapter → the Hub: staged, checked as a stranger would load it, described, and pushed."""

import getpass
import json
import re
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from huggingface_hub import ModelCard, get_token
from safetensors import SafetensorError, safe_open

from modeling_spectra.configuration_spectra import AUTO_MAP
from spectra_sum.models.loading import load_model
from spectra_sum.models.quantization_choices import BASE_QUANTIZATION_FILE
from spectra_sum.models.sources import ModelError, find_adapter_base

from ..cards.model import CURVE_FILE, backbone_licenses, model_card, training_curve
from ..cards.run_facts import RunFacts, count_parameters, read_run_facts
from ..endpoint.files import add_endpoint_files
from ..errors import HubError
from ..repository import Push, Target, check_dry_run, check_target, hub_errors, push_folder, write_dry_run
from .bare_load import summarize_sample, tensor_digest
from .folder import (
    HUB_ID,
    ModelFolder,
    check_nothing_private,
    file_digests,
    find_model_folder,
    remove_local_paths,
    without_local_paths,
)
from .fresh_process import compare_loaded, load_in_fresh_process, make_sample
from .pushed_base import PushedBase, assemble_base, parse_base, pin_base

LICENSE = Path(__file__).parents[1] / "LICENSE"
LICENSE_ID = re.compile(r"[a-z0-9]+([.-][a-z0-9]+)*")
ADAPTER_PREFIX = "base_model.model."
# Bytes that staging and its check take beside the weights: code, processor, card, the fresh process's own caches.
BESIDE_WEIGHTS = 16_000_000
Lora = Literal["adapter", "merge"]


@dataclass(frozen=True)
class ModelPush:
    """
    What a push of a model did.

    Attributes:
        push (`Push`, *optional*): Of the repository; `None` for a dry run.
        files (`Mapping[str, int]`): {name: bytes} of what was uploaded, or would be.
        resume_files (`tuple[str, ...]`): The Trainer's files to resume, which stayed here.
        left_out (`tuple[str, ...]`): Other files and folders of the model's folder that stayed here.
        replaced (`tuple[str, ...]`): Texts and code of the model's folder that stayed here, since this project's own are
            uploaded under their names.
        notes (`tuple[str, ...]`): What the user should know.
    """

    push: Push | None
    files: Mapping[str, int]
    resume_files: tuple[str, ...]
    left_out: tuple[str, ...]
    replaced: tuple[str, ...]
    notes: tuple[str, ...]


def push_model(
    source: Path,
    target: Target,
    *,
    lora: Lora | None = None,
    base: str | None = None,
    evaluations: Sequence[Path] = (),
    license: str | None = None,
    dataset_id: str | None = None,
    dry_run: Path | None = None,
    max_shard_size: str = "5GB",
    card: ModelCard | None = None,
    message: str = "Upload the model with its code and card",
    report: Callable[[str], None] = lambda step: None,
) -> ModelPush:
    """
    Publishes a model or adapter. Everything is put together in a temporary folder, loaded there in a fresh process, and
    compared with the source by tensors and outputs; only then is it uploaded, in one commit.

    Args:
        source (`Path`): Output folder of a run, a checkpoint, or a model's folder.
        target (`Target`): The repository.
        lora (`str`, *optional*): For a LoRA adapter: `"adapter"` publishes it alone, pointing at `base`; `"merge"`
            publishes whole weights, with the adapter merged into its base.
        base (`str`, *optional*): `"namespace/name"` or `"namespace/name@revision"` of the adapter's base on the Hub.
        evaluations (`Sequence[Path]`, *optional*, defaults to `()`): Result folders of `spectra-sum evaluate`.
        license (`str`, *optional*): Identifier of the Hub, such as `"apache-2.0"`, for the card, where the backbones'
            licences are not known.
        dataset_id (`str`, *optional*): Hub id of the training data, for the card.
        dry_run (`Path`, *optional*): Write what would be uploaded into this new folder; it needs no token, and without a
            network the notes tell what could not be looked up.
        max_shard_size (`str`, *optional*, defaults to `"5GB"`): Larger weights are cut into several files.
        card (`ModelCard`, *optional*): Instead of the one that is made of the run's facts.
        message (`str`, *optional*): Of the commit.
        report (`Callable[[str], None]`, *optional*): Is told what is being done.

    Raises:
        ModelError: The folder, or what is asked for it, cannot be published; nothing was uploaded.
        HubError: A check failed, or the Hub refused; nothing was committed.
    """
    for option, repo_id in (("--repo-id", target.repo_id), ("--dataset", dataset_id)):
        if repo_id is not None and not HUB_ID.fullmatch(repo_id):
            raise ModelError(f"{option} {repo_id}: this is no Hub id; pass NAMESPACE/NAME.")
    if license is not None and not LICENSE_ID.fullmatch(license):
        raise ModelError(
            f"--license {license!r}: this is no licence identifier of the Hub; they are of small letters, digits, dots and "
            "dashes, such as apache-2.0, mit or other."
        )
    report("checking the folder")
    folder = find_model_folder(source)
    pushed_base, own_base = _check_lora(folder, lora, base)
    facts = read_run_facts(folder.path, evaluations)
    if dry_run is not None:
        check_dry_run(dry_run)
    else:
        report("checking the repository")
        check_target(target)
        if pushed_base is not None:
            report("comparing the base on the Hub with the run's own")
            pushed_base = pin_base(pushed_base, own_base)
    report("asking for the backbones' licences")
    licenses, notes = _look_up_licenses(facts, may_fail=dry_run is not None)
    as_adapter = lora == "adapter"
    with hub_errors(target.repo_id), tempfile.TemporaryDirectory(prefix="spectra-sum-push-") as name:
        staged, work = Path(name) / "staged", Path(name) / "check"
        for path in (staged, work):
            path.mkdir()
        _check_room(Path(name), folder.size + (own_base.size if lora == "merge" else 0) + _settings_size(folder.path))
        sample = make_sample(work)
        report("loading and staging the model")
        tensors, outputs = _stage_weights(folder, own_base, staged, sample, as_adapter, max_shard_size)
        if as_adapter:
            _point_at_base(staged / "adapter_config.json", pushed_base.repo_id, pushed_base.revision)
        remove_local_paths(staged)
        shutil.copyfile(LICENSE, staged / "LICENSE")
        if not as_adapter:
            add_endpoint_files(staged)
        loadable = _beside_its_base(staged, work, pushed_base, own_base) if as_adapter else staged
        result = load_in_fresh_process(loadable, sample, is_adapter=as_adapter, report=report)
        compare_loaded(result, tensors, outputs)

        report("writing the card")
        if card is not None:
            card.save(staged / "README.md")
        else:
            _write_card(
                staged,
                facts,
                _read_config(own_base.path if as_adapter else staged),
                target.repo_id,
                "adapter" if as_adapter else "model",
                licenses=licenses,
                license=license,
                base_model=pushed_base.repo_id if pushed_base else None,
                base_revision=pushed_base.revision if pushed_base else None,
                dataset_id=dataset_id,
                merged=lora == "merge",
                parameters=count_parameters(staged),
            )
        places = {Path.home(), Path.cwd(), source.absolute(), source.resolve(), Path(tempfile.gettempdir())}
        check_nothing_private(staged, places, _user_name(), get_token())
        paths = sorted(path for path in staged.rglob("*") if path.is_file())
        files = {path.relative_to(staged).as_posix(): path.stat().st_size for path in paths}
        replaced = _replaced(folder.path, staged)
        if dry_run is not None:
            write_dry_run(staged, dry_run)
            push = None
        else:
            report("uploading")
            push = push_folder(staged, target, message)
    known = {
        *(name.partition("/")[0] for name in files),
        *folder.resume_files,
        *(path.name for path in folder.weights),
    }
    left_out = [path for path in sorted(folder.path.iterdir()) if path.name not in known]
    return ModelPush(
        push=push,
        files=files,
        resume_files=folder.resume_files,
        left_out=tuple(f"{path.name}/" if path.is_dir() else path.name for path in left_out),
        replaced=replaced,
        notes=(*notes, *_notes(pushed_base, target)),
    )


def _check_lora(
    folder: ModelFolder, lora: Lora | None, base: str | None
) -> tuple[PushedBase | None, ModelFolder | None]:
    """The base on the Hub (for an adapter that is published alone), and the one on this machine (for any adapter)."""
    if not folder.is_adapter:
        if lora is not None or base is not None:
            raise ModelError(
                f"{folder.path}: this is a whole model, no LoRA adapter; leave --adapter, --merge, --base out."
            )
        return None, None
    if lora is None:
        raise ModelError(
            f"{folder.path}: this is a LoRA adapter; choose --merge (whole weights, the adapter merged in) or --adapter "
            "(the adapter alone, with --base naming its base on the Hub)."
        )
    local = find_adapter_base(folder.path)
    if local is None:
        raise ModelError(
            f"{folder.path}: the adapter's base is not on this machine; put its folder at {folder.path}/base."
        )
    own_base = find_model_folder(local)
    if lora == "merge":
        if base is not None:
            raise ModelError("--base belongs to --adapter; a merged model needs no base.")
        return None, own_base
    if base is None:
        raise ModelError(
            f"--adapter needs its base on the Hub: push it first (spectra-sum push model {local} --repo-id "
            "NAMESPACE/NAME), then pass --base NAMESPACE/NAME."
        )
    return parse_base(base), own_base


def _look_up_licenses(facts: RunFacts, *, may_fail: bool) -> tuple[dict[str, str], list[str]]:
    """Licences of the backbones by Hub id; where that may fail, a note says that it did."""
    try:
        return backbone_licenses(facts), []
    except HubError as error:
        if not may_fail:
            raise
        return {}, [f"the backbones' licences were not looked up, and a push's card may name one: {error}"]


def _settings_size(folder: Path) -> int:
    """Bytes of what is staged beside the weights: a tokenizer may be large."""
    return sum(path.stat().st_size for path in folder.glob("*.json"))


def _check_room(folder: Path, needed: int) -> None:
    """Checks the disk for staging; `needed` are bytes of weights and settings."""
    free, needed = shutil.disk_usage(folder).free, needed + BESIDE_WEIGHTS
    if free < needed:
        raise HubError(
            f"{folder.parent}: staging needs {needed / 1e6:,.0f} MB and {free / 1e6:,.0f} MB are free; set TMPDIR to a "
            "larger disk."
        )


def _replaced(folder: Path, staged: Path) -> tuple[str, ...]:
    """Card, licence and code of the folder in whose place the project's own are staged."""
    names = sorted({"README.md", "LICENSE", CURVE_FILE, *(path.name for path in staged.glob("*.py"))})
    return tuple(
        name
        for name in names
        if (folder / name).is_file()
        and (staged / name).is_file()
        and (folder / name).read_bytes() != (staged / name).read_bytes()
    )


def _stage_weights(
    folder: ModelFolder,
    own_base: ModelFolder | None,
    staged: Path,
    sample: Mapping[str, Any],
    as_adapter: bool,
    max_shard_size: str,
) -> tuple[dict[str, str], dict[str, Any]]:
    """
    Writes weights, code, configuration and processor, and tells what the check must find: the digests of the source's
    tensors, and what the local model makes of the sample. The model's memory is free afterwards.
    """
    loaded = load_model(str(folder.path), merge=not as_adapter)
    loaded.processor.save_pretrained(staged)
    if as_adapter:
        shutil.copyfile(folder.weights[0], staged / folder.weights[0].name)
        for name in ("adapter_config.json", BASE_QUANTIZATION_FILE):
            if (folder.path / name).is_file():
                shutil.copyfile(folder.path / name, staged / name)
        tensors = file_digests(folder.weights)
    else:
        try:
            loaded.model.save_pretrained(staged, max_shard_size=max_shard_size)
        except SafetensorError as error:
            # How safetensors reports a full disk.
            raise HubError(
                f"{staged.parent.parent}: the weights cannot be staged there: {error}; set TMPDIR."
            ) from error
        state = loaded.model.state_dict()
        tensors = _merged_digests(state, folder, own_base) if folder.is_adapter else file_digests(folder.weights)
    return tensors, summarize_sample(loaded.model, loaded.processor, sample)


def _merged_digests(state: Mapping[str, Any], adapter: ModelFolder, own_base: ModelFolder) -> dict[str, str]:
    """Digests of a merged model: only what LoRA adapted is read from memory, all else from the files of the run."""
    digests = file_digests(own_base.weights)
    with safe_open(adapter.weights[0], framework="pt") as file:
        for key in file.keys():  # noqa: SIM118
            name = key.removeprefix(ADAPTER_PREFIX)
            if ".lora_" in name:
                adapted = name.partition(".lora_")[0] + ".weight"
                digests[adapted] = tensor_digest(state[adapted])
            else:
                # Saved whole; training in mixed precision may have kept it wider than the base.
                digests[name] = tensor_digest(file.get_tensor(key).to(state[name].dtype))
    return digests


def _point_at_base(path: Path, repo_id: str, revision: str | None) -> None:
    content = json.loads(path.read_text(encoding="utf-8"))
    content |= {"base_model_name_or_path": repo_id, "revision": revision}
    # AutoPeftModel imports no module but these; AutoModel finds the code in the base's repository.
    content["auto_mapping"] = {"base_model_class": "AutoModel", "parent_library": "transformers"}
    path.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _beside_its_base(staged: Path, work: Path, base: PushedBase, own_base: ModelFolder) -> Path:
    """The staged adapter again, pointing at its base on this machine: the fresh process is offline."""
    assemble_base(base, own_base, work / "base")
    loadable = work / "adapter"
    loadable.mkdir()
    for path in staged.iterdir():
        (loadable / path.name).symlink_to(path)
    settings = loadable / "adapter_config.json"
    settings.unlink()
    shutil.copyfile(staged / settings.name, settings)
    _point_at_base(settings, str(work / "base"), None)
    return loadable


def _read_config(folder: Path) -> dict[str, Any]:
    config = without_local_paths(json.loads((folder / "config.json").read_text(encoding="utf-8")))
    lacking = sorted(AUTO_MAP.keys() - config.get("auto_map", {}).keys())
    if lacking:
        raise HubError(f"{folder.name}/config.json: its auto_map lacks {', '.join(lacking)}; nothing was uploaded.")
    return config


def _write_card(staged: Path, facts: RunFacts, *what: Any, **options: Any) -> None:
    """The card of [`model_card`], and the curve that it shows if there is one."""
    model_card(facts, *what, **options).save(staged / "README.md")
    curve = training_curve(facts)
    if curve is not None:
        (staged / CURVE_FILE).write_text(curve, encoding="utf-8")


def _user_name() -> str:
    try:
        return getpass.getuser()
    except (ImportError, KeyError, OSError):
        # A container may run under a number that no name belongs to.
        return ""


def _notes(base: PushedBase | None, target: Target) -> list[str]:
    if base is None:
        return []
    if not base.is_pinned:
        revision = f"revision {base.revision!r} as given" if base.revision else "no revision"
        return [f"the base {base.repo_id} was not looked up in a dry run: the adapter names it with {revision}."]
    if base.private and not target.private:
        return [f"the base {base.repo_id} is private: only those who may read it can load the adapter."]
    return []
