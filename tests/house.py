"""
The rooms of the package and who imports whom: ``make rooms`` prints them, ``tests/unit/test_house.py`` holds them.

A room is a folder or a module at the top of the package. Rooms stand on floors: a module imports from its own floor and
from the ones below it (those that stand before it in :data:`FLOORS`), and never the other way.
"""

from __future__ import annotations

import ast
import tomllib
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path, PurePath
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
PACKAGE = "airflow_provider_personalize"

#: The floors, from the foundation up.
FLOORS = (
    ("error_base", "exceptions", "arguments", "aws_errors", "compat", "failures"),
    ("uris",),
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
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}


class Import(NamedTuple):
    """One import of a module of the package by another."""

    importer: str
    imported: str
    line: int
    #: Whether it is made when the importer is imported: not in a function, and not for type checkers alone.
    at_import: bool

    def __str__(self) -> str:
        return f"{self.importer.replace('.', '/')}.py:{self.line} imports {self.imported}"


def modules() -> dict[str, Path]:
    """Return the package's modules by their dotted names."""
    found = {}
    for path in sorted((ROOT / PACKAGE).rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def room_of(module: str) -> str:
    """Return the room that a module stands in; that of the package itself is empty."""
    return module.removeprefix(PACKAGE).lstrip(".").partition(".")[0]


def imports() -> list[Import]:
    """Return every import within the package."""
    known = modules()
    found = []
    for name, path in known.items():
        for node, at_import in _statements(ast.parse(path.read_text(encoding="utf-8"))):
            targets = (
                [alias.name for alias in node.names] if isinstance(node, ast.Import) else _targets(node, name, known)
            )
            found += [Import(name, target, node.lineno, at_import) for target in targets if target in known]
    return found


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
    """Return what is wrong: imports that lead back up (as any of ``local`` does), and rooms that stand nowhere."""
    rooms = {room_of(name) for name in modules()} - {""}
    wrong = [f"{room} stands on no floor of tests/house.py" for room in rooms - FLOOR.keys()]
    for one in imports():
        importer, imported = room_of(one.importer), room_of(one.imported)
        if importer and imported and FLOOR.get(imported, 99) > FLOOR.get(importer, 99):
            wrong.append(f"{one}: {imported} stands above {importer}")
    return sorted(set(wrong))


def circles() -> list[str]:
    """Return the circles among modules, of imports that are made at import; each as a chain of names."""
    graph = defaultdict(set)
    for one in imports():
        if one.at_import and one.importer != one.imported:
            graph[one.importer].add(one.imported)
    done: set[str] = set()
    found = []

    def visit(name: str, chain: list[str]) -> None:
        if name in chain:
            found.append(" -> ".join([*chain[chain.index(name) :], name]))
            return
        if name in done:
            return
        for other in sorted(graph[name]):
            visit(other, [*chain, name])
        done.add(name)

    for name in sorted(graph):
        visit(name, [])
    return found


def pure() -> list[str]:
    """Return the pure rooms: those that the lint rule of ``pyproject.toml`` keeps free of Airflow and boto3."""
    lint = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["ruff"]["lint"]
    [pattern] = [name for name, rules in lint["per-file-ignores"].items() if name.startswith("!") and "TID251" in rules]
    inside = pattern.partition("{")[2].partition("}")[0]
    return [PurePath(part).parts[0].removesuffix(".py") for part in inside.split(",")]


def main() -> None:
    """Print the rooms, floor by floor, each with its size and what it imports."""
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
    for problem in (*misplaced(), *circles()):
        print(f"wrong: {problem}")


if __name__ == "__main__":
    main()
