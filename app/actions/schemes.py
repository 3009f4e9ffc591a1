"""Key schemes: which keys do what, as data in ``resources/keys_schemes``."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass

from core.config.resources import resource_path

DEFAULT = "default"


@dataclass(frozen=True)
class KeyScheme:
    """A named set of keys: action id → key sequences in Qt's portable text (``"Shift+N"``)."""

    name: str
    title: str
    keys: Mapping[str, tuple[str, ...]]

    @classmethod
    def load(cls, name: str = DEFAULT) -> KeyScheme:
        """Read ``resources/keys_schemes/<name>.toml``; a scheme may start from another one (``extends``)."""
        document = tomllib.loads(resource_path(f"keys_schemes/{name}.toml").read_text("utf-8"))
        keys: dict[str, tuple[str, ...]] = {}
        if document.get("extends"):
            keys.update(cls.load(document["extends"]).keys)
        keys.update({action: tuple(found) for action, found in document["keys"].items()})
        return cls(name, document["title"], keys)

    def conflicts(self) -> dict[str, tuple[str, ...]]:
        """Return keys that more than one action wants."""
        users: dict[str, list[str]] = {}
        for action, keys in self.keys.items():
            for key in keys:
                users.setdefault(key.casefold(), []).append(action)
        return {key: tuple(actions) for key, actions in users.items() if len(actions) > 1}


def scheme_names() -> tuple[str, ...]:
    """Return the names of all schemes that ship."""
    return tuple(sorted(path.stem for path in resource_path("keys_schemes").glob("*.toml")))
