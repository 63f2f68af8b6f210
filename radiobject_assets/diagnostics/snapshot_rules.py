"""Rules over a store's snapshots, and over what pins them. No voxel is read."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from radiobject_assets.diagnostics import damage_kinds
from radiobject_assets.diagnostics.findings import Finding, Report
from radiobject_assets.store import TileDBContext, list_snapshots, snapshots_without_arrays

SET_ASIDE = "set-aside-"
"""Begins the names of snapshots that hold damaged volumes on purpose: what could not be mended."""


def snapshots_are_whole(
    store_uri: str, told: Collection[str] = (), ctx: TileDBContext | None = None
) -> Report:
    """Every array that a snapshot names is there.

    Parameters
    ----------
    told
        Tokens of arrays that the present state names and lacks too: these are told already.
    """
    names = [one.name for one in list_snapshots(store_uri, ctx)]
    findings = []
    for name, lost in snapshots_without_arrays(store_uri, ctx).items():
        mine = {collection: tokens - set(told) for collection, tokens in lost.items()}
        n_lost = sum(map(len, mine.values()))
        if n_lost and not name.startswith(SET_ASIDE):
            evidence = f"{n_lost} arrays are gone, of {', '.join(sorted(c for c, t in mine.items() if t))}"
            findings.append(Finding(damage_kinds.SNAPSHOT_DAMAGED, f"snapshot {name}", evidence))
    return Report(len(names), "snapshots", tuple(findings))


def pin_holds(store_uri: str, note: Mapping[str, Any] | None, ctx: TileDBContext | None = None) -> Report:
    """The snapshot that training pins is there, with the content that was noted.

    Parameters
    ----------
    note
        `name` and `digest`; None: nothing is pinned.
    """
    if note is None:
        return Report(0, "pins")
    there = {one.name: one.digest for one in list_snapshots(store_uri, ctx)}
    name = str(note.get("name", ""))
    if name not in there:
        evidence = "there is no snapshot of that name"
    elif there[name] != note.get("digest"):
        evidence = "the snapshot has another content than was noted"
    else:
        return Report(1, "pins")
    return Report(1, "pins", (Finding(damage_kinds.PIN_BROKEN, "note of the snapshot", evidence),))
