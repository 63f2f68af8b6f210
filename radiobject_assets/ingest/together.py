"""Plans of several arrivals taken in together, with the result that each would have had alone.

What becomes of a series depends on what the store has of its subject and of its UID. So arrivals that share
neither can't tell whether they came one after the other or at once: they may share one set of processes and
one commit. Those that share one are taken in one after the other.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from radiobject_assets.ingest.plan import IngestPlan
from radiobject_assets.ingest.report import IngestReport


def independent(plans: Sequence[IngestPlan]) -> Iterator[tuple[int, ...]]:
    """Positions of plans that may be taken in together, group by group.

    No two of a group share a subject or a series UID, and what shares one stays in the order that is given.
    """
    turns: dict[str, int] = {}
    groups: dict[int, list[int]] = {}
    for number, plan in enumerate(plans):
        told = _told(plan)
        turn = max((turns[one] for one in told if one in turns), default=-1) + 1
        turns.update(dict.fromkeys(told, turn))
        groups.setdefault(turn, []).append(number)
    for turn in sorted(groups):
        yield tuple(groups[turn])


def joined(plans: Sequence[IngestPlan]) -> IngestPlan:
    """One plan of several that are `independent`: each series keeps its own arrival."""
    if len(plans) == 1:
        return plans[0]
    planned = tuple(one for plan in plans for one in plan.planned)
    return IngestPlan(planned, tuple(one for plan in plans for one in plan.unreadable), "")


def divided(report: IngestReport, plans: Sequence[IngestPlan]) -> list[IngestReport]:
    """The report of a joined plan as one for each of its plans; seconds and memory are those of all."""
    found, start = [], 0
    for plan in plans:
        end = start + len(plan.planned)
        outcomes = report.outcomes[start:end]
        found.append(replace(report, outcomes=outcomes, unreadable=plan.unreadable))
        start = end
    return found


def _told(plan: IngestPlan) -> set[str]:
    # of what is held back too: labels of this plan may name its image, and say why it is not there
    subjects = {f"subject {planned.subject_id}" for planned in plan.planned}
    return subjects | {f"series {uid}" for planned in plan.planned for uid in planned.series.series_uids}
