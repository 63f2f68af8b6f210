"""The filter language: conditions over columns, with one meaning on stored tables, roots and views.

    age >= 50 and sex == 'F'
    modality in ['CT', 'PT'] and not `slice thickness` > 5
    grade == None                   (missing)

A missing value equals nothing, is different from everything, and is neither smaller nor larger.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from radiobject_assets.errors import SchemaError

Mask = NDArray[np.bool_]
ColumnReader = Callable[[str], pa.Array]

_COMPARE: dict[type[ast.cmpop], Any] = {
    ast.Eq: pc.equal,
    ast.NotEq: pc.not_equal,
    ast.Lt: pc.less,
    ast.LtE: pc.less_equal,
    ast.Gt: pc.greater,
    ast.GtE: pc.greater_equal,
}
_SWAPPED: dict[type[ast.cmpop], ast.cmpop] = {
    ast.Lt: ast.Gt(),
    ast.LtE: ast.GtE(),
    ast.Gt: ast.Lt(),
    ast.GtE: ast.LtE(),
    ast.Eq: ast.Eq(),
    ast.NotEq: ast.NotEq(),
}


class Condition:
    """A parsed filter expression.

    Raises
    ------
    SchemaError
        If the text is not a condition of this language.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        self._quoted: dict[str, str] = {}

        def name(match: re.Match[str]) -> str:
            alias = f"_quoted_{len(self._quoted)}"
            self._quoted[alias] = match.group(1)
            return alias

        try:
            self._tree = ast.parse(re.sub(r"`([^`]+)`", name, text).strip(), mode="eval").body
        except (SyntaxError, ValueError) as error:
            raise SchemaError(f"filter {text!r} cannot be read: {error}") from None
        self.columns = tuple(
            dict.fromkeys(self._column(node) for node in ast.walk(self._tree) if isinstance(node, ast.Name))
        )

    def _column(self, node: ast.Name) -> str:
        return self._quoted.get(node.id, node.id)

    def mask(self, read: ColumnReader, count: int) -> Mask:
        """True for each of `count` rows that meets the condition; `read` gives a column by name."""
        return self._evaluate(self._tree, read, count)

    def _evaluate(self, node: ast.expr, read: ColumnReader, count: int) -> Mask:
        match node:
            case ast.BoolOp(op=operator, values=parts):
                masks = [self._evaluate(part, read, count) for part in parts]
                combine = np.logical_and if isinstance(operator, ast.And) else np.logical_or
                return np.asarray(combine.reduce(masks), dtype=np.bool_)
            case ast.BinOp(left=left, op=ast.BitAnd() | ast.BitOr() as operator, right=right):
                first, second = self._evaluate(left, read, count), self._evaluate(right, read, count)
                return first & second if isinstance(operator, ast.BitAnd) else first | second
            case ast.UnaryOp(op=ast.Not() | ast.Invert(), operand=operand):
                return ~self._evaluate(operand, read, count)
            case ast.Compare(left=left, ops=operators, comparators=rights):
                result = np.ones(count, np.bool_)
                for operator_, right in zip(operators, rights, strict=True):
                    result &= self._compare(left, operator_, right, read, count)
                    left = right
                return result
            case ast.Name():
                column = read(self._column(node))
                if not pa.types.is_boolean(column.type):
                    raise SchemaError(f"filter {self.text!r}: column {self._column(node)!r} is not boolean")
                return _filled(column, False)
            case ast.Constant(value=bool() as value):
                return np.full(count, value)
        raise SchemaError(
            f"filter {self.text!r}: {ast.unparse(node)!r} is not a condition; "
            "use comparisons, in, and, or, not and parentheses"
        )

    def _compare(
        self, left: ast.expr, operator: ast.cmpop, right: ast.expr, read: ColumnReader, count: int
    ) -> Mask:
        if not isinstance(left, ast.Name):
            if isinstance(right, ast.Name) and type(operator) in _SWAPPED:
                return self._compare(right, _SWAPPED[type(operator)], left, read, count)
            raise SchemaError(f"filter {self.text!r}: compare a column with a value")
        column = read(self._column(left))
        if isinstance(right, ast.Name):
            other: Any = read(self._column(right))
            return self._apply(operator, column, other)
        try:
            value = ast.literal_eval(right)
        except ValueError:
            raise SchemaError(f"filter {self.text!r}: {ast.unparse(right)!r} is not a value") from None
        if isinstance(operator, (ast.In, ast.NotIn)):
            found = self._is_in(column, value)
            return found if isinstance(operator, ast.In) else ~found
        if value is None:
            if not isinstance(operator, (ast.Eq, ast.NotEq, ast.Is, ast.IsNot)):
                raise SchemaError(f"filter {self.text!r}: None can only be compared with == and !=")
            missing = _missing(column)
            return missing if isinstance(operator, (ast.Eq, ast.Is)) else ~missing
        return self._apply(operator, column, pa.scalar(value))

    def _is_in(self, column: pa.Array, values: Any) -> Mask:
        if isinstance(values, str) or not isinstance(values, (list, tuple, set)):
            raise SchemaError(f"filter {self.text!r}: `in` needs a list of values")
        result = np.zeros(len(column), np.bool_)
        known = [value for value in values if value is not None]
        if known:
            self._same_kind(column.type, pa.array(known).type)
            wanted = pa.array(known)
            if not pa.types.is_integer(column.type) or pa.types.is_floating(wanted.type):
                common = pa.float64() if pa.types.is_floating(wanted.type) else column.type
                column, wanted = column.cast(common), wanted.cast(common)
            else:
                column, wanted = column.cast(pa.int64()), wanted.cast(pa.int64())
            result = _filled(pc.is_in(column, value_set=wanted), False)
        if len(known) < len(values):
            result = result | _missing(column)
        return result

    def _apply(self, operator: ast.cmpop, column: pa.Array, other: Any) -> Mask:
        function = _COMPARE.get(type(operator))
        if function is None:
            raise SchemaError(f"filter {self.text!r}: this comparison is not supported")
        self._same_kind(column.type, other.type)
        if pa.types.is_timestamp(column.type) and not pa.types.is_timestamp(other.type):
            other = pc.assume_timezone(other.cast(pa.timestamp("ms")), "UTC")
        return _filled(function(column, other), isinstance(operator, ast.NotEq))

    def _same_kind(self, one: pa.DataType, other: pa.DataType) -> None:
        kinds = {_kind(one), _kind(other)}
        if len(kinds) > 1 and kinds != {"text", "time"}:
            raise SchemaError(f"filter {self.text!r} compares {' with '.join(sorted(kinds))}")


def _kind(arrow: pa.DataType) -> str:
    if pa.types.is_boolean(arrow):
        return "boolean"
    if pa.types.is_timestamp(arrow):
        return "time"
    return "text" if pa.types.is_string(arrow) or pa.types.is_large_string(arrow) else "number"


def _missing(column: pa.Array) -> Mask:
    """Where there is no value, or one that is not a number."""
    return np.asarray(pc.is_null(column, nan_is_null=True).to_numpy(zero_copy_only=False), dtype=np.bool_)


def _filled(values: Any, missing: bool) -> Mask:
    if isinstance(values, pa.ChunkedArray):
        values = values.combine_chunks()
    return np.asarray(values.fill_null(missing).to_numpy(zero_copy_only=False), dtype=np.bool_)
