"""What every storage promises, shown on a local disk and on a real S3 server."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import secrets
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from radiobject_assets.errors import StorageError
from radiobject_assets.store.storage import Entry, MissingError, Storage

pytestmark = pytest.mark.timeout(300)


def paths(entries: Any) -> list[str]:
    return [entry.path for entry in entries]


def test_what_was_written_is_read(storage: Storage) -> None:
    for data in (b"", b"x", secrets.token_bytes(3 * 2**20)):
        storage.write("a/b/c.bin", data)
        assert storage.read("a/b/c.bin") == data
        assert storage.exists("a/b/c.bin")


def test_a_file_of_this_machine_is_written_whatever_its_size(storage: Storage, tmp_path: Path) -> None:
    source = tmp_path / "source"
    for size in (0, 10, 8 * 2**20, 60 * 2**20 + 1):
        source.write_bytes(secrets.token_bytes(size))
        storage.write_file("a/b", source)
        assert storage.read("a/b") == source.read_bytes()
    with pytest.raises(StorageError, match=r"cannot read .*gone"):
        storage.write_file("a/b", tmp_path / "gone")
    assert storage.read("a/b") == source.read_bytes()


def test_what_is_not_there_is_missing(storage: Storage) -> None:
    storage.write("folder/file", b"x")
    for path in ("nothing", "folder", "folder/other", "folder/file/below"):
        assert not storage.exists(path)
        for read in (
            lambda path=path: storage.read(path),
            lambda path=path: storage.range(path, 0, 4),
            lambda path=path: storage.read_many(["folder/file", path]),
        ):
            with pytest.raises(MissingError, match=path):
                read()
        if path != "folder/file/below":
            storage.remove(path) if path != "folder" else storage.remove_tree("none")
    assert storage.read("folder/file") == b"x"


def test_ranges_are_those_bytes_and_end_with_the_file(storage: Storage) -> None:
    data = secrets.token_bytes(1000)
    storage.write("f", data)
    spans = [(0, 10), (990, 10), (990, 100), (1000, 5), (2000, 5), (3, 0), (0, 1000), (500, 1)]
    assert storage.ranges("f", spans) == [data[offset : offset + n] for offset, n in spans]
    assert storage.range("f", 7, 13) == data[7:20]
    assert storage.ranges("f", []) == []


def test_many_are_read_in_the_order_of_their_paths(storage: Storage) -> None:
    names = [f"many/{number:03d}" for number in range(40)]
    for name in names:
        storage.write(name, name.encode())
    assert storage.read_many(reversed(names)) == [name.encode() for name in reversed(names)]
    assert storage.read_many([]) == []


def test_a_listing_shows_direct_children_sorted(storage: Storage) -> None:
    for name in ("b/1", "b/2/x", "b-c", "a", "b0", "log/0001.json", "log/0002.json", "log/0010.json"):
        storage.write(name, name.encode())
    assert storage.list() == [
        Entry("a", 1), Entry("b-c", 3), Entry("b/", 0), Entry("b0", 2), Entry("log/", 0)
    ]  # fmt: skip
    assert paths(storage.list("b")) == ["b/1", "b/2/"]
    assert paths(storage.list("b/")) == ["b/1", "b/2/"]
    assert paths(storage.list("log", after="log/0001.json")) == ["log/0002.json", "log/0010.json"]
    assert paths(storage.list("log", after="log/9")) == []
    assert paths(storage.list("b", recursive=True)) == ["b/1", "b/2/x"]
    assert paths(storage.list("b", recursive=True, after="b/1")) == ["b/2/x"]
    assert paths(storage.list(recursive=True)) == [
        "a", "b-c", "b/1", "b/2/x", "b0", "log/0001.json", "log/0002.json", "log/0010.json"
    ]  # fmt: skip
    assert paths(storage.list("lo")) == []
    assert paths(storage.list("a")) == []
    assert paths(storage.list("none/below")) == []


def test_a_long_listing_is_whole(storage: Storage) -> None:
    names = [f"{number:05d}" for number in range(1203)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda name: storage.write(f"long/{name}", b"."), names))
    assert paths(storage.list("long")) == [f"long/{name}" for name in names]
    assert len(storage.list(recursive=True)) == len(names)
    storage.remove_tree("long")
    assert storage.list(recursive=True) == []


def test_publishing_is_for_the_first(storage: Storage) -> None:
    assert storage.publish("log/1", b"first")
    assert not storage.publish("log/1", b"second")
    assert storage.read("log/1") == b"first"
    storage.remove("log/1")
    assert storage.publish("log/1", b"third")
    assert storage.read("log/1") == b"third"
    storage.write("log/1", b"fourth")
    assert storage.read("log/1") == b"fourth"
    assert paths(storage.list(recursive=True)) == ["log/1"]


def test_removing_takes_only_what_was_named(storage: Storage) -> None:
    for name in ("a/1", "a/2", "ab", "a-b/1"):
        storage.write(name, b"x")
    storage.remove("a/1")
    storage.remove("a/1")
    assert paths(storage.list(recursive=True)) == ["a-b/1", "a/2", "ab"]
    storage.remove_tree("a")
    storage.remove_tree("a")
    assert paths(storage.list(recursive=True)) == ["a-b/1", "ab"]


@pytest.mark.parametrize("path", ["", "/etc/passwd", "../x", "a/../../x", "a//b", "a/", "./a", "a\0b"])
def test_paths_that_lead_elsewhere_are_refused(storage: Storage, path: str) -> None:
    for use in (
        storage.read, storage.remove, storage.exists,
        lambda path: storage.write(path, b""), lambda path: storage.publish(path, b""),
        lambda path: storage.read_many([path]), lambda path: storage.ranges(path, [(0, 1)]),
    ):  # fmt: skip
        with pytest.raises(StorageError, match="path in a storage"):
            use(path)


def test_names_may_hold_any_letters(storage: Storage) -> None:
    for name in ("a b/ü+&%=?#.json", "x/~!@$'()*,;:[].bin"):
        storage.write(name, name.encode())
        assert storage.read(name) == name.encode()
        assert storage.publish(f"{name}.2", b"2")
    assert len(storage.list(recursive=True)) == 4
    storage.remove_tree("a b")
    assert len(storage.list(recursive=True)) == 2


def _publish_all(storage: Storage, me: int, names: int, start: Any, results: Any) -> None:
    start.wait()
    won = [name for name in range(names) if storage.publish(f"log/{name:03d}", b"%d" % me * 50)]
    results.put((me, won))


@pytest.mark.parametrize("method", [pytest.param("spawn", marks=pytest.mark.slow), "fork"])
def test_of_sixteen_processes_that_publish_the_same_names_one_wins_each(
    storage: Storage, method: str
) -> None:
    names = 200
    storage.write("warm", b"")  # a client with open connections, which a fork must not share
    make = multiprocessing.get_context(method)
    start, results = make.Event(), make.Queue()
    workers = [
        make.Process(target=_publish_all, args=(storage, me, names, start, results)) for me in range(16)
    ]
    for worker in workers:
        worker.start()
    start.set()
    won = dict(results.get(timeout=240) for _ in workers)
    for worker in workers:
        worker.join()
        assert worker.exitcode == 0
    winners: dict[int, int] = {}
    for me, mine in won.items():
        for name in mine:
            assert name not in winners
            winners[name] = me
    assert len(winners) == names
    for name, me in winners.items():
        assert storage.read(f"log/{name:03d}") == b"%d" % me * 50
    assert len(storage.list(recursive=True)) == names + 1
    assert storage.leftovers(0) == []


def test_a_reader_sees_one_whole_state_of_a_file_that_is_replaced(storage: Storage) -> None:
    storage.write("f", b"0" * 300_000)
    done = threading.Event()

    def replace() -> None:
        for number in range(60):
            storage.write("f", b"%d" % (number % 10) * 300_000)
        done.set()

    writer = threading.Thread(target=replace)
    writer.start()
    while not done.is_set():
        seen = storage.read("f")
        assert len(seen) == 300_000
        assert len(set(seen)) == 1
    writer.join()


def _read_in_child(storage: Storage, environment: dict[str, str], results: Any) -> None:
    os.environ.update(environment)  # a fork server that another test started has its own
    results.put(storage.read("f"))


@pytest.mark.parametrize("method", ["spawn", "fork", "forkserver"])
def test_a_storage_works_in_other_processes(storage: Storage, method: str) -> None:
    storage.write("f", b"here")
    make = multiprocessing.get_context(method)
    results = make.Queue()
    worker = make.Process(target=_read_in_child, args=(storage, dict(os.environ), results))
    worker.start()
    assert results.get(timeout=60) == b"here"
    worker.join()
    assert storage.read("f") == b"here"


def test_no_credential_is_in_a_pickle_or_a_text_of_it(storage: Storage) -> None:
    canaries = [os.environ.get(name, "-" * 9) for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")]
    storage.write("f", b"")
    for text in (repr(storage), str(vars(storage)), repr(pickle.dumps(storage))):
        for canary in canaries:
            assert canary not in text


def test_a_version_is_replaced_by_one_of_all_who_read_it(storage: Storage) -> None:
    storage.write("a/table", b"first")
    content, version = storage.read_version("a/table")
    assert content == b"first"
    assert storage.replace("a/table", b"second", version)
    assert not storage.replace("a/table", b"late", version)
    assert storage.read("a/table") == b"second"
    with pytest.raises(MissingError):
        storage.read_version("a/none")
    storage.remove("a/table")
    assert not storage.replace("a/table", b"late", version)
    assert not storage.exists("a/table")


def test_nothing_is_lost_of_what_many_add_to_one_file(storage: Storage) -> None:
    storage.write("table", b"")

    def add(number: int) -> None:
        while True:
            content, version = storage.read_version("table")
            if storage.replace("table", content + b"%03d\n" % number, version):
                return

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(add, range(40)))
    assert sorted(storage.read("table").split()) == [b"%03d" % number for number in range(40)]


def test_a_stamp_tells_a_file_that_was_written_anew(storage: Storage) -> None:
    for name in ("a", "b"):
        storage.write(name, b"one")
    before = {entry.path: entry.stamp for entry in storage.list()}
    storage.write("b", b"two")
    after = {entry.path: entry.stamp for entry in storage.list()}
    assert all(before.values())
    assert after["a"] == before["a"]
    assert after["b"] != before["b"]
