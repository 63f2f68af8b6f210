"""Names and tables of the Brain Imaging Data Structure (BIDS 1.9.0) for exported volumes.

BIDS has names for brain MR and PET. What it has no name for (CT, body parts) is laid out in the same way and
listed in `.bidsignore`, so that a validator passes and nothing is left out.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

BIDS_VERSION = "1.9.0"
SEGMENTATIONS = Path("derivatives/segmentations")
# Suffixes of BIDS by the collection that users name after them, with the data type that each belongs to.
_SUFFIXES = {
    suffix.lower(): ("anat", suffix)
    for suffix in (
        *("T1w", "T2w", "PDw", "T2starw", "FLAIR", "inplaneT1", "inplaneT2", "PDT2", "angio", "UNIT1"),
        *("T1map", "T2map", "T2starmap", "R1map", "R2map", "R2starmap", "PDmap", "MTRmap", "MTsat", "Chimap"),
    )
} | {"pet": ("pet", "pet"), "pt": ("pet", "pet"), "bold": ("func", "bold"), "asl": ("perf", "asl")}


class BidsNames:
    """Where each volume goes: `sub-<label>/<datatype>/sub-<label>_acq-<hex>_<suffix>.nii.gz`.

    Where obs has a session or a run, path and name have them too: `ses-<label>` and `run-<number>`.

    A collection named after a BIDS suffix (`t1w`, `flair`, `bold`, `pet`; letter case does not matter) gets
    that suffix and its data type; another gets its own name for both, and an entry in `.bidsignore`.
    Labels go to `derivatives/segmentations` as `dseg`, with the `acq-<hex>` of the image that they are of.

    Parameters
    ----------
    subject_ids
        All subjects of the store. An id of letters and digits is its own label (without `sub-`); another
        loses its other characters and gains a digest, so that a label depends on its subject alone.
    """

    def __init__(self, subject_ids: Iterable[str]) -> None:
        self.labels: dict[str, str] = {}
        self.ignored: set[str] = set()
        taken: set[str] = set()
        for subject_id in sorted(subject_ids):
            plain = subject_id.removeprefix("sub-")
            label = _letters_and_digits(plain)
            # file systems that ignore case would mix A1 with a1
            if label != plain or label.casefold() in taken:
                label = f"{label}x{_digest(subject_id, 8)}"
            taken.add(label.casefold())
            self.labels[subject_id] = label

    def path(self, collection: str, row: Mapping[Any, Any]) -> Path:
        """Path of a volume below the exported folder, from its obs row."""
        subject = f"sub-{self.labels[str(row['obs_subject_id'])]}"
        session, run = _session(row), _run(row)
        above = Path(subject) / session if session else Path(subject)
        begin = f"{subject}_{session}" if session else subject
        name = _letters_and_digits(collection)
        own = _digest(str(row["obs_id"]), 8)
        if row.get("kind") == "labels":
            # called as their image is, so that they find it again among others of its grid
            of, of_collection = _text(row.get("labels_of")), _text(row.get("labels_of_collection"))
            suffix = _SUFFIXES.get(_letters_and_digits(of_collection).lower(), ("", ""))[1]
            entity = "rec" if suffix == "pet" else "acq"
            what = (
                f"{entity}-{_digest(of, 8)}{run}_desc-{name}x{own}" if of else f"acq-{own}{run}_desc-{name}"
            )
            return SEGMENTATIONS / above / "anat" / f"{begin}_{what}_dseg.nii.gz"
        if name.lower() not in _SUFFIXES:
            self.ignored.add(f"sub-*/{'ses-*/' if session else ''}{name}/")
            return above / name / f"{begin}_acq-{own}{run}_{name}.nii.gz"
        datatype, suffix = _SUFFIXES[name.lower()]
        # BIDS wants to know what a subject did; in a clinical series that is lying still
        what = f"task-rest_acq-{own}" if suffix == "bold" else f"acq-{own}"
        if suffix == "pet":
            what = f"trc-unknown_rec-{own}"
        return above / datatype / f"{begin}_{what}{run}_{suffix}.nii.gz"


def write_bids_tables(subjects: pd.DataFrame, out_dir: Path, names: BidsNames) -> None:
    """Write the data set's description, `participants.tsv` and `.bidsignore`.

    Parameters
    ----------
    subjects
        obs_meta: the column `obs_subject_id`, and whatever is known of the subjects.
    """
    out_dir.mkdir(parents=True, exist_ok=True)
    made_by = [{"Name": "radiobject-assets"}]
    raw = {"Name": "Exported by radiobject-assets", "BIDSVersion": BIDS_VERSION, "DatasetType": "raw"}
    _write_json(out_dir / "dataset_description.json", {**raw, "GeneratedBy": made_by})
    (out_dir / "README").write_text("Volumes exported by radiobject-assets.\n", encoding="utf-8")
    if (out_dir / SEGMENTATIONS).is_dir():
        derived = {"Name": "Segmentations", "BIDSVersion": BIDS_VERSION, "DatasetType": "derivative"}
        path = out_dir / SEGMENTATIONS / "dataset_description.json"
        _write_json(path, {**derived, "GeneratedBy": made_by})
    if names.ignored:
        (out_dir / ".bidsignore").write_text("\n".join(sorted(names.ignored)) + "\n", encoding="utf-8")
    table = subjects.rename(columns={"obs_subject_id": "source_subject_id"})
    table = table.drop(columns="participant_id", errors="ignore")
    participants = [f"sub-{names.labels[str(subject)]}" for subject in subjects["obs_subject_id"]]
    table.insert(0, "participant_id", participants)
    table.to_csv(out_dir / "participants.tsv", sep="\t", index=False, na_rep="n/a")


def _write_json(path: Path, content: object) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def _text(value: object) -> str:
    return "" if value is None or value is pd.NA or value != value else str(value)


def _session(row: Mapping[Any, Any]) -> str:
    plain = _text(row.get("session"))
    label = _letters_and_digits(plain)
    return f"ses-{label if label == plain else f'{label}x{_digest(plain, 8)}'}" if plain else ""


def _run(row: Mapping[Any, Any]) -> str:
    """`_run-<number>`; "" where there is none, or one that is no number. A column with gaps has floats."""
    found = re.fullmatch(r"(\d+)(?:\.0)?", _text(row.get("run")))
    return f"_run-{found[1]}" if found else ""


def _letters_and_digits(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9]", "", text)


def _digest(text: str, digits: int) -> str:
    return hashlib.blake2b(text.encode("utf-8"), digest_size=16).hexdigest()[:digits]
