"""Domain objects as JSON documents of the index and back; unknown fields are refused by the type."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

from pydantic import TypeAdapter

from core.domain.result import Finding, ModelResult
from core.domain.segmentation import SegmentDefinition
from core.domain.training import Candidate, CandidateState, LabelSource, TrainingRun


@cache
def _adapter(kind: Any) -> TypeAdapter:
    return TypeAdapter(kind)


def result_to_json(result: ModelResult) -> str:
    """Return a result as JSON."""
    return _adapter(ModelResult).dump_json(result).decode("utf-8")


def result_from_json(text: str) -> ModelResult:
    """Return the result of a JSON text; raises ValueError when it isn't one."""
    found: ModelResult = _adapter(ModelResult).validate_json(text)
    return found


def finding_to_json(finding: Finding) -> str:
    """Return a finding as JSON."""
    return _adapter(Finding).dump_json(finding).decode("utf-8")


def finding_from_json(text: str) -> Finding:
    """Return the finding of a JSON text."""
    found: Finding = _adapter(Finding).validate_json(text)
    return found


def definitions_to_json(definitions: tuple[SegmentDefinition, ...]) -> str:
    """Return segment definitions as JSON."""
    return _adapter(tuple[SegmentDefinition, ...]).dump_json(definitions).decode("utf-8")


def definitions_from_json(text: str) -> tuple[SegmentDefinition, ...]:
    """Return the segment definitions of a JSON text."""
    found: tuple[SegmentDefinition, ...] = _adapter(tuple[SegmentDefinition, ...]).validate_json(text)
    return found


def training_run_to_json(run: TrainingRun) -> str:
    """Return a training as JSON."""
    return _adapter(TrainingRun).dump_json(run).decode("utf-8")


def training_run_from_json(text: str) -> TrainingRun:
    """Return the training of a JSON text."""
    found: TrainingRun = _adapter(TrainingRun).validate_json(text)
    return found


def candidate_to_json(candidate: Candidate) -> str:
    """Return a candidate as JSON, without the series and studies of its cases: these leave with their study."""
    comparison = candidate.comparison
    if comparison is not None:
        cases = tuple(replace(case, series_key="", study_uid="") for case in comparison.cases)
        candidate = replace(candidate, comparison=replace(comparison, cases=cases))
    return _adapter(Candidate).dump_json(candidate).decode("utf-8")


def candidate_from_json(text: str, state: str) -> Candidate:
    """Return the candidate of a JSON text with its present state."""
    found: Candidate = _adapter(Candidate).validate_json(text)
    return replace(found, state=CandidateState(state))


def labels_to_json(labels: tuple[LabelSource, ...]) -> str:
    """Return where a case's labels come from as JSON."""
    return _adapter(tuple[LabelSource, ...]).dump_json(labels).decode("utf-8")


def labels_from_json(text: str) -> tuple[LabelSource, ...]:
    """Return where a case's labels come from."""
    found: tuple[LabelSource, ...] = _adapter(tuple[LabelSource, ...]).validate_json(text)
    return found
