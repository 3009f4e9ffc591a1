"""What a recipe says about the bundle that it makes."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from core.bundles.manifest import Code, Inference, Postprocessing, Requirements
from core.recipes.base import Strict


class BundleLabel(Strict):
    """One class or structure as the bundle names it; ``value`` is the class index or the voxel value."""

    value: int = Field(ge=0, le=255)
    name: str = Field(min_length=1, max_length=64)
    code: Code | None = None
    category: Code | None = None
    region: Code | None = None
    color_rgb: tuple[int, int, int] = (200, 200, 200)


class BundleMeasurement(Strict):
    """A number that the network estimates, in ``unit`` (UCUM): ``mean + std`` × its output.

    ``mean`` and ``std`` are those of the training part, so that all outputs have about the same size.
    """

    name: str = Field(min_length=1, max_length=64)
    unit: str = Field(min_length=1, max_length=16)
    code: Code | None = None
    mean: float = 0.0
    std: float = Field(default=1.0, gt=0)


class BundleWeights(Strict):
    """How weights are written. ``int8`` keeps a quarter of the bytes (one scale per output channel)."""

    encoding: Literal["float", "float16", "int8"] = "float"
    onnx: bool = True


class BundleConfig(Strict):
    """What the model will say about itself. Text of the card stands in ``models/recipes/<name>.card.md``.

    ``labels`` are the structures of a segmentation or the classes of a classification; a recipe of several tasks has
    its classes in ``classes`` and what it estimates in ``measurements``.
    """

    id: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{1,62}$")
    version: str = Field(default="1.0.0", pattern=r"^\d+\.\d+\.\d+(-[0-9A-Za-z.-]+)?$")
    title: str = Field(min_length=1, max_length=120)
    description: str = ""
    intended_use: str = "Research and review support, not for primary diagnosis."
    not_intended_for: str = ""
    licence: str = Field(default="unstated", min_length=1)
    training_data: str = ""
    labels: tuple[BundleLabel, ...] = ()
    classes: tuple[BundleLabel, ...] = ()
    measurements: tuple[BundleMeasurement, ...] = ()
    requirements: Requirements = Requirements()
    inference: Inference = Inference()
    postprocessing: Postprocessing = Postprocessing()
    coverage: float = Field(default=0.95, gt=0, lt=1, description="Coverage of prediction sets.")
    weights: BundleWeights = BundleWeights()

    @model_validator(mode="after")
    def _named_once(self) -> BundleConfig:
        for field, names in (
            ("labels", [label.name for label in self.labels]),
            ("classes", [label.name for label in self.classes]),
            ("measurements", [measurement.name for measurement in self.measurements]),
        ):
            twice = sorted({name for name in names if names.count(name) > 1})
            if twice:
                raise ValueError(f"bundle.{field}: “{twice[0]}” stands there twice")
        if [label.value for label in self.classes] != list(range(len(self.classes))):
            raise ValueError("bundle.classes: classes are numbered 0, 1, 2 …")
        return self
