"""A data set described in one file: `dataset.yaml`, validated.

`load_dataset(path)` gives a `DatasetConfig`, or raises `ConfigurationError` naming the line, the key and the
allowed values. Everything else in the house takes its settings from here; nothing here touches a store.
"""

from __future__ import annotations

import re
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from radiobject_assets.errors import ConfigurationError

COLLECTION_NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")
# Names that the Dagster assets of every data set already have.
RESERVED_NAMES = frozenset({"raw_dicom", "series", "subjects", "dataset", "splits", "patch_cache", "profile"})
# DICOM attributes that a collection may match on: they describe the acquisition, none describes a person.
MATCHABLE_KEYWORDS = frozenset(
    {
        "Modality", "SeriesDescription", "ImageType", "SOPClassUID", "BodyPartExamined", "Manufacturer",
        "ManufacturerModelName", "ConvolutionKernel", "ContrastBolusAgent", "MagneticFieldStrength",
        "ScanningSequence", "SequenceVariant", "SequenceName", "MRAcquisitionType", "EchoTime", "InversionTime",
        "RepetitionTime", "FlipAngle", "SliceThickness", "KVP", "PatientPosition", "Units",
    }
)  # fmt: skip


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


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
    y: Annotated[int, Field(ge=1)]
    z: Annotated[int, Field(ge=1)]


class MatchConfig(_Section):
    """What belongs to a collection: every condition that is given must hold."""

    modality: str | list[str] | None = None
    """DICOM Modality (0008,0060), as `CT` or `[MR, PT]`."""
    description: str | None = None
    """Regular expression searched in SeriesDescription (0008,103E), without regard to case."""
    dicom: dict[str, str] = Field(default_factory=dict)
    """DICOM keyword to regular expression searched in its value; several values are joined by a backslash."""
    files: str | list[str] | None = None
    """NIfTI file-name patterns, as `*_T1w.nii.gz`."""

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


class CollectionConfig(_Section):
    """One collection: volumes of one kind, and one Dagster asset of the same name."""

    match: MatchConfig
    kind: Literal["image", "labels"] = "image"
    """`labels` for segmentations: integers, never interpolated, aligned with the image that they describe."""
    labels_of: str | None = None
    """For `kind: labels`: the image collection that they belong to."""
    tile: TileOrientation | TileExtents = TileOrientation.ISOTROPIC
    """`axial`, `sagittal`, `coronal` (whole slices), `isotropic` (cubes, for 3D patches), or extents."""
    description: str = ""
    """A sentence shown beside the asset in Dagster."""

    @model_validator(mode="after")
    def _labels_name_their_image(self) -> CollectionConfig:
        if self.labels_of is not None and self.kind != "labels":
            raise ValueError("`labels_of` goes with `kind: labels`")
        return self


class SubjectsConfig(_Section):
    """Who a volume belongs to, and where the subjects' own table is."""

    key: Literal["patient_id", "study"] = "patient_id"
    """`patient_id`: DICOM PatientID as it is (it must already be a research id); `study`: a digest of the
    StudyInstanceUID."""
    table: str = "participants.tsv"
    """File name of the subjects' table, looked for in each arrival (tab or comma separated)."""
    id_column: str = "participant_id"
    """Column of the table that holds the subject's id."""
    file_name: str = r"^(?P<subject>[^_]+)"
    """Regular expression that finds `subject` in a NIfTI file's name."""

    @field_validator("file_name")
    @classmethod
    def _names_the_subject(cls, value: str) -> str:
        if "subject" not in re.compile(_compiled(value)).groupindex:
            raise ValueError("needs a group named `subject`, as in `(?P<subject>sub-[0-9]+)`")
        return value


class ImagingConfig(_Section):
    """What becomes of images that are readable, but no plain volume of one value a voxel on a regular grid."""

    components: Literal["quarantine", "keep"] = "quarantine"
    """Colour and complex images: `keep` stores them with the components (red, green, blue; real, imaginary) as
    the last axis, and says so in the obs column `components`."""
    irregular_spacing: Literal["quarantine", "keep"] = "quarantine"
    """Missing slices and variable spacing: `keep` stores them with the mean spacing in the affine and the true
    positions in the obs column `slice_positions_mm`."""


class ArrivalsConfig(_Section):
    """When a folder of the landing zone counts as a settled arrival."""

    quiet_period_s: Annotated[float, Field(ge=0)] = 60.0
    """Seconds without a change after which an arrival without a marker is complete."""
    complete_marker: str = "_COMPLETE"
    """A file of this name says at once that the arrival is complete."""
    trusted_names: str | None = None
    """Regular expression of folder names that may be shown as partition keys; others are shown as tokens,
    since a folder may be named after a patient."""

    _trusted_is_pattern = field_validator("trusted_names")(lambda v: v if v is None else _compiled(v))


class SplitConfig(_Section):
    """How subjects are divided: by a keyed hash of their ids; who was placed once never moves."""

    fractions: dict[str, Annotated[float, Field(gt=0, le=1)]] = Field(
        default_factory=lambda: {"train": 0.7, "validation": 0.15, "test": 0.15}
    )
    seed: int = 7

    @field_validator("fractions")
    @classmethod
    def _sum_to_one(cls, value: dict[str, float]) -> dict[str, float]:
        for name in value:
            if not COLLECTION_NAME.fullmatch(name):
                raise ValueError(f"split name {name!r}: use small letters, digits and _")
        if not value or abs(sum(value.values()) - 1.0) > 1e-6:
            raise ValueError(f"fractions sum to {sum(value.values()):g}; they must sum to 1")
        return value


class PatchesConfig(_Section):
    """Which patches the patch cache holds."""

    image: str
    """Image collection that patches are cut from."""
    labels: str | None = None
    """Label collection cut at the same place; also what foreground sampling looks at."""
    size_voxels: tuple[
        Annotated[int, Field(ge=1)], Annotated[int, Field(ge=1)], Annotated[int, Field(ge=1)]
    ] = (64, 64, 64)
    """Patch extents along columns, rows and slices."""
    per_volume: Annotated[int, Field(ge=1)] = 8
    foreground_fraction: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Part of the patches that are centred on a labelled voxel; needs `labels`."""
    seed: int = 7

    @model_validator(mode="after")
    def _foreground_needs_labels(self) -> PatchesConfig:
        if self.foreground_fraction > 0 and self.labels is None:
            raise ValueError("`foreground_fraction` above 0 needs `labels`")
        return self


class DatasetConfig(_Section):
    """What `dataset.yaml` says. Relative paths are relative to `folder`, where the file is."""

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]*$")] = "dataset"
    landing: str = "landing"
    """Folder in which each sub-folder is one arrival."""
    store: str = "store"
    """Local path, `file://` or `s3://` URI of the store."""
    owners: list[str] = Field(default_factory=list)
    """Dagster owners of the assets: e-mail addresses or `team:name`."""
    collections: dict[str, CollectionConfig] = Field(default_factory=dict)
    """Collections by name. With none, every series goes to a collection named after its modality."""
    subjects: SubjectsConfig = SubjectsConfig()
    imaging: ImagingConfig = ImagingConfig()
    arrivals: ArrivalsConfig = ArrivalsConfig()
    split: SplitConfig = SplitConfig()
    patches: PatchesConfig | None = None
    folder: Path = Field(default=Path(), exclude=True)

    @model_validator(mode="after")
    def _names_refer_to_something(self) -> DatasetConfig:
        names = ", ".join(self.collections) or "none"
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
        if "://" in value or Path(value).is_absolute():
            return value
        return str((self.folder / value).resolve())

    @property
    def store_uri(self) -> str:
        """The store's URI, made absolute."""
        return self._located(self.store)

    @property
    def landing_path(self) -> Path:
        """The landing zone's folder, made absolute."""
        return Path(self._located(self.landing))

    @property
    def collects_by_modality(self) -> bool:
        """True when no collections are listed: a series goes to the collection named after its modality."""
        return not self.collections


def load_dataset(path: Path | str) -> DatasetConfig:
    """Read and validate a `dataset.yaml`.

    Raises
    ------
    ConfigurationError
        The file is absent, is not YAML, or a key or value is not allowed; the message has one line for each
        problem: file, line, key, what is wrong and what is allowed.
    """
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
        _refuse_repeated_keys(node, path)
        content = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigurationError(f"{path}: not valid YAML: {error}") from error
    if content is None:
        content = {}
    if not isinstance(content, dict):
        raise ConfigurationError(f"{path}: expected keys and values, found {type(content).__name__}")
    content.pop("folder", None)
    try:
        return DatasetConfig(**{**content, "folder": path.resolve().parent})
    except ValidationError as error:
        problems = {_place(problem): problem for problem in reversed(error.errors())}  # one a key: the first
        lines = [_explain(problem, path, node) for problem in reversed(problems.values())]
        raise ConfigurationError("\n".join(lines)) from None


def _refuse_repeated_keys(node: yaml.Node | None, path: Path) -> None:
    # YAML keeps the last of two equal keys in silence: half of a collection's settings would be gone
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            if key.value in seen:
                raise ConfigurationError(f"{path}:{key.start_mark.line + 1}: {key.value}: is given twice")
            seen.add(key.value)
            _refuse_repeated_keys(value, path)
    elif isinstance(node, yaml.SequenceNode):
        for item in node.value:
            _refuse_repeated_keys(item, path)


def _place(problem: Any) -> tuple[Any, ...]:
    return tuple(part for part in problem["loc"] if not _is_model_branch(part))


def _explain(problem: Any, path: Path, root: yaml.Node | None) -> str:
    location = list(_place(problem))
    key = ".".join(str(part) for part in location)
    line = _line_of(root, location)
    message = str(problem["msg"]).removeprefix("Value error, ")
    if problem["type"] == "extra_forbidden":
        allowed = ", ".join(_allowed_keys(location[:-1])) or "none"
        message = f"unknown key; allowed here: {allowed}"
    elif problem["type"] == "missing":
        message = "is required"
    elif "input" in problem and not isinstance(problem["input"], dict):
        message = f"{problem['input']!r}: {message}"
    place = f"{path}:{line}" if line else str(path)
    return f"{place}: {key}: {message}" if key else f"{place}: {message}"


def _is_model_branch(part: Any) -> bool:
    # pydantic adds the name of the union's member that it tried; that is no key of the file
    return isinstance(part, str) and (
        part in {"TileExtents", "str", "list[str]"} or part.startswith("str-enum")
    )


def _line_of(root: yaml.Node | None, location: list[Any]) -> int | None:
    """The line of the deepest key on the way to `location` that is really in the file."""
    node, line = root, None
    for part in location:
        if isinstance(node, yaml.MappingNode):
            for key_node, value_node in node.value:
                if key_node.value == str(part):
                    node, line = value_node, key_node.start_mark.line + 1
                    break
            else:
                return line
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            node = node.value[part]
            line = node.start_mark.line + 1
        else:
            return line
    return line


def _allowed_keys(location: list[Any]) -> list[str]:
    model: type[BaseModel] = DatasetConfig
    sections: dict[str, type[BaseModel]] = {
        "subjects": SubjectsConfig,
        "imaging": ImagingConfig,
        "arrivals": ArrivalsConfig,
        "split": SplitConfig,
        "patches": PatchesConfig,
    }
    if location and location[0] in sections:
        model = sections[str(location[0])]
    elif len(location) >= 2 and location[0] == "collections":
        model = CollectionConfig
        if len(location) >= 3:
            inner: dict[str, type[BaseModel]] = {"match": MatchConfig, "tile": TileExtents}
            model = inner.get(str(location[2]), CollectionConfig)
    return [name for name, field in model.model_fields.items() if not field.exclude]
