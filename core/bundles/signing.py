"""Which files a bundle consists of, and who vouches for them.

``MANIFEST.sha256`` lists the sha256 of every other file; ``MANIFEST.sha256.sig`` is an ed25519 signature over
its bytes together with the public key. Both have exactly one valid spelling, so that any flipped bit is
noticed.

Source: RFC 8032 (ed25519).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from core.config.resources import resource_path
from core.domain.errors import EnvironmentFault, InputError, SafetyError

HASH_FILE = "MANIFEST.sha256"
SIGNATURE_FILE = "MANIFEST.sha256.sig"
_LINE = re.compile(r"^([0-9a-f]{64})  (.+)$")


def sha256_hex(data: bytes) -> str:
    """Return the sha256 of ``data`` as 64 lower-case hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


def format_hashes(hashes: Mapping[str, str]) -> bytes:
    """Return the one valid spelling of ``MANIFEST.sha256``: sorted lines ``hash, two spaces, name``."""
    return "".join(f"{hashes[name]}  {name}\n" for name in sorted(hashes)).encode()


def parse_hashes(data: bytes) -> dict[str, str]:
    """Parse ``MANIFEST.sha256``; raises SafetyError ``bundle.hash_list`` for any other spelling."""
    try:
        matches = [_LINE.fullmatch(line) for line in data.decode("utf-8").splitlines()]
    except UnicodeDecodeError:
        matches = [None]
    hashes = {match.group(2): match.group(1) for match in matches if match is not None}
    if None in matches or format_hashes(hashes) != data:
        raise SafetyError(
            "bundle.hash_list", f"{HASH_FILE} of the bundle was altered.", "Get the bundle again."
        )
    return hashes


def sign(hash_list: bytes, private_key: Ed25519PrivateKey) -> bytes:
    """Return the content of ``MANIFEST.sha256.sig`` for the content of ``MANIFEST.sha256``."""
    public = private_key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    return _format_signature(public, private_key.sign(hash_list))


def check_signature(hash_list: bytes, signature_file: bytes) -> bytes:
    """Return the 32 raw bytes of the public key that signed ``hash_list``.

    Raises
    ------
    SafetyError
        ``bundle.signature``: damaged, or made over another list.
    """
    try:
        document = json.loads(signature_file)
        public = base64.b64decode(document["public_key"], validate=True)
        signature = base64.b64decode(document["signature"], validate=True)
        if _format_signature(public, signature) != signature_file:
            raise ValueError("another spelling")
        Ed25519PublicKey.from_public_bytes(public).verify(signature, hash_list)
    except (ValueError, KeyError, TypeError, binascii.Error, InvalidSignature, RecursionError) as error:
        raise SafetyError(
            "bundle.signature",
            f"{SIGNATURE_FILE} does not match: the bundle was altered after it was signed.",
            "Don't use it; get the bundle again from its maker.",
        ) from error
    return public


def trusted_keys(folder: Path | None = None) -> frozenset[bytes]:
    """Return the raw public keys of ``resources/keys/*.pub`` (PEM), or of another folder."""
    if folder is None:
        try:
            folder = resource_path("keys")
        except FileNotFoundError:
            return frozenset()
    return frozenset(_raw_public(path.read_bytes()) for path in sorted(folder.glob("*.pub")))


def generate_key(private_file: Path) -> bytes:
    """Write a new private key (PEM, mode 0600; refuses to overwrite) and return the public key as PEM."""
    key = Ed25519PrivateKey.generate()
    private_file.parent.mkdir(parents=True, exist_ok=True)
    private_file.touch(mode=0o600, exist_ok=False)
    private_file.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def load_private_key(private_file: Path) -> Ed25519PrivateKey:
    """Read a PEM private key; raises EnvironmentFault ``bundle.key`` if it can't be used."""
    try:
        key = load_pem_private_key(private_file.read_bytes(), password=None)
    except (OSError, ValueError, TypeError) as error:
        raise EnvironmentFault(
            "bundle.key", "The signing key can't be read.", "Give a PEM ed25519 key."
        ) from error
    if not isinstance(key, Ed25519PrivateKey):
        raise EnvironmentFault(
            "bundle.key", "The signing key is not an ed25519 key.", "Give a PEM ed25519 key."
        )
    return key


def hash_files(files: Iterable[tuple[str, bytes]]) -> dict[str, str]:
    """Return name → sha256."""
    return {name: sha256_hex(data) for name, data in files}


def _raw_public(pem: bytes) -> bytes:
    key = load_pem_public_key(pem)
    if not isinstance(key, Ed25519PublicKey):
        raise InputError("bundle.key", "A public key under resources/keys is not ed25519.", "Remove it.")
    return key.public_bytes(Encoding.Raw, PublicFormat.Raw)


def _format_signature(public: bytes, signature: bytes) -> bytes:
    document = {
        "algorithm": "ed25519",
        "public_key": base64.b64encode(public).decode(),
        "signature": base64.b64encode(signature).decode(),
    }
    return (json.dumps(document, indent=2) + "\n").encode()
