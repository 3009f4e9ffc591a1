"""Tokens, rates, micro-batches and frames."""

from __future__ import annotations

import stat
import sys
import threading
import time
from io import BytesIO
from pathlib import Path

import pytest

from core.domain.errors import BugError, InputError, SafetyError
from core.server.batching import Gathering
from core.server.frames import HEAD, pack, read_frame_blocking
from core.server.links import ModelSettings, thread_count
from core.server.rate import RateLimit
from core.server.tokens import Tokens, load_tokens


def test_a_token_is_made_once_for_its_owner_alone(tmp_path: Path) -> None:
    file = tmp_path / "server" / "token"
    tokens, made = load_tokens(file)
    assert made is not None
    assert len(made) >= 43  # 256 bits in base 64
    assert tokens.owner(f"Bearer {made}".encode()) == "token-0"
    if sys.platform != "win32":
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
    again, shown = load_tokens(file)
    assert shown is None
    assert again.owner(f"bearer {made}".encode()) == "token-0"


def test_each_line_of_a_token_file_is_a_token(tmp_path: Path) -> None:
    file = tmp_path / "tokens"
    file.write_text("a" * 32 + "\n" + "b" * 40 + "\n")
    file.chmod(0o600)
    tokens, _ = load_tokens(file)
    assert tokens.owner(b"Bearer " + b"b" * 40) == "token-1"
    assert tokens.owner(b"Bearer " + b"c" * 40) is None
    assert tokens.owner(b"Basic " + b"b" * 40) is None
    assert Tokens([]).owner(b"Bearer ") is None


@pytest.mark.parametrize("content", ["", "short", "a" * 32 + "\nshort", "ä" * 40, "with blanks " * 4])
def test_a_weak_token_is_refused(content: str, tmp_path: Path) -> None:
    file = tmp_path / "tokens"
    file.write_text(content, encoding="utf-8")
    file.chmod(0o600)
    with pytest.raises(InputError, match="32 characters"):
        load_tokens(file)


@pytest.mark.skipif(sys.platform == "win32", reason="modes are POSIX")
def test_a_token_file_that_others_may_read_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "tokens"
    file.write_text("a" * 32)
    file.chmod(0o640)
    with pytest.raises(SafetyError):
        load_tokens(file)


def test_a_rate_allows_a_burst_and_then_its_pace() -> None:
    now = [0.0]
    rate = RateLimit(2.0, 3, lambda: now[0])
    assert [rate.take("a") for _ in range(4)] == [0.0, 0.0, 0.0, 0.5]
    assert rate.take("b") == 0.0
    now[0] = 0.25
    assert rate.take("a") == pytest.approx(0.25)
    now[0] = 0.5
    assert rate.take("a") == 0.0
    now[0] = 100.0
    assert [rate.take("a") for _ in range(4)] == [0.0, 0.0, 0.0, 0.5]
    assert RateLimit(0, 1).take("a") == 0.0


def test_who_is_alone_is_answered_at_once_and_who_waits_is_answered_together() -> None:
    gathering: Gathering[int] = Gathering(3, 60.0)
    for number in range(5):
        gathering.announce()
        if number == 0:
            gathering.put(0)
            assert gathering.take() == [0]
        else:
            gathering.put(number)
    assert gathering.take() == [1, 2, 3]
    assert gathering.take() == [4]


def test_a_batch_waits_for_what_is_on_its_way_but_not_for_ever() -> None:
    gathering: Gathering[str] = Gathering(8, 0.3)
    gathering.announce()
    gathering.announce()
    gathering.put("first")
    threading.Timer(0.02, gathering.put, ("second",)).start()
    assert gathering.take() == ["first", "second"]
    gathering.announce()
    gathering.announce()
    gathering.put("alone")
    began = time.monotonic()
    assert gathering.take() == ["alone"]
    assert time.monotonic() - began >= 0.29


def test_a_closed_gathering_gives_what_it_has_and_then_nothing() -> None:
    gathering: Gathering[int] = Gathering(8, 0.0)
    gathering.announce()
    gathering.put(1)
    gathering.close()
    assert gathering.take() == [1]
    assert gathering.take() == []


def test_frames_come_out_as_they_went_in() -> None:
    stream = BytesIO(pack({"id": 1}, [b"ab", b"c"]) + pack({"ö": None}) + b"\0\0")
    assert read_frame_blocking(stream) == ({"id": 1}, b"abc")
    assert read_frame_blocking(stream) == ({"ö": None}, b"")
    assert read_frame_blocking(stream) is None
    assert read_frame_blocking(BytesIO(pack({"id": 1}, [b"abc"])[:-1])) is None


def test_a_frame_that_announces_too_much_is_refused() -> None:
    with pytest.raises(BugError):
        read_frame_blocking(BytesIO(HEAD.pack(1 << 31, 0)))


def test_each_process_sees_its_own_gpu(tmp_path: Path) -> None:
    settings = ModelSettings(tmp_path, tmp_path, ("cpu", "cuda:1"))
    assert settings.environment("cuda:1")["CUDA_VISIBLE_DEVICES"] == "1"
    command = settings.command("cuda:1")
    assert command[command.index("--device") + 1] == "cuda"
    assert thread_count(volumes=True, devices=1) >= thread_count(volumes=False, devices=1) >= 1
