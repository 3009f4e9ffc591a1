"""``python -m core.server MODEL``: what ``overread serve`` becomes. This process never loads torch."""

from __future__ import annotations

import argparse
import dataclasses
import ipaddress
import json
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import uvicorn

from core.bundles.bundle import Bundle, read_bundle
from core.bundles.catalogue import Catalogue, read_pointers
from core.config.logs import configure_logging, enable_crash_file, quiet_library_warnings, stop_logging
from core.config.paths import Paths
from core.config.resources import shipped_bundles_dir
from core.config.temp import sweep_temp
from core.domain.errors import AppError, InputError
from core.server.app import ServerSettings, create_app
from core.server.gate import GateSettings
from core.server.guard import guarded_protocol
from core.server.limits import Limits
from core.server.links import ModelSettings, thread_count
from core.server.pool import ModelPool, Predictor
from core.server.tokens import Tokens, load_tokens
from core.services.registered_models import registered_bundle

_KEEP_ALIVE_S, _FAREWELL_S, _BACKLOG = 15, 5, 512
_MB = 1 << 20


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Return the options; their help is that of ``overread serve``."""
    parser = argparse.ArgumentParser(prog="overread serve")
    parser.add_argument("model")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--token-file", type=Path)
    parser.add_argument("--devices", default="auto")
    parser.add_argument("--max-upload-mb", type=int, default=Limits().upload_bytes // _MB)
    parser.add_argument("--rate-limit", type=float, default=Limits().rate_per_s)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--trusted-host", action="append", default=[])
    parser.add_argument("--docs", action="store_true")
    parser.add_argument("--tls-cert", type=Path)
    parser.add_argument("--tls-key", type=Path)
    parser.add_argument("--ray", action="store_true")
    parser.add_argument("--address", default="local")
    parser.add_argument("--replicas", type=int, default=1)
    parser.add_argument("--home", type=Path)
    parser.add_argument("--json", action="store_true")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Serve until told to stop; the exit status."""
    options = parse(argv)
    try:
        return serve(options)
    except AppError as error:
        if options.json:
            sys.stdout.write(json.dumps({"error": error.as_dict()}) + "\n")
        tell(f"overread: {error.user_message}" + (f"\n  {error.remedy}" if error.remedy else ""))
        return 1


def serve(options: argparse.Namespace) -> int:
    """Start what the options ask for.

    Raises
    ------
    AppError
        What is wrong with model, token file, certificate or home.
    """
    quiet_library_warnings()
    paths = Paths.resolve(options.home)
    paths.create()
    sweep_temp(paths.temp)
    handler = configure_logging(paths, name="serve")
    try:
        return _serve(options, paths)
    finally:
        stop_logging(handler)


def _serve(options: argparse.Namespace, paths: Paths) -> int:
    if bool(options.tls_cert) != bool(options.tls_key):
        raise InputError(
            "serve.tls", "TLS needs a certificate and its key.", "Give --tls-cert and --tls-key."
        )
    for file in filter(None, (options.tls_cert, options.tls_key)):
        if not file.is_file():
            raise InputError("serve.tls", "The certificate or its key does not exist.", "Check the paths.")
    bundle = find_model(options.model, paths)
    limits = dataclasses.replace(
        Limits(),
        upload_bytes=max(1, options.max_upload_mb) * _MB,
        rate_per_s=options.rate_limit,
        burst=max(1.0, 2 * options.rate_limit),
    )
    token_file = options.token_file or paths.root / "server" / "token"
    tokens, new_token = load_tokens(token_file)
    server_settings = settings(bundle, tokens, limits, options, paths)
    predictor = predictor_for(bundle, limits, options, paths)
    if new_token is not None:
        tell(f"Token, shown this once and kept in the token file: {new_token}")
    if not is_loopback(options.host) and not options.tls_cert:
        tell(
            "overread: warning: images and the token travel unencrypted over the network.\n"
            "  Give --tls-cert and --tls-key, or put a proxy with TLS before this server."
        )
    listening = listen(options.host, options.port)
    enable_crash_file(paths, "serve")
    announce(options, listening, token_file, bundle)
    run(server_settings, predictor, listening, options)
    return 0


def settings(
    bundle: Bundle, tokens: Tokens, limits: Limits, options: argparse.Namespace, paths: Paths
) -> ServerSettings:
    """Return the application's settings."""
    hosts = ["localhost", "127.0.0.1", "[::1]", options.host, *options.trusted_host]
    gate = GateSettings(tokens, hosts, limits, docs=options.docs, tls=bool(options.tls_cert))
    return ServerSettings(bundle, gate, paths.temp)


def predictor_for(bundle: Bundle, limits: Limits, options: argparse.Namespace, paths: Paths) -> Predictor:
    """Return the model processes of this machine, or the replicas of a cluster."""
    devices = tuple(part.strip() for part in options.devices.split(",") if part.strip()) or ("auto",)
    for device in devices:
        kind, _, number = device.partition(":")
        if kind not in ("auto", "cpu", "cuda") or (number and not (kind == "cuda" and number.isdigit())):
            raise InputError(
                "serve.device", f"There is no device “{device}”.", "Use auto, cpu, cuda or cuda:1."
            )
    threads = options.threads or thread_count(bundle.manifest.is_3d, len(devices))
    # whole volumes of several requests at a time would fill the memory
    most = 1 if bundle.manifest.is_3d else options.batch
    model = ModelSettings(bundle.path, paths.root, devices, threads, most, limits=limits)
    if options.ray:
        # loaded only when asked for: Ray is an extra
        from core.server.ray_serve import RayPredictor

        return RayPredictor(bundle, model, options.address, options.replicas)
    return ModelPool(model)


def find_model(model: str, paths: Paths) -> Bundle:
    """Return the bundle of a path, of a registered model (``NAME@ALIAS``), or of a catalogue id.

    Raises
    ------
    InputError
        ``model.unknown``.
    """
    path = Path(model)
    if path.exists():
        return read_bundle(path)
    registered = registered_bundle(paths, model)
    if registered is not None:
        return registered
    return Catalogue([shipped_bundles_dir(), paths.bundles], read_pointers(paths.pointers)).get(model)


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def listen(host: str, port: int) -> socket.socket:
    """Return a socket on which connections wait already; raises InputError ``serve.address``."""
    listening = None
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listening = socket.socket(family, kind)
        if sys.platform != "win32":
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(_BACKLOG)
    except OSError as error:
        if listening is not None:
            listening.close()
        raise InputError(
            "serve.address",
            f"Port {port} can't be opened ({error.strerror or type(error).__name__}).",
            "Choose another with --port, or --host.",
        ) from error
    return listening


def announce(options: argparse.Namespace, listening: socket.socket, token_file: Path, bundle: Bundle) -> None:
    """Say where the server is, as a line of JSON or for a person."""
    scheme = "https" if options.tls_cert else "http"
    host = f"[{options.host}]" if ":" in options.host else options.host
    url = f"{scheme}://{host}:{listening.getsockname()[1]}"
    if options.json:
        document: dict[str, Any] = {"url": url, "model": bundle.id, "version": bundle.manifest.version}
        sys.stdout.write(json.dumps(document | {"token_file": str(token_file)}) + "\n")
        sys.stdout.flush()
    else:
        tell(f"{bundle.manifest.title} {bundle.manifest.version} at {url} (Ctrl+C stops)")


def run(
    server_settings: ServerSettings,
    predictor: Predictor,
    listening: socket.socket,
    options: argparse.Namespace,
) -> None:
    """Serve on a bound socket until a signal."""
    limits = server_settings.limits
    config = uvicorn.Config(
        create_app(server_settings, predictor),
        http=guarded_protocol(limits),
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        limit_concurrency=limits.connections,
        backlog=_BACKLOG,
        timeout_keep_alive=_KEEP_ALIVE_S,
        timeout_graceful_shutdown=_FAREWELL_S,
        ssl_certfile=options.tls_cert,
        ssl_keyfile=options.tls_key,
    )
    uvicorn.Server(config).run([listening])


def tell(text: str) -> None:
    """Write a message for a person to standard error."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main())
