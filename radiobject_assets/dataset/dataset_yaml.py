"""A data set described in one file: `dataset.yaml`, validated.

`load_dataset(path)` gives `DatasetSettings`, or raises a `ConfigurationError` naming the line, the key and
the allowed values. Everything else in the house takes its settings from here; nothing here touches a store.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, PrivateAttr, ValidationError, field_validator, model_validator

from radiobject_assets.dataset.arrival_section import ArrivalsConfig, ImagingConfig
from radiobject_assets.dataset.collection_section import CollectionConfig
from radiobject_assets.dataset.keywords import OPTIONAL_KEYWORDS
from radiobject_assets.dataset.layouts import LAYOUTS, with_layout
from radiobject_assets.dataset.near_twins_section import NearTwinsConfig
from radiobject_assets.dataset.section import COLLECTION_NAME, Section, Several
from radiobject_assets.dataset.source_section import ReceiverConfig, SourceConfig
from radiobject_assets.dataset.subject_section import SubjectsConfig
from radiobject_assets.dataset.training_section import PatchesConfig, SplitConfig
from radiobject_assets.dataset.upkeep_section import UpkeepConfig
from radiobject_assets.errors import ConfigurationError

RECEIVED = "received"
"""What arrivals of the receiver are called by, as those of a source by its name."""
# Names that the Dagster assets of every data set already have.
RESERVED_NAMES = frozenset(
    {
        *("raw_dicom", "series", "subjects", "dataset", "profile", "splits", "sheet", "patch_cache"),
        "upkeep",
    }
)


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


class DatasetSettings(Section):
    """What `dataset.yaml` says. Relative paths are relative to `folder`, where the file is."""

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]*$")] | None = None
    """Name of the data set: small letters, digits, `_` and `-`. Its asset keys and partitions begin with it,
    so that several data sets share one Dagster instance. Another name begins another history."""
    landing: Annotated[str, Field(min_length=1)] | Several = "landing"
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
    sources: dict[Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,31}$")], SourceConfig] = Field(
        default_factory=dict
    )
    """Archives that are asked for studies, by a name of yours (docs/guide/archives.md)."""
    receiver: ReceiverConfig | None = None
    """Who may send to `radiobject-assets receive`."""
    upkeep: UpkeepConfig = Field(default_factory=UpkeepConfig.model_construct)
    """What the nightly upkeep removes."""
    split: SplitConfig = Field(default_factory=SplitConfig.model_construct)
    """How subjects are divided."""
    near_twins: NearTwinsConfig = Field(default_factory=NearTwinsConfig.model_construct)
    """Images that look the same under two subjects."""
    patches: PatchesConfig | None = None
    """Which patches are cut; without it there is no patch cache."""
    folder: Path = Field(default=Path(), exclude=True)
    _is_beside_others: bool = PrivateAttr(default=False)

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
    def _archives_have_a_place(self) -> DatasetSettings:
        if RECEIVED in self.sources:
            raise ValueError(f"sources.{RECEIVED}: the receiver's studies are called so; choose another")
        for source in self.sources.values():
            self.delivery_place(source.into)
        if self.receiver is not None:
            self.delivery_place(self.receiver.into)
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

    def beside_others(self) -> DatasetSettings:
        """The same, for a Dagster code location that it shares with other data sets.

        Raises
        ------
        ConfigurationError
            It has no name to tell its jobs and sensors by.
        """
        if self.name is None:
            raise ConfigurationError("a data set that shares a code location with others needs a `name`")
        made = self.model_copy()
        made._is_beside_others = True
        return made

    @property
    def is_beside_others(self) -> bool:
        """Whether it shares a Dagster code location with other data sets."""
        return self._is_beside_others

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

    def delivery_place(self, into: str | None) -> Path:
        """The landing zone that a source or the receiver with this `into` delivers into.

        Raises
        ------
        ConfigurationError
            There is none that is a local folder.
        """
        for place, located in zip(self.landings, self.landing_places, strict=True):
            if (into is None or into == place) and not located.startswith("s3://"):
                return Path(located)
        raise ConfigurationError(
            "archives deliver into a landing zone that is a local folder: name one in `landing` "
            f"({'there is none' if into is None else f'{into!r} is none of them'})"
        )

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
