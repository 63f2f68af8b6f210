"""What the project says, and what there is: texts with their places; modules, commands and settings."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel

ROOT = Path(__file__).resolve().parents[2]
PAGES = (
    "*.md", "docs/**/*.md", "benchmarks/*.md", "deploy/*", "docker-compose.yml", "Makefile", ".ci/run",
    "mkdocs.yml", "pyproject.toml", "workspace.yaml",
)  # fmt: skip
SOURCES = ("radiobject_assets", "resources", "benchmarks", "docs")


@dataclass(frozen=True)
class Text:
    """One text of the project: a page, or a string, docstring or comment of a source file."""

    path: str
    line: int
    text: str

    @property
    def in_source(self) -> bool:
        """Whether it stands in Python code."""
        return self.path.endswith(".py")

    def place(self, offset: int) -> str:
        """Where the character at `offset` is, for a message."""
        return f"{self.path}:{self.line + self.text.count(chr(10), 0, offset)}"


@cache
def texts() -> tuple[Text, ...]:
    """Every page, and every string, docstring and comment of the product, benchmarks and page makers."""
    pages = {path for pattern in PAGES for path in ROOT.glob(pattern) if path.is_file()}
    found = [Text(_relative(path), 1, path.read_text(encoding="utf-8")) for path in sorted(pages)]
    for folder in SOURCES:
        for path in _modules_in(folder):
            source = path.read_text(encoding="utf-8")
            found += [Text(_relative(path), line, text) for line, text in _strings(ast.parse(source))]
            found += [Text(_relative(path), line, text) for line, text in _comments(source)]
    return tuple(found)


def _relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def _modules_in(folder: str) -> list[Path]:
    # not through the link to `resources`, which is one of the folders itself
    return sorted(
        path for path in (ROOT / folder).rglob("*.py") if "radiobject_assets/resources" not in str(path)
    )


def _strings(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Each string with its line; of an f-string its words, with {} for what it puts in."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.JoinedStr):
            said = (part.value if isinstance(part, ast.Constant) else "{}" for part in node.values)
            yield node.lineno, "".join(map(str, said))
            for part in node.values:
                if isinstance(part, ast.FormattedValue):
                    yield from _strings(part.value)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.lineno, node.value
        else:
            yield from _strings(node)


def _comments(source: str) -> Iterator[tuple[int, str]]:
    """Each comment with its line; lines below each other are one comment."""
    block: list[str] = []
    last = 0
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            if block and token.start[0] != last + 1:
                yield last - len(block) + 1, "\n".join(block)
                block = []
            block.append(token.string.lstrip("# "))
            last = token.start[0]
    if block:
        yield last - len(block) + 1, "\n".join(block)


@cache
def modules() -> dict[str, frozenset[str]]:
    """Every module of the repository, by its dotted name, with the names that it defines or passes on."""
    found = {}
    for folder in ("radiobject_assets", "benchmarks", "tests"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            found[_dotted(path)] = frozenset(_defined(path))
    # what is imported by `radiobject_assets.resources` lies in the folder that the link leads to
    for path in sorted((ROOT / "resources").rglob("*.py")):
        found["radiobject_assets." + _dotted(path)] = frozenset(_defined(path))
    for name in list(found):  # packages without a file of their own
        while "." in name:
            name = name.rpartition(".")[0]
            found.setdefault(name, frozenset())
    return found


@cache
def file_names() -> frozenset[str]:
    """Names of the Python files of the repository."""
    folders = ("radiobject_assets", "resources", "benchmarks", "docs", "tests")
    return frozenset(path.name for folder in folders for path in (ROOT / folder).rglob("*.py*"))


def _dotted(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def _defined(path: Path) -> Iterator[str]:
    for file in (path, path.with_suffix(".pyi")):
        if file.is_file():
            for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
                if isinstance(node, (ast.FunctionDef, ast.ClassDef, ast.AsyncFunctionDef)):
                    yield node.name
                elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                    yield node.id
                elif isinstance(node, (ast.Import, ast.ImportFrom)):
                    yield from (alias.asname or alias.name for alias in node.names)


def is_there(dotted: str) -> bool:
    """Whether a full dotted name is a module, or what a module defines."""
    if dotted in modules():
        return True
    parts = dotted.split(".")
    for count in range(len(parts) - 1, 0, -1):
        owner = ".".join(parts[:count])
        if owner in modules():
            return parts[count] in modules()[owner]
    return False


@cache
def commands() -> dict[str, frozenset[str]]:
    """Every command of `radiobject-assets` as it is typed (`snapshot list`), with its options."""
    from typer.main import get_command

    from radiobject_assets.cli.commands import app

    found: dict[str, frozenset[str]] = {}

    def walk(command: Any, name: str) -> None:
        options = {text for parameter in command.params for text in parameter.opts + parameter.secondary_opts}
        found[name] = frozenset(options | {"--help", "--debug"})
        for each, child in getattr(command, "commands", {}).items():
            walk(child, f"{name} {each}".strip())

    walk(get_command(app), "")
    return found


@cache
def make_targets() -> frozenset[str]:
    """What `make` can be asked for."""
    return frozenset(re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M))


@cache
def settings() -> frozenset[str]:
    """Every key of dataset.yaml with those above it, as far as one may leave the first ones out."""
    from radiobject_assets.dataset.dataset_yaml import DatasetSettings

    found: set[str] = set()

    def walk(model: type[BaseModel], above: tuple[str, ...]) -> None:
        for name, field in model.model_fields.items():
            path = (*above, name)
            found.update(".".join(path[start:]) for start in range(len(path)))
            for inner in _models(field.annotation):
                walk(inner, path)

    walk(DatasetSettings, ())
    return frozenset(found)


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in get_args(annotation):
        yield from _models(inner)
