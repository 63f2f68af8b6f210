"""What tells a person in texts: the subject's id, ids of volumes, UIDs, digests of series; and finding it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

SUBJECT_KEYS = frozenset({"obs_subject_id", "subject_id", "subject", "patient_id", "participant_id"})
"""Columns and keys whose value is a subject's id."""

# An id of fewer letters, or of few digits alone, is in texts that have nothing to do with the person.
_MIN_LETTERS, _MIN_DIGITS = 4, 6
_RUN = re.compile(r"[0-9A-Za-z][0-9A-Za-z.]*[0-9A-Za-z]")


@dataclass
class Traces:
    """What is known to tell a person."""

    is_theirs: Callable[[str], bool]
    """Whether a subject's id is the person's."""
    subjects: set[str] = field(default_factory=set)
    """Their ids, where they are known: after the store has forgotten them, perhaps none."""
    volumes: set[str] = field(default_factory=set)
    """Ids of their volumes."""
    digests: set[str] = field(default_factory=set)
    """UIDs and tokens of their series, studies, instances and arrays: no other text has them."""

    def _named(self) -> re.Pattern[str] | None:
        names = frozenset({*self.volumes, *filter(_tells, self.subjects)})
        return _any_of(names) if names else None

    def in_text(self, text: str) -> bool:
        """Whether a text names the person."""
        named = self._named()
        if named is not None and named.search(text):
            return True
        return not self.digests.isdisjoint(_RUN.findall(text)) if self.digests else False

    def in_value(self, value: Any, key: str = "") -> bool:
        """Whether a value of a table or of a JSON document names the person, at any depth."""
        if isinstance(value, str):
            if value in self.subjects or (key in SUBJECT_KEYS and self.is_theirs(value)):
                return True
            return self.in_text(value)
        if isinstance(value, dict):
            return any(self.in_value(k) or self.in_value(v, str(k)) for k, v in value.items())
        if isinstance(value, Iterable) and not isinstance(value, bytes):
            return any(self.in_value(item, key) for item in value)
        return False

    def needles(self) -> tuple[str, ...]:
        """Texts that must be nowhere any more."""
        return tuple(sorted({*self.volumes, *self.digests, *filter(_tells, self.subjects)}))


@lru_cache(maxsize=16)
def _any_of(names: frozenset[str]) -> re.Pattern[str]:
    either = "|".join(map(re.escape, sorted(names, key=len, reverse=True)))
    return re.compile(rf"(?<![0-9A-Za-z])(?<![0-9A-Za-z]-)(?:{either})(?![0-9A-Za-z]|-[0-9A-Za-z])")


def _tells(subject: str) -> bool:
    return len(subject) >= _MIN_LETTERS and not (subject.isdecimal() and len(subject) < _MIN_DIGITS)
