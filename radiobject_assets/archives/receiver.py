"""The receiver: a storage SCP (PS3.4, annex B) over pynetdicom, for scanners and archives that send.

An instance is written as it comes, so that memory does not grow with it, and answered with success when it is
on the disk. Nothing that a sender says is logged but its address.
"""

from __future__ import annotations

import contextlib
import logging
import ssl
import tempfile
import threading
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from radiobject_assets.archives.deliveries import source_folder
from radiobject_assets.archives.receiving import PROCESSING_FAILURE, Reception
from radiobject_assets.archives.study_notes import INCOMING
from radiobject_assets.dataset.dataset_yaml import RECEIVED
from radiobject_assets.dataset.source_section import ReceiverConfig
from radiobject_assets.errors import ConfigurationError, LockedError
from radiobject_assets.imaging.pixels.acceptance import COMPRESSED, UNCOMPRESSED
from radiobject_assets.system.folders import make_folder
from radiobject_assets.system.locks import file_lock

if TYPE_CHECKING:
    from pynetdicom.ae import ApplicationEntity
    from pynetdicom.events import Event

_log = logging.getLogger(__name__)
_SILENCE_S = 120.0
_POLL_S = 0.5
_VERIFICATION = "1.2.840.10008.1.1"
# A rejection (PS3.8, table 9-21): permanent, by the service user, calling AE title not recognized.
_NOT_KNOWN = (0x01, 0x01, 0x03)


def receive(
    config: ReceiverConfig,
    landing: Path,
    *,
    folder: Path = Path(),
    marker: str = "_COMPLETE",
    stop: threading.Event | None = None,
    on_ready: Callable[[int], None] = lambda port: None,
    on_delivered: Callable[[str], None] = lambda study: None,
) -> None:
    """Listen, take in and deliver, until `stop` is set. One process for a landing zone.

    Parameters
    ----------
    config
        `receiver` of dataset.yaml.
    landing
        The landing zone that it delivers into; made where it is missing.
    folder
        Where relative paths of the section begin.
    marker
        `arrivals.complete_marker`.
    on_ready
        Called with the port when senders may come.
    on_delivered
        Called with the token of each study that became an arrival, or a larger one.

    Raises
    ------
    ConfigurationError
        The extra `archives` is not installed, a certificate can't be read, the port is taken, or another
        receiver delivers into this landing zone.
    OSError
        The landing zone can't be written.
    """
    try:
        from pynetdicom import _config
    except ImportError:
        raise ConfigurationError(
            "the receiver needs the extra `archives`: pip install 'radiobject-assets[archives]'"
        ) from None
    own = source_folder(landing, RECEIVED)
    make_folder(str(own / INCOMING))
    reception = Reception(
        landing,
        marker=marker,
        quiet_period_s=config.quiet_period_s,
        keep_free_bytes=config.keep_free_gb * 2**30,
    )
    stop = stop or threading.Event()
    with contextlib.ExitStack() as held:
        try:
            held.enter_context(file_lock(own / "lock", wait_s=0))
        except LockedError:
            raise ConfigurationError(
                "another receiver delivers into this landing zone; end it first"
            ) from None
        for left in (own / INCOMING).iterdir():
            left.unlink()
        reception.recover()
        # instances come in on the landing zone's disk, so that a rename is enough; others use neither here
        held.callback(setattr, tempfile, "tempdir", tempfile.tempdir)
        held.callback(setattr, _config, "STORE_RECV_CHUNKED_DATASET", _config.STORE_RECV_CHUNKED_DATASET)
        tempfile.tempdir, _config.STORE_RECV_CHUNKED_DATASET = str(own / INCOMING), True
        _serve(config, folder, reception, own / INCOMING, stop, on_ready, on_delivered)


def _serve(
    config: ReceiverConfig,
    folder: Path,
    reception: Reception,
    incoming: Path,
    stop: threading.Event,
    on_ready: Callable[[int], None],
    on_delivered: Callable[[str], None],
) -> None:
    from radiobject_assets.archives.listening import listen

    for noisy in ("pynetdicom", "pydicom"):  # they log what senders say
        logging.getLogger(noisy).setLevel(logging.CRITICAL + 1)
    warnings.filterwarnings("ignore", module="pydicom")
    desk = _Desk(config, reception)
    try:
        server = listen(_entity(config), (config.host, config.port), _tls(config, folder), desk.handlers())
    except OSError as error:
        raise ConfigurationError(
            f"the receiver can't listen on {config.host} port {config.port}: {error.strerror}"
        ) from None
    try:
        on_ready(server.server_address[1])
        while not stop.wait(_POLL_S):
            _remove_old(incoming)
            try:
                desk.notice_the_dead()
                for study in reception.deliver_closed():
                    on_delivered(study)
            except OSError as error:
                _log.error("the landing zone can't be written: %s; it is tried again", error.strerror)
                stop.wait(10 * _POLL_S)
    finally:
        server.shutdown()


def _entity(config: ReceiverConfig) -> ApplicationEntity:
    from pynetdicom import AE, AllStoragePresentationContexts

    entity = AE(ae_title=config.ae_title)
    entity.require_called_aet = True
    entity.maximum_associations = config.associations
    entity.network_timeout = entity.dimse_timeout = _SILENCE_S
    syntaxes = [*sorted(UNCOMPRESSED), *sorted(COMPRESSED)]
    for context in AllStoragePresentationContexts:
        entity.add_supported_context(str(context.abstract_syntax), syntaxes)
    entity.add_supported_context(_VERIFICATION)
    return entity


class _Desk:
    """What is done at each event of an association."""

    def __init__(self, config: ReceiverConfig, reception: Reception) -> None:
        self._config, self._reception = config, reception
        self._lock = threading.Lock()
        self._numbers: dict[Any, int] = {}
        self._next = 0

    def handlers(self) -> list[Any]:
        """For pynetdicom."""
        from pynetdicom import evt

        return [
            (evt.EVT_REQUESTED, self.requested),
            (evt.EVT_ACCEPTED, self.accepted),
            (evt.EVT_C_STORE, self.store),
            (evt.EVT_RELEASED, self.released),
            (evt.EVT_ABORTED, self.aborted),
            (evt.EVT_CONN_CLOSE, self.aborted),  # one that was released before is known to have ended
        ]

    def requested(self, event: Event) -> None:
        association = event.assoc
        address = str(association.requestor.address)
        title = str(getattr(association.requestor.primitive, "calling_ae_title", "")).strip()
        if not self._config.may_send(title, address):
            _log.warning("a caller from %s was turned away: it is not among `callers`", address)
            association.acse.send_reject(*_NOT_KNOWN)
            association.is_rejected = True
            association.kill()

    def accepted(self, event: Event) -> None:
        with self._lock:
            self._numbers[event.assoc] = self._next
            self._next += 1
            number = self._numbers[event.assoc]
        self._reception.begin(number)

    def store(self, event: Event) -> int:
        try:
            number = self._numbers[event.assoc]
            uid = str(getattr(event.request, "AffectedSOPInstanceUID", ""))
            return self._reception.take(number, Path(event.dataset_path), uid)
        except Exception as error:  # noqa: BLE001 - its text may quote what was sent; the sender keeps it
            _log.error("an instance was refused by an error that is not known: %s", type(error).__name__)
            return PROCESSING_FAILURE

    def released(self, event: Event) -> None:
        self._end(event.assoc, in_order=True)

    def aborted(self, event: Event) -> None:
        self._end(event.assoc, in_order=False)

    def notice_the_dead(self) -> None:
        with self._lock:
            dead = [one for one in self._numbers if not one.is_alive()]
        for one in dead:
            self._end(one, in_order=False)

    def _end(self, association: Any, *, in_order: bool) -> None:
        with self._lock:
            number = self._numbers.pop(association, None)
        if number is not None:
            self._reception.end(number, in_order=in_order)


def _tls(config: ReceiverConfig, folder: Path) -> ssl.SSLContext | None:
    if config.certificate is None or config.private_key is None:
        return None
    try:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.load_cert_chain(folder / config.certificate, folder / config.private_key)
        if config.callers_ca is not None:
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(folder / config.callers_ca)
        return context
    except (OSError, ssl.SSLError) as error:
        raise ConfigurationError(
            f"`receiver`: a certificate or key can't be read: {error.strerror or 'it is none'}"
        ) from None


def _remove_old(incoming: Path) -> None:
    # what an association that broke off leaves; one that lives writes to its own
    for path in incoming.iterdir():
        with contextlib.suppress(OSError):
            if time.time() - path.stat().st_mtime > 2 * _SILENCE_S:
                path.unlink()
