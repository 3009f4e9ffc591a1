"""Actions on time and on what others put over the pictures."""

from __future__ import annotations

from collections.abc import Callable

from app.actions.action import Action, ActionRegistry
from app.presenters.derived import DerivedPresenter
from app.presenters.playback import TIME, PlaybackPresenter
from app.presenters.reading import ReadingPresenter

TIMES, OBJECTS, WINDOWS = "Time", "From the archive", "Grey scale"


def add_time_actions(registry: ActionRegistry, playback: PlaybackPresenter) -> None:
    """Add time points and cine."""

    def has_time() -> bool:
        return playback.state.kind == TIME

    def can_play() -> bool:
        return playback.state.count > 1

    def add(action_id: str, title: str, run: Callable[[], None], icon: str, when: Callable[[], bool]) -> None:
        registry.add(Action(action_id, title, TIMES, run, icon, when))

    add("time.next", "Next time point", lambda: playback.step_time(1), "next", has_time)
    add("time.previous", "Previous time point", lambda: playback.step_time(-1), "previous", has_time)
    add("cine.play", "Play or pause", playback.toggle, "play", can_play)
    add("cine.faster", "Play faster", lambda: playback.faster(1), "faster", can_play)
    add("cine.slower", "Play slower", lambda: playback.faster(-1), "slower", can_play)


def add_object_actions(
    registry: ActionRegistry, derived: DerivedPresenter, reading: ReadingPresenter
) -> None:
    """Add what is done with objects of an archive and with the windows that files bring."""

    def listed() -> bool:
        return bool(derived.state.rows)

    def reads() -> bool:
        return derived.state.pane is not None

    def has_windows() -> bool:
        return bool(reading.file_windows())

    def add(action_id: str, title: str, run: Callable[[], None], icon: str, when: Callable[[], bool]) -> None:
        registry.add(Action(action_id, title, OBJECTS, run, icon, when))

    add("derived.hide", "Show or hide everything from the archive", derived.hide_all, "eye", listed)
    add("object.next", "Next place of the report", lambda: derived.step(1), "next", reads)
    add("object.previous", "Previous place of the report", lambda: derived.step(-1), "previous", reads)
    add("object.close", "Close the report or document", derived.close_pane, "close", reads)
    title = "Next grey scale of the file"
    registry.add(Action("window.file", title, WINDOWS, reading.next_file_window, "window-level", has_windows))
