"""S3 through a bad network: what passes is right, what cannot pass ends in time, and no commit is doubled."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from radiobject_assets.errors import StorageError
from radiobject_assets.store.storage import DeadlineError, Storage, open_storage
from tests.store.conftest import S3Server
from tests.store.fault_proxy import FaultKind, FaultProxy

pytestmark = [pytest.mark.s3, pytest.mark.timeout(180)]

DEADLINE_S = 2.0
IMPATIENT = {"connect_timeout_ms": 500, "request_timeout_ms": 1000, "max_tries": 3, "deadline_s": DEADLINE_S}
CALLS: dict[str, Callable[[Storage], Any]] = {
    "list": lambda storage: storage.list("log"),
    "list all": lambda storage: storage.list(recursive=True),
    "read": lambda storage: storage.read("log/1"),
    "range": lambda storage: storage.range("log/1", 1, 3),
    "ranges": lambda storage: storage.ranges("log/1", [(n, 2) for n in range(20)]),
    "read many": lambda storage: storage.read_many(["log/1", "log/2"] * 5),
    "write": lambda storage: storage.write("new", b"data"),
    "publish": lambda storage: storage.publish("log/3", b"data"),
    "remove": lambda storage: storage.remove("log/1"),
    "remove tree": lambda storage: storage.remove_tree("log"),
    "exists": lambda storage: storage.exists("log/1"),
}


@pytest.fixture
def proxy(s3_server: S3Server) -> Iterator[FaultProxy]:
    """A proxy in front of the server that lets everything pass."""
    with FaultProxy(s3_server.port) as proxy:
        yield proxy


@pytest.fixture
def direct(s3_server: S3Server) -> Storage:
    """A storage with two files, reached without the proxy."""
    storage = open_storage(f"s3://{s3_server.bucket}/{secrets.token_hex(6)}", s3_server.ctx())
    for name in ("log/1", "log/2"):
        storage.write(name, name.encode() * 20)
    return storage


def through(proxy: FaultProxy, s3_server: S3Server, direct: Storage, **settings: object) -> Storage:
    """The same storage, reached through the proxy."""
    return open_storage(direct.uri, s3_server.ctx(proxy.endpoint, **settings))


def _pairs(faults: tuple[str, ...], always: str) -> list[Any]:
    """Each fault with each call; all calls with the one and three with all of them, unless `slow`."""
    few = ("read", "publish", "list")
    return [
        pytest.param(call, fault, marks=() if fault == always or call in few else pytest.mark.slow)
        for call in CALLS
        for fault in faults
    ]


@pytest.mark.sampled(3)
@pytest.mark.parametrize(
    ("call", "fault"), _pairs(("silence", "slow down", "hang", "trickle", "reset"), "reset")
)
def test_every_call_ends_in_time_whatever_the_server_does(
    s3_server: S3Server, proxy: FaultProxy, direct: Storage, call: str, fault: FaultKind
) -> None:
    storage = through(proxy, s3_server, direct, **IMPATIENT)
    CALLS["exists"](storage)
    proxy.fail(fault)
    started = time.monotonic()
    with pytest.raises(StorageError) as failed:
        CALLS[call](storage)
    assert time.monotonic() - started < DEADLINE_S + 2
    if fault != "reset":
        assert isinstance(failed.value, DeadlineError)
    message = str(failed.value)
    assert proxy.endpoint in message
    assert f"bucket {s3_server.bucket}" in message
    assert s3_server.access_key not in message
    proxy.heal()
    assert storage.read("log/2") == b"log/2" * 20


@pytest.mark.parametrize(("call", "fault"), _pairs(("reset", "slow down", "lose", "truncate"), "lose"))
def test_passing_faults_change_nothing(
    s3_server: S3Server, proxy: FaultProxy, direct: Storage, call: str, fault: FaultKind
) -> None:
    storage = through(proxy, s3_server, direct)
    proxy.fail(fault, times=2)
    seen = CALLS[call](storage)
    assert proxy.faults_met() == 2 or fault == "truncate"
    proxy.heal()
    match call:
        case "list":
            assert [entry.path for entry in seen] == ["log/1", "log/2"]
        case "read":
            assert seen == b"log/1" * 20
        case "range":
            assert seen == b"og/"
        case "ranges":
            assert seen == [(b"log/1" * 20)[n : n + 2] for n in range(20)]
        case "read many":
            assert seen == [b"log/1" * 20, b"log/2" * 20] * 5
        case "write":
            assert direct.read("new") == b"data"
        case "publish":
            assert seen is True
            assert direct.read("log/3") == b"data"
        case "remove":
            assert not direct.exists("log/1")
        case "remove tree":
            assert direct.list(recursive=True) == []
        case "exists":
            assert seen is True


@pytest.mark.sampled(3)
@pytest.mark.parametrize("fault", ["lose", "reset", "slow down"])
@pytest.mark.parametrize("times", [1, 2, 3])
def test_a_commit_whose_answer_was_lost_is_known_to_be_ours_or_not(
    s3_server: S3Server, proxy: FaultProxy, direct: Storage, fault: FaultKind, times: int
) -> None:
    storage = through(proxy, s3_server, direct)
    proxy.fail(fault, times=times, where="^PUT")
    assert storage.publish("log/3", b"ours")
    proxy.fail(fault, times=times, where="^PUT")
    assert not storage.publish("log/3", b"other")
    assert direct.read("log/3") == b"ours"
    proxy.fail(fault, times=times, where="^PUT")
    assert not storage.publish("log/1", b"other")
    assert direct.read("log/1") == b"log/1" * 20


def test_a_commit_that_nobody_can_tell_of_is_an_error_that_says_so(
    s3_server: S3Server, proxy: FaultProxy, direct: Storage
) -> None:
    storage = through(proxy, s3_server, direct, **IMPATIENT)
    proxy.fail("lose", where="^PUT")
    proxy.fail("silence", where="^GET", also=True)
    with pytest.raises(DeadlineError, match="may still"):
        storage.publish("log/3", b"ours")
    proxy.heal()
    assert direct.read("log/3") == b"ours"
    assert not through(proxy, s3_server, direct).publish("log/3", b"again, with another token")


@pytest.mark.sampled(3)
@pytest.mark.parametrize("fault", ["reset", "slow down", "lose"])
@pytest.mark.parametrize("where", ["^POST .*uploads", "^PUT .*partNumber", "^POST .*uploadId"])
def test_large_files_get_over_passing_faults(
    s3_server: S3Server, proxy: FaultProxy, direct: Storage, fault: FaultKind, where: str, tmp_path: Path
) -> None:
    source = tmp_path / "source"
    source.write_bytes(secrets.token_bytes(17 * 2**20))
    storage = through(proxy, s3_server, direct, multipart_part_size_mb=5)
    proxy.fail(fault, times=2, where=where)
    storage.write_file("large", source)
    assert proxy.faults_met() == 2
    sizes = [r.sent_bytes for r in proxy.requests() if "partNumber" in r.target]
    assert max(sizes) == 5 * 2**20
    assert direct.read("large") == source.read_bytes()


def test_a_large_file_that_could_not_be_put_changes_nothing(
    s3_server: S3Server, proxy: FaultProxy, direct: Storage, tmp_path: Path
) -> None:
    source = tmp_path / "source"
    source.write_bytes(secrets.token_bytes(17 * 2**20))
    storage = through(proxy, s3_server, direct, **{**IMPATIENT, "multipart_part_size_mb": 5})
    proxy.fail("silence", where="partNumber=2")
    with pytest.raises(StorageError, match="cannot write"):
        storage.write_file("log/1", source)
    assert direct.read("log/1") == b"log/1" * 20
    assert any(r.method == "DELETE" and "uploadId" in r.target for r in proxy.requests())


def test_a_body_that_never_comes_whole_is_an_error_and_never_returned(
    s3_server: S3Server, proxy: FaultProxy, direct: Storage
) -> None:
    storage = through(proxy, s3_server, direct, **IMPATIENT)
    proxy.fail("truncate", where="^GET")
    for call in ("read", "range", "ranges", "read many"):
        with pytest.raises(StorageError):
            CALLS[call](storage)


def test_reads_of_one_call_are_under_way_together(
    s3_server: S3Server, proxy: FaultProxy, direct: Storage
) -> None:
    storage = through(proxy, s3_server, direct, max_parallel_ops=4)
    proxy.latency(0.2)
    for call in ("ranges", "read many"):
        proxy.requests(clear=True)
        CALLS[call](storage)
        assert max(request.beside for request in proxy.requests()) + 1 in (3, 4)


def test_the_deadline_grows_with_what_is_moved(
    s3_server: S3Server, proxy: FaultProxy, direct: Storage
) -> None:
    data = secrets.token_bytes(4 * 2**20)
    direct.write("large", data)
    storage = through(proxy, s3_server, direct, **IMPATIENT)
    proxy.latency(DEADLINE_S + 1)
    slowly = {"request_timeout_ms": 10_000, "connect_timeout_ms": 10_000}
    patient = through(proxy, s3_server, direct, **{**IMPATIENT, **slowly})
    with pytest.raises(DeadlineError):
        storage.range("log/1", 0, 10)
    assert patient.range("large", 0, len(data)) == data
    patient.write("large", data[::-1])
    assert direct.read("large") == data[::-1]
