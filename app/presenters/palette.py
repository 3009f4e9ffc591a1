"""The command palette: every action by a few letters of its name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from app.presenters.ports import Presenter
from core.domain.person_name import folded

SHOWN = 12


@dataclass(frozen=True)
class Command:
    """An action as the palette lists it."""

    id: str
    title: str
    group: str
    keys: str
    enabled: bool


@dataclass(frozen=True)
class PaletteState:
    """What the palette shows."""

    open: bool = False
    query: str = ""
    commands: tuple[Command, ...] = ()
    selected: int = 0


class PalettePresenter(Presenter[PaletteState]):
    """Ranks the actions by the query and runs the chosen one."""

    def __init__(self, commands: Callable[[], Sequence[Command]], run: Callable[[str], None]) -> None:
        super().__init__(PaletteState())
        self._commands = commands
        self._run = run

    def open(self) -> None:
        """Show all actions."""
        self._publish(PaletteState(True, "", self._found(""), 0))

    def close(self) -> None:
        """Hide the palette."""
        self._publish(PaletteState())

    def search(self, query: str) -> None:
        """Show the actions that match."""
        self._publish(PaletteState(True, query, self._found(query), 0))

    def move(self, by: int) -> None:
        """Move the selection."""
        if self.state.commands:
            self._publish(replace(self.state, selected=(self.state.selected + by) % len(self.state.commands)))

    def select(self, index: int) -> None:
        """Move the selection to a line."""
        if 0 <= index < len(self.state.commands):
            self._publish(replace(self.state, selected=index))

    def run(self) -> None:
        """Run the selected action; the palette closes first, so that focus is back where it was."""
        if not self.state.commands:
            return
        command = self.state.commands[self.state.selected]
        if command.enabled:
            self.close()
            self._run(command.id)

    def _found(self, query: str) -> tuple[Command, ...]:
        ranked = [(rank(query, command), command) for command in self._commands()]
        kept = sorted((pair for pair in ranked if pair[0] is not None), key=lambda pair: pair[0] or 0)
        return tuple(command for _, command in kept)[:SHOWN] if query else tuple(c for _, c in kept)


def rank(query: str, command: Command) -> int | None:
    """Return how well a command matches (0 is best), or None when it doesn't.

    A title that starts with the query goes first, then one with a word that does, then words anywhere in
    title or group, then the letters in order.
    """
    wanted, title = folded(query).strip(), folded(command.title)
    if not wanted:
        return 0
    if title.startswith(wanted):
        return 0
    if any(word.startswith(wanted) for word in title.split()):
        return 1
    everything = f"{title} {folded(command.group)}"
    if all(word in everything for word in wanted.split()):
        return 2
    letters = iter(title)
    return 3 if all(letter in letters for letter in wanted.replace(" ", "")) else None
