"""The web process is light and careful at its start."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from core.server.__main__ import is_loopback, main

HEAVY = ("torch", "onnxruntime", "monai", "captum", "ray", "core.compute")


def test_the_web_process_never_loads_torch() -> None:
    code = (
        "import sys, core.server.__main__, core.server.app, core.server.ray_serve\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", True),
        ("127.8.8.8", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("pc", False),
    ],
)
def test_only_this_machine_reaches_a_loopback(host: str, expected: bool) -> None:
    assert is_loopback(host) is expected


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nothing-of-that-name"], "nothing-of-that-name"),
        (["mednist", "--tls-cert", "cert.pem"], "certificate and its key"),
        (["mednist", "--tls-cert", "no.pem", "--tls-key", "no.key"], "does not exist"),
        (["mednist", "--devices", "tpu"], "tpu"),
        (["mednist", "--devices", "cpu:1"], "cpu:1"),
    ],
)
def test_what_cannot_be_served_is_told_with_a_remedy(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 1
    told = capsys.readouterr().err
    assert said in told
    assert "Traceback" not in told


def test_a_port_in_use_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        assert main(["mednist", "--port", str(taken.getsockname()[1])]) == 1
    assert "can't be opened" in capsys.readouterr().err


def test_the_command_hands_over_its_options(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "core.cli.main",
        "serve",
        "no-such-model",
        "--json",
        "--home",
        str(tmp_path),
    ]
    done = subprocess.run(command, capture_output=True, text=True, env=dict(os.environ), check=False)
    assert done.returncode == 1
    assert '"model.unknown"' in done.stdout
    assert (tmp_path / "temp").is_dir()
