"""Folders that nnU-Net v2 trains from: `nnUNet_raw/DatasetNNN_Name`, and our division as its folds.

What nnU-Net demands rests on its documentation of the data set format (version 2) and its
`verify_dataset_integrity`: one file a channel on one grid, labels 0, 1, 2... without gaps, no NaN. A channel
that is called CT is normalised by fixed percentiles, so only CT is called so.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from radiobject_assets.errors import ConfigurationError
from radiobject_assets.orientation import spacing_mm
from radiobject_assets.store import RadiObject, Volume, VolumeCollection, write_nifti
from radiobject_assets.system.durable_files import whole_file, write_whole
from radiobject_assets.training.pairing import VolumeRow, pair_labels, same_grid, volume_rows

BACKGROUND = "background"
_ENDING = ".nii.gz"
_RECORD = "radiobject-assets.json"
"""What each file was written from: what did not change is not written again."""
_FORMAT = 1
_RAW, _PREPROCESSED = "nnUNet_raw", "nnUNet_preprocessed"


@dataclass(frozen=True)
class Case:
    """One case of nnU-Net: images on one grid, and their labels unless it is for testing alone."""

    name: str
    subject: str
    images: tuple[VolumeRow, ...]
    labels: VolumeRow | None


@dataclass
class NnunetExport:
    """What was written."""

    folder: Path
    """The data set's folder below `nnUNet_raw`."""
    training: list[str] = field(default_factory=list)
    """Names of the cases."""
    testing: list[str] = field(default_factory=list)
    left_out: list[tuple[str, str]] = field(default_factory=list)
    """obs_id of an image, and why it is in no case. The ids may identify a person."""
    n_written: int = 0
    """Files that were written now; others were there already."""


def export_nnunet(
    uri: str,
    out_dir: Path,
    *,
    images: Sequence[str],
    labels: str,
    name: str,
    number: int = 1,
    splits: Mapping[str, str] | None = None,
    on_progress: Callable[[int, int, str], None] | None = None,
) -> NnunetExport:
    """Write images and labels as a data set of nnU-Net v2.

    Parameters
    ----------
    out_dir
        Gets `nnUNet_raw` and, where `splits` has folds or a validation set, `nnUNet_preprocessed` with
        `splits_final.json`. An earlier export there is brought up to date: only what is new is written, and
        what is no longer in the store is removed.
    images
        Collections, one a channel in this order. Of each subject the volumes that lie on one grid belong
        together; an image whose other channels are missing, or more than one, is left out.
    labels
        A collection of labels. Segments of one name get one number in all cases; where volumes name none,
        each value that occurs is a class.
    name, number
        Of the data set: `DatasetNNN_Name`.
    splits
        Split of each subject. `test` goes to `imagesTs`, with labels beside in `labelsTs`; `fold_0`...
        become the folds; any other two (`train`, `validation`) one fold.

    Raises
    ------
    ConfigurationError
        A collection is missing or of the wrong kind, a name can't be one of nnU-Net's, or no case is left.
    StorageError
        There is no store, or a file can't be written.
    """
    if not re.fullmatch(r"[A-Za-z0-9_-]+", name) or not 1 <= number <= 999:
        raise ConfigurationError(
            f"Dataset{number:03d}_{name}: use letters and digits, and a number up to 999"
        )
    radi = RadiObject(uri)
    channels = [_collection(radi, one, is_labels=False) for one in images]
    segmented = _collection(radi, labels, is_labels=True)
    if not channels:
        raise ConfigurationError("name at least one collection of images")
    done = NnunetExport(out_dir / _RAW / f"Dataset{number:03d}_{name}")
    tests = {subject for subject, split in (splits or {}).items() if split == "test"}
    cases, done.left_out = _cases([volume_rows(one.to_obs()) for one in channels], segmented, tests)
    if not any(case.labels is not None and case.subject not in tests for case in cases):
        raise ConfigurationError(
            f"no image of {images[0]} has labels in {labels} to train on: {len(done.left_out)} left out"
        )
    record = _Record(done.folder)
    classes = _Classes(segmented, [case.labels for case in cases if case.labels is not None], record)
    for position, case in enumerate(cases):
        if on_progress is not None:
            on_progress(position, len(cases), name)
        part = "Ts" if case.subject in tests else "Tr"
        if not _write_case(case, part, channels, segmented, classes, record):
            done.left_out.append((case.images[0].obs_id, "values that are no numbers (NaN)"))
            continue
        (done.testing if part == "Ts" else done.training).append(case.name)
    record.finish(classes.names)
    done.n_written = record.n_written
    described = {
        "name": name,
        "channel_names": {str(n): _channel_name(one) for n, one in enumerate(channels)},
        "labels": {BACKGROUND: 0, **{label: n for n, label in enumerate(classes.names, 1)}},
        "numTraining": len(done.training),
        "file_ending": _ENDING,
        **({} if all(_is_plain(case) for case in cases) else {"overwrite_image_reader_writer": "NibabelIO"}),
    }
    write_whole(done.folder / "dataset.json", json.dumps(described, indent=2) + "\n")
    folds = _folds({c.name: (splits or {}).get(c.subject, "") for c in cases if c.name in set(done.training)})
    if folds:
        target = out_dir / _PREPROCESSED / done.folder.name / "splits_final.json"
        target.parent.mkdir(parents=True, exist_ok=True)
        write_whole(target, json.dumps(folds, indent=2) + "\n")
    return done


def _collection(radi: RadiObject, name: str, *, is_labels: bool) -> VolumeCollection:
    if name not in radi.collection_names:
        raise ConfigurationError(
            f"no collection {name!r}; there are: {', '.join(radi.collection_names) or 'none'}"
        )
    found = radi.collection(name)
    obs = found.to_obs()
    kinds = {str(kind) for kind in obs["kind"].fillna("image")} if "kind" in obs else {"image"}
    if is_labels != (kinds == {"labels"}):
        wanted = "labels" if is_labels else "images"
        raise ConfigurationError(f"the collection {name} holds {', '.join(sorted(kinds))}, not {wanted}")
    return found


def _channel_name(volumes: VolumeCollection) -> str:
    obs = volumes.to_obs()
    if "modality" in obs and set(obs["modality"].dropna()) == {"CT"}:
        return "CT"
    # nnU-Net reads some names as a way to normalise
    reserved = {"ct", "nonorm", "zscore", "rescale_to_0_1", "rescale_0_1", "rgb_to_0_1", "rgb_to_rgb"}
    return volumes.name if volumes.name.lower() not in reserved else f"{volumes.name}_image"


def _cases(
    channels: Sequence[Sequence[VolumeRow]], segmented: VolumeCollection, tests: Collection[str]
) -> tuple[list[Case], list[tuple[str, str]]]:
    """Every first image with what lies on it; without labels only those of subjects to test with."""
    left_out: list[tuple[str, str]] = []
    pairs, without = pair_labels(list(channels[0]), volume_rows(segmented.to_obs()))
    label_of = {image.obs_id: label for image, label in pairs}
    reasons = {one.obs_id: f"{one.reason}: {one.detail}" for one in without}
    cases, taken = [], set[str]()
    for image in channels[0]:
        problem = "" if len(image.shape) == 3 else f"it has {len(image.shape)} axes: export one point of it"
        found = [image]
        for others in channels[1:]:
            same = [o for o in others if o.obs_subject_id == image.obs_subject_id and same_grid(image, o)]
            if len(same) != 1:
                problem = problem or f"{len(same)} images of another channel lie on its grid"
            found += same[:1]
        if image.obs_subject_id not in tests:
            problem = problem or reasons.get(image.obs_id, "")
        if problem:
            left_out.append((image.obs_id, problem))
            continue
        name = _case_name(image.obs_id)
        if name.casefold() in taken:  # file systems that ignore case would mix them
            name = f"{name}-{_digest(image.obs_id)}"
        taken.add(name.casefold())
        cases.append(Case(name, image.obs_subject_id, tuple(found), label_of.get(image.obs_id)))
    return cases, left_out


def _case_name(obs_id: str) -> str:
    plain = re.sub(r"[^A-Za-z0-9_-]", "_", obs_id)[:150]
    return plain if plain == obs_id else f"{plain}-{_digest(obs_id)}"


def _digest(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=4).hexdigest()


def _is_plain(case: Case) -> bool:
    """Whether SimpleITK, which nnU-Net reads with, can have such axes."""
    axes = case.images[0].affine[:3, :3] / spacing_mm(case.images[0].affine)
    return bool(np.allclose(axes.T @ axes, np.eye(3), atol=1e-4))


class _Classes:
    """One number for each name of a segment, over all cases; numbers of an earlier export stay."""

    def __init__(self, volumes: VolumeCollection, rows: Sequence[VolumeRow], record: _Record) -> None:
        obs = volumes.to_obs().reset_index().set_index("obs_id")
        told = obs["segments"] if "segments" in obs else pd.Series("", index=obs.index)
        self._names_of = {row.obs_id: _segment_names(told[row.obs_id]) for row in rows}
        self._values_of = {
            row.obs_id: record.known(f"values {row.content}", partial(_values, volumes[row.obs_id]))
            for row in rows
        }
        found = {self._name(obs_id, value) for obs_id, values in self._values_of.items() for value in values}
        found |= {name for names in self._names_of.values() for name in names.values()}
        before = [name for name in record.classes if name in found]
        self.names = [*before, *sorted(found.difference(before), key=_by_number)]

    def _name(self, obs_id: str, value: int) -> str:
        return self._names_of[obs_id].get(value, f"value_{value}")

    def numbers(self, obs_id: str) -> dict[int, int]:
        """What each value of a volume becomes."""
        return {v: self.names.index(self._name(obs_id, v)) + 1 for v in self._values_of[obs_id]}


def _segment_names(told: object) -> dict[int, str]:
    listed = json.loads(told) if isinstance(told, str) and told else []
    names = {int(one["value"]): str(one.get("label") or f"value_{one['value']}") for one in listed}
    # words that nnU-Net keeps for itself
    return {v: f"{name}_{v}" if name in (BACKGROUND, "ignore") else name for v, name in names.items()}


def _values(volume: Volume) -> list[int]:
    found: set[int] = set()
    for _, _, slab in volume.iter_slabs(stored=True):
        found |= set(np.unique(slab).astype(np.int64).tolist())
    return sorted(found - {0})


def _by_number(name: str) -> tuple[int, str]:
    found = re.fullmatch(r"value_(-?\d+)", name)
    return (int(found[1]) if found else -1, name)


class _Record:
    """What the files of an earlier export were written from, and what was found in volumes then."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._file = folder, folder / _RECORD
        self._now: dict[str, str] = {}
        self._asked: dict[str, Any] = {}
        self.n_written = 0
        folder.mkdir(parents=True, exist_ok=True)
        before: dict[str, Any] = {}
        with suppress(OSError, ValueError):
            before = json.loads(self._file.read_text(encoding="utf-8"))
        if before.get("format") != _FORMAT:
            before = {}
        self._before: dict[str, str] = before.get("files", {})
        self._found: dict[str, Any] = before.get("found", {})
        self.classes: list[str] = before.get("classes", [])

    def known(self, question: str, look: Callable[[], Any]) -> Any:
        """What was found in a volume of these voxels before, or is now."""
        if question not in self._asked:
            self._asked[question] = self._found[question] if question in self._found else look()
        return self._asked[question]

    def write(self, relative: str, content: Sequence[object], write: Callable[[Path], object]) -> None:
        """Write a file unless it is there, of the same content and as large as it was written."""
        path = self._folder / relative
        digest = hashlib.blake2b(json.dumps(content).encode(), digest_size=16).hexdigest()
        if not (path.is_file() and self._before.get(relative) == f"{digest} {path.stat().st_size}"):
            path.parent.mkdir(parents=True, exist_ok=True)
            write(path)
            self.n_written += 1
            if self.n_written % 50 == 0:  # an export that is interrupted goes on where it was
                self._keep({**self._before, **self._now}, {**self._found, **self._asked}, self.classes)
        self._now[relative] = f"{digest} {path.stat().st_size}"

    def finish(self, classes: Sequence[str]) -> None:
        """Remove files of cases that are no more, and write the record."""
        for relative in self._before.keys() - self._now.keys():
            (self._folder / relative).unlink(missing_ok=True)
        self._keep(self._now, self._asked, classes)

    def _keep(self, files: Mapping[str, str], found: Mapping[str, Any], classes: Sequence[str]) -> None:
        text = {"format": _FORMAT, "classes": [*classes], "files": files, "found": found}
        write_whole(self._file, json.dumps(text, sort_keys=True))


def _write_case(
    case: Case,
    part: str,
    channels: Sequence[VolumeCollection],
    segmented: VolumeCollection,
    classes: _Classes,
    record: _Record,
) -> bool:
    """Write a case's files; False where an image has values that are no numbers."""
    volumes = [collection[row.obs_id] for collection, row in zip(channels, case.images, strict=True)]
    pairs = list(zip(case.images, volumes, strict=True))
    for row, volume in pairs:
        if row.dtype.kind == "f" and record.known(f"nan {row.content}", partial(_has_nan, volume)):
            return False
    for number, (row, volume) in enumerate(pairs):
        record.write(
            f"images{part}/{case.name}_{number:04d}{_ENDING}",
            [row.content, row.affine.tolist(), row.slope, row.intercept],
            partial(write_nifti, volume),
        )
    if case.labels is not None:
        row, numbers = case.labels, classes.numbers(case.labels.obs_id)
        record.write(
            f"labels{part}/{case.name}{_ENDING}",
            [row.content, case.images[0].affine.tolist(), sorted(numbers.items())],
            lambda path: _write_labels(segmented[row.obs_id], case.images[0].affine, numbers, path),
        )
    return True


def _has_nan(volume: Volume) -> bool:
    return any(bool(np.isnan(slab).any()) for _, _, slab in volume.iter_slabs())


def _write_labels(volume: Volume, affine: Any, numbers: Mapping[int, int], path: Path) -> None:
    """Classes as numbers, on the image's grid (the labels' own differs by rounding at most)."""
    import nibabel

    stored = volume.to_numpy(stored=True)
    written = np.zeros(stored.shape, np.uint8 if len(numbers) < 256 else np.uint16)
    for value, number in numbers.items():
        written[stored == value] = number
    nib: Any = nibabel
    image = nib.Nifti1Image(written, affine)
    image.header.set_xyzt_units("mm")
    with whole_file(path, sync=False) as staged:
        staged.write_bytes(_packed(image.to_bytes()))


def _packed(content: bytes) -> bytes:
    import gzip

    return gzip.compress(content, compresslevel=1, mtime=0)


def _folds(split_of: Mapping[str, str]) -> list[dict[str, list[str]]]:
    """What nnU-Net trains on and validates with; none where there is nothing to validate with."""
    parts = sorted(set(split_of.values()) - {"", "train"})
    folds = []
    for held in parts:
        if held.startswith("fold_") or set(parts) == {held}:
            val = sorted(name for name, split in split_of.items() if split == held)
            train = sorted(name for name, split in split_of.items() if split and split != held)
            folds.append({"train": train, "val": val})
    return folds if all(fold["train"] and fold["val"] for fold in folds) else []
