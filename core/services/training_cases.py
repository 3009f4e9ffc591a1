"""Which series can teach a model: those whose findings a reader accepted or corrected, and what keeps the others out.

A reader's own label is never mixed up with the model's: every label carries its verdict, reader and time, and whether
the model drew it (accepted) or the reader (edited).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from core.bundles.bundle import Bundle
from core.bundles.manifest import Manifest
from core.domain.result import Decision, Finding, ModelResult, Verdict
from core.domain.study import SeriesSummary
from core.domain.training import CasePart, LabelOrigin, LabelSource, TrainingCase, TrainingPreview
from core.services.engine import Engine
from core.services.frozen_split import LEAST_PATIENTS, assign_sides, validation_patients
from core.services.list_models import catalogue
from core.services.training_pack import missing_training_pack


@dataclass(frozen=True)
class TrainableModel:
    """A model of the catalogue; ``why`` says what keeps it from being trained further, empty when nothing does."""

    id: str
    title: str
    version: str
    task: str
    why: str = ""


@dataclass(frozen=True)
class _Out:
    """Why a series can't be used."""

    code: str
    reason: str


def trainable_models(engine: Engine) -> tuple[TrainableModel, ...]:
    """Return the models of the catalogue, those that can be trained first."""
    rows = [
        TrainableModel(bundle.id, bundle.manifest.title, bundle.manifest.version, bundle.manifest.task, why)
        for bundle in catalogue(engine).list()
        for _, why in (why_not_trainable(bundle),)
    ]
    return tuple(sorted(rows, key=lambda row: bool(row.why)))


def why_not_trainable(bundle: Bundle) -> tuple[str, str]:
    """Return code and reason why a model can't be trained further; two empty texts when it can."""
    if bundle.manifest.network is None:
        return (
            "training.onnx_only",
            f"{bundle.manifest.title} comes as ONNX only, which can't be trained further.",
        )
    if bundle.manifest.task == "multitask":
        return (
            "training.multitask",
            f"{bundle.manifest.title} answers several questions at once; that can't be trained here.",
        )
    if bundle.manifest.inputs or bundle.manifest.text is not None:
        return (
            "training.several_inputs",
            f"{bundle.manifest.title} takes more than one series; that can't be trained from verdicts here.",
        )
    return "", ""


def preview_cases(
    engine: Engine, model_id: str, excluded: Collection[str] = (), *, seed: int = 0
) -> TrainingPreview:
    """Return every series with a result of a model, which of them would train, and why the others don't.

    Parameters
    ----------
    excluded : collection of str
        Case ids that the user leaves out.
    seed : int
        Chooses which of the training patients are watched (validation); the frozen test set doesn't depend on it.

    Raises
    ------
    InputError
        If there is no such model (``model.unknown``).
    """
    bundle = catalogue(engine).get(model_id)
    cases = _parted(engine, model_id, _cases(engine, bundle, frozenset(excluded)), seed)
    code, refusal, remedy = _refusal(bundle, cases)
    manifest = bundle.manifest
    return TrainingPreview(
        model_id, manifest.title, manifest.version, manifest.task, cases, code, refusal, remedy
    )


def standing(decisions: Sequence[Decision]) -> dict[str, Decision]:
    """Return the last verdict on each finding; ``decisions`` come oldest first."""
    return {decision.finding_id: decision for decision in decisions}


def case_id_of(engine: Engine, model_id: str, series_key: str) -> str:
    """Return the name of a series as a case of a model: a keyed hash."""
    return f"c-{engine.vault.reference(f'case/{model_id}/{series_key}')[:16]}"


def _cases(engine: Engine, bundle: Bundle, left_out: frozenset[str]) -> list[TrainingCase]:
    with engine.unit_of_work(writes=False) as uow:
        results = uow.results.of_model(bundle.id)
        decisions = uow.decisions.of_results([result.result_id for result in results])
        studies = {s.study_uid: s for s in uow.studies.summaries(sorted({r.study_uid for r in results}))}
    by_series: dict[str, list[ModelResult]] = {}
    for result in results:
        by_series.setdefault(result.series_uid, []).append(result)
    found = []
    for series_key, runs in by_series.items():
        result = next((run for run in runs if decisions.get(run.result_id)), runs[0])
        study = studies[result.study_uid]
        series = next((s for s in study.series if series_key in (s.key, s.series_uid)), None)
        verdicts = standing(decisions.get(result.result_id, ()))
        case = TrainingCase(
            case_id_of(engine, bundle.id, series_key),
            series_key,
            result.study_uid,
            study.pseudonym,
            result.result_id,
            result.model.version,
            series.description if series is not None else "",
        )
        found.append(_judged(case, bundle.manifest, result, verdicts, series, left_out))
    return sorted(found, key=lambda case: (not case.usable, case.patient, case.case_id))


def _judged(
    case: TrainingCase,
    manifest: Manifest,
    result: ModelResult,
    verdicts: Mapping[str, Decision],
    series: SeriesSummary | None,
    left_out: frozenset[str],
) -> TrainingCase:
    labels: tuple[LabelSource, ...] | _Out
    if series is None:
        labels = _Out("series_gone", "The series is no longer in the library.")
    elif manifest.task == "classification":
        labels = _class_label(manifest, result, verdicts)
    else:
        labels = _segment_labels(manifest, result, verdicts)
    if isinstance(labels, _Out):
        return replace(case, usable=False, included=False, code=labels.code, reason=labels.reason)
    origin = (
        LabelOrigin.READER if any(lb.origin is LabelOrigin.READER for lb in labels) else LabelOrigin.MODEL
    )
    case = replace(case, labels=labels, origin=origin)
    if case.case_id in left_out:
        return replace(case, included=False, code="left_out", reason="You left it out.")
    return case


def _segment_labels(
    manifest: Manifest, result: ModelResult, verdicts: Mapping[str, Decision]
) -> tuple[LabelSource, ...] | _Out:
    """Every finding must be accepted or corrected: a label map with one wrong structure teaches that error."""
    findings = [finding for finding in result.findings if finding.segment_value is not None]
    if not findings:
        return _Out("no_findings", "The model found nothing here that a reader could accept or correct.")
    if out := _open_questions(findings, verdicts):
        return out
    bare = [f for f in findings if verdicts[f.id].verdict is Verdict.EDIT and not verdicts[f.id].mask_file]
    if bare:
        return _Out(
            "no_mask", f"{_named(bare)} {_was(bare)} marked as corrected, but no corrected mask was kept."
        )
    known = {label.value: label.name for label in manifest.labels}
    strange = [f for f in findings if f.segment_value not in known]
    if strange:
        return _Out("other_labels", f"The present version of the model doesn't know {_named(strange)}.")
    return tuple(
        _source(int(finding.segment_value or 0), finding.label, verdicts[finding.id]) for finding in findings
    )


def _class_label(
    manifest: Manifest, result: ModelResult, verdicts: Mapping[str, Decision]
) -> tuple[LabelSource, ...] | _Out:
    """Exactly one class must hold: one accepted, or one that the reader named when correcting."""
    findings = list(result.findings)
    if not findings or not verdicts:
        return _Out("undecided", "Nobody has decided on the answer yet.")
    index = {label.name.casefold(): label for label in manifest.labels}
    chosen: list[tuple[str, Decision]] = []
    for finding in findings:
        decision = verdicts.get(finding.id)
        if decision is None or decision.verdict is Verdict.REJECT:
            continue
        if decision.verdict is Verdict.UNSURE:
            return _Out("unsure", f"The reader was unsure about “{finding.label}”.")
        if decision.verdict is Verdict.ACCEPT:
            chosen.append((finding.label, decision))
        elif decision.reason.strip().casefold() in index:
            chosen.append((index[decision.reason.strip().casefold()].name, decision))
        else:
            return _Out(
                "no_class", "The correction doesn't say which class is right (its reason must name one)."
            )
    names = {name for name, _ in chosen}
    if not names:
        return _Out("rejected", "The reader rejected the answer, and no class was accepted.")
    if len(names) > 1:
        return _Out("ambiguous", f"More than one class was accepted: {', '.join(sorted(names))}.")
    name, decision = chosen[-1]
    label = index.get(name.casefold())
    if label is None:
        return _Out("other_labels", f"The present version of the model doesn't know “{name}”.")
    return (_source(label.value, label.name, decision),)


def _open_questions(findings: Sequence[Finding], verdicts: Mapping[str, Decision]) -> _Out | None:
    undecided = [f for f in findings if f.id not in verdicts]
    if len(undecided) == len(findings):
        return _Out("undecided", "Nobody has decided on its findings yet.")

    def of(verdict: Verdict) -> list[Finding]:
        return [f for f in findings if f.id in verdicts and verdicts[f.id].verdict is verdict]

    if rejected := of(Verdict.REJECT):
        return _Out(
            "rejected", f"{_named(rejected)} {_was(rejected)} rejected: correct it to give the right label."
        )
    if unsure := of(Verdict.UNSURE):
        return _Out("unsure", f"The reader was unsure about {_named(unsure)}.")
    if undecided:
        return _Out(
            "undecided", f"{len(undecided)} of {len(findings)} findings not decided yet: {_named(undecided)}."
        )
    return None


def _named(findings: Sequence[Finding]) -> str:
    names = [f"“{finding.label}”" for finding in findings[:3]]
    more = len(findings) - len(names)
    return ", ".join(names) + (f" and {more} more" if more else "")


def _was(findings: Sequence[Finding]) -> str:
    return "was" if len(findings) == 1 else "were"


def _source(value: int, label: str, decision: Decision) -> LabelSource:
    corrected = decision.verdict is Verdict.EDIT
    return LabelSource(
        value,
        label,
        LabelOrigin.READER if corrected else LabelOrigin.MODEL,
        decision.decision_id,
        str(decision.verdict),
        decision.reader,
        decision.decided_utc,
    )


def _parted(
    engine: Engine, model_id: str, cases: Sequence[TrainingCase], seed: int
) -> tuple[TrainingCase, ...]:
    """Give every included case its part; patients that are new get the side that a start would give them."""
    with engine.unit_of_work(writes=False) as uow:
        frozen = uow.frozen.of_model(model_id)
    patients = {case.patient for case in cases if case.included}
    order = split_order(engine, model_id)
    sides = assign_sides(frozen, patients, order)
    watched = validation_patients(
        [p for p in patients if sides[p] == "train"], split_order(engine, f"{model_id}/{seed}")
    )

    def part(patient: str) -> CasePart:
        if sides[patient] == "test":
            return CasePart.TEST
        return CasePart.VALIDATION if patient in watched else CasePart.TRAIN

    return tuple(replace(case, part=part(case.patient)) if case.included else case for case in cases)


def split_order(engine: Engine, purpose: str) -> Callable[[str], str]:
    """Return what sorts patients for a purpose: a keyed hash, so that nobody chooses who is tested."""
    return lambda patient: engine.vault.reference(f"split/{purpose}/{patient}")


def _refusal(bundle: Bundle, cases: Sequence[TrainingCase]) -> tuple[str, str, str]:
    if missing_training_pack():
        return (
            "training.not_installed",
            "This installation reads studies and runs models; it can't train them.",
            "Install Overread with its training pack (overread[train]), or ask who administers this computer.",
        )
    code, why = why_not_trainable(bundle)
    if code:
        return code, why, "Choose another model."
    patients = {case.patient for case in cases if case.included}
    parts = {case.part for case in cases if case.included}
    if len(patients) < LEAST_PATIENTS:
        have = f"{len(patients)} patient{'s have' if len(patients) != 1 else ' has'}"
        return (
            "training.too_few",
            f"{have} accepted or corrected findings; at least {LEAST_PATIENTS} are needed: one to learn from, "
            "one to watch, one kept out for the comparison.",
            "Decide on the findings of more patients first.",
        )
    if parts != set(CasePart):
        return (
            "training.too_few",
            "All patients that are left belong to the frozen test set, or none does.",
            "Decide on the findings of more patients first, or leave out fewer.",
        )
    return "", "", ""
