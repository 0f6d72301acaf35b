"""A published model → a Gradio Space that shows it."""

import json
import shutil
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi, SpaceCard, SpaceCardData, hf_hub_download
from huggingface_hub.errors import (
    HfHubHTTPError,
    LocalEntryNotFoundError,
    RemoteEntryNotFoundError,
    RevisionNotFoundError,
)
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from modeling_spectra.configuration_spectra import PIPELINE_TASK
from spectra_sum.app.examples import describe_examples, write_examples
from spectra_sum.uploads.article_input import Limits

from ..errors import HubError
from ..repository import PROJECT_TAG, Push, Target, check_dry_run, check_target, hub_errors, push_folder, write_dry_run
from .modules import copy_modules, project_modules
from .versions import GRADIO_VERSION, PYTHON_VERSION

LICENSE = "apache-2.0"
# What the app and the model's remote code import, with this project's ranges; Gradio comes with the Space.
REQUIREMENTS = (
    "beautifulsoup4>=4.13,<5",
    "huggingface_hub>=2.4,<3",
    "jinja2>=3.1,<4",
    "markdown-it-py>=4.3,<5",
    "mdit-py-plugins>=0.4,<1",
    "numpy>=2,<3",
    "pillow>=10.1,<14",
    "pyyaml>=6,<7",
    "safetensors>=0.5,<1",
    "torch>=2.8,<3",
    "transformers>=5.23,<6",
)


@dataclass(frozen=True)
class PinnedModel:
    """A model on the Hub: its id, the commit that the Space will load, its configuration, and whether it is private."""

    repo_id: str
    commit: str
    config: dict[str, Any]
    private: bool


def pin_model(repo_id: str, revision: str | None = None) -> PinnedModel:
    """
    Finds a model's commit on the Hub, and checks that the demo can show it.

    Args:
        repo_id (`str`): The model's id.
        revision (`str`, *optional*): Branch, tag or commit; the main branch by default.

    Raises:
        HubError: There is no such model or revision, or it is no SPeCTrA-Sum model with its pipeline.
    """
    with hub_errors(f"--model {repo_id}"):
        try:
            info = HfApi().model_info(repo_id, revision=revision)
            try:
                path = hf_hub_download(repo_id, "config.json", revision=info.sha)
            except LocalEntryNotFoundError as error:
                # That the cache lacks the file hides why it was not fetched.
                raise error.__cause__ or error from None
        except RevisionNotFoundError:
            raise HubError(f"--model {repo_id}: it has no revision {revision!r}; check --revision-of-model.") from None
        except RemoteEntryNotFoundError:
            raise HubError(
                f"--model {repo_id}: it has no config.json; name a whole model, not an adapter (`push model --merge`)."
            ) from None
        except HfHubHTTPError as error:
            if error.response.status_code != 403:
                raise
            raise HubError(
                f"--model {repo_id}: the token may not read it; use one that may, or ask the owner for access."
            ) from error
    try:
        config = json.loads(Path(path).read_text(encoding="utf-8"))
        model_type, pipelines = config.get("model_type"), config.get("custom_pipelines", {})
    except (ValueError, AttributeError):
        raise HubError(f"--model {repo_id}: its config.json is damaged; push the model again.") from None
    if model_type != "spectra_sum":
        raise HubError(f"--model {repo_id}: this is a {model_type!r} model; name a 'spectra_sum' model.")
    if PIPELINE_TASK not in pipelines:
        raise HubError(
            f"--model {repo_id}: it was pushed without the {PIPELINE_TASK} pipeline; push it again with `push model`."
        )
    return PinnedModel(repo_id, info.sha, config, bool(info.private))


def stage_space(folder: Path, model: PinnedModel) -> None:
    """
    Writes the Space's files into an empty folder: `app.py`, the project's modules that it imports with their templates,
    examples that suit the model, `requirements.txt`, the licence and the card.
    """
    fields = {"model": model.repo_id, "revision": model.commit}
    (folder / "app.py").write_text(_rendered("space_app.py.j2", **fields), encoding="utf-8")
    copy_modules(project_modules([folder / "app.py"]), folder)
    write_examples(folder / "examples", model.config)
    (folder / "requirements.txt").write_text("\n".join([*REQUIREMENTS, ""]), encoding="utf-8")
    shutil.copy(Path(__file__).parents[1] / "LICENSE", folder)
    data = SpaceCardData(
        title="SPeCTrA-Sum",
        emoji="📰",
        colorFrom="green",
        colorTo="gray",
        sdk="gradio",
        sdk_version=GRADIO_VERSION,
        python_version=PYTHON_VERSION,
        app_file="app.py",
        license=LICENSE,
        models=[model.repo_id],
        tags=[PROJECT_TAG, "summarization", "multimodal"],
    )
    text = _rendered(
        "space_card.md.j2", **fields, limits=Limits(), gradio=GRADIO_VERSION, examples=describe_examples(model.config)
    )
    SpaceCard(f"---\n{data.to_yaml()}\n---\n\n{text}").save(folder / "README.md")


def push_space(
    target: Target, model: str, *, model_revision: str | None = None, dry_run: Path | None = None
) -> tuple[Push | None, PinnedModel]:
    """
    Publishes the demo of a model. The Space of a private model is private unless the target says otherwise, since its
    files name the model.

    Args:
        target (`Target`): The Space.
        model (`str`): The model's id on the Hub.
        model_revision (`str`, *optional*): Its branch, tag or commit; the Space gets the commit that it is now.
        dry_run (`Path`, *optional*): Write what would be pushed to this new folder, and push nothing. The model is still
            looked up on the Hub, without a token if it is public.

    Returns:
        The push (`None` for a dry run), and the model as it was found.

    Raises:
        HubError: The model or the target cannot be used, or the push failed.
    """
    if dry_run is not None:
        check_dry_run(dry_run)
    pinned = pin_model(model, model_revision)
    if pinned.private and target.private is None:
        target = replace(target, private=True)
    if dry_run is None:
        check_target(target)
    with hub_errors(target.repo_id), tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        stage_space(folder, pinned)
        if dry_run is not None:
            write_dry_run(folder, dry_run)
            return None, pinned
        return push_folder(folder, target, f"Demo of {model} at {pinned.commit[:12]}"), pinned


def _rendered(template: str, **fields: Any) -> str:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).with_name("templates")),
        autoescape=False,
        undefined=StrictUndefined,
        keep_trailing_newline=True,
    )
    return environment.get_template(template).render(fields)
