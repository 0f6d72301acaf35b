"""What result files say of where they were made."""

import importlib.util
import shutil
import subprocess
from pathlib import Path

from spectra_sum import environment


def commit_seen_from(folder: Path) -> str | None:
    """What a copy of the module says that lies in a package of `folder`."""
    (folder / "package").mkdir(parents=True)
    place = shutil.copy(environment.__file__, folder / "package" / "environment.py")
    specification = importlib.util.spec_from_file_location("copied_environment", place)
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module.describe_commit()


def git(folder: Path, *arguments: str) -> None:
    identity = ["-c", "user.name=n", "-c", "user.email=e@example.org"]
    subprocess.run(["git", *identity, *arguments], cwd=folder, check=True, capture_output=True)


def test_the_commit_is_that_of_the_checkout_and_changes_are_said(tmp_path):
    git(tmp_path, "init", "--initial-branch", "main")
    (tmp_path / "file").write_text("one")
    git(tmp_path, "add", "file")
    git(tmp_path, "commit", "--message", "one")
    commit = (tmp_path / ".git" / "refs" / "heads" / "main").read_text().strip()
    assert commit_seen_from(tmp_path) == commit
    (tmp_path / "file").write_text("two")
    shutil.rmtree(tmp_path / "package")
    assert commit_seen_from(tmp_path) == f"{commit}+changes"


def test_an_installed_package_has_no_commit_even_inside_a_repository(tmp_path):
    git(tmp_path, "init")
    assert commit_seen_from(tmp_path / "site-packages") is None
