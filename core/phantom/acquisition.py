"""How a phantom pretends to have been acquired: modality, technique and display windows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

_CT_IMAGE_STORAGE = "1.2.840.10008.5.1.4.1.1.2"
_MR_IMAGE_STORAGE = "1.2.840.10008.5.1.4.1.1.4"
_CR_IMAGE_STORAGE = "1.2.840.10008.5.1.4.1.1.1"

Window = tuple[float, float, str]


@dataclass(frozen=True)
class Acquisition:
    """Technical attributes of a series.

    Attributes
    ----------
    intercept : int
        Value of stored 0; the stored value is ``voxel - intercept``.
    rescale_type : str
        Rescale Type (0028,1054), empty where the modality stores values without rescale.
    in_patient_space : bool
        Whether images carry position and orientation; False for projections.
    windows : tuple
        (center, width, name) in the units of the voxels.
    elements : mapping
        Keyword → value of what the modality's modules need beyond the common ones.
    """

    modality: str
    sop_class_uid: str
    study_description: str
    series_description: str
    body_part: str
    windows: tuple[Window, ...]
    image_type: tuple[str, ...] = ("ORIGINAL", "PRIMARY", "AXIAL")
    intercept: int = 0
    rescale_type: str = ""
    in_patient_space: bool = True
    series_number: int = 2
    elements: Mapping[str, object] = field(default_factory=dict)


# Convolution kernel names as scanners of different makers write them, by the phantom's kernel.
_KERNELS = {"soft": "B20f", "standard": "B40f", "sharp": "B70f"}


def ct_acquisition(kernel: str = "standard", contrast: str = "none", fov_mm: float = 384.0) -> Acquisition:
    """Return a chest CT at 120 kV. Source of the attribute list: DICOM PS3.3 C.8.2.1."""
    elements: dict[str, object] = {
        "ScanOptions": "HELICAL MODE",
        "KVP": 120,
        "DataCollectionDiameter": 500,
        "ReconstructionDiameter": round(fov_mm, 1),
        "DistanceSourceToDetector": 1040,
        "DistanceSourceToPatient": 570,
        "GantryDetectorTilt": 0,
        "TableHeight": 155,
        "RotationDirection": "CW",
        "ExposureTime": 500,
        "XRayTubeCurrent": 220,
        "Exposure": 110,
        "FilterType": "FLAT",
        "GeneratorPower": 40,
        "FocalSpots": 0.7,
        "ConvolutionKernel": _KERNELS.get(kernel, kernel.upper()[:16]),
        "ProtocolName": "Chest",
    }
    if contrast != "none":
        elements |= {"ContrastBolusAgent": "Iodinated contrast medium", "ContrastBolusRoute": "INTRAVENOUS"}
    return Acquisition(
        modality="CT",
        sop_class_uid=_CT_IMAGE_STORAGE,
        study_description="Chest CT (phantom)",
        series_description=f"Chest {kernel} kernel",
        body_part="CHEST",
        windows=((40, 400, "SOFT TISSUE"), (-600, 1500, "LUNG")),
        intercept=-1024,
        rescale_type="HU",
        elements=elements,
    )


def mr_acquisition() -> Acquisition:
    """Return a 3-D T1-weighted gradient echo of the head. Source: DICOM PS3.3 C.8.3.1."""
    return Acquisition(
        modality="MR",
        sop_class_uid=_MR_IMAGE_STORAGE,
        study_description="Brain MR (phantom)",
        series_description="T1 3D gradient echo",
        body_part="HEAD",
        windows=((500, 1000, "BRAIN"),),
        image_type=("ORIGINAL", "PRIMARY", "OTHER"),
        elements={
            "ScanningSequence": ["GR", "IR"],
            "SequenceVariant": ["SP", "MP"],
            "ScanOptions": "",
            "MRAcquisitionType": "3D",
            "SequenceName": "tfl3d1",
            "RepetitionTime": 1900,
            "EchoTime": 2.5,
            "InversionTime": 900,
            "NumberOfAverages": 1,
            "ImagingFrequency": 123.2,
            "ImagedNucleus": "1H",
            "EchoNumbers": 1,
            "MagneticFieldStrength": 3,
            "EchoTrainLength": 1,
            "PercentSampling": 100,
            "PercentPhaseFieldOfView": 100,
            "PixelBandwidth": 170,
            "FlipAngle": 9,
            "TransmitCoilName": "Body",
            "ProtocolName": "T1 MPRAGE",
        },
    )


def cr_acquisition(view: str = "PA") -> Acquisition:
    """Return a chest radiograph, postero-anterior or ``"LAT"`` (left lateral). Source: DICOM PS3.3 C.8.1.1, C.8.1.2."""
    return Acquisition(
        modality="CR",
        sop_class_uid=_CR_IMAGE_STORAGE,
        study_description="Chest radiograph (phantom)",
        series_description=f"Chest {view}",
        body_part="CHEST",
        windows=((2048, 4096, "CHEST"),),
        image_type=("ORIGINAL", "PRIMARY"),
        in_patient_space=False,
        series_number=1,
        elements={
            "ViewPosition": "PA" if view == "PA" else "LL",
            "PatientOrientation": ["L" if view == "PA" else "P", "F"],
            "KVP": 125,
            "ExposureTime": 10,
            "XRayTubeCurrent": 320,
            "Exposure": 3,
            "DistanceSourceToDetector": 1800,
            "PlateType": "",
            "PresentationLUTShape": "IDENTITY",
            "RescaleIntercept": 0,
            "RescaleSlope": 1,
            "RescaleType": "US",
        },
    )
