"""A real server with a real model process: thirty abuses, a killed model, no trace of a patient."""

from __future__ import annotations

import gzip
import http.client
import io
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
import pytest
from pydicom import dcmread

from core.jobs.served import Prediction
from tests.fakes.dicom_files import write_stack
from tests.fakes.served_app import png

SERVE = (sys.executable, "-m", "core.cli.main", "serve", "mednist")
MARKS = (b"ZZCANARY", b"PID-ZZ-4711")
MEGABYTE = 1 << 20


@dataclass(frozen=True)
class Server:
    """A running server: its port, token, home and process."""

    port: int
    token: str
    home: Path
    process: psutil.Process

    def raw(self, sent: bytes, *, timeout_s: float = 20.0, half_close: bool = False) -> bytes:
        """Send bytes as they are; everything that comes back until the other side closes or is silent."""
        answer = b""
        with socket.create_connection(("127.0.0.1", self.port), timeout=timeout_s) as connection:
            try:
                connection.sendall(sent)
                if half_close:
                    connection.shutdown(socket.SHUT_WR)
                while piece := connection.recv(65536):
                    answer += piece
                    if whole(answer):
                        break
            except (TimeoutError, ConnectionError):
                pass
        return answer

    def ask(
        self, path: str, body: bytes = b"", content_type: str = "", method: str = "", **headers: str
    ) -> tuple[int, bytes]:
        """Send a request with the token unless headers say otherwise."""
        given = {"Authorization": f"Bearer {self.token}"} | {
            name.replace("_", "-"): value for name, value in headers.items()
        }
        if content_type:
            given["Content-Type"] = content_type
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request(method or ("POST" if body else "GET"), path, body or None, given)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def predict(self, data: bytes, name: str = "x.png", path: str = "/predict") -> tuple[int, bytes]:
        """Send one file."""
        body, kind = form(("file" if path == "/predict" else "files", name, data))
        return self.ask(path, body, kind)

    def model(self) -> psutil.Process:
        """Return the model process."""
        return next(
            child
            for child in self.process.children()
            if "core.server.model_process" in " ".join(child.cmdline())
        )

    def resident_mb(self) -> float:
        """Return the resident memory of the whole tree."""
        family = [self.process, *self.process.children(recursive=True)]
        return sum(one.memory_info().rss for one in family) / MEGABYTE


def whole(answer: bytes) -> bool:
    """Whether an HTTP answer has arrived whole."""
    head, separator, rest = answer.partition(b"\r\n\r\n")
    if not separator:
        return False
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return len(rest) >= int(line.split(b":")[1])
    return False


def form(*parts: tuple[str, str | None, bytes]) -> tuple[bytes, str]:
    """Return a multipart body of (field, file name, content) and its type."""
    pieces = []
    for field, name, content in parts:
        file = f'; filename="{name}"' if name is not None else ""
        pieces.append(
            f'--b\r\nContent-Disposition: form-data; name="{field}"{file}\r\n\r\n'.encode() + content
        )
    return b"\r\n".join([*pieces, b"--b--\r\n"]), "multipart/form-data; boundary=b"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    home = tmp_path_factory.mktemp("served")
    environment = os.environ | {"OVERREAD_HOME": str(home), "TMPDIR": str(home), "OMP_NUM_THREADS": "1"}
    arguments = [*SERVE, "--port", "0", "--json", "--max-upload-mb", "8", "--rate-limit", "0"]
    process = subprocess.Popen(
        arguments, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        told = json.loads(process.stdout.readline())
        token = Path(told["token_file"]).read_text().strip()
        one = Server(int(told["url"].rpartition(":")[2]), token, home, psutil.Process(process.pid))
        assert one.predict(png())[0] == 200
        yield one
    finally:
        process.send_signal(signal.SIGTERM)
        _, stderr = process.communicate(timeout=30)
    assert stderr.count(token) == 1
    assert "Traceback" not in stderr
    assert not list((home / "temp").iterdir())
    assert not [one for one in psutil.process_iter(["ppid"]) if one.info["ppid"] == process.pid]


def bomb_png() -> bytes:
    """Return a PNG of 60 000 × 60 000 pixels in some kB."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    head = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + chunk(b"IDAT", zlib.compress(bytes(10 * MEGABYTE)))
        + chunk(b"IEND", b"")
    )


def bomb_zip() -> bytes:
    """Return an archive of 300 MB of zeros."""
    with io.BytesIO() as stream:
        with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
            for number in range(3):
                archive.writestr(f"{number}.dcm", bytes(100 * MEGABYTE))
        return stream.getvalue()


def bomb_nifti() -> bytes:
    """Return a packed NIfTI header of 700³ voxels with almost nothing behind it."""
    header = bytearray(352)
    struct.pack_into("<i", header, 0, 348)
    struct.pack_into("<8h", header, 40, 3, 700, 700, 700, 1, 1, 1, 1)
    struct.pack_into("<hh", header, 70, 4, 16)
    struct.pack_into("<8f", header, 76, 1, 1, 1, 1, 1, 1, 1, 1)
    struct.pack_into("<f", header, 108, 352)
    header[344:348] = b"n+1\0"
    return gzip.compress(bytes(header) + bytes(5 * MEGABYTE))


def post(server: Server, rest: str, body: bytes = b"", authorized: bool = True) -> bytes:
    """Return a raw POST to /predict."""
    token = f"Authorization: Bearer {server.token}\r\n" if authorized else ""
    return f"POST /predict HTTP/1.1\r\nHost: localhost\r\n{token}{rest}\r\n\r\n".encode("latin-1") + body


def chunked(server: Server, count: int) -> bytes:
    """Return the start of a chunked body of ``count`` megabytes."""
    piece = b"100000\r\n" + bytes(MEGABYTE) + b"\r\n"
    kind = "Transfer-Encoding: chunked\r\nContent-Type: multipart/form-data; boundary=b"
    start = b'--b\r\ncontent-disposition: form-data; name="file"; filename="x"\r\n\r\n'
    return post(server, kind, f"{len(start):x}\r\n".encode() + start + b"\r\n" + piece * count)


def get(server: Server, path: str, host: str = "localhost", extra: str = "") -> bytes:
    """Return a raw GET."""
    head = f"GET {path} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {server.token}\r\n{extra}\r\n"
    return head.encode("latin-1")


def statuses(answer: bytes) -> list[int]:
    """Return the statuses in a raw answer; 0 for a connection that was closed without one."""
    found = [int(line[9:12]) for line in answer.split(b"\r\n") if line.startswith(b"HTTP/1.1 ")]
    return found or [0]


def sent(server: Server, raw: bytes, **options: object) -> int:
    return statuses(server.raw(raw, **options))[0]  # type: ignore[arg-type]


def slow(server: Server) -> int:
    """Send a header byte by byte for as long as the other side listens."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=0.5) as connection:
        for byte in b"GET /health HTTP/1.1\r\nX-Slow: " + b"y" * 60:
            try:
                connection.sendall(bytes([byte]))
                if answer := connection.recv(1000):
                    return statuses(answer)[0]
                return 0
            except TimeoutError:
                continue
            except ConnectionError:
                return 0
    return 200


LARGE = "Content-Type: multipart/form-data; boundary=b\r\nContent-Length: "
FORM = "Content-Type: multipart/form-data; boundary=b"
ABUSES: dict[str, tuple[Callable[[Server], int], set[int]]] = {
    "no token": (lambda s: s.ask("/predict", *form(("file", "x", png())), Authorization="")[0], {401}),
    "a wrong token": (lambda s: s.ask("/metrics", Authorization="Bearer " + "x" * 43)[0], {401}),
    "the wrong scheme": (lambda s: s.ask("/model/info", Authorization=f"Basic {s.token}")[0], {401}),
    "a token in the query": (lambda s: s.ask(f"/metrics?token={s.token}", Authorization="")[0], {401}),
    "two tokens": (
        lambda s: sent(s, get(s, "/metrics", extra=f"Authorization: Bearer {s.token}\r\n")),
        {401},
    ),
    "300 MB announced": (lambda s: sent(s, post(s, LARGE + str(300 * MEGABYTE))), {413}),
    "a body of 300 MB": (lambda s: sent(s, post(s, LARGE + str(300 * MEGABYTE), bytes(40 * MEGABYTE))), {413, 0}),
    "chunks beyond the limit": (lambda s: sent(s, chunked(s, 20)), {413, 0}),
    "a length that is no number": (lambda s: sent(s, post(s, LARGE + "-5", b"xxxxx")), {400}),
    "a length of 10^30": (lambda s: sent(s, post(s, LARGE + "1" + "0" * 30)), {400, 413}),
    "two lengths": (lambda s: sent(s, post(s, LARGE + "5\r\nContent-Length: 6", b"xxxxxx")), {400}),
    "length and chunks": (
        lambda s: sent(s, post(s, LARGE + "5\r\nTransfer-Encoding: chunked", b"0\r\n\r\n")),
        {400, 413},
    ),
    "traversal in the path": (lambda s: sent(s, get(s, "/../../../../etc/passwd")), {404, 400}),
    "packed traversal": (lambda s: sent(s, get(s, "/%2e%2e/%2e%2e%2fetc/passwd")), {404, 400}),
    "traversal in the file name": (lambda s: s.predict(png(), "../../../../tmp/pwned")[0], {200}),
    "a foreign host": (lambda s: sent(s, get(s, "/health", "evil.example")), {400}),
    "no host": (lambda s: sent(s, b"GET /health HTTP/1.1\r\n\r\n"), {400}),
    "documentation": (lambda s: max(s.ask(path)[0] for path in ("/docs", "/redoc", "/openapi.json")), {404}),
    "no boundary": (lambda s: s.ask("/predict", b"x", "multipart/form-data")[0], {400}),
    "a wrong boundary": (
        lambda s: s.ask("/predict", form(("file", "x", png()))[0], "multipart/form-data; boundary=c")[0],
        {400},
    ),
    "a body cut off": (
        lambda s: sent(s, post(s, LARGE + "5000", form(("file", "x", png()))[0][:60]), half_close=True),
        {400, 0},
    ),
    "10 000 fields": (
        lambda s: s.ask("/predict", *form(*((f"f{n}", None, b"x") for n in range(10_000))))[0],
        {413},
    ),
    "10 000 files": (
        lambda s: s.ask("/predict/batch", *form(*(("files", "x", b"x") for _ in range(10_000))))[0],
        {413},
    ),
    "a field of 5 MB": (lambda s: s.ask("/predict", *form(("report", None, bytes(5 * MEGABYTE))))[0], {413}),
    "a zip bomb": (lambda s: s.predict(bomb_zip())[0], {413, 422}),
    "a PNG bomb": (lambda s: s.predict(bomb_png())[0], {413, 422}),
    "a NIfTI bomb": (lambda s: s.predict(bomb_nifti())[0], {413}),
    "an empty file": (lambda s: s.predict(b"")[0], {415}),
    "a program": (lambda s: s.predict(b"\x7fELF" + bytes(1000))[0], {415}),
    "an archive cut off": (lambda s: s.predict(bomb_zip()[:1000])[0], {422}),
    "JSON": (lambda s: s.ask("/predict", b'{"file": 1}', "application/json")[0], {415}),
    "null bytes in names": (lambda s: s.ask("/predict", *form(("fi\0le", "x\0.png", png())))[0], {422, 400}),
    "a null byte in the path": (lambda s: sent(s, get(s, "/health%00.html")), {404, 400}),
    "an injected header": (
        lambda s: s.predict(png(), 'x\r\nSet-Cookie: a=b\r\n\r\n<script>')[0],
        {200, 400, 415},
    ),
    "headers of 1 MB": (
        lambda s: sent(s, get(s, "/health", extra="X-Large: " + "y" * MEGABYTE + "\r\n")),
        {431, 400, 0},
    ),
    "a path of 50 kB": (lambda s: sent(s, get(s, "/" + "p" * 50_000)), {431, 400, 0}),
    "other methods": (
        lambda s: max(s.ask("/predict", method=m)[0] for m in ("GET", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE")),
        {405},
    ),
    "no HTTP": (lambda s: sent(s, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(100)), {400, 0}),
    "slow headers": (slow, {408, 0}),
}  # fmt: skip


@pytest.mark.slow
def test_abuse_is_refused_without_a_fault_and_without_growth(server: Server) -> None:
    before = server.resident_mb()
    highest, done = [before], threading.Event()

    def watch() -> None:
        while not done.wait(0.05):
            highest.append(server.resident_mb())

    watcher = threading.Thread(target=watch)
    watcher.start()
    with ThreadPoolExecutor(4) as pool:
        answers = {name: pool.submit(abuse, server) for name, (abuse, _) in ABUSES.items()}
        found = {name: answer.result() for name, answer in answers.items()}
    done.set()
    watcher.join()
    wrong = {name: (found[name], wanted) for name, (_, wanted) in ABUSES.items() if found[name] not in wanted}
    assert not wrong
    assert len(found) >= 30
    assert max(highest) - before <= 100, f"{before:.0f} MB grew to {max(highest):.0f} MB"
    assert server.predict(png())[0] == 200
    assert not Path("/tmp/pwned").exists()
    page = server.ask("/metrics")[1].decode()
    assert 'status="500"' not in page
    assert "overread_model_restarts 0.0" in page


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL is POSIX")
def test_after_the_model_is_killed_the_next_request_is_answered(server: Server) -> None:
    truth = Prediction.model_validate_json(server.predict(png())[1])
    first = server.model()
    with ThreadPoolExecutor(8) as pool:
        flood = [pool.submit(server.predict, png()) for _ in range(40)]
        first.send_signal(signal.SIGKILL)
        after = Prediction.model_validate_json(server.predict(png())[1])
        answered = [one.result()[0] for one in flood]
    assert after.probabilities == pytest.approx(truth.probabilities, abs=1e-6)
    assert set(answered) <= {200, 503}
    assert answered.count(200) >= 39
    assert server.model().pid != first.pid
    assert "overread_model_restarts 1.0" in server.ask("/metrics")[1].decode()


def test_nothing_of_a_patient_is_answered_logged_or_left(server: Server, tmp_path: Path) -> None:
    pixels = np.arange(64 * 64, dtype=np.int16).reshape(1, 64, 64) % 255
    names = {"PatientName": "ZZCANARY^PLANTED", "PatientID": "PID-ZZ-4711"}
    (file,) = write_stack(tmp_path, pixels, modality="MR", intercept=0.0, **names)
    good = file.read_bytes()
    assert MARKS[0] in good
    damaged = dcmread(file)
    damaged.PixelData = damaged.PixelData[:100]
    damaged.save_as(tmp_path / "damaged.dcm")
    answers = [
        server.predict(good, "ZZCANARY.dcm"),
        server.predict((tmp_path / "damaged.dcm").read_bytes(), "ZZCANARY.dcm"),
        server.predict(good[:600], "ZZCANARY.dcm"),
        server.predict(b"ZZCANARY" * 100, "ZZCANARY.png"),
        server.ask("/predict?patient=ZZCANARY", *form(("ZZCANARY", "ZZCANARY", good))),
        server.ask("/ZZCANARY"),
        server.ask("/metrics"),
    ]
    assert [status for status, _ in answers] == [200, 422, 422, 415, 422, 404, 200]
    time.sleep(0.2)
    for mark in MARKS:
        assert not [body for _, body in answers if mark in body]
        for path in server.home.rglob("*"):
            assert mark.decode() not in path.name
            if path.is_file():
                assert mark not in path.read_bytes(), path
