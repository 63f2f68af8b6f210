"""Why a file or a series is not ingested: a closed list of codes, each with its meaning and what to do.

The codes are stable: they appear in `ingest --json`, in the `series` table, in checks and in the docs. A
reason's own `detail` (numbers, positions) is added where the verdict is given; it never names a patient.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Reason(StrEnum):
    """Reason codes of files that cannot be read and of series that are quarantined."""

    EMPTY_FILE = "empty_file"
    NOT_AN_IMAGE = "not_an_image"
    FOREIGN_FORMAT = "foreign_format"
    NOT_READABLE = "not_readable"
    ARCHIVE = "archive"
    ARCHIVE_DAMAGED = "archive_damaged"
    ARCHIVE_LIMITS = "archive_limits"
    ARCHIVE_MEMBER = "archive_member"
    NESTED_ARCHIVE = "nested_archive"
    SIDECAR = "sidecar"
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
    LOCALIZER = "localizer"
    SINGLE_SLICE = "single_slice"
    SINGLE_POSITION = "single_position"
    MISSING_SLICE = "missing_slice"
    VARIABLE_SPACING = "variable_spacing"
    INCOMPLETE_TIME_SERIES = "incomplete_time_series"
    CONFLICTING_DUPLICATES = "conflicting_duplicates"
    MIXED_IDENTITY = "mixed_identity"
    DECODER_FAILED = "decoder_failed"
    REFERENCE_MISSING = "reference_missing"
    REFERENCE_QUARANTINED = "reference_quarantined"
    REFERENCE_AMBIGUOUS = "reference_ambiguous"
    LABELS_OFF_GRID = "labels_off_grid"
    LABELS_EMPTY = "labels_empty"
    SEGMENTS_OVERLAP = "segments_overlap"
    FILE_CHANGED = "file_changed"
    WORKER_DIED = "worker_died"
    WORKER_TIMEOUT = "worker_timeout"
    MEMORY_EXCEEDED = "memory_exceeded"
    NO_COLLECTION = "no_collection"
    PARTIAL_RESEND = "partial_resend"
    SUBJECT_CONFLICT = "subject_conflict"


@dataclass(frozen=True)
class Explanation:
    """What a reason means, and what a person can do about it."""

    meaning: str
    action: str

    @property
    def needs_attention(self) -> bool:
        """Whether somebody should act; false where the reason is what such a file or series is (a scout)."""
        return not self.action.startswith("Nothing")


EXPLANATIONS: dict[Reason, Explanation] = {
    Reason.EMPTY_FILE: Explanation("The file has no bytes.", "Transfer it again."),
    Reason.NOT_AN_IMAGE: Explanation(
        "The content is neither DICOM nor a volume of another format.",
        "Nothing, if the file is a note or a table; else transfer it again.",
    ),
    Reason.FOREIGN_FORMAT: Explanation(
        "The file holds a volume, or part of one, in a format that is not read.",
        "Convert it to NIfTI with a tool that knows the format, and ingest again.",
    ),
    Reason.NOT_READABLE: Explanation(
        "The operating system refused to read the file.", "Check its permissions and the disk."
    ),
    Reason.ARCHIVE: Explanation(
        "The file is an archive of a kind that is not read in place (7z, rar, bzip2, xz, zstd, ISO...).",
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
        "An archive within an archive is not read.", "Unpack the outer archive and ingest the folder."
    ),
    Reason.SIDECAR: Explanation(
        "A table, sidecar or note of a BIDS folder: read where it describes images or subjects.", "Nothing."
    ),
    Reason.DICOMDIR: Explanation(
        "A DICOMDIR only lists other files; what is really there is scanned instead.", "Nothing."
    ),
    Reason.DAMAGED_HEADER: Explanation(
        "The DICOM header is damaged, so its elements cannot be told apart.", "Export the instance again."
    ),
    Reason.TRUNCATED: Explanation("The file ends before its pixel data does.", "Transfer it again."),
    Reason.NIFTI_INVALID: Explanation(
        "The NIfTI header contradicts itself or the file's size, or it is an ANALYZE header.",
        "Convert the image again.",
    ),
    Reason.NIFTI_DATA_MISSING: Explanation(
        "A NIfTI header (.hdr) has no image file (.img) beside it.", "Supply the .img file."
    ),
    Reason.NIFTI_DATATYPE: Explanation(
        "The NIfTI data type cannot be stored as it is.",
        "Convert it to a number type; for complex and colour images set `imaging.components: keep`.",
    ),
    Reason.NIFTI_NO_SPACE: Explanation(
        "Image dimensions are not those of a 3D or 4D volume.",
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
        "The DICOM object is not a volume image (report, plan, waveform, projection, photograph, video...).",
        "Nothing, unless it should have been an image: then check what the sender exported.",
    ),
    Reason.UNSUPPORTED_ENCODING: Explanation(
        "No decoder is known for the transfer syntax, or for pixels of that size in it.",
        "Export with another transfer syntax.",
    ),
    Reason.UNSUPPORTED_PIXELS: Explanation(
        "Bits, samples or photometric interpretation are not valid for an image.",
        "Export the instance again.",
    ),
    Reason.COLOUR: Explanation(
        "Pixels are colours (RGB, YBR, palette), not measured values; usually a report or screen capture.",
        "Nothing, or set `imaging.components: keep` in dataset.yaml.",
    ),
    Reason.NON_LINEAR_RESCALE: Explanation(
        "The table that maps stored values to physical ones (Modality LUT) is damaged.",
        "Export the original images.",
    ),
    Reason.SIZE_MISMATCH: Explanation(
        "The declared rows, columns and frames do not fit the pixel data that is there.",
        "Export the instance again.",
    ),
    Reason.TOO_LARGE: Explanation("A volume of the declared size is not plausible.", "Check the header."),
    Reason.NO_GEOMETRY: Explanation(
        "Image position, orientation or pixel spacing is absent, so voxels have no place in the patient.",
        "Export the original images; derived captures usually lack geometry.",
    ),
    Reason.BAD_GEOMETRY: Explanation(
        "Position, orientation or spacing has impossible values.", "Check the sender, or export again."
    ),
    Reason.LOCALIZER: Explanation("A localizer (scout) is not a volume.", "Nothing."),
    Reason.SINGLE_SLICE: Explanation(
        "One slice alone is not a volume: most often a capture, or what arrived of a series.",
        "Send the rest of the series; if there is no more, nothing, or set `imaging.single_slices: keep`.",
    ),
    Reason.SINGLE_POSITION: Explanation(
        "All slices lie at the same position, and no header says how thick they are: not a volume.",
        "Nothing.",
    ),
    Reason.MISSING_SLICE: Explanation(
        "The gaps between slices are multiples of the spacing: slices are missing.",
        "Send the missing instances.",
    ),
    Reason.VARIABLE_SPACING: Explanation(
        "The distance between slices varies, so no single affine fits the volume.",
        "Use the reconstruction with constant spacing.",
    ),
    Reason.INCOMPLETE_TIME_SERIES: Explanation(
        "Not every position has the same number of time points (or echoes, b-values).",
        "Send the missing instances.",
    ),
    Reason.CONFLICTING_DUPLICATES: Explanation(
        "Several instances claim to be the same one and differ.", "Keep the right one and ingest again."
    ),
    Reason.MIXED_IDENTITY: Explanation(
        "One series UID is used for several patients or studies.", "Have the sender correct the identifiers."
    ),
    Reason.DECODER_FAILED: Explanation(
        "The compressed pixel data cannot be decoded.", "Export the instance again."
    ),
    Reason.REFERENCE_MISSING: Explanation(
        "The image that the labels refer to is not here.",
        "Ingest the image; labels whose files stay where they are then follow by themselves.",
    ),
    Reason.REFERENCE_QUARANTINED: Explanation(
        "The image that the labels refer to is quarantined itself.", "See the image's reason."
    ),
    Reason.REFERENCE_AMBIGUOUS: Explanation(
        "Several images of the subject could be the one that the labels were drawn on.",
        "Name images and labels after their session and run as BIDS does, or give each kind of image a "
        "collection and set `labels_of`.",
    ),
    Reason.LABELS_OFF_GRID: Explanation(
        "The labels do not lie on their image's voxels.", "Check that the labels belong to this image."
    ),
    Reason.LABELS_EMPTY: Explanation(
        "The labels object contains no region.", "Nothing, or check the annotation."
    ),
    Reason.SEGMENTS_OVERLAP: Explanation(
        "Segments overlap, so one label per voxel cannot hold them.", "Export one segmentation per segment."
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
    ),
    Reason.PARTIAL_RESEND: Explanation(
        "The store holds this series with more instances, from another arrival.",
        "Nothing, if it was a partial re-send; else send the whole series or delete the stored volume.",
    ),
    Reason.SUBJECT_CONFLICT: Explanation(
        "The store holds this series UID under another subject, or the PatientID comes from two issuers.",
        "Find out which subject is right; delete the wrong one before ingesting again. If the issuers mean "
        "one patient, set `subjects.issuer: ignore`.",
    ),
}
