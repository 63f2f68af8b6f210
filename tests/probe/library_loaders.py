"""Loaders of MONAI and TorchIO themselves, over NIfTI files."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

FOLDER = Path(os.environ.get("PROBE_FOLDER", "."))


def _files(n: int = 6) -> list[str]:
    paths = [FOLDER / f"case-{number}.nii.gz" for number in range(n)]
    for number, path in enumerate(paths):
        if not path.exists():
            voxels = np.random.default_rng(number).integers(0, 1000, (8, 9, 10)).astype(np.int16)
            nib.save(nib.Nifti1Image(voxels, np.eye(4)), path)
    return [str(path) for path in paths]


def _truncated() -> list[str]:
    files = _files()
    whole = Path(files[4]).read_bytes()
    if len(whole) > 700:
        Path(files[4]).write_bytes(whole[:700])
    return files


def _monai(files: list[str], *more: Any) -> Any:
    from monai.data import DataLoader, Dataset
    from monai.transforms import Compose, EnsureChannelFirstd, LoadImaged, RandFlipd, ScaleIntensityd

    transform = Compose(
        [
            LoadImaged(keys="image"),
            EnsureChannelFirstd(keys="image"),
            ScaleIntensityd(keys="image"),
            RandFlipd(keys="image", prob=0.5, spatial_axis=0),
            *more,
        ]
    )
    return DataLoader(Dataset([{"image": file} for file in files], transform), batch_size=2, num_workers=2)


def monai_healthy() -> Any:
    return _monai(_files())


def monai_truncated() -> Any:
    return _monai(_truncated())


def monai_missing() -> Any:
    files = _files()
    return _monai([*files[:5], str(FOLDER / "gone.nii.gz")])


def monai_three_channels() -> Any:
    from monai.transforms import NormalizeIntensityd

    return _monai(
        _files(),
        NormalizeIntensityd(keys="image", subtrahend=[0.4, 0.5, 0.6], divisor=[1, 1, 1], channel_wise=True),
    )


def _torchio(files: list[str], transform: Any) -> Any:
    import torchio as tio

    subjects = [tio.Subject(ct=tio.ScalarImage(file)) for file in files]
    return tio.SubjectsLoader(tio.SubjectsDataset(subjects, transform=transform), batch_size=2, num_workers=2)


def torchio_healthy() -> Any:
    import torchio as tio

    return _torchio(_files(), tio.Compose([tio.ZNormalization(), tio.RandomFlip()]))


def torchio_truncated() -> Any:
    import torchio as tio

    return _torchio(_truncated(), tio.Compose([tio.ZNormalization()]))


def torchio_constant() -> Any:
    """TorchIO refuses to standardize an image without spread."""
    import torchio as tio

    files = _files()
    nib.save(nib.Nifti1Image(np.zeros((8, 9, 10), np.int16), np.eye(4)), files[3])
    return _torchio(files, tio.Compose([tio.RandomFlip(), tio.ZNormalization()]))
