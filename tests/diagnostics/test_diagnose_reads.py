"""What makes reads slow is told first, from real stores that are slow for that reason; sound ones are not."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from typer.testing import CliRunner

from radiobject_assets.cli.commands import app
from radiobject_assets.diagnostics.findings_document import SCHEMA
from radiobject_assets.diagnostics.reads.access_patterns import AccessPattern, windows_of
from radiobject_assets.diagnostics.reads.cache_simulation import simulate
from radiobject_assets.diagnostics.reads.diagnosis import apply_mends
from radiobject_assets.diagnostics.reads.measured_reads import read_windows
from radiobject_assets.errors import StorageError
from radiobject_assets.store import (
    CompressionConfig,
    Compressor,
    RadiObject,
    ReadConfig,
    SliceOrientation,
    TileConfig,
    Volume,
    commit_volumes,
    configure,
    ensure_collection,
    ensure_store,
    ensure_subjects,
    local_path,
    make_ctx,
    obs_table,
    reset_radiobject_config,
    stage_volume,
)
from radiobject_assets.store.format.layout import store_log
from radiobject_assets.store.format.staging import put_volumes
from tests.diagnostics.read_situations import SHAPE, diagnosed, image, kinds_of, store_with
from tests.store.radiobject_layout import write_old_store

PATCH, AXIAL, WHOLE = AccessPattern.PATCH, AccessPattern.AXIAL, AccessPattern.WHOLE
AXIAL_TILES = TileConfig(orientation=SliceOrientation.AXIAL)


@pytest.fixture(autouse=True)
def _settings_as_they_were() -> Iterator[None]:
    reset_radiobject_config()
    yield
    reset_radiobject_config()


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A store as ingest lays it out."""
    return store_with(tmp_path_factory.mktemp("sound"))


def test_a_sound_store_is_told_nothing_ten_times_out_of_ten(sound: str) -> None:
    for seed in range(10):
        found = diagnosed(sound, PATCH, AXIAL, WHOLE, AccessPattern.BATCH, seed=seed)
        assert kinds_of(found) == []


@pytest.mark.slow
def test_a_sound_store_is_told_nothing_on_a_machine_that_is_busy(sound: str) -> None:
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(12)]
    try:
        for seed in range(10):
            assert kinds_of(diagnosed(sound, *list(AccessPattern)[:-1], seed=seed)) == []
    finally:
        for process in busy:
            process.kill()
            process.wait()


def test_slices_as_tiles_are_blamed_for_slow_patches_and_retiling_brings_what_was_predicted(
    tmp_path: Path,
) -> None:
    # whole slices are what tools for viewing write; the collection is larger than the cache of tiles
    configure(read=ReadConfig(tile_cache_size_mb=4))
    store = store_with(tmp_path, shape=(384, 384, 64), tile=AXIAL_TILES)
    before = obs_table(ensure_collection(store, "ct")).read(["voxel_digest"]).to_pylist()
    found = diagnosed(store)
    (first, *_) = found.report().findings
    assert first.kind.code == "coarse_tiles"
    assert first.how_to == f"radiobject-assets retile {store} ct --tile isotropic"
    assert "tiles are 384 x 384 x 1" in first.evidence
    (applied,) = apply_mends(store, found)
    assert applied.is_kept
    assert applied.gain > 1.5
    assert applied.gain > applied.cause.gain / 2.5
    assert kinds_of(diagnosed(store)) == []
    assert obs_table(ensure_collection(store, "ct")).read(["voxel_digest"]).to_pylist() == before
    assert np.array_equal(RadiObject(store).ct["s1_ct"].to_numpy(), image(1, (384, 384, 64)))


def test_a_heavy_codec_is_blamed_and_recompression_mends_it(tmp_path: Path) -> None:
    # what who thinks of `.nii.gz` chooses
    store = store_with(tmp_path, compression=CompressionConfig(algorithm=Compressor.GZIP, level=1))
    found = diagnosed(store, WHOLE)
    (first, *_) = found.report().findings
    assert first.kind.code == "heavy_codec"
    assert first.how_to == f"radiobject-assets recompress {store} ct --codec zstd --level 1"
    (applied,) = apply_mends(store, found)
    assert applied.gain > 1.1
    assert RadiObject(store).ct["s0_ct"].stored_layout.codec == "zstd"
    assert kinds_of(diagnosed(store, WHOLE)) == []


def test_a_cache_that_loses_each_slice_before_the_next_is_blamed_with_the_size_that_would_do(
    tmp_path: Path,
) -> None:
    store = store_with(tmp_path, n=1, shape=(512, 512, 64))
    configure(read=ReadConfig(tile_cache_size_mb=4))
    found = diagnosed(store, AXIAL)
    (first, *_) = found.report().findings
    assert first.kind.code == "small_tile_cache"
    assert "tile_cache_size_mb=32" in first.evidence
    (applied,) = apply_mends(store, found)
    assert not applied.is_kept
    assert applied.gain > 1.5
    configure(read=ReadConfig(tile_cache_size_mb=32))
    assert kinds_of(diagnosed(store, AXIAL)) == []


def reads_with_a_context_for_each(store: str) -> None:
    for number in range(12):
        RadiObject(store, ctx=make_ctx()).ct["s0_ct"][:64, :64, number : number + 32]


def reads_with_a_volume_for_each(store: str) -> None:
    uri = RadiObject(store).ct["s0_ct"].uri
    for number in range(12):
        Volume(uri)[:64, :64, number : number + 32]


def reads_that_share(store: str) -> None:
    volume = RadiObject(store).ct["s0_ct"]
    for number in range(12):
        volume[:64, :64, number : number + 32]


@pytest.mark.parametrize(
    ("reads", "kinds"),
    [
        (reads_with_a_context_for_each, ["contexts_not_shared"]),
        (reads_with_a_volume_for_each, ["contexts_not_shared"]),
        (reads_that_share, []),
    ],
)
def test_a_context_or_volume_for_each_read_is_seen_in_what_a_program_does(
    sound: str, reads: Callable[[str], None], kinds: list[str]
) -> None:
    found = diagnosed(sound, run=lambda: reads(sound))
    assert kinds_of(found) == kinds
    (collection,) = found.collections
    assert collection.judged == (AccessPattern.RUN,)
    assert collection.run is not None
    assert collection.run.reads == 12
    if kinds:
        assert "opened 1 arrays 12 times" in found.report().findings[0].evidence


def test_a_program_that_reads_nothing_here_could_not_be_observed(sound: str) -> None:
    with pytest.raises(StorageError, match="num_workers=0"):
        diagnosed(sound, run=lambda: None)


def test_reading_by_tiledb_is_blamed_on_the_setting_or_on_the_missing_index(
    sound: str, tmp_path: Path
) -> None:
    configure(voxels="tiledb")
    assert kinds_of(diagnosed(sound))[0] == "read_by_tiledb"
    reset_radiobject_config()
    # what versions before there were indexes wrote
    store = ensure_store(tmp_path / "store")
    ct = ensure_collection(store, "ct")
    ensure_subjects(store, ["s"])
    staged = stage_volume(ct, obs_id="s_ct", obs_subject_id="s", voxels=image(1))
    folder = local_path(ct)
    assert folder is not None
    (folder / "volumes" / staged.token / "tiles.index").unlink()
    commit_volumes(ct, [replace(staged, index_digest="")])
    found = diagnosed(store)
    assert kinds_of(found) == ["no_tile_index"]
    apply_mends(store, found)
    assert RadiObject(store).ct["s_ct"].stored_layout.indexed
    assert kinds_of(diagnosed(store)) == []


def test_a_store_of_the_radiobject_package_is_to_be_imported(tmp_path: Path) -> None:
    uri = str(tmp_path / "old")
    write_old_store(uri)
    findings = diagnosed(uri, name="old").report().findings
    assert findings
    assert {one.how_to for one in findings} == {"radiobject-assets import-radiobject old NEW"}


def test_rows_in_many_files_are_blamed_and_consolidated(tmp_path: Path) -> None:
    store = ensure_store(tmp_path / "store")
    ct = ensure_collection(store, "ct")
    ensure_subjects(store, [f"s{number}" for number in range(40)])
    for number in range(40):
        staged = stage_volume(
            ct, obs_id=f"s{number}_ct", obs_subject_id=f"s{number}", voxels=image(number, (8, 8, 8))
        )
        # a commit whose merging afterwards failed, as it does without the right to write much
        name = obs_table(ct).name
        store_log(store, None).commit(
            "put", lambda draft, name=name, staged=staged: put_volumes(draft, name, [staged])
        )
    found = diagnosed(store)
    assert kinds_of(found) == ["many_segments"]
    assert found.report().findings[0].how_to == f"radiobject-assets consolidate {store}"
    (applied,) = apply_mends(store, found)
    assert applied.gain > 1
    assert kinds_of(diagnosed(store)) == []
    assert len(RadiObject(store).ct) == 40


def test_memory_that_would_not_do_is_told_before_anything_else(sound: str, tmp_path: Path) -> None:
    found = diagnosed(sound, workers=100_000)
    assert kinds_of(found)[0] == "out_of_memory"
    assert "set workers=" in found.report().findings[0].evidence
    large = ensure_store(tmp_path / "store")
    ct = ensure_collection(large, "ct")
    ensure_subjects(large, ["s"])
    voxels = np.zeros((300, 300, 400), np.int16)
    commit_volumes(ct, [stage_volume(ct, obs_id="s_ct", obs_subject_id="s", voxels=voxels)])
    configure(read=ReadConfig(memory_budget_mb=64))
    assert kinds_of(diagnosed(large, WHOLE))[0] == "out_of_memory"


@pytest.mark.parametrize("cache_mb", [0, 2, 5, 64])
@pytest.mark.parametrize("tile", [TileConfig(), AXIAL_TILES, TileConfig(x=40, y=33, z=7)])
def test_the_simulated_cache_does_what_the_cache_does(
    tmp_path: Path, tile: TileConfig, cache_mb: int
) -> None:
    store = store_with(tmp_path, shape=(96, 80, 40), tile=tile)
    configure(read=ReadConfig(tile_cache_size_mb=cache_mb))
    volumes = list(RadiObject(store).ct)
    random = np.random.default_rng(cache_mb)
    layouts = [volume.stored_layout for volume in volumes]
    windows = [
        window
        for pattern in (PATCH, AXIAL, AccessPattern.SAGITTAL, AccessPattern.REGION, WHOLE, PATCH)
        for window in windows_of(pattern, [v.shape for v in volumes], (32, 32, 16), random)
    ]
    expected = simulate(layouts, windows, cache_mb * 2**20)
    for volume in volumes:
        volume.make_cold()
    measured = read_windows(volumes, windows)
    assert (measured.hits, measured.misses) == (expected.hits, expected.misses)
    assert measured.counts.decoded_bytes == expected.decoded_bytes


def test_the_command_prints_one_document_and_ends_with_its_code(sound: str, tmp_path: Path) -> None:
    runner = CliRunner()

    def ends_with(code: int, *arguments: str) -> Any:
        """Measured again where a neighbour on the machine took the cores in the midst of it."""
        for _ in range(3):
            done = runner.invoke(app, ["diagnose-reads", *arguments])
            if done.exit_code == code:
                return done
        raise AssertionError(done.output)

    document = json.loads(ends_with(0, sound, "--json").stdout)
    jsonschema.validate(document, SCHEMA, cls=jsonschema.Draft202012Validator)
    assert {row["pattern"] for row in document["measured"]["ct"]} == set(AccessPattern) - {"run"}
    # a path for which a line of 140 characters is too short: a command is printed to be copied
    gzipped = CompressionConfig(algorithm=Compressor.GZIP, level=1)
    slow = store_with(tmp_path / ("long-" * 24), compression=gzipped)
    done = ends_with(1, slow, "--pattern", "whole", "--apply")
    assert f"radiobject-assets recompress {slow} ct --codec zstd --level 1" in done.stdout
    assert "measured" in done.stdout
    for wrong in (["--patch", "64"], ["--pattern", "sideways"], ["--run", "no"], ["--collection", "mr"]):
        assert runner.invoke(app, ["diagnose-reads", sound, *wrong]).exception is not None


def test_planes_follow_each_other_and_patches_lie_within_their_volume() -> None:
    random = np.random.default_rng(3)
    for pattern in AccessPattern:
        if pattern is AccessPattern.RUN:
            continue
        windows = windows_of(pattern, [SHAPE, (20, 30, 10, 4)], (64, 64, 64), random)
        for window in windows:
            shape = [SHAPE, (20, 30, 10, 4)][window.volume]
            assert all(
                a >= 0 and a + n <= m for a, n, m in zip(window.start, window.size, shape, strict=True)
            )
        if pattern is AXIAL:
            places = [window.start[2] for window in windows if window.volume == 0]
            assert places == list(range(places[0], places[0] + len(places)))
