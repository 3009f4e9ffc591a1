"""A model server as the client meets it: checked addresses, bounded answers, refusals in words."""

from __future__ import annotations

import ipaddress
import json
import ssl
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from core.domain.errors import AppError, EnvironmentFault, InputError, SafetyError
from core.domain.progress import Cancelled, CancelToken
from core.jobs.server_address import check_reachable, checked_address, model_in_words, server_of
from core.jobs.server_client import Patience, Question, ServerClient
from tests.fakes.recording_server import Recorded, Reply, serving

TOKEN = "t" * 40
PREDICTED = {
    "prediction": None,
    "confidence": None,
    "probabilities": {},
    "inference_time_ms": 4.5,
    "model_version": "v1.0.0",
}
HEALTH = {"status": "healthy", "model_loaded": True, "device": "cpu", "model_version": "v1.0.0"}
HASTE = Patience(connect_s=1.0, short_s=1.0, stall_s=1.0, answer_s=1.0, busy_s=0.0)


def client(server: Recorded, patience: Patience = HASTE) -> ServerClient:
    """Return a client of a server on loopback."""
    return ServerClient(checked_address("desk", server.url, TOKEN), patience)


def refusal_of(status: int, body: bytes = b"", headers: dict[str, str] | None = None) -> AppError:
    """Return the error that an answer to a prediction becomes."""
    with serving(lambda *_: Reply(status, body, headers or {})) as server, pytest.raises(AppError) as refused:
        client(server).predict(Question({"file": b"image"}))
    return refused.value


@pytest.mark.parametrize(
    "url",
    [
        "",
        "reading-room:8000",
        "ftp://h",
        "https://",
        "https://a b",
        "https://u:p@h",
        "https://h/path",
        "https://h?x",
        "https://h:99999",
    ],
)
def test_what_is_no_address_of_a_server_is_refused(url: str) -> None:
    with pytest.raises(InputError) as refused:
        checked_address("desk", url, TOKEN)
    assert refused.value.code == "engine.url" and "https://" in refused.value.remedy


@pytest.mark.parametrize(
    "host",
    [
        "169.254.169.254", "[fe80::1]", "0.0.0.0", "[::]", "224.0.0.1", "240.0.0.1", "100.100.100.200",
        "[fd00:ec2::254]", "[::ffff:169.254.169.254]", "169.254.0.7",
    ],
)  # fmt: skip
def test_link_local_metadata_and_senseless_addresses_are_never_spoken_to(host: str) -> None:
    with pytest.raises(SafetyError) as refused:
        checked_address("desk", f"https://{host}:8000", TOKEN, allow_plain=True)
    assert refused.value.code == "engine.forbidden_address"


def test_a_name_that_leads_to_such_an_address_is_refused_too(monkeypatch: pytest.MonkeyPatch) -> None:
    address = checked_address("desk", "https://model.example:8000", TOKEN)
    good, bad = ipaddress.ip_address("10.1.2.3"), ipaddress.ip_address("169.254.169.254")
    check_reachable(address, [good])
    with pytest.raises(SafetyError):
        check_reachable(address, [good, bad])

    async def resolved(*_: object, **__: object) -> list[tuple[object, ...]]:
        return [(2, 1, 6, "", ("169.254.169.254", 8000))]

    monkeypatch.setattr("asyncio.base_events.BaseEventLoop.getaddrinfo", resolved)
    with pytest.raises(SafetyError) as refused:
        ServerClient(address, HASTE).health()
    assert refused.value.code == "engine.forbidden_address"


def test_pictures_travel_unencrypted_within_this_computer_only() -> None:
    for url in ("http://127.0.0.1:1", "http://localhost:1", "http://[::1]:1", "https://10.0.0.5"):
        checked_address("desk", url, TOKEN)
    for url in ("http://10.0.0.5", "http://model.example"):
        with pytest.raises(SafetyError) as refused:
            checked_address("desk", url, TOKEN)
        assert refused.value.code == "engine.plain"
        checked_address("desk", url, TOKEN, allow_plain=True)
    localhost = checked_address("desk", "http://localhost:1", TOKEN)
    with pytest.raises(SafetyError):
        check_reachable(localhost, [ipaddress.ip_address("10.0.0.5")])


def test_names_and_tokens_are_plain_and_the_token_stands_in_no_text() -> None:
    for name in ("", "a/b", "é", "x" * 41, "../x"):
        with pytest.raises(InputError):
            checked_address(name, "https://h", TOKEN)
    for token in ("short", "x" * 20 + "\n", "x" * 600):
        with pytest.raises(InputError) as refused:
            checked_address("desk", "https://h", token)
        assert token not in str(refused.value)
    assert TOKEN not in repr(checked_address("desk", "https://h", TOKEN))
    assert server_of("server:reading room/mednist") == "reading room" and server_of("mednist") == ""
    assert model_in_words("server:reading room/mednist") == "reading room · mednist"


def test_the_form_holds_the_image_under_a_neutral_name_and_the_token_in_its_header() -> None:
    shares: list[float] = []
    with serving(lambda *_: Reply(body=json.dumps(PREDICTED).encode())) as server:
        answer = client(server).predict(
            Question({"file": b"voxels" * 40_000}, "a report"), sent=shares.append
        )
    sent = server.everything
    assert answer.model_version == "v1.0.0"
    assert sent.startswith(b"POST /predict ") and f"Bearer {TOKEN}".encode() in sent
    assert b'name="file"; filename="image.nii.gz"' in sent and b"voxels" * 40_000 in sent
    assert b'name="return_label_map"' in sent and b"a report" in sent
    assert shares == sorted(shares) and shares[-1] == 1.0 and len(shares) > 2


@pytest.mark.parametrize(
    ("status", "code", "remedy"),
    [
        (401, "engine.token_refused", "token"),
        (413, "engine.too_large", "--max-upload-mb"),
        (429, "engine.busy", "in a minute"),
        (503, "engine.busy", "this computer"),
        (500, "engine.failed", "this computer"),
        (404, "engine.answer", "address"),
    ],
)
def test_each_refusal_of_a_server_is_said_with_a_remedy(status: int, code: str, remedy: str) -> None:
    error = refusal_of(status, b"<html>proxy</html>")
    assert error.code == code and remedy in error.remedy and "html" not in error.user_message


def test_the_words_of_a_server_are_passed_on_when_they_are_plain() -> None:
    told = {
        "error": {
            "code": "run.kind",
            "message": "It takes single images.\x1b[31m\n" + "x" * 500,
            "remedy": "Choose.",
        }
    }
    error = refusal_of(422, json.dumps(told).encode())
    assert error.code == "engine.refused.run.kind" and error.remedy == "Choose."
    assert "It takes single images." in error.user_message and "\x1b" not in error.user_message
    assert len(error.user_message) < 400


def test_no_redirect_is_followed() -> None:
    with serving(lambda *_: Reply(body=json.dumps(HEALTH).encode())) as elsewhere:
        for status in (301, 302, 307, 308):
            error = refusal_of(status, headers={"location": f"{elsewhere.url}/predict"})
            assert error.code == "engine.redirect"
    assert elsewhere.requests == []


def test_an_answer_is_bounded_and_must_be_what_was_asked_for() -> None:
    with serving(lambda *_: Reply(body=b" " * 3_000_000)) as server:
        with pytest.raises(SafetyError) as refused:
            client(server).health()
        assert refused.value.code == "engine.answer_too_large"
        with pytest.raises(SafetyError):
            client(server).predict(Question({"file": b"x"}, answer_bytes=1_000_000))
    for body in (b"", b"[]", b"nonsense", b'{"status":"well"}', b"\xff\xfe", b"[" * 100_000):
        with (
            serving(lambda *_, body=body: Reply(body=body)) as server,
            pytest.raises(EnvironmentFault) as fault,
        ):
            client(server).health()
        assert fault.value.code == "engine.answer"
    packed = Reply(body=b"\x1f\x8b", headers={"content-encoding": "gzip"})
    with serving(lambda *_: packed) as server, pytest.raises(EnvironmentFault):
        client(server).health()


def test_a_server_that_is_away_silent_or_gone_in_the_middle_is_told_apart() -> None:
    with serving(lambda *_: Reply()) as gone:
        pass
    with pytest.raises(EnvironmentFault) as refused:
        client(gone).health()
    assert refused.value.code == "engine.unreachable"
    with (
        serving(lambda *_: Reply(body=b"{", announced=900)) as server,
        pytest.raises(EnvironmentFault) as refused,
    ):
        client(server).health()
    assert refused.value.code == "engine.broken_off"
    leave = threading.Event()

    def silent(*_: object) -> Reply:
        leave.wait(10)
        return Reply()

    with serving(silent) as server:
        with pytest.raises(EnvironmentFault) as refused:
            client(server, Patience(short_s=0.2)).health()
        leave.set()
    assert refused.value.code == "engine.timeout"


def test_a_server_that_loads_its_model_is_healthy_soon() -> None:
    loading = HEALTH | {"status": "loading", "model_loaded": False}
    with serving(lambda *_: Reply(503, json.dumps(loading).encode())) as server:
        assert client(server).health().status == "loading"


def test_a_busy_server_is_asked_again_for_a_while() -> None:
    left = [
        Reply(503, headers={"retry-after": "0.1"}),
        Reply(429),
        Reply(body=json.dumps(PREDICTED).encode()),
    ]
    with serving(lambda *_: left.pop(0)) as server:
        patience = Patience(busy_s=20.0, again_s=0.1)
        assert client(server, patience).predict(Question({"file": b"x"})).model_version == "v1.0.0"
    assert len(server.requests) == 3 and all(b"x" in request for request in server.requests)


def test_cancelling_ends_the_connection_at_once() -> None:
    asked, leave, token = threading.Event(), threading.Event(), CancelToken()

    def slow(*_: object) -> Reply:
        asked.set()
        leave.wait(20)
        return Reply(body=json.dumps(PREDICTED).encode())

    def cancel() -> None:
        asked.wait(20)
        token.cancel()

    canceller = threading.Thread(target=cancel)
    with serving(slow) as server:
        canceller.start()
        with pytest.raises(Cancelled):
            client(server, Patience()).predict(Question({"file": b"x"}), token)
        assert not leave.is_set(), "the client waited for the answer"
        leave.set()
        canceller.join()


def test_a_ca_file_that_holds_no_certificate_is_named(tmp_path: Path) -> None:
    (tmp_path / "empty.pem").write_text("nothing")
    for name in ("missing.pem", "empty.pem"):
        address = checked_address("desk", "https://127.0.0.1:9", TOKEN, ca_file=str(tmp_path / name))
        with pytest.raises(InputError) as refused:
            ServerClient(address, HASTE).health()
        assert refused.value.code == "engine.ca_file"


def test_a_certificate_must_be_vouched_for_and_be_that_of_the_name(tmp_path: Path) -> None:
    ca, context = own_authority(tmp_path)
    with serving(lambda *_: Reply(body=json.dumps(HEALTH).encode()), context) as server:
        port = server.url.rpartition(":")[2]
        for host, ca_file, refused in (
            ("localhost", str(ca), False),
            ("localhost", None, True),
            ("127.0.0.1", str(ca), True),
        ):
            one = ServerClient(
                checked_address("desk", f"https://{host}:{port}", TOKEN, ca_file=ca_file), HASTE
            )
            if not refused:
                assert one.health().device == "cpu"
                continue
            with pytest.raises(SafetyError) as error:
                one.health()
            assert error.value.code == "engine.certificate"
        assert len(server.requests) == 1, "a request left before the certificate was checked"
        with pytest.raises(EnvironmentFault) as fault:
            ServerClient(checked_address("desk", f"http://localhost:{port}", TOKEN), HASTE).health()
        assert fault.value.code == "engine.broken_off"
    with serving(lambda *_: Reply()) as plain, pytest.raises(EnvironmentFault) as fault:
        ServerClient(checked_address("desk", plain.url.replace("http:", "https:"), TOKEN), HASTE).health()
    assert fault.value.code == "engine.tls"


def own_authority(folder: Path) -> tuple[Path, ssl.SSLContext]:
    """Return a self-signed certificate for ``localhost``, and a server's context with it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    public, private = folder / "ca.pem", folder / "key.pem"
    public.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    private.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(public, private)
    return public, context
