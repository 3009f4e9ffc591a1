"""Translates the database's errors into ours; nothing of a statement or its values goes along."""

from __future__ import annotations

from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from core.domain.errors import AppError, BugError, EnvironmentFault, SafetyError

_KNOWN: tuple[tuple[str, str, str, str], ...] = (
    (
        "is locked",
        "library.busy",
        "The library is in use by another Overread for longer than five seconds.",
        "Close the other Overread or try again when its work is done.",
    ),
    ("is full", "library.disk_full", "The disk of the library is full; nothing was changed.", "Free space."),
    (
        "readonly",
        "library.read_only",
        "The library can't be written.",
        "Check the data folder's permissions.",
    ),
    ("unable to open", "library.unreachable", "The library can't be opened.", "Check the data folder."),
    (
        "not a database",
        "library.wrong_key",
        "The key of this account doesn't open this library.",
        "Restore the keys folder that belongs to the library, or sign in as the user who created it.",
    ),
    (
        "malformed",
        "library.corrupt",
        "The library file is damaged.",
        "Restore the newest backup (overread backup list, overread backup restore FILE).",
    ),
    ("disk i/o", "library.disk_error", "The disk of the library reported an error.", "Check the disk."),
)


def translate(error: SQLAlchemyError) -> AppError:
    """Return the error that a person should see for ``error``."""
    text = str(error.orig).lower() if isinstance(error, DBAPIError) else ""
    if "append-only" in text:
        return SafetyError(
            "audit.append_only",
            "The audit trail can only be added to.",
            "Nothing was changed; nothing to do.",
        )
    for needle, code, message, remedy in _KNOWN:
        if needle in text:
            return EnvironmentFault(code, message, remedy)
    if isinstance(error, DBAPIError) and error.connection_invalidated:
        return EnvironmentFault(
            "library.connection_lost", "The connection to the library's server broke.", "Check the server."
        )
    if type(error).__name__ == "OperationalError":
        return EnvironmentFault(
            "library.unreachable", "The library's database doesn't answer.", "Check the database server."
        )
    return BugError(
        "library.failed",
        f"The library refused an operation ({type(error).__name__}); nothing was changed.",
        "Report this fault.",
    )
