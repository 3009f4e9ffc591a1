"""Trainings, the candidates that they give, and what became of these: types that services and the window share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class LabelOrigin(StrEnum):
    """Who drew a label: the model, and a reader accepted it, or a reader."""

    MODEL = "model"
    READER = "reader"


class CasePart(StrEnum):
    """What a case is used for. The patients of the test part never change and are never trained on."""

    TRAIN = "train"
    VALIDATION = "validation"
    TEST = "test"


@dataclass(frozen=True)
class LabelSource:
    """Where one label of a case comes from: the verdict, the reader, when.

    ``value`` is the voxel value or the index of the class; ``decided_utc`` is ISO 8601.
    """

    value: int
    label: str
    origin: LabelOrigin
    decision_id: str
    verdict: str
    reader: str
    decided_utc: str


@dataclass(frozen=True)
class TrainingCase:
    """A series with a result of the model, and whether it can teach.

    Attributes
    ----------
    case_id : str
        Stable for this series and model; made of a keyed hash, never of identity.
    patient : str
        Pseudonym.
    description : str
        Of the series, as the reader knows it; stays in this process.
    origin : LabelOrigin
        ``READER`` when a reader corrected at least one label.
    labels : tuple of LabelSource
        One per decided label that is used.
    part : CasePart or None
        None for a case that isn't used.
    usable : bool
        Whether it could be used; ``code`` and ``reason`` say why not, in the reader's words.
    included : bool
        Usable, and not left out by the user.
    """

    case_id: str
    series_key: str
    study_uid: str
    patient: str
    result_id: str
    model_version: str
    description: str = ""
    origin: LabelOrigin = LabelOrigin.MODEL
    labels: tuple[LabelSource, ...] = ()
    part: CasePart | None = None
    usable: bool = True
    included: bool = True
    code: str = ""
    reason: str = ""

    @property
    def is_corrected(self) -> bool:
        """Whether a reader drew at least one of its labels."""
        return self.origin is LabelOrigin.READER


@dataclass(frozen=True)
class TrainingPreview:
    """What a training of a model would learn from.

    ``refusal`` and ``remedy`` say what keeps it from starting, empty when nothing does; ``refusal_code`` is the
    error's code.
    """

    model_id: str
    title: str
    version: str
    task: str
    cases: tuple[TrainingCase, ...] = ()
    refusal_code: str = ""
    refusal: str = ""
    remedy: str = ""

    @property
    def can_start(self) -> bool:
        """Whether nothing keeps it from starting."""
        return not self.refusal_code

    @property
    def included(self) -> tuple[TrainingCase, ...]:
        """Cases that are used."""
        return tuple(case for case in self.cases if case.included)

    @property
    def excluded(self) -> tuple[TrainingCase, ...]:
        """Cases that aren't, each with its reason."""
        return tuple(case for case in self.cases if not case.included)

    def count(self, part: CasePart) -> int:
        """Return how many cases a part has."""
        return sum(case.part is part for case in self.included)


class TrainingState(StrEnum):
    """Where a training stands.

    ``interrupted``: the program ended or the worker died; it goes on from its checkpoint when it is resumed.
    """

    QUEUED = "queued"
    RUNNING = "running"
    PAUSED = "paused"
    COMPARING = "comparing"
    CANCELLING = "cancelling"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    INTERRUPTED = "interrupted"


FINAL_STATES = frozenset({TrainingState.SUCCEEDED, TrainingState.FAILED, TrainingState.CANCELLED})
"""States in which a training stays (a failed one may be resumed from its checkpoint)."""
ACTIVE_STATES = frozenset(
    {TrainingState.RUNNING, TrainingState.PAUSED, TrainingState.COMPARING, TrainingState.CANCELLING}
)
"""States in which a training has a worker."""


@dataclass(frozen=True)
class TrainingNote:
    """Something that the engine chose or met: ``out_of_memory``, ``early_stopping``, ``unfreeze`` …"""

    code: str
    message: str
    time_utc: str = ""


_PRECISIONS = {
    "fp32": "32-bit numbers",
    "bf16": "16-bit numbers (bfloat16)",
    "fp16": "16-bit numbers (float16)",
}


def chosen_in_words(event: Mapping[str, object]) -> str:
    """Return in a sentence how a training computes; ``event`` is the engine's ``chosen``."""
    precision = str(event.get("precision", ""))
    number = event.get("batch_size")
    size = f", {number} case{'' if number == 1 else 's'} at a time" if isinstance(number, int) else ""
    return f"Computes with {_PRECISIONS.get(precision, precision)}{size}."


@dataclass(frozen=True)
class TrainingRun:
    """A training as lists show it.

    Attributes
    ----------
    waits_for : str
        Of a queued one: ``"night"``, ``"turn"`` (another one runs) or empty.
    held_by : str
        Of a running one that rests: ``"reading"`` while somebody reads; of a paused one ``"reader"``.
    fraction : float
        Of the whole, comparison included (0…1).
    epoch, epochs : int
        The present one from 1 (0: none yet) and how many there are.
    settings : dict
        The document of ``core.recipes.finetune.FineTuneSettings``.
    error, remedy, error_code : str
        Of a failed or interrupted one.
    """

    run_id: str
    model_id: str
    title: str
    base_version: str
    base_sha256: str
    state: TrainingState
    phase: str = ""
    fraction: float = 0.0
    eta_seconds: float | None = None
    waits_for: str = ""
    held_by: str = ""
    epoch: int = 0
    epochs: int = 0
    step: int = 0
    cases: dict[str, int] = field(default_factory=dict)
    settings: dict[str, object] = field(default_factory=dict)
    actor: str = ""
    created_utc: str = ""
    started_utc: str = ""
    updated_utc: str = ""
    error_code: str = ""
    error: str = ""
    remedy: str = ""
    candidate_id: str = ""
    notes: tuple[TrainingNote, ...] = ()

    @property
    def is_final(self) -> bool:
        """Whether it is over."""
        return self.state in FINAL_STATES

    @property
    def can_pause(self) -> bool:
        """Whether it may be paused."""
        return self.state is TrainingState.RUNNING

    @property
    def can_resume(self) -> bool:
        """Whether it may go on: paused, interrupted, or failed with a checkpoint to go on from."""
        return self.state in (TrainingState.PAUSED, TrainingState.INTERRUPTED, TrainingState.FAILED)

    @property
    def can_cancel(self) -> bool:
        """Whether it may be cancelled."""
        return not self.is_final and self.state is not TrainingState.CANCELLING


@dataclass(frozen=True)
class CurvePoint:
    """A value of a training at an optimiser step, for example ``"train_loss"``."""

    name: str
    step: int
    value: float


@dataclass(frozen=True)
class TrainingChanged:
    """Event: a training's state, progress or notes changed."""

    run: TrainingRun


@dataclass(frozen=True)
class TrainingCurves:
    """Event: new points of a training's curves."""

    run_id: str
    points: tuple[CurvePoint, ...]


TrainingEvent = TrainingChanged | TrainingCurves


@dataclass(frozen=True)
class CaseComparison:
    """One test case under both models; higher is better.

    ``per_label`` has (current, candidate) by label for segmentations; ``difference`` is candidate minus current.
    """

    case_id: str
    series_key: str
    study_uid: str
    patient: str
    current: float
    candidate: float
    origin: LabelOrigin = LabelOrigin.MODEL
    per_label: dict[str, tuple[float, float]] = field(default_factory=dict)
    truth: str = ""

    @property
    def difference(self) -> float:
        """How much better the candidate is."""
        return self.candidate - self.current


@dataclass(frozen=True)
class GateOutcome:
    """One gate: what it demands, what was found, whether that is enough, and a sentence for the reader."""

    name: str
    title: str
    threshold: float
    value: float
    passed: bool
    reason: str = ""


@dataclass(frozen=True)
class Comparison:
    """Candidate against current model on the frozen test set.

    Attributes
    ----------
    metric : str
        ``"dice"`` (mean over the labels of a case) or ``"accuracy"``.
    current, candidate, difference : float
        Means over the cases; ``ci95`` is the paired bootstrap interval of the difference, ``p`` two-sided.
    corrected_difference : float or None
        The same over the cases that a reader corrected: accepted labels are the current model's own output, which
        the current model can only lose.
    cases : tuple of CaseComparison
        The worst for the candidate first.
    """

    metric: str
    current: float
    candidate: float
    difference: float
    ci95: tuple[float, float]
    p: float
    cases: tuple[CaseComparison, ...] = ()
    corrected_difference: float | None = None


class CandidateState(StrEnum):
    """What became of a candidate."""

    WAITING = "waiting"
    PROMOTED = "promoted"
    SUPERSEDED = "superseded"
    ROLLED_BACK = "rolled back"


@dataclass(frozen=True)
class Candidate:
    """A trained model beside the one that it was compared with. Nothing promotes it but a person.

    ``bundle_sha256`` and ``base_sha256`` are digests of all files of the bundles, as ``core.bundles.digest`` makes
    them.
    """

    candidate_id: str
    run_id: str
    model_id: str
    title: str
    version: str
    bundle_sha256: str
    base_version: str
    base_sha256: str
    comparison: Comparison | None = None
    gates: tuple[GateOutcome, ...] = ()
    state: CandidateState = CandidateState.WAITING
    created_utc: str = ""

    @property
    def passed(self) -> bool:
        """Whether it was compared and every gate passed."""
        return self.comparison is not None and bool(self.gates) and all(gate.passed for gate in self.gates)


@dataclass(frozen=True)
class PromotionEntry:
    """One change of the version in use: who, when, why. ``action`` is ``"promote"`` or ``"rollback"``."""

    number: int
    model_id: str
    action: str
    from_version: str
    to_version: str
    by: str
    reason: str
    created_utc: str
    candidate_id: str = ""


@dataclass(frozen=True)
class ModelVersions:
    """The version in use, the one that a roll-back returns to (empty: none), and what was done, newest first."""

    model_id: str
    title: str
    current_version: str
    current_sha256: str
    previous_version: str = ""
    history: tuple[PromotionEntry, ...] = ()


@dataclass(frozen=True)
class AgreementRow:
    """Verdicts of one ISO week on results of one version of a model.

    ``week`` is ``"2026-W07"``; rates are shares of ``findings`` (0…1); ``mean_dice`` is between the model's and the
    reader's masks of edited findings, None when there are none.
    """

    model_id: str
    title: str
    version: str
    week: str
    findings: int
    accepted: int
    edited: int
    rejected: int
    unsure: int
    mean_dice: float | None = None

    @property
    def accept_rate(self) -> float:
        """Share that readers accepted."""
        return self.accepted / self.findings if self.findings else 0.0

    @property
    def edit_rate(self) -> float:
        """Share that readers corrected."""
        return self.edited / self.findings if self.findings else 0.0

    @property
    def reject_rate(self) -> float:
        """Share that readers rejected."""
        return self.rejected / self.findings if self.findings else 0.0


@dataclass(frozen=True)
class DriftRow:
    """How a stored number of a model's results differs between a recent window and the reference before it.

    ``psi`` is the population stability index, ``ks`` the Kolmogorov–Smirnov statistic with its ``p``.
    ``kind`` is ``"input"`` or ``"output"``.
    """

    model_id: str
    feature: str
    kind: str
    reference: int
    window: int
    reference_mean: float
    window_mean: float
    psi: float
    ks: float
    p: float
    alert: bool


@dataclass(frozen=True)
class MonitorAlert:
    """Something that a person should look at, in words."""

    model_id: str
    code: str
    message: str


@dataclass(frozen=True)
class ModelMonitor:
    """Agreement of readers with each model over time, drift, and what to look at."""

    agreement: tuple[AgreementRow, ...] = ()
    drift: tuple[DriftRow, ...] = ()
    alerts: tuple[MonitorAlert, ...] = ()
