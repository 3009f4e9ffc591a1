"""The training configuration: one strict document for the command line, the window and background jobs.

Every section whose kind can vary is discriminated by ``name``. Unknown fields are refused (see ``load`` for the
message with the nearest name). Field titles and descriptions make the form of the training dialog.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from core.bundles.manifest import Code, Inference, Postprocessing, Preprocessing, Requirements
from core.recipes.base import Strict
from core.recipes.sources_schema import Source
from core.recipes.split_schema import Share, Split


class Cache(Strict):
    """Preprocessed cases on disk as memory maps (float16 images, uint8 labels), with the most used in memory."""

    enabled: bool = True
    memory_mb: int = Field(default=512, ge=0)
    disk_mb: int = Field(default=8192, ge=16)


class Sampling(Strict):
    """Windows cut from volumes: ``patch_kji`` voxels, ``per_case`` of them each time a case is drawn,
    ``foreground`` of them (share) centred on a labelled voxel, each label as often as the others.
    """

    patch_kji: tuple[int, int, int]
    per_case: int = Field(default=1, ge=1, le=64)
    foreground: Share = 0.66


class Data(Strict):
    """Where the cases come from and how they are drawn.

    ``channels`` name the contrasts in the order of the network's input; a case that lacks one is refused, left out,
    or gets a channel of zeros (``missing``). ``repeat`` draws each training case that many times an epoch.
    ``balance`` ``weighted`` draws rare classes as often as common ones.
    """

    source: Source
    split: Split = Split()
    channels: tuple[str, ...] = Field(default=("image",), min_length=1, max_length=8)
    missing: Literal["refuse", "leave_out", "zeros"] = "refuse"
    balance: Literal["none", "weighted"] = "none"
    repeat: int = Field(default=1, ge=1, le=10_000)
    sampling: Sampling | None = None
    cache: Cache = Cache()
    workers: int = Field(default=0, ge=0, le=64)


class Transform(Strict):
    """One transform by name (see ``core.compute.training.data.transforms`` for the list), with its parameters.

    A name is one of ours (``rand_flip``), of MONAI (``monai.RandBiasFieldd``) or of albumentations (``alb.CLAHE``).
    """

    name: str = Field(pattern=r"^(monai\.|alb\.)?[A-Za-z][A-Za-z0-9_]*$")
    params: dict[str, Any] = Field(default_factory=dict)


class Transforms(Strict):
    """Transforms by phase, after the preprocessing that the bundle will repeat."""

    train: tuple[Transform, ...] = ()
    validation: tuple[Transform, ...] = ()
    test: tuple[Transform, ...] = ()


class NetworkConfig(Strict):
    """A network of ``models.networks.registry`` with its arguments (channels in and out are filled in).

    ``weights`` is a user's file of pretrained weights (ImageNet naming of torchvision, timm or Hugging Face), the id of
    a model that ships with the program, or a bundle's folder; nothing is downloaded.
    """

    name: str = Field(pattern=r"^[a-z][a-z0-9_]*$")
    params: dict[str, Any] = Field(default_factory=dict)
    weights: str | None = None
    pretraining: str | None = Field(
        default=None,
        description="Recipe that is trained first on the same data; its network is the beginning.",
    )


class Rehearsal(Strict):
    """The task of ``network.pretraining`` stays as a second loss, on fresh batches, so that it isn't forgotten."""

    weight: float = Field(default=1.0, gt=0)
    batch_size: int = Field(default=12, ge=1, le=4096)


class Freezing(Strict):
    """``backbone`` trains the head alone; every ``unfreeze_every`` epochs one more stage joins, last one first."""

    backbone: bool = False
    unfreeze_every: int | None = Field(default=None, ge=1)


class LossConfig(Strict):
    """A loss of ``core.compute.training.losses`` by name; ``combined`` takes ``parts``. ``class_weights`` ``balanced``
    weighs classes by their inverse frequency in the training part.
    """

    name: str = "cross_entropy"
    params: dict[str, Any] = Field(default_factory=dict)
    class_weights: Literal["none", "balanced"] | tuple[float, ...] = "none"
    parts: tuple[LossPart, ...] = ()


class LossPart(Strict):
    """One term of a combination."""

    name: str
    weight: float = Field(default=1.0, ge=0)
    params: dict[str, Any] = Field(default_factory=dict)


class _Optimizer(Strict):
    learning_rate: float = Field(default=1e-3, gt=0)
    weight_decay: float = Field(default=1e-4, ge=0)
    backbone_factor: float = Field(
        default=1.0, gt=0, le=1, description="Learning rate of the backbone as a share of the head's."
    )


class Adam(_Optimizer):
    """Adam."""

    name: Literal["adam"]


class AdamW(_Optimizer):
    """AdamW."""

    name: Literal["adamw"] = "adamw"


class Adamax(_Optimizer):
    """Adamax."""

    name: Literal["adamax"]


class Sgd(_Optimizer):
    """Stochastic gradient descent with momentum."""

    name: Literal["sgd"]
    momentum: float = Field(default=0.9, ge=0, lt=1)
    nesterov: bool = True


Optimizer = Annotated[Adam | AdamW | Adamax | Sgd, Field(discriminator="name")]


class Constant(Strict):
    """The rate stays."""

    name: Literal["constant"]
    warmup_epochs: float = Field(default=0.0, ge=0)


class Cosine(Strict):
    """A linear warm-up, then a cosine to ``final`` (share of the rate), step by step."""

    name: Literal["cosine"] = "cosine"
    warmup_epochs: float = Field(default=1.0, ge=0)
    final: float = Field(default=0.0, ge=0, lt=1)


class Plateau(Strict):
    """The rate falls by ``factor`` when the monitored value hasn't improved for ``patience`` epochs."""

    name: Literal["plateau"]
    factor: float = Field(default=0.5, gt=0, lt=1)
    patience: int = Field(default=7, ge=1)
    warmup_epochs: float = Field(default=0.0, ge=0)


Schedule = Annotated[Constant | Cosine | Plateau, Field(discriminator="name")]


class Monitor(Strict):
    """The validation value that decides what is best: ``loss``, ``accuracy``, ``macro_f1``, ``auc`` or ``dice``."""

    value: Literal["loss", "accuracy", "macro_f1", "auc", "dice"] = "loss"

    @property
    def mode(self) -> Literal["min", "max"]:
        """Whether less or more is better."""
        return "min" if self.value == "loss" else "max"


class EarlyStopping(Strict):
    """Stop when the monitored value hasn't improved by ``min_delta`` for ``patience`` epochs."""

    patience: int = Field(default=10, ge=1)
    min_delta: float = Field(default=0.001, ge=0)


class Checkpoints(Strict):
    """The last state every ``every_steps`` optimiser steps (two files in turn) and the ``top_k`` best epochs."""

    every_steps: int = Field(default=50, ge=1)
    top_k: int = Field(default=1, ge=1, le=50)


class Training(Strict):
    """How the optimisation runs.

    ``auto`` for precision and memory format measures the candidates on three steps each and takes the fastest that
    passes the numerics check; ``auto`` for the batch finds the largest that fits. ``steps_per_epoch`` None takes each
    training sample once an epoch. ``ema_decay`` averages the weights (0: not).
    """

    epochs: int = Field(default=10, ge=1, le=100_000)
    steps_per_epoch: int | None = Field(default=None, ge=1)
    batch_size: Annotated[int, Field(ge=1, le=4096)] | Literal["auto"] = 8
    accumulate: int = Field(default=1, ge=1, le=1024)
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    memory_format: Literal["auto", "contiguous", "channels_last"] = "auto"
    compile: bool = False
    gradient_checkpointing: bool = False
    gradient_clip: float | None = Field(default=1.0, gt=0)
    ema_decay: float = Field(default=0.0, ge=0, lt=1)
    mixup: float = Field(default=0.0, ge=0, le=1, description="Alpha of mixup (classification); 0: not used.")
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    deterministic: bool = True
    freezing: Freezing = Freezing()
    rehearsal: Rehearsal | None = None
    monitor: Monitor = Monitor()
    early_stopping: EarlyStopping | None = None
    checkpoints: Checkpoints = Checkpoints()
    sample_predictions: int = Field(default=0, ge=0, le=64, description="Pictures written every fifth epoch.")
    budget_minutes: float | None = Field(default=None, gt=0)
    threads: int | None = Field(default=None, ge=1, description="Processor threads; all but one when empty.")


class Evaluation(Strict):
    """What is computed on the test part. ``gates`` names a file of ``models/recipes/gates`` or a path."""

    gates: str | None = None
    bootstrap: int = Field(default=2000, ge=100, le=100_000)
    surface_tolerance_mm: float = Field(default=2.0, gt=0)


class Tracking(Strict):
    """The run's own JSON lines are always written; the others on wish, all local."""

    tensorboard: bool = False
    mlflow: bool = False
    wandb: bool = False
    hardware_every_s: float = Field(default=10.0, ge=0.5)


class BundleLabel(Strict):
    """One class or structure as the bundle names it; ``value`` is the class index or the voxel value."""

    value: int = Field(ge=0, le=255)
    name: str = Field(min_length=1, max_length=64)
    code: Code | None = None
    category: Code | None = None
    region: Code | None = None
    color_rgb: tuple[int, int, int] = (200, 200, 200)


class BundleConfig(Strict):
    """What the model will say about itself. Text of the card stands in ``models/recipes/<name>.card.md``."""

    id: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{1,62}$")
    version: str = Field(default="1.0.0", pattern=r"^\d+\.\d+\.\d+(-[0-9A-Za-z.-]+)?$")
    title: str = Field(min_length=1, max_length=120)
    description: str = ""
    intended_use: str = "Research and review support, not for primary diagnosis."
    not_intended_for: str = ""
    licence: str = Field(default="unstated", min_length=1)
    training_data: str = ""
    labels: tuple[BundleLabel, ...] = Field(min_length=1)
    requirements: Requirements = Requirements()
    inference: Inference = Inference()
    postprocessing: Postprocessing = Postprocessing()
    coverage: float = Field(default=0.95, gt=0, lt=1, description="Coverage of prediction sets.")


class Recipe(Strict):
    """How a model is trained, from where its cases lie to what its bundle says."""

    schema_version: Literal[1] = 1
    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{1,62}$")
    title: str = ""
    system: str = ""
    seed: int = Field(default=0, ge=0, lt=2**31)
    task: Literal["classification", "segmentation"]
    spatial_dims: Literal[2, 3]
    data: Data
    preprocessing: Preprocessing = Preprocessing()
    transforms: Transforms = Transforms()
    network: NetworkConfig
    loss: LossConfig = LossConfig()
    optimizer: Optimizer = AdamW()
    schedule: Schedule = Cosine()
    training: Training = Training()
    evaluation: Evaluation = Evaluation()
    tracking: Tracking = Tracking()
    bundle: BundleConfig

    @model_validator(mode="after")
    def _consistent(self) -> Recipe:
        values = sorted(label.value for label in self.bundle.labels)
        if self.task == "classification" and values != list(range(len(values))):
            raise ValueError("bundle.labels: classes are numbered 0, 1, 2 …")
        if self.task == "segmentation" and 0 in values:
            raise ValueError("bundle.labels: value 0 is background and is not listed")
        if self.training.rehearsal is not None and self.network.pretraining is None:
            raise ValueError("training.rehearsal: there is no network.pretraining to rehearse")
        if self.task == "segmentation" and self.training.mixup:
            raise ValueError("training.mixup: mixup is for classification")
        return self

    @property
    def out_channels(self) -> int:
        """Channels of the network's output: classes, or background and the highest label value."""
        return max(label.value for label in self.bundle.labels) + 1
