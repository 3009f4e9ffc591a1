"""Engines on other computers: connect, test, remove. Off until one is connected."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from app.presenters.notices import NoticesPresenter
from app.presenters.ports import Presenter, ReviewEngine, Tasks
from app.presenters.ports_remote import EngineForm, EngineOffer, EngineWords
from core.domain.errors import AppError

SENT = "Sent: voxels, their geometry and grey-scale window. Never sent: name, number, dates or any other identity."


@dataclass(frozen=True)
class RemoteEnginesState:
    """What the section shows. ``level`` colours ``words``; ``busy`` while a server is asked."""

    engines: tuple[EngineOffer, ...] = ()
    words: str = "Off. All models run on this computer."
    level: str = "dim"
    busy: bool = False


class RemoteEnginesPresenter(Presenter[RemoteEnginesState]):
    """Asks servers in the background; ``changed`` is called when the offered models are others."""

    def __init__(self, engine: ReviewEngine, tasks: Tasks, notices: NoticesPresenter) -> None:
        super().__init__(RemoteEnginesState())
        self._engine = engine
        self._tasks = tasks
        self._notices = notices
        self.changed: Callable[[], None] = lambda: None

    def load(self) -> None:
        """Read the servers of the settings."""
        self._tasks.db(self._engine.engines, self._take, self._notices.report)

    def connect(self, form: EngineForm) -> None:
        """Connect the server of a form; what is wrong is told in the section."""
        if self.state.busy:
            return
        if not form.name.strip() or not form.url.strip():
            self._say("caution", "Give the server a name and enter its address.")
            return
        self._publish(replace(self.state, words="Asking the server…", level="dim", busy=True))

        def done(offer: EngineOffer) -> None:
            others = tuple(one for one in self.state.engines if one.name != offer.name)
            engines = tuple(sorted((*others, offer), key=lambda one: one.name.casefold()))
            words = f"Connected. {offer.model} now stands among the models, marked “on {offer.name}”."
            if not offer.knows_needs:
                words += (
                    " The server doesn't say which series it was made for: read its card before you use it."
                )
            level = "verified" if offer.knows_needs else "caution"
            self._publish(RemoteEnginesState(engines, words, level))
            self.changed()

        self._tasks.io(lambda: self._engine.connect_engine(form), done, self._failed)

    def test(self, name: str) -> None:
        """Ask a connected server how it is."""
        if self.state.busy or not name:
            return
        self._publish(replace(self.state, words=f"Asking {name}…", level="dim", busy=True))

        def done(found: EngineWords) -> None:
            self._say(found.level, found.words)

        self._tasks.io(lambda: self._engine.check_engine(name), done, self._failed)

    def remove(self, name: str) -> None:
        """Use a server no longer; results that it made stay."""
        if self.state.busy or not name:
            return

        def done(_: None) -> None:
            left = tuple(one for one in self.state.engines if one.name != name)
            words = f"{name} was removed and its token forgotten. Results that it made stay."
            self._publish(RemoteEnginesState(left, words))
            self.changed()

        self._tasks.db(lambda: self._engine.forget_engine(name), done, self._failed)

    def _take(self, engines: list[EngineOffer]) -> None:
        number = len(engines)
        on = "On. " + ("One server is" if number == 1 else f"{number} servers are") + " connected."
        words = on if engines else RemoteEnginesState().words
        self._publish(RemoteEnginesState(tuple(engines), words))

    def _failed(self, error: AppError) -> None:
        self._say("danger", f"{error.user_message} {error.remedy}".strip())

    def _say(self, level: str, words: str) -> None:
        self._publish(replace(self.state, words=words, level=level, busy=False))
