"""Domain objects as JSON documents of the index and back; unknown fields are refused by the type."""

from __future__ import annotations

from functools import cache
from typing import Any

from pydantic import TypeAdapter

from core.domain.result import Finding, ModelResult
from core.domain.segmentation import SegmentDefinition


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
