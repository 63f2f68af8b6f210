"""Every kind of finding, once: what is wrong, why it matters, what mends it."""

from __future__ import annotations

from radiobject_assets.diagnostics.findings import Kind, Mend, Severity

_ERROR, _WARN = Severity.ERROR, Severity.WARN

_MAKE_AGAIN = Mend(
    "In Dagster materialize {collection} for the partition {arrival} again: what is unsound is written anew "
    "from its files, if they are still in the landing zone; else it stays as it is.",
    is_safe=True,
    command="radiobject-assets doctor STORE --fix",
)
_WRONG_VOXELS = "What is read would not be the image that was acquired."


def _volume(code: str, problem: str, why: str = _WRONG_VOXELS) -> Kind:
    return Kind(code, _ERROR, problem, why, _MAKE_AGAIN)


# -- rows and arrays ------------------------------------------------------------------------------------

ARRAY_MISSING = _volume("missing", "the row names an array that is not there")
ARRAY_UNREADABLE = _volume("unreadable", "its array can't be read")
ARRAY_FILES = _volume("files", "a file of its array is gone or not what was written")
VOXELS_CHANGED = _volume("digest", "its voxels are not those that were written")
INDEX_WRONG = _volume("index", "its tile index is not that of its array")
ARRAY_OF_ANOTHER = _volume("id", "its array belongs to another volume")
SHAPE_DIFFERS = _volume("shape", "its array has another shape than the row says")
DTYPE_DIFFERS = _volume("dtype", "its array has another data type than the row says")
ROW_CHANGED = _volume(
    "row_changed",
    "the row says something else than was written with the volume",
    "A row that was changed moves, scales or renames an image, although its voxels are right.",
)
VOLUME_GONE = Kind(
    "volume_gone",
    _ERROR,
    "a volume that an arrival brought is not in the store any more",
    "Training silently goes on without it; of labels, their image would count as healthy or be left out.",
    Mend(
        "In Dagster materialize {collection} for the partition {arrival} again, and it comes in again. If it "
        "was deleted on purpose, take its files out of the delivery first.",
        is_safe=True,
    ),
)
GEOMETRY = _volume(
    "geometry",
    "unsound affine",
    "Patches and labels would be cut at wrong places.",
)
LABELS_OFF = _volume(
    "labels_on_grid",
    "labels do not lie on their image",
    "Training would learn from labels at the wrong place.",
)
ORPHAN_ARRAY = Kind(
    "orphan_array",
    _WARN,
    "arrays that no row names",
    "They take space only; a writer that died, or a replaced volume, left them.",
    Mend(
        "Nothing needs to be done for training. To free the space call "
        "`radiobject_assets.store.vacuum(store)`, which keeps all snapshots.",
        is_safe=True,
    ),
)
TABLE_DAMAGED = Kind(
    "table_damaged",
    _ERROR,
    "a file of the store's tables is gone or not what was written",
    "The collection that it belongs to can't be read, and nothing downstream can be made.",
    Mend(
        "Restore that file from a backup: such files never change, so any copy of the same name is right. "
        "Without one, move the store's folder away and materialize all partitions of all collections: "
        "everything is taken in from the landing zone again.",
        is_safe=False,
    ),
)
DUPLICATE_VOXELS = Kind(
    "same_image_twice",
    _WARN,
    "the same image under two ids",
    "It counts twice in training, and in two splits it makes the test a memory test.",
    Mend(
        "Two deliveries hold the same images: take one of them out of the landing zone, delete its volumes "
        "(`store.collection(...).delete`), and materialize dataset.",
        is_safe=False,
    ),
)
DUPLICATE_SERIES = Kind(
    "same_series_twice",
    _ERROR,
    "one series UID under two subjects",
    "One person would count as two, or a UID was overwritten: provenance can't be trusted.",
    Mend(
        "Find out whose series it is; correct the PatientID in the delivery (or leave it out), then "
        "materialize the partition {arrival} again.",
        is_safe=True,
    ),
)
NO_PROVENANCE = Kind(
    "no_provenance",
    _WARN,
    "volumes do not say which files they were made from",
    "Nobody can compare them with their source, or find the patient's other images.",
    Mend("Ingest them again from their files, or leave them out of training.", is_safe=True),
)

# -- values ---------------------------------------------------------------------------------------------

_LOOK = Mend(
    "Look at the volume (its arrival's page shows a picture). If the image itself is so, take its series out "
    "of the delivery {arrival} and materialize the partition again.",
    is_safe=True,
)
NOT_FINITE = Kind(
    "voxels_not_finite",
    _WARN,
    "voxels that are not numbers",
    "One such voxel in a batch makes the loss NaN.",
    _LOOK,
)
CONSTANT = Kind(
    "voxels_constant",
    _WARN,
    "all voxels have one value",
    "An image without content teaches nothing; its files may be damaged.",
    _LOOK,
)
IMPLAUSIBLE = Kind(
    "intensities",
    _WARN,
    "intensities that the modality does not have",
    "A missing or doubled rescale puts the image on another scale than all others.",
    _LOOK,
)
ODD_SPACING = Kind(
    "spacing",
    _WARN,
    "a voxel spacing that no scanner makes",
    "Headers with wrong units make patches of the wrong size in the body.",
    _LOOK,
)

# -- arrivals -------------------------------------------------------------------------------------------

UNACCOUNTED = Kind(
    "unaccounted",
    _ERROR,
    "files that are in no series, or in two",
    "An image may be missing, or counted twice. Mostly files came or went after the scan.",
    Mend("Materialize `raw_dicom` and what follows it for the partition {arrival}.", is_safe=True),
)
MOSTLY_QUARANTINED = Kind(
    "quarantine_share",
    _WARN,
    "a large part of the series is quarantined",
    "What is missing is seldom missing at random: the data set is not what was delivered.",
    Mend(
        "Open the pages of `series` and {collection} for their partitions: each verdict says what to do "
        "(docs/reference/reasons.md). Put the files right, and the arrival is taken in again.",
        is_safe=True,
    ),
)  # fmt: skip
STORED_IN_DOUBT = Kind(
    "quarantined_but_stored",
    _WARN,
    "volumes are in the store although their series would be quarantined today",
    "Their files changed after they were taken in, or a rule that they break was added.",
    Mend(
        "See why on the page of `series`, partition {arrival}. If the files are wrong, put them right; "
        "if the stored volume is, delete it (`store.collection(...).delete`).",
        is_safe=False,
    ),
)
SOURCE_GONE = Kind(
    "source_gone",
    _WARN,
    "arrivals whose files are no longer in the landing zone",
    "Their volumes can't be compared with their source, nor be made again if they are damaged.",
    Mend(
        "Put the delivery back, under the same name. If it was taken away for good, delete its volumes or "
        "keep a backup of the store.",
        is_safe=True,
    ),
)
SOURCE_CHANGED = Kind(
    "source_changed",
    _WARN,
    "arrivals whose files are not those that were taken in",
    "The store holds an earlier state of what was delivered.",
    Mend("Materialize `raw_dicom` and what follows it for the partition {arrival}.", is_safe=True),
)
GIVEN_UP = Kind(
    "given_up",
    _WARN,
    "series were given up because of the machine",
    "They are fine and absent: a worker died, memory ran out, or a file changed while it was read.",
    Mend(
        "Materialize {collection} for the partition {arrival} again: what is in the store stays, the rest is "
        "tried once more. If it happens again, give the run more memory (RADIOBJECT_MEMORY_MB) or fewer "
        "workers (RADIOBJECT_WORKERS).",
        is_safe=True,
    ),
)

# -- training -------------------------------------------------------------------------------------------

LABELS_MISSING = Kind(
    "labels_missing",
    _WARN,
    "images without the labels that training needs",
    "They give no patches: training sees fewer people than the data set has.",
    Mend("Deliver their labels, or leave the images out on purpose.", is_safe=True),
)
SNAPSHOT_BEHIND = Kind(
    "snapshot_behind",
    _WARN,
    "volumes that have been in the store for long are in no snapshot",
    "Splits, patch caches and training are of the newest snapshot: they go on without what came since.",
    Mend(
        "Materialize dataset. A snapshot is made by itself when arrivals are in: see on the page of dataset "
        "whether its last run failed, and whether the daemon and `follow_up_sensor` run.",
        is_safe=True,
    ),
)
SPLIT_EMPTY = Kind(
    "split_empty",
    _ERROR,
    "a split without anything to train or test on",
    "A score on nothing is no score.",
    Mend(
        "Deliver more subjects that training can use: they fill empty splits, and who is placed stays. Or "
        "name fewer splits under `split` in dataset.yaml, or write a table for `split.by_hand`; then "
        "materialize splits.",
        is_safe=True,
    ),
)
CLASS_MISSING = Kind(
    "class_missing",
    _WARN,
    "a class of labels that a split lacks",
    "It is not learnt, or not tested.",
    Mend("Deliver more labelled subjects, or set `split.stratify_by`.", is_safe=True),
)
CACHE_EMPTY = Kind(
    "cache_empty",
    _ERROR,
    "a patch cache without patches",
    "Training or testing on it would run on nothing.",
    Mend(
        "See the check `splits_are_usable` on splits for why; when the split {split} has labelled images, "
        "materialize patch_cache for it.",
        is_safe=True,
    ),
)
CACHE_MISSING = Kind(
    "cache_missing",
    _WARN,
    "a split has no patch cache on this machine",
    "A training job that asks for it fails.",
    Mend("Materialize patch_cache for the partition {split}.", is_safe=True),
)
CACHE_OLD = Kind(
    "cache_old",
    _WARN,
    "a patch cache of an earlier data set or of other settings",
    "Training would see what dataset.yaml and the store said before.",
    Mend("Materialize patch_cache for the partition {split}.", is_safe=True),
)
CACHE_OF_OTHERS = Kind(
    "cache_of_others",
    _ERROR,
    "a patch cache with subjects that are not in its split",
    "Who is in two caches is trained and tested on: the test score would be a memory test.",
    Mend("Materialize patch_cache for the partition {split}; until then don't train on it.", is_safe=True),
)
PATCHES_DAMAGED = Kind(
    "patches_damaged",
    _ERROR,
    "patches whose bytes are not those that were written",
    "A damaged patch stops training when it is read; the disk that it lies on may damage more.",
    Mend(
        "Materialize patch_cache for the partition {split}: volumes with a damaged patch are cut again from "
        "the store, the rest stays.",
        is_safe=True,
    ),
)
PATCHES_LEFT_OUT = Kind(
    "patches_left_out",
    _WARN,
    "images whose labels can't be used for patches",
    "Training sees fewer images than the split has.",
    Mend(
        "See the page of patch_cache, partition {split}, for which and why: labels that lie on another grid "
        "than their image, or several for one. Put them right, or leave these images out on purpose.",
        is_safe=True,
    ),
)
PATCHES_DIFFER = Kind(
    "patches_differ",
    _ERROR,
    "patches that are not what the volumes say",
    "Training would learn from something that is in no image.",
    Mend(
        "Delete the folder of this patch cache (its path is on the page of patch_cache, partition {split}), "
        "then materialize the partition.",
        is_safe=True,
    ),
)
SUBJECT_TWICE = Kind(
    "subject_in_two_splits",
    _ERROR,
    "a subject is in two splits",
    "The table of splits was changed by something else than this platform, which never does that.",
    Mend(
        "Put splits.parquet back from a copy, or correct it (one row for each subject); it lies where the "
        "page of splits says. Then materialize splits.",
        is_safe=False,
    ),
)
ONE_PERSON_TWICE = Kind(
    "one_person_in_two_splits",
    _ERROR,
    "two subject ids in different splits are probably one person",
    "The test score would be a memory test. Until it is put right no patch cache is built.",
    Mend(
        "work/leakage.parquet names them: give both the same id (or leave one out) and let their deliveries "
        "come in again.",
        is_safe=True,
    ),
)
GROUP_DIVIDED = Kind(
    "group_in_two_splits",
    _ERROR,
    "a group (a family, a site) of `split.group_by` is in two splits",
    "Who belongs together looks alike: the test score would be better than on strangers. Until it is put "
    "right no patch cache is built.",
    Mend(
        "work/leakage.parquet names the groups and their subjects. Put each group into one split with "
        "`split.by_hand` (or correct the group in the subjects' table), then materialize splits; "
        "`split.division` raised by one divides everybody anew.",
        is_safe=False,
    ),
)
_LOOK_AT_TWINS = Mend(
    "Look at both volumes, by the beginnings of their tokens. If they are one image, take one of the two "
    "deliveries out, or put both subjects into one split (`split.group_by`, `split.by_hand`). If they are "
    "not, or it is fine, name the pair under `near_twins.known` in dataset.yaml.",
    is_safe=True,
)
NEAR_TWINS = Kind(
    "near_twins",
    _ERROR,
    "the same image, in another form, under subjects of different splits",
    "What is tested on was trained on: the score measures memory.",
    _LOOK_AT_TWINS,
)
NEAR_TWINS_IN_A_SPLIT = Kind(
    "near_twins_in_a_split",
    _WARN,
    "the same image, in another form, under two subjects",
    "One person may be two subjects: the image counts twice, and a later division may part them.",
    _LOOK_AT_TWINS,
)
CANNOT_BE_TOLD_APART = Kind(
    "cannot_be_told_apart",
    _WARN,
    "images of two subjects that are alike, and too small or too smooth to say whether they are one",
    "If they are one image in two splits, the score measures memory.",
    _LOOK_AT_TWINS,
)
NOT_COMPARED = Kind(
    "images_not_compared",
    _WARN,
    "images that could not be compared: their profile or thumbnail is missing, or they can't be read",
    "A near twin among them is not found.",
    Mend(
        "Materialize profile: it profiles what is new and makes anew what is missing. If images stay, its "
        "page says how many can't be read and why; `volumes_verified` names them.",
        is_safe=True,
    ),
)
PAIRS_LEFT = Kind(
    "pairs_not_compared",
    _WARN,
    "pairs of images that may be alike are not compared yet",
    "A near twin among them is not found yet.",
    Mend(
        "Nothing: each look takes a minute and goes on where the last one stopped. Execute the check again "
        "to have it sooner.",
        is_safe=True,
    ),
)
UNASSIGNED = Kind(
    "unassigned_subject",
    _ERROR,
    "subjects with volumes that are in no split",
    "They are in the data set and neither trained nor tested on.",
    Mend("Materialize splits.", is_safe=True),
)
MEMORY_PEAK = Kind(
    "memory_peak",
    _WARN,
    "a run took more memory than its budget",
    "On a machine that has no more than the budget it would have been killed.",
    Mend(
        "Raise RADIOBJECT_MEMORY_MB to what the machine has, or run fewer at once "
        "(`max_concurrent_runs` in dagster.yaml); if it is far above, report it with the run's page.",
        is_safe=True,
    ),
)
ARCHIVE_SHORT = Kind(
    "archive_short",
    _WARN,
    "an archive announces more than it sent",
    "The study is held back, since a part is not taken for the whole: it is missing in the data set.",
    Mend(
        "Look whether the study is whole in the archive, and what its log says. It is asked for again by "
        "itself, with longer and longer waits; the command asks at once.",
        is_safe=True,
        command="radiobject-assets fetch",
    ),
)
ARCHIVE_SILENT = Kind(
    "archive_silent",
    _WARN,
    "an archive gave no answer, or was not asked",
    "What came in there since is missing in the data set, and nobody knows how much that is.",
    Mend(
        "See what the message says of the archive (`sources` of dataset.yaml), and whether the daemon and "
        "its `sources_sensor` run. It is asked again by itself; the command asks at once.",
        is_safe=True,
        command="radiobject-assets fetch",
    ),
)
STUDY_LEFT_QUERY = Kind(
    "study_left_query",
    _WARN,
    "an archive no longer lists a study of which a part has come",
    "The study is held back, since nobody knows what is missing of it: it is missing in the data set.",
    Mend(
        "If `query` was made narrower, widen it until the study has come. If the archive deleted it, what "
        "came lies in `.archives` of the landing zone, by source and study: remove that folder, or hand it "
        "in as an arrival of your own.",
        is_safe=False,
    ),
)
SENDER_LEFT = Kind(
    "sender_left",
    _WARN,
    "a sender broke off and has not come back",
    "The study is held back, since nobody knows what is missing of it: it is missing in the data set.",
    Mend(
        "Send the study again: what is here already is recognized. If it is whole, "
        "`radiobject-assets receive --deliver STUDY` delivers it as it is.",
        is_safe=True,
    ),
)
NOT_DELIVERED = Kind(
    "received_not_delivered",
    _WARN,
    "a study that was received is not delivered into the landing zone",
    "It has come whole and waits in `.archives` of the landing zone: it is missing in the data set.",
    Mend(
        "Make room on the disk of the landing zone, make it writable for the receiver, or move away what has "
        "the name of the study's arrival (`received-` and its token). The receiver tries again every few "
        "seconds: see that it runs.",
        is_safe=True,
        command="radiobject-assets receive",
    ),
)
OF_ARRAYS = {
    kind.code: kind
    for kind in (
        ARRAY_MISSING,
        ARRAY_UNREADABLE,
        ARRAY_FILES,
        VOXELS_CHANGED,
        INDEX_WRONG,
        ARRAY_OF_ANOTHER,
        SHAPE_DIFFERS,
        DTYPE_DIFFERS,
    )
}
"""By the codes of `store.VolumeProblem`."""

OF_VOLUMES = (*OF_ARRAYS.values(), ROW_CHANGED, VOLUME_GONE, GEOMETRY, LABELS_OFF, ODD_SPACING)
"""What the integrity of stored volumes is."""

OF_VALUES = (NOT_FINITE, CONSTANT, IMPLAUSIBLE)
"""What voxels can't be, or seldom are."""

KINDS = {value.code: value for value in list(globals().values()) if isinstance(value, Kind)}
"""All of these, by code (`kind_registry.every_kind`: those of other subjects too)."""
