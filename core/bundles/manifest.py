"""What a model bundle says about itself: a strict, declarative document without code or expressions.

``bundle.json`` is parsed by these classes and by nothing else. Unknown fields, unknown operations and values
of another type are refused, so that a bundle either means exactly what it says or isn't loaded.
"""

from __future__ import annotations

import re
from itertools import pairwise
from typing import Annotated, Literal

from pydantic import Field, ValidationError, field_validator, model_validator

from core.bundles.consistency import check_manifest
from core.bundles.strict import ANATOMICAL_STRUCTURE, TISSUE
from core.bundles.strict import Code as Code
from core.bundles.strict import Strict as _Strict
from core.domain.errors import InputError
from core.domain.segmentation import SegmentDefinition

SCHEMA_VERSION = 1
MANIFEST_FILE = "bundle.json"
_MAX_MANIFEST_BYTES = 4 * 1024 * 1024
_NAME = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)*$")
_PERMUTATIONS_OF_AXES = {"LR", "PA", "SI"}

Triple = tuple[float, float, float]
Scalar = str | bool | int | float | None
Param = Scalar | list[Scalar] | list[list[Scalar]] | dict[str, Scalar | list[Scalar]]
InputName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.+-]*$", max_length=32)]


class Label(_Strict):
    """One output class. For segmentation ``value`` is the voxel value and the channel (0 is background and
    not listed); for classification ``value`` is the index of the output, from 0.
    """

    value: int = Field(ge=0, le=255)
    name: str = Field(min_length=1, max_length=64)
    code: Code | None = None
    category: Code | None = None
    region: Code | None = None
    color_rgb: tuple[int, int, int] = (200, 200, 200)

    @field_validator("color_rgb")
    @classmethod
    def _in_range(cls, value: tuple[int, int, int]) -> tuple[int, int, int]:
        if any(not 0 <= channel <= 255 for channel in value):
            raise ValueError("colour channels lie in 0…255")
        return value


class Measurement(_Strict):
    """One number of the network's regression output: the value is ``mean + std * output``, in UCUM ``unit``.

    Source: UCUM, the unified code for units of measure (``"mL"``, ``"mm"``, ``"1"`` for a plain number).
    """

    name: str = Field(min_length=1, max_length=64)
    unit: str = Field(min_length=1, max_length=16, pattern=r"^[!-~]+$")
    code: Code | None = None
    mean: float = 0.0
    std: float = Field(default=1.0, gt=0.0)


class TextInput(_Strict):
    """The report that the network may be given beside the image: WordPiece ids of a vocabulary in the bundle.

    Ids beyond ``max_tokens`` are cut off and 0 fills up; no text is a row of zeros.
    Source: Devlin et al., BERT, NAACL 2019 (WordPiece, ``vocab.txt``).
    """

    vocabulary_file: str = "text/vocab.txt"
    max_tokens: int = Field(default=64, ge=4, le=512)
    lowercase: bool = True

    @field_validator("vocabulary_file")
    @classmethod
    def _relative(cls, value: str) -> str:
        if not _NAME.fullmatch(value):
            raise ValueError("a vocabulary file is a plain relative path")
        return value


class Network(_Strict):
    """A network of ``models.networks.registry`` by name, with its JSON parameters."""

    name: str = Field(pattern=r"^[a-z][a-z0-9_]*$", max_length=64)
    params: dict[str, Param] = Field(default_factory=dict)


class Weights(_Strict):
    """A file of weights inside the bundle.

    An ONNX graph takes the image first (and the text second where there is one); a single output is the logits,
    a multitask graph names its outputs ``segmentation``, ``classification`` and ``regression``. ``encoding``
    ``"int8"`` is a safetensors file of ``core.bundles.small_weights``; ``precision`` ``"int8"`` an ONNX graph that
    calculates in whole numbers, beside the exact one.
    """

    file: str
    format: Literal["safetensors", "onnx"]
    encoding: Literal["float", "int8"] = "float"
    precision: Literal["float", "int8"] = "float"

    @field_validator("file")
    @classmethod
    def _relative(cls, value: str) -> str:
        if not _NAME.fullmatch(value):
            raise ValueError("a weights file is a plain relative path")
        return value

    @model_validator(mode="after")
    def _possible(self) -> Weights:
        if self.encoding == "int8" and self.format != "safetensors":
            raise ValueError("encoding int8 is for safetensors; an ONNX graph has precision int8")
        if self.precision == "int8" and self.format != "onnx":
            raise ValueError("precision int8 is for ONNX; a safetensors file has encoding int8")
        return self


class Clip(_Strict):
    """Limit values to ``low``…``high``."""

    op: Literal["clip"]
    low: float
    high: float


class Scale(_Strict):
    """Map ``from_low``…``from_high`` linearly to ``to_low``…``to_high``; ``clip`` limits to the target
    range.
    """

    op: Literal["scale"]
    from_low: float
    from_high: float
    to_low: float = 0.0
    to_high: float = 1.0
    clip: bool = True

    @model_validator(mode="after")
    def _not_empty(self) -> Scale:
        if self.from_high <= self.from_low:
            raise ValueError("from_high must exceed from_low")
        return self


class Percentile(_Strict):
    """Map the image's own percentiles ``low``…``high`` (0…100) linearly to ``to_low``…``to_high``.

    0 and 100 are the minimum and the maximum. A constant image becomes ``to_low``. With ``unless_8bit``
    values that are already whole numbers within 0…255 stay as they are.
    """

    op: Literal["percentile"]
    low: float = Field(default=0.0, ge=0, le=100)
    high: float = Field(default=100.0, ge=0, le=100)
    to_low: float = 0.0
    to_high: float = 1.0
    clip: bool = True
    unless_8bit: bool = False


class ZScore(_Strict):
    """Subtract ``mean`` and divide by ``std``; where None, the image's own (over non-zero voxels on
    request).
    """

    op: Literal["zscore"]
    mean: float | None = None
    std: float | None = Field(default=None, gt=0)
    nonzero: bool = False


class Round(_Strict):
    """Truncate (``floor``) or round (``nearest``) to whole numbers, as an 8-bit conversion does."""

    op: Literal["round"]
    mode: Literal["floor", "nearest"] = "nearest"


class VoiWindow(_Strict):
    """Map the series' first VOI window linearly to 0…1, clipped; without one, its minimum…maximum."""

    op: Literal["voi"]


Intensity = Annotated[Clip | Scale | Percentile | ZScore | Round | VoiWindow, Field(discriminator="op")]


class Conform(_Strict):
    """A fixed cube of ``size`` voxels around the middle voxel of the series, filled with ``fill`` outside.

    Source: nibabel.processing.conform (the middle voxel ``(n - 1) // 2`` of each axis stays in place).
    """

    size: int = Field(ge=8, le=1024)
    fill: float = 0.0


class Preprocessing(_Strict):
    """From the series' grid to the network's input.

    ``orientation`` are the patient directions towards which i, j and k of the model grid increase; the
    network sees the array as ``(k, j, i)``. ``spacing_ijk_mm`` None keeps the spacing. ``antialias`` widens
    the linear kernel when samples are dropped. ``before_resampling`` steps work on the values of the series,
    ``intensity`` on the model grid. ``resize_hw`` is for images: rows and columns of the network's input.
    """

    orientation: str = "LPS"
    spacing_ijk_mm: Triple | None = None
    antialias: bool = False
    conform: Conform | None = None
    before_resampling: tuple[Intensity, ...] = ()
    intensity: tuple[Intensity, ...] = ()
    resize_hw: tuple[int, int] | None = None
    channels: Literal[1, 3] = 1

    @field_validator("orientation")
    @classmethod
    def _three_axes(cls, value: str) -> str:
        axes = {pair for pair in _PERMUTATIONS_OF_AXES for letter in value if letter in pair}
        if len(value) != 3 or axes != _PERMUTATIONS_OF_AXES:
            raise ValueError("orientation names each patient axis once, for example LPS")
        return value

    @field_validator("spacing_ijk_mm")
    @classmethod
    def _positive(cls, value: Triple | None) -> Triple | None:
        if value is not None and any(not 0.01 <= number <= 100 for number in value):
            raise ValueError("spacing lies in 0.01…100 mm")
        return value


class Inference(_Strict):
    """Sliding window on the model grid; sizes are ``(k, j, i)`` voxels. ``patch_kji`` None takes the whole
    image.

    ``pad_value`` is the normalised value put around images smaller than the window, ``divisor`` what
    whole-image sizes are padded to a multiple of, ``memory_bytes_per_voxel`` what the network needs at its
    peak.
    """

    patch_kji: tuple[int, int, int] | None = None
    overlap: float = Field(default=0.5, ge=0.0, le=0.9)
    mode: Literal["gaussian", "constant"] = "gaussian"
    sigma_scale: float = Field(default=0.125, gt=0.0, le=1.0)
    batch: int = Field(default=1, ge=1, le=64)
    pad_value: float = 0.0
    divisor: int = Field(default=1, ge=1, le=256)
    memory_bytes_per_voxel: int | None = Field(default=None, ge=1)

    @field_validator("patch_kji")
    @classmethod
    def _reasonable(cls, value: tuple[int, int, int] | None) -> tuple[int, int, int] | None:
        if value is not None and any(not 1 <= number <= 1024 for number in value):
            raise ValueError("a window has 1…1024 voxels along each axis")
        return value


class LabelRule(_Strict):
    """Clean-up of one label, in this order: holes filled, small components removed, largest kept."""

    value: int = Field(ge=1, le=255)
    fill_holes: bool = False
    min_component_ml: float = Field(default=0.0, ge=0.0)
    largest_component: bool = False


class Postprocessing(_Strict):
    """Clean-up of the label map on the series' grid. ``largest_foreground`` keeps the largest component of
    all labels taken together (26-neighbourhood on the model grid is not needed: 6 neighbours on the series'
    grid).
    """

    largest_foreground: bool = False
    rules: tuple[LabelRule, ...] = ()


class Requirements(_Strict):
    """Which series the model was made for; empty lists and None don't restrict."""

    modalities: tuple[str, ...] = ()
    body_parts: tuple[str, ...] = ()
    kind: Literal["volume", "image"] = "volume"
    min_spacing_mm: float | None = Field(default=None, gt=0)
    max_spacing_mm: float | None = Field(default=None, gt=0)
    min_slices: int = Field(default=1, ge=1)
    min_extent_mm: float | None = Field(default=None, gt=0)
    regular: bool = True
    colour: Literal["grey", "rgb", "any"] = "grey"


class Conformal(_Strict):
    """Split-conformal prediction sets: classes with 1 - p ≤ ``quantile``. Source: Sadinle et al., JASA
    2019.
    """

    quantile: float = Field(ge=0.0, le=1.0)
    coverage: float = Field(gt=0.0, lt=1.0)


class OutOfDistribution(_Strict):
    """How unusual an input is, as the share of known images that scored lower.

    ``energy`` is ``-T log Σ exp(z / T)`` of the logits (Liu et al., NeurIPS 2020); ``mahalanobis`` the
    distance of the pooled features of ``layer`` to the nearest class mean (Lee et al., NeurIPS 2018), with
    ``mean`` (C, F) and ``precision`` (F, F) in ``statistics_file`` (safetensors). ``quantiles`` are the
    scores of known images at evenly spaced probabilities 0…1, ascending.
    """

    method: Literal["energy", "mahalanobis"]
    quantiles: tuple[float, ...] = Field(min_length=2)
    threshold: float = Field(default=0.99, gt=0.0, le=1.0)
    layer: str = ""
    statistics_file: str = ""

    @field_validator("quantiles")
    @classmethod
    def _ascending(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        if any(b < a for a, b in pairwise(value)):
            raise ValueError("quantiles ascend")
        return value


class Calibration(_Strict):
    """Temperature of the softmax, prediction sets, and what counts as unknown."""

    temperature: float = Field(default=1.0, gt=0.0)
    conformal: Conformal | None = None
    out_of_distribution: OutOfDistribution | None = None


class Findings(_Strict):
    """What becomes a finding: each segment, each connected component of ``labels``, the class, or nothing."""

    per: Literal["segment", "component", "class", "none"] = "segment"
    labels: tuple[int, ...] = ()
    min_component_ml: float = Field(default=0.0, ge=0.0)


class ExplainLayer(_Strict):
    """A module of the network, by dotted name, that maps are taken from."""

    name: str = Field(min_length=1)
    title: str = ""


class Explain(_Strict):
    """Layers in order of preference; the first is the default."""

    layers: tuple[ExplainLayer, ...] = ()


class Manifest(_Strict):
    """The whole of ``bundle.json``.

    ``labels`` are the structures of a segmentation or the classes of a classification. A multitask model has
    structures in ``labels`` and classes and numbers of its own in ``classes`` and ``measurements``, each possibly
    empty. ``inputs`` names the contrasts in the order of the network's channels (empty: one series); with
    ``missing_inputs`` ``"zeros"`` a contrast that isn't there is a channel of zeros after preprocessing.
    """

    schema_version: Literal[1] = 1
    id: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{1,62}$")
    version: str = Field(pattern=r"^\d+\.\d+\.\d+(-[0-9A-Za-z.-]+)?$")
    task: Literal["segmentation", "classification", "multitask"]
    title: str = Field(min_length=1, max_length=120)
    description: str = ""
    intended_use: str = Field(min_length=1)
    not_intended_for: str = ""
    licence: str = Field(min_length=1, max_length=200)
    source: str = ""
    training_data: str = ""
    metrics: dict[str, float | list[float] | str] = Field(default_factory=dict)
    network: Network | None = None
    weights: tuple[Weights, ...] = Field(min_length=1)
    labels: tuple[Label, ...] = ()
    classes: tuple[Label, ...] = ()
    measurements: tuple[Measurement, ...] = ()
    inputs: tuple[InputName, ...] = Field(default=(), max_length=8)
    missing_inputs: Literal["refuse", "zeros"] = "refuse"
    text: TextInput | None = None
    preprocessing: Preprocessing = Preprocessing()
    inference: Inference = Inference()
    postprocessing: Postprocessing = Postprocessing()
    requirements: Requirements = Requirements()
    calibration: Calibration = Calibration()
    findings: Findings = Findings()
    explain: Explain = Explain()

    @model_validator(mode="after")
    def _consistent(self) -> Manifest:
        check_manifest(self)
        return self

    @property
    def is_3d(self) -> bool:
        """Whether the network takes volumes."""
        return self.requirements.kind == "volume"

    @property
    def structures(self) -> tuple[Label, ...]:
        """What the voxels are labelled with; empty for a model without a label map."""
        return () if self.task == "classification" else self.labels

    @property
    def image_classes(self) -> tuple[Label, ...]:
        """Classes of the whole image in the order of their values; empty for a model that doesn't classify."""
        classes = self.labels if self.task == "classification" else self.classes
        return tuple(sorted(classes, key=lambda label: label.value))

    def channels_in(self) -> int:
        """Number of input channels: one per contrast, or those of the picture."""
        return len(self.inputs) or self.preprocessing.channels

    def channels_out(self) -> int:
        """Number of channels of the label map or of the classes: background and the highest value, or the
        classes; 0 for a multitask model without structures.
        """
        return max((label.value for label in self.labels), default=-1) + 1

    def label(self, name: str) -> Label:
        """Return the class or the structure of that name (case is ignored), a class before a structure.

        Raises
        ------
        InputError
            ``model.label`` otherwise.
        """
        known_labels = (*self.classes, *self.labels)
        for label in known_labels:
            if label.name.casefold() == name.casefold():
                return label
        known = ", ".join(label.name for label in known_labels)
        raise InputError("model.label", f"{self.title} has no class “{name}”.", f"Choose one of: {known}.")

    def segments(self) -> tuple[SegmentDefinition, ...]:
        """Return what the values of the label map stand for."""
        return tuple(
            SegmentDefinition(
                label.value,
                label.name,
                (label.code or TISSUE).concept(),
                (label.category or ANATOMICAL_STRUCTURE).concept(),
                label.color_rgb,
                label.region.concept() if label.region else None,
            )
            for label in self.labels
        )

    def files(self) -> tuple[str, ...]:
        """Return the files of the bundle that the manifest names: weights, and the vocabulary of a text."""
        vocabulary = () if self.text is None else (self.text.vocabulary_file,)
        return (*(weights.file for weights in self.weights), *vocabulary)

    def to_json(self) -> bytes:
        """Return the document as UTF-8 JSON, indented, ending in a line feed."""
        return (self.model_dump_json(indent=2) + "\n").encode()


def parse_manifest(data: bytes) -> Manifest:
    """Parse ``bundle.json``.

    Raises
    ------
    InputError
        ``bundle.manifest``: too large, not JSON, or a field that is missing, unknown or wrong; it is named.
    """
    if len(data) > _MAX_MANIFEST_BYTES:
        raise InputError(
            "bundle.manifest", "bundle.json is larger than 4 MB.", "Use a bundle made for Overread."
        )
    try:
        return Manifest.model_validate_json(data)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "the document"
        raise InputError(
            "bundle.manifest",
            f"bundle.json is not a valid manifest: {where}: {first['msg']}.",
            "Ask the maker of the bundle for a corrected one.",
        ) from error
