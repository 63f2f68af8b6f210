"""Kinds of damage that `doctor` adds: rows, snapshots, derived data, and what is left over."""

from __future__ import annotations

from radiobject_assets.diagnostics.findings import Kind, Mend, Severity

_ERROR, _WARN = Severity.ERROR, Severity.WARN
_FIX = "radiobject-assets doctor STORE --fix"
_DELETE = "radiobject-assets doctor STORE --delete {}:ID"

_TAKEN_IN_ANEW = Mend(
    "doctor --fix takes the volume in anew from its files; where these are gone it is set aside in a "
    "snapshot of its own, so that training does not see it.",
    is_safe=True,
    command=_FIX,
)

# -- rows -----------------------------------------------------------------------------------------------

FIELD_INVALID = Kind(
    "field_invalid",
    _ERROR,
    "a required field of a row is missing or says what can't be",
    "Nobody can tell whose the volume is, how large it is or what its values mean.",
    _TAKEN_IN_ANEW,
)
SEQUENCE_GAP = Kind(
    "sequence_gap",
    _WARN,
    "points of a series in time are missing",
    "Whatever is fitted over time takes two moments for neighbours that are not.",
    Mend(
        "doctor --fix takes the series in anew, in case more of its files have come. If the series itself is "
        "so, ask for the missing images, or leave it out of training.",
        is_safe=True,
        command=_FIX,
    ),
)
VERSION_SKEW = Kind(
    "version_skew",
    _WARN,
    "written by a newer version of this package",
    "What it added may be read by an older version as if it were not there.",
    Mend("Update this package on this machine to the version that writes the store.", is_safe=True),
)
IDENTIFIERS = Kind(
    "identifiers",
    _ERROR,
    "identifiers where none may be",
    "Who gets the store, its tables, its pages or its logs gets to know who the patients are.",
    Mend(
        "Look at what it is. `--delete identifiers:ID` removes a column's values from the present state; "
        "states and snapshots of before keep them until vacuum, and `radiobject-assets forget` removes a "
        "person from everything. Names of files and snapshots are yours to change.",
        is_safe=False,
        command=_DELETE.format("identifiers"),
    ),
)

# -- snapshots ------------------------------------------------------------------------------------------

SNAPSHOT_DAMAGED = Kind(
    "snapshot_damaged",
    _ERROR,
    "a snapshot has volumes whose arrays are gone or damaged",
    "A training that pinned it can't be repeated.",
    Mend(
        "doctor --fix lets it name the arrays of today where these have the same voxels. A snapshot that "
        "can't be helped so goes with `--delete snapshot_damaged:ID` (the present state stays).",
        is_safe=True,
        command=_FIX,
    ),
)
PIN_BROKEN = Kind(
    "pin_broken",
    _ERROR,
    "what training pins is a snapshot that is not there, or is another one",
    "Splits and patch caches can't be made, or are made of something else than their page says.",
    Mend(
        "doctor --fix notes the snapshot of the same content where there is one, else it sets the note "
        "aside. Then materialize dataset: the same content gives the same snapshot again.",
        is_safe=True,
        command=_FIX,
    ),
)

# -- what is derived ------------------------------------------------------------------------------------

_MADE_AGAIN = Mend(
    "doctor --fix makes just that again from the store. A table that only a run can make is set aside; then "
    "materialize what its page names.",
    is_safe=True,
    command=_FIX,
)
DERIVED_MISSING = Kind(
    "derived_missing",
    _WARN,
    "derived data is missing",
    "What is made of it (searches, sheets, pages) leaves these volumes out.",
    _MADE_AGAIN,
)
DERIVED_INVALID = Kind(
    "derived_invalid",
    _ERROR,
    "derived data can't be read or says what can't be",
    "What is made of it stops, or is wrong.",
    _MADE_AGAIN,
)
DERIVED_STALE = Kind(
    "derived_stale",
    _WARN,
    "derived data of an earlier volume, snapshot or division",
    "It speaks of something that the store does not hold any more.",
    _MADE_AGAIN,
)
DERIVED_ORPHANED = Kind(
    "derived_orphaned",
    _WARN,
    "derived data of what is not there any more",
    "It takes space, and may show somebody who was meant to be gone.",
    Mend("doctor --fix removes it after the grace time.", is_safe=True, command=_FIX),
)

# -- housekeeping ---------------------------------------------------------------------------------------

LEFT_OVERS = Kind(
    "left_overs",
    _WARN,
    "temporary files of processes that were killed",
    "They take space only.",
    Mend("doctor --fix removes those that are older than the grace time.", is_safe=True, command=_FIX),
)
FRAGMENTS = Kind(
    "fragments",
    _WARN,
    "a table is in many small files",
    "Each opening of the store reads all of them.",
    Mend(
        "doctor --fix merges them (`radiobject_assets.store.consolidate`); earlier states stay.",
        is_safe=True,
        command=_FIX,
    ),
)
