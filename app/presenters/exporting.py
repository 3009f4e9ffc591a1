"""Sending a result to a folder: DICOM SEG, SR, Parametric Map, NIfTI, PDF, each read back before it counts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from app.presenters.notices import NoticesPresenter
from app.presenters.ports import ExportedRow, Presenter, ReviewEngine, Tasks
from app.presenters.status import StatusPresenter
from core.domain.errors import AppError
from core.domain.result import ModelResult

KINDS = {"seg": "SEG", "sr": "SR", "pm": "Parametric map", "nifti": "NIfTI", "pdf": "PDF"}
_TITLES = {**KINDS, "encapsulated-pdf": "PDF in DICOM"}


@dataclass(frozen=True)
class ExportState:
    """What the export line shows."""

    available: frozenset[str] = frozenset()
    chosen: frozenset[str] = frozenset()
    running: bool = False
    words: str = ""
    folder: str = ""

    @property
    def can_export(self) -> bool:
        """Whether pressing Export does something."""
        return bool(self.chosen & self.available) and not self.running


class ExportPresenter(Presenter[ExportState]):
    """Exports the result on screen."""

    def __init__(
        self, engine: ReviewEngine, tasks: Tasks, notices: NoticesPresenter, status: StatusPresenter
    ) -> None:
        super().__init__(ExportState(chosen=frozenset({"seg", "sr"})))
        self._engine = engine
        self._tasks = tasks
        self._notices = notices
        self._status = status
        self._result: ModelResult | None = None
        self._has_map = False

    def set_result(self, result: ModelResult | None) -> None:
        """Take the result on screen."""
        self._result = result
        self._has_map = False
        self._publish(replace(self.state, available=self._available(), words=""))

    def set_has_map(self, has_map: bool) -> None:
        """Say whether there is a heat map to export."""
        self._has_map = has_map
        self._publish(replace(self.state, available=self._available()))

    def _available(self) -> frozenset[str]:
        if self._result is None:
            return frozenset()
        kinds = {"sr", "pdf"}
        if self._result.label_map_file is not None or self._result.segments:
            kinds |= {"seg", "nifti"}
        return frozenset(kinds | ({"pm"} if self._has_map else set()))

    def toggle(self, kind: str) -> None:
        """Choose or drop a kind."""
        self._publish(replace(self.state, chosen=self.state.chosen ^ {kind}))

    def export(self, out: Path) -> None:
        """Write the chosen kinds to a folder."""
        if self._result is None or not self.state.can_export:
            return
        kinds = [kind for kind in KINDS if kind in self.state.chosen & self.state.available]
        result_id = self._result.result_id
        self._publish(replace(self.state, running=True, words="", folder=str(out)))
        self._status.set_task("export", f"Exporting {', '.join(KINDS[kind] for kind in kinds)}", 0.0)

        def done(rows: list[ExportedRow]) -> None:
            self._end(exported_in_words(rows))

        def failed(error: AppError) -> None:
            self._end("")
            self._notices.report(error)

        self._tasks.io(lambda: self._engine.export(result_id, kinds, out), done, failed)

    def _end(self, words: str) -> None:
        self._status.end_task("export")
        self._publish(replace(self.state, running=False, words=words))


def exported_in_words(rows: Sequence[ExportedRow]) -> str:
    """Return what was written, with a tick for each file that was read back and compared."""
    counted: dict[str, list[bool]] = {}
    for row in rows:
        counted.setdefault(row.kind, []).append(row.verified)
    parts = []
    for kind, verified in counted.items():
        number = f" × {len(verified)}" if len(verified) > 1 else ""
        parts.append(f"{_TITLES.get(kind, kind)}{number} {'✓' if all(verified) else '(not verified)'}")
    return " · ".join(parts)
