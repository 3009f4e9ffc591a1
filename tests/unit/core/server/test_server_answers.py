"""What the endpoints answer, over a predictor that answers at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from core.domain.errors import InputError
from core.jobs.served import BatchAnswer, Health, ModelInfo, Prediction, Refusal
from core.server.faults import body_of, busy
from core.server.item import Answer, Item
from core.server.limits import Limits
from tests.fakes.served_app import AUTHORIZED, PREDICTED, TOKEN, FakePredictor, app_over, ask, mednist, png


def error_of(answer: object) -> str:
    return Refusal.model_validate(answer).error.code


def test_health_needs_no_token_and_has_the_four_fields(tmp_path: Path) -> None:
    answer = ask(app_over(FakePredictor(), tmp_path), "GET", "/health", headers={})
    assert answer.status_code == 200
    assert answer.json() == {
        "status": "healthy",
        "model_loaded": True,
        "device": "cpu",
        "model_version": "v1.0.0",
    }


def test_health_is_503_while_the_model_is_loaded(tmp_path: Path) -> None:
    answer = ask(app_over(FakePredictor(ready=0), tmp_path), "GET", "/health", headers={})
    assert answer.status_code == 503
    assert Health.model_validate(answer.json()).status == "loading"


def test_a_prediction_has_the_five_fields(tmp_path: Path) -> None:
    predictor = FakePredictor()
    answer = ask(app_over(predictor, tmp_path), "POST", "/predict", files={"file": ("x", png())})
    assert answer.status_code == 200
    assert answer.json() == PREDICTED
    assert set(PREDICTED) <= set(Prediction.model_fields)
    assert predictor.items[0].uploads[0].content() == png()


def test_options_of_the_form_reach_the_model(tmp_path: Path) -> None:
    predictor = FakePredictor()
    data = {"return_features": "true", "return_label_map": "1"}
    ask(app_over(predictor, tmp_path), "POST", "/predict", files={"file": ("x", png())}, data=data)
    assert predictor.items[0].features
    assert predictor.items[0].label_map


def test_a_batch_has_an_entry_per_file_in_order_and_errors_in_place(tmp_path: Path) -> None:
    async def answer(item: Item) -> Answer:
        await asyncio.sleep(0.02 if item.uploads[0].content() == png(1) else 0)
        value = "A" if item.uploads[0].content() == png(1) else "B"
        return Answer(200, f'{{"prediction": "{value}"}}'.encode())

    files = [("files", ("a", png(1))), ("files", ("b", b"no image")), ("files", ("c", png(2)))]
    found = ask(app_over(FakePredictor(answer), tmp_path), "POST", "/predict/batch", files=files).json()
    assert found["predictions"][0]["prediction"] == "A"
    assert error_of(found["predictions"][1]) == "upload.kind"
    assert found["predictions"][2]["prediction"] == "B"
    assert found["model_version"] == "v1.0.0"
    assert found["total_inference_time_ms"] >= 20
    assert set(found) == set(BatchAnswer.model_fields)


def test_a_refused_image_of_a_batch_carries_the_models_reason(tmp_path: Path) -> None:
    async def answer(item: Item) -> Answer:
        return Answer(422, body_of(InputError("image.damaged", "Damaged.", "Send it again.")))

    found = ask(app_over(FakePredictor(answer), tmp_path), "POST", "/predict/batch", files={"files": png()})
    assert found.status_code == 200
    assert error_of(found.json()["predictions"][0]) == "image.damaged"


def test_a_batch_for_which_there_is_no_room_is_told_to_come_back(tmp_path: Path) -> None:
    async def answer(item: Item) -> Answer:
        raise busy("server.queue_full", "No room.", 3)

    found = ask(app_over(FakePredictor(answer), tmp_path), "POST", "/predict/batch", files={"files": png()})
    assert found.status_code == 503
    assert found.headers["retry-after"] == "3"


def test_the_model_says_what_it_is(tmp_path: Path) -> None:
    answer = ask(app_over(FakePredictor(), tmp_path), "GET", "/model/info")
    info, bundle = ModelInfo.model_validate(answer.json()), mednist()
    assert (info.id, info.version, info.task) == ("mednist", "1.0.0", "classification")
    assert [label.name for label in info.labels] == [label.name for label in bundle.manifest.labels]
    assert info.sha256 == bundle.identity.sha256
    assert info.licence == bundle.manifest.licence
    assert info.card == bundle.card
    assert info.verified is (bundle.verification == "signed")


def test_metrics_count_requests_images_and_batches(tmp_path: Path) -> None:
    app = app_over(FakePredictor(), tmp_path)
    ask(app, "POST", "/predict", files={"file": png()})
    ask(app, "GET", "/nothing?patient=ZZCANARY")
    page = ask(app, "GET", "/metrics").text
    assert 'overread_requests_total{method="POST",route="/predict",status="200"} 1.0' in page
    assert 'overread_requests_total{method="GET",route="other",status="404"} 1.0' in page
    assert "overread_batch_size_sum 2.0" in page
    assert 'overread_request_seconds_count{route="/predict"} 1.0' in page
    assert "overread_queue_depth 0.0" in page
    assert "overread_model_restarts 0.0" in page
    assert "ZZCANARY" not in page


@pytest.mark.parametrize(
    "path", ["/predict", "/predict/batch", "/model/info", "/metrics", "/nothing", "/docs"]
)
@pytest.mark.parametrize(
    "given", [None, "Bearer wrong", f"Basic {TOKEN}", TOKEN, f"Bearer {TOKEN}x", "Bearer "]
)
def test_everything_but_health_needs_the_token(path: str, given: str | None, tmp_path: Path) -> None:
    headers = {} if given is None else {"authorization": given}
    answer = ask(app_over(FakePredictor(), tmp_path), "GET", path, headers=headers)
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == "Bearer"
    assert error_of(answer.json()) == "request.token"


def test_a_stranger_who_keeps_guessing_has_to_wait(tmp_path: Path) -> None:
    app = app_over(FakePredictor(), tmp_path, limits=Limits(refused_per_s=0.1))
    statuses = [ask(app, "GET", "/metrics", headers={}).status_code for _ in range(12)]
    assert statuses[:10] == [401] * 10
    assert statuses[10:] == [429, 429]
    assert ask(app, "GET", "/metrics").status_code == 200


def test_a_token_that_asks_too_often_has_to_wait(tmp_path: Path) -> None:
    app = app_over(FakePredictor(), tmp_path, limits=Limits(rate_per_s=0.5, burst=2))
    answers = [ask(app, "GET", "/model/info") for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert answers[2].headers["retry-after"] == "2"


@pytest.mark.parametrize("host", ["evil.example", "testserver.evil.example", "", "testserver@evil", "[::1]"])
def test_a_foreign_host_is_refused(host: str, tmp_path: Path) -> None:
    headers = {**AUTHORIZED, "host": host}
    answer = ask(app_over(FakePredictor(), tmp_path), "GET", "/health", headers=headers)
    assert answer.status_code == 400
    assert error_of(answer.json()) == "request.host"


def test_a_known_host_may_name_its_port(tmp_path: Path) -> None:
    app = app_over(FakePredictor(), tmp_path, hosts=["[::1]", "scanner"])
    for host in ("[::1]:8000", "Scanner:1"):
        assert ask(app, "GET", "/health", headers={"host": host}).status_code == 200


@pytest.mark.parametrize("path", ["/docs", "/openapi.json", "/redoc"])
def test_the_documentation_is_off_by_default(path: str, tmp_path: Path) -> None:
    assert ask(app_over(FakePredictor(), tmp_path), "GET", path).status_code == 404


def test_the_documentation_can_be_turned_on(tmp_path: Path) -> None:
    app = app_over(FakePredictor(), tmp_path, docs=True)
    schema = ask(app, "GET", "/openapi.json", headers={}).json()
    assert set(schema["paths"]) == {"/health", "/predict", "/predict/batch", "/model/info", "/metrics"}
    assert schema["paths"]["/predict"]["post"]["security"] == [{"token": []}]
    assert ask(app, "GET", "/docs", headers={}).status_code == 200


def test_every_answer_has_the_security_headers(tmp_path: Path) -> None:
    for path in ("/health", "/nothing"):
        headers = ask(app_over(FakePredictor(), tmp_path), "GET", path).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["cache-control"] == "no-store"
        assert "default-src 'none'" in headers["content-security-policy"]


def test_an_announced_body_beyond_the_limit_is_refused_unread(tmp_path: Path) -> None:
    read = []

    async def body() -> AsyncIterator[bytes]:
        read.append(1)
        yield b"x"

    app = app_over(FakePredictor(), tmp_path, limits=Limits(upload_bytes=1000))
    headers = {**AUTHORIZED, "content-length": "1001", "content-type": "multipart/form-data; boundary=b"}
    answer = ask(app, "POST", "/predict", headers=headers, content=body())
    assert answer.status_code == 413
    assert not read


def test_a_streamed_body_beyond_the_limit_is_refused_on_the_way(tmp_path: Path) -> None:
    sent = []

    async def body() -> AsyncIterator[bytes]:
        yield b'--b\r\ncontent-disposition: form-data; name="file"; filename="a"\r\n\r\n'
        for _ in range(100):
            sent.append(1)
            yield bytes(1000)

    app = app_over(FakePredictor(), tmp_path, limits=Limits(upload_bytes=5000))
    headers = {**AUTHORIZED, "content-type": "multipart/form-data; boundary=b"}
    answer = ask(app, "POST", "/predict", headers=headers, content=body())
    assert answer.status_code == 413
    assert error_of(answer.json()) == "upload.too_large"
    assert len(sent) < 10
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("value", ["-1", "abc", "1e3", "0x10"])
def test_a_content_length_that_is_no_number_is_refused(value: str, tmp_path: Path) -> None:
    headers = {**AUTHORIZED, "content-length": value}
    assert ask(app_over(FakePredictor(), tmp_path), "POST", "/predict", headers=headers).status_code == 400


def test_large_headers_are_refused(tmp_path: Path) -> None:
    headers = {**AUTHORIZED, "x-more": "y" * 20_000}
    answer = ask(app_over(FakePredictor(), tmp_path), "GET", "/health", headers=headers)
    assert answer.status_code == 431


def test_no_more_requests_at_a_time_than_allowed(tmp_path: Path) -> None:
    import httpx

    async def run() -> list[int]:
        release = asyncio.Event()

        async def answer(item: Item) -> Answer:
            await release.wait()
            return Answer(200, b"{}")

        app = app_over(FakePredictor(answer), tmp_path, limits=Limits(concurrent=2))
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(
            transport=transport, base_url="http://testserver", headers=AUTHORIZED
        ) as client:
            waiting = [asyncio.create_task(client.post("/predict", files={"file": png()})) for _ in range(2)]
            await asyncio.sleep(0.05)
            third = await client.post("/predict", files={"file": png()})
            release.set()
            return [third.status_code, *(one.status_code for one in await asyncio.gather(*waiting))]

    assert asyncio.run(run()) == [503, 200, 200]


@pytest.mark.parametrize(
    ("form", "code"),
    [
        ({"data": {"file": "text"}, "files": {"other": png()}}, "upload.field_name"),
        ({"files": {"other": png()}}, "upload.field_name"),
        ({"files": [("file", png()), ("file", png())]}, "upload.several"),
        ({"files": {"file": png()}, "data": {"return_features": "perhaps"}}, "upload.flag"),
        ({"files": {"file": png()}, "data": {"report": "No pneumonia."}}, "serve.text"),
    ],
)
def test_a_form_with_the_wrong_fields_is_refused(form: dict[str, object], code: str, tmp_path: Path) -> None:
    answer = ask(app_over(FakePredictor(), tmp_path), "POST", "/predict", **form)
    assert answer.status_code == 422
    assert error_of(answer.json()) == code


@pytest.mark.expects_logs
def test_an_unexpected_error_is_told_by_its_place_only(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def answer(item: Item) -> Answer:
        raise RuntimeError("ZZCANARY")

    found = ask(app_over(FakePredictor(answer), tmp_path), "POST", "/predict", files={"file": png()})
    assert found.status_code == 500
    assert "ZZCANARY" not in found.text
    assert "ZZCANARY" not in caplog.text
    assert "RuntimeError" in caplog.text
    caplog.clear()
