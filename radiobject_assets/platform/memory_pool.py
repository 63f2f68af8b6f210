"""How many steps that may fill the memory budget work at once, over all runs: a pool of Dagster's.

`max_concurrent_runs` counts runs; the pool counts steps, also those of one run whose executor has several
processes. Its limit is how many budgets fit into the machine. It is set by the arrivals sensor, and set anew
when the budget or the machine changes; a limit that a person has set (in the UI under Deployment,
Concurrency) is left alone.
"""

from __future__ import annotations

import dagster as dg

MEMORY_POOL = "memory_budget"
_INTERPRETERS_MB = 512
"""What a run takes besides its budget: interpreters and libraries."""
_LEFT_FREE = 0.9
_OURS = "radiobject/memory_pool"


def budgets_that_fit(machine_mb: int, budget_mb: int) -> int:
    """How many runs with such a budget a machine has room for; at least one."""
    return max(1, int(machine_mb * _LEFT_FREE) // (budget_mb + _INTERPRETERS_MB))


def limit_pool(instance: dg.DagsterInstance, limit: int) -> None:
    """Set the limit of the pool, unless a person has set one; nothing where the storage knows no pools."""
    storage, notes = instance.event_log_storage, instance.daemon_cursor_storage
    if not storage.supports_global_concurrency_limits:
        return
    known = {pool.name: pool.limit for pool in storage.get_pool_limits()}
    ours = notes.get_cursor_values({_OURS}).get(_OURS) if notes is not None else None
    is_ours = MEMORY_POOL not in known or str(known[MEMORY_POOL]) == ours
    if is_ours and known.get(MEMORY_POOL) != limit:
        storage.set_concurrency_slots(MEMORY_POOL, limit)
        if notes is not None:
            notes.set_cursor_values({_OURS: str(limit)})


def free_places_of_ended_runs(instance: dg.DagsterInstance) -> int:
    """Free what runs hold in the pool that were killed in a step: Dagster takes them for working on.

    Returns
    -------
    How many runs held a place.
    """
    storage = instance.event_log_storage
    if not storage.supports_global_concurrency_limits:
        return 0
    info = storage.get_concurrency_info(MEMORY_POOL)
    ended = 0
    for run_id in {*info.active_run_ids, *info.pending_run_ids}:
        run = instance.get_run_by_id(run_id)
        if run is None or run.is_finished:
            storage.free_concurrency_slots_for_run(run_id)
            ended += 1
    return ended
