"""Profiles of volumes against numpy and SimpleITK, on real series and made damage; and how they are kept."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from radiobject_assets.dataset.dataset_yaml import DatasetSettings
from radiobject_assets.diagnostics.inventory import read_inventory
from radiobject_assets.ingest import ingest_sources
from radiobject_assets.profiling import kept_profiles
from radiobject_assets.profiling.kept_profiles import (
    Thumbnails,
    keep_profiles,
    profile_collection,
    profiles_of,
    read_profiles,
)
from radiobject_assets.profiling.outliers import find_outliers
from radiobject_assets.profiling.volume_profile import VolumeProfile, profile_volume
from radiobject_assets.store import RadiObject, Storage, Volume, open_storage
from radiobject_assets.system.compute import Compute
from radiobject_assets.system.memory import MemoryBudget


def of(
    tmp_path: Path, voxels: NDArray[np.generic], *, slope: float = 1.0, intercept: float = 0.0, **told: str
) -> VolumeProfile:
    uri = str(tmp_path / f"v{len(list(tmp_path.iterdir()))}")
    return profile_volume(Volume.from_numpy(uri, voxels, slope=slope, intercept=intercept), **told)


def body(seed: int = 0, shape: tuple[int, int, int] = (40, 36, 30)) -> NDArray[np.int16]:
    random = np.random.default_rng(seed)
    voxels = np.full(shape, -1000.0) + random.normal(0, 5, shape)
    voxels[8:30, 6:28, 4:27] = 40 + random.normal(0, 12, (22, 22, 23))
    return voxels.astype(np.int16)


@pytest.fixture
def tables(tmp_path: Path) -> Storage:
    return open_storage(str(tmp_path / "tables"), None)


@pytest.mark.parametrize("dtype", [np.int16, np.uint8, np.float32, np.float64, np.int32])
def test_values_are_those_that_numpy_computes(tmp_path: Path, dtype: type) -> None:
    random = np.random.default_rng(3)
    voxels = random.normal(90, 25, (31, 27, 20)).clip(0, 200).astype(dtype)
    found = of(tmp_path, voxels, slope=0.5, intercept=-20.0).figures
    values = voxels.astype(np.float64) * 0.5 - 20
    exact = np.dtype(dtype).itemsize <= 2
    for p in (1, 5, 25, 50, 75, 95, 99):
        expected = np.percentile(values, p)
        assert found[f"p{p}"] == pytest.approx(expected, abs=1e-9 if exact else 0.03), p
    assert found["mean"] == pytest.approx(values.mean())
    assert found["std"] == pytest.approx(values.std())
    assert (found["least"], found["greatest"]) == (values.min(), values.max())
    assert sum(found["histogram"]) == values.size


def test_a_negative_slope_turns_the_values_round(tmp_path: Path) -> None:
    voxels = body()
    found = of(tmp_path, voxels, slope=-2.0).figures
    assert found["p5"] == np.percentile(voxels * -2.0, 5)
    assert found["least"] == voxels.max() * -2.0


def test_the_histogram_of_ct_has_fixed_bins(tmp_path: Path) -> None:
    found = of(tmp_path, body(), modality="CT").figures
    expected, _ = np.histogram(np.clip(body(), -1024, 3071), bins=64, range=(-1024, 3072))
    assert found["histogram"] == expected.tolist()


def test_voxels_that_are_no_numbers_are_counted_and_left_out(tmp_path: Path) -> None:
    voxels = body().astype(np.float32)
    voxels[0, 0, :3] = (np.nan, np.inf, -np.inf)
    found = of(tmp_path, voxels).figures
    assert (found["non_finite"], found["n_voxels"]) == (3, voxels.size - 3)
    assert found["mean"] == pytest.approx(voxels[np.isfinite(voxels)].mean(dtype=np.float64))
    nothing = of(tmp_path, np.full((4, 4, 4), np.nan, np.float32))
    assert nothing.figures["n_voxels"] == 0
    assert nothing.thumbnail is None


def test_the_foreground_is_where_the_body_is(tmp_path: Path) -> None:
    found = of(tmp_path, body()).figures
    box = [(found[f"foreground_{a}_from"], found[f"foreground_{a}_to"]) for a in "xyz"]
    assert box == [(8, 30), (6, 28), (4, 27)]
    assert found["foreground_fraction"] == pytest.approx(22 * 22 * 23 / body().size)


def test_a_series_in_time_is_counted_whole(tmp_path: Path) -> None:
    voxels = np.stack([body(0), body(1), body(2)], axis=3)
    found = of(tmp_path, voxels).figures
    assert found["n_voxels"] == voxels.size
    assert found["mean"] == pytest.approx(voxels.mean())


def test_lost_and_constant_and_moved_slices_are_found(tmp_path: Path) -> None:
    good = body()[:, :, 5:26] + 1000
    figures = of(tmp_path, good.astype(np.int16)).figures
    assert (figures["dropout_slices"], figures["constant_slices"]) == (0, 0)
    lost, constant, moved = good.copy(), good.copy(), good.copy()
    lost[:, :, 10] = lost[:, :, 10] // 4
    constant[:, :, 7] = 0
    moved[:, :, 9] = np.roll(moved[:, :, 9], 9, axis=0)
    assert of(tmp_path, lost).figures["dropout_slices"] == 1
    assert of(tmp_path, constant).figures["constant_slices"] == 1
    assert of(tmp_path, moved).figures["interslice_jump"] > 3 * figures["interslice_jump"]


def test_noise_lowers_the_signal_to_noise_and_clipping_is_counted(tmp_path: Path) -> None:
    quiet = np.abs(body().astype(np.float32) + 1000)
    loud = np.abs(quiet + np.random.default_rng(1).normal(0, 60, quiet.shape)).astype(np.float32)
    assert of(tmp_path, loud).figures["snr_dietrich"] < of(tmp_path, quiet).figures["snr_dietrich"] / 3
    clipped = np.minimum(quiet, 1040)
    assert of(tmp_path, clipped).figures["clipped_fraction"] == pytest.approx((clipped == 1040).mean())


# -- real series ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def real_store(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    uri = str(tmp_path_factory.mktemp("real") / "store")
    names = ("ct_philips_notilt", "mr_ge_anat_implicit", "mr_comp_jpegll")
    sources = [shared_data / "series" / name for name in names] + [shared_data / "nifti" / "anatomical.nii"]
    ingest_sources(sources, uri, DatasetSettings(), budget=MemoryBudget(512), compute=Compute(workers=1))
    return uri


def _volumes(uri: str) -> Iterator[tuple[Volume, str | None]]:
    store = RadiObject(uri)
    for row in read_inventory(uri).itertuples(index=False):
        yield store.collection(str(row.collection)).loc[row.obs_id], row.modality


def test_real_series_have_the_figures_that_simpleitk_and_numpy_give(real_store: str, tmp_path: Path) -> None:
    sitk = pytest.importorskip("SimpleITK")
    looked_at = 0
    for number, (volume, modality) in enumerate(_volumes(real_store)):
        path = tmp_path / f"{number}.nii.gz"
        volume.to_nifti(path)
        image = sitk.ReadImage(str(path))
        values = sitk.GetArrayFromImage(image).astype(np.float64)
        found = profile_volume(volume, modality=modality).figures
        statistics = sitk.StatisticsImageFilter()
        statistics.Execute(sitk.Cast(image, sitk.sitkFloat64))
        assert found["mean"] == pytest.approx(statistics.GetMean(), rel=1e-6)
        assert found["least"] == pytest.approx(statistics.GetMinimum(), rel=1e-6)
        assert found["greatest"] == pytest.approx(statistics.GetMaximum(), rel=1e-6)
        assert [found[f"p{p}"] for p in (1, 50, 99)] == pytest.approx(
            np.percentile(values, (1, 50, 99)).tolist(), rel=1e-3, abs=1e-3
        )
        assert found["spacing_mm"] == pytest.approx(list(image.GetSpacing())[:3], rel=1e-4)
        otsu = sitk.OtsuThresholdImageFilter()
        otsu.SetNumberOfHistogramBins(256)
        otsu.Execute(sitk.Cast(image, sitk.sitkFloat32))
        theirs = float((values > otsu.GetThreshold()).mean())
        assert found["foreground_fraction"] == pytest.approx(theirs, abs=0.05)
        looked_at += 1
    assert looked_at >= 4


# -- kept -------------------------------------------------------------------------------------------------


def _store(tmp_path: Path, seeds: range) -> str:
    """A store of one collection, each volume of a subject of its own."""
    import nibabel as nib

    folder = tmp_path / f"delivery-{seeds.start}-{seeds.stop}"
    for seed in seeds:
        (folder / f"sub-{seed:02d}").mkdir(parents=True)
        nib.Nifti1Image(body(seed), np.eye(4)).to_filename(
            folder / f"sub-{seed:02d}" / f"s{seed:02d}_T1w.nii"
        )
    ingest_sources(
        [folder], str(tmp_path / "store"), DatasetSettings(),
        budget=MemoryBudget(512), compute=Compute(workers=1),
    )  # fmt: skip
    return str(tmp_path / "store")


def _keep(tables: Storage, uri: str) -> tuple[int, int, pd.DataFrame]:
    rows = read_inventory(uri)
    done = keep_profiles(tables, uri, rows)
    return done.new, done.known, profiles_of(tables, rows)


def test_only_what_is_new_is_profiled(
    tmp_path: Path, tables: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kept_profiles, "PART_ROWS", 4)
    uri = _store(tmp_path, range(3))
    assert _keep(tables, uri)[:2] == (3, 0)
    assert _keep(tables, uri)[:2] == (0, 3)
    _store(tmp_path, range(3, 5))
    new, known, profiles = _keep(tables, uri)
    assert (new, known, len(profiles)) == (2, 3, 5)
    assert sorted(profiles["obs_id"]) == sorted(read_inventory(uri)["obs_id"])
    thumbnails = Thumbnails(tables)
    assert all(thumbnails.get(state) is not None for state in profiles["state"])


def test_many_small_additions_do_not_make_many_files(
    tmp_path: Path, tables: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kept_profiles, "PART_ROWS", 4)
    uri = _store(tmp_path, range(7))
    rows = read_inventory(uri)
    for end in range(1, 8):
        profile_collection(tables, uri, rows.iloc[:end], "nifti")
    parts = [e.path for e in tables.list("profile", recursive=True) if "signatures" not in e.path]
    assert len(parts) <= 4
    assert len(profiles_of(tables, rows)) == 7


def test_profiles_of_what_is_gone_go_with_it(tmp_path: Path, tables: Storage) -> None:
    uri = _store(tmp_path, range(3))
    _keep(tables, uri)
    rows = read_inventory(uri)
    profile_collection(tables, uri, rows.iloc[1:], "nifti")
    assert len(read_profiles(tables)) == 2
    keep_profiles(tables, uri, rows.iloc[:0])
    assert not tables.list("profile", recursive=True)


def test_a_run_that_was_killed_between_two_files_loses_nothing(tmp_path: Path, tables: Storage) -> None:
    uri = _store(tmp_path, range(3))
    _keep(tables, uri)
    (figures,) = [e.path for e in tables.list("profile", recursive=True) if "signatures" not in e.path]
    tables.remove(figures)  # the thumbnails were written, the figures were not
    assert _keep(tables, uri)[:2] == (3, 0)
    assert len(tables.list("profile", recursive=True)) == 2


def test_a_volume_that_is_unlike_the_others_is_told_with_the_reason(tmp_path: Path, tables: Storage) -> None:
    import nibabel as nib

    uri = _store(tmp_path, range(9))
    odd = (body(9).astype(np.int32) * 3 + 900).astype(np.int16)
    folder = tmp_path / "odd" / "sub-09"
    folder.mkdir(parents=True)
    nib.Nifti1Image(odd, np.diag([1, 1, 4.0, 1])).to_filename(folder / "s09_T1w.nii")
    ingest_sources(
        [folder.parent], uri, DatasetSettings(), budget=MemoryBudget(512), compute=Compute(workers=1)
    )
    rows = read_inventory(uri)
    keep_profiles(tables, uri, rows)
    (found,) = find_outliers(profiles_of(tables, rows))
    assert rows.at[found.index, "obs_subject_id"] == rows["obs_subject_id"].max()
    assert any("spacing along z" in reason for reason in found.reasons)
    assert any("median" in reason for reason in found.reasons)


def _signatures(tables: Storage) -> list[str]:
    return [e.path for e in tables.list("profile", recursive=True) if "signatures" in e.path]


def test_who_only_adds_takes_nothing_away(tmp_path: Path, tables: Storage) -> None:
    uri = _store(tmp_path, range(3))
    _keep(tables, uri)
    rows = read_inventory(uri)
    before = {e.path: tables.read(e.path) for e in tables.list("profile", recursive=True)}
    for fewer in (rows.iloc[:1], rows.iloc[:0]):  # an old snapshot
        assert keep_profiles(tables, uri, fewer, adds_only=True).new == 0
        assert {e.path: tables.read(e.path) for e in tables.list("profile", recursive=True)} == before


def test_two_runs_that_join_the_same_parts_at_once_lose_no_thumbnail(tmp_path: Path, tables: Storage) -> None:
    uri = _store(tmp_path, range(4))
    rows = read_inventory(uri)
    for end in (1, 2):
        profile_collection(tables, uri, rows.iloc[:end], "nifti", adds_only=True)
    assert len(_signatures(tables)) == 2

    class SlowReader(type(tables)):  # type: ignore[misc]
        """Storage of a run that another overtakes before it has read the first thumbnails."""

        overtaken = False

        def read(self, path: str) -> bytes:
            if "signatures" in path and not self.overtaken:
                self.overtaken = True
                profile_collection(tables, uri, rows.iloc[:3], "nifti")
            return bytes(super().read(path))

    slow = SlowReader(tmp_path / "tables", tables.uri)
    profile_collection(slow, uri, rows, "nifti")
    assert slow.overtaken
    thumbnails = Thumbnails(tables)
    states = profiles_of(tables, rows)["state"]
    assert len(states) == 4
    assert thumbnails.missing(states) == set()
    assert all(thumbnails.get(state) is not None for state in states)


def test_values_out_of_all_bounds_stop_no_other_volume(tmp_path: Path, tables: Storage) -> None:
    import nibabel as nib

    odd = np.random.default_rng(0).normal(0, 1e300, (12, 12, 12))
    small = np.random.default_rng(0).normal(0, 1e-320, (12, 12, 12))
    wide = np.where(odd > 0, 1.7e308, -1.7e308)
    for name, voxels in (("97", odd), ("98", small), ("99", wide)):
        folder = tmp_path / "odd" / f"sub-{name}"
        folder.mkdir(parents=True)
        nib.Nifti1Image(voxels, np.eye(4)).to_filename(folder / f"s{name}_T1w.nii")
    ingest_sources(
        [tmp_path / "odd"], str(tmp_path / "store"), DatasetSettings(),
        budget=MemoryBudget(512), compute=Compute(workers=1),
    )  # fmt: skip
    uri = _store(tmp_path, range(3))
    rows = read_inventory(uri)
    assert len(rows) == 6
    done = keep_profiles(tables, uri, rows)
    assert done.new + len(done.unreadable) == 6
    assert len(done.seen) == len(done.unreadable)
    assert done.new >= 3
    assert any("overflow" in one for one in done.seen)
    profiles = profiles_of(tables, rows)
    figures = profiles[["mean", "std", "p1", "p50", "p99", "foreground_fraction"]].astype(float)
    assert np.isfinite(figures.to_numpy()).all()
    # the next call goes the same way
    assert keep_profiles(tables, uri, rows).unreadable == done.unreadable


def test_what_was_profiled_before_an_interruption_is_kept(tmp_path: Path, tables: Storage) -> None:
    uri = _store(tmp_path, range(3))
    rows = read_inventory(uri)
    asked: list[int] = []

    def is_late() -> bool:
        asked.append(1)
        if len(asked) == 3:
            raise KeyboardInterrupt
        return False

    with pytest.raises(KeyboardInterrupt):
        keep_profiles(tables, uri, rows, is_late=is_late)
    assert len(profiles_of(tables, rows)) == 2
    late = keep_profiles(tables, uri, rows, is_late=lambda: True)
    assert (late.known, late.new, late.left) == (2, 0, 1)
    assert keep_profiles(tables, uri, rows).new == 1
