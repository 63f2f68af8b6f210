"""Columns of the tables: their names and types, and values of users as Arrow arrays of them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
import pyarrow as pa

from radiobject_assets.errors import SchemaError


class ColumnType(StrEnum):
    """Types that a table column may have."""

    BOOL = "bool"
    INT8 = "int8"
    INT16 = "int16"
    INT32 = "int32"
    INT64 = "int64"
    UINT8 = "uint8"
    UINT16 = "uint16"
    UINT32 = "uint32"
    UINT64 = "uint64"
    FLOAT32 = "float32"
    FLOAT64 = "float64"
    UTF8 = "utf8"
    TIME_MS = "time_ms"

    @property
    def arrow(self) -> pa.DataType:
        """The Arrow type of values in memory."""
        return _ARROW[self]


_ARROW: dict[ColumnType, pa.DataType] = {
    ColumnType.BOOL: pa.bool_(),
    ColumnType.UTF8: pa.large_string(),
    ColumnType.FLOAT32: pa.float32(),
    ColumnType.FLOAT64: pa.float64(),
    ColumnType.TIME_MS: pa.timestamp("ms", tz="UTC"),
} | {t: getattr(pa, t.value)() for t in ColumnType if t.value.startswith(("int", "uint"))}

_NAME = re.compile(r"[^\x00-\x1f:]{1,200}")


def is_column_name(name: object) -> bool:
    """Whether a free column may have this name: 1-200 characters, no colon, no control characters."""
    return (
        isinstance(name, str)
        and bool(_NAME.fullmatch(name))
        and not name.startswith("__")
        and name != "_deleted"  # marks deletions in segments
    )


def validate_column_name(name: object) -> str:
    """`name` if it may name a free column."""
    if not isinstance(name, str) or not is_column_name(name):
        raise SchemaError(
            f"column name {name!r}: use 1-200 characters without ':' or control characters, "
            "not beginning with '__', and not '_deleted'"
        )
    return name


def validate_id(value: object, what: str) -> str:
    """`value` as an id: a non-empty string of up to 500 characters without control characters.

    Raises
    ------
    SchemaError
        Otherwise; the message does not repeat the id, which may name a patient.
    """
    if not isinstance(value, str) or not value or len(value) > 500:
        raise SchemaError(f"{what} must be a string of 1-500 characters")
    if any(ord(character) < 32 for character in value):
        raise SchemaError(f"{what} must not contain control characters")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise SchemaError(f"{what} is not valid Unicode: {error.reason}") from None
    return value


@dataclass(frozen=True)
class Column:
    """One column of a table."""

    name: str
    type: ColumnType | None
    """None while it has no value: then it becomes what the first values are."""


def type_of_dtype(dtype: object) -> ColumnType:
    """The column type for a NumPy dtype, Python type or pandas dtype.

    Raises
    ------
    SchemaError
        For types that a table cannot hold (complex numbers, nested values).
    """
    name = getattr(dtype, "name", None) or getattr(dtype, "__name__", None) or str(dtype)
    name = str(name).lower()
    if name in ("str", "str_", "object", "string", "utf8", "category", "large_string") or name.startswith(
        "str"
    ):
        return ColumnType.UTF8
    if name in ("bool", "bool_", "boolean"):
        return ColumnType.BOOL
    if name.startswith(("datetime", "timestamp", "time_ms")):
        return ColumnType.TIME_MS
    if name in ("int", "integer"):
        return ColumnType.INT64
    if name in ("float", "float16", "half"):
        return ColumnType.FLOAT64 if name == "float" else ColumnType.FLOAT32
    try:
        return ColumnType(name)
    except ValueError:
        pass
    try:
        return type_of_dtype_strict(np.dtype(dtype))  # type: ignore[call-overload]  # any object may be tried
    except TypeError:
        raise SchemaError(
            f"a column of type {dtype!r} cannot be stored: use numbers, booleans or text"
        ) from None


def type_of_dtype_strict(dtype: np.dtype[Any]) -> ColumnType:
    """The column type for a NumPy dtype."""
    if dtype.kind in "US":
        return ColumnType.UTF8
    try:
        return ColumnType(dtype.name)
    except ValueError:
        raise SchemaError(
            f"a column of type {dtype} cannot be stored: use numbers, booleans or text"
        ) from None


def to_arrow(name: str, values: Any) -> tuple[ColumnType, pa.Array]:
    """Values of one column as an Arrow array of a type that a table holds.

    Missing values (None, NaN in text, pandas.NA) become null. Mixed values become text.
    """
    try:
        array = pa.array(values, from_pandas=True)
    except (pa.ArrowInvalid, pa.ArrowTypeError):
        array = pa.array([None if _missing(v) else str(v) for v in values], type=pa.large_string())
    if isinstance(array, pa.ChunkedArray):
        array = array.combine_chunks()
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    kind = type_of_arrow(name, array.type)
    return kind, array.cast(kind.arrow)


def _missing(value: object) -> bool:
    return value is None or value != value or type(value).__name__ == "NAType"


def type_of_arrow(name: str, arrow: pa.DataType) -> ColumnType:
    """The column type for values of an Arrow type; `name` is that of the column, for the error."""
    if pa.types.is_string(arrow) or pa.types.is_large_string(arrow) or pa.types.is_null(arrow):
        return ColumnType.UTF8
    if str(arrow) == "string_view":
        return ColumnType.UTF8
    if pa.types.is_timestamp(arrow):
        return ColumnType.TIME_MS
    if pa.types.is_float16(arrow):
        return ColumnType.FLOAT32
    for kind, candidate in _ARROW.items():
        if arrow == candidate:
            return kind
    raise SchemaError(
        f"column {name!r}: values of type {arrow} cannot be stored; use numbers, booleans or text"
    )


def kind_of_arrow(values: pa.Array | pa.ChunkedArray) -> ColumnType | None:
    """The column type of Arrow values that a table holds; None where there is no value among them.

    Raises
    ------
    SchemaError
        For types that no column has.
    """
    if values.null_count == len(values):
        return None
    for kind, arrow in _ARROW.items():
        if values.type == arrow:
            return kind
    raise SchemaError(f"values of type {values.type} cannot be stored in a table")
