from __future__ import annotations

import logging
import os
import stat
from pathlib import Path

import keyring
import keyring.backend
import pytest

from core.config import keyring_port
from core.config.keys import PASSPHRASE_VARIABLE, KeyStore
from core.domain.errors import EnvironmentFault


class MemoryKeyring(keyring.backend.KeyringBackend):
    """A keyring that works, for tests."""

    priority = 1  # type: ignore[assignment]

    def __init__(self) -> None:
        super().__init__()
        self.entries: dict[tuple[str, str], str] = {}

    def get_password(self, service: str, username: str) -> str | None:
        return self.entries.get((service, username))

    def set_password(self, service: str, username: str, password: str) -> None:
        self.entries[service, username] = password

    def delete_password(self, service: str, username: str) -> None:
        del self.entries[service, username]


@pytest.fixture
def memory_keyring() -> object:
    before = keyring.get_keyring()
    backend = MemoryKeyring()
    keyring.set_keyring(backend)
    yield backend
    keyring.set_keyring(before)


def test_without_keyring_the_key_lies_in_an_owner_only_file_with_a_notice(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = KeyStore.open(tmp_path)
    assert store.source == "file"
    assert "nly your account" in store.notice
    assert max((r.levelno for r in caplog.records), default=0) <= logging.INFO
    if os.name != "nt":
        assert stat.S_IMODE((tmp_path / "master.key").stat().st_mode) == 0o600
    assert KeyStore.open(tmp_path).derive("vault") == store.derive("vault")


def test_keys_differ_by_label_and_by_home(tmp_path: Path) -> None:
    one, two = KeyStore.open(tmp_path / "a"), KeyStore.open(tmp_path / "b")
    keys = {one.derive("vault"), one.derive("audit"), two.derive("vault"), two.derive("audit")}
    assert len(keys) == 4
    assert all(len(key) == 32 for key in keys)


@pytest.mark.skipif(os.name == "nt", reason="POSIX permissions")
def test_a_key_file_that_others_may_read_is_refused(tmp_path: Path) -> None:
    KeyStore.open(tmp_path)
    (tmp_path / "master.key").chmod(0o644)
    with pytest.raises(EnvironmentFault) as caught:
        KeyStore.open(tmp_path)
    assert caught.value.code == "keys.file_open_to_others"


@pytest.mark.parametrize("content", [b"", b"not base64 at all", b"c2hvcnQ="])
def test_a_damaged_key_file_is_refused(tmp_path: Path, content: bytes) -> None:
    KeyStore.open(tmp_path)
    (tmp_path / "master.key").write_bytes(content)
    with pytest.raises(EnvironmentFault) as caught:
        KeyStore.open(tmp_path)
    assert caught.value.code == "keys.damaged"


def test_a_passphrase_wraps_the_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PASSPHRASE_VARIABLE, "correct horse")
    store = KeyStore.open(tmp_path)
    assert (store.source, store.notice) == ("passphrase", "")
    assert not (tmp_path / "master.key").exists()
    assert KeyStore.open(tmp_path).derive("db") == store.derive("db")
    monkeypatch.setenv(PASSPHRASE_VARIABLE, "wrong horse")
    with pytest.raises(EnvironmentFault) as caught:
        KeyStore.open(tmp_path)
    assert caught.value.code == "keys.passphrase_wrong"
    monkeypatch.delenv(PASSPHRASE_VARIABLE)
    with pytest.raises(EnvironmentFault) as caught:
        KeyStore.open(tmp_path)
    assert caught.value.code == "keys.passphrase_missing"


def test_a_keyring_comes_first_and_no_key_touches_the_disk(
    tmp_path: Path, memory_keyring: MemoryKeyring, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(PASSPHRASE_VARIABLE, "unused")
    store = KeyStore.open(tmp_path)
    assert store.source == "keyring"
    assert len(memory_keyring.entries) == 1
    (secret,) = memory_keyring.entries.values()
    assert not any(secret.encode() in p.read_bytes() for p in tmp_path.rglob("*") if p.is_file())
    assert store.remember("audit-head", "seen")
    assert KeyStore.open(tmp_path).recall("audit-head") == "seen"
    memory_keyring.entries.clear()
    with pytest.raises(EnvironmentFault) as caught:
        KeyStore.open(tmp_path)
    assert caught.value.code == "keys.keyring_entry_missing"


def test_a_keyring_that_appears_later_does_not_lock_the_reader_out(
    tmp_path: Path, memory_keyring: MemoryKeyring
) -> None:
    keyring.set_keyring(keyring.backends.null.Keyring())
    key = KeyStore.open(tmp_path).derive("db")
    keyring.set_keyring(memory_keyring)
    assert KeyStore.open(tmp_path).derive("db") == key


@pytest.mark.parametrize("module", ["null", "fail"])
def test_keyrings_that_keep_nothing_count_as_absent(module: str) -> None:
    before = keyring.get_keyring()
    keyring.set_keyring(getattr(keyring.backends, module).Keyring())
    try:
        assert not keyring_port.is_available()
    finally:
        keyring.set_keyring(before)


def test_a_keyring_in_plain_text_counts_as_absent() -> None:
    class PlaintextKeyring(MemoryKeyring):
        pass

    before = keyring.get_keyring()
    keyring.set_keyring(PlaintextKeyring())
    try:
        assert not keyring_port.is_available()
    finally:
        keyring.set_keyring(before)


def test_the_key_store_never_shows_its_key(tmp_path: Path) -> None:
    assert repr(KeyStore(b"k" * 32, "file")) == "KeyStore(source='file')"
