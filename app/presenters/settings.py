"""The settings that a reader changes while reading: each takes effect at once and is kept."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from app.presenters.notices import NoticesPresenter
from app.presenters.ports import Preferences, Presenter, ReviewEngine, Tasks
from core.domain.errors import AppError

THEMES = (("dark", "Dark"), ("light", "Light"))


@dataclass(frozen=True)
class SettingsState:
    """What the settings panel shows; ``schemes`` are name and title of each key scheme."""

    chosen: Preferences
    schemes: tuple[tuple[str, str], ...] = ()
    themes: tuple[tuple[str, str], ...] = THEMES


class SettingsPresenter(Presenter[SettingsState]):
    """Applies a change, then keeps it; what can't be kept is taken back.

    Parameters
    ----------
    chosen : Preferences
        What the settings file said at the start.
    schemes : tuple of (str, str)
        Name and title of each key scheme.
    """

    def __init__(
        self,
        engine: ReviewEngine,
        tasks: Tasks,
        notices: NoticesPresenter,
        chosen: Preferences,
        schemes: tuple[tuple[str, str], ...],
    ) -> None:
        super().__init__(SettingsState(chosen, schemes))
        self._engine = engine
        self._tasks = tasks
        self._notices = notices
        self._pending = 0
        self.applied: Callable[[Preferences, Preferences], None] = lambda _before, _after: None

    def load(self) -> None:
        """Take what the engine holds, which has checked the settings file; called when it is open."""

        self._tasks.db(self._engine.preferences, self._apply, self._notices.report)

    def change(self, **changes: Any) -> None:
        """Change some fields of ``Preferences``."""
        before = self.state.chosen
        after = replace(before, **changes)
        if after == before:
            return
        self._apply(after)
        self._pending += 1

        def done(kept: Preferences) -> None:
            self._pending -= 1
            # While a later change is on its way, this answer is older than what the window shows.
            if self._pending == 0:
                self._apply(kept, settled=True)

        def failed(error: AppError) -> None:
            self._pending -= 1
            undone = {name: getattr(before, name) for name in changes}
            self._apply(replace(self.state.chosen, **undone))
            self._notices.report(error)

        self._tasks.db(lambda: self._engine.save_preferences(changes), done, failed)

    def _apply(self, chosen: Preferences, settled: bool = False) -> None:
        before = self.state.chosen
        self._publish(replace(self.state, chosen=chosen))
        if settled or before != chosen:
            self.applied(before, chosen)


def preferences_of(document: Mapping[str, Any]) -> Preferences:
    """Return what a settings file says as far as it can be understood; the engine checks it properly later."""
    overlay = document.get("overlay")
    texts = overlay.get("corner_texts", True) if isinstance(overlay, dict) else True
    return Preferences(
        theme="light" if document.get("theme") == "light" else "dark",
        key_scheme=str(document.get("key_scheme") or Preferences().key_scheme),
        read_first=document.get("ai_hidden_until_asked") is True,
        corner_texts=texts is not False,
        reader_name=str(document.get("reader_name") or ""),
        # What was hidden stays hidden from the first paint on.
        identity_hidden=document.get("identity_hidden") is True,
    )
