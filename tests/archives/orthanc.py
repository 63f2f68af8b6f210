"""A real Orthanc on loopback, with DICOMweb: started, stopped and killed by tests, in one folder."""

from __future__ import annotations

import json
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import requests

_PLUGINS = ("/usr/share/orthanc/plugins", "/usr/lib/orthanc/plugins")


def orthanc_program() -> tuple[str, str] | None:
    """The program and its DICOMweb plugin; None where they are not installed."""
    program = shutil.which("Orthanc") or shutil.which("Orthanc", path="/usr/sbin")
    plugins = [str(path) for folder in _PLUGINS for path in Path(folder).glob("libOrthancDicomWeb*")]
    return (program, plugins[0]) if program and plugins else None


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@dataclass
class Orthanc:
    """One server; what it holds stays over a restart."""

    folder: Path
    settings: Mapping[str, Any] = field(default_factory=dict)
    http: int = field(default_factory=free_port)
    dicom: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    @property
    def root(self) -> str:
        return f"http://127.0.0.1:{self.http}"

    @property
    def url(self) -> str:
        return f"{self.root}/dicom-web"

    def start(self) -> None:
        program = orthanc_program()
        assert program is not None
        self.folder.mkdir(parents=True, exist_ok=True)
        settings = {
            "Name": "archive",
            "StorageDirectory": str(self.folder / "storage"),
            "IndexDirectory": str(self.folder / "storage"),
            "Plugins": [program[1]],
            "HttpPort": self.http,
            "HttpServerEnabled": True,
            "RemoteAccessAllowed": False,
            "AuthenticationEnabled": False,
            "DicomAet": "ARCHIVE",
            "DicomPort": self.dicom,
            "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
            "OverwriteInstances": True,
            **self.settings,
        }
        path = self.folder / "orthanc.json"
        path.write_text(json.dumps(settings), encoding="utf-8")
        log = (self.folder / "orthanc.log").open("ab")
        self.process = subprocess.Popen([program[0], str(path)], stdout=log, stderr=subprocess.STDOUT)
        until = time.monotonic() + 60
        while time.monotonic() < until:
            try:
                if requests.get(f"{self.root}/system", timeout=5).status_code in (200, 401):
                    return
            except requests.ConnectionError:
                pass
            assert self.process.poll() is None, (self.folder / "orthanc.log").read_text(errors="replace")
            time.sleep(0.1)
        raise TimeoutError("Orthanc gave no answer for a minute")

    def stop(self, number: int = signal.SIGTERM) -> None:
        if self.process is not None:
            self.process.send_signal(number)
            self.process.wait(60)
            self.process = None

    def add(self, files: Iterable[Path]) -> list[dict[str, Any]]:
        """Hand instances in; what it says of each."""
        answers = [requests.post(f"{self.root}/instances", data=f.read_bytes(), timeout=60) for f in files]
        for answer in answers:
            answer.raise_for_status()
        return [answer.json() for answer in answers]

    def remove(self, instance: str) -> None:
        """Delete an instance by Orthanc's own id."""
        requests.delete(f"{self.root}/instances/{instance}", timeout=60).raise_for_status()
