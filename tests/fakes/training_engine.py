"""Trainings in memory, for presenters and windows; a test moves them on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from app.presenters.ports_training import CandidateOffer, TrainableModel
from core.domain.forms import Choice, FormField
from core.domain.training import (
    AgreementRow,
    Candidate,
    CandidateState,
    CaseComparison,
    CasePart,
    Comparison,
    CurvePoint,
    DriftRow,
    GateOutcome,
    LabelOrigin,
    ModelMonitor,
    ModelVersions,
    MonitorAlert,
    PromotionEntry,
    TrainingCase,
    TrainingChanged,
    TrainingCurves,
    TrainingEvent,
    TrainingNote,
    TrainingPreview,
    TrainingRun,
    TrainingState,
)

MODEL = TrainableModel("thorax-ct", "Thorax organs", "1.0.0", "segmentation")
FORM = (
    FormField("model_id", "Model", "", "text", required=True),
    FormField(
        "start", "Start", "At once or at night.", "choice", section="Time", default="now",
        choices=(Choice("now", "Now"), Choice("night", "At night")),
    ),
    FormField(
        "night_from", "Night begins", "", "time", default="22:00", section="Time", shown_when=("start", "night")
    ),
    FormField("night_to", "Night ends", "", "time", default="06:00", section="Time", shown_when=("start", "night")),
    FormField("budget_minutes", "Time limit", "", "int", 1, 1440, default=60, unit="min", section="Time"),
    FormField(
        "device", "Computed on", "", "choice", section="Computer", default="auto",
        choices=(Choice("auto", "Automatic"), Choice("cpu", "Processor")),
    ),
    FormField("max_memory_mb", "Memory limit", "", "int", 512, 1_048_576, default=4096, unit="MB", section="Computer"),
    FormField("epochs", "Passes", "How often each case is shown.", "int", 1, 1000, default=10, section="Learning"),
    FormField("learning_rate", "Learning rate", "", "float", 1e-7, 0.1, default=1e-4, section="Learning"),
)  # fmt: skip


def case(number: int, part: CasePart | None = CasePart.TRAIN, **changes: Any) -> TrainingCase:
    """Return a case of patient ``P-<number>``."""
    row = TrainingCase(
        f"c{number}",
        f"s{number}",
        f"t{number}",
        f"P-{number}",
        f"r{number}",
        "1.0.0",
        "Thorax 5.0",
        part=part,
    )
    return replace(row, **changes)


CASES = (
    case(1, origin=LabelOrigin.READER),
    case(2, series_key="s2", study_uid="t1", patient="P-1", description="Lung kernel"),
    case(3, CasePart.VALIDATION),
    case(4, CasePart.TEST, origin=LabelOrigin.READER),
    case(
        5, None, usable=False, included=False, code="training.undecided",
        reason="2 of 4 findings have no verdict.",
    ),
)  # fmt: skip


def training(**changes: Any) -> TrainingRun:
    """Return a training in its third epoch."""
    run = TrainingRun(
        "run1", "thorax-ct", "Thorax organs", "1.0.0", "ab" * 32, TrainingState.RUNNING, "training", 0.3, 720.0,
        epoch=3, epochs=10, actor="A. B.", created_utc="2026-01-02T03:04:05+00:00",
    )  # fmt: skip
    return replace(run, **changes)


NOTES = (
    TrainingNote("chosen", "32-bit numbers: mixed precision gained nothing on this processor."),
    TrainingNote("early_stopping", "The validation cases stopped improving after epoch 7."),
)


def curve(steps: int = 60, epochs: int = 6) -> tuple[CurvePoint, ...]:
    """Return a loss that falls and a Dice that rises."""
    falling = [CurvePoint("train_loss", n, 0.9 / (1 + n / 20)) for n in range(1, steps + 1)]
    every = max(1, steps // epochs)
    checked = [
        point
        for n in range(every, steps + 1, every)
        for point in (
            CurvePoint("validation_loss", n, 0.95 / (1 + n / 25)),
            CurvePoint("validation_dice", n, 0.9 - 0.5 / (1 + n / 15)),
        )
    ]
    return (*falling, *checked)


def compared(number: int, difference: float) -> CaseComparison:
    """Return a case of the comparison."""
    return CaseComparison(f"c{number}", f"s{number}", f"t{number}", f"P-{number}", 0.9, 0.9 + difference)


def candidate(**changes: Any) -> Candidate:
    """Return a candidate that passed its gates."""
    cases = tuple(compared(n, 0.01 * (n - 3)) for n in range(9, 0, -1))
    gates = (
        GateOutcome("cases", "Enough cases", 3, 9, True, "9 cases; at least 3 are needed."),
        GateOutcome("not_worse", "Not worse", -0.02, -0.003, True, "The lower bound is −0.003."),
    )
    found = Comparison("dice", 0.901, 0.913, 0.012, (-0.003, 0.027), 0.11, cases, 0.03)
    row = Candidate(
        "k1", "run1", "thorax-ct", "Thorax organs", "1.1.0", "cd" * 32, "1.0.0", "ab" * 32, found, gates,
        created_utc="2026-01-02T03:04:05+00:00",
    )  # fmt: skip
    return replace(row, **changes)


def failed_candidate() -> Candidate:
    """Return one that is worse than the model in use."""
    gate = GateOutcome(
        "not_worse", "Not worse", -0.02, -0.08, False, "The lower bound −0.080 is below −0.020."
    )
    enough = GateOutcome("cases", "Enough cases", 3, 9, True, "9 cases; at least 3 are needed.")
    found = Comparison("dice", 0.9, 0.86, -0.04, (-0.08, -0.001), 0.02, candidate().comparison.cases)  # type: ignore[union-attr]
    return candidate(candidate_id="k2", version="1.2.0", comparison=found, gates=(enough, gate))


class FakeTrainingEngine:
    """Answers from attributes that a test may change; ``_note`` comes from the class that inherits this."""

    reader = "A. B."

    def prepare_training(self) -> None:
        """Make what the methods answer from."""
        self.train_models: list[TrainableModel] = [MODEL]
        self.train_cases: list[TrainingCase] = list(CASES)
        self.train_form: list[FormField] = list(FORM)
        self.refusal: tuple[str, str, str] = ("", "", "")
        self.training_runs: list[TrainingRun] = []
        self.curve_points: dict[str, list[CurvePoint]] = {}
        self.candidate_offers: list[CandidateOffer] = []
        self.versions = ModelVersions("thorax-ct", "Thorax organs", "1.0.0", "ab" * 32)
        self.monitor = ModelMonitor()
        self.reading_notes = 0
        self._take: Callable[[TrainingEvent], None] = lambda _: None

    def _note(self, name: str, *arguments: Any) -> None:
        raise NotImplementedError

    def move(self, run: TrainingRun) -> None:
        """Change a training and tell it, as the engine does from its own thread."""
        others = [known for known in self.training_runs if known.run_id != run.run_id]
        self.training_runs = [run, *others]
        self._take(TrainingChanged(run))

    def put_on_record(self, run_id: str, *points: CurvePoint) -> None:
        """Record values and tell them."""
        self.curve_points.setdefault(run_id, []).extend(points)
        self._take(TrainingCurves(run_id, points))

    def listen_to_training(self, take: Callable[[TrainingEvent], None]) -> None:
        self._take = take

    def trainable_models(self) -> Sequence[TrainableModel]:
        self._note("trainable_models")
        return list(self.train_models)

    def preview_training(self, model_id: str, left_out: Sequence[str]) -> TrainingPreview:
        self._note("preview_training", model_id, tuple(left_out))
        cases = tuple(
            replace(row, included=False, part=None) if row.case_id in left_out else row
            for row in self.train_cases
        )
        return TrainingPreview(model_id, "Thorax organs", "1.0.0", "segmentation", cases, *self.refusal)

    def training_form(self) -> Sequence[FormField]:
        return list(self.train_form)

    def start_training(self, settings: Mapping[str, Any]) -> TrainingRun:
        self._note("start_training", dict(settings))
        run = training(
            state=TrainingState.QUEUED, fraction=0.0, eta_seconds=None, epoch=0, settings=dict(settings)
        )
        self.move(run)
        return run

    def trainings(self) -> Sequence[TrainingRun]:
        self._note("trainings")
        return list(self.training_runs)

    def training_curves(self, run_id: str) -> Sequence[CurvePoint]:
        self._note("training_curves", run_id)
        return list(self.curve_points.get(run_id, []))

    def _become(self, run_id: str, state: TrainingState) -> None:
        known = next(run for run in self.training_runs if run.run_id == run_id)
        self.move(replace(known, state=state))

    def pause_training(self, run_id: str) -> None:
        self._note("pause_training", run_id)
        self._become(run_id, TrainingState.PAUSED)

    def resume_training(self, run_id: str) -> None:
        self._note("resume_training", run_id)
        self._become(run_id, TrainingState.RUNNING)

    def cancel_training(self, run_id: str) -> None:
        self._note("cancel_training", run_id)
        self._become(run_id, TrainingState.CANCELLING)

    def candidates(self) -> Sequence[CandidateOffer]:
        self._note("candidates")
        return list(self.candidate_offers)

    def model_versions(self, model_id: str) -> ModelVersions:
        self._note("model_versions", model_id)
        return self.versions

    def _set_state(self, state: CandidateState) -> None:
        self.candidate_offers = [
            replace(offer, candidate=replace(offer.candidate, state=state)) for offer in self.candidate_offers
        ]

    def promote_candidate(self, candidate_id: str, person: str, reason: str) -> ModelVersions:
        self._note("promote_candidate", candidate_id, person, reason)
        self._set_state(CandidateState.PROMOTED)
        entry = PromotionEntry(
            1, "thorax-ct", "promote", "1.0.0", "1.1.0", person, reason, "2026-01-03T10:00:00", candidate_id
        )
        self.versions = ModelVersions("thorax-ct", "Thorax organs", "1.1.0", "cd" * 32, "1.0.0", (entry,))
        return self.versions

    def roll_back_model(self, model_id: str, person: str, reason: str) -> ModelVersions:
        self._note("roll_back_model", model_id, person, reason)
        self._set_state(CandidateState.ROLLED_BACK)
        entry = PromotionEntry(
            2, "thorax-ct", "rollback", "1.1.0", "1.0.0", person, reason, "2026-01-04T10:00:00"
        )
        history = (entry, *self.versions.history)
        self.versions = ModelVersions("thorax-ct", "Thorax organs", "1.0.0", "ab" * 32, "", history)
        return self.versions

    def watch_models(self) -> ModelMonitor:
        self._note("watch_models")
        return self.monitor

    def note_reading(self) -> None:
        self.reading_notes += 1


def monitor() -> ModelMonitor:
    """Return one model that is as it was and one that readers agree with less than before."""
    weeks = []
    for n in range(1, 9):
        steady, falling = 36 + n % 3, 34 - 3 * n
        weeks.append(
            AgreementRow(
                "thorax-ct", "Thorax organs", "1.0.0", f"2026-W0{n}", 40, steady, 40 - steady, 0, 0, 0.91
            )
        )
        weeks.append(
            AgreementRow(
                "brain-mr", "Brain tissue", "2.1.0", f"2026-W0{n}", 35, falling, 20 - falling // 2, 2, 1
            )
        )
    drift = (
        DriftRow("brain-mr", "mean intensity", "input", 240, 35, 412.0, 655.0, 0.41, 0.52, 0.0004, True),
        DriftRow("brain-mr", "volume of label 1", "output", 240, 35, 31.0, 30.2, 0.03, 0.08, 0.7, False),
    )
    alert = MonitorAlert(
        "brain-mr",
        "agreement",
        "Brain tissue 2.1.0: agreement fell from 89 % to 29 %. Look at recent cases before you rely on it.",
    )
    return ModelMonitor(tuple(weeks), drift, (alert,))
