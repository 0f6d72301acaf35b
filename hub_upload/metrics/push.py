"""The project's metrics → one Space each, from which `evaluate.load` takes them."""

import json
import re
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import evaluate
from huggingface_hub import SpaceCard, SpaceCardData

import spectra_sum.metrics

from ..errors import HubError
from ..repository import PROJECT_TAG, Push, Target, check_dry_run, check_target, hub_errors, push_folder, write_dry_run
from ..space.versions import GRADIO_VERSION, PYTHON_VERSION
from .requirements import metric_files, requirements

TEMPLATES = Path(__file__).parent / "templates"
# What importing a file that is no metric, or a broken one, raises in `evaluate.load`.
LOADING_ERRORS = (ImportError, SyntaxError, NameError, AttributeError, TypeError, ValueError, OSError)

_SENTENCE_START = re.compile(r"(?<=[.)])\s+(?=[A-Z`])")
_EMPTY_OR_MISSING = re.compile(r"\b(?:without|no text|empty)\b", re.IGNORECASE)


def find_metrics(folder: Path | None = None) -> dict[str, Path]:
    """
    The metrics by name: each folder that holds a module of its own name.

    Args:
        folder (`Path`, *optional*): Where to look. Defaults to `spectra_sum/metrics`.
    """
    folder = folder or Path(spectra_sum.metrics.__file__).parent
    return {path.parent.name: path.parent for path in sorted(folder.glob("*/*.py")) if path.stem == path.parent.name}


def push_metrics(
    metrics: dict[str, Path],
    namespace: str,
    *,
    private: bool | None = None,
    revision: str | None = None,
    create_pr: bool = False,
    dry_run: Path | None = None,
    report: Callable[[str], None] = print,
) -> list[HubError]:
    """
    Publishes metrics as Spaces `namespace/NAME`, each in one commit. A metric that fails does not keep the others.

    Args:
        metrics (`dict[str, Path]`): Folders by name, from [`find_metrics`].
        namespace (`str`): User or organisation.
        private (`bool`, *optional*): Visibility, see [`~hub_upload.repository.Target`].
        revision (`str`, *optional*): A branch.
        create_pr (`bool`, *optional*, defaults to `False`): Open pull requests.
        dry_run (`Path`, *optional*): A new or empty folder, of which each metric gets one of its name; nothing is sent.
        report (`Callable`, *optional*): Gets one line per metric that was pushed. Defaults to `print`.

    Returns:
        `list[HubError]`: What failed, one per metric.

    Raises:
        HubError: `dry_run` cannot be written.
    """
    if dry_run is not None:
        check_dry_run(dry_run)
    failures = []
    with TemporaryDirectory() as temporary:
        staging = Path(temporary) / "metrics"
        staging.mkdir()
        for name, source in metrics.items():
            target = Target(
                f"{namespace}/{name}",
                repo_type="space",
                private=private,
                revision=revision,
                create_pr=create_pr,
                space_sdk="gradio",
            )
            try:
                push = _push_metric(source, staging / name, target, dry_run is None)
            except HubError as error:
                failures.append(error)
                shutil.rmtree(staging / name, ignore_errors=True)
            else:
                report(str(push) if push else f"{target.repo_id}: would be pushed")
        if dry_run is not None:
            write_dry_run(staging, dry_run)
    return failures


def stage_metric(source: Path, folder: Path, repo_id: str) -> None:
    """
    Writes what a metric's Space holds: its modules, the card, the app with an example, and the requirements.

    Args:
        source (`Path`): The metric's folder.
        folder (`Path`): A new folder.
        repo_id (`str`): `"namespace/name"` of the Space.

    Raises:
        HubError: The metric cannot be loaded from there, or imports what a Space has not.
    """
    name = source.name
    folder.mkdir()
    files = metric_files(source)
    for file in files:
        # The content, where the folder holds a link.
        shutil.copyfile(file, folder / file.name)
    needed = requirements(files)
    (folder / "requirements.txt").write_text("".join(f"{line}\n" for line in needed), encoding="utf-8")
    examples = json.loads((TEMPLATES / "metric_examples.json").read_text(encoding="utf-8"))
    example = examples.get(name, {})
    (folder / "example.json").write_text(
        json.dumps({"metric": name, "inputs": example}, indent=2) + "\n", encoding="utf-8"
    )
    shutil.copyfile(Path(__file__).with_name("app.py"), folder / "app.py")
    try:
        metric = evaluate.load(str(folder / f"{name}.py"), module_type="metric", keep_in_memory=True)
    except LOADING_ERRORS as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise HubError(f"{repo_id}: evaluate cannot load the metric: {reason}") from error
    card = _metric_card(metric, repo_id, example, needed)
    (folder / "README.md").write_text(f"{card}\n", encoding="utf-8")


def split_limits(description: str) -> tuple[str, str]:
    """
    A metric's description without its end, and that end: from the first sentence on what is empty or missing, which the
    project's descriptions have after the definition. It is empty where there is no such sentence.
    """
    for start in _SENTENCE_START.finditer(description):
        sentence = _SENTENCE_START.split(description[start.end() :], maxsplit=1)[0]
        if _EMPTY_OR_MISSING.search(sentence):
            return description[: start.start()].strip(), description[start.end() :].strip()
    return description.strip(), ""


def _push_metric(source: Path, folder: Path, target: Target, send: bool) -> Push | None:
    if send:
        check_target(target)
    with hub_errors(target.repo_id):
        stage_metric(source, folder, target.repo_id)
    return push_folder(folder, target, "Upload metric") if send else None


def _metric_card(metric: evaluate.Metric, repo_id: str, example: dict, needed: Sequence[str]) -> SpaceCard:
    """The card: what it says of the metric is the module's own text."""
    description, limits = split_limits(metric.description.strip())
    data = SpaceCardData(
        title=metric.name,
        sdk="gradio",
        sdk_version=GRADIO_VERSION,
        python_version=PYTHON_VERSION,
        app_file="app.py",
        license="apache-2.0",
        tags=["evaluate", "metric", PROJECT_TAG],
    )
    return SpaceCard.from_template(
        data,
        template_path=str(TEMPLATES / "metric_card.md.j2"),
        name=metric.name,
        repo_id=repo_id,
        description=description,
        limits=limits,
        inputs_description=metric.inputs_description.strip(),
        citation=metric.citation.strip(),
        example={argument: repr(value) for argument, value in example.items()},
        requirements=[f"`{line}`" for line in needed],
    )
