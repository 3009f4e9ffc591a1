"""Bearer tokens: 256 random bits, kept for their owner only, compared in constant time."""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import secrets
import stat
import sys
from pathlib import Path

from core.domain.errors import EnvironmentFault, InputError, SafetyError

_BYTES = 32
_TOKEN = re.compile(r"^[A-Za-z0-9._~+/=-]{32,512}$")
_MAX_FILE_BYTES = 64 << 10


class Tokens:
    """The tokens that open the server. Only their hashes are kept in memory."""

    def __init__(self, tokens: list[str]) -> None:
        self._hashes = [_hash(token.encode()) for token in tokens]

    def owner(self, authorization: bytes) -> str | None:
        """Return a name for the token of an Authorization header, or None when it opens nothing.

        All tokens are compared, each in constant time, whatever was sent.
        """
        scheme, _, given = authorization.partition(b" ")
        candidate = _hash(given.strip())
        found = None
        for number, known in enumerate(self._hashes):
            if hmac.compare_digest(candidate, known):
                found = f"token-{number}"
        return found if scheme.lower() == b"bearer" else None


def load_tokens(file: Path) -> tuple[Tokens, str | None]:
    """Read the tokens of a file, one per line; make the file with a new one when there is none.

    Returns
    -------
    tuple
        The tokens, and the new token if one was made: to be shown once.

    Raises
    ------
    SafetyError
        ``serve.token_open`` when others may read the file.
    InputError
        ``serve.token`` when it holds none, or a line is shorter than 32 characters or has others than a token's.
    EnvironmentFault
        ``serve.token_file`` when it can't be read or made.
    """
    try:
        if not file.exists():
            return _made(file)
        if sys.platform != "win32" and file.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise SafetyError("serve.token_open", "Others may read the token file.", "Give it the mode 0600.")
        text = file.read_bytes()[:_MAX_FILE_BYTES].decode("ascii", "replace")
    except OSError as error:
        raise EnvironmentFault(
            "serve.token_file",
            f"The token file can't be read or made ({error.strerror}).",
            "Choose another with --token-file.",
        ) from error
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if not lines or not all(_TOKEN.fullmatch(line) for line in lines):
        raise InputError(
            "serve.token",
            "The token file must hold one token per line, each of 32 characters or more.",
            "Remove it: a new one is made at the next start.",
        )
    return Tokens(lines), None


def _made(file: Path) -> tuple[Tokens, str]:
    token = secrets.token_urlsafe(_BYTES)
    file.parent.mkdir(parents=True, exist_ok=True, mode=stat.S_IRWXU)
    handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, stat.S_IRUSR | stat.S_IWUSR)
    with os.fdopen(handle, "w", encoding="ascii") as stream:
        stream.write(token + "\n")
    return Tokens([token]), token


def _hash(token: bytes) -> bytes:
    return hashlib.sha256(token).digest()
