"""Writes the tree of rooms and the import rules into docs/architecture.md, from the packages themselves.

    python docs/make_architecture.py

The tree is made of the packages' docstrings, the rules of the contracts in pyproject.toml. A test holds the
page against what this would write.
"""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "architecture.md"
PACKAGE = "radiobject_assets"


def said_of(module: Path) -> str:
    """The first sentence of a module's docstring."""
    told = ast.get_docstring(ast.parse(module.read_text(encoding="utf-8"))) or ""
    sentence = re.split(r"(?<=\.)\s", told.split("\n\n")[0], maxsplit=1)[0]
    return " ".join(sentence.split())


def rooms(folder: Path) -> Iterator[Path]:
    """The packages below a folder, each before those in it."""
    for child in sorted(folder.iterdir()):
        if (child / "__init__.py").is_file():
            yield child
            yield from rooms(child)


def tree() -> str:
    """Every package and every module of the top, with the first sentence of its docstring, as a list."""
    top = ROOT / PACKAGE
    lines = [
        f"- `{module.name}`: {said_of(module)}"
        for module in sorted(top.glob("*.py"))
        if module.name != "__init__.py"
    ]
    for room in rooms(top):
        depth = len(room.relative_to(top).parts) - 1
        lines.append(f"{'    ' * depth}- `{room.name}/`: {said_of(room / '__init__.py')}")
    return "\n".join(lines)


def contracts() -> list[dict[str, Any]]:
    """The contracts of import-linter."""
    content = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    return list(content["tool"]["importlinter"]["contracts"])


def picture(contract: dict[str, Any]) -> str:
    """The floors of one contract, the highest first."""
    where = contract.get("containers", [PACKAGE])[0]
    floors = [layer.replace(f"{PACKAGE}.", "") for layer in contract["layers"]]
    return "\n".join([f"{where}", *(f"    {floor}" for floor in floors)])


def rules() -> str:
    """All contracts: the floors as pictures, then the others as a list."""
    found = contracts()
    floors = "\n\n".join(picture(contract) for contract in found if contract["type"] == "layers")
    lines = ["```text", floors, "```", "", "And, whatever the floors say:", ""]
    for contract in found:
        if contract["type"] != "layers":
            name = contract["name"]
            lines.append(f"- {name}.")
    return "\n".join(lines)


def page(text: str) -> str:
    """The page with its made parts made anew."""
    for name, made in (("tree", tree()), ("rules", rules())):
        begin, end = f"<!-- {name}: made by docs/make_architecture.py -->", f"<!-- end of {name} -->"
        before, _, rest = text.partition(begin)
        _, _, after = rest.partition(end)
        text = f"{before}{begin}\n\n{made}\n\n{end}{after}"
    return text


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
