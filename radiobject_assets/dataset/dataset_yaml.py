"""A data set described in one file: `dataset.yaml`, validated.

`load_dataset(path)` gives `DatasetSettings`, or raises a `ConfigurationError` naming the line, the key and
the allowed values. Everything else in the house takes its settings from here; nothing here touches a store.
"""

from __future__ import annotations

import re
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from radiobject_assets.dataset.keywords import MATCHABLE_KEYWORDS, OPTIONAL_KEYWORDS
from radiobject_assets.dataset.layouts import LAYOUTS, with_layout
from radiobject_assets.errors import ConfigurationError

COLLECTION_NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")
# Names that the Dagster assets of every data set already have.
RESERVED_NAMES = frozenset({"raw_dicom", "series", "subjects", "dataset", "splits", "patch_cache", "profile"})


class _Section(BaseModel):
    # Validators are made when something is validated: without a dataset.yaml that is never.
    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)


def _compiled(pattern: str) -> str:
    try:
        re.compile(pattern)
    except re.error as error:
        raise ValueError(f"not a regular expression: {error}") from error
    return pattern


class TileOrientation(StrEnum):
    """How a collection's volumes are cut into tiles: which reads are cheapest."""

    AXIAL = "axial"
    SAGITTAL = "sagittal"
    CORONAL = "coronal"
    ISOTROPIC = "isotropic"


class TileExtents(_Section):
    """Tile extents in voxels along the columns, rows and slices."""

    x: Annotated[int, Field(ge=1)]
    """Along the columns."""
    y: Annotated[int, Field(ge=1)]
    """Along the rows."""
    z: Annotated[int, Field(ge=1)]
    """Along the slices."""


# An empty list would match everything.
_Several = Annotated[list[str], Field(min_length=1)]


class MatchConfig(_Section):
    """What belongs to a collection: every condition that is given must hold."""

    modality: str | _Several | None = None
    """DICOM Modality (0008,0060), as `CT` or `[MR, PT]`."""
    description: str | None = None
    """Regular expression searched in SeriesDescription (0008,103E), without regard to case."""
    dicom: dict[str, str] = Field(default_factory=dict)
    """DICOM keyword to regular expression searched in its value; several values are joined by a backslash."""
    files: str | _Several | None = None
    """NIfTI file-name patterns, as `*_T1w.nii.gz`; with a `/`, of the path's end: `anat/*_T1w.nii.gz`."""
    named: Literal["labels"] | None = None
    """With `files`, `labels`: only files whose name, or the folder that they lie in, has a word for labels
    (`seg`, `mask`, `label`, `gt`, `roi`; docs/layouts.md), or whose header says that they are labels."""

    _description_is_pattern = field_validator("description")(lambda v: v if v is None else _compiled(v))

    @field_validator("dicom")
    @classmethod
    def _known_keywords(cls, value: dict[str, str]) -> dict[str, str]:
        for keyword, pattern in value.items():
            if keyword not in MATCHABLE_KEYWORDS:
                raise ValueError(
                    f"{keyword!r} can't be matched; use one of {', '.join(sorted(MATCHABLE_KEYWORDS))}"
                )
            _compiled(pattern)
        return value

    @model_validator(mode="after")
    def _one_source(self) -> MatchConfig:
        dicom = self.modality is not None or self.description is not None or bool(self.dicom)
        if dicom == (self.files is not None):
            raise ValueError(
                "give either `files` (NIfTI) or at least one of `modality`, `description`, `dicom`"
            )
        if self.named is not None and self.files is None:
            raise ValueError("`named` goes with `files`")
        return self

    @property
    def modalities(self) -> tuple[str, ...]:
        """The modalities that match, upper case; empty: any."""
        value = [self.modality] if isinstance(self.modality, str) else self.modality or []
        return tuple(item.upper() for item in value)

    @property
    def file_patterns(self) -> tuple[str, ...]:
        """The NIfTI file-name patterns; empty: DICOM only."""
        return tuple([self.files] if isinstance(self.files, str) else self.files or [])


class FourthAxisConfig(_Section):
    """What the fourth axis of a collection's NIfTI volumes is, where their headers do not say."""

    name: Literal["time", "echo", "b_value", "phase", "energy", "inversion_time", "channel"]
    """What differs from point to point."""
    values: list[str | float] = Field(default_factory=list)
    """One entry for each point: names of channels (`[FLAIR, T1w, T1gd, T2w]`), else numbers (`time` in s,
    `echo`, `phase` and `inversion_time` in ms, `b_value` in s/mm2, `energy` in kV)."""

    @model_validator(mode="after")
    def _values_fit_the_name(self) -> FourthAxisConfig:
        kind = str if self.name == "channel" else float
        if not all(isinstance(value, kind) for value in self.values):
            raise ValueError(f"`values` of {self.name!r} are {'names' if kind is str else 'numbers'}")
        if len(set(self.values)) < len(self.values):
            raise ValueError("`values` has one entry twice")
        return self


class CollectionConfig(_Section):
    """One collection: volumes of one kind, and one Dagster asset of the same name."""

    match: MatchConfig
    """What belongs to it."""
    kind: Literal["image", "labels"] = "image"
    """`labels` for segmentations: integers, never interpolated, aligned with the image that they describe."""
    labels_of: str | None = None
    """For `kind: labels`: the image collection that they belong to."""
    channels: Literal["quarantine", "one_hot", "one_hot_with_background", "each_point"] = "quarantine"
    """For `kind: labels` with a fourth axis: `one_hot` makes one value of channels of 0 and 1 (the first
    channel is value 1), `one_hot_with_background` takes the first channel for the background, `each_point`
    keeps labels for each point of their image's fourth axis."""
    fourth_axis: FourthAxisConfig | None = None
    """For `kind: image`: what the fourth axis of its NIfTI volumes is."""
    tile: TileOrientation | TileExtents = TileOrientation.ISOTROPIC
    """`axial`, `sagittal`, `coronal` (whole slices), `isotropic` (cubes, for 3D patches), or extents."""
    description: str = ""
    """A sentence shown beside the asset in Dagster."""
    segment_name: Literal["file_name"] | None = None
    """For `kind: labels` with a NIfTI mask for each structure: `file_name` tells the name of the structure in
    the obs column `segments`, as the file is called (`liver.nii.gz`). Not for files named after a patient."""

    @model_validator(mode="after")
    def _labels_name_their_image(self) -> CollectionConfig:
        if self.labels_of is not None and self.kind != "labels":
            raise ValueError("`labels_of` goes with `kind: labels`")
        if self.channels != "quarantine" and self.kind != "labels":
            raise ValueError("`channels` goes with `kind: labels`")
        if self.fourth_axis is not None and self.kind != "image":
            raise ValueError("`fourth_axis` goes with `kind: image`")
        return self

    @model_validator(mode="after")
    def _segments_are_labels(self) -> CollectionConfig:
        if self.segment_name is not None and self.kind != "labels":
            raise ValueError("`segment_name` goes with `kind: labels`")
        return self


# What a cell may hold: a number, a date, any text, or one of some values.
ColumnKind = Literal["number", "date", "text"] | Annotated[list[str | int | float], Field(min_length=1)]


class SubjectsConfig(_Section):
    """Who a volume belongs to, and where the subjects' own table is."""

    key: Literal["patient_id", "study", "pseudonym"] = "patient_id"
    """`patient_id`: DICOM PatientID as it is (it must already be a research id); `study`: a digest of the
    StudyInstanceUID; `pseudonym`: a keyed digest of the PatientID, with UIDs and dates changed as well."""
    issuer: Literal["hold_back", "ignore"] = "hold_back"
    """One PatientID from two issuers (IssuerOfPatientID) may be two patients: `hold_back` quarantines what
    would merge them, `ignore` takes them for one."""
    secret_env: Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")] = "RADIOBJECT_PSEUDONYM_KEY"
    """For `pseudonym`: the environment variable that holds the secret; the secret itself is never written."""
    table: Annotated[str, Field(pattern=r"^[^/\\]+$")] = "participants.tsv"
    """File name of the subjects' table, looked for in each arrival (`.csv` with commas or semicolons,
    else tabs)."""
    id_column: str = "participant_id"
    """Column of the table that holds the subject's id."""
    columns: list[str] | dict[str, ColumnKind] | None = None
    """Columns of the table that obs_meta gets, by their headings: `[age, sex]`, or with what a cell may hold:
    `{age: number, sex: [F, M], seen: date, arm: text}`. Other columns are left out and counted, cells that
    hold something else are emptied and counted. Without it all columns are taken whose (English) headings
    don't say that they identify, and with pseudonyms none."""
    refuse_forgotten: bool = True
    """Whether somebody who was forgotten (`radiobject-assets forget`) is kept out when files of theirs come
    again."""
    file_name: str = r"^(?P<subject>[^_]+)"
    """Regular expression that finds `subject` in a NIfTI file's name; with a `/`, in its path below the
    folder that is taken in: `^(?P<subject>[^/]+)/` for a folder of each subject."""

    @field_validator("file_name")
    @classmethod
    def _names_the_subject(cls, value: str) -> str:
        if "subject" not in re.compile(_compiled(value)).groupindex:
            raise ValueError("needs a group named `subject`, as in `(?P<subject>sub-[0-9]+)`")
        return value


class ImagingConfig(_Section):
    """What becomes of images that are readable, but no volume of one value a voxel on a regular grid."""

    components: Literal["quarantine", "keep"] = "quarantine"
    """Colour and complex images: `keep` stores them with the components (red, green, blue; real,
    imaginary) as the last axis, and says so in the obs column `components`."""
    irregular_spacing: Literal["quarantine", "keep"] = "quarantine"
    """Missing slices and variable spacing: `keep` stores them with the mean spacing in the affine and the
    true positions in the obs column `slice_positions_mm`."""
    single_slices: Literal["quarantine", "keep"] = "quarantine"
    """An image alone in its series: `keep` stores it as a volume of one slice, as thick as its header
    says. Localizers stay out."""
    labels_on: Literal["named_image", "same_frame_of_reference"] = "named_image"
    """Segmentations and contours (SEG, RTSTRUCT) go on the image that they name. `same_frame_of_reference`
    puts them on another image of the same FrameOfReferenceUID where the one that they name is not here."""
    nifti_description: Literal["drop", "keep"] = "drop"
    """The free text `descrip` of NIfTI headers may name somebody. `keep` stores it in the obs column
    `nifti_description`, and exports write it again. Never kept with pseudonyms."""
    nifti_extensions: Literal["drop", "keep"] = "drop"
    """Extensions of NIfTI headers may hold a whole DICOM header. `keep` stores up to 1 MB of them with the
    volume, for exports only. Never kept with pseudonyms."""


class ArrivalsConfig(_Section):
    """When a folder or archive of the landing zone counts as a settled arrival."""

    quiet_period_s: Annotated[float, Field(ge=0)] = 60.0
    """Seconds without a change after which an arrival without a marker is complete; also one that has
    changed after its marker was written. 0: at once."""
    complete_marker: str = "_COMPLETE"
    """A file of this name, written last, says that the arrival is complete; for an archive, one beside it
    that is called after it (`drop.zip_COMPLETE`). Write it in its place: one that is copied with its times
    (`cp -a`, `rsync -a`) does not count, since nobody knows how far that copying is."""
    copy_limit_gb: Annotated[float, Field(gt=0)] = 100.0
    """For a landing zone on S3: gigabytes (of 2^30 bytes) of copies that may lie in the work folder."""
    trusted_names: str | None = None
    """Regular expression of folder names that may be shown as partition keys; others are shown as tokens,
    since a folder may be named after a patient."""
    look_every_s: Annotated[int, Field(ge=1)] = 30
    """Seconds between two looks into the landing zone, while the daemon runs."""
    retry_after_s: Annotated[list[Annotated[float, Field(ge=0)]], Field(min_length=1)] = Field(
        default_factory=lambda: [60.0, 300.0, 1500.0]
    )
    """Seconds to wait before an arrival that failed is tried again: one number for each try. After the last
    it is left alone, until its files or this file change or a person asks for it. What fails for the
    machine's sake (storage that gives no answer, a process that was ended) is tried on and on."""
    silence_s: Annotated[float, Field(gt=0)] = 180.0
    """Seconds without a sign of life after which a run on another machine counts as dead; on the same one
    it is seen at once."""

    _trusted_is_pattern = field_validator("trusted_names")(lambda v: v if v is None else _compiled(v))


class SplitConfig(_Section):
    """How subjects are divided: by a keyed hash of their ids; whom training used once never moves."""

    fractions: dict[str, Annotated[float, Field(gt=0, le=1)]] = Field(
        default_factory=lambda: {"train": 0.7, "validation": 0.15, "test": 0.15}
    )
    """Share of the subjects in each split; the shares sum to 1."""
    folds: Annotated[int, Field(ge=2, le=100)] | None = None
    """In place of `fractions`: equal folds for cross-validation, `fold_0`, `fold_1`..."""
    hold_out: Annotated[float, Field(gt=0, lt=1)] | None = None
    """With `folds`: the share of the subjects that no fold gets; it is the split `test`."""
    group_by: list[str] = Field(default_factory=list)
    """Columns of the subjects' table or of obs (`family`, `site`): subjects that share a value of one of
    them go into one split."""
    stratify_by: str | None = None
    """A column of the subjects' table or of obs (`diagnosis`): each of its values is divided by the same
    shares. Values that fewer subjects have than there are splits are taken together."""
    by_hand: str | None = None
    """A table beside this file (`.csv` or `.tsv`, columns `subject` and `split` or `fold`): whoever stands
    in it has that split, whatever else is said here."""
    seed: int = 7
    """Another seed divides those otherwise who were not placed yet."""
    division: Annotated[int, Field(ge=1)] = 1
    """A higher number forgets how subjects were divided and divides all anew, by new shares or another seed.
    Whoever was trained on may then be tested on: models of before are not to be compared."""

    @field_validator("fractions")
    @classmethod
    def _sum_to_one(cls, value: dict[str, float]) -> dict[str, float]:
        for name in value:
            if not COLLECTION_NAME.fullmatch(name):
                raise ValueError(f"split name {name!r}: use small letters, digits and _")
        if not value or abs(sum(value.values()) - 1.0) > 1e-6:
            raise ValueError(f"fractions sum to {sum(value.values()):g}; they must sum to 1")
        return value

    @model_validator(mode="after")
    def _folds_or_fractions(self) -> SplitConfig:
        if self.folds is not None and "fractions" in self.model_fields_set:
            raise ValueError("give `fractions` or `folds` (with `hold_out` for a test set), not both")
        if self.hold_out is not None and self.folds is None:
            raise ValueError("`hold_out` goes with `folds`; else give `fractions` a split `test`")
        return self

    @property
    def shares(self) -> dict[str, float]:
        """Share of the subjects by split, in order: the fractions, or the folds and what they hold out."""
        if self.folds is None:
            return self.fractions
        held = {} if self.hold_out is None else {"test": self.hold_out}
        part = (1.0 - sum(held.values())) / self.folds
        return {**{f"fold_{number}": part for number in range(self.folds)}, **held}


class PatchesConfig(_Section):
    """Which patches the patch cache holds."""

    image: str
    """Image collection that patches are cut from."""
    labels: str | None = None
    """Label collection cut at the same place; also what foreground sampling looks at."""
    point: str | float | None = None
    """Of images with a fourth axis the one point to cut, by its entry in obs `fourth_axis_values`: the name
    of a channel (`FLAIR`), or a number. Without it each patch is of a point that is drawn."""
    size_voxels: tuple[
        Annotated[int, Field(ge=1)], Annotated[int, Field(ge=1)], Annotated[int, Field(ge=1)]
    ] = (64, 64, 64)
    """Patch extents along columns, rows and slices."""
    per_volume: Annotated[int, Field(ge=1)] = 8
    """Patches from each volume."""
    foreground_fraction: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Part of the patches that are centred on a labelled voxel; needs `labels`."""
    seed: int = 7
    """Another seed gives other places."""

    @model_validator(mode="after")
    def _foreground_needs_labels(self) -> PatchesConfig:
        if self.foreground_fraction > 0 and self.labels is None:
            raise ValueError("`foreground_fraction` above 0 needs `labels`")
        return self


def check_store_uri(uri: str) -> str:
    """`uri` if a store can be there: a local path, or a whole `file://` or `s3://` URI.

    Raises
    ------
    ValueError
        Otherwise; TileDB itself takes `http://` for S3 and gives no reason for the others.
    """
    if not uri.strip():
        raise ValueError("the store's URI is empty: give a path, file:// or s3:// URI")
    scheme, separator, rest = uri.partition("://")
    if not separator:
        return uri
    if scheme == "file" and not rest.startswith("/"):
        raise ValueError("file:// needs an absolute path, as in file:///data/store")
    if scheme == "s3" and not rest.partition("/")[0]:
        raise ValueError("s3:// needs a bucket, as in s3://bucket/store")
    if scheme not in ("file", "s3"):
        raise ValueError(f"a store is at a path, file:// or s3:// URI, not at {scheme}://")
    return uri


class DatasetSettings(_Section):
    """What `dataset.yaml` says. Relative paths are relative to `folder`, where the file is."""

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]*$")] | None = None
    """Name of the data set: small letters, digits, `_` and `-`. Its asset keys and partitions begin with it,
    so that several data sets share one Dagster instance. Another name begins another history."""
    landing: Annotated[str, Field(min_length=1)] | _Several = "landing"
    """Folder or `s3://` URI in which each sub-folder, and each archive (zip, tar, tar.gz), is one arrival; or
    a list of them. Append to the list: arrivals of the first keep their keys, those of another are known by
    its name as well."""
    store: Annotated[str, Field(min_length=1)] = "store"
    """Local path, `file://` or `s3://` URI of the store."""
    owners: list[str] = Field(default_factory=list)
    """Dagster owners of the assets: e-mail addresses or `team:name`. The data card names them too."""
    description: str | None = None
    """What the data set is, for its data card: no patient's name, id or date."""
    license: str | None = None
    """Its licence, for the data card: an SPDX name (`CC-BY-4.0`) or a URL."""
    citation: str | None = None
    """How it is to be cited, for the data card."""
    layout: Literal["bids", "nnunet", "decathlon", "totalsegmentator", "brats", "flat", "folders"] | None = (
        None
    )
    """How a public data set lays out its files (docs/layouts.md): sets `subjects.file_name` and
    `collections`; what this file says itself comes first."""
    collections: dict[str, CollectionConfig] = Field(default_factory=dict)
    """Collections by name. With none, every series goes to a collection named after its modality."""
    attributes: list[str] = Field(default_factory=list)
    """DICOM keywords that obs gets besides the default ones (docs/reference/attributes.md)."""
    subjects: SubjectsConfig = Field(default_factory=SubjectsConfig.model_construct)
    """Who a volume belongs to."""
    imaging: ImagingConfig = Field(default_factory=ImagingConfig.model_construct)
    """What is kept of unusual images."""
    arrivals: ArrivalsConfig = Field(default_factory=ArrivalsConfig.model_construct)
    """When an arrival is complete, and how it is called."""
    split: SplitConfig = Field(default_factory=SplitConfig.model_construct)
    """How subjects are divided."""
    patches: PatchesConfig | None = None
    """Which patches are cut; without it there is no patch cache."""
    folder: Path = Field(default=Path(), exclude=True)

    @field_validator("landing")
    @classmethod
    def _landing_is_a_folder(cls, value: str | list[str]) -> str | list[str]:
        for place in [value] if isinstance(value, str) else value:
            if not place or ("://" in place and not (place.startswith("s3://") and place[5:].strip("/"))):
                raise ValueError(
                    "use a local folder (relative to this file or absolute), or s3://bucket/prefix"
                )
        return value

    _settings_of_its_layout = model_validator(mode="before")(
        lambda content: with_layout(content) if isinstance(content, dict) else content
    )
    _store_is_reachable = field_validator("store")(lambda v: check_store_uri(v))

    @field_validator("attributes")
    @classmethod
    def _optional_attributes(cls, value: list[str]) -> list[str]:
        for keyword in value:
            if keyword not in OPTIONAL_KEYWORDS:
                raise ValueError(
                    f"{keyword!r} can't be added to obs; use one of {', '.join(sorted(OPTIONAL_KEYWORDS))}"
                )
        return value

    @model_validator(mode="after")
    def _landing_zones_are_apart(self) -> DatasetSettings:
        places = [f"{place.rstrip('/')}/" for place in self.landing_places]
        for number, place in enumerate(places):
            if any(place.startswith(other) for other in places[:number] + places[number + 1 :]):
                raise ValueError(
                    f"landing: {self.landings[number]!r} is, or lies in, another of the landing zones: its "
                    "images would come in twice"
                )
        return self

    @model_validator(mode="after")
    def _names_refer_to_something(self) -> DatasetSettings:
        names = ", ".join(self.collections) or "none"
        if self.collects_by_modality and "volumes" in self.collections:
            raise ValueError("collections.volumes: with collections by modality all volumes go by that name")
        for name, collection in self.collections.items():
            if not COLLECTION_NAME.fullmatch(name):
                raise ValueError(
                    f"collections.{name}: use small letters, digits and _, starting with a letter"
                )
            if name in RESERVED_NAMES:
                raise ValueError(f"collections.{name}: this name is taken by an asset; choose another")
            target = collection.labels_of
            if collection.kind == "labels" and target is not None:
                if target not in self.collections:
                    raise ValueError(
                        f"collections.{name}.labels_of: {target!r} is no collection; there are: {names}"
                    )
                if self.collections[target].kind != "image":
                    raise ValueError(f"collections.{name}.labels_of: {target!r} is not an image collection")
        if self.patches is not None:
            for key, kind in (("image", "image"), ("labels", "labels")):
                target = getattr(self.patches, key)
                if target is None:
                    continue
                if target not in self.collections:
                    raise ValueError(f"patches.{key}: {target!r} is no collection; there are: {names}")
                if self.collections[target].kind != kind:
                    raise ValueError(
                        f"patches.{key}: {target!r} is of kind {self.collections[target].kind}, not {kind}"
                    )
        return self

    def _located(self, value: str) -> str:
        if "://" in value:
            return value
        return str((self.folder / Path(value).expanduser()).resolve())

    @property
    def store_uri(self) -> str:
        """The store's URI, made absolute."""
        return self._located(self.store)

    @property
    def landings(self) -> tuple[str, ...]:
        """The landing zones, as they are written."""
        return (self.landing,) if isinstance(self.landing, str) else tuple(self.landing)

    @property
    def landing_places(self) -> tuple[str, ...]:
        """The landing zones: absolute paths, and URIs on S3."""
        return tuple(self._located(place) for place in self.landings)

    @property
    def collects_by_modality(self) -> bool:
        """True when a series that no listed collection matches goes to the one named after its modality."""
        return not self.collections or (self.layout is not None and LAYOUTS[self.layout].rest_by_modality)


def load_dataset(path: Path | str) -> DatasetSettings:
    """Read and validate a `dataset.yaml`.

    Raises
    ------
    ConfigurationError
        The file is absent, is not YAML, or a key or value is not allowed; the message has one line for each
        problem: file, line, key, what is wrong and what is allowed.
    """
    import yaml  # who has no such file does without

    from radiobject_assets.dataset.mistakes import allowed_keys, check_nodes, explain, place_of, yaml_problem

    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigurationError(
            f"{path}: no such file; `radiobject-assets demo` writes an example"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path}: can't be read: {error}") from error
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        check_nodes(node, path)
        content = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigurationError(yaml_problem(error, path)) from error
    if content is None:
        content = {}
    if not isinstance(content, dict):
        raise ConfigurationError(f"{path}: expected keys and values, found {type(content).__name__}")
    # a section whose lines are all commented out is a section that is not there
    content = {key: value for key, value in content.items() if value is not None}
    try:
        if "folder" in content:  # not for users: it is where the file lies
            allowed = ", ".join(allowed_keys(DatasetSettings, []))
            raise ConfigurationError(
                f"{place_of(path, node, ['folder'])}: unknown key; allowed here: {allowed}"
            )
        return DatasetSettings(**{**content, "folder": path.resolve().parent})
    except ValidationError as error:
        raise ConfigurationError("\n".join(explain(error, DatasetSettings, path, node))) from None
