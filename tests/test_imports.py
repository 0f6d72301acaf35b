"""The arrows of the house: which part of the project may import which, read from the sources."""

import ast
from collections import deque
from functools import cache
from importlib.util import resolve_name
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# Each part may import itself and what is named here. The longest name that a module lies under is its part.
ARROWS: dict[str, set[str]] = {
    "modeling_spectra": set(),
    "configuration_spectra": {"modeling_spectra"},
    "spectra_sum": {"modeling_spectra"},
    # Read before torch is there, and published without the project.
    "spectra_sum.msmo": {"spectra_sum.documents"},
    "spectra_sum.metrics": set(),
    # Data alone, which every command line reads.
    "spectra_sum.tasks": set(),
    "spectra_sum.openstax": {f"spectra_sum.{part}" for part in ("atomic_write", "documents", "errors", "msmo")},
    "spectra_sum.openstax.cnxml": set(),
    "spectra_sum.linked_pairs": {
        f"spectra_sum.{part}" for part in ("atomic_write", "documents", "errors", "msmo", "seeds")
    },
    # Named by the command alone: the recipe works without any model.
    "spectra_sum.linked_pairs.models": {"spectra_sum.models"},
    "spectra_sum.uploads": {"spectra_sum.documents"},
    # The command loads the model, and hands the server what makes summarizers.
    "spectra_sum.serving": {f"spectra_sum.{part}" for part in ("documents", "errors", "summaries", "uploads")},
    "spectra_sum.records": {"modeling_spectra", "spectra_sum.documents", "spectra_sum.errors"},
    # What a name of data stands for is known before anything is read; whoever reads articles comes later.
    "spectra_sum.own_data": {
        "modeling_spectra",
        *(
            f"spectra_sum.{part}"
            for part in ("documents", "errors", "models", "msmo", "records", "sentences", "tasks")
        ),
    },
    "hub_upload": {"modeling_spectra", "spectra_sum"},
    "trainer": {"hub_upload", "modeling_spectra", "spectra_sum"},
    "benchmarks": {"hub_upload", "modeling_spectra", "spectra_sum", "trainer"},
    "tests": {"benchmarks", "configuration_spectra", "hub_upload", "modeling_spectra", "spectra_sum", "trainer"},
}
# Libraries that a part does without.
FORBIDDEN_LIBRARIES: dict[str, set[str]] = {
    "modeling_spectra": {"accelerate", "datasets", "evaluate", "peft", "trl"},
    "spectra_sum.msmo": {"torch", "transformers"},
    "spectra_sum.linked_pairs": {"torch", "transformers"},
    "spectra_sum.openstax": {"datasets", "torch", "transformers"},
    "spectra_sum.openstax.cnxml": {"datasets", "torch", "transformers"},
}
# What holds statements, beside the module.
STATEMENTS = (ast.stmt, ast.excepthandler, ast.match_case)
PACKAGES = sorted({part.partition(".")[0] for part in ARROWS})


def module_name(file: Path) -> str:
    parts = file.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


SOURCES = {module_name(file): file for package in PACKAGES for file in sorted((ROOT / package).rglob("*.py"))}


def part_of(module: str) -> str:
    return max((part for part in ARROWS if f"{module}.".startswith(f"{part}.")), key=len)


def _is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


@cache
def imports_of(module: str) -> list[tuple[str, bool]]:
    """Full names that a module imports, with whether the import runs when the module is imported."""
    file = SOURCES[module]
    package = module if file.name == "__init__.py" else module.rpartition(".")[0]
    found = []
    # Statements alone, as expressions hold no imports; each with whether it runs when the module is imported.
    todo: deque[tuple[ast.AST, bool]] = deque([(ast.parse(file.read_text(encoding="utf-8")), True)])
    while todo:
        node, runs = todo.popleft()
        runs = runs and not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and not _is_type_checking(node)
        todo.extend((child, runs) for child in ast.iter_child_nodes(node) if isinstance(child, STATEMENTS))
        if isinstance(node, ast.Import):
            found += [(alias.name, runs) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = resolve_name("." * node.level + (node.module or ""), package) if node.level else node.module
            for alias in node.names:
                inner = f"{base}.{alias.name}"
                found.append((inner if inner in SOURCES else base, runs))
    return found


@cache
def edges() -> list[tuple[str, str, bool]]:
    return [
        (module, imported, runs)
        for module in SOURCES
        for imported, runs in imports_of(module)
        if imported.partition(".")[0] in PACKAGES
    ]


def test_every_import_of_the_project_names_a_module_that_is_there():
    assert {(module, name) for module, name, _ in edges() if name not in SOURCES} <= {
        # A folder of sources without an __init__.py of its own.
        (module, name)
        for module, name, _ in edges()
        if (ROOT / name.replace(".", "/")).is_dir()
    }


def test_arrows_point_one_way():
    wrong = set()
    for module, imported, _ in edges():
        own = part_of(module)
        if not any(f"{imported}.".startswith(f"{part}.") for part in ARROWS[own] | {own}):
            wrong.add((module, imported))
    assert not wrong


@pytest.mark.parametrize("part", FORBIDDEN_LIBRARIES)
def test_a_part_does_without_these_libraries(part):
    files = [module for module in SOURCES if part_of(module) == part]
    found = {(module, name) for module in files for name, _ in imports_of(module)}
    assert not {pair for pair in found if pair[1].partition(".")[0] in FORBIDDEN_LIBRARIES[part]}


def test_there_are_no_circles():
    """Of imports that run at import time: a module's packages count as imported by it, as they are."""
    graph: dict[str, set[str]] = {module: set() for module in SOURCES}
    for module, imported, runs in edges():
        if runs and imported in SOURCES:
            names = imported.split(".")
            parents = {".".join(names[:length]) for length in range(1, len(names))}
            graph[module] |= ({imported} | (parents & SOURCES.keys())) - {module}
            # A package that is being imported counts as there for its own modules.
            graph[module] -= {name for name in parents if f"{module}.".startswith(f"{name}.")}
    done: set[str] = set()

    def visit(module: str, path: tuple[str, ...]) -> None:
        assert module not in path, " → ".join((*path[path.index(module) :], module))
        if module not in done:
            for imported in sorted(graph[module]):
                visit(imported, (*path, module))
            done.add(module)

    for module in sorted(graph):
        visit(module, ())


def test_only_command_lines_publish():
    publishing = {module for module, imported, _ in edges() if imported.partition(".")[0] == "hub_upload"}
    assert {module for module in publishing if module.partition(".")[0] not in ("hub_upload", "tests")} == {
        "trainer.train"
    }
