"""Writes docs/reference/dataset.md from `DatasetSettings`: every key, its type, its default, what it means.

    python docs/make_dataset_reference.py

A test holds the file against what this would write.
"""

from __future__ import annotations

import ast
import inspect
from enum import StrEnum
from itertools import pairwise
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from radiobject_assets.dataset import (
    arrival_section,
    collection_section,
    dataset_yaml,
    near_twins_section,
    source_section,
    subject_section,
    training_section,
)

SECTIONS: tuple[tuple[str, type[BaseModel]], ...] = (
    ("The whole file", dataset_yaml.DatasetSettings),
    ("`collections.<name>`", collection_section.CollectionConfig),
    ("`collections.<name>.match`", collection_section.MatchConfig),
    ("`collections.<name>.tile` as extents", collection_section.TileExtents),
    ("`subjects`", subject_section.SubjectsConfig),
    ("`imaging`", arrival_section.ImagingConfig),
    ("`arrivals`", arrival_section.ArrivalsConfig),
    ("`sources.<name>`", source_section.SourceConfig),
    ("`receiver`", source_section.ReceiverConfig),
    ("`near_twins`", near_twins_section.NearTwinsConfig),
    ("`split`", training_section.SplitConfig),
    ("`patches`", training_section.PatchesConfig),
)
CHANGES = """\
## When it changes

Reload the code location. What says something of images (`collections` but for `tile` and `description`,
`attributes`, `subjects`, `imaging`) has a version, which is part of the assets' code version and of what
the sensor asks for: every arrival that is still in the landing zone is taken in once more. Voxels whose
files are the same are not written again.

What becomes of volumes that are stored:

- **`attributes`, a sidecar**: their rows are rewritten; a column that is no longer allowed becomes empty.
- **`match`, `kind`, order of the collections**: they go where they belong now, and leave where they were.
- **a collection is taken out or renamed**: they stay and are told of (`not_in_dataset_yaml` of `dataset`).
- **`labels_of`**: labels are drawn on their image anew.
- **`imaging` to `keep`**: what was quarantined comes in.
- **`imaging` to `quarantine`**: they stay and are counted (`quarantined_but_stored`).
- **`subjects.key` from or to `pseudonym`, another secret**: refused, it takes a store of its own.
- **other keys of `subjects`**: they move to the subject that they belong to now.
- **`tile`**: they stay as they are cut; new volumes are cut in the new way.
- **`split`, `patches`**: they stay; the assets follow when they are materialized next.

- **`landing` gets another place**: keys of the first one's arrivals stay. A place that moves to another
  position of the list gives its arrivals other keys: they are taken in once more, and no volume is doubled.

Snapshots keep what was. Arrivals that are no longer in the landing zone stay as they were taken in.
"""
PATH = Path(__file__).resolve().parent / "reference" / "dataset.md"


def reference() -> str:
    """The whole page."""
    lines = [
        "# dataset.yaml",
        "",
        "Every key that a data set's description may have. An unknown key, a key given twice or a value",
        "that is not allowed is refused with its line. Written by `docs/make_dataset_reference.py`.",
    ]
    for title, model in SECTIONS:
        lines += ["", f"## {title}", "", first_sentence(inspect.getdoc(model) or ""), ""]
        lines += ["| key | type | default | meaning |", "| --- | --- | --- | --- |"]
        meanings = meanings_of(model)
        for name, field in model.model_fields.items():
            if not field.exclude:
                meaning = meanings.get(name, "").replace("|", "\\|")
                lines.append(f"| `{name}` | {type_of(field)} | {default_of(field)} | {meaning} |")
    return "\n".join([*lines, "", CHANGES])


def first_sentence(text: str) -> str:
    """Up to the first blank line."""
    return " ".join(text.split("\n\n")[0].split())


def type_of(field: FieldInfo) -> str:
    """The type as a person says it."""
    return words(field.annotation)


def words(annotation: Any) -> str:
    """A type annotation in plain words."""
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return words(parts[0])
    if origin in (Union, UnionType):
        return " or ".join(dict.fromkeys(words(part) for part in parts if part is not type(None)))
    if origin is Literal:
        return " or ".join(f"`{part}`" for part in parts)
    if origin is list:
        return f"list of {words(parts[0])}"
    if origin is tuple:
        return f"list of {len(parts)}: {words(parts[0])}"
    if origin is dict:
        return f"keys with {words(parts[1])}"
    if inspect.isclass(annotation) and issubclass(annotation, StrEnum):
        return " or ".join(f"`{member}`" for member in annotation)
    if inspect.isclass(annotation) and issubclass(annotation, BaseModel):
        return "section"
    return {str: "text", int: "whole number", float: "number", bool: "`true` or `false`"}[annotation]


def default_of(field: FieldInfo) -> str:
    """The default as YAML, `required` where there is none."""
    default: Any = field.get_default(call_default_factory=True)
    if default is PydanticUndefined:
        return "required"
    if default is None or isinstance(default, BaseModel) or default in ({}, [], ""):
        return ""
    if isinstance(default, bool):
        return f"`{str(default).lower()}`"
    if isinstance(default, dict):
        return "`{" + ", ".join(f"{key}: {value}" for key, value in default.items()) + "}`"
    return f"`{list(default) if isinstance(default, tuple) else default}`"


def meanings_of(model: type[BaseModel]) -> dict[str, str]:
    """The docstring under each field, on one line.

    pydantic finds them too (`use_attribute_docstrings`), but whenever the module is imported.
    """
    (made,) = ast.parse(inspect.getsource(model)).body
    assert isinstance(made, ast.ClassDef)
    return {
        field.target.id: " ".join(told.value.value.split())
        for field, told in pairwise(made.body)
        if isinstance(field, ast.AnnAssign)
        and isinstance(field.target, ast.Name)
        and isinstance(told, ast.Expr)
        and isinstance(told.value, ast.Constant)
        and isinstance(told.value.value, str)
    }


if __name__ == "__main__":
    PATH.parent.mkdir(parents=True, exist_ok=True)
    PATH.write_text(reference(), encoding="utf-8")
