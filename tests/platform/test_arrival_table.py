"""Several write the table of arrivals at a time: what each of them changed is there in the end."""

from __future__ import annotations

import os
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from hypothesis import given, settings, strategies as st

from radiobject_assets.platform.arrivals.arrival_table import ArrivalRow, ArrivalTable, rows_of_partition
from radiobject_assets.resources import WorkingTables
from radiobject_assets.store import open_storage

_FIELDS = ("wanted", "achieved", "asked")
_KEYS = tuple("abcdef")


def _tables(folder: str | Path) -> WorkingTables:
    return WorkingTables(open_storage(str(folder)))


# of three writers: which one, what it does, with which key and field
_steps = st.lists(
    st.tuples(
        st.integers(0, 2),
        st.sampled_from(["read", "set", "set", "set", "remove", "save", "save"]),
        st.sampled_from(_KEYS),
        st.sampled_from(_FIELDS),
    ),
    max_size=40,
)


@settings(deadline=None, max_examples=60)
@given(_steps)
def test_writers_in_any_order_lose_nothing_that_another_changed(
    steps: list[tuple[int, str, str, str]],
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        writers = [ArrivalTable(_tables(folder)) for _ in range(3)]
        rows = [writer.rows for writer in writers]
        new: list[set[str]] = [set(), set(), set()]  # keys that a writer made
        changes: list[list[tuple[str, str, str]]] = [[], [], []]
        expected: dict[str, dict[str, str]] = {}
        for number, (who, what, key, name) in enumerate(steps):
            if what == "read":
                writers[who] = ArrivalTable(_tables(folder))
                rows[who], changes[who], new[who] = writers[who].rows, [], set()
                assert rows[who] == {k: ArrivalRow(**fields) for k, fields in expected.items()}  # type: ignore[arg-type]
            elif what == "set":
                if key not in rows[who]:
                    if any(done[0] == key for done in changes[who]):
                        continue  # removed and made again between two saves: told by neither
                    new[who].add(key)
                rows[who][key] = replace(rows[who].get(key, ArrivalRow()), **{name: str(number)})
                changes[who].append((key, name, str(number)))
            elif what == "remove" and key in rows[who] and key not in new[who]:
                del rows[who][key]
                changes[who].append((key, "", ""))
            elif what == "save":
                writers[who].save(rows[who])
                for changed, field, value in changes[who]:
                    if not field:
                        expected.pop(changed, None)
                    elif changed in expected or changed in new[who]:
                        expected.setdefault(changed, {})[field] = value
                changes[who], new[who] = [], set()
        assert ArrivalTable(_tables(folder)).rows == {
            k: ArrivalRow(**fields)  # type: ignore[arg-type]
            for k, fields in expected.items()
        }


def test_writers_at_the_same_moment_lose_nothing(tmp_path: Path) -> None:
    ArrivalTable(_tables(tmp_path)).save({f"k{n}": ArrivalRow(wanted="1") for n in range(8)})

    def write(who: int) -> None:
        for number in range(12):
            table = ArrivalTable(_tables(tmp_path))
            rows = table.rows
            rows[f"k{who}"] = replace(rows[f"k{who}"], attempts=number + 1)
            rows[f"new-{who}-{number}"] = ArrivalRow(wanted="2")
            rows.pop(f"new-{who}-{number - 3}", None)
            table.save(rows)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, range(4)))
    rows = ArrivalTable(_tables(tmp_path)).rows
    assert [rows[f"k{who}"].attempts for who in range(4)] == [12] * 4
    assert {key for key in rows if key.startswith("new")} == {
        f"new-{who}-{number}" for who in range(4) for number in (9, 10, 11)
    }


def test_who_forgets_and_a_tick_that_began_before_keep_each_others_work(tmp_path: Path) -> None:
    rows = {key: ArrivalRow(wanted="1", achieved="1") for key in _KEYS}
    ArrivalTable(_tables(tmp_path)).save(rows)
    tick, forgetting = ArrivalTable(_tables(tmp_path)), ArrivalTable(_tables(tmp_path))
    forgetting.save({key: row for key, row in forgetting.rows.items() if key != "a"})
    # the tick saves twice, and has seen that a's files are gone
    known = {**tick.rows, "b": ArrivalRow(wanted="2", achieved="1"), "g": ArrivalRow(wanted="1")}
    known["a"] = replace(known["a"], vanished_since_s=5.0)
    tick.save(known)
    known["c"] = replace(known["c"], asked="token")
    tick.save(known)
    left = ArrivalTable(_tables(tmp_path)).rows
    assert set(left) == {*"bcdefg"}
    assert (left["b"].wanted, left["c"].asked, left["d"]) == ("2", "token", rows["d"])


def test_a_shard_that_is_damaged_or_lost_after_it_was_read_is_written_as_it_was_known(tmp_path: Path) -> None:
    for damage in ("{", None):
        table = ArrivalTable(_tables(tmp_path))
        rows = {f"k{n}": ArrivalRow(wanted="1") for n in range(200)}
        table.save(rows)
        for shard in (tmp_path / "reconciled").iterdir():
            if damage is None:
                shard.unlink()
            else:
                shard.write_text(damage, encoding="utf-8")
        table.save({key: replace(row, wanted="2") for key, row in rows.items()})
        assert {row.wanted for row in ArrivalTable(_tables(tmp_path)).rows.values()} == {"2"}
        assert len(ArrivalTable(_tables(tmp_path)).rows) == 200


def test_the_rows_of_a_partition_are_those_of_the_whole_table(tmp_path: Path) -> None:
    rows = {f"k{n}": ArrivalRow(wanted="1", partition=f"day-{n % 3}" if n % 4 else "") for n in range(300)}
    ArrivalTable(_tables(tmp_path)).save(rows)
    for partition in ("day-1", "k4", "k5", "none"):
        wanted = {key: row for key, row in rows.items() if (row.partition or key) == partition}
        assert rows_of_partition(_tables(tmp_path), partition) == wanted
    # what a run was asked for is told as well, in whatever partition it is now
    assert rows_of_partition(_tables(tmp_path), "k4", ["k5"]).keys() == {"k4", "k5"}


def test_rows_that_another_process_changed_are_read_anew(tmp_path: Path) -> None:
    ArrivalTable(_tables(tmp_path)).save({f"k{n}": ArrivalRow(wanted="1") for n in range(100)})
    assert ArrivalTable(_tables(tmp_path)).rows["k7"].wanted == "1"
    (shard,) = [path for path in (tmp_path / "reconciled").iterdir() if '"k7"' in path.read_text()]
    before = shard.stat()
    shard.write_text(shard.read_text().replace('"wanted":"1"', '"wanted":"2"'))
    os.utime(shard, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert ArrivalTable(_tables(tmp_path)).rows["k7"].wanted == "2"
