"""Signed heads of the chain.

An anchor is an ed25519 signature over (installation, sequence number, hash, time). It lets somebody without
the chain's key see that the chain had this head at that time. Anchors are made at every 100th record and when
the program closes.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from core.audit.chain import Head

ANCHOR_EVERY = 100


@dataclass(frozen=True)
class Anchor:
    """A signed head. ``key_id`` is the first 16 hexadecimal digits of the public key's sha256."""

    seq: int
    head: bytes
    ts_utc: str
    signature: bytes
    key_id: str


class AnchorSigner:
    """Signs and checks heads of one installation.

    Parameters
    ----------
    seed : bytes
        32 bytes, the ed25519 private key.
    installation : str
        Identifier of the installation; part of what is signed.
    """

    def __init__(self, seed: bytes, installation: str) -> None:
        self._private = Ed25519PrivateKey.from_private_bytes(seed)
        self._public = self._private.public_key()
        self._installation = installation
        self.key_id = key_id_of(self._public)

    @property
    def public_key(self) -> bytes:
        """The 32 bytes that a third party needs to check anchors."""
        return self._public.public_bytes_raw()

    def sign(self, head: Head, ts_utc: str) -> Anchor:
        """Return the anchor of ``head``."""
        signature = self._private.sign(_payload(self._installation, head.seq, head.hash, ts_utc))
        return Anchor(head.seq, head.hash, ts_utc, signature, self.key_id)

    def is_genuine(self, anchor: Anchor) -> bool:
        """Whether the anchor was signed by this installation's key and not changed since."""
        payload = _payload(self._installation, anchor.seq, anchor.head, anchor.ts_utc)
        try:
            self._public.verify(anchor.signature, payload)
        except InvalidSignature:
            return False
        return anchor.key_id == self.key_id


def key_id_of(public: Ed25519PublicKey) -> str:
    """Return the short identifier of a public key."""
    return hashlib.sha256(public.public_bytes_raw()).hexdigest()[:16]


def _payload(installation: str, seq: int, head: bytes, ts_utc: str) -> bytes:
    return json.dumps(["overread-anchor-1", installation, seq, head.hex(), ts_utc]).encode("ascii")
