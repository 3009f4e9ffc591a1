"""The last head of the chain, kept outside the database.

A chain alone can't show that its tail was cut off or that the whole database was replaced by an older copy.
The head is therefore also written to ``keys/audit.head`` after each commit, and to the keyring (where there
is one) when an anchor is made. The database may be ahead of the file (a crash between the two), never behind
it.
"""

from __future__ import annotations

import hmac
import json
from pathlib import Path

from core.audit.chain import Head
from core.config.atomic import atomic_write_bytes
from core.config.locks import file_lock
from core.domain.errors import EnvironmentFault


class HeadFile:
    """Reads and writes the head of one installation, authenticated by an HMAC.

    Safe between processes: a head never goes back.
    """

    def __init__(self, path: Path, key: bytes, installation: str) -> None:
        self._path = path
        self._key = key
        self._installation = installation
        self._known = Head()

    def read(self) -> Head | None:
        """Return the head, or None when the file is absent or not genuine."""
        try:
            return self.decode(self._path.read_text("ascii"))
        except (OSError, UnicodeDecodeError):
            return None

    def create(self) -> None:
        """Write the head of an empty chain, so that a missing file is a finding from the first record on."""
        with file_lock(self._path.with_suffix(".lock")):
            if self.read() is None:
                atomic_write_bytes(self._path, self.encode(Head()).encode("ascii"), mode=0o600)

    def advance(self, head: Head) -> None:
        """Write ``head`` unless the file already holds a later one.

        Raises
        ------
        EnvironmentFault
            If the file can't be written (code ``audit.head_not_written``).
        """
        if head.seq <= self._known.seq:
            return
        try:
            with file_lock(self._path.with_suffix(".lock")):
                current = self.read()
                if current is None or current.seq < head.seq:
                    atomic_write_bytes(self._path, self.encode(head).encode("ascii"), mode=0o600)
        except OSError as error:
            raise EnvironmentFault(
                "audit.head_not_written",
                f"The end of the audit trail can't be noted ({error.strerror or type(error).__name__}).",
                "Free space on the disk of the data folder.",
            ) from error
        self._known = head

    def replace(self, head: Head) -> None:
        """Write ``head`` even when the file holds a later one: an older library was restored, and its trail says so."""
        with file_lock(self._path.with_suffix(".lock")):
            atomic_write_bytes(self._path, self.encode(head).encode("ascii"), mode=0o600)
        self._known = head

    def encode(self, head: Head) -> str:
        """Return the authenticated text of a head, as the file and the keyring hold it."""
        body = json.dumps([self._installation, head.seq, head.hash.hex()])
        return json.dumps({"head": body, "mac": self._mac(body)})

    def decode(self, text: str) -> Head | None:
        """Return the head of an authenticated text; None when it isn't genuine."""
        try:
            document = json.loads(text)
            body, mac = str(document["head"]), str(document["mac"])
            if not hmac.compare_digest(mac.encode(), self._mac(body).encode()):
                return None
            installation, seq, digest = json.loads(body)
        except (ValueError, KeyError, TypeError):
            return None
        return Head(int(seq), bytes.fromhex(digest)) if installation == self._installation else None

    def _mac(self, body: str) -> str:
        return hmac.digest(self._key, body.encode("ascii"), "sha256").hex()
