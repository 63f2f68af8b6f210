"""What each asset's page teaches: what it is, what it is made of, what to do when it is red.

Dagster shows these texts as Markdown at the top of an asset's page, and the first paragraph in lists, so that
one is short. They say what is always so; what one run made stands in the metadata of its event.
"""

from __future__ import annotations

from radiobject_assets.dataset.collection_section import CollectionConfig
from radiobject_assets.dataset.dataset_yaml import DatasetSettings

_RED = "**When it is red**"

RAW_DICOM = f"""\
Every file of an arrival, recognised by its content.

**What it is.** An arrival is one folder, archive or prefix of the landing zone, and one partition here. \
Each file is read as far as its header: a DICOM instance, a NIfTI image, or no image, with a reason. The \
table that is kept of them is what all later assets plan from; voxels are decoded in the collections.

**Made of** the landing zone. `arrivals_sensor` asks for an arrival when its files have come to rest.

{_RED}: the run's page says what and whether it is tried again by itself. The check \
`nothing_left_behind` lists every arrival that is not in, with the reason. Files that are no image never \
make it red."""

SERIES = f"""\
The series of an arrival, each with its verdict.

**What it is.** One row for each series: the collection that it goes to, and whether it becomes a volume \
(`ingestable`) or is held back (`quarantined`) with a reason, because its headers do not prove a volume. \
What is quarantined is in no data set and is never mixed in.

**Made of** the headers that `raw_dicom` kept, and the rules of `dataset.yaml`.

**What to do** about a quarantined series stands beside its reason in the table below. Put the files \
right in the landing zone, and the arrival is taken in again by itself.

{_RED}: a run failed, or files are in no series (`every_file_accounted_for`)."""

SUBJECTS = f"""\
One row for each subject of an arrival.

**What it is.** Who the volumes belong to (`obs_meta` in the store), with the columns that the tables of \
subjects in the delivery say.

**Made of** `series`, and the files in the arrival that `subjects.table` of `dataset.yaml` names.

**Worth a look**: subjects with images that are in no table, and columns that were left out as they may \
name a person.

{_RED}: the run's page says which table can't be read and why."""

DATASET = f"""\
A snapshot of everything that is committed.

**What it is.** A name and a moment at which the whole store stays readable, so that a training can be \
repeated. The same content gives the same snapshot. Its manifest (digests of every volume, no \
identifier) and its data card lie beside the store.

**Made of** all collections and subjects, when arrivals have come to rest.

{_RED}: the store can't be read; the checks here say which table or array and what mends it. Warnings of \
`labels_complete` or `images_once` mean that training is possible and somebody should look."""


PROFILE = f"""\
What each volume is like, in numbers.

**What it is.** For each volume of the snapshot percentiles, a histogram, the box of the foreground, \
sizes of classes, figures of quality, and a signature by which the same image is known under another name. \
The table `unlike_the_others` names volumes that stand apart in their collection, and why.

**Made of** the volumes of `dataset`. Those that are profiled already are not read again; \
what twenty minutes are not enough for (`left`) is done in the night, or when it is materialized again.

{_RED}: `near_twins` found one image, in another form, under two subjects. \
The check's page says what to do."""

SHEET = f"""\
One page that says who and what is in the data set.

**What it is.** An HTML file to read, print or mail, that needs nothing beside it: distributions, splits, \
pictures, volumes unlike the others and why, what changed since the snapshot before, what the checks found. \
It names nobody. `sheet` below is its path; `radiobject-assets sheet` writes it as well.

**Made of** the snapshot, `profile` and `splits`.

{_RED}: the run's page says what can't be read."""


def of_upkeep(settings: DatasetSettings) -> str:
    """The page of `upkeep`."""
    return f"""\
What keeps the store small and quick, every night.

**What it is.** Small segments of the store's tables are merged, and what no snapshot and no state of the \
last {settings.upkeep.keep_arrays_hours:g} hours names is removed, as are patch caches that were replaced \
{settings.upkeep.keep_caches_days:g} days ago. May run at any time.

**Made by** the schedule `upkeep_nightly`.

{_RED}: it was not made for three nights. Look whether the daemon runs, and the schedule is on."""


def of_collection(settings: DatasetSettings, name: str) -> str:
    """The page of a collection: what dataset.yaml says of it comes first."""
    config = settings.collections.get(name)
    return f"""\
{_what(name, config)}

**What it is.** Volumes in the store with their affine, one for each ingestable series. Each is committed \
whole or not at all.

**Made of** `series`{_and_image(config)}, decoded under the memory budget. What is in the store already \
and did not change is left alone.

**Worth a look**: the picture (the first volume; `preview_large` shows more), and what was quarantined.

{_RED}: `integrity` found a volume that is not what was written, and what follows waits. Materialize the \
partition again: what is unsound is made anew from its files."""


def of_splits(settings: DatasetSettings) -> str:
    """The page of `splits`."""
    shares = ", ".join(f"{name} {share:.0%}" for name, share in settings.split.shares.items())
    return f"""\
Who is trained on and who is tested on: {shares}.

**What it is.** One split for each subject of the snapshot. Whom training used once keeps the split for \
good, so an earlier score stays comparable.

**Made of** `dataset`. Subjects of arrivals that failed their check are left out.

{_RED}: `no_leakage` found somebody on two sides, and no patch cache is built until that is put right; \
or `splits_are_usable` found a split without anything to train or test on."""


def of_patch_cache(settings: DatasetSettings) -> str:
    """The page of `patch_cache`."""
    patches = settings.patches
    size = " x ".join(map(str, patches.size_voxels)) if patches is not None else ""
    return f"""\
Patches of {size} voxels for training, one partition for each split.

**What it is.** Memory-mapped arrays, uncompressed, on this machine: \
`radiobject_assets.training.patch_loader` reads batches from the folder that `file` names.

**Made of** the volumes of the snapshot whose subjects are in the split. It can be deleted and made \
again at any time.

{_RED}: `patches_match_volumes` found patches that are not what the volumes say (don't train on them), \
or `patches_are_there` found a cache that is absent, empty or of an earlier data set. Materialize the \
partition."""


def _what(name: str, config: CollectionConfig | None) -> str:
    if config is None:
        return "The volumes of an arrival, each in the collection that is named after its modality."
    if config.description:
        return config.description if config.description.endswith(".") else f"{config.description}."
    if config.kind == "labels":
        return f"Label volumes of an arrival{f' for `{config.labels_of}`' if config.labels_of else ''}."
    return f"Image volumes of an arrival that belong to `{name}`."


def _and_image(config: CollectionConfig | None) -> str:
    if config is None or not config.labels_of:
        return ""
    return f" and `{config.labels_of}` (labels lie on the grid of their image, and wait for it)"
