"""Senders: pynetdicom, dcmtk and a real Orthanc send to a real receiver, which is killed in between."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pydicom
import pytest
import requests
from pynetdicom import AE, build_context
from pynetdicom.association import Association

from radiobject_assets.archives.deliveries import uid_token
from radiobject_assets.archives.open_studies import open_studies
from radiobject_assets.archives.receiving import Reception
from radiobject_assets.dataset.dataset_yaml import load_dataset
from radiobject_assets.diagnostics.arrival_rules import archives_sent_all
from radiobject_assets.diagnostics.findings import Kind
from radiobject_assets.diagnostics.kinds import NOT_DELIVERED
from tests.archives.conftest import arrivals, assert_same, uids
from tests.archives.orthanc import Orthanc, free_port

SUCCESS, OUT_OF_RESOURCES = 0x0000, 0xA700


@dataclass
class Receiver:
    """`radiobject-assets receive` as a process of its own."""

    folder: Path
    settings: str = "quiet_period_s: 1"
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    @property
    def landing(self) -> Path:
        return self.folder / "landing"

    @property
    def log(self) -> str:
        return (self.folder / "receiver.log").read_text(encoding="utf-8")

    def start(self) -> None:
        path = self.folder / "dataset.yaml"
        path.write_text(f"receiver: {{port: {self.port}, {self.settings}}}\n", encoding="utf-8")
        log = self.folder / "receiver.log"
        before = log.read_text().count("listens on") if log.exists() else 0
        command = [sys.executable, "-m", "radiobject_assets.cli", "receive", "--dataset", str(path)]
        with log.open("ab") as file:
            self.process = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT)
        until(lambda: self.log.count("listens on") > before or self.process.poll() is not None)
        assert self.process.poll() is None, self.log

    def stop(self, number: int = signal.SIGKILL) -> None:
        if self.process is not None:
            self.process.send_signal(number)
            self.process.wait()
            self.process = None


@pytest.fixture
def receiver(tmp_path: Path) -> Iterator[Receiver]:
    one = Receiver(tmp_path)
    yield one
    one.stop()


def until(what: Callable[[], Any], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "it did not come to that"
        time.sleep(0.05)


def sender(
    port: int, files: list[Path], title: str = "SCANNER", called: str = "RADIOBJECT", **tls: Any
) -> Association:
    entity = AE(ae_title=title)
    entity.dimse_timeout = 10  # for the answer of a receiver that was killed
    read = [pydicom.dcmread(f, stop_before_pixels=True) for f in files]
    pairs = {(str(one.SOPClassUID), str(one.file_meta.TransferSyntaxUID)) for one in read}
    contexts = [build_context(*pair) for pair in sorted(pairs)] or [build_context("1.2.840.10008.1.1")]
    return entity.associate("127.0.0.1", port, contexts, ae_title=called, **tls)


def send(association: Association, files: list[Path]) -> list[int]:
    assert association.is_established
    return [getattr(association.send_c_store(pydicom.dcmread(f)), "Status", -1) for f in files]


def test_what_is_sent_becomes_an_arrival_when_it_has_been_quiet(
    receiver: Receiver, phantoms: list[list[Path]], real_series: list[Path]
) -> None:
    receiver.start()
    files = [*phantoms[0], *real_series]
    association = sender(receiver.port, files)
    assert set(send(association, files)) == {SUCCESS}
    time.sleep(2)
    assert arrivals(receiver.landing) == []  # the sender has not ended
    association.release()
    studies = {str(one.StudyInstanceUID) for one in uids(files).values()}
    until(lambda: len(list(receiver.landing.glob("*/_COMPLETE"))) == len(studies))
    assert_same(uids(files), uids(receiver.landing))
    said = receiver.log + "".join(str(p) for p in receiver.landing.rglob("*"))
    for one in uids(files).values():
        for name in ("PatientName", "PatientID", "StudyInstanceUID", "SOPInstanceUID"):
            assert not (value := str(one.get(name, ""))) or value not in said


def test_somebody_who_is_not_known_is_turned_away(receiver: Receiver, phantoms: list[list[Path]]) -> None:
    receiver.settings = "callers: {SCANNER: 127.0.0.1, PACS: 192.0.2.1, WARD: }, quiet_period_s: 1"
    receiver.start()
    assert sender(receiver.port, phantoms[0], "STRANGER").is_rejected
    assert sender(receiver.port, phantoms[0], "PACS").is_rejected  # it is not at this address
    assert sender(receiver.port, phantoms[0], called="SOMEBODY").is_rejected
    for title in ("SCANNER", "WARD"):
        association = sender(receiver.port, [], title)
        assert association.is_established
        assert association.send_c_echo().Status == SUCCESS
        association.release()
    assert "STRANGER" not in receiver.log


def test_a_study_whose_sender_broke_off_is_no_arrival_until_it_was_sent_again(
    receiver: Receiver, phantoms: list[list[Path]]
) -> None:
    receiver.start()
    files = phantoms[0]
    association = sender(receiver.port, files)
    send(association, files[:10])
    association.abort()
    time.sleep(3)
    assert arrivals(receiver.landing) == []
    settings = load_dataset(receiver.folder / "dataset.yaml")
    assert open_studies(settings, time.time()).found == ()  # not yet worth a word
    (told,) = open_studies(settings, time.time() + 4000).found
    assert told.said == "the sender broke off and has not come back"
    again = sender(receiver.port, files)
    assert set(send(again, files)) == {SUCCESS}
    again.release()
    until(lambda: list(receiver.landing.glob("*/_COMPLETE")))
    assert_same(uids(files), uids(receiver.landing))
    assert open_studies(settings, time.time() + 4000).found == ()


def test_a_study_that_nobody_sends_again_is_delivered_when_somebody_says_so(
    receiver: Receiver, phantoms: list[list[Path]]
) -> None:
    receiver.start()
    association = sender(receiver.port, phantoms[0])
    send(association, phantoms[0][:4])
    association.abort()
    settings = load_dataset(receiver.folder / "dataset.yaml")
    until(lambda: open_studies(settings, time.time() + 4000).found)
    (told,) = open_studies(settings, time.time() + 4000).found
    command = [sys.executable, "-m", "radiobject_assets.cli", "receive", "--deliver", told.study]
    subprocess.run(command, cwd=receiver.folder, check=True)
    until(lambda: list(receiver.landing.glob("*/_COMPLETE")))
    assert_same(uids(phantoms[0][:4]), uids(receiver.landing))
    assert subprocess.run(command, cwd=receiver.folder, check=False).returncode == 1


def test_a_receiver_that_is_killed_has_what_it_said_yes_to(
    receiver: Receiver, phantoms: list[list[Path]]
) -> None:
    files, answered = phantoms[0], set[Path]()
    for part in (3,):
        receiver.start()
        association = sender(receiver.port, files)
        for number, file in enumerate(files):
            if number == part * len(files) // 5:
                assert receiver.process is not None
                receiver.process.send_signal(signal.SIGKILL)
            try:
                status = getattr(association.send_c_store(pydicom.dcmread(file)), "Status", -1)
            except RuntimeError:
                break
            answered |= {file} if status == SUCCESS else set()
        receiver.stop()
        assert arrivals(receiver.landing) == []
        here = {str(pydicom.dcmread(f).SOPInstanceUID) for f in receiver.landing.rglob("[0-9a-f]*.dcm")}
        assert {str(pydicom.dcmread(f).SOPInstanceUID) for f in answered} <= here
    receiver.start()
    time.sleep(2)
    assert arrivals(receiver.landing) == []
    association = sender(receiver.port, files)
    assert set(send(association, files)) == {SUCCESS}
    association.release()
    until(lambda: list(receiver.landing.glob("*/_COMPLETE")))
    assert_same(uids(files), uids(receiver.landing))


def test_a_disk_without_room_is_told_to_the_sender_and_nothing_is_seen(
    receiver: Receiver, phantoms: list[list[Path]]
) -> None:
    files = phantoms[0]
    receiver.start()
    association = sender(receiver.port, files)
    send(association, files[:5])
    association.release()
    until(lambda: list(receiver.landing.glob("*/_COMPLETE")))
    receiver.stop(signal.SIGTERM)
    receiver.settings = "keep_free_gb: 1000000, quiet_period_s: 1"
    receiver.start()
    association = sender(receiver.port, files)
    assert set(send(association, files[5:8])) == {OUT_OF_RESOURCES}
    association.release()
    time.sleep(2)
    assert_same(uids(files[:5]), uids(receiver.landing))
    receiver.stop(signal.SIGTERM)
    receiver.settings = "quiet_period_s: 1"
    receiver.start()
    association = sender(receiver.port, files)
    send(association, files[5:7])
    association.release()
    time.sleep(3)
    assert_same(uids(files[:5]), uids(receiver.landing))  # one that was refused has not come again
    association = sender(receiver.port, files)
    send(association, files[7:8])
    association.release()
    until(lambda: len(uids(receiver.landing)) == 8)


@pytest.mark.slow
def test_a_disk_that_is_really_full_loses_nothing(receiver: Receiver, phantoms: list[list[Path]]) -> None:
    receiver.landing.mkdir()
    mounted = os.getuid() == 0 and shutil.which("mount") and subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=100k", "tmpfs", str(receiver.landing)], check=False
    ).returncode == 0  # fmt: skip
    if not mounted:
        pytest.skip("a small disk can't be mounted here")
    try:
        receiver.settings = "keep_free_gb: 0, quiet_period_s: 1"
        receiver.start()
        files = phantoms[0]
        association = sender(receiver.port, files)
        statuses = []
        for file in files:
            try:
                statuses.append(getattr(association.send_c_store(pydicom.dcmread(file)), "Status", -1))
            except RuntimeError:  # the association was ended
                break
        assert SUCCESS in statuses
        assert {*statuses} != {SUCCESS}
        accepted = [file for file, status in zip(files, statuses, strict=False) if status == SUCCESS]
        time.sleep(2)
        assert arrivals(receiver.landing) == []
        here = {str(pydicom.dcmread(f).SOPInstanceUID) for f in receiver.landing.rglob("[0-9a-f]*.dcm")}
        assert {str(pydicom.dcmread(f).SOPInstanceUID) for f in accepted} <= here
        subprocess.run(["mount", "-o", "remount,size=50m", str(receiver.landing)], check=True)
        again = sender(receiver.port, files)
        assert set(send(again, files)) == {SUCCESS}
        again.release()
        until(lambda: list(receiver.landing.glob("*/_COMPLETE")))
        assert_same(uids(files), uids(receiver.landing))
    finally:
        receiver.stop()
        subprocess.run(["umount", str(receiver.landing)], check=False)


@pytest.mark.slow
def test_what_comes_after_makes_the_arrival_larger_and_what_came_before_changes_nothing(
    receiver: Receiver, phantoms: list[list[Path]]
) -> None:
    files = phantoms[0]
    receiver.start()
    for part in (files[:8], files[8:]):
        association = sender(receiver.port, files)
        send(association, part)
        association.release()
        until(lambda part=part: len(uids(receiver.landing)) == (8 if part == files[:8] else len(files)))
    marker = next(receiver.landing.glob("*/_COMPLETE"))
    until(marker.exists)
    before = marker.stat().st_ctime_ns
    association = sender(receiver.port, files)
    assert set(send(association, files)) == {SUCCESS}
    association.release()
    time.sleep(3)
    assert marker.stat().st_ctime_ns == before
    assert_same(uids(files), uids(receiver.landing))


def test_a_corrected_instance_takes_the_place_of_the_one_that_was_there(
    receiver: Receiver, phantoms: list[list[Path]], tmp_path: Path
) -> None:
    files = phantoms[0][:4]
    receiver.start()
    first = sender(receiver.port, files)
    send(first, files)
    first.release()
    until(lambda: list(receiver.landing.glob("*/_COMPLETE")))
    corrected = pydicom.dcmread(files[0])
    corrected.SeriesDescription = "CORRECTED"
    corrected.save_as(tmp_path / "corrected.dcm")
    again = sender(receiver.port, files)
    assert send(again, [tmp_path / "corrected.dcm"]) == [SUCCESS]
    again.release()
    until(lambda: uids(receiver.landing)[corrected.SOPInstanceUID].get("SeriesDescription") == "CORRECTED")
    assert len(uids(receiver.landing)) == 4


def test_a_study_that_can_not_be_delivered_holds_up_no_other(
    receiver: Receiver, phantoms: list[list[Path]]
) -> None:
    by_token = sorted(
        (uid_token(str(pydicom.dcmread(files[0]).StudyInstanceUID)), files) for files in phantoms
    )
    (first, bad), (other, good) = by_token
    series = uid_token(str(pydicom.dcmread(bad[0]).SeriesInstanceUID))
    in_the_way = receiver.landing / f"received-{first}"
    in_the_way.mkdir(parents=True)
    (in_the_way / series).write_bytes(b"a file where the series' folder goes")
    receiver.start()
    association = sender(receiver.port, [*bad, *good])
    assert set(send(association, [*bad[:1], *good])) == {SUCCESS}
    association.release()
    until((receiver.landing / f"received-{other}" / "_COMPLETE").exists)
    assert f"study {first} can't be delivered" in receiver.log
    shutil.rmtree(in_the_way)
    until((in_the_way / "_COMPLETE").exists)


def test_what_can_not_be_delivered_is_told_and_delivered_when_the_way_is_free(
    tmp_path: Path, phantoms: list[list[Path]]
) -> None:
    (tmp_path / "dataset.yaml").write_text("receiver: {port: 11112, quiet_period_s: 1}\n", encoding="utf-8")
    settings, landing, now_s = load_dataset(tmp_path / "dataset.yaml"), tmp_path / "landing", [time.time()]
    file, header = tmp_path / "IM1", pydicom.dcmread(phantoms[0][0])
    study = uid_token(str(header.StudyInstanceUID))
    landing.mkdir()
    letter = landing / f"received-{study}"
    letter.write_text("somebody's file")
    shutil.copy(phantoms[0][0], file)
    reception = Reception(landing, quiet_period_s=1, clock=lambda: now_s[0])
    reception.begin(1)
    assert reception.take(1, file, str(header.SOPInstanceUID)) == SUCCESS
    reception.end(1, in_order=True)

    def told(later_s: float) -> list[tuple[Kind, str]]:
        report = archives_sent_all(open_studies(settings, now_s[0] + later_s))
        return [(finding.kind, finding.evidence) for finding in report.findings]

    assert told(60) == []
    assert told(700) == [(NOT_DELIVERED, "no receiver delivers it")]
    now_s[0] += 5
    for _ in range(2):
        with pytest.raises(FileExistsError):
            list(reception.deliver_closed())
    ((kind, said),) = told(90)
    assert kind == NOT_DELIVERED
    assert "is no folder" in said
    assert letter.read_text() == "somebody's file"
    letter.rename(landing / "letter")
    assert list(reception.deliver_closed()) == [study]
    assert_same(uids(phantoms[0][:1]), uids(landing))
    assert told(7000) == []


def test_dcmtk_sends(receiver: Receiver, real_series: list[Path]) -> None:
    if shutil.which("storescu") is None:
        pytest.skip("storescu is not installed (Debian: dcmtk)")
    receiver.start()
    # without a choice of syntaxes it proposes uncompressed ones
    files = [f for f in real_series if not pydicom.dcmread(f).file_meta.TransferSyntaxUID.is_compressed]
    command = ["storescu", "-aec", "RADIOBJECT", "127.0.0.1", str(receiver.port), *map(str, files)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    until(lambda: len(uids(receiver.landing)) == len(files))
    sent, came = uids(files), uids(receiver.landing)
    for uid, one in sent.items():
        if "PixelData" in one:
            assert (came[uid].pixel_array == one.pixel_array).all()


def test_an_orthanc_sends(orthanc: Orthanc, receiver: Receiver, phantoms: list[list[Path]]) -> None:
    receiver.start()
    known = orthanc.add(phantoms[0])
    peer = {"AET": "RADIOBJECT", "Host": "127.0.0.1", "Port": receiver.port}
    requests.put(f"{orthanc.root}/modalities/us", json=peer, timeout=60).raise_for_status()
    study = known[0]["ParentStudy"]
    requests.post(f"{orthanc.root}/modalities/us/store", json=[study], timeout=120).raise_for_status()
    until(lambda: list(receiver.landing.glob("*/_COMPLETE")))
    assert_same(uids(phantoms[0]), uids(receiver.landing))


def test_only_who_has_a_certificate_of_ours_sends_over_tls(
    receiver: Receiver, phantoms: list[list[Path]], tmp_path: Path
) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    for name in ("ours", "theirs"):
        command = [
            "openssl",
            "req",
            "-x509",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-days",
            "2",
            "-subj",
            f"/CN={name}",
        ]
        command += ["-keyout", str(tmp_path / f"{name}.key"), "-out", str(tmp_path / f"{name}.pem")]
        subprocess.run(command, check=True, capture_output=True)
    receiver.settings = (
        "quiet_period_s: 1, certificate: ours.pem, private_key: ours.key, callers_ca: ours.pem"
    )
    receiver.start()

    def over_tls(name: str) -> Association:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.load_verify_locations(tmp_path / "ours.pem")
        context.load_cert_chain(tmp_path / f"{name}.pem", tmp_path / f"{name}.key")
        return sender(receiver.port, phantoms[0], tls_args=(context, None))

    # two who connect and say nothing, and one who goes at once, hold up nobody
    silent = [socket.create_connection(("127.0.0.1", receiver.port)) for _ in range(3)]
    silent.pop().close()
    assert not over_tls("theirs").is_established
    assert not sender(receiver.port, phantoms[0]).is_established  # without TLS
    association = over_tls("ours")
    assert set(send(association, phantoms[0][:3])) == {SUCCESS}
    association.release()
    assert len(silent) == 2
    until(lambda: len(uids(receiver.landing)) == 3)
