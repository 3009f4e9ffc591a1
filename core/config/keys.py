"""The master key and the keys derived from it.

One random 256-bit master key per home. It lies, in this order of preference, in the operating system's
keyring; wrapped by a passphrase (``OVERREAD_PASSPHRASE``, scrypt and AES-256-GCM); or, where neither exists,
in a key file that only its owner may read. The choice made at the first start is written to
``keys/source.json`` and kept, so that a keyring that appears later doesn't lock the reader out.

Data keys are derived by HKDF-SHA256 with a label each (``database``, ``vault``, ``audit`` …); none is stored.
Source: RFC 5869 (HKDF), RFC 7914 (scrypt; N = 2^15, r = 8, p = 1).
"""

from __future__ import annotations

import base64
import json
import logging
import os
import secrets
import stat
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from core.config import keyring_port
from core.config.atomic import atomic_write_bytes, atomic_write_text
from core.config.locks import file_lock
from core.domain.errors import EnvironmentFault

PASSPHRASE_VARIABLE = "OVERREAD_PASSPHRASE"
KEY_BYTES = 32
OWNER_ONLY = stat.S_IRUSR | stat.S_IWUSR

FILE_NOTICE = (
    "No keyring here: the encryption key lies in a file. Only your account may read it, but whoever copies "
    f"the whole data folder can read everything. Set {PASSPHRASE_VARIABLE} before the first start, or "
    "encrypt the disk."
)

_WRAP_CONTEXT = b"overread master key v1"
_log = logging.getLogger(__name__)


class KeyStore:
    """Derives the data keys of one home.

    Attributes
    ----------
    source : str
        ``"keyring"``, ``"passphrase"`` or ``"file"``.
    notice : str
        What the reader should know about the source; empty when there is nothing to say.
    """

    def __init__(self, master: bytes, source: str, keyring_entry: str = "") -> None:
        if len(master) != KEY_BYTES:
            raise ValueError(f"the master key has {len(master)} bytes, not {KEY_BYTES}")
        self._master = master
        self._keyring_entry = keyring_entry
        self.source = source
        self.notice = FILE_NOTICE if source == "file" else ""

    def __repr__(self) -> str:
        """Name the source, never the key."""
        return f"KeyStore(source={self.source!r})"

    @classmethod
    def open(cls, folder: Path) -> KeyStore:
        """Read the master key that belongs to ``folder``, or make one.

        Raises
        ------
        EnvironmentFault
            If the key can't be had: passphrase missing or wrong, keyring entry gone, key file damaged.
        """
        with file_lock(folder / "keys.lock"):
            record = folder / "source.json"
            if record.exists():
                return _read_existing(folder, json.loads(record.read_text("utf-8")))
            return _create(folder)

    def derive(self, label: str) -> bytes:
        """Return the 32-byte key for ``label``; the same label always gives the same key."""
        return HKDF(SHA256(), KEY_BYTES, salt=None, info=b"overread/1/" + label.encode("ascii")).derive(
            self._master
        )

    def remember(self, name: str, value: str) -> bool:
        """Keep a short non-secret text outside the home (in the keyring); False where there is no keyring."""
        if self.source != "keyring":
            return False
        keyring_port.write(f"{self._keyring_entry}/{name}", value)
        return True

    def recall(self, name: str) -> str | None:
        """Return what ``remember`` kept, or None."""
        if self.source != "keyring":
            return None
        return keyring_port.read(f"{self._keyring_entry}/{name}")


def _create(folder: Path) -> KeyStore:
    master = secrets.token_bytes(KEY_BYTES)
    passphrase = os.environ.get(PASSPHRASE_VARIABLE, "")
    if keyring_port.is_available():
        entry = secrets.token_hex(8)
        keyring_port.write(entry, base64.b64encode(master).decode("ascii"))
        _record_source(folder, {"source": "keyring", "entry": entry})
        return KeyStore(master, "keyring", entry)
    if passphrase:
        salt = secrets.token_bytes(16)
        nonce = secrets.token_bytes(12)
        wrapped = AESGCM(_stretch(passphrase, salt)).encrypt(nonce, master, _WRAP_CONTEXT)
        atomic_write_bytes(folder / "master.wrapped", salt + nonce + wrapped, mode=OWNER_ONLY)
        _record_source(folder, {"source": "passphrase"})
        return KeyStore(master, "passphrase")
    atomic_write_bytes(folder / "master.key", base64.b64encode(master) + b"\n", mode=OWNER_ONLY)
    _record_source(folder, {"source": "file"})
    # INFO, not WARNING: the notice is shown by the window and by ``overread doctor``, where a person reads
    # it.
    _log.info("no keyring and no passphrase: the master key lies in a key file")
    return KeyStore(master, "file")


def _record_source(folder: Path, record: dict[str, str]) -> None:
    atomic_write_text(folder / "source.json", json.dumps(record), mode=OWNER_ONLY)


def _read_existing(folder: Path, record: dict[str, str]) -> KeyStore:
    source = record.get("source", "")
    if source == "keyring":
        return _from_keyring(record.get("entry", ""))
    if source == "passphrase":
        return KeyStore(_unwrap(folder / "master.wrapped"), "passphrase")
    if source == "file":
        return KeyStore(_from_file(folder / "master.key"), "file")
    raise EnvironmentFault(
        "keys.unknown_source",
        "keys/source.json names no known key source.",
        "Restore the keys folder from a backup.",
    )


def _from_keyring(entry: str) -> KeyStore:
    text = keyring_port.read(entry) if keyring_port.is_available() else None
    if text is None:
        raise EnvironmentFault(
            "keys.keyring_entry_missing",
            "The keyring of this account doesn't hold the key of this data folder.",
            "Unlock the keyring, or sign in as the user who created the data folder.",
        )
    return KeyStore(_decoded(text.encode("ascii")), "keyring", entry)


def _from_file(path: Path) -> bytes:
    try:
        if os.name != "nt" and stat.S_IMODE(path.stat().st_mode) & 0o077:
            raise EnvironmentFault(
                "keys.file_open_to_others",
                "The key file may be read by other accounts.",
                "Restrict keys/master.key to its owner (mode 0600).",
            )
        return _decoded(path.read_bytes())
    except OSError as error:
        raise EnvironmentFault(
            "keys.file_missing", "The key file can't be read.", "Restore keys/master.key from a backup."
        ) from error


def _unwrap(path: Path) -> bytes:
    passphrase = os.environ.get(PASSPHRASE_VARIABLE, "")
    if not passphrase:
        raise EnvironmentFault(
            "keys.passphrase_missing",
            "This data folder is protected by a passphrase.",
            f"Set {PASSPHRASE_VARIABLE} and start again.",
        )
    try:
        blob = path.read_bytes()
        salt, nonce, wrapped = blob[:16], blob[16:28], blob[28:]
        return AESGCM(_stretch(passphrase, salt)).decrypt(nonce, wrapped, _WRAP_CONTEXT)
    except (OSError, InvalidTag, ValueError) as error:
        raise EnvironmentFault(
            "keys.passphrase_wrong",
            "The passphrase doesn't open this data folder.",
            f"Check {PASSPHRASE_VARIABLE}; if keys/master.wrapped is damaged, restore it from a backup.",
        ) from error


def _stretch(passphrase: str, salt: bytes) -> bytes:
    return Scrypt(salt=salt, length=KEY_BYTES, n=2**15, r=8, p=1).derive(passphrase.encode("utf-8"))


def _decoded(text: bytes) -> bytes:
    try:
        master = base64.b64decode(text.strip(), validate=True)
    except ValueError:
        master = b""
    if len(master) != KEY_BYTES:
        raise EnvironmentFault("keys.damaged", "The stored key is damaged.", "Restore the key from a backup.")
    return master
