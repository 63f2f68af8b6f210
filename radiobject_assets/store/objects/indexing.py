"""An immutable, ordered index of ids, and alignment of several by id."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence, Set as AbstractSet
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from radiobject_assets.errors import ShapeError


class Index:
    """Ids in an order, each once; every operation gives a new index.

    >>> Index.build(["b", "a"]) & Index.build(["a", "c"])
    Index(1 keys)
    """

    __slots__ = ("__dict__", "_keys", "_name")

    def __init__(self, keys: tuple[str, ...], name: str = "") -> None:
        self._keys = keys
        self._name = name

    @classmethod
    def build(cls, keys: Iterable[str], name: str = "") -> Index:
        """An index of `keys` in their order; a ValueError names what occurs twice."""
        ordered = tuple(keys)
        if len(set(ordered)) != len(ordered):
            twice = [key for key, count in Counter(ordered).items() if count > 1]
            raise ValueError(f"Duplicate keys detected in index {name!r}: {twice[:5]}")
        return cls(ordered, name)

    @property
    def keys(self) -> tuple[str, ...]:
        """The ids in order."""
        return self._keys

    @property
    def name(self) -> str:
        """What the ids are."""
        return self._name

    @cached_property
    def _positions(self) -> dict[str, int]:
        return {key: position for position, key in enumerate(self._keys)}

    @property
    def key_to_idx(self) -> dict[str, int]:
        """Position of each id."""
        return dict(self._positions)

    def __len__(self) -> int:
        return len(self._keys)

    def __contains__(self, key: object) -> bool:
        return key in self._positions

    def __iter__(self) -> Iterator[str]:
        return iter(self._keys)

    def get_index(self, key: str) -> int:
        """Position of `key`; KeyError where it is not in the index."""
        try:
            return self._positions[key]
        except KeyError:
            raise KeyError(f"Key {key!r} not found in index {self._name!r}") from None

    def get_key(self, i: int) -> str:
        """The id at position `i`; IndexError outside [0, len)."""
        if not 0 <= i < len(self._keys):
            raise IndexError(f"Index {i} out of range [0, {len(self._keys)})")
        return self._keys[i]

    def take(self, indices: ArrayLike | Sequence[int]) -> Index:
        """The ids at these positions, in the order given (negative ones count from the end)."""
        chosen = np.asarray(indices, dtype=np.intp).reshape(-1)
        wrong = chosen[(chosen < -len(self)) | (chosen >= len(self))]
        if wrong.size:
            raise IndexError(f"Index {int(wrong[0])} out of range [0, {len(self)})")
        return Index.build((self._keys[int(i)] for i in chosen), self._name)

    def mask(self, bools: ArrayLike) -> Index:
        """The ids where the mask, as long as the index, is true."""
        chosen: NDArray[Any] = np.asarray(bools)
        if chosen.dtype != np.bool_ or chosen.ndim != 1:
            raise IndexError(f"a mask of booleans is needed, not {chosen.dtype} of shape {chosen.shape}")
        if len(chosen) != len(self):
            raise ShapeError(f"Boolean array length {len(chosen)} != index length {len(self)}")
        return Index(tuple(k for k, keep in zip(self._keys, chosen, strict=True) if keep), self._name)

    def is_aligned(self, other: Index) -> bool:
        """Whether both have the same ids in the same order."""
        return self._keys == other._keys

    def to_set(self) -> set[str]:
        """The ids as a set."""
        return set(self._keys)

    def to_list(self) -> list[str]:
        """The ids as a list."""
        return list(self._keys)

    def __and__(self, other: Index | AbstractSet[str]) -> Index:
        return Index(tuple(k for k in self._keys if k in other), self._name)

    def __or__(self, other: Index) -> Index:
        return Index((*self._keys, *(k for k in other._keys if k not in self)), self._name)

    def __sub__(self, other: Index | AbstractSet[str]) -> Index:
        return Index(tuple(k for k in self._keys if k not in other), self._name)

    def __xor__(self, other: Index) -> Index:
        return (self - other) | (other - self)

    def __le__(self, other: Index) -> bool:
        return self.to_set() <= other.to_set()

    def __lt__(self, other: Index) -> bool:
        return self.to_set() < other.to_set()

    def __ge__(self, other: Index) -> bool:
        return self.to_set() >= other.to_set()

    def __gt__(self, other: Index) -> bool:
        return self.to_set() > other.to_set()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Index) and (self._keys, self._name) == (other._keys, other._name)

    def __hash__(self) -> int:
        return hash((self._keys, self._name))

    def __repr__(self) -> str:
        name = f"{self._name!r}, " if self._name else ""
        return f"Index({name}{len(self)} keys)"


def align(*indexes: Index) -> Index:
    """The ids that all indexes share, in the order of the first."""
    if not indexes:
        return Index((), "")
    common = indexes[0]
    for other in indexes[1:]:
        common = common & other
    return common


def is_position(key: Any) -> bool:
    """Whether an `iloc` key is one integer, also NumPy's or an array without axes."""
    if isinstance(key, np.ndarray):
        return key.ndim == 0 and key.dtype.kind in "iu"
    return isinstance(key, (int, np.integer)) and not isinstance(key, bool)


def resolve_positions(key: Any, count: int) -> NDArray[np.intp]:
    """Positions that an `iloc` key means: int, slice, sequence of ints, or boolean mask, as in NumPy.

    Raises
    ------
    IndexError
        For positions outside, a mask of another length, or a key of another type.
    """
    if isinstance(key, slice) or key is Ellipsis:
        return np.arange(count, dtype=np.intp)[key]
    if isinstance(key, (bool, np.bool_)):
        raise IndexError("a single boolean is not a position")
    if is_position(key):
        key = [int(key)]
    array = np.asarray(key)
    if array.size == 0 and array.dtype != np.bool_:
        return np.empty(0, np.intp)
    if array.ndim == 0:
        raise TypeError(f"positions must be integers, slices or boolean masks, not {type(key).__name__}")
    if array.ndim != 1:
        raise IndexError(f"positions must be one-dimensional, not {array.ndim}-dimensional")
    if array.dtype == np.bool_:
        if len(array) != count:
            raise IndexError(f"the boolean mask has {len(array)} entries for {count} rows")
        return np.flatnonzero(array)
    if array.dtype.kind not in "iu":
        raise TypeError(f"positions must be integers, slices or boolean masks, not {array.dtype}")
    wrong = array[(array < -count) | (array >= count)]
    if wrong.size:
        raise IndexError(f"index {int(wrong[0])} is out of range for {count} rows")
    return np.where(array < 0, array + count, array).astype(np.intp)
