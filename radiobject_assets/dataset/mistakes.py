"""What is wrong with a `dataset.yaml`, said with its line, its key and what is allowed there.

pydantic knows which key of which model is at fault, yaml where that key stands; nothing here knows the models
themselves.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError

from radiobject_assets.errors import ConfigurationError

_TEXT_TAG = "tag:yaml.org,2002:str"
_MERGE_TAG = "tag:yaml.org,2002:merge"
# The message of a rule that looks at more than one section begins with the key that it is about.
_NAMES_ITS_KEY = re.compile(r"((?:collections|patches)\.[^:\s]+): (.*)", re.DOTALL)


def yaml_problem(error: yaml.YAMLError, path: Path) -> str:
    """What the parser says, in one line with the file's name and line."""
    mark = getattr(error, "problem_mark", None)
    parts = (getattr(error, "context", None), getattr(error, "problem", None))
    told = ", ".join(str(part) for part in parts if part) or " ".join(str(error).split())
    return f"{path}:{mark.line + 1}: not valid YAML: {told}" if mark else f"{path}: not valid YAML: {told}"


def check_nodes(node: yaml.Node | None, path: Path, above: tuple[yaml.Node, ...] = ()) -> None:
    """Refuse what YAML allows and a description can't mean: repeated keys, keys that are no text, loops."""
    if node is None or isinstance(node, yaml.ScalarNode):
        return
    if node in above:
        raise ConfigurationError(f"{path}:{node.start_mark.line + 1}: an alias contains itself")
    above = (*above, node)
    if isinstance(node, yaml.SequenceNode):
        for item in node.value:
            check_nodes(item, path, above)
        return
    seen: set[str] = set()
    for key, value in node.value:
        place = f"{path}:{key.start_mark.line + 1}"
        if not isinstance(key, yaml.ScalarNode) or key.tag not in (_TEXT_TAG, _MERGE_TAG):
            told = f"{key.value}: " if isinstance(key, yaml.ScalarNode) else ""
            raise ConfigurationError(f"{place}: {told}a key must be text; put it in quotes if it is")
        if key.value in seen:  # YAML keeps the last in silence: half of a collection's settings would be gone
            raise ConfigurationError(f"{place}: {key.value}: is given twice")
        seen.add(key.value)
        check_nodes(value, path, above)


def explain(error: ValidationError, model: type[BaseModel], path: Path, node: yaml.Node | None) -> list[str]:
    """What is wrong, one line for each key at fault."""
    problems: dict[tuple[Any, ...], Any] = {}
    for problem in error.errors():
        # several of one key are the members of a union: the one whose type fitted says more
        told = problems.get(_place(problem))
        if told is None or (told["type"].endswith("_type") and not problem["type"].endswith("_type")):
            problems[_place(problem)] = problem
    # a union complains of all its members: where one was tried in depth, the others were not meant
    deeper = {place[:end] for place in problems for end in range(1, len(place))}
    return [
        _explain(problem, model, path, node) for place, problem in problems.items() if place not in deeper
    ]


def _place(problem: Any) -> tuple[Any, ...]:
    return tuple(part for part in problem["loc"] if not _is_model_branch(part))


def _explain(problem: Any, model: type[BaseModel], path: Path, root: yaml.Node | None) -> str:
    location = list(_place(problem))
    message = str(problem["msg"]).removeprefix("Value error, ")
    if not location and (named := _NAMES_ITS_KEY.match(message)):  # a rule about several sections
        location, message = named[1].split("."), named[2]
    if problem["type"] == "extra_forbidden":
        message = f"unknown key; allowed here: {', '.join(allowed_keys(model, location[:-1])) or 'none'}"
    elif problem["type"] == "missing":
        message = "is required"
    elif problem["type"] in ("model_type", "dict_type"):
        keys = ", ".join(allowed_keys(model, location))
        message = f"expected keys with their values{f'; allowed here: {keys}' if keys else ''}"
    elif problem["type"] == "string_pattern_mismatch":
        message = f"{problem['input']!r}: must match {problem['ctx']['pattern']}"
    elif "input" in problem and not isinstance(problem["input"], dict):
        message = f"{problem['input']!r}: {message}"
    return f"{place_of(path, root, location)}: {message}"


def place_of(path: Path, root: yaml.Node | None, location: list[Any]) -> str:
    """`file:line: key` of a key, as precisely as the file has it."""
    line = _line_of(root, location)
    place = f"{path}:{line}" if line else str(path)
    return ": ".join([place, *([".".join(map(str, location))] if location else [])])


def _is_model_branch(part: Any) -> bool:
    # pydantic adds the name of the union's member that it tried; that is no key of the file
    return isinstance(part, str) and (
        part in {"TileExtents", "str", "list[str]"} or part.startswith("str-enum")
    )


def _line_of(root: yaml.Node | None, location: list[Any]) -> int | None:
    """The line of the deepest key on the way to `location` that is really in the file."""
    node, line = root, None
    for part in location:
        if isinstance(node, yaml.MappingNode):
            for key_node, value_node in node.value:
                if key_node.value == str(part):
                    node, line = value_node, key_node.start_mark.line + 1
                    break
            else:
                return line
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            node = node.value[part]
            line = node.start_mark.line + 1
        else:
            return line
    return line


def allowed_keys(model: type[BaseModel], location: list[Any]) -> list[str]:
    """The keys that a section of `model` may have; `location` is the way to it from the root."""
    section: Any = model
    for part in location:
        if get_origin(section) is dict:
            section = get_args(section)[1]
            continue
        model_here = _model_in(section)
        field = model_here.model_fields.get(str(part)) if model_here else None
        if field is None:
            return []
        section = field.annotation
    found = _model_in(section)
    return [name for name, field in found.model_fields.items() if not field.exclude] if found else []


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    if get_origin(annotation) is dict:
        return None
    return next((found for arg in get_args(annotation) if (found := _model_in(arg))), None)
