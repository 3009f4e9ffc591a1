"""The gateway's part for model servers; on worker threads. The network library loads with the first question."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING

from app.presenters.ports_remote import EngineForm, EngineOffer, EngineWords

if TYPE_CHECKING:
    from core.services.engine import Engine
    from core.services.remote_engine import EngineRow

_LEVELS = {"healthy": "verified", "loading": "caution", "other-model": "danger", "unreachable": "danger"}


class RemoteGateway(ABC):
    """Calls ``core.services.remote_engine``; ``engine`` comes from the class that inherits this one."""

    @property
    @abstractmethod
    def engine(self) -> Engine:
        """The opened engine."""

    def engines(self) -> list[EngineOffer]:
        """Return the connected servers."""
        if not self.engine.settings.remote_engines:
            return []
        from core.services import remote_engine

        return [_offer(row) for row in remote_engine.list_engines(self.engine)]

    def connect_engine(self, form: EngineForm) -> EngineOffer:
        """Ask a server for its model and keep it."""
        from core.services import remote_engine

        return _offer(
            remote_engine.connect_engine(self.engine, form.name, form.url, form.token, ca_file=form.ca_file)
        )

    def check_engine(self, name: str) -> EngineWords:
        """Ask a server how it is."""
        from core.services import remote_engine

        state = remote_engine.check_engine(self.engine, name)
        return EngineWords(name, _LEVELS[state.state], state.words)

    def forget_engine(self, name: str) -> None:
        """Use a server no longer."""
        from core.services import remote_engine

        remote_engine.forget_engine(self.engine, name)

    def unreachable(self, names: Sequence[str]) -> dict[str, str]:
        """Return the servers that can't run anything now."""
        from core.services import remote_engine

        states = (remote_engine.health_of(self.engine, name) for name in names)
        return {state.name: state.words for state in states if not state.ready}


def _offer(row: EngineRow) -> EngineOffer:
    model = f"{row.model_title or row.model_id} {row.model_version}"
    return EngineOffer(row.name, row.url, model, row.ca_file, row.knows_needs)
