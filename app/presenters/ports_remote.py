"""What the window needs to know of model servers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True)
class EngineOffer:
    """A connected server and the model that it was seen to have."""

    name: str
    url: str
    model: str
    ca_file: str = ""
    knows_needs: bool = True


@dataclass(frozen=True)
class EngineWords:
    """How a server is, in a sentence; ``level`` is ``"verified"``, ``"caution"`` or ``"danger"``."""

    name: str
    level: str
    words: str


@dataclass(frozen=True)
class EngineForm:
    """What the reader entered; an empty token keeps the one that is known for this address."""

    name: str
    url: str
    token: str = field(default="", repr=False)
    ca_file: str = ""


class RemoteEngines(Protocol):
    """The services behind the section; every method blocks."""

    def engines(self) -> list[EngineOffer]:
        """Return the connected servers; nothing is asked of them."""

    def connect_engine(self, form: EngineForm) -> EngineOffer:
        """Ask a server for its model and keep it."""

    def check_engine(self, name: str) -> EngineWords:
        """Ask a server how it is, whether it knows the token, and whether it has the listed model."""

    def forget_engine(self, name: str) -> None:
        """Use a server no longer."""

    def unreachable(self, names: Sequence[str]) -> dict[str, str]:
        """Return those servers that can't run anything now, each with a sentence."""
