"""The words of the training screens."""

from __future__ import annotations

from collections.abc import Sequence

from app.presenters.ports import seconds_in_words
from app.presenters.wording import count_in_words
from core.domain.training import (
    Candidate,
    CaseComparison,
    CasePart,
    PromotionEntry,
    TrainingCase,
    TrainingPreview,
    TrainingRun,
    TrainingState,
)

MINUS = "\N{MINUS SIGN}"
METRICS = {"dice": "Dice", "accuracy": "accuracy"}
_STATES = {
    TrainingState.QUEUED: "Waits to start",
    TrainingState.RUNNING: "Training",
    TrainingState.PAUSED: "Paused",
    TrainingState.COMPARING: "Comparing with the model in use",
    TrainingState.CANCELLING: "Stopping",
    TrainingState.SUCCEEDED: "Done: the candidate can be compared",
    TrainingState.FAILED: "Failed",
    TrainingState.CANCELLED: "Cancelled; nothing of it is used",
    TrainingState.INTERRUPTED: "Interrupted; it can go on from its checkpoint",
}
_SHORT = {
    TrainingState.QUEUED: "waits",
    TrainingState.PAUSED: "paused",
    TrainingState.COMPARING: "comparing",
    TrainingState.CANCELLING: "stopping",
}
_PARTS = {
    CasePart.TRAIN: ("teaches", "the model learns from it."),
    CasePart.VALIDATION: ("checks", "tells while training whether it still improves; not learnt from."),
    CasePart.TEST: ("compares", "kept for comparing the candidate; its patient is never learnt from."),
}


def rests_for_reading(run: TrainingRun) -> bool:
    """Return whether a training rests because somebody reads."""
    return run.state is TrainingState.RUNNING and run.held_by == "reading"


def state_in_words(run: TrainingRun) -> str:
    """Return what a training does now: ``"Training · epoch 3 of 10 · 12 min left"``."""
    if run.state is TrainingState.QUEUED:
        return queue_in_words(run)
    if rests_for_reading(run):
        parts = ["Rests while you read; goes on by itself", epoch_in_words(run, " of ")]
    elif run.state is TrainingState.RUNNING:
        parts = ["Training", epoch_in_words(run, " of ") or run.phase, left_in_words(run)]
    elif run.state is TrainingState.COMPARING:
        parts = [_STATES[run.state], left_in_words(run)]
    elif run.state in (TrainingState.PAUSED, TrainingState.INTERRUPTED):
        parts = [_STATES[run.state], epoch_in_words(run, " of ")]
    else:
        parts = [_STATES[run.state]]
    return " · ".join(part for part in parts if part)


def queue_in_words(run: TrainingRun) -> str:
    """Return what a queued training waits for."""
    if run.waits_for == "night":
        window = "–".join(str(run.settings.get(name) or "") for name in ("night_from", "night_to"))
        return f"Waits for the night ({window})" if len(window) > 1 else "Waits for the night"
    return "Waits for its turn" if run.waits_for == "turn" else _STATES[TrainingState.QUEUED]


def status_in_words(run: TrainingRun) -> str:
    """Return a training for the status bar: ``"training: epoch 3/10 · 12 min left"``."""
    if rests_for_reading(run):
        parts = [epoch_in_words(run, "/"), "rests while you read"]
    elif run.state is TrainingState.RUNNING:
        parts = [epoch_in_words(run, "/") or run.phase or "starting", left_in_words(run)]
    elif run.state is TrainingState.PAUSED:
        parts = ["paused", epoch_in_words(run, "/")]
    elif run.state is TrainingState.QUEUED and run.waits_for == "night":
        parts = ["waits for the night"]
    else:
        parts = [_SHORT.get(run.state, str(run.state))]
    return "training: " + " · ".join(part for part in parts if part)


def epoch_in_words(run: TrainingRun, of: str) -> str:
    """Return which epoch of how many, with ``of`` between the numbers."""
    if not run.epoch:
        return ""
    return f"epoch {run.epoch}{of}{run.epochs}" if run.epochs else f"epoch {run.epoch}"


def left_in_words(run: TrainingRun) -> str:
    """Return the time left."""
    left = seconds_in_words(run.eta_seconds).removeprefix("~")
    return f"{left} left" if left else ""


def part_in_words(case: TrainingCase) -> str:
    """Return what a case is used for, or why it isn't."""
    if not case.usable:
        return case.reason
    if not case.included:
        return "left out by you"
    return _PARTS[case.part][0] if case.part is not None else "used"


def use_in_words(case: TrainingCase) -> str:
    """Return in a sentence what a case is used for, or why it isn't."""
    if case.usable and case.included and case.part is not None:
        return _PARTS[case.part][1]
    return part_in_words(case)


def origin_in_words(case: TrainingCase) -> str:
    """Return where the labels of a case come from."""
    if not case.usable:
        return "–"
    return "corrected" if case.is_corrected else "accepted"


def counts_in_words(preview: TrainingPreview) -> str:
    """Return how many cases of how many patients are used, and for what."""
    used = preview.included
    words = [f"{count_in_words(len(used), 'case', 'cases')} of {_patients(used)}"]
    parts = (
        (preview.count(CasePart.TRAIN), "teach", "teaches"),
        (preview.count(CasePart.VALIDATION), "check", "checks"),
        (preview.count(CasePart.TEST), "kept for the comparison", "kept for the comparison"),
    )
    words.extend(f"{number} {one if number == 1 else many}" for number, many, one in parts if number)
    if preview.excluded:
        words.append(f"{len(preview.excluded)} left out")
    return " · ".join(words)


def _patients(cases: Sequence[TrainingCase]) -> str:
    return count_in_words(len({case.patient for case in cases}), "patient", "patients")


def signed(number: float, digits: int = 3) -> str:
    """Return a number with its sign, a true minus; what rounds to zero has none."""
    text = f"{abs(number):.{digits}f}"
    if float(text) == 0:
        return text
    return f"+{text}" if number > 0 else f"{MINUS}{text}"


def plain(number: float, digits: int = 3) -> str:
    """Return a number with a true minus."""
    return f"{number:.{digits}f}".replace("-", MINUS)


def summary_in_words(candidate: Candidate) -> str:
    """Return the comparison in one sentence."""
    outcome = {
        "waiting": "not promoted",
        "promoted": "promoted",
        "superseded": "replaced by a later one",
    }.get(candidate.state.value, candidate.state.value)
    found = candidate.comparison
    if found is None:
        return f"Candidate {candidate.version} was not compared; {outcome}."
    low, high = found.ci95
    cases = count_in_words(len(found.cases), "case", "cases")
    metric = METRICS.get(found.metric, found.metric)
    return f"Candidate {signed(found.difference)} {metric} (95 % {signed(low)} … {signed(high)}), {cases}; {outcome}."


def means_in_words(candidate: Candidate) -> str:
    """Return both means, and the difference over what readers corrected."""
    found = candidate.comparison
    if found is None:
        return ""
    words = [f"{METRICS.get(found.metric, found.metric)}: {plain(found.current)} → {plain(found.candidate)}"]
    if found.corrected_difference is not None:
        words.append(f"over corrected cases {signed(found.corrected_difference)}")
    return " · ".join(words)


def worst_first(cases: Sequence[CaseComparison]) -> tuple[CaseComparison, ...]:
    """Return the cases with those on which the candidate lost most at the top."""
    return tuple(sorted(cases, key=lambda case: (case.difference, case.candidate, case.case_id)))


def worst_label_in_words(case: CaseComparison) -> str:
    """Return the label on which the candidate lost most, or the class of a picture."""
    if not case.per_label:
        return case.truth
    label = min(case.per_label, key=lambda name: (case.per_label[name][1] - case.per_label[name][0], name))
    current, candidate = case.per_label[label]
    return f"{label} {plain(current)} → {plain(candidate)}"


def entry_in_words(entry: PromotionEntry) -> str:
    """Return what a change of version was."""
    if entry.action == "rollback":
        return f"rolled back {entry.from_version} → {entry.to_version}"
    return f"promoted {entry.from_version} → {entry.to_version}"


def moment_in_words(utc: str) -> str:
    """Return an ISO 8601 moment to the minute."""
    return utc[:16].replace("T", " ")
