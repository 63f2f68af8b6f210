"""A store laid out array for array as RadiObject 0.1.1 lays it out, made with TileDB alone."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tiledb

from tests.store.conftest import AFFINE, voxels

Truth = tuple[str, dict[str, np.ndarray]]


def write_table(uri: str, subjects: Sequence[str], ids: Sequence[str], columns: Mapping[str, Any]) -> None:
    dims = [tiledb.Dim(name=name, dtype="ascii") for name in ("obs_subject_id", "obs_id")]
    attrs = [tiledb.Attr(name=name, dtype=np.asarray(values).dtype) for name, values in columns.items()]
    schema = tiledb.ArraySchema(domain=tiledb.Domain(*dims), attrs=attrs, sparse=True)
    tiledb.Array.create(uri, schema)
    with tiledb.open(uri, "w") as array:
        array[np.array(subjects), np.array(ids)] = {k: np.asarray(v) for k, v in columns.items()}


def write_array(uri: str, data: np.ndarray, obs_id: str, affine: np.ndarray | None) -> None:
    tiles = (*data.shape[:2], 1, 1)[: data.ndim]
    dims = [
        tiledb.Dim(name=name, domain=(0, size - 1), tile=tile, dtype=np.int32)
        for name, size, tile in zip("xyzt", data.shape, tiles, strict=False)
    ]
    attr = tiledb.Attr(name="voxels", dtype=data.dtype, filters=tiledb.FilterList([tiledb.ZstdFilter(3)]))
    tiledb.Array.create(uri, tiledb.ArraySchema(domain=tiledb.Domain(*dims), attrs=[attr], sparse=False))
    with tiledb.open(uri, "w") as array:
        array[:] = data
        array.meta["tile_orientation"] = "axial"
        array.meta["obs_id"] = obs_id
        if affine is not None:
            array.meta["orientation_affine"] = json.dumps(affine.tolist())
            array.meta["orientation_axcodes"] = "PRS"
            array.meta["orientation_source"] = "nifti_sform"
            array.meta["orientation_confidence"] = "header"


def write_collection(uri: str, name: str, volumes: Sequence[tuple[str, str, np.ndarray]]) -> None:
    """Arrays are numbered as they arrive; the rows are in the order of their keys."""
    tiledb.Group.create(uri)
    tiledb.Group.create(f"{uri}/volumes")
    subjects, ids = [s for s, _, _ in volumes], [i for _, i, _ in volumes]
    write_table(f"{uri}/obs", subjects, ids, {"series_type": [name] * len(ids), "grade": np.arange(len(ids))})
    for number, (_, obs_id, data) in enumerate(volumes):
        write_array(f"{uri}/volumes/{number}", data, obs_id, AFFINE if number != 1 else None)
    with tiledb.Group(f"{uri}/volumes", "w") as group:
        for number in range(len(volumes)):
            group.add(f"{uri}/volumes/{number}", name=str(number))
    with tiledb.Group(uri, "w") as group:
        group.meta["n_volumes"], group.meta["name"] = len(volumes), name
        group.add(f"{uri}/volumes", name="volumes")
        group.add(f"{uri}/obs", name="obs")


def write_old_store(uri: str) -> Truth:
    """Three subjects whose volumes arrived neither in the order of their ids nor all at once."""
    tiledb.Group.create(uri)
    tiledb.Group.create(f"{uri}/collections")
    subjects = ["a0", "m1", "m2"]
    write_table(f"{uri}/obs_meta", subjects, subjects, {"age": [50, 60, 70], "sex": ["F", "M", "F"]})
    arrived = [("m2", "m2_t1", voxels(2)), ("m1", "m1_t1", voxels(1)), ("a0", "a0_t1", voxels(3))]
    write_collection(f"{uri}/collections/t1", "t1", arrived)
    write_collection(f"{uri}/collections/pet", "pet", [("m1", "m1_pet", voxels(4, (5, 4, 3, 2), "float32"))])
    with tiledb.Group(f"{uri}/collections", "w") as group:
        for name in ("pet", "t1"):
            group.add(f"{uri}/collections/{name}", name=name)
    with tiledb.Group(uri, "w") as group:
        group.meta["subject_count"], group.meta["n_collections"] = 3, 2
        group.add(f"{uri}/obs_meta", name="obs_meta")
        group.add(f"{uri}/collections", name="collections")
    return uri, {obs_id: data for _, obs_id, data in arrived}
