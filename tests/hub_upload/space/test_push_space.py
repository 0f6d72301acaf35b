"""`spectra-sum push space`: what is staged, what is refused, and the Space running where the project is not installed."""

import ast
import errno
import importlib.metadata
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import gradio_client
import httpx2
import huggingface_hub.utils
import pytest
from huggingface_hub import SpaceCard, get_token
from packaging.requirements import Requirement

from hub_upload.errors import HubError
from hub_upload.space.push import REQUIREMENTS, PinnedModel, pin_model, stage_space
from hub_upload.space.versions import GRADIO_VERSION
from modeling_spectra import MultimodalSummarizationPipeline
from spectra_sum.app.pipeline_writer import PipelineWriter
from spectra_sum.app.responding import make_show
from spectra_sum.cli import main
from spectra_sum.uploads.article_input import Limits
from tests.tiny import SENTENCES, picture, tiny_config, tiny_model, tiny_processor

pytestmark = pytest.mark.usefixtures("preloaded_python")

COMMIT = "0123456789abcdef" * 2 + "01234567"
# A Space has its own files and the installed packages; none of the project's.
BARE = """
import runpy, sys
from pathlib import Path

class WithoutTheProject:
    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        if top in {"configuration_spectra", "hub_upload", "trainer", "tests"}:
            raise ModuleNotFoundError(f"{name} is not installed here")

sys.meta_path.insert(0, WithoutTheProject())
import gradio
launch = gradio.Blocks.launch
def announced(*arguments, **options):
    result = launch(*arguments, **options)
    own = {name: module.__file__ for name, module in list(sys.modules.items()) if name.startswith(("spectra_", "modeling_"))}
    assert all(Path(file).is_relative_to(Path.cwd()) for file in own.values()), own
    print("URL", result[1], flush=True)
    return result
gradio.Blocks.launch = announced
runpy.run_path("app.py", run_name="__main__")
"""


def make_pipeline() -> MultimodalSummarizationPipeline:
    return MultimodalSummarizationPipeline(
        tiny_model(gate=0.7, max_selected_images=1), processor=tiny_processor(), device="cpu"
    )


@pytest.fixture
def model(hub, tmp_path) -> tuple[str, str]:
    """The id and the commit of a model on the Hub."""
    folder = tmp_path / "model"
    make_pipeline().save_pretrained(folder)
    return push(hub, folder)


@contextmanager
def running(folder: Path, environment: dict[str, str]) -> Iterator[tuple[subprocess.Popen, str]]:
    """The process and the address of a Space's app."""
    with subprocess.Popen(
        [sys.executable, "-c", BARE],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            line = process.stdout.readline()
            assert line.startswith("URL "), process.stderr.read()
            yield process, line.split()[1]
        finally:
            process.terminate()
            process.wait(timeout=60)


def push(hub, folder: Path) -> tuple[str, str]:
    repo_id = hub.new_id("spectra-sum")
    hub.api.create_repo(repo_id)
    return repo_id, hub.api.upload_folder(folder_path=folder, repo_id=repo_id).oid


def test_staged_files(tmp_path):
    stage_space(tmp_path, PinnedModel("ns/spectra-sum", COMMIT, tiny_config().to_dict(), private=False))
    data = SpaceCard.load(tmp_path / "README.md").data.to_dict()
    assert {name: data[name] for name in ("sdk", "sdk_version", "app_file", "license", "models")} == {
        "sdk": "gradio",
        "sdk_version": importlib.metadata.version("gradio"),
        "app_file": "app.py",
        "license": "apache-2.0",
        "models": ["ns/spectra-sum"],
    }
    assert "spectra-sum" in data["tags"]
    assert COMMIT in (tmp_path / "README.md").read_text()

    app = ast.parse((tmp_path / "app.py").read_text())
    constants = {
        node.targets[0].id: ast.literal_eval(node.value) for node in ast.walk(app) if isinstance(node, ast.Assign)
        if isinstance(node.value, ast.Constant)
    }  # fmt: skip
    assert constants == {"MODEL": "ns/spectra-sum", "REVISION": COMMIT}
    assert (tmp_path / "requirements.txt").read_text().split() == list(REQUIREMENTS)
    assert len(list((tmp_path / "examples").glob("*/article.md"))) == 2
    files = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}
    assert {path.split("/")[0] for path in files} == {
        *("app.py", "README.md", "LICENSE", "requirements.txt", "examples"),
        *("spectra_sum", "modeling_spectra"),
    }
    assert not {name for name in files if name.endswith((".pyc", ".pyi"))}
    # What the modules do without is not shipped.
    assert "spectra_sum/documents/reading.py" in files and "spectra_sum/summaries/summarizer.py" not in files
    assert {name for name in files if name.startswith("modeling_spectra/")} == {
        "modeling_spectra/__init__.py",
        "modeling_spectra/rgb_images.py",
        "modeling_spectra/sentences.py",
    }
    assert "spectra_sum/msmo/layout.py" in files and "spectra_sum/msmo/builder.py" not in files


def test_requirements_are_what_is_imported_in_the_projects_ranges(tmp_path):
    stage_space(tmp_path, PinnedModel("ns/m", COMMIT, tiny_config().to_dict(), private=False))
    declared = {}
    for line in importlib.metadata.requires("spectra-sum"):
        requirement = Requirement(line)
        declared.setdefault(requirement.name.lower().replace("_", "-"), requirement.specifier)
    required = {Requirement(line).name.lower().replace("_", "-"): Requirement(line) for line in REQUIREMENTS}
    assert {name: requirement.specifier for name, requirement in required.items()} == {
        name: declared[name] for name in required
    }
    assert GRADIO_VERSION in declared["gradio"]

    imported = set()
    for source in tmp_path.rglob("*.py"):
        for node in ast.walk(ast.parse(source.read_text())):
            if isinstance(node, ast.Import):
                imported |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                imported.add(node.module.partition(".")[0])
    imported -= {*sys.stdlib_module_names, "spectra_sum", "modeling_spectra", "gradio", "gradio_client"}
    # What Gradio is built on.
    imported -= {"starlette"}
    distributions = importlib.metadata.packages_distributions()
    names = {distributions[name][0].lower().replace("_", "-") for name in imported}
    # The remote code's own: torch and numpy, and what reads the weights from the Hub.
    assert names | {"torch", "numpy", "safetensors", "huggingface-hub"} == set(required)


def test_a_pushed_space_runs_without_the_project(hub, model, tmp_path, capsys):
    repo_id, commit = model
    space = hub.new_id("spectra-sum-demo", "space")
    arguments = ["push", "space", "--repo-id", space, "--model", repo_id]
    assert main(arguments) == 0
    printed = capsys.readouterr().out
    assert f"Model: {repo_id} at {commit}" in printed
    first = hub.api.list_repo_commits(space, repo_type="space")[0].commit_id
    # The model moves on, the Space does not; a second push of the same changes nothing.
    assert main([*arguments, "--revision-of-model", commit]) == 0
    assert "nothing to change" in capsys.readouterr().out
    hub.api.upload_file(path_or_fileobj=b"raise RuntimeError", path_in_repo="pipeline_spectra.py", repo_id=repo_id)
    assert hub.api.list_repo_commits(space, repo_type="space")[0].commit_id == first

    folder = Path(hub.api.snapshot_download(space, repo_type="space", local_dir=tmp_path / "space"))
    dry = tmp_path / "dry"
    assert main([*arguments, "--revision-of-model", commit, "--dry-run", str(dry)]) == 0
    pushed = {path.relative_to(dry): path.read_bytes() for path in dry.rglob("*") if path.is_file()}
    assert {name: (folder / name).read_bytes() for name in pushed} == pushed
    assert {sibling.rfilename for sibling in hub.api.space_info(space).siblings} - {".gitattributes"} == {
        name.as_posix() for name in pushed
    }

    images = []
    for seed in (1, 2):
        images.append(tmp_path / f"photo{seed}.png")
        picture(seed, (32, 24)).save(images[-1])
    (tmp_path / "broken.png").write_bytes(b"broken")
    images.append(tmp_path / "broken.png")
    environment = hub.environment(
        tmp_path / "home", GRADIO_TEMP_DIR=str(tmp_path / "uploads"), OMP_NUM_THREADS="1", GRADIO_SSR_MODE="true"
    )
    with running(folder, environment) as (_, url):
        client = gradio_client.Client(url, verbose=False, analytics_enabled=False)
        files = [gradio_client.handle_file(image) for image in images]
        answer = client.predict("Harbour", SENTENCES[0], None, files, api_name="/summarize")
        client.close()
    show = make_show(PipelineWriter(make_pipeline()), Limits())
    *_, expected = show("Harbour", SENTENCES[0], None, [str(image) for image in images])
    assert answer == expected
    assert "broken image: broken.png" in answer and "✓ Selected #1" in answer


def test_models_that_the_demo_cannot_show(hub, model, tmp_path):
    with pytest.raises(HubError, match="^--model .*none.*: "):
        pin_model(f"{hub.namespace}/none")
    with pytest.raises(HubError, match="it has no revision 'no-such-branch'; check --revision-of-model"):
        pin_model(model[0], "no-such-branch")

    folder = tmp_path / "other"
    folder.mkdir()
    for config, message in [
        ('{"model_type": "qwen2"}', "this is a 'qwen2' model; name a 'spectra_sum' model."),
        (
            '{"model_type": "spectra_sum"}',
            "it was pushed without the multimodal-summarization pipeline; push it again",
        ),
        ("[1]", "its config.json is damaged"),
    ]:
        (folder / "config.json").write_text(config)
        with pytest.raises(HubError, match=message):
            pin_model(push(hub, folder)[0])
    (folder / "config.json").rename(folder / "adapter_config.json")
    with pytest.raises(HubError, match="it has no config.json; name a whole model, not an adapter"):
        pin_model(push(hub, folder)[0])


def test_nothing_is_uploaded_when_the_model_is_refused(hub, capsys):
    space = hub.new_id("spectra-sum-demo", "space")
    assert main(["push", "space", "--repo-id", space, "--model", f"{hub.namespace}/none"]) == 1
    assert capsys.readouterr().err.count("\n") == 1
    assert not hub.api.repo_exists(space, repo_type="space")


def answer_403(monkeypatch, name: str) -> None:
    """Has `name` of huggingface_hub's HTTP answers refused as a Hub does what a token may not read."""
    session = huggingface_hub.utils.get_session()
    send = session.send

    def refuse(request, **options):
        if name in str(request.url):
            return httpx2.Response(403, request=request, headers={"X-Error-Message": "Forbidden"})
        return send(request, **options)

    monkeypatch.setattr(session, "send", refuse)


@pytest.mark.parametrize("refused", ["/api/models/", "config.json"])
def test_a_model_that_the_token_may_not_read(hub, model, monkeypatch, capsys, refused):
    answer_403(monkeypatch, refused)
    # In a namespace of somebody else the Space would be made to find out whether that is allowed.
    space = "somebody-else/demo"
    hub.made.append(("space", space))
    assert main(["push", "space", "--repo-id", space, "--model", model[0]]) == 1
    assert capsys.readouterr().err == (
        f"spectra-sum: error: --model {model[0]}: the token may not read it; use one that may, or ask the owner for "
        "access.\n"
    )
    assert not hub.api.repo_exists(space, repo_type="space")


def test_a_full_disk_is_one_line_with_a_fix(hub, model, monkeypatch, capsys, tmp_path):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device", "app.py")

    monkeypatch.setattr("hub_upload.space.push.copy_modules", full)
    arguments = ["--repo-id", f"{hub.namespace}/demo", "--model", model[0], "--dry-run", str(tmp_path / "dry")]
    assert main(["push", "space", *arguments]) == 1
    error = capsys.readouterr().err
    assert "the disk is full (app.py)" in error and "TMPDIR" in error and error.count("\n") == 1


def test_the_space_of_a_private_model_is_private_unless_it_shall_be_public(hub, model, capsys):
    hub.api.update_repo_settings(model[0], private=True)
    for option, private, line in (
        (
            [],
            True,
            "The model is private, so is the Space, unless you pass --public; give the Space a secret HF_TOKEN",
        ),
        (
            ["--public"],
            False,
            "The model is private, the Space is public and names it; give the Space a secret HF_TOKEN",
        ),
    ):
        space = hub.new_id("demo", "space")
        assert main(["push", "space", "--repo-id", space, "--model", model[0], *option]) == 0
        assert line in capsys.readouterr().out
        assert hub.api.space_info(space).private is private
    folder = Path(hub.api.snapshot_download(space, repo_type="space"))
    assert get_token() not in "".join(
        path.read_text(errors="replace") for path in folder.rglob("*.*") if path.is_file()
    )


def test_a_space_without_a_token_for_its_private_model_says_so(hub, model, tmp_path):
    hub.api.update_repo_settings(model[0], private=True)
    (tmp_path / "space").mkdir()
    stage_space(tmp_path / "space", pin_model(model[0]))
    environment = hub.environment(tmp_path / "home", GRADIO_TEMP_DIR=str(tmp_path / "uploads"))
    del environment["HF_TOKEN"]
    notice = (
        f"The model {model[0]} at {model[1][:12]} cannot be read. If it is private, the owner of this Space gives it a "
        "secret HF_TOKEN that may read the model, and restarts it."
    )
    with running(tmp_path / "space", environment) as (process, url):
        config = httpx2.get(f"{url}config").json()
        process.terminate()
        log = process.communicate(timeout=60)[1]
    assert any(notice in str(component["props"].get("value")) for component in config["components"])
    assert notice in log and "Traceback" not in log
