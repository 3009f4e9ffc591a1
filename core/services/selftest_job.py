"""The job that runs a model on its own reference input."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from core.bundles.bundle import Bundle
from core.domain.audit import AuditCode, AuditOutcome
from core.domain.progress import CancelToken, Progress
from core.jobs.messages import SelfTestTask
from core.services.engine import Engine
from core.services.job_kinds import find_bundle


class SelfTestJob:
    """Test ``model_id`` on ``device``."""

    def __init__(self, engine: Engine, request: dict[str, Any]) -> None:
        self._engine = engine
        self._model_id: str = request["model_id"]
        self._device: str = request.get("device", "auto")
        self._bundle: Bundle | None = None

    @property
    def title(self) -> str:
        """Self-test of the model."""
        return f"Self-test of {self._bundle.manifest.title if self._bundle is not None else self._model_id}"

    def prepare(self, progress: Progress, cancel: CancelToken) -> SelfTestTask:
        """Find the model."""
        self._bundle = find_bundle(self._engine, self._model_id)
        cancel.raise_if_cancelled()
        progress("Testing", 1.0)
        return SelfTestTask(str(self._bundle.path), self._device)

    def attached(self) -> None:
        """Do nothing: no arrays are shared."""

    def finish(self, outcome: dict[str, Any], commit: Callable[[], None]) -> dict[str, Any]:
        """Record the outcome."""
        commit()
        passed = bool(outcome.get("passed"))
        self._engine.record(
            AuditCode.MODEL_SELFTEST,
            object_kind="model",
            object_ref=self._model_id,
            detail={"model_id": self._model_id, "passed": passed, "device": str(outcome.get("device", ""))},
            outcome=AuditOutcome.SUCCESS if passed else AuditOutcome.MINOR_FAILURE,
        )
        return outcome

    def release(self) -> None:
        """Do nothing."""
