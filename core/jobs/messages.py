"""Typed messages between the supervisor and the worker.

Every message is a frozen dataclass with a ``job_id``; ``VERSION`` changes when a field's meaning does.
Arrays never travel in a message: they travel as ``SharedArraySpec`` (see ``core.jobs.shared_arrays``).
Identity never travels at all.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

VERSION = 2


@dataclass(frozen=True)
class SharedArraySpec:
    """Where an array lies in shared memory: block name, dtype string (``"<i2"``) and shape.

    ``file`` is set when the block is a file on disk, because shared memory was too small.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    file: str | None = None


@dataclass(frozen=True)
class GridSpec:
    """A VolumeGeometry in JSON: shape (k, j, i) and the 16 numbers of ``lps_from_ijk``, row by row."""

    shape_kji: tuple[int, int, int]
    lps_from_ijk: tuple[float, ...]
    frame_of_reference_uid: str | None = None


@dataclass(frozen=True)
class VolumeSpec:
    """What the worker needs of a Volume: voxels in shared memory, grid, modality, units, body part.

    ``windows`` are (centre, width) of the series' own grey scales, ``inverted`` is set for MONOCHROME1:
    a model sees an image as a reader does.
    """

    voxels: SharedArraySpec
    grid: GridSpec
    modality: str
    units: str
    series_uid: str
    body_part: str = ""
    padding_value: float | None = None
    inverted: bool = False
    windows: tuple[tuple[float, float], ...] = ()


@dataclass(frozen=True)
class ContrastSpec:
    """A further contrast of a model that takes several: the manifest's name of the input, and its volume."""

    name: str
    volume: VolumeSpec


@dataclass(frozen=True)
class RunModelTask:
    """Run a bundle on a volume. ``labels_out`` is a block of the volume's shape that the worker fills.

    ``probe_folder`` is where the choice of an inference engine is remembered between processes. ``contrast`` is the
    name of ``volume`` among the inputs of a model that takes several; ``others`` are the rest. ``text`` is a report,
    which goes through the pipe only.
    """

    bundle_path: str
    volume: VolumeSpec
    device: str = "auto"
    labels_out: SharedArraySpec | None = None
    probe_folder: str | None = None
    contrast: str = ""
    others: tuple[ContrastSpec, ...] = ()
    text: str | None = field(default=None, repr=False)


@dataclass(frozen=True)
class ServerSpec:
    """A model server, and the model that it was seen to have. The token goes through the pipe only."""

    name: str
    url: str
    model_id: str
    model_version: str
    model_sha256: str
    ca_file: str | None = None
    allow_plain: bool = False
    token: str = field(default="", repr=False)


@dataclass(frozen=True)
class RunRemoteTask:
    """Have a server run its model on a volume; the other fields are those of ``RunModelTask``.

    ``structures`` are the values, ``classes`` and ``measurements`` the names that the answer may hold; ``single`` is
    set for a model of single images.
    """

    server: ServerSpec
    volume: VolumeSpec
    single: bool
    structures: tuple[int, ...] = ()
    classes: tuple[str, ...] = ()
    measurements: tuple[str, ...] = ()
    labels_out: SharedArraySpec | None = None
    contrast: str = ""
    others: tuple[ContrastSpec, ...] = ()
    text: str | None = field(default=None, repr=False)


@dataclass(frozen=True)
class ExplainTask:
    """Explain one class of a bundle on a volume. ``heat_out`` is float32 of the volume's shape; ``contrast`` and
    ``others`` as in ``RunModelTask``.
    """

    bundle_path: str
    volume: VolumeSpec
    method: str
    class_label: str
    heat_out: SharedArraySpec
    layer: str = ""
    labels: SharedArraySpec | None = None
    device: str = "auto"
    contrast: str = ""
    others: tuple[ContrastSpec, ...] = ()


@dataclass(frozen=True)
class SelfTestTask:
    """Run a bundle on its own reference input and compare with its expected output."""

    bundle_path: str
    device: str = "auto"


@dataclass(frozen=True)
class TrainTask:
    """Train by a recipe on cases that lie in a folder.

    ``folder`` is the training's own (cases below ``cases``, the run below ``run``), ``recipe`` the whole recipe as
    JSON, ``base_path`` the bundle of the model that learns. ``sealed_key`` (hexadecimal) opens the cases; it goes
    through the pipe only, never into a log. ``resume`` goes on from the run's last checkpoint.
    """

    folder: str
    recipe: str
    base_path: str
    sealed_folder: str
    sealed_key: str = field(repr=False)
    device: str = "auto"
    max_memory_mb: int = 0
    resume: bool = True


@dataclass(frozen=True)
class CompareTask:
    """Run two bundles on the test cases of a folder and compare them case by case."""

    cases_folder: str
    current_path: str
    candidate_path: str
    sealed_folder: str
    sealed_key: str = field(repr=False)
    device: str = "auto"
    seed: int = 0


Task = RunModelTask | RunRemoteTask | ExplainTask | SelfTestTask | TrainTask | CompareTask


@dataclass(frozen=True)
class JobSubmitted:
    """A task entered the queue."""

    job_id: str
    task: Task


@dataclass(frozen=True)
class JobStarted:
    """The worker took the job."""

    job_id: str
    worker_pid: int
    device: str = ""


@dataclass(frozen=True)
class JobProgress:
    """``phase`` in the reader's words, ``fraction`` of the whole job, seconds left if known."""

    job_id: str
    phase: str
    fraction: float
    eta_seconds: float | None = None


@dataclass(frozen=True)
class JobMetric:
    """A number of a running job (a loss, a memory figure)."""

    job_id: str
    name: str
    value: float
    step: int = 0


@dataclass(frozen=True)
class JobArtifact:
    """A block of shared memory or a file that a job produced."""

    job_id: str
    kind: str
    array: SharedArraySpec | None = None
    file: str | None = None


@dataclass(frozen=True)
class JobNote:
    """Something that a running job chose or met: memory ran out and the batch was divided, it stops early."""

    job_id: str
    code: str
    message: str


@dataclass(frozen=True)
class JobPaused:
    """The job rests between two steps. ``held_by`` is ``"reader"`` (asked to) or ``"reading"`` (somebody reads)."""

    job_id: str
    held_by: str


@dataclass(frozen=True)
class JobResumed:
    """The job goes on."""

    job_id: str


@dataclass(frozen=True)
class JobSucceeded:
    """The job is done; ``outcome`` is the JSON document of its kind."""

    job_id: str
    outcome: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class JobFailed:
    """The job failed: an AppError's code, message, remedy and family (the class's name)."""

    job_id: str
    code: str
    message: str
    remedy: str = ""
    family: str = "BugError"


@dataclass(frozen=True)
class JobCancelled:
    """The job was cancelled, nothing was kept."""

    job_id: str


@dataclass(frozen=True)
class WorkerLost:
    """The worker died or went silent while it held ``job_id``; the job may be retried."""

    job_id: str
    reason: str


Event = (
    JobStarted
    | JobProgress
    | JobMetric
    | JobArtifact
    | JobNote
    | JobPaused
    | JobResumed
    | JobSucceeded
    | JobFailed
    | JobCancelled
    | WorkerLost
)


@dataclass(frozen=True)
class WorkerReady:
    """The first message of a worker: it listens. ``warm`` once the compute libraries are loaded."""

    worker_pid: int
    warm: bool = False


@dataclass(frozen=True)
class Heartbeat:
    """The worker lives. ``sequence`` counts up; ``rss_mb`` is its resident memory in MiB."""

    sequence: int
    rss_mb: float = 0.0


@dataclass(frozen=True)
class WarmUp:
    """Load the compute libraries now, so that the first task does not wait for them."""


@dataclass(frozen=True)
class CancelJob:
    """Stop working on a job at the next opportunity."""

    job_id: str


@dataclass(frozen=True)
class PauseJob:
    """Rest at the next step until ``ResumeJob``."""

    job_id: str


@dataclass(frozen=True)
class ResumeJob:
    """Go on."""

    job_id: str


@dataclass(frozen=True)
class YieldToReader:
    """Somebody reads: rest at the next step for so many seconds; each message counts from its arrival."""

    job_id: str
    seconds: float


@dataclass(frozen=True)
class StopWorker:
    """Cancel what runs and leave."""


Command = JobSubmitted | CancelJob | PauseJob | ResumeJob | YieldToReader | WarmUp | StopWorker
FromWorker = Event | WorkerReady | Heartbeat
Message = Command | FromWorker
