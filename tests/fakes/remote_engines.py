"""Model servers of the engine in memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from app.presenters.ports_remote import EngineForm, EngineOffer, EngineWords

READING_ROOM = EngineOffer("reading-room", "https://reading-room.example:8000", "Thorax organs 1.0.0")


class FakeRemoteEngines:
    """Answers from attributes that a test may change."""

    _note: Callable[..., None]

    def prepare_servers(self) -> None:
        """Begin without servers."""
        self.servers: list[EngineOffer] = []
        self.troubles: dict[str, str] = {}
        self.server_words = EngineWords("reading-room", "verified", "Ready: Thorax organs 1.0.0 on its cuda.")
        self.forms: list[EngineForm] = []

    def engines(self) -> list[EngineOffer]:
        """Return the connected servers."""
        return list(self.servers)

    def connect_engine(self, form: EngineForm) -> EngineOffer:
        """Connect."""
        self._note("connect_engine", form.name)
        self.forms.append(form)
        offer = EngineOffer(form.name, form.url, "Thorax organs 1.0.0", form.ca_file)
        self.servers = [*(one for one in self.servers if one.name != form.name), offer]
        return offer

    def check_engine(self, name: str) -> EngineWords:
        """Say how a server is."""
        self._note("check_engine", name)
        return self.server_words

    def forget_engine(self, name: str) -> None:
        """Forget a server."""
        self._note("forget_engine", name)
        self.servers = [one for one in self.servers if one.name != name]

    def unreachable(self, names: Sequence[str]) -> dict[str, str]:
        """Return those in trouble."""
        self._note("unreachable", tuple(names))
        return {name: words for name, words in self.troubles.items() if name in names}
