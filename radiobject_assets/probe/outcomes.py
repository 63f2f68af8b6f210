"""From a child's journal to what came of its trial."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from radiobject_assets.probe.trial import (
    DeadWorker,
    Ended,
    InFlight,
    Outcome,
    StageFailure,
    StageRow,
    Trial,
)
from radiobject_assets.system.resource_monitor import ResourceSample

_MB = 2**20
_MOST_ITEMS_TOLD = 50


@dataclass
class _Flight:
    """What a process is at."""

    items: tuple[int, ...]
    stage: str
    since: float


@dataclass
class _Stage:
    """One stage over all items so far."""

    n: int = 0
    seconds: float = 0.0
    longest_s: float = 0.0
    longest_item: int | None = None
    most_bytes: int = 0
    shapes: Counter[str] = field(default_factory=Counter)
    dtypes: Counter[str] = field(default_factory=Counter)
    low: float | None = None
    high: float | None = None

    def add(self, items: Sequence[int], seconds: float, arrays: Sequence[Mapping[str, Any]]) -> None:
        self.n += 1
        self.seconds += seconds
        if seconds >= self.longest_s:
            self.longest_s, self.longest_item = seconds, items[0] if items else None
        self.most_bytes = max(self.most_bytes, sum(one["bytes"] for one in arrays))
        if arrays:
            self.shapes["; ".join(f"{one['key']} {tuple(one['shape'])}".strip() for one in arrays)] += 1
            self.dtypes[", ".join(dict.fromkeys(one["dtype"] for one in arrays))] += 1
        lows = [one["low"] for one in arrays if one["low"] is not None]
        highs = [one["high"] for one in arrays if one["high"] is not None]
        self.low = min(lows + ([] if self.low is None else [self.low]), default=None)
        self.high = max(highs + ([] if self.high is None else [self.high]), default=None)

    def row(self, name: str) -> StageRow:
        shapes = [shape for shape, _ in self.shapes.most_common(3)]
        more = f" and {len(self.shapes) - 3} others" if len(self.shapes) > 3 else ""
        return StageRow(
            name, self.n, self.seconds / max(1, self.n), self.longest_s, self.longest_item,
            round(self.most_bytes / _MB, 3), " | ".join(shapes) + more,
            ", ".join(dict.fromkeys(self.dtypes)), self.low, self.high,
        )  # fmt: skip


class Reading:
    """Takes the events of one trial as they come."""

    def __init__(self, trial: Trial) -> None:
        self._trial = trial
        self.offset = 0
        self._last_event = 0.0
        self._flights: dict[int, list[_Flight]] = {}
        self._workers: dict[int, int] = {}
        self._main: int | None = None
        self._stages: dict[str, _Stage] = {}
        self._failures: list[StageFailure] = []
        self._dead: list[DeadWorker] = []
        self._opened: dict[str, Any] = {}
        self._raised: dict[str, Any] | None = None
        self._how = ""
        self._items: set[int] = set()
        self._n_items = self._n_batches = self._at_batch = 0
        self._finite: dict[int, bool] = {}
        self._not_finite: dict[str, list[int]] = {}
        self._shapes: dict[int, str] = {}
        self._digests: dict[int, int] = {}
        self._reads_differ = False
        self._files: dict[int, int] = {}
        self._found: list[dict[str, Any]] = []
        self._frozen: float | None = None

    def take(self, read: tuple[list[dict[str, Any]], int]) -> None:
        """Take new events, and where the next ones begin."""
        events, self.offset = read
        if self._frozen is not None:
            return
        for event in events:
            self._last_event = event["t"]
            if self._main is None:
                self._main = event["pid"]
            getattr(self, f"_on_{event['event']}", self._on_other)(event)

    def silent_s(self, now: float, started: float) -> float:
        """For how long nothing has happened, or the oldest item is in the making."""
        oldest = min(
            (stack[0].since for stack in self._flights.values() if stack and stack[0].items), default=now
        )
        return max(now - (self._last_event or started), now - oldest)

    @property
    def has_begun(self) -> bool:
        """Whether some process is past its imports and at an item, or was."""
        if len(self._workers) < (self._trial.workers or 0):
            return False
        at_items = any(one.items for stack in self._flights.values() for one in stack)
        return at_items or bool(self._n_items or self._n_batches or self._failures)

    def freeze(self, now: float) -> None:
        """What is in flight is so at this moment: whatever it does until it is ended does not count."""
        self._frozen = now

    # -- events -----------------------------------------------------------------------------------------

    def _on_batch_begun(self, event: Mapping[str, Any]) -> None:
        self._at_batch = event["number"]

    def _on_other(self, event: Mapping[str, Any]) -> None:
        """`item_done` of nothing, and whatever a later version notes."""

    def _on_opened(self, event: Mapping[str, Any]) -> None:
        self._opened = {key: value for key, value in event.items() if key not in ("t", "pid", "event")}

    def _on_worker(self, event: Mapping[str, Any]) -> None:
        self._workers[event["pid"]] = event["worker"]
        self._flights[event["pid"]] = []

    def _on_stage(self, event: Mapping[str, Any]) -> None:
        stack = self._flights.setdefault(event["pid"], [])
        if event["stage"] in ("read", "collate"):
            stack.clear()
        stack.append(_Flight(tuple(event["items"]), event["stage"], event["t"]))

    def _on_stage_done(self, event: Mapping[str, Any]) -> None:
        begun = self._close(event)
        items, stage, arrays = event["items"], event["stage"], event.get("arrays", [])
        if stage != "collate" and not items:
            return
        self._stages.setdefault(stage, _Stage()).add(items, event["t"] - begun, arrays)
        if not items or not arrays:
            return
        finite = all(one["finite"] for one in arrays)
        number = items[0]
        if not finite and self._finite.get(number, True):
            self._not_finite.setdefault(stage, []).append(number)
        self._finite[number] = finite
        crc = event.get("crc")
        if stage == "read" and crc is not None and len(items) == 1:
            self._reads_differ |= self._digests.setdefault(number, crc) != crc

    def _close(self, event: Mapping[str, Any]) -> float:
        stack = self._flights.get(event["pid"], [])
        while stack:
            flight = stack.pop()
            if flight.stage == event["stage"]:
                return flight.since
        return float(event["t"])

    def _on_item_done(self, event: Mapping[str, Any]) -> None:
        self._flights[event["pid"]] = []
        self._n_items += len(event["items"])
        for number in event["items"]:
            self._finite.pop(number, None)

    def _on_failed(self, event: Mapping[str, Any]) -> None:
        self._failures.append(
            StageFailure(
                tuple(event["items"]), event["stage"], event["error"], event["message"], event["traceback"],
                event["line"], event["given"], event["picklable"], event["pid"] in self._workers,
            )
        )  # fmt: skip
        self._flights[event["pid"]] = []

    def _on_worker_died(self, event: Mapping[str, Any]) -> None:
        self._dead.append(DeadWorker(event["worker"], event["worker_pid"], event["code"]))

    def _on_batch(self, event: Mapping[str, Any]) -> None:
        self._n_batches += 1
        if event["pid"] == self._main:
            self._flights[event["pid"]] = []

    def _on_shape(self, event: Mapping[str, Any]) -> None:
        self._shapes[event["item"]] = event["shape"]
        self._files[event["item"]] = event["files"]

    def _on_again(self, event: Mapping[str, Any]) -> None:
        """An item that was read once more: it is no other item."""
        self._n_items -= 1

    def _on_found(self, event: Mapping[str, Any]) -> None:
        self._found.append({key: value for key, value in event.items() if key not in ("t", "pid", "event")})

    def _on_raised(self, event: Mapping[str, Any]) -> None:
        self._raised = dict(event)

    def _on_end(self, event: Mapping[str, Any]) -> None:
        self._how = event["how"]

    # -- the result -------------------------------------------------------------------------------------

    def outcome(
        self,
        *,
        ended: Ended | None,
        seconds: float,
        code: int | None,
        stacks: str,
        stderr: str,
        samples: tuple[ResourceSample, ...],
        peaks: Mapping[str, float],
        kernel_kills: int,
    ) -> Outcome:
        """What came of the trial, once its child is gone."""
        if ended is None:
            ended = {
                "passed": Ended.PASSED,
                "cut short": Ended.CUT,
                "raised": Ended.RAISED,
            }.get(self._how, Ended.DIED)
        failures = tuple(self._failures)
        if ended == Ended.RAISED and not failures and self._raised is not None and not self._dead:
            told = self._raised
            failures = (
                StageFailure(
                    (), "loader", told["error"], told["message"], told["traceback"], told["line"], "",
                    told["picklable"],
                ),
            )  # fmt: skip
        elif self._raised is not None:
            stderr = f"{stderr}\n{self._raised['traceback']}"
        return Outcome(
            self._trial, ended, round(seconds, 2), self._opened, self._n_items, self._n_batches,
            self._at_batch, failures, self._in_flight(ended), tuple(self._dead), code, stacks, stderr,
            tuple(stage.row(name) for name, stage in self._stages.items()), samples, peaks, kernel_kills,
            {stage: tuple(items[:_MOST_ITEMS_TOLD]) for stage, items in self._not_finite.items()},
            self._shapes, self._same_again(), self._files, tuple(self._found),
        )  # fmt: skip

    def _in_flight(self, ended: Ended) -> tuple[InFlight, ...]:
        if ended in (Ended.PASSED, Ended.CUT):
            return ()
        now = self._frozen or self._last_event
        dead = {one.pid for one in self._dead}
        at = {pid: stack[-1] for pid, stack in self._flights.items() if stack}
        return tuple(
            InFlight(pid, self._workers.get(pid), one.items, one.stage, round(now - one.since, 2))
            for pid, one in at.items()
            if not dead or pid in dead
        )

    def _same_again(self) -> dict[int, int]:
        """Digests of items as read, if reading gives the same each time, as far as was tried."""
        return {} if self._reads_differ else self._digests
