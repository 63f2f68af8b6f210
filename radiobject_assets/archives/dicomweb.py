"""An archive that speaks DICOMweb: what it lists (QIDO-RS, PS3.18 section 10.6) and sends (WADO-RS, 10.4).

Its answers are not taken at their word. Pages are asked for until one brings nothing new, since a server may
give fewer results than it was asked for and not say so; an answer without a length is refused, since nobody
would see that it was cut.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, timedelta
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

from radiobject_assets.dataset.source_section import SERIES_FILTERS, SourceConfig
from radiobject_assets.errors import ArchiveError, ConfigurationError
from radiobject_assets.imaging.dicom.suppressed_output import pydicom_quietly

if TYPE_CHECKING:
    import requests
    from pydicom import Dataset

_PAGE = 200
_STORED_FORM = (("application/dicom", "*"),)  # as it is there: no conversion on the way
_STUDY_UID, _SERIES_UID, _SOP_UID = "0020000D", "0020000E", "00080018"
_OF_STUDY, _OF_SERIES = "00201208", "00201209"
_CONNECT_S = 10.0


@dataclass(frozen=True)
class ListedStudy:
    """A study, as the archive lists it."""

    uid: str
    announced: int | None
    """NumberOfStudyRelatedInstances."""


@dataclass(frozen=True)
class ListedSeries:
    """A series, as the archive lists it."""

    uid: str
    announced: int | None
    """NumberOfSeriesRelatedInstances."""
    is_wanted: bool
    """Whether the query asks for it."""


@dataclass(frozen=True)
class Listed:
    """Studies that fit a query."""

    studies: tuple[ListedStudy, ...]
    doubt: str = ""
    """Why there may be more that the archive did not list; "" if nothing says so."""


class Archive:
    """An archive, asked in the way that its section of dataset.yaml says.

    Parameters
    ----------
    name
        Of the source: messages name it, never a UID, and never the text of an answer.
    folder
        Where relative paths of the section begin.

    Raises
    ------
    ConfigurationError
        The extra `archives` is not installed, or a variable of the environment is not set.
    """

    def __init__(self, name: str, source: SourceConfig, folder: Path = Path()) -> None:
        try:
            from dicomweb_client.web import DICOMwebClient
        except ImportError:
            raise ConfigurationError(
                "sources need the extra `archives`: pip install 'radiobject-assets[archives]'"
            ) from None
        for noisy in ("dicomweb_client", "urllib3", "retrying"):  # they log URLs, and with them UIDs
            logging.getLogger(noisy).setLevel(logging.CRITICAL)
        self._name, self._source = name, source
        self._client = DICOMwebClient(
            source.url.rstrip("/"),
            session=_session(source, folder),
            callback=_with_a_length,
            permissive_uid=True,
            timeout=(min(_CONNECT_S, source.timeout_s), source.timeout_s),
        )
        self._client.set_http_retry_params(retry=False)

    def studies(self, today: date) -> Listed:
        """All studies that fit the query."""
        found: dict[str, ListedStudy] = {}
        doubts: list[str] = []
        for filters in study_queries(self._source, today):
            answers, doubt = self._pages(_STUDY_UID, self._client.search_for_studies, search_filters=filters)
            doubts.append(doubt)
            found.update({uid: ListedStudy(uid, _number(one, _OF_STUDY)) for uid, one in answers.items()})
        return Listed(tuple(found.values()), next(filter(None, doubts), ""))

    def study(self, uid: str) -> ListedStudy | None:
        """A study that fits the query, whatever its day; None where the archive has none."""
        for filters in study_queries(self._source.model_copy(update={"days": None}), date.min):
            wanted = {"StudyInstanceUID": uid, **filters}
            answers, _ = self._pages(_STUDY_UID, self._client.search_for_studies, search_filters=wanted)
            if uid in answers:
                return ListedStudy(uid, _number(answers[uid], _OF_STUDY))
        return None

    def series(self, study: str) -> list[ListedSeries]:
        """All series of a study, and which of them the query asks for."""
        filters = {key: value for key, value in self._source.query.items() if key in SERIES_FILTERS}
        answers, _ = self._pages(
            _SERIES_UID, self._client.search_for_series, study_instance_uid=study, fields=sorted(filters)
        )
        return [
            ListedSeries(uid, _number(one, _OF_SERIES), self._is_wanted(study, uid, one, filters))
            for uid, one in answers.items()
        ]

    def _is_wanted(
        self, study: str, series: str, answer: Mapping[str, Any], filters: Mapping[str, Any]
    ) -> bool:
        tags = {keyword: self._client.lookup_tag(keyword) for keyword in filters}
        untold = [keyword for keyword, tag in tags.items() if tag not in answer]
        if untold:
            # an archive need not list every attribute; to take it as empty would pass over all its series
            first = next(iter(self.instances(study, series)), None)
            if first is None:
                raise ArchiveError(f"source {self._name}: the archive does not tell {untold[0]} of a series")
            with self._explained(f"the archive does not list {untold[0]} of a series; reading it"):
                header = self._client.retrieve_instance_metadata(study, series, first)
                answer = {**{tag: header.get(tag, {}) for tag in tags.values()}, **answer}
        return all(_fits(_text(answer, tags[keyword]), wanted) for keyword, wanted in filters.items())

    def instances(self, study: str, series: str) -> list[str]:
        """SOPInstanceUIDs of a series."""
        answers, _ = self._pages(
            _SOP_UID,
            self._client.search_for_instances,
            study_instance_uid=study,
            series_instance_uid=series,
        )
        return list(answers)

    def retrieve_series(self, study: str, series: str) -> Iterator[Dataset]:
        """Instances of a series as they come, until all have come or the connection breaks."""
        with self._explained("sending a series"):
            answers = self._client.iter_series(study, series, media_types=_STORED_FORM)
        while True:
            with self._explained("sending a series"):
                dataset = next(answers, None)
            if dataset is None:
                return
            yield dataset

    def retrieve_instance(self, study: str, series: str, instance: str) -> Dataset:
        """One instance."""
        with self._explained("sending an instance"):
            return self._client.retrieve_instance(study, series, instance, media_types=_STORED_FORM)

    def _pages(
        self, key: str, search: Callable[..., list[dict[str, Any]]], **asked: Any
    ) -> tuple[dict[str, dict[str, Any]], str]:
        found: dict[str, dict[str, Any]] = {}
        offset = 0
        while True:
            with self._explained("listing"):
                page = search(limit=_PAGE, offset=offset, **asked)
                new = {uid: one for one in page if (uid := _text(one, key)) and uid not in found}
            if not page:
                return found, ""
            if not new:
                # the same again: the archive passes over `offset`
                return found, "it gives the same results on every page, so it may have more than it lists"
            found.update(new)
            offset += len(page)

    @contextmanager
    def _explained(self, doing: str) -> Iterator[None]:
        import requests

        try:
            with pydicom_quietly():
                yield
        except requests.HTTPError as error:
            status = error.response.status_code if error.response is not None else 0
            raise ArchiveError(f"source {self._name}, {doing}: {_said(status)}") from None
        except (requests.Timeout, requests.exceptions.RetryError):
            seconds = f"{self._source.timeout_s:g} s"
            raise ArchiveError(f"source {self._name}, {doing}: no answer for {seconds}") from None
        except requests.exceptions.SSLError:
            raise ArchiveError(
                f"source {self._name}: its certificate can't be verified; `ca_file` names who signed it"
            ) from None
        except (requests.ConnectionError, requests.exceptions.ChunkedEncodingError):
            raise ArchiveError(f"source {self._name}, {doing}: no connection, or it broke") from None
        except ArchiveError as error:
            raise ArchiveError(f"source {self._name}, {doing}: {error}") from None
        except MemoryError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever an answer makes libraries stumble over
            kind = type(error).__name__
            raise ArchiveError(f"source {self._name}, {doing}: an answer can't be read ({kind})") from None


def study_queries(source: SourceConfig, today: date) -> list[dict[str, str]]:
    """The queries for studies that together ask for what is wanted: one for each combination of values."""
    wanted = {key: value for key, value in source.query.items() if key not in SERIES_FILTERS}
    if "Modality" in source.query:
        wanted.setdefault("ModalitiesInStudy", source.query["Modality"])
    if source.days is not None:
        wanted["StudyDate"] = f"{today - timedelta(days=source.days):%Y%m%d}-"
    choices = [[str(one) for one in _several(value)] for value in wanted.values()]
    return [dict(zip(wanted, values, strict=True)) for values in product(*choices)]


def _several(value: str | int | list[str | int]) -> list[str | int]:
    return value if isinstance(value, list) else [value]


def _fits(text: str, wanted: str | int | list[str | int]) -> bool:
    # wild are `*` and `?` alone (PS3.4, C.2.2.2.4): a bracket is a bracket
    patterns = (re.escape(str(one)).replace(r"\*", ".*").replace(r"\?", ".") for one in _several(wanted))
    return any(re.fullmatch(pattern, text, re.DOTALL) for pattern in patterns)


def _text(answer: Mapping[str, Any], key: str) -> str:
    values = answer.get(key, {}).get("Value") or [""]
    return str(values[0]).strip(" \0")


def _number(answer: Mapping[str, Any], key: str) -> int | None:
    text = _text(answer, key)
    return int(text) if text.isdecimal() else None


def _said(status: int) -> str:
    if status in (401, 403):
        return f"it does not let us in (HTTP {status}); see the variables that `sources` names"
    if status == 404:
        return "there is nothing there (HTTP 404); see `url`, or it was deleted meanwhile"
    return f"it answers with HTTP {status}"


def _session(source: SourceConfig, folder: Path) -> requests.Session:
    from dicomweb_client.session_utils import create_session, create_session_from_user_pass

    if source.username_env is not None and source.password_env is not None:
        session = create_session_from_user_pass(_secret(source.username_env), _secret(source.password_env))
    else:
        session = create_session()
        session.trust_env = False if source.token_env is not None else session.trust_env
    if source.token_env is not None:
        session.headers["Authorization"] = f"Bearer {_secret(source.token_env)}"
    if source.ca_file is not None:
        path = folder / source.ca_file
        if not path.is_file():
            raise ConfigurationError(f"`ca_file`: there is no file {path}")
        session.verify = str(path)
    return session


def _secret(variable: str) -> str:
    value = os.environ.get(variable, "")
    if not value:
        raise ConfigurationError(f"the environment variable {variable}, which `sources` names, is not set")
    if value != value.strip() or not value.isprintable():
        # an error of the library that sends it would quote it
        raise ConfigurationError(
            f"the environment variable {variable}, which `sources` names, begins or ends with a space or "
            "line break, or has a control character in it"
        )
    return value


def _with_a_length(response: requests.Response, *_: Any, **__: Any) -> requests.Response:
    headers = response.headers
    if response.status_code == 200 and not (
        "content-length" in headers or "chunked" in headers.get("transfer-encoding", "").lower()
    ):
        raise ArchiveError("an answer has no length, so nobody would see that it was cut")
    return response
