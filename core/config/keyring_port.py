"""The operating system's keyring, if there is a usable one.

Back ends that keep nothing (``null``), refuse everything (``fail``) or store in plain text count as absent.
"""

from __future__ import annotations

from typing import Any

from core.domain.errors import EnvironmentFault

SERVICE = "overread"
_UNUSABLE_MODULES = ("keyring.backends.null", "keyring.backends.fail")


def is_available() -> bool:
    """Whether a keyring that encrypts what it stores answers on this machine."""
    return _backend() is not None


def read(entry: str) -> str | None:
    """Return the text of an entry, or None when there is none."""
    return _call("get_password", SERVICE, entry)


def write(entry: str, text: str) -> None:
    """Store a text; a former one of the same entry is replaced."""
    _call("set_password", SERVICE, entry, text)


def remove(entry: str) -> None:
    """Forget an entry, if there is one."""
    if read(entry) is not None:
        _call("delete_password", SERVICE, entry)


def _backend() -> Any | None:
    import keyring
    from keyring.errors import KeyringError

    try:
        backend: Any = keyring.get_keyring()
        candidates = [b for b in getattr(backend, "backends", [backend]) if _is_usable(b)]
    except (KeyringError, RuntimeError, ImportError):
        return None
    return backend if candidates else None


def _is_usable(backend: Any) -> bool:
    kind = type(backend)
    return not (kind.__module__ in _UNUSABLE_MODULES or "plaintext" in kind.__name__.lower())


def _call(method: str, *arguments: str) -> str | None:
    from keyring.errors import KeyringError

    backend = _backend()
    try:
        return None if backend is None else getattr(backend, method)(*arguments)
    except (KeyringError, RuntimeError, OSError) as error:
        raise EnvironmentFault(
            "keys.keyring_failed",
            f"The keyring of this account refused ({type(error).__name__}).",
            "Unlock the keyring and start again.",
        ) from error
