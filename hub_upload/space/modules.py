"""The project's modules that the demo imports; a Space ships them, since the project is not installed there."""

import ast
import shutil
from collections.abc import Iterator, Sequence
from importlib.util import resolve_name
from pathlib import Path

import spectra_sum

_PACKAGES = ("spectra_sum", "modeling_spectra")
_DATA = (".css", ".j2")
_ROOT = Path(spectra_sum.__file__).parent.parent


def project_modules(sources: Sequence[Path]) -> dict[str, Path]:
    """
    Follows imports from source files through the project.

    Args:
        sources (`Sequence[Path]`): Files that import the project by its full name.

    Returns:
        The file of each module of the project that is needed, by its full name.
    """
    modules: dict[str, Path] = {}
    waiting = [name for source in sources for name in _imported(source, "")]
    while waiting:
        name = waiting.pop()
        if name not in modules:
            modules[name] = _file(name)
            package = name if modules[name].name == "__init__.py" else name.rpartition(".")[0]
            waiting += _imported(modules[name], package)
    return modules


def copy_modules(modules: dict[str, Path], folder: Path) -> None:
    """
    Copies modules into a folder, in their packages, with the templates and styles that lie beside them. A package that
    is not itself among the modules gets an `__init__.py` that imports nothing: the project's own imports what the
    modules do without.
    """
    for source in modules.values():
        target = folder / source.relative_to(_ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(source.read_bytes())
        for data in (file for file in source.parent.iterdir() if file.suffix in _DATA):
            shutil.copyfile(data, target.with_name(data.name))
    for package in {folder / parent for name in modules for parent in Path(*name.split(".")).parents[:-1]}:
        if not (package / "__init__.py").exists():
            (package / "__init__.py").write_text('"""Those modules of SPeCTrA-Sum that the demo needs."""\n')


def _file(name: str) -> Path | None:
    place = _ROOT.joinpath(*name.split("."))
    candidates = (place.with_suffix(".py"), place / "__init__.py")
    return next((candidate for candidate in candidates if candidate.is_file()), None)


def _imported(source: Path, package: str) -> Iterator[str]:
    """Full names of the project's modules that a file of `package` imports."""
    for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.partition(".")[0] in _PACKAGES)
        elif isinstance(node, ast.ImportFrom) and (package or not node.level):
            base = "." * node.level + (node.module or "")
            base = resolve_name(base, package) if node.level else base
            if base.partition(".")[0] in _PACKAGES:
                for alias in node.names:
                    # What a package holds is a module of it, or else a name in its __init__.py.
                    inner = f"{base}.{alias.name}"
                    yield inner if _file(inner) else base
