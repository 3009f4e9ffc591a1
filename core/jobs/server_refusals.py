"""What went wrong with a model server, in the reader's words with a remedy.

A server's own sentence is passed on when it is short, plain text; it knows nothing of the patient.
"""

from __future__ import annotations

import json
import math
import ssl
from typing import Any

from core.domain.errors import AppError, BugError, EnvironmentFault, InputError, SafetyError

_MAX_TEXT = 300
_UNAUTHORIZED, _FORBIDDEN, _NOT_FOUND, _TOO_LARGE, _TOO_MANY, _BUSY = 401, 403, 404, 413, 429, 503
_LOCALLY = "Try it again, or run a model of this computer."


def refused(name: str, status: int, body: bytes) -> AppError:
    """Return the error that an answer with another status than 200 stands for."""
    code, message, remedy = _told(body)
    if status in (_UNAUTHORIZED, _FORBIDDEN):
        return EnvironmentFault(
            "engine.token_refused",
            f"{name} doesn't know the token.",
            "Enter the token that the server's administrator gives you, in Settings or by “overread engine add”.",
        )
    if status == _TOO_LARGE:
        return InputError(
            "engine.too_large",
            f"{name} doesn't take an image of this size. {message}".strip(),
            "Run a model of this computer, or have the server's limit (--max-upload-mb) raised.",
        )
    if status in (_TOO_MANY, _BUSY):
        return EnvironmentFault(
            "engine.busy",
            f"{name} has no room for the image now. {message}".strip(),
            "Try it again in a minute, or run a model of this computer.",
        )
    if status == _NOT_FOUND:
        return not_understood(name, "its paths: it is no server of Overread")
    if 400 <= status < 500 and message:
        return InputError(
            f"engine.refused.{code}"[:80], f"{name} refused the image: {message}", remedy or _LOCALLY
        )
    return EnvironmentFault(
        "engine.failed", f"{name} failed (status {status}). {message}".strip(), remedy or _LOCALLY
    )


def translated(name: str, error: Exception) -> AppError:
    """Return the error of the network as one of ours."""
    import httpx

    chain = list(_chain(error))
    if any(isinstance(one, ssl.SSLCertVerificationError) for one in chain):
        return SafetyError(
            "engine.certificate",
            f"The certificate of {name} isn't trusted, or is that of another computer.",
            "Name the file of the authority that signed it (CA file), or check the address.",
        )
    if any(isinstance(one, ssl.SSLError) for one in chain):
        return EnvironmentFault(
            "engine.tls",
            f"No encrypted connection with {name} came about.",
            "Check whether the server offers https:// at this port.",
        )
    if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout):
        return EnvironmentFault(
            "engine.unreachable",
            f"{name} can't be reached.",
            "Check that the server runs and the network leads there, or run a model of this computer.",
        )
    if isinstance(error, httpx.TimeoutException | TimeoutError):
        return EnvironmentFault("engine.timeout", f"{name} gave no answer in time.", _LOCALLY)
    if isinstance(error, httpx.TransportError | OSError):
        return EnvironmentFault(
            "engine.broken_off", f"The connection with {name} broke off; nothing was kept.", _LOCALLY
        )
    return BugError("engine.request", f"{name} could not be asked ({type(error).__name__}).", "Report this.")


def unknown_host(name: str, host: str) -> EnvironmentFault:
    """Return the error of a name that leads nowhere."""
    return EnvironmentFault(
        "engine.unreachable", f"{name}: there is no computer {host}.", "Check the address and the network."
    )


def redirect(name: str) -> SafetyError:
    """Return the refusal of a server that sends us elsewhere."""
    return SafetyError(
        "engine.redirect",
        f"{name} wants to send the image to another address; it was not followed.",
        "Enter the address of the model server itself.",
    )


def bad_ca_file(name: str) -> InputError:
    """Return the error of a CA file that can't be used."""
    return InputError(
        "engine.ca_file",
        f"The CA file of {name} can't be read, or holds no certificate.",
        "Choose a PEM file (-----BEGIN CERTIFICATE-----).",
    )


def not_understood(name: str, what: str) -> EnvironmentFault:
    """Return the error of an answer that isn't what it should be."""
    return EnvironmentFault(
        "engine.answer",
        f"The answer of {name} can't be understood ({what}).",
        "Check the address; server and workstation should have the same version.",
    )


def too_much(name: str, limit: int) -> SafetyError:
    """Return the refusal of an answer beyond its limit."""
    return SafetyError(
        "engine.answer_too_large",
        f"{name} answered with more than {limit >> 20} MB; the answer was dropped.",
        "Check the address; report this if it is right.",
    )


def other_model(name: str, listed: str, found: str) -> SafetyError:
    """Return the refusal of a model that isn't the one that was listed."""
    return SafetyError(
        "engine.other_model",
        f"{name} no longer serves {listed}, but {found}. Nothing was run.",
        "Look at it and connect it again: Settings, Change…, Connect; or run “overread engine test NAME --accept”.",
    )


def pause_of(header: str, longest_s: float) -> float:
    """Return how many seconds a server asks us to wait."""
    try:
        seconds = float(header)
    except ValueError:
        seconds = 2.0
    return min(max(seconds, 0.1), longest_s) if math.isfinite(seconds) else longest_s


def _chain(error: BaseException | None) -> Any:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _told(body: bytes) -> tuple[str, str, str]:
    """Return code, message and remedy of a refusal as far as they are plain."""
    try:
        error = json.loads(body)["error"]
        return plain(error.get("code")), plain(error.get("message")), plain(error.get("remedy"))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return "", "", ""


def plain(text: object) -> str:
    """Return a foreign sentence without anything but letters, and not too long."""
    if not isinstance(text, str):
        return ""
    return "".join(sign for sign in text[:_MAX_TEXT] if sign.isprintable())
