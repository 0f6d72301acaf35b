"""The page on publishing: its commands publish, and its Python runs where nothing of the project is."""

import subprocess
import sys

import pytest

from hub_upload.metrics.push import find_metrics
from spectra_sum.cli import main
from tests.bare_process import WITHOUT_THE_PROJECT
from tests.hub_upload.dataset.test_push_dataset import write_article, write_image
from tests.test_docs import blocks, commands, make_checkout

pytestmark = pytest.mark.usefixtures("preloaded_python")


@pytest.fixture
def repositories(hub):
    """Those that the page's commands make, with NAMESPACE replaced; deleted at the end."""
    made = [("model", "spectra-sum"), ("space", "spectra-sum-demo"), ("dataset", "msmo")]
    made += [("space", name) for name in find_metrics()]
    made = [(repo_type, f"{hub.namespace}/{name}") for repo_type, name in made]
    if any(hub.api.repo_exists(repo_id, repo_type=repo_type) for repo_type, repo_id in made):
        pytest.skip(f"{hub.namespace} has repositories of these names, which the test would change")
    hub.made.extend(made)
    return made


def test_the_page_on_publishing(hub, repositories, tmp_path, monkeypatch, capsys):
    checkout = make_checkout(tmp_path / "checkout")
    for name in ("a" * 40, "b" * 40):
        write_article(checkout / "FOLDER" / "test_data", name)
        write_image(checkout / "FOLDER" / "test_data", f"{name}_0.jpg", seed=7)
    monkeypatch.chdir(checkout)
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    evaluate = next(command for command in commands(".venv/bin/spectra-sum evaluate") if "mm-dvp" in command)
    assert main([*evaluate[1:], "--max-new-tokens", "4"]) == 0
    capsys.readouterr()
    for command in commands(".venv/bin/spectra-sum push"):
        assert main([word.replace("NAMESPACE", hub.namespace) for word in command[1:]]) == 0
    printed = capsys.readouterr().out
    for repo_type, repo_id in repositories:
        assert f"{repo_id}: " in printed
        assert len(hub.api.list_repo_commits(repo_id, repo_type=repo_type)) == 2
    assert hub.api.repo_info(f"{hub.namespace}/msmo", repo_type="dataset").private

    (code,) = [block for block in blocks("python") if "NAMESPACE" in block]
    done = subprocess.run(
        [sys.executable, "-I", "-c", WITHOUT_THE_PROJECT + code.replace("NAMESPACE", hub.namespace)],
        cwd=checkout,
        env=hub.environment(tmp_path / "home", HF_UPDATE_DOWNLOAD_COUNTS="0"),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    summary, title, metric = done.stdout.splitlines()[-3:]
    assert "'summary_text'" in summary and "'evidence'" in summary
    assert title == "A title"
    # One of the two selected images is gold.
    assert "'image_precision': 0.5" in metric
