"""Errors of the protocol, and which status of HTTP an error of the engine has."""

from __future__ import annotations

import json
import math

from core.config.logs import places
from core.domain.errors import AppError, BugError, EnvironmentFault, InputError

BAD_REQUEST, UNAUTHORIZED, TOO_LARGE, UNSUPPORTED, UNPROCESSABLE = 400, 401, 413, 415, 422
TIMED_OUT, HEADERS_TOO_LARGE, TOO_MANY, BUG, BUSY = 408, 431, 429, 500, 503
_TOO_LARGE = ("too_large", "too_many_members", "memory.", "zip.ratio", "run.memory")


class HttpFault(Exception):
    """A refusal with its status; ``retry_after_s`` for 429 and 503."""

    def __init__(self, status: int, error: AppError, retry_after_s: float | None = None) -> None:
        super().__init__(error.code)
        self.status = status
        self.error = error
        self.retry_after_s = retry_after_s


def refused(status: int, code: str, message: str, remedy: str = "") -> HttpFault:
    """Return a refusal that is the request's fault."""
    return HttpFault(status, InputError(code, message, remedy))


def busy(code: str, message: str, retry_after_s: float = 1.0) -> HttpFault:
    """Return a refusal that will pass."""
    return HttpFault(BUSY, EnvironmentFault(code, message, "Send the request again later."), retry_after_s)


def status_of(error: AppError) -> int:
    """Return the status of an error: 413 for what is too large, 500 for our own faults, else 422."""
    if isinstance(error, BugError):
        return BUG
    return TOO_LARGE if any(mark in error.code for mark in _TOO_LARGE) else UNPROCESSABLE


def body_of(error: AppError) -> bytes:
    """Return the error as the body of an answer."""
    return json.dumps({"error": error.as_dict()}, ensure_ascii=False).encode()


def headers_of(fault: HttpFault) -> dict[str, str]:
    """Return the headers that go with a refusal."""
    headers = {}
    if fault.retry_after_s is not None:
        headers["retry-after"] = str(max(1, math.ceil(fault.retry_after_s)))
    if fault.status == UNAUTHORIZED:
        headers["www-authenticate"] = "Bearer"
    return headers


def translated(error: Exception) -> HttpFault:
    """Return any error as a refusal; the text of a foreign one is withheld, its place is named."""
    if isinstance(error, HttpFault):
        return error
    if isinstance(error, AppError):
        return HttpFault(status_of(error), error)
    where = (places((type(error), error, error.__traceback__)) or ["an unknown place"])[-1]
    told = f"Unexpected {type(error).__name__} at {where}."
    return HttpFault(BUG, BugError("bug.unexpected", told, "Report this place."))
