"""Any good series, changed as archives, converters and scanners change them: exact, or refused as a whole.

Never a part of it, never another order. `RIGHT` says for each change what may come of it; a change of which
only `exact` is right leaves no doubt about any voxel, so refusing it would be wrong as well.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from pathlib import Path

import changed_evidence as evidence
import changed_series as changed
import numpy as np
import pytest
from changed_series import Change, NotApplicableError
from good_series import Good, Planes, attributes_of, darkened, load_good, load_mosaic, outcome
from silent_planes import WHOLE, keywords, lacking, patterns

from radiobject_assets.imaging.scanning.scan import scan
from radiobject_assets.imaging.series.series_building import build_series

EXACT = frozenset({"exact"})
EITHER = frozenset({"exact", "refused"})
REFUSED = frozenset({"refused"})
APART = frozenset({"divided", "refused"})
ANY_WHOLE = frozenset({"exact", "divided", "refused"})

STACKS = (
    "ct_ibsi_sphere", "ct_philips_tilt", "ct_siemens_gantrytilt", "mr_comp_rle", "mr_ge_anat_implicit",
    "mr_hitachi_anat", "mr_philips_anat", "mr_siemens_phase", "mr_two_slices", "rt_rtstruct_refs",
)  # fmt: skip
IN_TIME = ("mr_ge_fmri4d", "mr_philips_fmri4d")
DIFFUSION = ("mr_ge_dti4d", "mr_philips_dti4d")
SEVERAL = "mr_philips_dualecho"
"""Two echoes, magnitude and phase: four volumes."""
LARGE = (
    "ct_philips_notilt", "mr_comp_j2k", "mr_comp_jpegll", "mr_comp_jpegls", "mr_philips_dualecho",
    "mr_philips_fmri4d_7t", "mr_t1_7t_implicit",
)  # fmt: skip

# What is right of a stack, and (where it differs) of a series in time. For weightings (diffusion) a refusal
# is right too where a stack in time must be exact: their order need not be that of any clock.
RIGHT: dict[str, dict[Change, tuple[frozenset[str], frozenset[str]]]] = {
    "pixels": {
        changed.bits_stored_lowered: (EXACT, EXACT),
        changed.bits_allocated_lowered: (EXACT, EXACT),
        changed.bits_allocated_raised: (EXACT, EXACT),
        changed.sign_changed: (EXACT, EXACT),
        changed.other_transfer_syntax: (EXACT, EXACT),
        changed.identity_rescale_absent: (EXACT, EXACT),
    },
    "geometry": {
        changed.spacing_noise: (EXACT, EXACT),
        changed.spacing_apart: (REFUSED, REFUSED),
        changed.orientation_noise: (EXACT, EXACT),
        changed.orientation_apart: (REFUSED, REFUSED),
        changed.position_noise: (EXACT, EXACT),
        changed.slice_location_lies: (EXACT, EXACT),
        changed.slice_distance_lies: (EXACT, EXACT),
        changed.position_removed: (REFUSED, REFUSED),
        changed.orientation_removed: (EITHER, EITHER),
        changed.pixel_spacing_removed: (EITHER, EITHER),
        changed.one_position_for_all: (REFUSED, REFUSED),
        changed.slice_lost: (REFUSED, REFUSED),
        changed.point_of_a_slice_lost: (REFUSED, REFUSED),
    },
    "copies": {
        changed.files_renamed: (EXACT, EXACT),
        changed.copied_again: (EXACT, EXACT),
        changed.position_twice: (REFUSED, REFUSED),
    },
    "identity": {
        changed.rescale_absent: (
            EITHER,
            EITHER,
        ),  # here: of half a series under its own UID it can't be known
        changed.split_in_halves: (ANY_WHOLE, ANY_WHOLE),
        changed.split_by_point: (ANY_WHOLE, ANY_WHOLE),
        changed.two_studies: (REFUSED, REFUSED),
        changed.two_patients: (REFUSED, REFUSED),
    },
    "kind": {
        evidence.quantity_of_some_slices: (REFUSED, REFUSED),
        evidence.kind_of_some_slices: (EITHER, EITHER),
        evidence.kind_of_a_point: (APART, APART),
        evidence.units_of_some_slices: (REFUSED, REFUSED),
        evidence.units_of_a_point: (APART, APART),
    },
    "time": {
        changed.numbers_shuffled: (EXACT, EITHER),
        changed.numbers_alike: (EXACT, EITHER),
        changed.acquisition_numbers_differ: (EXACT, EITHER),
        evidence.dates_missing: (EXACT, EXACT),
        evidence.temporal_tag_removed: (EXACT, EITHER),
        evidence.temporal_tags_removed: (EXACT, REFUSED),
        evidence.one_time_for_all: (EXACT, EITHER),
        evidence.times_in_order: (EXACT, EXACT),
        evidence.over_midnight: (EXACT, EXACT),
        evidence.over_midnight_without_dates: (EXACT, EXACT),
        evidence.over_midnight_alone: (EXACT, EITHER),
        evidence.times_against_positions: (REFUSED, REFUSED),
    },
    # last: a file that is damaged is not written again
    "damage": {
        changed.end_slice_with_another_echo: (EITHER, EITHER),
        changed.end_slice_of_another_matrix: (REFUSED, REFUSED),
        changed.end_slice_in_colour: (REFUSED, REFUSED),
        changed.end_slice_unknown_encoding: (REFUSED, REFUSED),
        changed.end_slice_truncated: (REFUSED, REFUSED),
    },
}
CHANGES = {change.__name__: change for group in RIGHT.values() for change in group}
PARTS = {changed.split_in_halves}  # half of a stack under its own UID may be a scan of its own


def right_of(change: Change, name: str) -> frozenset[str]:
    """What may come of a change of the series."""
    stack, in_time = next(group[change] for group in RIGHT.values() if change in group)
    if name in DIFFUSION and change in RIGHT["time"]:
        # the standard's b-values and directions stay in headers, and are an order of their own
        return in_time | {"exact", "refused", "weighted"}
    if name == SEVERAL:  # what is wrong in one of its volumes leaves the others whole
        return stack | {"divided"} if stack == REFUSED else stack
    return in_time if name in IN_TIME or name == "mr_philips_fmri4d_7t" else stack


def right_of_both(first: Change, second: Change, name: str) -> frozenset[str]:
    """What may come of two changes: nothing that one of them forbids, and a refusal always."""
    a, b = right_of(first, name), right_of(second, name)
    right = (a & b) | {"refused"}
    if REFUSED in (a, b):  # but what is wrong within one UID or kind leaves the others whole
        return APART if ANY_WHOLE in (a, b) or APART in (a, b) else REFUSED
    if "divided" in a | b and "exact" in a | b:
        right |= {"divided"}
    return right | ({"weighted"} & (a | b))


def series_of(shared_data: Path, names: tuple[str, ...]) -> Iterator[Good]:
    """The good series that are on this machine."""
    for name in names:
        if (shared_data / "series" / name).is_dir():
            yield load_good(shared_data, name)


def tried(good: Good, changes: tuple[Change, ...], seed: int, folder: Path) -> str | None:
    """What became of a changed series; None where the changes make no sense for it."""
    random = np.random.default_rng(seed)
    planes: Planes = list(good.planes)
    try:
        for change in changes:
            planes = change(planes, random)
    except (NotApplicableError, AttributeError):  # an earlier change took away what this one changes
        return None
    return outcome(good, planes, folder, parts=not PARTS.isdisjoint(changes))


@pytest.mark.parametrize("name", [*STACKS, *IN_TIME, *DIFFUSION])
def test_the_truth_that_changes_are_measured_by_is_what_an_unchanged_series_gives(
    shared_data: Path, tmp_path: Path, name: str
) -> None:
    for good in series_of(shared_data, (name,)):
        assert outcome(good, good.planes, tmp_path / "unchanged") == "exact"


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_series_is_exact_or_refused_as_a_whole(
    shared_data: Path, tmp_path: Path, change: str
) -> None:
    """One change, of each series."""
    wrong, counted = [], 0
    for good in series_of(shared_data, (*STACKS, *IN_TIME, *DIFFUSION)):
        for seed in (1, 2) if len(good.planes) <= 12 else (1,):
            found = tried(good, (CHANGES[change],), seed, tmp_path / f"{good.name}-{seed}")
            counted += found is not None
            if found is not None and found not in right_of(CHANGES[change], good.name):
                wrong.append(f"{good.name} (seed {seed}): {found}")
    assert counted, "the change applies to no series"
    assert not wrong, "\n".join([str(CHANGES[change].__doc__), *wrong])


@pytest.mark.parametrize("name", ["ct_philips_tilt", "mr_hitachi_anat"])
def test_dark_slices_at_both_ends_with_8_bits_are_part_of_the_volume(
    shared_data: Path, tmp_path: Path, name: str
) -> None:
    for good in map(darkened, series_of(shared_data, (name,))):
        assert outcome(good, good.planes, tmp_path / "dark") == "exact"
        found = tried(good, (changed.bits_allocated_lowered_everywhere,), 1, tmp_path / "lowered")
        assert found == "exact"


def pairs() -> list[tuple[str, str]]:
    """Two changes of different groups, in the order of the groups."""
    groups = [[change.__name__ for change in group] for group in RIGHT.values()]
    found = [pair for a, b in itertools.combinations(groups, 2) for pair in itertools.product(a, b)]
    # a half that differs from the other in all its slices, under its own UID, is a scan of its own
    apart = {"spacing_apart", "orientation_apart", *(change.__name__ for change in RIGHT["kind"])}
    found = [pair for pair in found if "split_in_halves" not in pair or apart.isdisjoint(pair)]
    # a point alone in its kind or UID that lacks an end slice may be a scan of fewer slices
    alone = {"split_by_point", "kind_of_a_point", "units_of_a_point"}
    alone |= {"position_twice"}  # which fills the gap
    found = [pair for pair in found if "point_of_a_slice_lost" not in pair or alone.isdisjoint(pair)]
    # an image of another kind or matrix that has no place may be a capture
    placeless = {"position_removed", "orientation_removed"}
    other = {"end_slice_of_another_matrix", "kind_of_some_slices"}
    return [pair for pair in found if placeless.isdisjoint(pair) or other.isdisjoint(pair)]


def two_changes_of(good: Good, count: int, seed: int, folder: Path) -> list[str]:
    """What is wrong after any two changes of a series, `count` times."""
    random = np.random.default_rng(seed)
    possible = pairs()
    wrong = []
    for number in range(count):
        first, second = possible[int(random.integers(len(possible)))]
        changes = (CHANGES[first], CHANGES[second])
        own = int(random.integers(1 << 30))
        found = tried(good, changes, own, folder / str(number))
        if found is not None and found not in right_of_both(*changes, good.name):
            wrong.append(f"{good.name} {first} {second} (seed {own}): {found}")
    return wrong


@pytest.mark.parametrize("name", ["mr_hitachi_anat", "mr_siemens_phase", *IN_TIME, *DIFFUSION])
def test_two_changes_at_once_are_exact_or_refused_as_a_whole(
    shared_data: Path, tmp_path: Path, name: str
) -> None:
    for good in series_of(shared_data, (name,)):
        wrong = two_changes_of(good, 25, 11, tmp_path)
        assert not wrong, "\n".join(wrong)


@pytest.mark.slow
@pytest.mark.parametrize("name", [*STACKS, *IN_TIME, *DIFFUSION, *LARGE])
def test_many_changes_are_exact_or_refused_as_a_whole(shared_data: Path, tmp_path: Path, name: str) -> None:
    """The long form: every change with many seeds, and hundreds of pairs of changes."""
    for good in series_of(shared_data, (name,)):
        few = len(good.planes) > 12 or name in LARGE
        wrong = []
        for change in CHANGES.values():
            for seed in range(100, 104 if few else 125):
                found = tried(good, (change,), seed, tmp_path / f"{change.__name__}-{seed}")
                if found is not None and found not in right_of(change, name):
                    wrong.append(f"{name} {change.__name__} (seed {seed}): {found}")
        wrong += two_changes_of(good, 60 if few else 600, 29, tmp_path / "pairs")
        assert not wrong, f"{len(wrong)} wrong\n" + "\n".join(wrong[:200])


OF_A_PLANE = (
    "PixelSpacing", "ImagePositionPatient", "ImageOrientationPatient", "Rows", "PhotometricInterpretation",
    "RescaleSlope", "RescaleIntercept", "ImageType", "EchoTime", "SeriesNumber", "SliceThickness",
    "SpacingBetweenSlices", "SeriesInstanceUID", "SOPInstanceUID", "InstanceNumber", "BitsStored",
    "PixelData",
)  # fmt: skip
"""Attributes by which planes are placed, told apart and scaled."""


def wrong_where_some_lack(good: Good, names: Iterable[str], folder: Path) -> list[str]:
    """What is wrong after some planes of a series have lost an attribute."""
    wrong = []
    for name, pattern in itertools.product(names, patterns(good)):
        planes = lacking(good, name, pattern)
        found = "refused" if planes is None else outcome(good, planes, folder / f"{name} {pattern}")
        right = {"exact", "refused"}
        if pattern in WHOLE or good.name == SEVERAL:
            right |= {"divided"}
        if good.name in DIFFUSION:
            right |= {"weighted"}
        if found not in right:
            wrong.append(f"{good.name}, {pattern} without {name}: {found}")
    return wrong


@pytest.mark.parametrize("name", ["mr_ge_fmri4d", "mr_siemens_phase"])
def test_what_some_planes_lack_never_lets_the_others_pass_as_the_whole(
    shared_data: Path, tmp_path: Path, name: str
) -> None:
    for good in series_of(shared_data, (name,)):
        wrong = wrong_where_some_lack(good, OF_A_PLANE, tmp_path)
        assert not wrong, "\n".join(wrong)


@pytest.mark.slow
@pytest.mark.parametrize("name", [*STACKS, *IN_TIME, *DIFFUSION, SEVERAL, "mr_siemens_mosaic_fmri4d"])
def test_whatever_some_planes_lack_never_lets_the_others_pass_as_the_whole(
    shared_data: Path, tmp_path: Path, name: str
) -> None:
    """The long form: every attribute of the headers."""
    if not (shared_data / "series" / name).is_dir():
        return
    good = load_mosaic(shared_data, name) if "mosaic" in name else load_good(shared_data, name)
    wrong = wrong_where_some_lack(good, OF_A_PLANE if name == SEVERAL else keywords(good), tmp_path)
    assert not wrong, "\n".join(wrong)


def test_every_second_slice_under_another_uid_is_no_volume_of_its_own_without_a_word(
    shared_data: Path, tmp_path: Path
) -> None:
    """Joined, refused, or marked: obs then says of a half what it does not say where the half is alone."""
    wrong = []
    for good in series_of(shared_data, ("ct_ibsi_sphere", "ct_philips_tilt", "mr_siemens_phase")):
        planes = changed.split_every_second_slice(list(good.planes), np.random.default_rng(1))
        found = outcome(good, planes, tmp_path / good.name)
        if found in EITHER:
            continue
        both = said_of(tmp_path / good.name)
        halves = []
        for number in (0, 1):
            half = [plane for plane in planes if plane.z % 2 == number]
            changed_half = outcome(good, half, tmp_path / f"{good.name}-{number}")
            halves += said_of(tmp_path / f"{good.name}-{number}")
            assert changed_half
        alone = {frozenset(attributes.items()) for attributes in halves}
        if any(frozenset(attributes.items()) in alone for attributes in both):
            wrong.append(f"{good.name}: {len(both)} volumes of every second slice, and nothing says so")
    assert not wrong, "\n".join(wrong)


def said_of(folder: Path) -> list[dict[str, object]]:
    """Attributes of each volume that the files of a folder give."""
    return attributes_of(build_series(scan([folder])))
