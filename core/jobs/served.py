"""What a model server answers: the schema that server and client share.

The first five fields of ``Prediction`` and the four of ``Health`` are the contract that other programs were written
against; fields may be added, none is renamed.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class _Answer(BaseModel):
    model_config = ConfigDict(protected_namespaces=(), extra="ignore")


class ErrorBody(_Answer):
    """A stable code, a sentence, and what can be done; free of patient identity."""

    code: str
    message: str
    remedy: str = ""


class Refusal(_Answer):
    """Every answer that isn't a success, and a refused file of a batch."""

    error: ErrorBody


class Health(_Answer):
    """``GET /health``: 200 when a model process is ready, else 503."""

    status: Literal["healthy", "loading", "unavailable"]
    model_loaded: bool
    device: str
    model_version: str


class SegmentVolume(_Answer):
    """A structure of a segmentation; ``mean`` is in the units of the image (HU for CT)."""

    value: int
    label: str
    voxels: int
    volume_ml: float
    mean: float | None = None


class MeasuredAnswer(_Answer):
    """A number that the model estimates, in a UCUM unit."""

    name: str
    value: float
    unit: str


class Prediction(_Answer):
    """``POST /predict``.

    Attributes
    ----------
    prediction, confidence : str or None, float or None
        The most probable class and its calibrated probability; None for a model without classes.
    probabilities : dict
        Class → calibrated probability.
    inference_time_ms : float
        Reading, preparation and network, without the time spent waiting.
    model_version : str
        ``"v"`` and the bundle's version.
    label_map_nifti : str
        Base64 of a ``.nii.gz`` on the grid of the image; only when asked for.
    features : list of float
        Pooled features of the network's last stage; only when asked for.
    """

    prediction: str | None
    confidence: float | None
    probabilities: dict[str, float]
    inference_time_ms: float
    model_version: str
    prediction_set: list[str] = Field(default_factory=list)
    uncertainty: float | None = None
    out_of_distribution: float | None = None
    segments: list[SegmentVolume] = Field(default_factory=list)
    measurements: list[MeasuredAnswer] = Field(default_factory=list)
    notes: list[str] = Field(default_factory=list)
    device: str = ""
    engine: str = ""
    batch_size: int = 1
    features: list[float] | None = None
    label_map_nifti: str | None = None


class BatchAnswer(_Answer):
    """``POST /predict/batch``: one entry per file, in order; a refused file carries its error."""

    predictions: list[Prediction | Refusal]
    total_inference_time_ms: float
    model_version: str


class LabelInfo(_Answer):
    """A class or structure: the value of the output and its name."""

    value: int
    name: str


class MeasurementInfo(_Answer):
    """A number that the model estimates, and its UCUM unit."""

    name: str
    unit: str


class ModelInfo(_Answer):
    """``GET /model/info``. ``sha256`` is that of the first weights file, ``verified`` whether we know the signer.

    ``manifest`` is the bundle's ``bundle.json``, for clients that hold a series against its requirements; empty where a
    server doesn't give it.
    """

    id: str
    version: str
    title: str
    task: str
    kind: Literal["image", "volume"]
    labels: list[LabelInfo]
    classes: list[LabelInfo] = Field(default_factory=list)
    measurements: list[MeasurementInfo] = Field(default_factory=list)
    inputs: list[str] = Field(default_factory=list)
    takes_text: bool = False
    description: str = ""
    intended_use: str
    not_intended_for: str = ""
    licence: str
    card: str = ""
    sha256: str
    verified: bool
    max_upload_bytes: int
    max_files: int
    manifest: str = ""
