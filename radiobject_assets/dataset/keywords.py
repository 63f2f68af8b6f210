"""DICOM keywords that dataset.yaml may use: to match series, and to add columns to obs."""

from __future__ import annotations

# DICOM attributes that a collection may match on: they describe the acquisition, none describes a person.
MATCHABLE_KEYWORDS = frozenset(
    {
        "Modality", "SeriesDescription", "ImageType", "SOPClassUID", "BodyPartExamined", "Manufacturer",
        "ManufacturerModelName", "ConvolutionKernel", "ContrastBolusAgent", "MagneticFieldStrength",
        "ScanningSequence", "SequenceVariant", "SequenceName", "MRAcquisitionType", "EchoTime",
        "InversionTime", "RepetitionTime", "FlipAngle", "SliceThickness", "KVP", "PatientPosition", "Units",
    }
)  # fmt: skip

# DICOM attributes that `attributes` may add to obs; imaging.tags has their columns and types.
OPTIONAL_KEYWORDS = frozenset(
    {
        "AcquisitionDate", "AcquisitionDateTime", "AcquisitionNumber", "CTDIvol", "DataCollectionDiameter",
        "ExposureTime", "FilterType", "FrameOfReferenceUID", "ImageType", "ImagingFrequency",
        "LossyImageCompression", "NumberOfAverages", "PatientAge", "PatientSex", "PatientSize",
        "PatientWeight", "PixelBandwidth", "ProtocolName", "ReceiveCoilName", "ReconstructionDiameter",
        "ReconstructionMethod", "SAR", "ScanOptions", "SeriesDate", "SeriesDescription",
        "SingleCollimationWidth", "SoftwareVersions", "SpiralPitchFactor", "StudyDate", "TransmitCoilName",
    }
)  # fmt: skip
