"""
The rooms of the package and who imports whom: ``make rooms`` prints them, ``tests/unit/test_house.py`` checks them.

A room is a folder or a module at the top of the package. Rooms stand on floors: a module imports from its own floor and
from the floors below (those before it in :data:`FLOORS`), and never from one above.
"""

from __future__ import annotations

import ast
import sys
import tomllib
from collections import defaultdict
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path, PurePath
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
PACKAGE = "airflow_provider_personalize"
#: The most lines that a module has.
LONGEST = 350
#: Modules that are longer, and the reason.
LONG = {f"{PACKAGE}.spark.personalize_output": "a cluster is given one file, which imports nothing of the package"}

#: The floors, from the foundation up.
FLOORS = (
    (
        "error_base",
        "failure_reasons",
        "data_exceptions",
        "resource_exceptions",
        "exceptions",
        "arguments",
        "uris",
        "aws_errors",
        "compat",
        "metrics",
        "failures",
    ),
    ("service",),
    ("input", "output"),
    ("s3",),
    ("sql",),
    ("targets",),
    ("quality",),
    ("lineage",),
    ("hooks", "operators", "sensors", "triggers", "transfers", "links"),
    ("get_provider_info",),
    ("spark",),
    ("plugins",),
    ("local",),
)
#: Rooms that do not import a room below them, and the reason.
APART = {("quality", "targets"): "figures are computed over sql/, so that they work for what anybody has loaded"}
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}


class Import(NamedTuple):
    """One import by a module of the package: of another one, or of something outside."""

    importer: str
    imported: str
    line: int
    #: Whether it happens when the importer is imported: it is in no function, and not for type checkers alone.
    at_import: bool
    #: The importer's file, from the repository's root.
    path: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line} imports {self.imported}"


def modules() -> dict[str, Path]:
    """Return the package's modules by their dotted names."""
    found = {}
    for path in sorted((ROOT / PACKAGE).rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def room_of(module: str) -> str:
    """Return the room that a module stands in; the package itself stands in none, the empty one."""
    return module.removeprefix(PACKAGE).lstrip(".").partition(".")[0]


def imports() -> list[Import]:
    """Return every import within the package."""
    known = modules()
    return [one for one in _all_imports(known) if one.imported in known]


def outside_imports() -> list[Import]:
    """Return every import of what is neither the package's own nor the standard library's."""
    own = {PACKAGE, *sys.stdlib_module_names}
    return [one for one in _all_imports(modules()) if one.imported.partition(".")[0] not in own]


def _all_imports(known: dict[str, Path]) -> list[Import]:
    found = []
    for name, path in known.items():
        for node, at_import in _import_statements(path.read_text(encoding="utf-8")):
            targets = (
                [alias.name for alias in node.names] if isinstance(node, ast.Import) else _targets(node, name, known)
            )
            where = path.relative_to(ROOT).as_posix()
            found += [Import(name, target, node.lineno, at_import, where) for target in targets]
    return found


@cache
def _import_statements(text: str) -> list[tuple[ast.Import | ast.ImportFrom, bool]]:
    return list(_statements(ast.parse(text)))


def _statements(tree: ast.AST, at_import: bool = True) -> Iterator[tuple[ast.Import | ast.ImportFrom, bool]]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            yield node, at_import
        is_later = isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) or (
            isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        )
        yield from _statements(node, at_import and not is_later)


def _targets(node: ast.ImportFrom, importer: str, known: dict[str, Path]) -> list[str]:
    base = node.module or ""
    if node.level:
        package = importer if known[importer].name == "__init__.py" else importer.rpartition(".")[0]
        for _ in range(node.level - 1):
            package = package.rpartition(".")[0]
        base = f"{package}.{base}".rstrip(".")
    return [full if (full := f"{base}.{alias.name}") in known else base for alias in node.names]


def misplaced() -> list[str]:
    """Return what is wrong: rooms that stand on no floor, and imports that lead up or to a room that is kept apart."""
    rooms = {room_of(name) for name in modules()} - {""}
    wrong = [f"{room} stands on no floor of tests/house.py" for room in rooms - FLOOR.keys()]
    for one in imports():
        importer, imported = room_of(one.importer), room_of(one.imported)
        if not importer or not imported:
            continue
        if FLOOR.get(imported, 99) > FLOOR.get(importer, 99):
            wrong.append(f"{one}: {imported} stands above {importer}")
        elif (importer, imported) in APART:
            wrong.append(f"{one}: {APART[importer, imported]}")
    return sorted(set(wrong))


def circles() -> list[str]:
    """Return the circles among modules and among rooms, wherever the imports are made; each as a chain of names."""
    modules: dict[str, set[str]] = defaultdict(set)
    rooms: dict[str, set[str]] = defaultdict(set)
    for one in imports():
        modules[one.importer].add(one.imported)
        rooms[room_of(one.importer)].add(room_of(one.imported))
    # Whoever imports the package itself gets its version, from the empty room.
    rooms.pop("", None)
    return [*_circles(modules), *_circles(rooms)]


def _circles(graph: dict[str, set[str]]) -> list[str]:
    done: set[str] = set()
    found = []

    def visit(name: str, chain: list[str]) -> None:
        if name in chain:
            found.append(" -> ".join([*chain[chain.index(name) :], name]))
            return
        if name in done:
            return
        for other in sorted(graph.get(name, set()) - {name}):
            visit(other, [*chain, name])
        done.add(name)

    for name in sorted(graph):
        visit(name, [])
    return found


def loaded_with(names: Iterable[str]) -> set[str]:
    """Return the package's modules that are imported when these are, the packages around them included."""
    graph = defaultdict(set)
    for one in imports():
        if one.at_import:
            graph[one.importer].add(one.imported)
    found: set[str] = set()
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        if name and name not in found:
            found.add(name)
            waiting += [name.rpartition(".")[0], *graph[name]]
    return found


def too_long(limit: int = LONGEST) -> dict[str, int]:
    """Return the modules with more lines than allowed, and how many they have."""
    sizes = {name: len(path.read_text(encoding="utf-8").splitlines()) for name, path in modules().items()}
    return {name: size for name, size in sizes.items() if size > limit and name not in LONG}


def pure() -> list[str]:
    """Return the pure rooms: those that the lint rule in ``pyproject.toml`` keeps free of Airflow and boto3."""
    lint = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["ruff"]["lint"]
    [pattern] = [name for name, rules in lint["per-file-ignores"].items() if name.startswith("!") and "TID251" in rules]
    inside = pattern.partition("{")[2].partition("}")[0]
    return [PurePath(part).parts[0].removesuffix(".py") for part in inside.split(",")]


def main() -> None:
    """Print the rooms floor by floor, each with its size and what it imports, and then what is wrong."""
    edges = defaultdict(set)
    for one in imports():
        edges[room_of(one.importer)].add(room_of(one.imported))
    sizes: dict[str, list[int]] = defaultdict(list)
    for name, path in modules().items():
        sizes[room_of(name)].append(len(path.read_text(encoding="utf-8").splitlines()))
    for number, rooms in enumerate(FLOORS):
        for room in rooms:
            if room in sizes:
                needs = ", ".join(sorted(edges[room] - {room, ""}, key=FLOOR.__getitem__)) or "nothing"
                kind = "pure" if room in pure() else ""
                size = f"{len(sizes[room]):>3} modules {sum(sizes[room]):>6,} lines"
                print(f"{number:>2} {room:<18} {kind:<5} {size}  imports {needs}")
    long = [f"{name} has {size} lines, more than {LONGEST}" for name, size in too_long().items()]
    for problem in (*misplaced(), *(f"circle: {circle}" for circle in circles()), *long):
        print(f"wrong: {problem}")


if __name__ == "__main__":
    main()
