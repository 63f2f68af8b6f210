"""What is divided: subjects that belong together are one unit, and a unit is in one split.

Two subjects belong together when they share a group (`family=7`, `site=b`), directly or by way of others.
Without groups each subject is a unit of its own.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping


def hash_fraction(seed: int, subject_id: str) -> float:
    """A number in [0, 1) that depends on the seed and the id alone: BLAKE2b keyed with the seed.

    >>> hash_fraction(7, "患者-1") == hash_fraction(7, "患者-1") != hash_fraction(8, "患者-1")
    True
    """
    digest = hashlib.blake2b(
        subject_id.encode(), digest_size=8, key=str(seed).encode(), person=b"split"
    ).digest()
    # 53 bits: every value is exactly representable, so thresholds compare the same everywhere
    return (int.from_bytes(digest, "big") >> 11) / (1 << 53)


def units_of(groups: Mapping[str, Collection[str]]) -> dict[str, list[str]]:
    """Subjects by unit.

    Parameters
    ----------
    groups
        Names of the groups that each subject is in; none for most.

    Returns
    -------
    Subjects of each unit, sorted, by the unit's name: the subject's id where it is in no group, else the
    first of its groups' names, so that a family that grows keeps its name.
    """
    root: dict[str, str] = {}

    def find(node: str) -> str:
        while root.setdefault(node, node) != node:
            root[node] = root[root[node]]
            node = root[node]
        return node

    for subject, names in groups.items():
        for name in names:
            # the smaller name becomes the root, so that the order of what comes in makes no difference
            first, second = sorted((find(f"subject {subject}"), find(f"group {name}")))
            root[second] = first
    members: dict[str, list[str]] = {}
    for subject in sorted(groups):
        unit = find(f"subject {subject}")
        members.setdefault(subject if unit == f"subject {subject}" else unit, []).append(subject)
    return members
