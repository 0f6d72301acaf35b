"""What a metric's files import → the files and packages that its Space needs."""

import ast
import importlib.metadata
import sys
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from ..errors import HubError

PROJECT = "spectra-sum"


def metric_files(folder: Path) -> list[Path]:
    """
    The files of a metric: the module that has the folder's name, and the modules beside it that it imports.

    Raises:
        HubError: An import cannot work from the Hub: it leaves the folder, names no file of it, or is made by a module
            beside the metric only, which `evaluate` does not look into.
    """
    module = folder / f"{folder.name}.py"
    direct = _local_imports(module)
    for name in direct:
        beside = folder / f"{name}.py"
        if not beside.is_file():
            raise HubError(f"{module.name}: it imports .{name}, but there is no {beside.name} beside it.")
        for other in sorted(set(_local_imports(beside)) - set(direct)):
            raise HubError(
                f"{beside.name}: it imports .{other}, which evaluate.load fetches only if {module.name} itself does; "
                "import it there."
            )
    return [module, *(folder / f"{name}.py" for name in direct)]


def requirements(files: list[Path]) -> list[str]:
    """
    The packages that the files import, and those that a file names in a constant `RUNTIME_PACKAGES`, since another
    package imports them when it needs them; with the ranges that this project declares for them. A package that it gets
    by way of another one has no range.

    Raises:
        HubError: A package is not installed, so that its name is not known, or the project itself is not installed.
    """
    try:
        declared = [Requirement(line) for line in importlib.metadata.requires(PROJECT) or ()]
    except importlib.metadata.PackageNotFoundError:
        raise HubError(
            f"{PROJECT} is not installed, so its requirements are not known; run `pip install -e .`."
        ) from None
    ranges = {
        canonicalize_name(requirement.name): f"{requirement.name}{requirement.specifier}"
        for requirement in declared
        if requirement.marker is None
    }
    distributions = importlib.metadata.packages_distributions()
    found = set()
    for file in files:
        for name in _packages(file):
            if name not in distributions:
                raise HubError(f"{file.name}: it imports {name}, which is not installed.")
            found.add(canonicalize_name(distributions[name][0]))
        found.update(canonicalize_name(name) for name in _runtime_packages(file))
    return [ranges.get(name, name) for name in sorted(found)]


def _imports(file: Path) -> list[ast.Import | ast.ImportFrom]:
    """All imports but those for annotations only."""
    found: list[ast.Import | ast.ImportFrom] = []
    waiting: list[ast.AST] = [ast.parse(file.read_text(encoding="utf-8"), filename=file.name)]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Import | ast.ImportFrom):
            found.append(node)
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            waiting.extend(node.orelse)
        else:
            waiting.extend(ast.iter_child_nodes(node))
    return found


def _local_imports(file: Path) -> list[str]:
    names = set()
    for node in _imports(file):
        if isinstance(node, ast.ImportFrom) and node.level:
            if node.level > 1 or not node.module or "." in node.module:
                raise HubError(
                    f"{file.name}: line {node.lineno} imports from outside of the metric's folder, or not from one of its "
                    "modules; a Space has only the files of that folder."
                )
            names.add(node.module)
    return sorted(names)


def _packages(file: Path) -> set[str]:
    names = set()
    for node in _imports(file):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif not node.level and node.module:
            names.add(node.module)
    return {name.partition(".")[0] for name in names} - sys.stdlib_module_names


def _runtime_packages(file: Path) -> tuple[str, ...]:
    for node in ast.parse(file.read_text(encoding="utf-8"), filename=file.name).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "RUNTIME_PACKAGES":
            return ast.literal_eval(node.value)
    return ()
