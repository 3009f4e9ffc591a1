"""Actions as data: what can be done, under which name, when; free of Qt."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from app.presenters.palette import Command


def _always() -> bool:
    return True


@dataclass(frozen=True)
class Action:
    """Something the reader can do.

    Attributes
    ----------
    id : str
        Stable, dotted (``"finding.accept"``); key schemes refer to it.
    title : str
        A short imperative as the palette, menus and tool tips show it.
    group : str
        Heading in the cheat sheet.
    run : callable
        Does it; on the GUI thread.
    icon : str
        Name in ``resources/icons`` or empty.
    enabled_when : callable
        Whether it makes sense now.
    scope : str
        ``"window"``: the key works everywhere but in text fields that take it; ``"reading"``: only while the
        pictures have the focus, because lists use the same key.
    """

    id: str
    title: str
    group: str
    run: Callable[[], None] = field(compare=False)
    icon: str = ""
    enabled_when: Callable[[], bool] = field(default=_always, compare=False)
    scope: str = "window"


class ActionRegistry:
    """All actions of the window and the keys that the scheme gives them."""

    def __init__(self) -> None:
        self._actions: dict[str, Action] = {}
        self._keys: dict[str, tuple[str, ...]] = {}

    def add(self, action: Action) -> None:
        """Add an action; raises ValueError when its id is taken."""
        if action.id in self._actions:
            raise ValueError(f"action {action.id} exists")
        self._actions[action.id] = action

    def bind(self, keys: dict[str, tuple[str, ...]]) -> None:
        """Take a key scheme; keys of actions that don't exist are ignored."""
        self._keys = {action_id: found for action_id, found in keys.items() if action_id in self._actions}

    def __iter__(self) -> Iterator[Action]:
        return iter(self._actions.values())

    def __contains__(self, action_id: str) -> bool:
        return action_id in self._actions

    def get(self, action_id: str) -> Action:
        """Return an action; raises KeyError."""
        return self._actions[action_id]

    def keys_of(self, action_id: str) -> tuple[str, ...]:
        """Return the keys of an action, the first one being the one to show."""
        return self._keys.get(action_id, ())

    def trigger(self, action_id: str) -> bool:
        """Run an action if it makes sense now; returns whether it ran."""
        action = self._actions[action_id]
        if not action.enabled_when():
            return False
        action.run()
        return True

    def tool_tip(self, action_id: str) -> str:
        """Return title and first key."""
        keys = self.keys_of(action_id)
        title = self._actions[action_id].title
        return f"{title} ({keys[0]})" if keys else title

    def commands(self) -> list[Command]:
        """Return all actions as the palette and the cheat sheet list them."""
        return [
            Command(a.id, a.title, a.group, " or ".join(self.keys_of(a.id)), a.enabled_when()) for a in self
        ]
