"""Small changes of a good series as archives, converters and careless tools make: pixels, geometry, files.

A change is a pure function of planes and a random generator to planes; it raises `NotApplicableError` where
it makes no sense. Changes of kind and of time are in `changed_evidence`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from good_series import Plane, Planes
from pydicom.dataset import Dataset
from pydicom.uid import RLELossless, generate_uid

Random = np.random.Generator
Change = Callable[[Planes, Random], Planes]


class NotApplicableError(Exception):
    """The change makes no sense for this series."""


def some(planes: Planes, random: Random) -> set[int]:
    """Places of a part of the planes: every second place, the first half, one, or any."""
    places = sorted({plane.z for plane in planes})
    if len(places) < 3:
        return {places[-1]}
    how = int(random.integers(4))
    if how == 0:
        return set(places[::2])
    if how == 1:
        return set(places[: len(places) // 2])
    if how == 2:
        return {int(random.choice(places))}
    count = int(random.integers(1, len(places)))
    return {int(z) for z in random.choice(places, count, replace=False)}


def an_end(planes: Planes, random: Random) -> int:
    places = sorted({plane.z for plane in planes})
    return places[-1] if random.random() < 0.5 else places[0]


def at(planes: Planes, places: set[int], change: Callable[[Dataset], None], **fields: object) -> Planes:
    return [plane.edited(change, **fields) if plane.z in places else plane for plane in planes]


def native(planes: Planes) -> None:
    """Raises `NotApplicableError` if any pixels are compressed (all, or since an earlier change)."""
    compressed = planes[0].header().file_meta.TransferSyntaxUID.is_compressed
    if compressed or any(RLELossless.encode() in plane.data[:1024] for plane in planes):
        raise NotApplicableError("its pixels are compressed")


def setting(**values: object) -> Callable[[Dataset], None]:
    def change(ds: Dataset) -> None:
        for name, value in values.items():
            setattr(ds, name, value)

    return change


def without(*names: str) -> Callable[[Dataset], None]:
    def change(ds: Dataset) -> None:
        for name in names:
            if name in ds:
                delattr(ds, name)

    return change


def points_of(planes: Planes) -> int:
    points = max(plane.t for plane in planes) + 1
    if points < 2:
        raise NotApplicableError("it has no fourth axis")
    return points


def _stored_bits(ds: Dataset) -> int:
    values = ds.pixel_array
    largest = max(int(values.max()), -int(values.min()) - 1, 1)
    return largest.bit_length() + int(ds.PixelRepresentation)


def bits_stored_lowered(planes: Planes, random: Random) -> Planes:
    """BitsStored (and HighBit) of some slices as few as their values need."""
    native(planes)

    def change(ds: Dataset) -> None:
        ds.BitsStored = max(2, _stored_bits(ds))
        ds.HighBit = ds.BitsStored - 1

    return at(planes, some(planes, random), change)


def _to_8_bits(planes: Planes, places: set[int]) -> Planes:
    native(planes)
    changed = 0

    def change(ds: Dataset) -> None:
        nonlocal changed
        values = ds.pixel_array
        if values.min() < 0 or values.max() > 255:
            return
        changed += 1
        ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 8, 8, 7, 0
        data = values.astype("u1").tobytes()
        ds.PixelData = data + b"\0" * (len(data) % 2)
        ds["PixelData"].VR = "OW" if ds.file_meta.TransferSyntaxUID.is_implicit_VR else "OB"

    result = at(planes, places, change)
    if not changed:
        raise NotApplicableError("no slice fits in 8 bits")
    return result


def bits_allocated_lowered(planes: Planes, random: Random) -> Planes:
    """Some slices whose values fit in 8 bits have 8 bits."""
    return _to_8_bits(planes, some(planes, random))


def bits_allocated_lowered_everywhere(planes: Planes, random: Random) -> Planes:
    """Each slice whose values fit in 8 bits has 8 bits."""
    return _to_8_bits(planes, {plane.z for plane in planes})


def bits_allocated_raised(planes: Planes, random: Random) -> Planes:
    """Some slices were rewritten with 32 bits for each pixel."""
    native(planes)

    def change(ds: Dataset) -> None:
        values = ds.pixel_array.astype("<i4" if ds.PixelRepresentation else "<u4")
        ds.BitsAllocated, ds.BitsStored, ds.HighBit = 32, 32, 31
        ds.PixelData = values.tobytes()

    return at(planes, some(planes, random), change)


def sign_changed(planes: Planes, random: Random) -> Planes:
    """PixelRepresentation of some slices is the other one; all their values mean the same in both."""
    native(planes)
    places = some(planes, random)

    def change(ds: Dataset) -> None:
        values = ds.pixel_array
        if values.min() < 0 or values.max() >= 1 << (ds.BitsStored - 1):
            raise NotApplicableError("values have another meaning with the other sign")
        ds.PixelRepresentation = 1 - ds.PixelRepresentation

    return at(planes, places, change)


def other_transfer_syntax(planes: Planes, random: Random) -> Planes:
    """Some slices are compressed without loss (RLE), as archives do with what they recall."""
    native(planes)

    def change(ds: Dataset) -> None:
        if ds.file_meta.TransferSyntaxUID.is_implicit_VR:
            raise NotApplicableError("implicit VR cannot be compressed in place")
        ds.compress(RLELossless, generate_instance_uid=False)

    return at(planes, some(planes, random), change)


def rescale_absent(planes: Planes, random: Random) -> Planes:
    """RescaleSlope and RescaleIntercept are absent in some slices."""
    if "RescaleSlope" not in planes[0].header():
        raise NotApplicableError("it has no rescale")
    return at(planes, some(planes, random), without("RescaleSlope", "RescaleIntercept", "RescaleType"))


def identity_rescale_absent(planes: Planes, random: Random) -> Planes:
    """Some slices lack a rescale that changes nothing."""
    ds = planes[0].header()
    if "RescaleSlope" not in ds or (float(ds.RescaleSlope), float(ds.RescaleIntercept)) != (1, 0):
        raise NotApplicableError("its rescale is not the identity")
    return rescale_absent(planes, random)


def spacing_noise(planes: Planes, random: Random) -> Planes:
    """PixelSpacing of some slices differs in the last digits."""
    factor = 1 + float(random.choice([3e-8, 1e-6, -2e-6, 4e-5]))

    def change(ds: Dataset) -> None:
        ds.PixelSpacing = [f"{float(v) * factor:.10f}"[:16] for v in ds.PixelSpacing]

    return at(planes, some(planes, random), change)


def spacing_apart(planes: Planes, random: Random) -> Planes:
    """PixelSpacing of some slices differs by 2 %: the last pixel is voxels away."""

    def change(ds: Dataset) -> None:
        ds.PixelSpacing = [f"{float(v) * 1.02:.8f}" for v in ds.PixelSpacing]

    return at(planes, some(planes, random), change)


def _turned(ds: Dataset, voxels: float, random: Random) -> None:
    """Turn the plane about its first pixel, so that its far corner moves by so many voxels."""
    rows, columns = int(ds.Rows), int(ds.Columns)
    angle = voxels / float(np.hypot(rows, columns))
    cosines = np.reshape(np.array(ds.ImageOrientationPatient, float), (2, 3))
    axis = random.normal(size=3)
    axis /= np.linalg.norm(axis)
    # an axis across the plane's diagonal moves the far corner by all of the angle
    diagonal = cosines[0] * columns + cosines[1] * rows
    axis -= diagonal * (axis @ diagonal) / (diagonal @ diagonal)
    axis /= np.linalg.norm(axis)
    k = np.array([[0, -axis[2], axis[1]], [axis[2], 0, -axis[0]], [-axis[1], axis[0], 0]])
    turn = np.eye(3) + np.sin(angle) * k + (1 - np.cos(angle)) * (k @ k)
    ds.ImageOrientationPatient = [f"{v:.12f}"[:16] for v in (cosines @ turn.T).ravel()]


def orientation_noise(planes: Planes, random: Random) -> Planes:
    """Orientations of some slices differ by what moves a corner by three hundredths of a voxel."""
    return at(planes, some(planes, random), lambda ds: _turned(ds, 0.03, random))


def orientation_apart(planes: Planes, random: Random) -> Planes:
    """Orientations of some slices differ by what moves a corner by half a voxel, or by three."""
    voxels = float(random.choice([0.6, 3.0]))
    seed = int(random.integers(1 << 30))  # one turn for all of them
    return at(planes, some(planes, random), lambda ds: _turned(ds, voxels, np.random.default_rng(seed)))


def position_noise(planes: Planes, random: Random) -> Planes:
    """Positions differ in the fourth decimal."""

    def change(ds: Dataset) -> None:
        ds.ImagePositionPatient = [
            f"{float(v) + random.uniform(-1e-4, 1e-4):.6f}" for v in ds.ImagePositionPatient
        ]

    return at(planes, some(planes, random), change)


def slice_location_lies(planes: Planes, random: Random) -> Planes:
    """SliceLocation counts the other way, or is one value: positions say where a slice is."""
    constant = random.random() < 0.5
    return [plane.edited(setting(SliceLocation=0.0 if constant else -7.0 * plane.z)) for plane in planes]


def slice_distance_lies(planes: Planes, random: Random) -> Planes:
    """SpacingBetweenSlices is a gap, a negative number, or the thickness."""
    value = random.choice(["0.5", "-3", "100"])
    return [plane.edited(setting(SpacingBetweenSlices=str(value))) for plane in planes]


def position_removed(planes: Planes, random: Random) -> Planes:
    """ImagePositionPatient of one slice is absent."""
    return at(planes, {an_end(planes, random)}, without("ImagePositionPatient"), damaged=True)


def orientation_removed(planes: Planes, random: Random) -> Planes:
    """ImageOrientationPatient of one slice is absent."""
    return at(planes, {an_end(planes, random)}, without("ImageOrientationPatient"))


def pixel_spacing_removed(planes: Planes, random: Random) -> Planes:
    """PixelSpacing of one slice is absent."""
    return at(planes, {an_end(planes, random)}, without("PixelSpacing"))


def one_position_for_all(planes: Planes, random: Random) -> Planes:
    """All slices have the position of the first one; SliceLocation and InstanceNumber count on."""
    position = planes[0].header().ImagePositionPatient
    return [
        plane.edited(
            setting(ImagePositionPatient=position, SliceLocation=2.0 * plane.z, InstanceNumber=n + 1),
            damaged=True,
        )
        for n, plane in enumerate(sorted(planes, key=lambda plane: (plane.t, plane.z)))
    ]


def slice_lost(planes: Planes, random: Random) -> Planes:
    """A slice between others is not there."""
    places = sorted({plane.z for plane in planes})
    if len(places) < 4:
        raise NotApplicableError("it has too few slices")
    lost = int(random.choice(places[1:-1]))
    return [plane for plane in planes if plane.z != lost]


def point_of_a_slice_lost(planes: Planes, random: Random) -> Planes:
    """One slice of one point of the fourth axis is not there, as of an aborted scan."""
    points = points_of(planes)
    lost = (an_end(planes, random), points - 1)
    return [plane for plane in planes if (plane.z, plane.t) != lost]


def end_slice_truncated(planes: Planes, random: Random) -> Planes:
    """The file of an end slice ends within its pixels."""
    end = an_end(planes, random)
    return [
        replace(plane, data=plane.data[: -max(64, len(plane.data) // 4)], damaged=True)
        if plane.z == end
        else plane
        for plane in planes
    ]


def end_slice_of_another_matrix(planes: Planes, random: Random) -> Planes:
    """An end slice has half of the rows and columns, at twice the spacing."""
    native(planes)

    def change(ds: Dataset) -> None:
        values = ds.pixel_array[::2, ::2]
        ds.Rows, ds.Columns = values.shape
        ds.PixelSpacing = [f"{2 * float(v):.8f}" for v in ds.PixelSpacing]
        ds.PixelData = values.tobytes()

    return at(planes, {an_end(planes, random)}, change, damaged=True)


def end_slice_in_colour(planes: Planes, random: Random) -> Planes:
    """An end slice was burnt in as a colour image."""
    native(planes)

    def change(ds: Dataset) -> None:
        values = (ds.pixel_array.astype(int) % 256).astype("u1")
        ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 8, 8, 7, 0
        ds.SamplesPerPixel, ds.PhotometricInterpretation, ds.PlanarConfiguration = 3, "RGB", 0
        ds.PixelData = np.stack([values] * 3, -1).tobytes()
        ds["PixelData"].VR = "OW" if ds.file_meta.TransferSyntaxUID.is_implicit_VR else "OB"

    return at(planes, {an_end(planes, random)}, change, damaged=True)


def end_slice_unknown_encoding(planes: Planes, random: Random) -> Planes:
    """The transfer syntax of an end slice is one that no decoder knows."""

    end = an_end(planes, random)

    def swapped(data: bytes, syntax: str) -> bytes:
        return data.replace(syntax.encode(), syntax[:-1].encode() + b"7", 1)

    return [
        replace(
            plane, data=swapped(plane.data, str(plane.header().file_meta.TransferSyntaxUID)), damaged=True
        )
        if plane.z == end
        else plane
        for plane in planes
    ]


def end_slice_with_another_echo(planes: Planes, random: Random) -> Planes:
    """An end slice has another echo time."""
    if planes[0].header().get("EchoTime") is None:
        raise NotApplicableError("it has no echo time")
    return at(
        planes,
        {an_end(planes, random)},
        lambda ds: setting(EchoTime=float(ds.EchoTime) + 7)(ds),
        kind="other echo",
    )


def files_renamed(planes: Planes, random: Random) -> Planes:
    """Files have other names, in another order."""
    order = random.permutation(len(planes))
    return [replace(planes[i], name=f"{n:05d}.dcm") for n, i in enumerate(order)]


def copied_again(planes: Planes, random: Random) -> Planes:
    """Some files arrived twice."""
    places = some(planes, random)
    return planes + [replace(plane, name=f"again-{plane.name}") for plane in planes if plane.z in places]


def position_twice(planes: Planes, random: Random) -> Planes:
    """One slice is there again with other pixels and a number of its own (two blocks that overlap)."""
    native(planes)
    end = an_end(planes, random)

    def change(ds: Dataset) -> None:
        values = ds.pixel_array
        ds.PixelData = np.roll(values, 3, axis=1).tobytes()
        ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        ds.InstanceNumber = int(ds.get("InstanceNumber") or 0) + 5000

    again = next(plane for plane in planes if plane.z == end)
    return [*planes, replace(again.edited(change), name="twice.dcm", damaged=True)]


def numbers_shuffled(planes: Planes, random: Random) -> Planes:
    """InstanceNumber follows no order: neither point by point, nor place by place, nor alike everywhere."""
    while True:
        order = [int(n) for n in random.permutation(len(planes))]
        if _is_disorder([plane for _, plane in sorted(zip(order, planes, strict=True), key=lambda p: p[0])]):
            break
    return [plane.edited(setting(InstanceNumber=n + 1)) for plane, n in zip(planes, order, strict=True)]


def _is_disorder(counted: Planes) -> bool:
    """Whether planes in the order of their numbers look like no scan; any order will do for a stack."""
    places = len({(plane.of, plane.z) for plane in counted})
    points = len(counted) // places
    if points == 1 or places == 1:
        return True
    volumes = [counted[n : n + places] for n in range(0, len(counted), places)]
    by_point = all(len({(plane.of, plane.z) for plane in part}) == places for part in volumes)
    columns = [counted[n : n + points] for n in range(0, len(counted), points)]
    by_place = all(len({(plane.of, plane.z) for plane in part}) == 1 for part in columns)
    return not by_point and not by_place


def numbers_alike(planes: Planes, random: Random) -> Planes:
    """InstanceNumber is 1 everywhere."""
    return [plane.edited(setting(InstanceNumber=1)) for plane in planes]


def acquisition_numbers_differ(planes: Planes, random: Random) -> Planes:
    """AcquisitionNumber differs from slice to slice, as of step-and-shoot CT."""
    return [plane.edited(setting(AcquisitionNumber=plane.z + 1)) for plane in planes]


def _split(planes: Planes, part: Callable[[Plane], int], names: str) -> Planes:
    uids = {number: generate_uid() for number in {part(plane) for plane in planes}}
    result = []
    for plane in planes:
        number = part(plane)
        changed = plane.edited(
            setting(SeriesInstanceUID=uids[number], FrameOfReferenceUID="1.2.826.0.1.3680043.10.1.77"),
            kind=f"{names}{number}",
        )
        result.append(changed)
    return result


def split_every_second_slice(planes: Planes, random: Random) -> Planes:
    """Every second slice has another SeriesInstanceUID; study and frame of reference are one."""
    if len({plane.z for plane in planes}) < 4:
        raise NotApplicableError("it has too few slices")
    return _split(planes, lambda plane: plane.z % 2, "uid")


def split_in_halves(planes: Planes, random: Random) -> Planes:
    """The second half of the slices has another SeriesInstanceUID: each half may be a scan of its own."""
    places = len({plane.z for plane in planes})
    if places < 4:
        raise NotApplicableError("it has too few slices")
    return _split(planes, lambda plane: int(plane.z >= places // 2), "half")


def split_by_point(planes: Planes, random: Random) -> Planes:
    """Each point of the fourth axis has a SeriesInstanceUID of its own."""
    points_of(planes)
    return _split(planes, lambda plane: plane.t, "point")


def two_studies(planes: Planes, random: Random) -> Planes:
    """Some slices name another study."""
    return at(
        planes, some(planes, random), setting(StudyInstanceUID="1.2.826.0.1.3680043.10.1.99"), damaged=True
    )


def two_patients(planes: Planes, random: Random) -> Planes:
    """Some slices name another patient."""
    return at(planes, some(planes, random), setting(PatientID="another"), damaged=True)
