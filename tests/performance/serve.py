"""The model server against a bare FastAPI endpoint with torch, under 16 clients.

``python tests/performance/serve.py --json`` starts both on this machine and lets the same clients ask them in turn,
with the same real pictures (MedNIST as PNG), for the same shipped network. The peer is what one writes first:
``async def predict`` with the network in eager mode, the same preprocessing, uvicorn's own settings; once with the
threads that torch takes by itself, once with one, which is faster on a busy machine. Ratios are ours over the faster
peer's: of throughput (higher is better) and of latency (lower is better), with 16 clients and with one.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import os
import platform
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from io import BytesIO
from itertools import cycle
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
SHIPPED = ROOT / "models" / "bundles" / "mednist"
PICTURES, BOUNDARY = 64, "bench-boundary"
PEERS = {"fastapi+torch": 0, "fastapi+torch, 1 thread": 1}
"""Name and threads of torch (0: its own choice)."""


def peer(port: int, threads: int) -> None:
    """Run the peer."""
    import torch
    import uvicorn
    from fastapi import FastAPI, File, Form, UploadFile
    from pydantic import BaseModel

    from core.bundles.bundle import read_bundle
    from core.compute.inference.networks import load_network
    from core.compute.inference.prepare import prepare_image
    from core.formats.images import read_image_bytes

    if threads:
        torch.set_num_threads(threads)
    bundle = read_bundle(SHIPPED)
    network = load_network(bundle)
    assert network is not None
    network.eval()
    names = [label.name for label in bundle.manifest.labels]
    temperature = bundle.manifest.calibration.temperature
    app = FastAPI()

    class Answer(BaseModel):
        prediction: str
        confidence: float
        probabilities: dict[str, float]
        inference_time_ms: float

    async def predict(file: UploadFile = File(), return_features: bool = Form(False)) -> Answer:
        del return_features
        started = time.perf_counter()
        picture = prepare_image(read_image_bytes(await file.read()), bundle.manifest)
        with torch.inference_mode():
            found = torch.softmax(network(picture)[0].double() / temperature, 0).tolist()
        best = max(range(len(found)), key=found.__getitem__)
        taken = 1000 * (time.perf_counter() - started)
        return Answer(
            prediction=names[best],
            confidence=found[best],
            probabilities=dict(zip(names, found, strict=True)),
            inference_time_ms=taken,
        )

    predict.__annotations__ = {"file": UploadFile, "return_features": bool, "return": Answer}
    app.add_api_route("/predict", predict, methods=["POST"], response_model=Answer)
    uvicorn.run(app, port=port, log_level="warning", access_log=False)


def requests_of(data: Path, token: str) -> list[bytes]:
    """Return whole HTTP requests, one per picture."""
    from PIL import Image

    made = []
    for file in sorted(data.rglob("*.jpeg"))[:: max(1, 1200 // PICTURES)][:PICTURES]:
        with Image.open(file) as picture, BytesIO() as stream:
            picture.save(stream, "PNG")
            png = stream.getvalue()
        part = f'--{BOUNDARY}\r\ncontent-disposition: form-data; name="file"; filename="a.png"\r\n'
        body = part.encode() + b"content-type: image/png\r\n\r\n" + png + f"\r\n--{BOUNDARY}--\r\n".encode()
        head = (
            "POST /predict HTTP/1.1\r\nhost: 127.0.0.1\r\n"
            f"authorization: Bearer {token}\r\ncontent-length: {len(body)}\r\n"
            f"content-type: multipart/form-data; boundary={BOUNDARY}\r\n\r\n"
        )
        made.append(head.encode() + body)
    if not made:
        raise SystemExit("there are no pictures of MedNIST (set OVERREAD_TEST_DATA)")
    return made


async def _client(
    port: int, mine: Iterable[bytes], seconds: list[float], bodies: list[bytes], until: float = math.inf
) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for request in mine:
        if time.perf_counter() > until:
            break
        started = time.perf_counter()
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
        body = await reader.readexactly(length)
        seconds.append(time.perf_counter() - started)
        if not head.startswith(b"HTTP/1.1 200"):
            raise SystemExit(f"port {port} answered {head[:40]!r} {body[:200]!r}")
        bodies.append(body)
    writer.close()


async def _load(port: int, requests: list[bytes], clients: int, length_s: float) -> dict[str, Any]:
    """Let ``clients`` ask for some seconds; requests per second, quantiles of latency."""
    seconds: list[float] = []
    bodies: list[bytes] = []
    started = time.perf_counter()
    asking = (
        _client(port, cycle(requests[n:] + requests[:n]), seconds, bodies, started + length_s)
        for n in range(clients)
    )
    await asyncio.gather(*asking)
    taken = time.perf_counter() - started
    return {
        "per_s": len(seconds) / taken,
        "p50_ms": quantile(seconds, 50),
        "p95_ms": quantile(seconds, 95),
        "requests": len(seconds),
    }


def quantile(seconds: list[float], percent: int) -> float:
    """Return a percentile in milliseconds."""
    if len(seconds) < 2:
        return 1000 * seconds[0]
    return 1000 * statistics.quantiles(seconds, n=100, method="inclusive")[percent - 1]


async def _answers(port: int, requests: list[bytes]) -> list[dict[str, Any]]:
    bodies: list[bytes] = []
    await _client(port, requests, [], bodies)
    return [json.loads(body) for body in bodies]


def compare(options: argparse.Namespace, ports: dict[str, int], requests: list[bytes]) -> dict[str, Any]:
    """Ask both in turn."""
    loads = {"16 clients": (16, options.seconds), "1 client": (1, options.seconds / 2)}
    found: dict[str, dict[str, list[dict[str, Any]]]] = {name: {who: [] for who in ports} for name in loads}
    for port in ports.values():
        asyncio.run(_load(port, requests, 16, 1.0))
    for number in range(options.rounds):
        order = list(ports.items()) if number % 2 == 0 else list(ports.items())[::-1]
        for name, (clients, length_s) in loads.items():
            for who, port in order:
                found[name][who].append(asyncio.run(_load(port, requests, clients, length_s)))
    both = {who: asyncio.run(_answers(port, requests)) for who, port in ports.items()}
    gap = max(
        abs(mine["probabilities"][label] - theirs["probabilities"][label])
        for mine, theirs in zip(both["ours"], both["fastapi+torch"], strict=True)
        for label in theirs["probabilities"]
    )
    medians = {
        name: {
            who: {key: statistics.median(one[key] for one in rounds) for key in rounds[0]}
            for who, rounds in whos.items()
        }
        for name, whos in found.items()
    }
    return {"medians": medians, "rounds": found, "max_difference": gap, "engine": both["ours"][0]["engine"]}


@contextmanager
def running(options: argparse.Namespace, home: Path) -> Iterator[tuple[dict[str, int], str]]:
    """Start both servers; their ports, and our token."""
    environment = os.environ | {"OVERREAD_HOME": str(home), "PYTHONPATH": str(ROOT)}
    ours = subprocess.Popen(
        [sys.executable, "-m", "core.cli.main", "serve", str(SHIPPED), "--port", "0", "--rate-limit", "0", "--json",
         "--threads", str(options.threads)],
        env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    theirs = {
        name: subprocess.Popen(
            [sys.executable, __file__, "--peer", str(options.peer_port + threads), "--threads", str(threads)],
            env=environment,
        )
        for name, threads in PEERS.items()
    }
    try:
        assert ours.stdout is not None
        told = json.loads(ours.stdout.readline())
        ports = {"ours": int(told["url"].rpartition(":")[2])}
        ports |= {name: options.peer_port + threads for name, threads in PEERS.items()}
        for name, port in ports.items():
            _wait_for(f"http://127.0.0.1:{port}/{'health' if name == 'ours' else 'openapi.json'}")
        yield ports, Path(told["token_file"]).read_text().strip()
    finally:
        for process in (ours, *theirs.values()):
            process.send_signal(signal.SIGINT if process is ours else signal.SIGTERM)
            process.wait(20)


def _wait_for(url: str) -> None:
    until = time.monotonic() + 120
    while time.monotonic() < until:
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:
                if answer.status == 200:
                    return
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            time.sleep(0.5)
    raise SystemExit("a server did not start")


def main() -> None:
    """Print the document of the bench contract."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4.0, help="of the 16 clients, per server and round")
    parser.add_argument("--threads", type=int, default=0, help="of our model process; 0 chooses")
    parser.add_argument("--peer-port", type=int, default=8917)
    parser.add_argument("--peer", type=int, default=0, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.peer:
        peer(options.peer, options.threads)
        return
    data = Path(os.environ.get("OVERREAD_TEST_DATA", ROOT.parent / "shared" / "data"))
    with tempfile.TemporaryDirectory() as home, running(options, Path(home)) as (ports, token):
        found = compare(options, ports, requests_of(data / "core" / "images2d" / "mednist", token))
    many, one = found["medians"]["16 clients"], found["medians"]["1 client"]
    best = max(PEERS, key=lambda name: many[name]["per_s"])
    document = {
        "name": "serve",
        "ratios": {
            f"throughput_16/{best}": many["ours"]["per_s"] / many[best]["per_s"],
            f"p50_16/{best}": many["ours"]["p50_ms"] / many[best]["p50_ms"],
            f"p95_16/{best}": many["ours"]["p95_ms"] / many[best]["p95_ms"],
            f"p50_1/{best}": one["ours"]["p50_ms"] / one[best]["p50_ms"],
        },
        "ours": {
            "what": "requests per second and latency of /predict, medians of the rounds; the servers, the model "
            "process and the clients share this machine",
            "engine": found["engine"],
            "medians": {name: whos["ours"] for name, whos in found["medians"].items()},
            "all_rounds": {name: whos["ours"] for name, whos in found["rounds"].items()},
            "max_difference_of_probabilities": found["max_difference"],
        },
        "peers": {
            peer: {
                "medians": {name: whos[peer] for name, whos in found["medians"].items()},
                "all_rounds": {name: whos[peer] for name, whos in found["rounds"].items()},
            }
            for peer in PEERS
        },
        "rounds": options.rounds,
        "machine": {
            "processor": platform.machine(),
            "cores": os.cpu_count(),
            "load_average": os.getloadavg() if hasattr(os, "getloadavg") else None,
        },
    }
    sys.stdout.write(json.dumps(document, indent=None if options.json else 2) + "\n")


if __name__ == "__main__":
    main()
