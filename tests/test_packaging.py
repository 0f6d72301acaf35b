"""What a wheel installs, and what the requirements pin."""

import ast
import importlib.metadata
import subprocess
import sys
from pathlib import Path

import spectra_sum

ROOT = Path(__file__).parents[1]
SHIPPED = {".py", ".j2", ".css", ".js", ".json", ".safetensors"}
DEFAULT_MODEL = Path("spectra_sum/default_model")
INSTALLED = {"configuration_spectra", "hub_upload", "modeling_spectra", "spectra_sum"}


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
    # All of it, its card too.
    shipped = {path.name for path in built if path.parent == DEFAULT_MODEL}
    assert shipped == {path.name for path in (ROOT / DEFAULT_MODEL).iterdir()}
    adapter = {"README.md", "adapter_config.json", "adapter_model.safetensors", "losses.json", "settings.json"}
    assert shipped == adapter | {"dual_encoder.json", "dual_encoder.safetensors"}


def test_no_file_is_named_after_a_library():
    libraries = {name.split("/")[0] for name in importlib.metadata.packages_distributions()} | sys.stdlib_module_names
    own = {
        path.stem
        for folder in ("hub_upload", "modeling_spectra", "trainer", "spectra_sum")
        for path in (ROOT / folder).glob("*.py")
    }
    assert not (own - {"__init__"}) & (libraries - INSTALLED)


def test_the_installed_version_is_that_of_the_sources():
    assert importlib.metadata.version("spectra-sum") == spectra_sum.__version__


def test_constraints_pin_every_requirement():
    pinned = {line.split("==")[0].lower().replace("_", "-") for line in (ROOT / "constraints.txt").read_text().split()}
    scope: dict[str, object] = {}
    module = ast.parse((ROOT / "setup.py").read_text())
    values = [node for node in module.body if isinstance(node, ast.Assign) and node.targets[0].id == "REQUIREMENTS"]
    exec(compile(ast.Module(values, []), "setup.py", "exec"), scope)
    for requirement in scope["REQUIREMENTS"]:
        assert requirement.split(">")[0].lower().replace("_", "-") in pinned, requirement
