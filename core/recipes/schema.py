"""The training configuration: one strict document for the command line, the window and background jobs.

Every section whose kind can vary is discriminated by ``name``. Unknown fields are refused (see ``load`` for the
message with the nearest name). Field titles and descriptions make the form of the training dialog.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from core.bundles.manifest import Preprocessing
from core.recipes.base import Strict
from core.recipes.bundle_schema import BundleConfig, BundleLabel, BundleMeasurement
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


class TextConfig(Strict):
    """The report that goes with an image, cut into word pieces (WordPiece, as BERT has them).

    ``vocabulary`` is the folder of a BERT tokeniser or its ``vocab.txt``; None learns one from the training reports.
    ``max_tokens`` pieces are kept, a shorter text is filled up with 0. ``dropout`` hides that share of the texts in
    training, so that the network also answers without one.
    """

    vocabulary: str | None = None
    max_tokens: int = Field(default=64, ge=4, le=512)
    lowercase: bool = True
    dropout: float = Field(default=0.0, ge=0, lt=1)


class Data(Strict):
    """Where the cases come from and how they are drawn.

    ``channels`` name the contrasts in the order of the network's input; a case that lacks one is refused, left out,
    or gets a channel of zeros (``missing``). ``repeat`` draws each training case that many times an epoch.
    ``balance`` ``weighted`` draws rare classes as often as common ones. ``text`` gives the network the report too.
    """

    source: Source
    split: Split = Split()
    channels: tuple[str, ...] = Field(default=("image",), min_length=1, max_length=8)
    missing: Literal["refuse", "leave_out", "zeros"] = "refuse"
    balance: Literal["none", "weighted"] = "none"
    repeat: int = Field(default=1, ge=1, le=10_000)
    sampling: Sampling | None = None
    text: TextConfig | None = None
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


TaskName = Literal["segmentation", "classification", "regression"]


class Tasks(Strict):
    """The tasks that one network learns together, each with its loss; one alone is allowed.

    ``uncertainty`` weighs them by learnt variances, ``equal`` adds the losses up.
    """

    segmentation: LossConfig | None = None
    classification: LossConfig | None = None
    regression: LossConfig | None = None
    weighting: Literal["uncertainty", "equal"] = "uncertainty"

    @property
    def losses(self) -> dict[TaskName, LossConfig]:
        """The losses by task, in the order of the network's answers."""
        given: tuple[tuple[TaskName, LossConfig | None], ...] = (
            ("segmentation", self.segmentation),
            ("classification", self.classification),
            ("regression", self.regression),
        )
        return {name: loss for name, loss in given if loss is not None}


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
    """The validation value that decides what is best.

    ``mae`` (in standard deviations) and ``score`` (the mean of ``dice``, ``macro_f1`` and 1 − ``mae`` over the tasks
    that are trained) are for several tasks.
    """

    value: Literal["loss", "accuracy", "macro_f1", "auc", "dice", "mae", "score"] = "loss"

    @property
    def mode(self) -> Literal["min", "max"]:
        """Whether less or more is better."""
        return "min" if self.value in ("loss", "mae") else "max"


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
    auxiliary_weight: float = Field(
        default=0.01, ge=0, description="Weight of the network's own loss (balance of a mixture of experts)."
    )
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


class Recipe(Strict):
    """How a model is trained, from where its cases lie to what its bundle says."""

    schema_version: Literal[1] = 1
    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{1,62}$")
    title: str = ""
    system: str = ""
    seed: int = Field(default=0, ge=0, lt=2**31)
    task: Literal["classification", "segmentation", "multitask"]
    spatial_dims: Literal[2, 3]
    data: Data
    preprocessing: Preprocessing = Preprocessing()
    transforms: Transforms = Transforms()
    network: NetworkConfig
    loss: LossConfig = LossConfig()
    tasks: Tasks | None = None
    optimizer: Optimizer = AdamW()
    schedule: Schedule = Cosine()
    training: Training = Training()
    evaluation: Evaluation = Evaluation()
    tracking: Tracking = Tracking()
    bundle: BundleConfig

    @model_validator(mode="after")
    def _consistent(self) -> Recipe:
        if self.training.rehearsal is not None and self.network.pretraining is None:
            raise ValueError("training.rehearsal: there is no network.pretraining to rehearse")
        if self.task != "classification" and self.training.mixup:
            raise ValueError("training.mixup: mixup is for classification")
        if self.data.text is not None and (self.training.mixup or self.task == "segmentation"):
            raise ValueError(
                "data.text: a report goes with classes or several tasks, and without training.mixup"
            )
        if self.task == "multitask":
            self._check_tasks()
        else:
            self._check_single()
        return self

    def _check_single(self) -> None:
        values = sorted(label.value for label in self.bundle.labels)
        if not values:
            raise ValueError("bundle.labels: name at least one")
        if self.task == "classification" and values != list(range(len(values))):
            raise ValueError("bundle.labels: classes are numbered 0, 1, 2 …")
        if self.task == "segmentation" and 0 in values:
            raise ValueError("bundle.labels: value 0 is background and is not listed")
        for field, given in (
            ("tasks", self.tasks is not None and bool(self.tasks.losses)),
            ("bundle.classes", bool(self.bundle.classes)),
            ("bundle.measurements", bool(self.bundle.measurements)),
            ("training.monitor", self.training.monitor.value in ("mae", "score")),
        ):
            if given:
                raise ValueError(f"{field}: this is for the task multitask; the recipe's task is {self.task}")

    def _check_tasks(self) -> None:
        trained = self.task_names
        if not trained:
            raise ValueError("tasks: name at least one of segmentation, classification and regression")
        if any(label.value == 0 for label in self.bundle.labels):
            raise ValueError("bundle.labels: value 0 is background and is not listed")
        for name, field, count in (
            ("segmentation", "labels", len(self.bundle.labels)),
            ("classification", "classes", len(self.bundle.classes)),
            ("regression", "measurements", len(self.bundle.measurements)),
        ):
            least = 2 if name == "classification" else 1
            if name in trained and count < least:
                raise ValueError(f"bundle.{field}: tasks.{name} needs at least {least} of them")
        needed = {"dice": "segmentation", "mae": "regression"}
        needed |= dict.fromkeys(("accuracy", "macro_f1", "auc"), "classification")
        monitor = self.training.monitor.value
        if needed.get(monitor, trained[0]) not in trained:
            raise ValueError(f"training.monitor: {monitor} needs tasks.{needed[monitor]}")
        if self.bundle.inference.patch_kji is not None or self.data.sampling is not None:
            raise ValueError(
                "data.sampling and bundle.inference.patch_kji: several tasks are answered on the whole image; "
                "set preprocessing.conform or preprocessing.resize_hw instead"
            )

    @property
    def task_names(self) -> tuple[TaskName, ...]:
        """What is trained; of a recipe with several tasks those that are given, in the order of the answers."""
        if self.task != "multitask":
            return (self.task,)
        return () if self.tasks is None else tuple(self.tasks.losses)

    @property
    def structures(self) -> tuple[BundleLabel, ...]:
        """Structures that the network segments; empty when it doesn't."""
        return self.bundle.labels if "segmentation" in self.task_names else ()

    @property
    def classes(self) -> tuple[BundleLabel, ...]:
        """Classes that the network tells apart; empty when it doesn't."""
        if "classification" not in self.task_names:
            return ()
        return self.bundle.classes if self.task == "multitask" else self.bundle.labels

    @property
    def measurements(self) -> tuple[BundleMeasurement, ...]:
        """Numbers that the network estimates; empty when it doesn't."""
        return self.bundle.measurements if "regression" in self.task_names else ()

    @property
    def out_channels(self) -> int:
        """Channels of the network's first output: classes, or background and the highest label value.

        Of several tasks those of the segmentation, 0 without one.
        """
        labels = self.structures if self.task == "multitask" else self.bundle.labels
        return max((label.value for label in labels), default=-1) + 1
