"""Errors without identifiers: what an asset or a check may say in the event log.

Dagster keeps the text of every error, and shows it to everybody who may see the lineage. An error from a
decoder names files, folders and ids, all of which may name a patient. So the full text goes to the work
folder, which is as confidential as the images, and the event log gets what is known to be harmless.
"""

from __future__ import annotations

import errno
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg

from radiobject_assets.diagnostics.findings import shown_token
from radiobject_assets.errors import RadiObjectError, StorageError
from radiobject_assets.imaging.reasons import Reason
from radiobject_assets.platform.arrivals.runs import FAULT_METADATA

if TYPE_CHECKING:
    import pandas as pd

    from radiobject_assets.ingest.report import SeriesOutcome
    from radiobject_assets.training.pairing import LeftOut

_REPORT = "last-error.txt"
_OF_THE_MACHINE = {
    errno.EIO,
    errno.ENOSPC,
    errno.EDQUOT,
    errno.ENOMEM,
    errno.EMFILE,
    errno.ENFILE,
    errno.ESTALE,
    errno.ETIMEDOUT,
}


def public_message(error: Exception) -> str:
    """What may be said of an error without naming a patient."""
    if isinstance(error, RadiObjectError):
        return error.public_text
    if isinstance(error, MemoryError):
        return "there is not enough memory"
    kind = type(error).__name__
    if isinstance(error, OSError) and error.strerror:
        return f"a file can't be read or written: {error.strerror} ({kind})"
    return f"an error that this program does not know ({kind})"


def advice_on(error: Exception, report: Path) -> str:
    """What to do about an error: what its cause is known to need; else where to look."""
    known = error.advice if isinstance(error, RadiObjectError) else ""
    if isinstance(error, MemoryError):
        known = "Give the run more memory (RADIOBJECT_MEMORY_MB), or run fewer at once."
    if known or (isinstance(error, RadiObjectError) and error.public_text == str(error)):
        return known  # such a message says itself what to do
    return (
        f"The full report, which may name patients, is in {report} on the machine of the run: its last line "
        "is the error, the lines above say where."
    )


def is_fault_of_machine(error: Exception) -> bool:
    """Whether another try may well succeed: storage, memory or the disk had no room or no answer."""
    from radiobject_assets.store import MissingError

    if isinstance(error, OSError):
        return error.errno in _OF_THE_MACHINE
    return isinstance(error, (StorageError, MemoryError)) and not isinstance(error, MissingError)


def public_outcomes(outcomes: Sequence[SeriesOutcome]) -> pd.DataFrame:
    """Outcomes as a table without identifiers: also without the text of unexpected errors, which quote."""
    from radiobject_assets.ingest.report import outcomes_table

    rows = outcomes_table(outcomes, identifiers=False)
    unexpected = rows["reason"] == Reason.WORKER_DIED.value
    rows.loc[unexpected, "detail"] = "see work/arrivals for what it said"
    return rows


def shown_outcomes(outcomes: Sequence[SeriesOutcome], page: str = "") -> pd.DataFrame:
    """Public outcomes as a page shows the first of them: what was held back on top, few columns.

    Parameters
    ----------
    page
        The collection that the page is of, which its rows need not say.
    """
    import pandas as pd

    told = public_outcomes(outcomes)
    told = told.sort_values("verdict", ascending=False, key=lambda v: v == "quarantined", kind="stable")
    told = told.astype("object").where(told.notna(), "")
    rows = [
        {
            "series": row.series_token,
            "became": row.verdict if row.status == "not_selected" else row.status,
            "collection": row.collection if row.collection != page else "",
            "why": _joined("; ", _joined(": ", row.reason, row.detail), row.also),
            "image": ", ".join(str(part) for part in _image(row) if part),
        }
        for row in told.itertuples(index=False)
    ]
    shown = pd.DataFrame(rows, columns=["series", "became", "collection", "why", "image"])
    return shown.loc[:, [bool((shown[name] != "").any()) for name in shown]]


def _image(row: Any) -> tuple[str, ...]:
    return row.modality, _joined(" ", row.shape, row.dtype), _joined(" ", row.spacing_mm, "mm")


def shown_left_out(images: Sequence[LeftOut]) -> pd.DataFrame:
    """Images that give no patches, by the tokens of their volumes, and why."""
    import pandas as pd

    return pd.DataFrame([{"volume": shown_token(one.volume), "why": one.reason.value} for one in images])


def _joined(between: str, *parts: object) -> str:
    """The parts that are not empty; nothing where the first is."""
    return between.join(str(part) for part in parts if part) if parts[0] else ""


def keep_full_report(error: Exception, folder: Path) -> Path:
    """Write the error with its traceback to the work folder; returns the file."""
    folder.mkdir(parents=True, exist_ok=True)
    report = folder / _REPORT
    report.write_text("".join(traceback.format_exception(error)), encoding="utf-8", errors="replace")
    return report


@contextmanager
def shielded(folder: Path) -> Iterator[None]:
    """Turn any error of the block into a `dagster.Failure` that names no patient and says what to do."""
    try:
        yield
    except dg.Failure:
        raise
    except Exception as error:  # noqa: BLE001 - every error's text must be kept out of the event log
        report = keep_full_report(error, folder)
        advice = advice_on(error, report)
        failure = dg.Failure(
            description=sentences(public_message(error), advice),
            metadata={
                "full_report": dg.MetadataValue.path(str(report)),
                **({"what_to_do": advice} if advice else {}),
                FAULT_METADATA: "machine" if is_fault_of_machine(error) else "item",
            },
        )
    else:
        return
    # raised outside the handler: inside it, Dagster would log the original as this one's context
    raise failure


def sentences(*parts: str) -> str:
    """Parts that are not empty as sentences, one after the other."""
    return " ".join(part if part.endswith((".", "!", "?")) else f"{part}." for part in parts if part)
