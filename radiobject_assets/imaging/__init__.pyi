"""The public names of imaging, and where they come from: `__init__.py` imports each on its first use."""

from .image_orientation import (
    OrientationInfo as OrientationInfo,
    detect_dicom_orientation as detect_dicom_orientation,
    detect_nifti_orientation as detect_nifti_orientation,
    is_orientation_valid as is_orientation_valid,
    reorient_to_canonical as reorient_to_canonical,
)
from .metadata import (
    DicomMetadata as DicomMetadata,
    NiftiMetadata as NiftiMetadata,
    extract_dicom_metadata as extract_dicom_metadata,
    extract_nifti_metadata as extract_nifti_metadata,
)
from .nifti.pairs import (
    ImageFormat as ImageFormat,
    NiftiSource as NiftiSource,
    discover_nifti_pairs as discover_nifti_pairs,
)
from .nifti.series_type import (
    infer_series_type as infer_series_type,
)
