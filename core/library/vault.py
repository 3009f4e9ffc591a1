"""Seals identity, paths and free text: AES-256-GCM with a key derived from the master key.

Each sealed value is bound to the place it belongs to (its context), so that a record copied onto another
study doesn't open. Layout: one version byte, 12 bytes nonce, ciphertext with tag.
"""

from __future__ import annotations

import base64
import hmac
import json
import secrets
from dataclasses import asdict

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from core.domain.errors import SafetyError
from core.domain.study import PatientIdentity

_VERSION = b"\x01"
_NONCE_BYTES = 12
_BODY = 1 + _NONCE_BYTES
_DECODE = json.JSONDecoder().raw_decode


class IdentityVault:
    """Seals and opens what may identify a patient.

    Parameters
    ----------
    key : bytes
        32 bytes for AES-256-GCM.
    pseudonym_key : bytes
        32 bytes for the keyed hash that makes pseudonyms and references.
    """

    def __init__(self, key: bytes, pseudonym_key: bytes) -> None:
        self._cipher = AESGCM(key)
        self._pseudonym_key = pseudonym_key

    def seal_identity(self, study_uid: str, identity: PatientIdentity) -> bytes:
        """Return the sealed record of a study's patient."""
        return self.seal_bytes(f"identity/{study_uid}", json.dumps(asdict(identity)).encode("utf-8"))

    def open_identity(self, study_uid: str, sealed: bytes) -> PatientIdentity:
        """Return the patient of a study.

        Raises
        ------
        SafetyError
            If the record was changed or belongs to another study (code ``vault.sealed_record_invalid``).
        """
        # The decoder itself: json.loads looks for white space around each value, which takes as long as the value.
        return PatientIdentity(**_DECODE(self.open_text(f"identity/{study_uid}", sealed))[0])

    def seal_text(self, context: str, text: str) -> bytes:
        """Return ``text`` sealed for ``context``; an empty text becomes an empty value."""
        return self.seal_bytes(context, text.encode("utf-8", "surrogateescape")) if text else b""

    def open_text(self, context: str, sealed: bytes) -> str:
        """Return the text sealed for ``context``; raises as ``open_identity`` does."""
        return self.open_bytes(context, sealed).decode("utf-8", "surrogateescape") if sealed else ""

    def seal_bytes(self, context: str, data: bytes) -> bytes:
        """Return ``data`` sealed for ``context``."""
        nonce = secrets.token_bytes(_NONCE_BYTES)
        return _VERSION + nonce + self._cipher.encrypt(nonce, data, context.encode("utf-8"))

    def open_bytes(self, context: str, sealed: bytes) -> bytes:
        """Return the data sealed for ``context``; raises as ``open_identity`` does."""
        try:
            if sealed[:1] != _VERSION:
                raise InvalidTag
            return self._cipher.decrypt(sealed[1:_BODY], sealed[_BODY:], context.encode("utf-8"))
        except (InvalidTag, ValueError) as error:
            raise SafetyError(
                "vault.sealed_record_invalid",
                "A sealed record was changed or belongs to another study.",
                "Restore the library from a backup and verify the audit trail.",
            ) from error

    def pseudonym(self, identity: PatientIdentity, study_uid: str) -> str:
        """Return the patient's stable pseudonym in this installation, such as ``"P-7KQ2M4XA"``.

        The same Patient ID gives the same pseudonym; without an ID, name and birth date do; without these
        each study stands alone.
        """
        basis = identity.patient_id.strip()
        if not basis and identity.patient_name.strip():
            basis = f"{identity.patient_name.strip()}\x1f{identity.birth_date.strip()}"
        digest = self._digest(f"patient/{basis}" if basis else f"study/{study_uid}")
        return "P-" + base64.b32encode(digest[:5]).decode("ascii")

    def reference(self, uid: str) -> str:
        """Return the keyed hash under which logs and the audit trail speak of a UID (32 hexadecimal digits)."""
        return self._digest(f"reference/{uid}").hex()[:32]

    def _digest(self, text: str) -> bytes:
        return hmac.digest(self._pseudonym_key, text.encode("utf-8", "surrogateescape"), "sha256")
