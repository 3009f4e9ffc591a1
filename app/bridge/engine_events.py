"""Engine events of any thread become a Qt signal on the GUI thread."""

from __future__ import annotations

from PySide6.QtCore import QObject, Qt, Signal, Slot

from app.presenters.jobs import JobsPresenter
from core.jobs.messages import Event


class EngineEvents(QObject):
    """The only crossing for events: subscribe ``publish`` to the engine, connect ``arrived`` to the GUI."""

    arrived = Signal(object)

    def publish(self, event: Event) -> None:
        """Take an event on any thread; returns at once."""
        self.arrived.emit(event)


class JobEvents(QObject):
    """Hands events to the jobs presenter on the GUI thread."""

    def __init__(self, events: EngineEvents, presenter: JobsPresenter, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._presenter = presenter
        events.arrived.connect(self._on_event, Qt.ConnectionType.QueuedConnection)

    @Slot(object)
    def _on_event(self, event: Event) -> None:
        self._presenter.on_event(event)
