"""What the server accepts, before it buffers or computes anything."""

from __future__ import annotations

from dataclasses import dataclass

_MB = 1 << 20


@dataclass(frozen=True)
class Limits:
    """Bounds of requests.

    Attributes
    ----------
    upload_bytes : int
        Of a request's whole body, announced or streamed.
    files, fields, field_bytes : int
        Files of a batch; other form fields, and the size of each.
    header_bytes : int
        Of all headers of a request, and of a part's.
    in_memory_bytes : int
        Of a request; what exceeds it lies in a file of the home's work folder until the answer is given.
    pixels, voxels : int
        Of a picture and of a volume, read from the header before anything is decoded.
    unpacked_bytes, members : int
        Of a ZIP archive.
    concurrent : int
        Requests received or answered at a time; the next is told to come back.
    queue : int
        Images that wait for or are in one model process.
    rate_per_s, burst : float
        Requests per second and token in the long run, and at once; 0 is no limit.
    refused_per_s : float
        Requests without a valid token per second and address.
    connections : int
        Open connections.
    head_s, idle_s, body_s : float
        Seconds for the headers, between two pieces of the body, for the whole body.
    answer_s, start_s : float
        Seconds for a model's answer, and for a model process to start.
    """

    upload_bytes: int = 512 * _MB
    files: int = 64
    fields: int = 16
    field_bytes: int = 64 << 10
    header_bytes: int = 16 << 10
    in_memory_bytes: int = 1 * _MB
    pixels: int = 50_000_000
    voxels: int = 400_000_000
    unpacked_bytes: int = 4096 * _MB
    members: int = 10_000
    concurrent: int = 64
    queue: int = 256
    rate_per_s: float = 100.0
    burst: float = 200.0
    refused_per_s: float = 5.0
    connections: int = 256
    head_s: float = 10.0
    idle_s: float = 15.0
    body_s: float = 300.0
    answer_s: float = 600.0
    start_s: float = 120.0
