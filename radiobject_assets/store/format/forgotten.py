"""Who was forgotten and may not come again: noted in the store itself, by keyed digests and no ids.

Whoever writes to the store can so tell a person who was erased, from wherever a copy of the files comes in.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import secrets
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from radiobject_assets.store.format.layout import Context, store_log
from radiobject_assets.store.log.draft import Draft
from radiobject_assets.store.log.state import State
from radiobject_assets.store.storage.uris import normalise

_KEY, _MARKS = "forgotten_key", "forgotten"

FORGOTTEN_MARK = re.compile(r"f-[0-9a-f]{24}")
"""What the mark of a subject looks like."""


@dataclass(frozen=True)
class ForgottenSubjects:
    """The marks of a store's forgotten subjects, and the key that they are made with.

    The key lies in the store: it keeps the ids out of sight, and not from somebody who has the store and a
    list of ids to try. Where ids are pseudonyms, whoever tries needs their secret as well.
    """

    key: bytes = field(repr=False)
    marks: frozenset[str] = frozenset()

    def mark(self, subject_id: str) -> str:
        """What names a subject where its id must not be: the same in this store, another in every other."""
        return "f-" + hmac.new(self.key, subject_id.encode("utf-8"), hashlib.sha256).hexdigest()[:24]

    def refuses(self, subject_id: str) -> bool:
        """Whether a subject of that id was forgotten."""
        return bool(self.marks) and self.mark(subject_id) in self.marks


def forgotten_subjects(uri: str | os.PathLike[str], ctx: Context = None) -> ForgottenSubjects:
    """Who was forgotten, as the newest state of a store says."""
    return forgotten_in(store_log(normalise(uri), ctx).newest())


def forgotten_in(state: State) -> ForgottenSubjects:
    """As `forgotten_subjects`, of one state: a commit that looks here can't be overtaken by a forgetting."""
    properties = state.properties
    return ForgottenSubjects(
        bytes.fromhex(properties.get(_KEY, "")), frozenset(properties.get(_MARKS, "").split())
    )


def forgetting_key(uri: str | os.PathLike[str], ctx: Context = None) -> ForgottenSubjects:
    """As `forgotten_subjects`, for a store that exists; a key is made and noted where there is none yet."""
    return _changed(uri, lambda marks: marks, ctx)


def note_forgotten(
    uri: str | os.PathLike[str], marks: Iterable[str], ctx: Context = None
) -> ForgottenSubjects:
    """Note that subjects were forgotten: from the next commit on, writers that look refuse them."""
    new = frozenset(marks)
    return _changed(uri, lambda noted: noted | new, ctx)


def allow_again(uri: str | os.PathLike[str], marks: Iterable[str], ctx: Context = None) -> ForgottenSubjects:
    """Take back that subjects were forgotten: they may come in again."""
    gone = frozenset(marks)
    return _changed(uri, lambda noted: noted - gone, ctx)


def _changed(
    uri: str | os.PathLike[str], change: Callable[[frozenset[str]], frozenset[str]], ctx: Context
) -> ForgottenSubjects:
    def note(draft: Draft) -> None:
        before = draft.state.properties
        key = before.get(_KEY) or secrets.token_hex(32)
        marks = " ".join(sorted(change(frozenset(before.get(_MARKS, "").split()))))
        wanted = {_KEY: key, _MARKS: marks}
        if any(before.get(name, "") != value for name, value in wanted.items()):
            draft.with_entry("properties", wanted)

    return forgotten_in(store_log(normalise(uri), ctx).commit("note forgotten", note))
