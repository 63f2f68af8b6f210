"""A word planted in every text of NRRD, MetaImage and MGH files is nowhere to be found afterwards."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from test_planted_identifiers import SECRET, WORD, decoded, places_of

from radiobject_assets.dataset.dataset_yaml import DatasetSettings
from radiobject_assets.export.nifti_files import export_store
from radiobject_assets.ingest import ingest_sources
from radiobject_assets.system.compute import Compute
from radiobject_assets.system.memory import MemoryBudget

NRRD_PAIRS = {
    "PatientName": f"{WORD}^Jane", "DICOM.PatientID": WORD, "comment": f"scan of {WORD}",
    "Segment0_ID": WORD, "Segment0_Name": f"lesion of {WORD}", "Segment0_LabelValue": "1",
    "Segment0_Layer": "0", "Segment1_ID": "b", "Segment1_Name": "liver", "Segment1_LabelValue": "2",
    "Segment1_Layer": "0", "Segmentation_MasterRepresentation": WORD,
}  # fmt: skip


def _hostile(folder: Path) -> None:
    folder.mkdir()
    image = sitk.GetImageFromArray(np.random.default_rng(1).integers(0, 3, (6, 7, 8)).astype("u1"))
    sitk.WriteImage(image, str(folder / "p1_image.mha"))
    path = folder / "p1_image.mha"
    planted = f"Comment = {WORD}\nPatientName = {WORD}\nID_{WORD} = {WORD}\n".encode()
    path.write_bytes(path.read_bytes().replace(b"NDims", planted + b"NDims", 1))
    for key, value in NRRD_PAIRS.items():
        image.SetMetaData(key, value)
    sitk.WriteImage(image, str(folder / "p1.seg.nrrd"))
    path = folder / "p1.seg.nrrd"
    fields = f'content: {WORD}\nlabels: "{WORD}" "" ""\n'.encode()
    path.write_bytes(path.read_bytes().replace(b"encoding:", fields + b"encoding:", 1))
    nib.save(nib.MGHImage(np.ones((8, 7, 6), "u1"), np.eye(4)), folder / "p1_brain.mgh")
    with open(folder / "p1_brain.mgh", "ab") as file:
        file.write(f"mri_convert /home/{WORD}/in.mgz".encode())


@pytest.mark.parametrize("key", ["patient_id", "pseudonym"])
def test_no_text_of_their_headers_reaches_the_store_or_an_export(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("RADIOBJECT_PSEUDONYM_KEY", SECRET)
    _hostile(tmp_path / "in")
    assert len(places_of(tmp_path / "in", WORD)) == 3
    dataset = DatasetSettings.model_validate(
        {
            "collections": {
                "image": {"match": {"files": ["*_image.*", "*_brain.*"]}},
                "seg": {"match": {"files": "*.seg.nrrd"}, "kind": "labels", "labels_of": "image"},
            },
            "subjects": {"key": key, "file_name": "^(?P<subject>p[0-9]+)"},
        }
    )
    store = tmp_path / "store"
    report = ingest_sources(
        [tmp_path / "in"], str(store), dataset, budget=MemoryBudget(256), compute=Compute(workers=1)
    )
    assert report.counts["written"] == 3, [o.detail for o in report.outcomes]
    export_store(str(store), tmp_path / "out")
    assert not places_of(store, WORD)
    assert not places_of(tmp_path / "out", WORD)
    assert WORD not in decoded(store)
    assert "liver" in decoded(store)
