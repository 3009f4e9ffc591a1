"""From what services answer to the rows that presenters know, so that a change there ends here."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Protocol

from app.presenters.ports import AuditRow, JobRow, ModelOffer, Preferences
from core.jobs.server_address import server_of

_EVENTS = {
    "110120": "Program started",
    "110121": "Program ended",
    "110101": "Audit trail read",
    "110103": "Pictures opened",
    "110105": "Study deleted",
    "110106": "Exported",
    "110107": "Imported",
    "110112": "Searched",
    "110113": "Security alert",
    "110129": "Security settings changed",
    "110131": "Program configured",
    "model-run": "Model run",
    "model-explanation": "Heat map made",
    "model-selftest": "Model self-test",
    "model-added": "Model added",
    "model-removed": "Model removed",
    "decision": "Verdict",
    "study-status": "Reading status changed",
    "job-failed": "Job failed",
    "read-first": "Read first",
}
SETTING_OF = {"read_first": "ai_hidden_until_asked"}
"""Preferences that the settings know under another name."""

_OUTCOMES = {0: "done", 4: "refused", 8: "failed", 12: "failed badly"}


class _Record(Protocol):
    """What is read of an audit record."""

    @property
    def seq(self) -> int: ...
    @property
    def ts_utc(self) -> str: ...
    @property
    def user_id(self) -> str: ...
    @property
    def event_code(self) -> str: ...
    @property
    def outcome(self) -> int: ...
    @property
    def detail_json(self) -> str: ...
    @property
    def reason(self) -> str: ...


class _View(Protocol):
    """What is read of a job's view."""

    @property
    def job_id(self) -> str: ...
    @property
    def kind(self) -> str: ...
    @property
    def title(self) -> str: ...
    @property
    def state(self) -> str: ...
    @property
    def phase(self) -> str: ...
    @property
    def fraction(self) -> float: ...
    @property
    def eta_seconds(self) -> float | None: ...
    @property
    def error(self) -> str: ...
    @property
    def result_id(self) -> str | None: ...


def audit_row(record: _Record) -> AuditRow:
    """Return an audit record in the reader's words."""
    return AuditRow(
        record.seq,
        record.ts_utc,
        _EVENTS.get(record.event_code, record.event_code),
        _OUTCOMES.get(record.outcome, str(record.outcome)),
        record.user_id,
        " · ".join(part for part in (detail_in_words(record.detail_json), record.reason) if part),
    )


def detail_in_words(detail_json: str) -> str:
    """Return an audit record's detail as ``name value`` pairs; long hashes are shortened."""
    detail: dict[str, Any] = json.loads(detail_json) if detail_json else {}
    return ", ".join(f"{name.replace('_', ' ')} {_short(value)}" for name, value in detail.items())


def _short(value: object) -> str:
    text = str(value)
    return f"{text[:12]}…" if len(text) >= 32 and text.isalnum() else text


def job_row(view: _View, series_of_job: Mapping[str, tuple[str, str]]) -> JobRow:
    """Return a job's view as a row; ``series_of_job`` maps a job to its series and model."""
    series_key, model_id = series_of_job.get(view.job_id, ("", ""))
    return JobRow(
        view.job_id,
        view.kind,
        view.title,
        str(view.state),
        view.phase,
        view.fraction,
        view.eta_seconds,
        view.error,
        view.result_id or "",
        series_key,
        model_id,
    )


def model_offer(entry: Any) -> ModelOffer:
    """Return an entry of the catalogue as an offer."""
    return ModelOffer(
        entry.id,
        entry.title,
        entry.version,
        entry.task,
        bool(entry.fits),
        entry.why or "",
        entry.verified,
        tuple(entry.labels),
        getattr(entry, "estimate_s", None),
        entry.licence,
        tuple(getattr(entry, "explain_methods", ())),
        getattr(entry, "explain_why", ""),
        tuple(getattr(entry, "inputs", ())),
        tuple(getattr(entry, "missing_inputs", ())),
        server_of(entry.id),
    )


def preferences_row(settings: Any) -> Preferences:
    """Return the settings as the panel shows them."""
    return Preferences(
        settings.theme,
        settings.key_scheme,
        settings.ai_hidden_until_asked,
        settings.overlay.corner_texts,
        settings.reader_name,
        settings.worklist_columns,
        settings.worklist_sort,
        settings.identity_hidden,
    )
