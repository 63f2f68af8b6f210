"""Kills, pauses, crowds, flips and erasures: what each leaves of the rows, the snapshot and the ids.

Every table is touched in processes of their own, forked from one that has imported the libraries and used
none. Truth is what the same steps gave without disturbance; states are compared row by row.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import random
import shutil
import signal
import statistics
import time
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.table_designs.design import META_PATTERNS, Design, Place, files_below
from benchmarks.table_designs.designs import DESIGNS, design, module_of
from benchmarks.table_designs.rows import State, key_of, made_rows, state_of, subject_of

PAPER = "paper-2026"
PERSON = subject_of(30)
_LIMIT_S = 60.0
_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(
    [f"{__package__}.everything", *(module_of(name) for name in DESIGNS)]  # what a process imports anyway
)

End = Literal["done", "told", "died", "hung"]


@dataclass(frozen=True)
class Answer:
    """How a step in a process of its own ended."""

    end: End
    value: Any = None


class Step:
    """A function of a design that runs in a process of its own."""

    def __init__(self, name: str, where: Path | Place, function: Callable[..., Any], *values: Any) -> None:
        place = where if isinstance(where, Place) else Place(str(where))
        self._pipe, far = _context.Pipe()
        self.process = _context.Process(target=_run, args=(far, name, place, function, values))
        self.process.start()
        far.close()
        self._pipe.recv()  # it is about to begin

    def answer(self, limit_s: float = _LIMIT_S) -> Answer:
        """Wait for the end."""
        try:
            found = Answer(*self._pipe.recv()) if self._pipe.poll(limit_s) else Answer("hung")
        except EOFError:
            found = Answer("died")
        self.process.kill()
        self.process.join()
        return found


def _run(pipe: Connection, name: str, place: Place, function: Callable[..., Any], values: Any) -> None:
    pipe.send("ready")
    try:
        pipe.send(("done", function(design(name, place), *values)))
    except BaseException as error:  # noqa: BLE001  (a panic of a Rust library is one too)
        pipe.send(
            ("told", f"{type(error).__name__}: {str(error)[:300]} {traceback.format_exc(limit=-1)[-200:]}")
        )


@dataclass(frozen=True)
class Known:
    """What a prepared table shows."""

    now: State
    paper: State


def _prepare(table: Design) -> Known:
    table.create(made_rows(range(40)))
    table.put(made_rows([40]))
    table.put(made_rows([5], 1), new=False)
    table.snapshot(PAPER)
    table.put(made_rows([6], 1), new=False)
    table.delete([key_of(7), key_of(8)])
    for number in range(41, 46):
        table.put(made_rows([number]))
    return Known(state_of(table.read()), state_of(table.read(PAPER)))


def _without(state: State, *subjects: str) -> State:
    return {key: row for key, row in state.items() if not key.startswith(tuple(f"{s}_" for s in subjects))}


def _put(table: Design, number: int) -> str:
    rows = made_rows([number])
    table.put(rows)
    return key_of(number)


def _compact(table: Design) -> None:
    table.compact()
    table.vacuum()


def _forget(table: Design, subject: str) -> None:
    table.forget(subject)


def _read(table: Design) -> Known:
    return Known(state_of(table.read()), state_of(table.read(PAPER)))


OPERATIONS: dict[str, tuple[Callable[..., Any], tuple[Any, ...]]] = {
    "append": (_put, (90,)),
    "merge and vacuum": (_compact, ()),
    "erase a person": (_forget, (PERSON,)),
}


def _after_kill(table: Design, known: Known, operation: str) -> list[str]:
    """What is wrong after a kill, and after everything that may follow it."""
    wrong = []
    now = state_of(table.read())
    erasing = operation == "erase a person"
    more = {key: row for key, row in now.items() if key != key_of(90)}
    if more != known.now and not (erasing and more == _without(known.now, PERSON)):
        wrong.append("rows")
    if not erasing and state_of(table.read(PAPER)) != known.paper:
        wrong.append("snapshot")
    try:
        table.put(made_rows([91]))
        table.compact()
        table.vacuum()
        table.forget(PERSON)
    except Exception as error:  # noqa: BLE001  (whatever it says, somebody stands before it)
        return [*wrong, "stuck", f"stuck: {type(error).__name__}: {str(error)[:160]}"]
    later = {key: row for key, row in state_of(table.read()).items() if key != key_of(91)}
    if later != _without(now, PERSON):
        wrong.append("rows later")
    return wrong


def kills(name: str, folder: Path, times: int, budget_s: float, rng: random.Random) -> list[dict[str, Any]]:
    """`times` kills at random moments of each operation, or as many as fit into `budget_s`."""
    template = folder / "template"
    known = Step(name, template, _prepare).answer().value
    found = []
    for operation, (function, values) in OPERATIONS.items():
        duration_s = statistics.median(
            _undisturbed(name, _copy(template, folder / f"try{number}"), function, values)
            for number in range(3)
        )
        counted: Counter[str] = Counter()
        until = time.monotonic() + budget_s
        while counted["kills"] < times and time.monotonic() < until:
            table = _copy(template, folder / "killed")
            step = Step(name, table, function, *values)
            time.sleep(rng.uniform(0, 1.1) * duration_s)
            step.process.kill()
            step.process.join()
            after = Step(name, table, _after_kill, known, operation).answer()
            wrong = after.value if after.end == "done" else [f"check {after.end}", str(after.value)[:200]]
            if after.end == "done" and "stuck" not in wrong and ids_left(table, PERSON):
                wrong = [*wrong, "ids left"]
            counted.update({"kills": 1, **dict.fromkeys(wrong, 1)})
        found.append({"name": name, "operation": operation, "ms": round(duration_s * 1000), **counted})
    return found


def _undisturbed(name: str, table: Path, function: Callable[..., Any], values: Any) -> float:
    step = Step(name, table, function, *values)
    started = time.perf_counter()
    step.answer()
    return time.perf_counter() - started


def _copy(source: Path, target: Path) -> Path:
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(source, target)
    return target


def ids_left(table: Path, subject: str) -> list[str]:
    """Files in which the id can still be read; Parquet and Arrow are decoded for that."""
    found = []
    for path in files_below(str(table)):
        data = path.read_bytes()
        if subject.encode() in data:
            found.append(path.name)
        elif path.suffix in (".parquet", ".arrow"):
            try:
                read = (
                    pq.ParquetFile(path).read()
                    if path.suffix == ".parquet"
                    else pa.ipc.open_file(data).read_all()
                )
                text = str(read.to_pylist())
            except (pa.ArrowException, OSError):  # half of a file: nobody can say that nothing is in it
                text = subject
            if subject in text:
                found.append(path.name)
    return found


def erasing(name: str, folder: Path) -> dict[str, Any]:
    """One person forgotten, undisturbed: others' rows now and in the snapshot, and bytes of the id."""
    table = folder / "erased"
    known = Step(name, table, _prepare).answer().value
    seen = bool(ids_left(table, PERSON))
    told = Step(name, table, _forget, PERSON).answer()
    now = Step(name, table, _now).answer()
    paper = Step(name, table, _paper).answer()
    wanted = _without(known.paper, PERSON)
    differ = set(wanted.items()) ^ set(paper.value.items()) if paper.end == "done" else None
    left = ids_left(table, PERSON)
    return {
        "name": name,
        "erasing": told.end,
        "rows now": "equal" if now.value == _without(known.now, PERSON) else "differ",
        "snapshot": "gone" if differ is None else f"{len(differ)} rows differ" if differ else "equal",
        "files with the id": ", ".join(left) if left else "none" if seen else "not seen before either",
    }


def _now(table: Design) -> State:
    return state_of(table.read())


def _paper(table: Design) -> State:
    return state_of(table.read(PAPER))


def _many_puts(table: Design, numbers: Sequence[int]) -> tuple[list[str], int]:
    return _try_all(numbers, lambda number: _put(table, number))


def _many_deletes(table: Design, numbers: Sequence[int]) -> tuple[list[str], int]:
    def drop(number: int) -> str:
        table.delete([key_of(number)])
        return key_of(number)

    return _try_all(numbers, drop)


def _many_cares(table: Design, subjects: Sequence[str], erase: bool) -> tuple[list[str], int]:
    def care(subject: str) -> str:
        table.compact()
        table.vacuum()
        if erase:
            table.forget(subject)
        return subject

    return _try_all(subjects, care)


def _try_all(values: Sequence[Any], call: Callable[[Any], str]) -> tuple[list[str], int]:
    """What succeeded, and how many calls were refused with an error."""
    done, refused = [], 0
    for value in values:
        try:
            done.append(call(value))
        except Exception:  # noqa: BLE001  (being told is not being wrong)
            refused += 1
    return done, refused


def crowd(
    name: str, folder: Path, rounds: int, budget_s: float, erase: bool, puts: int = 12
) -> dict[str, Any]:
    """Two writers, one who deletes, one who merges, vacuums and, with `erase`, erases, all at once."""
    template, counted = folder / "template", Counter[str]()
    if not template.exists():
        Step(name, template, _prepare).answer()
    erased = [subject_of(number) for number in (0, 2, 4)]
    until = time.monotonic() + budget_s
    while counted["rounds"] < rounds and time.monotonic() < until:
        counted["rounds"] += 1
        table = _copy(template, folder / "crowd")
        steps = [
            Step(name, table, _many_puts, range(1000, 1000 + puts)),
            Step(name, table, _many_puts, range(2000, 2000 + puts)),
            Step(name, table, _many_deletes, range(20, 30)),
            Step(name, table, _many_cares, erased, erase),
        ]
        answers = [step.answer(120) for step in steps]
        ends = [answer.value if answer.end == "done" else ([], 0) for answer in answers]
        counted.update(answer.end for answer in answers if answer.end != "done")
        after = Step(name, table, _now).answer()
        if after.end != "done":
            counted["unreadable"] += 1
            continue
        now = after.value
        counted["put"] += len(ends[0][0]) + len(ends[1][0])
        counted["lost"] += sum(key not in now for key in (*ends[0][0], *ends[1][0]))
        counted["doubled"] += sum(row == "twice" for row in now.values())
        counted["came back"] += sum(key in now for key in ends[2][0])
        counted["came back"] += len(now) - len(_without(now, *ends[3][0])) if erase else 0
        for what, (_, refused) in zip(
            ("writes refused", "", "deletes refused", "care refused"), ends, strict=True
        ):
            counted[what or "writes refused"] += refused
        others = [key_of(n) for n in (*range(9, 20), *range(31, 41))]
        counted["others lost"] += sum(key not in now for key in others)
    return {"name": name, "crowd": "with an eraser" if erase else "writers and care", **counted}


def pauses(name: str, folder: Path, times: int, budget_s: float, rng: random.Random) -> dict[str, Any]:
    """A writer stopped at a random moment; others write, merge, vacuum and erase; then it goes on."""
    template, counted = folder / "template", Counter[str]()
    if not template.exists():
        Step(name, template, _prepare).answer()
    duration_s = _undisturbed(name, _copy(template, folder / "try"), _put, (90,))
    until = time.monotonic() + budget_s
    while counted["pauses"] < times and time.monotonic() < until:
        counted["pauses"] += 1
        table = _copy(template, folder / "paused")
        step = Step(name, table, _put, 90)
        time.sleep(rng.uniform(0, 1.0) * duration_s)
        _signal(step, signal.SIGSTOP)
        care = Step(name, table, _care_meanwhile).answer(40)
        _signal(step, signal.SIGCONT)
        wrote = step.answer()
        after = Step(name, table, _now).answer()
        counted["care refused"] += care.end != "done"
        counted["write refused"] += wrote.end == "told"
        if after.end != "done":
            counted["unreadable"] += 1
        else:
            counted["lost"] += wrote.end == "done" and key_of(90) not in after.value
            counted["others lost"] += key_of(40) not in after.value or key_of(10) not in after.value
            counted["person back"] += care.end == "done" and after.value != _without(after.value, PERSON)
    return {"name": name, **counted}


def race_on_s3(name: str, place: Place, puts: int = 8) -> dict[str, Any]:
    """Two writers at once on an S3 server; each write is told to have succeeded or is refused."""
    Step(name, place, _create).answer()
    steps = [Step(name, place, _many_puts, range(first, first + puts)) for first in (1000, 2000)]
    ends = [answer.value if answer.end == "done" else ([], puts) for answer in (s.answer() for s in steps)]
    after = Step(name, place, _now).answer()
    now = after.value if after.end == "done" else {}
    told = [*ends[0][0], *ends[1][0]]
    lost = sum(key not in now for key in told)
    return {"name": name, "put": len(told), "lost": lost, "refused": ends[0][1] + ends[1][1]}


def _create(table: Design) -> None:
    table.create(made_rows(range(20)))


def _signal(step: Step, number: int) -> None:
    assert step.process.pid is not None
    with contextlib.suppress(ProcessLookupError):  # it has done its work already
        os.kill(step.process.pid, number)


def _care_meanwhile(table: Design) -> None:
    table.put(made_rows([92]))
    table.compact()
    table.vacuum()
    table.forget(PERSON)


def flips(name: str, folder: Path, times: int, budget_s: float, rng: random.Random) -> list[dict[str, Any]]:
    """One byte changed, in turn in a file of rows and in one that says what the state is; all is read."""
    template = folder / "template"
    if not template.exists():
        Step(name, template, _prepare).answer()
    known = Step(name, template, _read).answer().value
    patterns = META_PATTERNS[name]
    counted: dict[str, Counter[str]] = {"rows": Counter(), "state": Counter()}
    until = time.monotonic() + budget_s
    for number in range(times):
        if time.monotonic() > until:
            break
        table = _copy(template, folder / "flipped")
        where = "rows" if number % 2 else "state"
        chosen = [
            path
            for path in files_below(str(table))
            if path.stat().st_size
            and any(p in str(path.relative_to(table)) for p in patterns) == (where == "state")
            and path.name != "_names.json"
        ]
        path = rng.choice(chosen)
        data = bytearray(path.read_bytes())
        data[rng.randrange(len(data))] ^= rng.randrange(1, 256)
        path.write_bytes(data)
        answer = Step(name, table, _read).answer(20)
        end = answer.end if answer.end != "done" else "harmless" if answer.value == known else "other rows"
        counted[where].update({"flips": 1, end: 1})
    return [{"name": name, "in": where, **found} for where, found in counted.items()]


def _fork_and_count(table: Design) -> str:
    table.create(made_rows(range(5)))
    table.count()
    child = os.fork()
    if child == 0:
        signal.alarm(10)
        code = 1
        try:
            table.count()
            code = 0
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return "hangs" if os.WTERMSIG(status) == signal.SIGALRM else "dies"
    return "refused" if status else "works"


def after_fork(name: str, folder: Path) -> dict[str, Any]:
    """Whether a process forked after the library was used can read."""
    answer = Step(name, folder / "forked", _fork_and_count).answer()
    return {"name": name, "read after a fork": answer.value if answer.end == "done" else answer.end}
