from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.domain.errors import SafetyError
from core.domain.study import PatientIdentity
from core.library.vault import IdentityVault

VAULT = IdentityVault(b"k" * 32, b"p" * 32)
TEXT = st.text(max_size=40)


@given(st.builds(PatientIdentity, TEXT, TEXT, TEXT, TEXT, TEXT, TEXT))
def test_an_identity_survives_sealing(identity: PatientIdentity) -> None:
    assert VAULT.open_identity("1.2.3", VAULT.seal_identity("1.2.3", identity)) == identity


@given(TEXT)
def test_a_text_survives_sealing(text: str) -> None:
    assert VAULT.open_text("file/1", VAULT.seal_text("file/1", text)) == text


def test_sealing_twice_gives_different_bytes() -> None:
    assert VAULT.seal_text("a", "x") != VAULT.seal_text("a", "x")


def test_a_record_does_not_open_for_another_study() -> None:
    sealed = VAULT.seal_identity("1.2.3", PatientIdentity("A^B"))
    with pytest.raises(SafetyError) as caught:
        VAULT.open_identity("1.2.4", sealed)
    assert caught.value.code == "vault.sealed_record_invalid"


@pytest.mark.parametrize("position", [0, 1, 12, 13, -1])
def test_a_changed_byte_is_noticed(position: int) -> None:
    sealed = bytearray(VAULT.seal_text("a", "text"))
    sealed[position] ^= 1
    with pytest.raises(SafetyError):
        VAULT.open_text("a", bytes(sealed))


def test_a_truncated_record_is_noticed() -> None:
    with pytest.raises(SafetyError):
        VAULT.open_bytes("a", b"\x01short")


def test_a_patient_keeps_the_pseudonym_and_installations_differ() -> None:
    patient = PatientIdentity("Doe^Jane", "4711")
    renamed = PatientIdentity("Smith^Jane", " 4711 ")
    assert VAULT.pseudonym(patient, "1.2") == VAULT.pseudonym(renamed, "1.3")
    assert VAULT.pseudonym(patient, "1.2") != IdentityVault(b"k" * 32, b"q" * 32).pseudonym(patient, "1.2")
    assert VAULT.pseudonym(PatientIdentity(), "1.2") != VAULT.pseudonym(PatientIdentity(), "1.3")
    without_id = PatientIdentity("Doe^Jane", "", "19700101")
    assert VAULT.pseudonym(without_id, "1.2") == VAULT.pseudonym(without_id, "1.3")
