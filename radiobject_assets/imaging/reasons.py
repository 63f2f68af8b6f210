"""Why a file or a series is not ingested: a closed list of codes, each with its meaning and what to do.

The codes are stable: they appear in `ingest --json`, in the `series` table, in checks and in the docs. A
reason's own `detail` (numbers, positions) is added where the verdict is given; it never names a patient.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

IMPOSSIBLE: Final = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError)
"""What numbers that no header should have may raise where nobody thought of them."""


class Reason(StrEnum):
    """Reason codes of files that cannot be read and of series that are quarantined."""

    EMPTY_FILE = "empty_file"
    NOT_AN_IMAGE = "not_an_image"
    SYSTEM_FILE = "system_file"
    FOREIGN_FORMAT = "foreign_format"
    NOT_READABLE = "not_readable"
    ARCHIVE = "archive"
    ARCHIVE_DAMAGED = "archive_damaged"
    ARCHIVE_LIMITS = "archive_limits"
    ARCHIVE_MEMBER = "archive_member"
    NESTED_ARCHIVE = "nested_archive"
    SIDECAR = "sidecar"
    SUBJECTS_TABLE = "subjects_table"
    COMPLETE_MARKER = "complete_marker"
    DICOMDIR = "dicomdir"
    DAMAGED_HEADER = "damaged_header"
    TRUNCATED = "truncated"
    NIFTI_INVALID = "nifti_invalid"
    NIFTI_DATA_MISSING = "nifti_data_missing"
    NIFTI_DATATYPE = "nifti_datatype"
    NIFTI_NO_SPACE = "nifti_no_space"
    VOLUME_HEADER = "volume_header"
    VOLUME_DATA_MISSING = "volume_data_missing"
    VOLUME_AXES = "volume_axes"
    UNSUPPORTED_OBJECT = "unsupported_object"
    UNSUPPORTED_ENCODING = "unsupported_encoding"
    UNSUPPORTED_PIXELS = "unsupported_pixels"
    COLOUR = "colour"
    NON_LINEAR_RESCALE = "non_linear_rescale"
    SIZE_MISMATCH = "size_mismatch"
    TOO_LARGE = "too_large"
    NO_GEOMETRY = "no_geometry"
    BAD_GEOMETRY = "bad_geometry"
    ROW_ORDER_UNKNOWN = "row_order_unknown"
    LOCALIZER = "localizer"
    SINGLE_SLICE = "single_slice"
    SINGLE_POSITION = "single_position"
    MISSING_SLICE = "missing_slice"
    VARIABLE_SPACING = "variable_spacing"
    INCOMPLETE_TIME_SERIES = "incomplete_time_series"
    DUPLICATE_POSITIONS = "duplicate_positions"
    UNPROVED_ORDER = "unproved_order"
    PARTS_DIFFER = "parts_differ"
    CONFLICTING_DUPLICATES = "conflicting_duplicates"
    MIXED_IDENTITY = "mixed_identity"
    DECODER_FAILED = "decoder_failed"
    REFERENCE_MISSING = "reference_missing"
    REFERENCE_QUARANTINED = "reference_quarantined"
    REFERENCE_AMBIGUOUS = "reference_ambiguous"
    FOURTH_AXIS_DIFFERS = "fourth_axis_differs"
    LABELS_OFF_GRID = "labels_off_grid"
    LABELS_EMPTY = "labels_empty"
    LABELS_NOT_WHOLE = "labels_not_whole"
    LABELS_WITH_CHANNELS = "labels_with_channels"
    SEGMENTS_OVERLAP = "segments_overlap"
    FILE_CHANGED = "file_changed"
    WORKER_DIED = "worker_died"
    WORKER_TIMEOUT = "worker_timeout"
    MEMORY_EXCEEDED = "memory_exceeded"
    NO_COLLECTION = "no_collection"
    PARTIAL_RESEND = "partial_resend"
    SUBJECT_CONFLICT = "subject_conflict"
    SUBJECT_FORGOTTEN = "subject_forgotten"


@dataclass(frozen=True)
class Explanation:
    """What a reason means, and what a person can do about it."""

    meaning: str
    action: str
    left_out: bool = True
    """Whether what has this reason is a volume that is not in the store, or may be one. False where it is
    none (a report, a scout), is in the store already, or was not asked for: nobody need act."""


EXPLANATIONS: dict[Reason, Explanation] = {
    Reason.EMPTY_FILE: Explanation("The file has no bytes.", "Transfer it again."),
    Reason.NOT_AN_IMAGE: Explanation(
        "The content is that of no image format that is known here.",
        "Nothing, if the file is a note, a table or a picture. If it should be an image (its name ends with "
        "`.nii.gz` or `.dcm`), it is damaged or of another format: transfer it again, or convert it.",
        left_out=False,
    ),
    Reason.SYSTEM_FILE: Explanation(
        "An operating system left the file beside others (`._name` of macOS, `.DS_Store`): it holds no "
        "image, whatever it is called.",
        "Nothing.",
        left_out=False,
    ),
    Reason.FOREIGN_FORMAT: Explanation(
        "The file holds a volume, or part of one, in a format that is not read.",
        "Convert it to NIfTI with a tool that knows the format, and ingest again.",
    ),
    Reason.NOT_READABLE: Explanation(
        "The operating system refused to read the file or folder, so what it holds is not known.",
        "Check its permissions and the disk, and ingest again.",
    ),
    Reason.ARCHIVE: Explanation(
        "The file is an archive of a kind that is not read in place (7z, rar, bzip2, xz, zstd, ISO...), so "
        "none of its members is taken in.",
        "Unpack it, or pack it as zip, tar or tar.gz, and ingest again.",
    ),
    Reason.ARCHIVE_DAMAGED: Explanation(
        "The archive is damaged or cut short, so none of its members is taken in.", "Transfer it again."
    ),
    Reason.ARCHIVE_LIMITS: Explanation(
        "The archive unpacks to more members or bytes than is plausible, so none of it is taken in.",
        "Check where it comes from; if it is sound, unpack it and ingest the folder.",
    ),
    Reason.ARCHIVE_MEMBER: Explanation(
        "A member of the archive is a link, encrypted, damaged, or has a name that leads out of it.",
        "Pack the file itself, without a password, and ingest again.",
    ),
    Reason.NESTED_ARCHIVE: Explanation(
        "An archive within an archive is not read, so none of its members is taken in.",
        "Unpack the outer archive and ingest the folder.",
    ),
    Reason.SIDECAR: Explanation(
        "A table, sidecar or note of a BIDS folder: read where it describes images or subjects.",
        "Nothing.",
        left_out=False,
    ),
    Reason.SUBJECTS_TABLE: Explanation(
        "The subjects' own table (`subjects.table`), which is read for what it says of them.",
        "Nothing.",
        left_out=False,
    ),
    Reason.COMPLETE_MARKER: Explanation(
        "The mark that an arrival is complete (`arrivals.complete_marker`); it holds nothing.",
        "Nothing.",
        left_out=False,
    ),
    Reason.DICOMDIR: Explanation(
        "A DICOMDIR only lists other files; what is really there is scanned instead.",
        "Nothing.",
        left_out=False,
    ),
    Reason.DAMAGED_HEADER: Explanation(
        "The header is damaged or holds a value that cannot be used (an id that no table can hold), so what "
        "the file is of cannot be told for certain.",
        "Export or transfer the files again; the detail says where the header breaks off or which value it "
        "is.",
    ),
    Reason.TRUNCATED: Explanation(
        "The file ends before its pixel data does: it was cut short on its way.", "Transfer it again."
    ),
    Reason.NIFTI_INVALID: Explanation(
        "The NIfTI header contradicts itself or the file's size, or it is an ANALYZE header, which does not "
        "tell left from right.",
        "Transfer it again if it was cut short; else convert the original images to NIfTI again.",
    ),
    Reason.NIFTI_DATA_MISSING: Explanation(
        "A NIfTI header (.hdr) has no image file (.img) beside it.", "Supply the .img file."
    ),
    Reason.NIFTI_DATATYPE: Explanation(
        "The NIfTI data type cannot be stored as it is.",
        "Convert it to a number type; for complex and colour images set `imaging.components: keep`.",
    ),
    Reason.NIFTI_NO_SPACE: Explanation(
        "The image's dimensions are not those of a 3D or 4D volume.",
        "Split or reshape the image into 3D or 4D volumes.",
    ),
    Reason.VOLUME_HEADER: Explanation(
        "The header of an MGH, NRRD or MetaImage file is damaged, contradicts itself or the file's size, or "
        "lacks what its format asks for.",
        "Save the volume again with the program that wrote it, or convert it to NIfTI.",
    ),
    Reason.VOLUME_DATA_MISSING: Explanation(
        "The header of a volume (.mhd, .nhdr) names a data file that is not in its folder.",
        "Supply the data file under the name that the header says.",
    ),
    Reason.VOLUME_AXES: Explanation(
        "The axes of an MGH, NRRD or MetaImage file are not those of one 3D or 4D volume.",
        "Split or reshape it into 3D or 4D volumes.",
    ),
    Reason.UNSUPPORTED_OBJECT: Explanation(
        "The DICOM object is of a kind that holds no volume, or none that is read here: a report, plan, "
        "waveform, projection, photograph, whole-slide image, video; or it is a segmentation of one.",
        "Nothing, unless it should be a volume: then check what the sender exported.",
        left_out=False,
    ),
    Reason.UNSUPPORTED_ENCODING: Explanation(
        "No decoder is known for the transfer syntax, or for pixels of that size in it.",
        "Export with another transfer syntax (Explicit VR Little Endian always works).",
    ),
    Reason.UNSUPPORTED_PIXELS: Explanation(
        "Bits, samples or photometric interpretation of the pixels do not fit each other or are not read.",
        "Export the original images uncompressed; the detail says which values do not fit.",
    ),
    Reason.COLOUR: Explanation(
        "Pixels are colours (RGB, YBR, palette), not measured values; usually a report or screen capture.",
        "Nothing, if they are captures; to keep colours set `imaging.components: keep` in dataset.yaml.",
        left_out=False,
    ),
    Reason.NON_LINEAR_RESCALE: Explanation(
        "The table that maps stored values to physical ones (Modality LUT) is damaged, or of the line "
        "(RescaleSlope and RescaleIntercept) one half is absent, so the values mean nothing.",
        "Export the original images.",
    ),
    Reason.SIZE_MISMATCH: Explanation(
        "The declared rows, columns and frames do not fit the pixel data that is there.",
        "Export the instances again; the detail says how many bytes are declared and how many are there.",
    ),
    Reason.TOO_LARGE: Explanation(
        "A volume of the declared size is not plausible (more than 1 TB).",
        "Check the rows, columns and frames that the header declares.",
    ),
    Reason.NO_GEOMETRY: Explanation(
        "Image position, orientation or pixel spacing is absent, so voxels have no place in the patient.",
        "Export the original images; derived captures usually lack geometry. Nothing, for a single capture.",
    ),
    Reason.BAD_GEOMETRY: Explanation(
        "Position, orientation or spacing has impossible values (zero, not finite, axes that are not at "
        "right angles).",
        "Export the original images again; the detail says which value it is.",
    ),
    Reason.LOCALIZER: Explanation(
        "A localizer (scout) is not a volume: a few slices in several directions.",
        "Nothing.",
        left_out=False,
    ),
    Reason.ROW_ORDER_UNKNOWN: Explanation(
        "GE's epi_pepolar sequence stores the rows of some volumes in reverse order, and the header does not "
        "say of which.",
        "Send the images with GE's private elements (0019,109C) and (0019,10B3) and with "
        "TemporalPositionIdentifier, as they left the scanner.",
    ),
    Reason.SINGLE_SLICE: Explanation(
        "One slice alone is not a volume: most often a capture, or what arrived of a series.",
        "Send the rest of the series; if there is no more, nothing, or set `imaging.single_slices: keep`.",
    ),
    Reason.SINGLE_POSITION: Explanation(
        "All slices lie at the same position, and no header says how thick they are: not a volume.",
        "Nothing, if they are to lie there (bolus tracking); else export the original images.",
        left_out=False,
    ),
    Reason.MISSING_SLICE: Explanation(
        "The gaps between slices are multiples of the spacing: slices are missing.",
        "Send the missing instances; the detail says how many and where. To take the volume in as it is, set "
        "`imaging.irregular_spacing: keep`.",
    ),
    Reason.VARIABLE_SPACING: Explanation(
        "The distance between slices varies, so no single affine fits the volume.",
        "Use the reconstruction with constant spacing, or set `imaging.irregular_spacing: keep`.",
    ),
    Reason.INCOMPLETE_TIME_SERIES: Explanation(
        "Not every position has the same number of time points (or echoes, b-values): images are missing.",
        "Send the missing instances; if the scan was stopped within a round, leave out the round that is not "
        "whole.",
    ),
    Reason.DUPLICATE_POSITIONS: Explanation(
        "Some positions, not all, hold two or more slices with different pixels: blocks that overlap, a "
        "scan that was repeated in part, or two scans under one series UID. Nothing says which to take.",
        "Decide which slices form the volume and remove the others, or export each block as a series of its "
        "own. Sending the series again changes nothing.",
    ),
    Reason.UNPROVED_ORDER: Explanation(
        "Several images lie at each position, and no header proves in which order they were taken or what "
        "tells them apart, or two kinds of evidence (times, numbers, b-values) contradict each other. An "
        "order that is guessed may be wrong, so the series is held back.",
        "Export the original images from the scanner or archive: anonymising often removes or changes the "
        "dates, times and numbers that prove the order. The detail says what is missing or contradicts.",
    ),
    Reason.PARTS_DIFFER: Explanation(
        "Slices of one stack differ in something that one volume cannot hold (matrix, pixel spacing, "
        "orientation, echo, a rescale that some lack), so no part of it is taken in without its rest.",
        "If the parts are separate scans, export each as a series of its own; if they are one, export it "
        "again with the same value in all slices. The detail says what differs and in how many slices.",
    ),
    Reason.CONFLICTING_DUPLICATES: Explanation(
        "Several instances have one SOPInstanceUID and differ in pixels or header: one is right at most.",
        "Keep the right one of each and ingest again; the detail says how many there are.",
    ),
    Reason.MIXED_IDENTITY: Explanation(
        "One series UID is used for several patients or studies, so whose images they are is not certain.",
        "Have the sender correct the identifiers.",
    ),
    Reason.DECODER_FAILED: Explanation(
        "The compressed pixel data cannot be decoded: it is damaged, or not what the header says.",
        "Export the series again, best uncompressed.",
    ),
    Reason.REFERENCE_MISSING: Explanation(
        "The image that the labels refer to is not here.",
        "Ingest the image; labels whose files stay where they are then follow by themselves.",
    ),
    Reason.REFERENCE_QUARANTINED: Explanation(
        "The image that the labels refer to is quarantined itself, under the reason that is named.",
        "Nothing for the labels: what the image's own reason asks for. They follow when the image is in.",
        left_out=False,
    ),
    Reason.REFERENCE_AMBIGUOUS: Explanation(
        "Several images of the subject could be the one that the labels were drawn on.",
        "Name images and labels after their session and run as BIDS does, or give each kind of image a "
        "collection and set `labels_of`.",
    ),
    Reason.FOURTH_AXIS_DIFFERS: Explanation(
        "The volume's fourth axis has another number of points than dataset.yaml says.",
        "Correct the collection's `fourth_axis`, or give such volumes a collection of their own.",
    ),
    Reason.LABELS_OFF_GRID: Explanation(
        "The labels do not lie on their image's voxels: by how much, and what usually does that, is said.",
        "Take the labels of this image, or resample them onto it (nearest neighbour) and ingest them again.",
    ),
    Reason.LABELS_EMPTY: Explanation(
        "The labels contain no region.", "Nothing, or check the annotation.", left_out=False
    ),
    Reason.LABELS_NOT_WHOLE: Explanation(
        "A collection of `kind: labels` holds whole numbers, and voxels of this image are none.",
        "Make the labels again without interpolation (nearest neighbour); if they are probabilities, give "
        "them a collection of `kind: image`.",
    ),
    Reason.LABELS_WITH_CHANNELS: Explanation(
        "The labels have a fourth axis that is not their image's: one channel for each structure, mostly.",
        "Set the collection's `channels` in dataset.yaml (`one_hot`, or `one_hot_with_background`), or save "
        "one value for each voxel.",
    ),
    Reason.SEGMENTS_OVERLAP: Explanation(
        "Segments overlap, so one label per voxel cannot hold them.",
        "Export one segmentation per segment.",
    ),
    Reason.FILE_CHANGED: Explanation(
        "A file changed or vanished between the scan and the read.",
        "Wait until the transfer is over and ingest again.",
    ),
    Reason.WORKER_DIED: Explanation(
        "The process that decoded the series ended without a word, as when a codec crashes on damaged data.",
        "Export the series again; report it if the data is sound.",
    ),
    Reason.WORKER_TIMEOUT: Explanation(
        "Decoding took longer than the limit for one task, so it was ended.",
        "Ingest the series alone with a larger compute.task_timeout_s, or export it again.",
    ),
    Reason.MEMORY_EXCEEDED: Explanation(
        "Decoding took more memory than its share of the budget, so it was ended.",
        "Ingest the series alone, or with a larger memory budget.",
    ),
    Reason.NO_COLLECTION: Explanation(
        "No collection of dataset.yaml matches the series.",
        "Nothing, if the series is not wanted; else add or widen a collection's `match`.",
        left_out=False,
    ),
    Reason.PARTIAL_RESEND: Explanation(
        "The store holds this series with more instances: from another arrival, from this one before files "
        "went away, or joined with others that did not come with it. The stored volume stays.",
        "Nothing, if it was a partial re-send; else send the whole series (all that were joined, together) "
        "or put back what went away. If the rest is what you want, delete the stored volume.",
        left_out=False,
    ),
    Reason.SUBJECT_CONFLICT: Explanation(
        "The store holds this series UID under another subject, or the PatientID comes from two issuers.",
        "Find out which subject is right; delete the wrong one before ingesting again. If the issuers mean "
        "one patient, set `subjects.issuer: ignore`.",
    ),
    Reason.SUBJECT_FORGOTTEN: Explanation(
        "The file is of somebody who was forgotten (`radiobject-assets forget`), and came again.",
        "Delete it where it came from. If the person may come in again: `radiobject-assets forget SUBJECT "
        "--allow`, or for everybody `subjects.refuse_forgotten: false`.",
        left_out=False,
    ),
}
