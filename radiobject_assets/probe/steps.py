"""The five steps of a probe: integrity, one process, workers, bisection, a run as it is.

1. What a store or cache holds is compared with what was written; files that items name are looked for.
2. One process goes through the items, stage by stage. A process that dies or goes silent on the way is
   followed by one that goes on behind that batch.
3. Workers, first as the loader has them, then under the other ways of starting them.
4. What failed is tried with less: the item alone, one worker, batches of one, so that causes can be told
   apart.
5. Where nothing failed, the loader runs as it is: two training batches, one validation batch.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from radiobject_assets.probe.probed_subject import ProbeSubject
from radiobject_assets.probe.running import run_trial
from radiobject_assets.probe.trial import Ended, Mode, Outcome, Trial

START_METHODS = tuple(
    m for m in ("fork", "spawn", "forkserver") if m in multiprocessing.get_all_start_methods()
)
# How often one process goes on after it died: whether it is one item or every item is clear by then.
_GO_ON = 2
# Batches that show that another way of starting workers works.
_FEW_BATCHES = 3
# Of an item that fails only after others: how often those are halved.
_HALVINGS = 5

OnStep = Callable[[str], None]


@dataclass(frozen=True)
class ProbeLimits:
    """How far a probe goes.

    Parameters
    ----------
    silent_s
        Seconds after which a process that says nothing, or is at one item, is ended.
    limit_s
        Seconds for one trial.
    memory_mb
        MiB that the tree of a trial may take; 0: no limit.
    integrity_items
        Items that the first step looks at.
    workers
        In the place of the loader's own number.
    start_methods
        Which are tried beside the loader's own.
    """

    silent_s: float = 120.0
    limit_s: float = 300.0
    memory_mb: float = 0.0
    integrity_items: int = 500
    workers: int | None = None
    start_methods: tuple[str, ...] = START_METHODS
    seed: int = 0


@dataclass(frozen=True)
class ProbeEvidence:
    """What the trials of one probe came to."""

    subject: ProbeSubject
    limits: ProbeLimits
    integrity: Outcome | None = None
    items: tuple[Outcome, ...] = ()
    """One process: more than one where it had to go on behind an item."""
    alone: Outcome | None = None
    """The least set of items that was found, in one process."""
    own: Outcome | None = None
    """Workers as the loader has them."""
    methods: Mapping[str, Outcome] = field(default_factory=dict)
    """By the other ways of starting workers."""
    one_worker: Outcome | None = None
    batches_of_one: Outcome | None = None
    as_is: Outcome | None = None

    @property
    def outcomes(self) -> tuple[Outcome, ...]:
        """All of them, in order."""
        every = (
            self.integrity, *self.items, self.alone, self.own, *self.methods.values(), self.one_worker,
            self.batches_of_one, self.as_is,
        )  # fmt: skip
        return tuple(one for one in every if one is not None)

    @property
    def opened(self) -> Mapping[str, object]:
        """What was found of the loader."""
        return next((one.opened for one in self.outcomes if "batch_size" in one.opened), {})

    @property
    def items_are_fine(self) -> bool:
        """Whether one process came through."""
        return all(one.is_fine for one in self.items)

    @property
    def workers(self) -> int:
        """How many workers were tried."""
        own = self.opened.get("workers", 0)
        return self.limits.workers if self.limits.workers is not None else int(str(own))

    @property
    def method(self) -> str:
        """How the loader starts its workers."""
        return str(self.opened.get("start_method", ""))


class _Steps:
    """The trials of one probe, each decided by what the ones before it came to."""

    def __init__(
        self,
        subject: ProbeSubject,
        folder: Path,
        limits: ProbeLimits,
        on_step: OnStep,
        config: Mapping[str, Any] | None,
    ) -> None:
        self.evidence = ProbeEvidence(subject, limits)
        self._config = config
        self._folder, self._limits, self._on_step = folder, limits, on_step
        self._n = 0

    def _trial(self, mode: Mode, name: str, **settings: object) -> Outcome:
        limits = self._limits
        base = Trial(
            self.evidence.subject.text, mode, name, seed=limits.seed, limit_s=limits.limit_s,
            silent_s=limits.silent_s, memory_mb=limits.memory_mb, integrity_items=limits.integrity_items,
            config=self._config,
        )  # fmt: skip
        trial = replace(base, **settings)  # type: ignore[arg-type]
        self._on_step(name)
        self._n += 1
        return run_trial(trial, self._folder / f"{self._n:02d}-{name.replace(' ', '-')}")

    def _learn(self, **outcomes: object) -> None:
        self.evidence = replace(self.evidence, **outcomes)  # type: ignore[arg-type]

    def run(self) -> ProbeEvidence:
        """All steps."""
        if self.evidence.subject.kind == "store":
            self._learn(integrity=self._trial(Mode.INTEGRITY, "integrity"))
        self._one_process()
        if "batch_size" not in self.evidence.opened:
            return self.evidence  # it can't be made: there is nothing more to learn
        self._least_items()
        if self.evidence.workers > 0:
            self._in_workers()
        if all(one.is_fine for one in self.evidence.outcomes):
            self._learn(as_is=self._trial(Mode.AS_IS, "as it is"))
        return self.evidence

    def _one_process(self) -> None:
        outcomes: list[Outcome] = []
        from_batch = 0
        for number in range(_GO_ON + 1):
            name = "one process" if number == 0 else f"one process from batch {from_batch}"
            outcome = self._trial(Mode.ITEMS, name, from_batch=from_batch)
            outcomes.append(outcome)
            self._learn(items=tuple(outcomes))
            if outcome.ended not in (Ended.DIED, Ended.SILENT, Ended.MEMORY):
                return
            if outcome.ended == Ended.SILENT and number:
                return
            from_batch = outcome.at_batch + 1

    def _least_items(self) -> None:
        """The least items that fail in one process."""
        failed = next((one for one in self.evidence.items if not one.is_fine), None)
        if failed is None:
            pair = self._pair_of_shapes()
            if pair:
                outcome = self._trial(Mode.ITEMS, "two shapes", items=pair, batch_size=2)
                if not outcome.is_fine:
                    self._learn(alone=outcome)
            return
        items, stage = failed.where()
        if stage == "collate":
            pair = self._pair_of_shapes()
            if pair:
                self._learn(alone=self._trial(Mode.ITEMS, "two shapes", items=pair, batch_size=2))
            return
        if not items or self.evidence.opened.get("n_items") is None:
            return
        alone = self._trial(Mode.ITEMS, "item alone", items=items[:1], batch_size=1)
        if alone.is_fine and failed.shapes:
            alone = self._halved(tuple(failed.shapes), items[0]) or alone
        self._learn(alone=alone)

    def _halved(self, before: Sequence[int], item: int) -> Outcome | None:
        """It fails only after others: after how few of them?"""
        best = None
        chosen = tuple(one for one in before if one != item)
        for _ in range(_HALVINGS):
            chosen = chosen[len(chosen) // 2 :]
            if not chosen:
                break
            outcome = self._trial(
                Mode.ITEMS, f"after {len(chosen)} items", items=(*chosen, item), batch_size=1
            )
            if outcome.is_fine:
                break
            best = outcome
        return best

    def _pair_of_shapes(self) -> tuple[int, int] | None:
        """Two items whose shapes differ."""
        if int(str(self.evidence.opened.get("batch_size", 1))) < 2:
            return None
        first: tuple[int, str] | None = None
        for outcome in self.evidence.items:
            for item, shape in outcome.shapes.items():
                if first is None:
                    first = (item, shape)
                elif shape != first[1]:
                    return first[0], item
        return None

    def _in_workers(self) -> None:
        workers, method = self.evidence.workers, self.evidence.method
        most = None if self.evidence.items_are_fine else self._batches_until_failure()
        name = f"{workers} workers {method}"
        own = self._trial(Mode.WORKERS, name, workers=workers, most_batches=most)
        self._learn(own=own)
        if (
            self.evidence.items_are_fine and not own.is_fine and workers > 1 and not own.n_batches
        ) or own.is_fine:
            most = _FEW_BATCHES
        else:
            most = own.n_batches + 2 * workers + 1
        others: dict[str, Outcome] = {}
        for other in self._limits.start_methods:
            if other != method and self.evidence.items_are_fine:
                others[other] = self._trial(
                    Mode.WORKERS, f"{workers} workers {other}", workers=workers, start_method=other,
                    most_batches=most,
                )  # fmt: skip
                self._learn(methods=dict(others))
        if own.is_fine or not self.evidence.items_are_fine:
            return
        if not any(one.is_fine for one in others.values()):
            if workers > 1:
                self._learn(one_worker=self._trial(Mode.WORKERS, "one worker", workers=1, most_batches=most))
            if int(str(self.evidence.opened.get("batch_size", 1))) > 1:
                self._learn(
                    batches_of_one=self._trial(
                        Mode.WORKERS, "batches of one", workers=workers, batch_size=1, most_batches=most
                    )
                )

    def _batches_until_failure(self) -> int:
        failed = next(one for one in self.evidence.items if not one.is_fine)
        if failed.failures and failed.ended in (Ended.PASSED, Ended.CUT):
            return max(_FEW_BATCHES, failed.n_batches)
        return failed.at_batch + _FEW_BATCHES


def run_steps(
    subject: ProbeSubject,
    folder: Path,
    limits: ProbeLimits,
    on_step: OnStep = lambda name: None,
    config: Mapping[str, Any] | None = None,
) -> ProbeEvidence:
    """Run every step; trials leave what they wrote below `folder`.

    Each trial takes at most `limit_s` and `silent_s` together, and there are at most 16. `config` is that of
    the store, as JSON.
    """
    return _Steps(subject, folder, limits, on_step, config).run()
