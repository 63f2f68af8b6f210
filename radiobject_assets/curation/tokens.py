"""Names for what has identifiers: keyed digests, so that a document names nobody by itself.

The key is made of the store's `root_id`, 128 random bits that never leave it. Who has the store can tell
whose token it is; who has the document alone can't, not even by trying all ids that there may be. Attributes
go in as keyed digests too: an age and a sex are soon guessed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from blake3 import blake3

from radiobject_assets.curation.canonical_json import canonical
from radiobject_assets.store import WholeState

_LARGEST = 2**53 - 1


@dataclass(frozen=True)
class TokenKey:
    """Makes tokens of one store."""

    secret: bytes = field(repr=False)

    @classmethod
    def of(cls, state: WholeState) -> TokenKey:
        """The key of a store; copies of its files have the same."""
        return cls(blake3(b"radiobject-assets dataset manifest\0" + state.root_id.encode()).digest())

    @property
    def mark(self) -> str:
        """Tells this key from another without telling it."""
        return self.token("key", "")

    def token(self, kind: str, *texts: str) -> str:
        """32 hexadecimal digits for an id (`volume`, `subject`), a UID or a digest of files."""
        return self._digest("\0".join((kind, *texts)).encode("utf-8", "surrogatepass")).hex()[:32]

    def row(self, values: Mapping[str, Any]) -> str:
        """Digest of attributes by name; those without a value are as good as none."""
        plain = {name: _plain(value) for name, value in values.items() if value is not None}
        return self._digest(canonical(plain)).hex()[:32]

    def _digest(self, data: bytes) -> bytes:
        return blake3(data, key=self.secret).digest()


def _plain(value: Any) -> Any:
    """A value as JSON has it; whole numbers that its doubles can't tell apart, and times, as text."""
    if isinstance(value, (bool, str)):
        return value
    if isinstance(value, int):
        return value if abs(value) <= _LARGEST else str(value)
    if isinstance(value, float):
        return value if value - value == 0 else str(value)
    return str(value)
