"""Runs the real window and tells on standard output what it shows, as JSON lines; the hands are somebody else's.

Run: ``python tests/fakes/gui_driver.py HOME FILE…``. The last line lists the modules that were loaded.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from PySide6.QtCore import qInstallMessageHandler
from PySide6.QtWidgets import QApplication

from app.bootstrap import Application, Start
from app.presenters.worklist_rows import STUDY


def tell(event: str, **more: Any) -> None:
    """Print a line."""
    print(json.dumps({"event": event, **more}), flush=True)


class Reporter:
    """Compares what the window shows with what was told last."""

    def __init__(self, application: Application) -> None:
        self._application = application
        self._told: dict[str, Any] = {}

    def look(self, *_: object) -> None:
        """Tell what is new."""
        app = self._application
        findings = [(row.label, row.verdict) for row in app.findings.state.rows]
        self._once("volume", app.reading.volume is not None)
        self._once("models", [row.id for row in app.models.state.rows])
        self._once("can_run", app.models.state.can_run)
        self._once("findings", findings)
        self._once("jobs", [job.state for job in app.jobs.state.jobs])
        running = app.jobs.state.running
        self._once("progress", round(running.fraction, 1) if running else 0.0)
        self._once("notices", [notice.what for notice in app.notices.state.notices])
        self._once("heat", app.explanation.state.shown)
        self._once("audit", app.audit.state.check.ok if app.audit.state.check else None)
        self._once("imports", [run.state for run in app.imports.state.runs])
        self._once("open", app.session.summary.description if app.session.summary else "")
        lines = [app.worklist.line(row.uid) for row in app.worklist.state.rows if row.kind == STUDY]
        self._once("studies", sorted(line.description for line in lines if line is not None))
        self._once("priors", len(app.worklist.state.priors))
        self._once("elements", app.tags.state.total)
        self._once("found", [line.keyword for line in app.tags.state.found or ()])
        board = getattr(app.engine, "_board", None)
        self._once("worker", board.worker_pid if board is not None else None)

    def _once(self, name: str, value: Any) -> None:
        if self._told.get(name) != value:
            self._told[name] = value
            tell(name, value=value)


def main() -> int:
    """Run until the window is closed."""
    from PySide6.QtCore import QTimer

    qInstallMessageHandler(lambda _kind, _context, text: tell("qt", text=text))
    qt = QApplication(["overread"])
    application = Application(qt, Start(Path(sys.argv[1]), files=tuple(Path(p) for p in sys.argv[2:])))
    reporter = Reporter(application)
    timer = QTimer()
    timer.timeout.connect(reporter.look)
    timer.start(20)
    window = application.window
    window.first_painted.connect(
        lambda: tell(
            "painted",
            window=int(window.winId()),
            modules=sorted(sys.modules),
            x=window.x(),
            y=window.y(),
            width=window.width(),
            height=window.height(),
        )
    )
    application.show()
    status = qt.exec()
    application.close()
    tell("end", modules=sorted(sys.modules))
    return status


if __name__ == "__main__":
    sys.exit(main())
