"""Writes docs/reference/attributes.md and docs/reference/reasons.md from what the code allows and says.

    python docs/make_imaging_reference.py

A test holds the files against what this would write.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence
from pathlib import Path

from pydicom.datadict import dictionary_description, keyword_for_tag

from radiobject_assets.imaging.dicom import real_world, tracer
from radiobject_assets.imaging.dicom.tags import ATTRIBUTES, IDENTITY, OPTIONAL_ATTRIBUTES
from radiobject_assets.imaging.files.archives import LIMITS
from radiobject_assets.imaging.nifti import bids, sidecars
from radiobject_assets.imaging.reasons import EXPLANATIONS, Reason
from radiobject_assets.imaging.release.deidentification import DATE_COLUMNS, UID_COLUMNS

FOLDER = Path(__file__).resolve().parent / "reference"

COMPUTED = {
    "patient_id_issuer": "8 digits made of IssuerOfPatientID: other digits, another issuer",
    "secondary_capture": "1 where the SOP class is Secondary Capture",
    "gantry_tilt_deg": "angle of a tilted gantry: the affine is sheared",
    "complex_component": "`phase`, `real` or `imaginary`; absent for magnitude",
    "components": "`rgb`, `rgba` or `complex`, where the last axis holds components",
    "fourth_axis": "what the fourth axis is (docs/reference/evidence.md): `time`, `b_value`, `phase`, "
    "`inversion_time`, `channel`, `component`, `unknown`...",
    "fourth_axis_values, fourth_axis_unit": "JSON list: the value of each point, and its unit",
    "fourth_axis_evidence": "DICOM elements that prove the order of the points",
    "frame_duration_s": "JSON list: how long each point was acquired (PET frames)",
    "<column>_by_point": "JSON list: an attribute that differs between the points and not within them",
    "contours_clipped, labels_clipped": "contours, or labelled voxels of another grid, that lie beyond the "
    "image and were cut off",
    "velocity_encoding_lps": "JSON list: direction of velocity encoding (LPS) of a flow image",
    "slice_positions_mm": "JSON list of true slice positions, where spacing varies and is kept",
    "b_values_s_per_mm2": "JSON list: b-value of each time point",
    "b_vectors_ras": "JSON list: gradient direction of each time point (unit vector, RAS+); what "
    "vendors write along axes of the scan or the image is turned to the patient's",
    "b_vectors_rule": "names of the rules by which directions were understood "
    "(`imaging/dicom/vendor_rules.py`)",
    "b_vectors_unproved": "what is not known of the directions, where a rule rests on nothing: do not use "
    "them without a look at a tensor",
    "phase_encoding_polarity": "`forward` or `reversed`: of GE's epi_pepolar, whose reversed volumes are a "
    "component of their own and have their rows turned",
    "joined_series": "JSON list of SeriesNumber: series of one Siemens scan that this volume was joined of",
    "joined_uids": "how many SeriesInstanceUIDs the images of this series have, that were numbered as one",
    "joined_series_uids": "JSON list of SeriesInstanceUID: all series that this volume was joined of; a part "
    "of them that comes again alone is held back, and parts that came before are withdrawn",
    "scan_number, scan_point, scan_points": "scan and volume of it that a Siemens series with MFSPLIT is (7 "
    "and 1 of SeriesNumber 7001), and how many volumes the header says that the scan has",
    "scan_apart": "why the series was not joined with the others of its scan",
    "phase_encoding_ras": "JSON list: direction of phase encoding (unit vector, RAS+); Siemens EPI",
    "effective_echo_spacing_s, total_readout_time_s": "as BIDS defines them; Siemens EPI",
    "slice_timing_s": "JSON list: when each slice was acquired, seconds after the first; Siemens and UIH "
    "mosaics",
    "slice_encoding_ras": "JSON list: direction (unit vector, RAS+) in which `slice_timing_s` lists slices",
    "volume_interval_s": "mean time between the time points of a 4D volume by AcquisitionTime, where they "
    "are evenly spaced and RepetitionTime says otherwise; not of GE, not of enhanced objects",
    **tracer.COLUMNS,
    **real_world.COLUMNS,
    "segments": "JSON list: value, label, coded type and category, algorithm of each segment",
    "segmentation_type": "`BINARY`, `FRACTIONAL`, `LABELMAP` or `CONTOURS`",
    "dose_type, dose_summation_type": "of an RT Dose; `pixel_units` is its DoseUnits, `GY` or `RELATIVE`",
    "nifti_version, sform_code, qform_code, time_step_s, xyzt_units": "of a NIfTI header",
    "nifti_intent_code, nifti_intent_parameters": "what the values of a NIfTI image mean, where it says so",
    "nifti_fifth_axis": "1 where the fourth axis of the volume was the fifth of the NIfTI image",
}

VOXELS = """\
## What voxels hold

- **Stored values** of the file (the BitsStored bits, wherever HighBit puts them), with `slope` and
  `intercept` beside them, wherever one of each fits the volume; else physical values as floating point.
- **Philips** writes slope and intercept of classic MR images as real-world value mapping, where its enhanced
  export has a rescale: there the mapping is taken for the rescale, as `dcm2niix -p n` does. Its private
  scaling (`dcm2niix -p y`) is not applied.
- **A Modality LUT** that is a straight line over all values that a pixel can have is told as slope and
  intercept. Of any other the voxels are what the table gives (unsigned, 8 or 16 bits), and `rescale_type` is
  its ModalityLUTType. A palette without colour is treated in the same way.
- **Colours** (RGB, YBR, palettes) with `imaging.components: keep` are red, green and blue along the last
  axis, **complex numbers** of NIfTI the real and imaginary part. An export joins them again (RGB24, RGBA32,
  complex64, complex128). A time series of colours is a volume for each time (`t1`, `t2`...).
- **A segmentation (SEG)** has one value for each segment, on the grid of its image; segments that overlap and
  fractional ones (0 to 1 with `slope`) are a volume each.
- **A region of an RTSTRUCT** is 1 where the centre of a voxel lies within its contours: even-odd, so rings in
  rings are holes. Contours between two slices go to the nearer one. Where a region is drawn on every second
  slice or fewer at a regular distance (two gaps of it, or all regions drawn so), the slices between are
  interpolated from the distance to the borders; a larger gap parts two pieces and stays empty, and nothing is
  added beyond the first and the last contour. Points and open lines enclose nothing.
"""

FORMATS = """\
## Files that are read

| format | what of it |
| --- | --- |
| DICOM | under any name, with or without preamble, in archives, gzipped by itself (`.dcm.gz`) |
| NIfTI-1 and -2 | `.nii`, `.nii.gz`, `.hdr` with `.img` |
| FreeSurfer MGH | `.mgh`, `.mgz`; values of the points of a surface are no volume |
| NRRD | `.nrrd`, `.nhdr` with its data file, raw, gzip or bzip2; in LPS, RAS or LAS space |
| Slicer's segmentations | `.seg.nrrd`: labels with `segments`; a volume for each layer of overlapping ones |
| MetaImage | `.mha`, `.mhd` with its data file, raw or zlib |

All are known by their first bytes, and treated alike: subjects, collections and labels are told by file names
(`match.files`), and without a collection volumes go to one named after the format. A fourth axis is what the
header says (time, b-value, component), else `unknown`. An NRRD file whose header does not say how its space
lies in the patient is refused; a MetaImage without directions has those that the format defines.

**RT Dose** is a volume in gray on its own grid, one for each file. GridFrameOffsetVector is read in both ways
of PS3.3 C.8.8.3.2, relative to the first plane and as z coordinates. **Any object of DICOM** whose frames all
have a position, an orientation, a spacing and grey pixels is a volume; projections and photographs are not,
whatever they say. A **HighBit** that cannot be (below BitsStored, beyond BitsAllocated) is passed over.

Volumes of AFNI, MINC, ECAT, Philips PAR/REC, Analyze, NumPy, MRtrix, Bruker, Interfile, VTK, GIPL, MRC, TIFF,
HDF5 and MATLAB files are not read, and named: `foreign_format`. Surfaces, streamlines, transforms, pictures
and documents are named, too, and ask for nothing.
"""

NEVER = """\
## What never leaves

Nothing else of a header is kept. Names, birth dates, addresses, institutions, staff, comments, free text,
private elements and whatever is nested in other sequences are skipped while the header is read. Of private
elements only the numbers that geometry, diffusion and scaling need are looked at.

- **A coded attribute says what its list has.** Where the standard lists the values of an attribute
  (sequences, positions, units, laterality, burned-in annotation, modality...), others are left out; body
  parts, contrast agents and tracers are told where all their words are of such (`imaging/words/`, which
  holds the context groups of PS3.16), ages, dates and code strings where they have their form. What is left
  to be free text is: manufacturer, model, sequence, kernel, and names that `attributes` adds.
- **An allowed text that names somebody is withheld.** The words of the attributes below are read with each
  header, looked for in its allowed texts, and forgotten. A kernel named after the patient does not reach obs.
  Names of segments and regions are treated so too, but for short names of one word (a phantom called sphere).
- **Age** (`PatientAge`, where `attributes` lists it) is 090Y for whoever is older. Other ages, sex, size and
  weight are as in the header. `suv_bw_factor` follows from weight and activity.
- **SeriesDescription** takes part in matching (`match.description`), and is stored only if `attributes` lists
  it, with `*` for such words. With pseudonyms it is matched in that form, too.
- **NIfTI** `aux_file`, `intent_name` and `db_name` are not stored; `descrip` and extensions only where
  `imaging.nifti_description` and `imaging.nifti_extensions` say `keep`, and never with pseudonyms. `Volume`,
  `RadiObject.from_images` and `append`, which take a caller's own files, keep both: they are meant to come
  out as they went in.
- **NRRD, MetaImage and MGH**: only the fields of geometry, type and encoding are looked at; of the key/value
  pairs of NRRD those of segments and diffusion. The name of a segment that repeats a word of the other pairs,
  or has a long number in it, is left out.
- **Paths** of files are told to whoever ran the command (`ingest --json`: `source`, `path`) and kept in the
  work folder, which is as confidential as the landing zone. They are not in the store, in logs or in Dagster.
- **The subjects' table** gives up columns whose heading speaks of names, birth, addresses, telephone, e-mail,
  record or insurance numbers, staff, notes or comments.
- **Burned-in text** in pixels can't be removed here: `burned_in_annotation`, `secondary_capture` and
  `conversion_type` mark what has to be looked at.
"""

PSEUDONYMS = """\
## Pseudonyms

```yaml
subjects:
  key: pseudonym                         # default: patient_id
  secret_env: RADIOBJECT_PSEUDONYM_KEY   # name of the variable, never the secret itself
```

The secret (16 characters or more) is read from the environment when a scan is released, and is never written.
A store remembers a digest of it and refuses another one, and ids that are no pseudonyms.

| what | becomes |
| --- | --- |
| PatientID, the subject in a NIfTI file's name, `subjects.id_column` | `p-` and 20 digits of an HMAC-SHA256 |
| study, series, SOP instance, frame-of-reference UIDs, and references | `2.25.<number>` from an HMAC |
| dates that `attributes` adds or the subjects' table has | 1 to 3650 days earlier, the same in a subject |
| BIDS labels with six digits in a row (a date, a record number) | eight digits of an HMAC |
| other ids in the subjects' table, cells that repeat the subject's id | left out |

Times of day stay. `imaging/release/deidentification.py` does all of this in one place (`Release.scan`);
whatever is made later, is made of what it lets out.
"""


EXIT_CODES = """\
## Exit codes of `ingest`

- **0**: every volume that was handed in is in the store, now or from before. What else there was is no
  volume (a note, a thumbnail, a report, a scout), was not asked for (`no_collection`), or is held more
  completely already (`partial_resend`).
- **1**: something was left out that is a volume or may be one (*a volume* in the table above), or nothing at
  all was taken in; or there is an entry under `problems`: a subjects' table that can't be read.
- **2**: the command could not run: a mistake in what was asked for, or a store that can't be written.

Some reasons depend on what they are told of. `not_an_image` counts as a volume where the file's name says so
(`.nii.gz`, `.dcm`, `.nrrd`...), `empty_file` does not where the name is a note's (`.txt`, `.gitkeep`), and
`no_geometry` does not for one flat image alone, which is a capture. A series that is no volume for one reason
is none, whatever else is wrong with it. Labels on a quarantined image count with the image.

Nothing taken in is no fault where all that came is DICOM of kinds that hold no volume (`unsupported_object`:
reports, whole-slide images): nobody can do anything about it. A folder of scouts, notes or unlisted series
alone does end with 1: it is most likely the wrong folder, or the wrong `match`.

Subjects that look wrong (`warnings`) do not change the exit code: their volumes are in, and the names may be
right after all. They are told on stderr or in the summary, with settings that fit.
"""


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Lines of a Markdown table."""
    lines = [f"| {' | '.join(head)} |", f"| {' | '.join('---' for _ in head)} |"]
    return [*lines, *(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |" for row in rows)]


def paragraph(text: str) -> str:
    """Text filled to lines."""
    return textwrap.fill(" ".join(text.split()), 110, break_long_words=False, break_on_hyphens=False)


def tag_of(tag: int) -> str:
    """A tag as the standard writes it."""
    return f"({tag >> 16:04X},{tag & 0xFFFF:04X})"


def attributes_page() -> str:
    """The page on what obs may hold."""
    kinds = {str: "text", float: "number", int: "whole number"}
    default = [
        (f"`{name}`", keyword_for_tag(tag), tag_of(tag), kinds[kind])
        for name, (tag, kind) in ATTRIBUTES.items()
    ]
    optional = [
        (f"`{keyword}`", f"`{name}`", tag_of(tag), kinds[kind], _note(name))
        for keyword, (name, tag, kind) in OPTIONAL_ATTRIBUTES.items()
    ]
    beside = [(f"`{key}`", f"`{name}`") for key, name in sidecars.COLUMN_OF.items()]
    named = [(f"`{entity}-`", f"`{column}`") for entity, column in bids.COLUMNS.items()]
    lines = [
        "# Attributes",
        "",
        "What obs may hold of a header: an allow-list. Written by `docs/make_imaging_reference.py`.",
        "",
        "## By default",
        "",
        *table(("column", "DICOM attribute", "tag", "type"), default),
        "",
        paragraph(
            """A column says of a volume only what all its planes say: one that differs from slice to slice
            (the tube current of a CT) is empty."""
        ),
        "",
        "Besides these: `modality`, `series_uid`, `study_uid`, `component` (what splits a series), and:",
        "",
        *table(("column", "meaning"), [(f"`{name}`", meaning) for name, meaning in COMPUTED.items()]),
        "",
        "The SOP instance UIDs of a volume are in its array's metadata.",
        "",
        "## By choice",
        "",
        "`attributes: [ProtocolName, AcquisitionDate]` in dataset.yaml adds columns from this list:",
        "",
        *table(("keyword", "column", "tag", "type", "with pseudonyms"), optional),
        "",
        "## From BIDS folders",
        "",
        "Of a sidecar, its own or inherited (BIDS gives seconds, obs has milliseconds):",
        "",
        *table(("key", "column"), beside),
        "",
        "Of a file's name: `suffix`, and of its folder `datatype`; the subject is `sub-<label>`.",
        "",
        *table(("entity", "column"), named),
        "",
        paragraph(
            """Where dataset.yaml lists no collections, an image goes to that of its suffix (`t1w`, `bold`).
            NIfTI labels go with the image on their grid that agrees best with these columns; one of another
            session or run is never theirs. Where several agree alike, the names and folders of what came
            together tell: an image whose name is in that of the labels (`p1_v2_t1` and `p1_v2_seg`), then
            those in the labels' folder, then the contrast that the labels' name has. Images in one folder
            whose names differ in the contrast alone (`t1`, `t2`, `flair`; channels of `imagesTr`) are one
            examination, and the labels go with the first of them. Where several could be meant still, the
            labels are `reference_ambiguous`."""
        ),
        "",
        FORMATS,
        VOXELS,
        NEVER,
        "Looked for in other texts: " + ", ".join(dictionary_description(tag) for tag in IDENTITY) + ".",
        "",
        PSEUDONYMS,
    ]
    return "\n".join(lines).rstrip("\n") + "\n"


def _note(column: str) -> str:
    if column in DATE_COLUMNS:
        return "moved"
    return "replaced" if column in UID_COLUMNS else ""


def reasons_page() -> str:
    """The page on reason codes."""
    rows = [
        (
            f"`{reason}`",
            EXPLANATIONS[reason].meaning,
            EXPLANATIONS[reason].action,
            "yes" if EXPLANATIONS[reason].left_out else "",
        )
        for reason in sorted(Reason)
    ]
    lines = [
        "# Reasons",
        "",
        paragraph(
            """Why a file or a series is not taken in. The list is closed: `ingest --json`, the `series`
            table, the checks and Dagster use these codes and no others. Where several things are wrong with a
            series, `reasons` lists all their codes, the first of which is `reason`. Written by
            `docs/make_imaging_reference.py`."""
        ),
        "",
        *table(("code", "what it means", "what to do", "a volume"), rows),
        "",
        *EXIT_CODES.splitlines(),
        "",
        "## Archives",
        "",
        paragraph(
            f"""`.zip`, `.tar` and `.tar.gz` are read in place, recognised by content. Each member is a file
            of its own, named `<archive>!/<member>`; the archive itself is not counted, unless it is refused
            as a whole. Headers are read one member at a time; decoding unpacks the members of one series to
            the temporary folder (`TMPDIR`) and removes them after. Bounds: {LIMITS.members:,} members,
            {LIMITS.member_bytes >> 30} GB for a member, {LIMITS.total_bytes >> 30} GB in all, {LIMITS.ratio}
            times the archive's size beyond the first {LIMITS.free_bytes >> 20} MB. Nested archives, links,
            encrypted members and names that lead out of the archive are refused, and nothing is ever written
            under a member's own name."""
        ),
        "",
        "## BIDS folders",
        "",
        paragraph(
            """The sidecars of one image (same name, `.json`, `.bval`, `.bvec`) count as files of its series.
            Tables, inherited sidecars, `README` and the like are `sidecar`: read where they describe
            something, and nobody's concern."""
        ),
    ]
    return "\n".join(lines) + "\n"


PAGES = {"attributes.md": attributes_page, "reasons.md": reasons_page}

if __name__ == "__main__":
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, page in PAGES.items():
        (FOLDER / name).write_text(page(), encoding="utf-8")
