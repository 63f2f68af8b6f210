"""`sources` and `receiver` of dataset.yaml: archives that are asked, and senders that are heard."""

from __future__ import annotations

from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from radiobject_assets.dataset.section import Section, Several

STUDY_FILTERS = frozenset(
    {
        *("StudyDate", "StudyTime", "AccessionNumber", "ModalitiesInStudy", "ReferringPhysicianName"),
        *("PatientName", "PatientID", "StudyInstanceUID", "StudyID", "StudyDescription", "InstitutionName"),
    }
)
"""Keywords that a query for studies may have (PS3.18, table 10.6.1-5, and what most archives add)."""
SERIES_FILTERS = frozenset(
    {
        *("Modality", "SeriesInstanceUID", "SeriesNumber", "SeriesDescription", "BodyPartExamined"),
        *("ProtocolName", "StationName", "Manufacturer", "Laterality"),
    }
)
"""Keywords that choose among the series of a study."""

_VARIABLE = r"^[A-Za-z_][A-Za-z0-9_]*$"
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
Variable = Annotated[str, Field(pattern=_VARIABLE)]
AeTitle = Annotated[str, Field(pattern=r"^[!-\[\]-~]([ -\[\]-~]{0,14}[!-\[\]-~])?$")]


class SourceConfig(Section):
    """One archive that speaks DICOMweb: what it is asked for, how often, and how it knows us."""

    url: Annotated[str, Field(pattern=r"^https?://[^/]")]
    """Root of its DICOMweb services: `https://pacs.example.org/dicom-web`."""
    query: dict[str, str | int | list[str | int]] = Field(default_factory=dict)
    """What is wanted, by DICOM keyword: `{Modality: [CT, PT], StudyDate: 20260101-}`. Of several values each
    is asked for; `*` and `?` stand for any text and any letter. Keywords of a series choose among the series
    of a study."""
    days: Annotated[int, Field(ge=0)] | None = None
    """Only studies of so many days before today; in place of StudyDate."""
    every_s: Annotated[int, Field(ge=30)] = 900
    """Seconds between two looks into the archive, while the daemon runs."""
    studies_at_once: Annotated[int, Field(ge=1)] = 20
    """Studies that one pass works on; the next one goes on."""
    quiet_period_s: Annotated[float, Field(ge=0)] = 300.0
    """Seconds for which the archive must list the same instances of a study before it is delivered: a study
    may still be coming in there. 0: at once."""
    numbers: Literal["hold", "pass_over"] = "hold"
    """An archive's numbers of instances that differ from its lists hold a study back. `pass_over`: they are
    known to be wrong there, and its lists alone count."""
    username_env: Variable | None = None
    """Environment variable with the name of the user (HTTP basic authentication)."""
    password_env: Variable | None = None
    """Environment variable with the password."""
    token_env: Variable | None = None
    """Environment variable with a bearer token."""
    ca_file: str | None = None
    """Certificates (PEM) of whoever signed the archive's; without it the usual ones."""
    timeout_s: Annotated[float, Field(gt=0)] = 60.0
    """Seconds without a byte after which the archive is given up for this time."""
    into: str | None = None
    """Which of the local landing zones it delivers into, as `landing` writes it; by default the first."""

    @field_validator("query")
    @classmethod
    def _known_keywords(
        cls, value: dict[str, str | int | list[str | int]]
    ) -> dict[str, str | int | list[str | int]]:
        for keyword, wanted in value.items():
            if keyword not in STUDY_FILTERS | SERIES_FILTERS:
                allowed = ", ".join(sorted(STUDY_FILTERS | SERIES_FILTERS))
                raise ValueError(f"{keyword!r} can't be asked for; use one of {allowed}")
            if wanted in ([], ""):
                raise ValueError(f"{keyword!r} has no value: it would match everything")
        return value

    @model_validator(mode="after")
    def _secrets_are_kept(self) -> SourceConfig:
        place = urlsplit(self.url)
        if place.username or place.password or place.query or place.fragment:
            raise ValueError(
                "url: no user, password or query in it; name environment variables in `username_env`, "
                "`password_env` or `token_env`"
            )
        if (self.username_env is None) != (self.password_env is None):
            raise ValueError("`username_env` and `password_env` go together")
        if self.token_env is not None and self.username_env is not None:
            raise ValueError("either `token_env` or `username_env` and `password_env`")
        if self.has_secret and place.scheme != "https" and place.hostname not in _LOOPBACK:
            raise ValueError("url: a password or token is only sent over https, or to this machine")
        if self.days is not None and "StudyDate" in self.query:
            raise ValueError("either `days` or `query.StudyDate`")
        return self

    @property
    def has_secret(self) -> bool:
        """Whether it is told a password or token."""
        return self.token_env is not None or self.username_env is not None


class ReceiverConfig(Section):
    """The receiver (`radiobject-assets receive`): a scanner or PACS sends to it by C-STORE."""

    ae_title: AeTitle = "RADIOBJECT"
    """What it is called by (called AE title); who calls something else is turned away."""
    callers: dict[AeTitle, str | Several | None] = Field(default_factory=dict)
    """Who may send: calling AE titles, each with its IP address, several, or none for any:
    `{SCANNER1: 10.1.2.3, PACS: }`. Without it anybody who reaches the port."""
    host: str = "127.0.0.1"
    """Address to listen on; `0.0.0.0` for all of this machine's."""
    port: Annotated[int, Field(ge=0, le=65535)] = 11112
    """Port to listen on; 0 for one that is free."""
    certificate: str | None = None
    """Certificate (PEM) for TLS; without it nothing is encrypted."""
    private_key: str | None = None
    """Its key (PEM)."""
    callers_ca: str | None = None
    """Certificates (PEM) of who signs those of the callers: then only they are let in."""
    quiet_period_s: Annotated[float, Field(ge=0)] = 60.0
    """Seconds after the last association that sent of a study, after which it is closed and delivered."""
    keep_free_gb: Annotated[float, Field(ge=0)] = 1.0
    """Gigabytes (of 2^30 bytes) of the landing zone's disk below which instances are refused (status A700,
    out of resources) and the sender keeps them."""
    associations: Annotated[int, Field(ge=1)] = 8
    """How many may send at once; others are told to come again."""
    into: str | None = None
    """Which of the local landing zones it delivers into, as `landing` writes it; by default the first."""

    @model_validator(mode="after")
    def _certificates_are_whole(self) -> ReceiverConfig:
        if (self.certificate is None) != (self.private_key is None):
            raise ValueError("`certificate` and `private_key` go together")
        if self.callers_ca is not None and self.certificate is None:
            raise ValueError("`callers_ca` needs `certificate` and `private_key`")
        return self

    def may_send(self, ae_title: str, address: str) -> bool:
        """Whether somebody of that calling AE title and IP address is let in."""
        if not self.callers:
            return True
        if ae_title not in self.callers:
            return False
        known = self.callers[ae_title]
        return known is None or address in ([known] if isinstance(known, str) else known)
