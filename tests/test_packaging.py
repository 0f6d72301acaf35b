"""What a wheel installs, and which part of the project may know which."""

import ast
import importlib.metadata
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SHIPPED = {".py", ".j2", ".css", ".js", ".json"}
INSTALLED = {"configuration_spectra", "hub_upload", "modeling_spectra", "spectra_sum"}


def imported_packages(file: Path) -> set[str]:
    """Top-level packages that a file imports by absolute imports."""
    names = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names.add(node.module.split(".")[0])
    return names


def imports_of(folder: str) -> set[str]:
    return set().union(*(imported_packages(file) for file in (ROOT / folder).rglob("*.py")))


def test_a_build_holds_all_of_the_package_and_nothing_of_the_checkout(tmp_path):
    command = [sys.executable, "setup.py", "--quiet", "build", "--build-base", str(tmp_path), "--build-lib", "lib"]
    command[-1] = str(tmp_path / "lib")
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    built = {path.relative_to(tmp_path / "lib") for path in (tmp_path / "lib").rglob("*") if path.is_file()}
    assert {path.parts[0] for path in built} == INSTALLED
    for folder in INSTALLED:
        sources = {path.relative_to(ROOT) for path in (ROOT / folder).rglob("*") if path.suffix in SHIPPED}
        assert sources <= built, sources - built


@pytest.mark.parametrize(
    ("folder", "forbidden"),
    [
        ("modeling_spectra", {"spectra_sum", "trainer", "configuration_spectra", "datasets", "peft", "accelerate"}),
        ("spectra_sum/msmo", {"trainer", "modeling_spectra", "torch", "transformers"}),
        ("spectra_sum/metrics", {"trainer", "modeling_spectra", "spectra_sum"}),
        ("spectra_sum", {"trainer", "benchmarks", "tests"}),
        ("hub_upload", {"trainer", "benchmarks", "tests"}),
        ("trainer", {"benchmarks", "tests"}),
    ],
)
def test_imports_point_one_way(folder, forbidden):
    assert not imports_of(folder) & forbidden


def test_only_command_lines_publish():
    folders = ("modeling_spectra", "spectra_sum", "trainer")
    files = [file.relative_to(ROOT) for folder in folders for file in (ROOT / folder).rglob("*.py")]
    publishing = {file.as_posix() for file in files if "hub_upload" in imported_packages(ROOT / file)}
    assert {name for name in publishing if not name.startswith("spectra_sum/commands/")} == {
        "spectra_sum/cli.py",
        "trainer/train.py",
    }


def test_no_file_is_named_after_a_library():
    libraries = {name.split("/")[0] for name in importlib.metadata.packages_distributions()} | sys.stdlib_module_names
    own = {
        path.stem
        for folder in ("hub_upload", "modeling_spectra", "trainer", "spectra_sum")
        for path in (ROOT / folder).glob("*.py")
    }
    assert not (own - {"__init__"}) & (libraries - INSTALLED)


def test_constraints_pin_every_requirement():
    pinned = {line.split("==")[0].lower().replace("_", "-") for line in (ROOT / "constraints.txt").read_text().split()}
    scope: dict[str, object] = {}
    module = ast.parse((ROOT / "setup.py").read_text())
    values = [node for node in module.body if isinstance(node, ast.Assign) and node.targets[0].id == "REQUIREMENTS"]
    exec(compile(ast.Module(values, []), "setup.py", "exec"), scope)
    for requirement in scope["REQUIREMENTS"]:
        assert requirement.split(">")[0].lower().replace("_", "-") in pinned, requirement
