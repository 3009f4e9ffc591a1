"""The application: S4's endpoints over a predictor."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import Response
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp

from core.bundles.bundle import Bundle
from core.config.version import app_version
from core.domain.errors import AppError, InputError
from core.jobs.served import BatchAnswer, Health, LabelInfo, MeasurementInfo, ModelInfo, Prediction, Refusal
from core.server.faults import UNPROCESSABLE, HttpFault, body_of, headers_of, refused, translated
from core.server.gate import Gate, GateSettings
from core.server.item import Answer, Item
from core.server.limits import Limits
from core.server.metrics import CONTENT_TYPE, Metrics
from core.server.pool import Predictor
from core.server.uploads import FormReader, Part, Spool

_JSON = "application/json"
_AT_A_TIME = 16
_TRUE, _FALSE = ("true", "1", "yes", "on"), ("false", "0", "no", "off", "")
"""Spellings of a yes or no in a form."""
_FILE = {
    "type": "string",
    "format": "binary",
    "description": "DICOM, ZIP of a DICOM series, NIfTI, PNG or JPEG.",
}
_OPTIONS = {
    "return_features": {"type": "boolean", "default": False},
    "return_label_map": {"type": "boolean", "default": False},
    "report": {"type": "string", "description": "Report, for models that read one."},
}


@dataclass(frozen=True)
class ServerSettings:
    """What the application needs besides its predictor.

    Attributes
    ----------
    bundle : Bundle
        The model that the predictor runs; here only what it says of itself is used.
    gate : GateSettings
        Tokens, hosts, limits.
    temp : Path
        The home's work folder.
    """

    bundle: Bundle
    gate: GateSettings
    temp: Path
    metrics: Metrics = field(default_factory=Metrics)

    @property
    def limits(self) -> Limits:
        """The limits of requests."""
        return self.gate.limits


def create_app(settings: ServerSettings, predictor: Predictor) -> ASGIApp:
    """Return the application with its gate; it starts and stops the predictor."""
    api = create_api(settings, predictor)
    gate = Gate(api, settings.gate, settings.metrics)
    api.state.gate = gate
    return gate


def create_api(settings: ServerSettings, predictor: Predictor) -> FastAPI:
    """Return the application without its gate."""

    @asynccontextmanager
    async def life(_: FastAPI) -> AsyncIterator[None]:
        await predictor.start()
        try:
            yield
        finally:
            await predictor.stop()

    docs = settings.gate.docs
    api = FastAPI(
        title="Overread",
        description="Runs one model. For research and review support; not for primary diagnosis.",
        version=app_version(),
        lifespan=life,
        docs_url="/docs" if docs else None,
        redoc_url=None,
        openapi_url="/openapi.json" if docs else None,
        redirect_slashes=False,
    )
    api.add_exception_handler(HTTPException, _told)
    for kind in (HttpFault, AppError, Exception):
        api.add_exception_handler(kind, _refused)
    _add_routes(api, _Endpoints(settings, predictor))
    if docs:
        _declare_token(api)
    return api


def _add_routes(api: FastAPI, ends: _Endpoints) -> None:
    refusals: dict[int | str, dict[str, Any]] = {
        status: {"model": Refusal} for status in (400, 401, 408, 413, 415, 422, 429, 431, 500, 503)
    }
    bare: dict[int | str, dict[str, Any]] = {status: refusals[status] for status in (400, 401, 429, 431)}
    unready: dict[int | str, dict[str, Any]] = {
        400: refusals[400],
        431: refusals[431],
        503: {"model": Health},
    }
    api.add_api_route("/health", ends.health, response_model=Health, responses=unready, methods=["GET"])
    api.add_api_route("/model/info", ends.info, response_model=ModelInfo, responses=bare, methods=["GET"])
    page: dict[int | str, dict[str, Any]] = {
        **bare,
        200: {"content": {"text/plain": {}}, "description": "For Prometheus."},
    }
    api.add_api_route("/metrics", ends.metrics, response_class=Response, responses=page, methods=["GET"])
    one = {"file": _FILE, **_OPTIONS}
    many = {"files": {"type": "array", "items": _FILE, "minItems": 1}, **_OPTIONS}
    for path, end, model, properties, needed in (
        ("/predict", ends.predict, Prediction, one, "file"),
        ("/predict/batch", ends.predict_batch, BatchAnswer, many, "files"),
    ):
        api.add_api_route(
            path,
            end,
            methods=["POST"],
            response_class=Response,
            responses={**refusals, 200: {"model": model}},
            openapi_extra={"requestBody": _form(properties, needed)},
        )


def _form(properties: dict[str, Any], needed: str) -> dict[str, Any]:
    schema = {"type": "object", "required": [needed], "properties": properties}
    return {"required": True, "content": {"multipart/form-data": {"schema": schema}}}


def _declare_token(api: FastAPI) -> None:
    """Say in the schema that everything but ``/health`` needs the token."""
    schema = api.openapi()
    schema.setdefault("components", {})["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
    for path, item in schema["paths"].items():
        for operation in item.values():
            operation["security"] = [] if path == "/health" else [{"token": []}]


async def _told(_: Request, error: Exception) -> Response:
    """Answer what the router refuses (unknown path, wrong method) as all other errors."""
    assert isinstance(error, HTTPException)
    told = InputError(f"request.{error.status_code}", str(error.detail) + ".", "See the user guide.")
    return Response(body_of(told), error.status_code, dict(error.headers or {}), _JSON)


async def _refused(_: Request, error: Exception) -> Response:
    """Answer an error raised in an endpoint; what isn't ours goes on to the gate, which logs it."""
    fault = translated(error)
    return Response(body_of(fault.error), fault.status, headers_of(fault), _JSON)


class _Endpoints:
    """The answers of the five routes."""

    def __init__(self, settings: ServerSettings, predictor: Predictor) -> None:
        self._settings, self._predictor = settings, predictor
        self._manifest = settings.bundle.manifest
        self._version = f"v{self._manifest.version}"
        self._info = model_info(settings.bundle, settings.limits)

    async def health(self) -> Response:
        """Say whether a model process is ready, and where it computes."""
        state = self._predictor.state()
        status = "healthy" if state.ready else "unavailable" if state.failed else "loading"
        body = {
            "status": status,
            "model_loaded": state.ready > 0,
            "device": state.device,
            "model_version": self._version,
        }
        return Response(json.dumps(body), 200 if state.ready else 503, media_type=_JSON)

    async def info(self) -> ModelInfo:
        """Say what the model is, was made for and may be used under."""
        return self._info

    async def metrics(self, request: Request) -> Response:
        """Return numbers for Prometheus."""
        gate = getattr(request.app.state, "gate", None)
        page = self._settings.metrics.page(self._predictor.state(), gate.open_requests if gate else 0)
        return Response(page, media_type=CONTENT_TYPE)

    async def predict(self, request: Request) -> Response:
        """Run the model on one image."""
        with Spool(self._settings.temp) as spool:
            form = _Form(await self._read(request, spool), {"file", *self._contrast_fields()})
            uploads = [part.upload(contrast_of(part)) for part in form.files]
            if not uploads:
                raise missing("file")
            if len({upload.name for upload in uploads}) != len(uploads):
                raise refused(
                    UNPROCESSABLE,
                    "upload.several",
                    "This takes one image.",
                    "Send several to /predict/batch.",
                )
            answer = await self._ask(form.item(uploads))
        return Response(answer.body, answer.status, media_type=_JSON)

    async def predict_batch(self, request: Request) -> Response:
        """Run the model on each of several images; the answers are in the order of the files."""
        started = time.perf_counter()
        with Spool(self._settings.temp) as spool:
            form = _Form(await self._read(request, spool), {"files"})
            if not form.files:
                raise missing("files")
            permits = asyncio.Semaphore(_AT_A_TIME)
            bodies = await _all([self._entry(form, part, permits) for part in form.files])
        total = round(1000 * (time.perf_counter() - started), 3)
        tail = f'],"total_inference_time_ms":{total},"model_version":{json.dumps(self._version)}}}'
        return Response(b'{"predictions":[' + b",".join(bodies) + tail.encode(), media_type=_JSON)

    async def _entry(self, form: _Form, part: Part, permits: asyncio.Semaphore) -> bytes:
        """Return the entry of one file; what is wrong with the file is told there, the rest ends the batch."""
        async with permits:
            try:
                item = form.item([part.upload()])
            except HttpFault as fault:
                return body_of(fault.error)
            return (await self._ask(item)).body

    async def _ask(self, item: Item) -> Answer:
        if item.text is not None and not self._takes_text:
            raise refused(UNPROCESSABLE, "serve.text", "This model reads no reports.", "Leave report out.")
        answer = await self._predictor.predict(item)
        if answer.status == 200:
            self._settings.metrics.image(answer.batch, answer.milliseconds)
        return answer

    @property
    def _takes_text(self) -> bool:
        return self._info.takes_text

    def _contrast_fields(self) -> list[str]:
        return [f"contrast.{name}" for name in self._info.inputs]

    async def _read(self, request: Request, spool: Spool) -> list[Part]:
        reader = FormReader(request.headers.get("content-type"), self._settings.limits, spool)
        return await reader.read(request.stream().__aiter__())


class _Form:
    """The parts of a body by their meaning; unknown fields are ignored, unknown files refused."""

    def __init__(self, parts: Sequence[Part], files: set[str]) -> None:
        self.files = [part for part in parts if part.is_file or part.name in files]
        for part in self.files:
            if part.name not in files or not part.is_file:
                expected = " or ".join(sorted(files))
                raise refused(
                    UNPROCESSABLE,
                    "upload.field_name",
                    f"Files are expected as {expected}.",
                    "See the user guide.",
                )
        self._fields = {part.name: part for part in parts if not part.is_file}
        self._features = self._flag("return_features")
        self._label_map = self._flag("return_label_map")
        report = self._fields.get("report")
        self._text = report.text() if report is not None and report.data else None

    def item(self, uploads: Sequence[Any]) -> Item:
        """Return the question for these uploads."""
        return Item(tuple(uploads), self._text, self._features, self._label_map)

    def _flag(self, name: str) -> bool:
        text = self._fields[name].text().strip().lower() if name in self._fields else ""
        if text not in (*_TRUE, *_FALSE):
            raise refused(UNPROCESSABLE, "upload.flag", f"{name} is true or false.", "")
        return text in _TRUE


async def _all(coroutines: Sequence[Any]) -> list[bytes]:
    """Await all; when one fails, the others are ended before its error goes on."""
    tasks = [asyncio.ensure_future(one) for one in coroutines]
    try:
        return list(await asyncio.gather(*tasks))
    except BaseException:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        raise


def contrast_of(part: Part) -> str:
    """Return the contrast that a part of the form is for; empty for ``file``."""
    return part.name.removeprefix("contrast.") if part.name.startswith("contrast.") else ""


def missing(name: str) -> HttpFault:
    """Return the refusal of a form without a file."""
    return refused(
        UNPROCESSABLE, "upload.missing", f"The form has no file “{name}”.", f"Send the image as {name}."
    )


def model_info(bundle: Bundle, limits: Limits) -> ModelInfo:
    """Return what the model says of itself."""
    manifest = bundle.manifest
    return ModelInfo(
        id=manifest.id,
        version=manifest.version,
        title=manifest.title,
        task=manifest.task,
        kind=manifest.requirements.kind,
        labels=[LabelInfo(value=label.value, name=label.name) for label in manifest.labels],
        classes=[LabelInfo(value=label.value, name=label.name) for label in manifest.classes],
        measurements=[MeasurementInfo(name=each.name, unit=each.unit) for each in manifest.measurements],
        inputs=list(manifest.inputs),
        takes_text=manifest.text is not None,
        description=manifest.description,
        intended_use=manifest.intended_use,
        not_intended_for=manifest.not_intended_for,
        licence=manifest.licence,
        card=bundle.card,
        sha256=bundle.identity.sha256,
        verified=bundle.verification == "signed",
        max_upload_bytes=limits.upload_bytes,
        max_files=limits.files,
        manifest=manifest.to_json().decode(),
    )
