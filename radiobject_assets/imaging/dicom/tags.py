"""The DICOM elements that a scan keeps, by tag, and how their bytes are read.

Nothing else of a header is kept: names, birth dates, addresses, comments and private elements (but for the
few that `vendors` list, which hold geometry, diffusion and scaling) never leave the file.
"""

from __future__ import annotations

from typing import Final

CHARACTER_SET: Final = 0x00080005
IMAGE_TYPE: Final = 0x00080008
SOP_CLASS_UID: Final = 0x00080016
SOP_INSTANCE_UID: Final = 0x00080018
ACQUISITION_DATE: Final = 0x00080022
ACQUISITION_DATE_TIME: Final = 0x0008002A
ACQUISITION_TIME: Final = 0x00080032
CONTENT_TIME: Final = 0x00080033
SERIES_DATE: Final = 0x00080021
SERIES_TIME: Final = 0x00080031
MODALITY: Final = 0x00080060
MANUFACTURER: Final = 0x00080070
CODE_VALUE: Final = 0x00080100
CODE_SCHEME: Final = 0x00080102
CODE_MEANING: Final = 0x00080104
SERIES_DESCRIPTION: Final = 0x0008103E
MODEL_NAME: Final = 0x00081090
RELATED_SERIES: Final = 0x00081250
REFERENCED_SERIES: Final = 0x00081115
REFERENCED_INSTANCES: Final = 0x0008114A
REFERENCED_SOP_CLASS: Final = 0x00081150
REFERENCED_SOP_INSTANCE: Final = 0x00081155
SOURCE_IMAGES: Final = 0x00082112
FRAME_TYPE: Final = 0x00089007
DERIVATION_IMAGES: Final = 0x00089124
COMPLEX_COMPONENT: Final = 0x00089208
PATIENT_ID: Final = 0x00100020
PATIENT_ID_ISSUER: Final = 0x00100021
SCANNING_SEQUENCE: Final = 0x00180020
SLICE_THICKNESS: Final = 0x00180050
REPETITION_TIME: Final = 0x00180080
ECHO_TIME: Final = 0x00180081
ECHO_NUMBER: Final = 0x00180086
SPACING_BETWEEN_SLICES: Final = 0x00180088
TRIGGER_TIME: Final = 0x00181060
GANTRY_TILT: Final = 0x00181120
ACQUISITION_MATRIX: Final = 0x00181310
PHASE_DIRECTION: Final = 0x00181312
FLIP_ANGLE: Final = 0x00181314
FRAME_ACQUIRED_AT: Final = 0x00189074
DIFFUSION_DIRECTIONALITY: Final = 0x00189075
GRADIENT_SEQUENCE: Final = 0x00189076
INVERSION_TIMES: Final = 0x00189079
EFFECTIVE_ECHO_TIME: Final = 0x00189082
B_VALUE: Final = 0x00189087
GRADIENT: Final = 0x00189089
MR_TIMING: Final = 0x00189112
MR_ECHO: Final = 0x00189114
MR_MODIFIER: Final = 0x00189115
MR_DIFFUSION: Final = 0x00189117
CARDIAC: Final = 0x00189118
MR_FRAME_TYPE: Final = 0x00189226
CT_RECONSTRUCTION: Final = 0x00189314
CT_EXPOSURE: Final = 0x00189321
TUBE_CURRENT_IN_MA: Final = 0x00189330
EXPOSURE_IN_MAS: Final = 0x00189332
KERNEL: Final = 0x00181210
CT_X_RAY: Final = 0x00189325
CT_FRAME_TYPE: Final = 0x00189329
STUDY_UID: Final = 0x0020000D
SERIES_UID: Final = 0x0020000E
SERIES_NUMBER: Final = 0x00200011
ACQUISITION_NUMBER: Final = 0x00200012
INSTANCE_NUMBER: Final = 0x00200013
IMAGE_POSITION: Final = 0x00200032
SLICE_LOCATION: Final = 0x00201041
FRAME_DURATION: Final = 0x00181242
FRAME_ACQUISITION_DURATION: Final = 0x00189220
RESPIRATORY: Final = 0x00209253
RESPIRATORY_PERCENT: Final = 0x00209245
CARDIAC_PERCENT: Final = 0x00209241
VELOCITY_ENCODING: Final = 0x00189197
VELOCITY_DIRECTION: Final = 0x00189090
CONCATENATION: Final = 0x00209161
IN_CONCATENATION: Final = 0x00209162
CONCATENATION_TOTAL: Final = 0x00209163
FRAME_REFERENCE_TIME: Final = 0x00541300
IMAGE_ORIENTATION: Final = 0x00200037
TEMPORAL_POSITION: Final = 0x00200100
N_TEMPORAL_POSITIONS: Final = 0x00200105
IMAGE_COMMENTS: Final = 0x00204000
"""Read for Canon's diffusion weighting (`b=1000(0.6,0,0.8)`) and for nothing else: free text never leaves."""
FRAME_OF_REFERENCE: Final = 0x00200052
STACK_ID: Final = 0x00209056
FRAME_CONTENT: Final = 0x00209111
PLANE_POSITION: Final = 0x00209113
PLANE_ORIENTATION: Final = 0x00209116
TEMPORAL_INDEX: Final = 0x00209128
TRIGGER_DELAY: Final = 0x00209153
FRAME_ACQUISITION_NUMBER: Final = 0x00209156
DIMENSION_INDEX: Final = 0x00209157
TEMPORAL_OFFSET: Final = 0x0020930D
TEMPORAL_SEQUENCE: Final = 0x00209310
SAMPLES: Final = 0x00280002
PHOTOMETRIC: Final = 0x00280004
PLANAR: Final = 0x00280006
N_FRAMES: Final = 0x00280008
ROWS: Final = 0x00280010
COLUMNS: Final = 0x00280011
PIXEL_SPACING: Final = 0x00280030
BITS_ALLOCATED: Final = 0x00280100
BITS_STORED: Final = 0x00280101
HIGH_BIT: Final = 0x00280102
PIXEL_REPRESENTATION: Final = 0x00280103
BURNED_IN: Final = 0x00280301
INTERCEPT: Final = 0x00281052
SLOPE: Final = 0x00281053
PALETTE_DESCRIPTORS: Final = (0x00281101, 0x00281102, 0x00281103)
PALETTE_DATA: Final = (0x00281201, 0x00281202, 0x00281203)
SEGMENTED_PALETTE_DATA: Final = (0x00281221, 0x00281222, 0x00281223)
MODALITY_LUT: Final = 0x00283000
REAL_WORLD_MAPPING: Final = 0x00409096
REAL_WORLD_INTERCEPT: Final = 0x00409224
REAL_WORLD_SLOPE: Final = 0x00409225
LUT_DESCRIPTOR: Final = 0x00283002
MODALITY_LUT_TYPE: Final = 0x00283004
LUT_DATA: Final = 0x00283006
PIXEL_MEASURES: Final = 0x00289110
PIXEL_TRANSFORMATION: Final = 0x00289145
SEGMENTATION_TYPE: Final = 0x00620001
SEGMENTS: Final = 0x00620002
SEGMENT_CATEGORY: Final = 0x00620003
SEGMENT_NUMBER: Final = 0x00620004
SEGMENT_LABEL: Final = 0x00620005
SEGMENT_ALGORITHM: Final = 0x00620008
SEGMENT_IDENTIFICATION: Final = 0x0062000A
REFERENCED_SEGMENT: Final = 0x0062000B
MAX_FRACTION: Final = 0x0062000E
SEGMENT_TYPE: Final = 0x0062000F
SEGMENTS_OVERLAP: Final = 0x00620013
RT_FRAMES_OF_REFERENCE: Final = 0x30060010
RT_STUDIES: Final = 0x30060012
RT_SERIES: Final = 0x30060014
RT_CONTOUR_IMAGES: Final = 0x30060016
ROIS: Final = 0x30060020
ROI_NUMBER: Final = 0x30060022
ROI_FRAME_OF_REFERENCE: Final = 0x30060024
ROI_NAME: Final = 0x30060026
ROI_ALGORITHM: Final = 0x30060036
ROI_CONTOURS: Final = 0x30060039
CONTOURS: Final = 0x30060040
CONTOUR_TYPE: Final = 0x30060042
CONTOUR_DATA: Final = 0x30060050
ROI_OBSERVATIONS: Final = 0x30060080
OBSERVED_ROI: Final = 0x30060084
ROI_TYPE: Final = 0x300600A4
PURPOSE_OF_REFERENCE: Final = 0x0040A170
CORRECTED_IMAGE: Final = 0x00280051
PATIENT_WEIGHT: Final = 0x00101030
PATIENT_AGE: Final = 0x00101010
RADIOPHARMACEUTICALS: Final = 0x00540016
RADIOPHARMACEUTICAL: Final = 0x00180031
INJECTION_TIME: Final = 0x00181072
TOTAL_DOSE: Final = 0x00181074
HALF_LIFE: Final = 0x00181075
INJECTION_DATE_TIME: Final = 0x00181078
RADIONUCLIDE_CODE: Final = 0x00540300
RADIOPHARMACEUTICAL_CODE: Final = 0x00540304
UNITS: Final = 0x00541001
SUV_TYPE: Final = 0x00541006
DECAY_CORRECTION: Final = 0x00541102
NM_DETECTORS: Final = 0x00540022
NM_SLICE_VECTOR: Final = 0x00540080
DOSE_UNITS: Final = 0x30040002
DOSE_TYPE: Final = 0x30040004
DOSE_SUMMATION_TYPE: Final = 0x3004000A
GRID_FRAME_OFFSETS: Final = 0x3004000C
DOSE_GRID_SCALING: Final = 0x3004000E
SHARED_GROUPS: Final = 0x52009229
FRAME_GROUPS: Final = 0x52009230

ATTRIBUTES: Final[dict[str, tuple[int, type]]] = {
    "manufacturer": (MANUFACTURER, str),
    "model_name": (MODEL_NAME, str),
    "body_part": (0x00180015, str),
    "scanning_sequence": (SCANNING_SEQUENCE, str),
    "sequence_variant": (0x00180021, str),
    "acquisition_type": (0x00180023, str),
    "sequence_name": (0x00180024, str),
    "slice_thickness_mm": (SLICE_THICKNESS, float),
    "tube_voltage_kv": (0x00180060, float),
    "repetition_time_ms": (REPETITION_TIME, float),
    "echo_time_ms": (ECHO_TIME, float),
    "inversion_time_ms": (0x00180082, float),
    "echo_number": (ECHO_NUMBER, int),
    "magnetic_field_strength_t": (0x00180087, float),
    "echo_train_length": (0x00180091, int),
    "flip_angle_deg": (FLIP_ANGLE, float),
    "tube_current_ma": (0x00181151, float),
    "exposure_mas": (0x00181152, float),
    "convolution_kernel": (KERNEL, str),
    "conversion_type": (0x00080064, str),
    "patient_position": (0x00185100, str),
    "contrast_agent": (0x00180010, str),
    "series_number": (SERIES_NUMBER, int),
    "photometric_interpretation": (PHOTOMETRIC, str),
    "burned_in_annotation": (BURNED_IN, str),
    "rescale_type": (0x00281054, str),
    "pixel_units": (UNITS, str),
    "decay_correction": (DECAY_CORRECTION, str),
    "suv_type": (SUV_TYPE, str),
    "corrected_image": (CORRECTED_IMAGE, str),
    "laterality": (0x00200060, str),
}
"""The allow-list of acquisition parameters: column name (with its unit) to tag and type."""

OPTIONAL_ATTRIBUTES: Final[dict[str, tuple[str, int, type]]] = {
    "AcquisitionDate": ("acquisition_date", ACQUISITION_DATE, str),
    "AcquisitionDateTime": ("acquisition_datetime", ACQUISITION_DATE_TIME, str),
    "AcquisitionNumber": ("acquisition_number", ACQUISITION_NUMBER, int),
    "CTDIvol": ("ctdi_vol_mgy", 0x00189345, float),
    "DataCollectionDiameter": ("data_collection_diameter_mm", 0x00180090, float),
    "ExposureTime": ("exposure_time_ms", 0x00181150, float),
    "FilterType": ("filter_type", 0x00181160, str),
    "FrameOfReferenceUID": ("frame_of_reference_uid", FRAME_OF_REFERENCE, str),
    "ImageType": ("image_type", IMAGE_TYPE, str),
    "ImagingFrequency": ("imaging_frequency_mhz", 0x00180084, float),
    "LossyImageCompression": ("lossy_image_compression", 0x00282110, str),
    "NumberOfAverages": ("number_of_averages", 0x00180083, float),
    "PatientAge": ("patient_age", PATIENT_AGE, str),
    "PatientSex": ("patient_sex", 0x00100040, str),
    "PatientSize": ("patient_size_m", 0x00101020, float),
    "PatientWeight": ("patient_weight_kg", PATIENT_WEIGHT, float),
    "PixelBandwidth": ("pixel_bandwidth_hz", 0x00180095, float),
    "ProtocolName": ("protocol_name", 0x00181030, str),
    "ReceiveCoilName": ("receive_coil_name", 0x00181250, str),
    "ReconstructionDiameter": ("reconstruction_diameter_mm", 0x00181100, float),
    "ReconstructionMethod": ("reconstruction_method", 0x00541103, str),
    "SAR": ("sar_w_per_kg", 0x00181316, float),
    "ScanOptions": ("scan_options", 0x00180022, str),
    "SeriesDate": ("series_date", SERIES_DATE, str),
    "SeriesDescription": ("series_description", SERIES_DESCRIPTION, str),
    "SingleCollimationWidth": ("single_collimation_width_mm", 0x00189306, float),
    "SoftwareVersions": ("software_versions", 0x00181020, str),
    "SpiralPitchFactor": ("spiral_pitch_factor", 0x00189311, float),
    "StudyDate": ("study_date", 0x00080020, str),
    "TransmitCoilName": ("transmit_coil_name", 0x00181251, str),
}
"""What `attributes` of dataset.yaml may add: DICOM keyword to column, tag and type."""

ISSUER_COLUMN: Final = "patient_id_issuer"
"""Column that tells whether two PatientIDs have one issuer: digits made of IssuerOfPatientID's text."""

DATES: Final = frozenset({ACQUISITION_DATE, ACQUISITION_DATE_TIME, 0x00080020, 0x00080021})
"""Those of them that are dates: a study of the day that a patient's number repeats is still of that day."""

IDENTITY: Final = (
    0x00100010,  # PatientName
    PATIENT_ID,
    0x00101000,  # OtherPatientIDs
    0x00101001,  # OtherPatientNames
    0x00101005,  # PatientBirthName
    0x00101060,  # PatientMotherBirthName
    0x00102154,  # PatientTelephoneNumbers
    0x00101040,  # PatientAddress
    0x00100030,  # PatientBirthDate
    0x00080050,  # AccessionNumber
    0x00080090,  # ReferringPhysicianName
    0x00081050,  # PerformingPhysicianName
    0x00081060,  # NameOfPhysiciansReadingStudy
    0x00081070,  # OperatorsName
    0x00080080,  # InstitutionName
)
"""Read to find their words in other texts, and forgotten at once: they are part of no record."""

PERSON_KEYWORDS: Final = {
    "PatientName": 0x00100010,
    "PatientID": PATIENT_ID,
    "PatientBirthDate": 0x00100030,
    "OtherPatientIDs": 0x00101000,
    "OtherPatientNames": 0x00101001,
    "PatientBirthName": 0x00101005,
    "PatientAddress": 0x00101040,
    "PatientMotherBirthName": 0x00101060,
    "PatientTelephoneNumbers": 0x00102154,
}
"""Those of `IDENTITY` that are of the patient, by keyword: what an audit looks for."""

_SEQUENCES = (
    REFERENCED_SERIES, REFERENCED_INSTANCES, SOURCE_IMAGES, DERIVATION_IMAGES, GRADIENT_SEQUENCE, MR_TIMING,
    MR_ECHO, MR_DIFFUSION, CARDIAC, MR_FRAME_TYPE, CT_FRAME_TYPE, FRAME_CONTENT, PLANE_POSITION,
    PLANE_ORIENTATION, TEMPORAL_SEQUENCE, MODALITY_LUT, PIXEL_MEASURES, PIXEL_TRANSFORMATION, SEGMENTS,
    SEGMENT_CATEGORY, SEGMENT_IDENTIFICATION, SEGMENT_TYPE, RT_FRAMES_OF_REFERENCE, RT_STUDIES, RT_SERIES,
    RT_CONTOUR_IMAGES, ROIS, ROI_OBSERVATIONS, NM_DETECTORS, ROI_CONTOURS, CONTOURS, SHARED_GROUPS,
    FRAME_GROUPS, MR_MODIFIER, CT_X_RAY, RADIOPHARMACEUTICALS,
    RADIONUCLIDE_CODE, RADIOPHARMACEUTICAL_CODE, CT_RECONSTRUCTION, CT_EXPOSURE, REAL_WORLD_MAPPING,
    RESPIRATORY, VELOCITY_ENCODING,
    RELATED_SERIES, PURPOSE_OF_REFERENCE,
)  # fmt: skip
_TEXTS = (
    CHARACTER_SET, IMAGE_TYPE, SOP_CLASS_UID, SOP_INSTANCE_UID, ACQUISITION_DATE, ACQUISITION_DATE_TIME,
    ACQUISITION_TIME, CONTENT_TIME, MODALITY, CODE_VALUE, CODE_SCHEME, CODE_MEANING, SERIES_DESCRIPTION,
    REFERENCED_SOP_CLASS, REFERENCED_SOP_INSTANCE, FRAME_TYPE, COMPLEX_COMPONENT, PATIENT_ID,
    PATIENT_ID_ISSUER, SPACING_BETWEEN_SLICES,
    TRIGGER_TIME, GANTRY_TILT, FRAME_ACQUIRED_AT, DIFFUSION_DIRECTIONALITY, STUDY_UID, SERIES_UID,
    ACQUISITION_NUMBER, INSTANCE_NUMBER, IMAGE_COMMENTS, IMAGE_POSITION, IMAGE_ORIENTATION,
    TEMPORAL_POSITION, N_TEMPORAL_POSITIONS, STACK_ID,
    N_FRAMES, PIXEL_SPACING, INTERCEPT, SLOPE, SEGMENTATION_TYPE, SEGMENT_LABEL, SEGMENT_ALGORITHM,
    SEGMENTS_OVERLAP, ROI_NUMBER, ROI_NAME, ROI_ALGORITHM, PHASE_DIRECTION, CONTOUR_TYPE, OBSERVED_ROI,
    ROI_TYPE, MODALITY_LUT_TYPE,
    FRAME_OF_REFERENCE, ROI_FRAME_OF_REFERENCE, SERIES_TIME, RADIOPHARMACEUTICAL, INJECTION_TIME,
    TOTAL_DOSE, HALF_LIFE, INJECTION_DATE_TIME, SLICE_LOCATION, FRAME_DURATION,
    CONCATENATION, FRAME_REFERENCE_TIME, DOSE_UNITS, DOSE_TYPE, DOSE_SUMMATION_TYPE, GRID_FRAME_OFFSETS,
    DOSE_GRID_SCALING,
)  # fmt: skip
_US = (
    FRAME_ACQUISITION_NUMBER, NM_SLICE_VECTOR, SAMPLES, PLANAR, ROWS, COLUMNS, BITS_ALLOCATED, BITS_STORED,
    HIGH_BIT, PIXEL_REPRESENTATION, SEGMENT_NUMBER, REFERENCED_SEGMENT, MAX_FRACTION,
    ACQUISITION_MATRIX, IN_CONCATENATION, CONCATENATION_TOTAL,
)  # fmt: skip

WANTED: Final[dict[int, str]] = {
    **{tag: "LO" for tag, _ in ATTRIBUTES.values()},
    **{
        tag: "FD" if tag in (0x00189345, 0x00189306, 0x00189311) else "LO"
        for _, tag, _ in OPTIONAL_ATTRIBUTES.values()
    },
    **dict.fromkeys(IDENTITY, "LO"),
    **dict.fromkeys(_TEXTS, "LO"),
    **dict.fromkeys(_US, "US"),
    **dict.fromkeys(_SEQUENCES, "SQ"),
    **dict.fromkeys(
        (
            EFFECTIVE_ECHO_TIME,
            B_VALUE,
            GRADIENT,
            TRIGGER_DELAY,
            TEMPORAL_OFFSET,
            INVERSION_TIMES,
            TUBE_CURRENT_IN_MA,
            EXPOSURE_IN_MAS,
            REAL_WORLD_SLOPE,
            REAL_WORLD_INTERCEPT,
            FRAME_ACQUISITION_DURATION,
            VELOCITY_DIRECTION,
            CARDIAC_PERCENT,
            RESPIRATORY_PERCENT,
        ),
        "FD",
    ),
    **dict.fromkeys((LUT_DESCRIPTOR, LUT_DATA, *PALETTE_DESCRIPTORS), "XW"),
    **dict.fromkeys((*PALETTE_DATA, *SEGMENTED_PALETTE_DATA), "XW"),
    TEMPORAL_INDEX: "UL",
    DIMENSION_INDEX: "UL",
    PHOTOMETRIC: "CS",
}
"""Every tag of the standard that is kept, top-level or nested, to the kind of its value (`Elements`)."""
