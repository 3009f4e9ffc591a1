"""The four families of errors that may leave the engine.

Every refusal carries a stable code, a sentence that a reader understands, and a remedy. None of the
three may hold patient identity: name the tag, the series or the number instead.
"""

from __future__ import annotations


class AppError(Exception):
    """An error that is shown to a person.

    Parameters
    ----------
    code : str
        Stable, dotted, lower-case identifier (``"dicom.truncated"``).
    user_message : str
        One sentence: what happened and to which tag, series or number. Free of patient identity.
    remedy : str
        One sentence: what the person can do.
    """

    def __init__(self, code: str, user_message: str, remedy: str = "") -> None:
        super().__init__(user_message)
        self.code = code
        self.user_message = user_message
        self.remedy = remedy

    def as_dict(self) -> dict[str, str]:
        """Return the error as the command line prints it."""
        return {"code": self.code, "message": self.user_message, "remedy": self.remedy}


class InputError(AppError):
    """The file or the request is at fault."""


class EnvironmentFault(AppError):
    """Disk, memory, GPU, lock, missing component."""


class SafetyError(AppError):
    """Going on could mislead the reader: geometry, hash, wrong patient."""


class BugError(AppError):
    """Our own fault."""
