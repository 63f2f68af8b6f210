"""What only one module, or one room, may touch: whoever wants it elsewhere takes that module's door.

import-linter holds the order of the rooms; it cannot forbid parts of an external package, or names.
"""

from __future__ import annotations

import ast
import importlib.util
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import radiobject_assets

PACKAGE = Path(radiobject_assets.__file__).parent

ONLY_THERE = {
    "dagster._": "platform/dagster_internals/",
    "dagster_shared": "nowhere",
    "boto3": "nowhere",
    "botocore": "store/storage/aws.py",
    "fcntl.flock": "system/locks.py",
    "fcntl.fcntl": "workers/serving.py",
    "os.register_at_fork": "system/processes.py",
    "os.cpu_count": "system/processes.py",
    "os.sched_getaffinity": "system/processes.py",
    "os.fsync": "system/ store/storage/local.py",
    "tempfile.mkdtemp": "system/temporary.py",
    "tempfile.TemporaryDirectory": "nowhere",
    "tempfile.NamedTemporaryFile": "nowhere",
}
"""Modules by the beginning of their names, and names in modules: the files, or folders, that may use them."""


def _used(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            yield f"{node.value.id}.{node.attr}"


@cache
def used_by_file() -> dict[str, frozenset[str]]:
    """The modules that each file imports, and the names in modules that it takes or mentions."""
    files = [*PACKAGE.rglob("*.py"), *(PACKAGE / "resources").glob("*.py")]  # which may be a link
    return {path.relative_to(PACKAGE).as_posix(): frozenset(_used(path)) for path in files}


def users(name: str) -> set[str]:
    """The files of the package that use a module or a name."""
    below = name if name.endswith("_") else f"{name}."
    return {
        file
        for file, names in used_by_file().items()
        if any(found == name or found.startswith(below) for found in names)
    }


@pytest.mark.parametrize("name", ONLY_THERE)
def test_only_its_own_place_uses_it(name: str) -> None:
    allowed = tuple(ONLY_THERE[name].split())
    others = {path for path in users(name) if not path.startswith(allowed)}
    assert not others, f"{name} is used outside {allowed}: {sorted(others)}"


@pytest.mark.parametrize("name", [name for name, place in ONLY_THERE.items() if place != "nowhere"])
def test_its_own_place_does_use_it(name: str) -> None:
    assert users(name)


def test_what_is_guarded_exists() -> None:
    assert all(importlib.util.find_spec(name.partition(".")[0]) for name in ONLY_THERE)
