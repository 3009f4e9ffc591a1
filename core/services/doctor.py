"""Check what Overread needs of this machine, and say what to do where something lacks.

Nothing here loads torch or a GUI library: presence is looked up, not imported.
"""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil

from core.config.keys import KeyStore
from core.config.paths import Paths
from core.config.resources import shipped_bundles_dir
from core.domain.errors import AppError

MINIMUM_SQLITE = (3, 51, 3)
MINIMUM_MEMORY_GB = 8.0
MINIMUM_DISK_GB = 5.0

# Transfer syntax family -> module that decodes it here.
CODECS = {
    "JPEG baseline, extended, lossless": "gdcm",
    "JPEG 2000, HTJ2K": "openjpeg",
    "JPEG-LS": "jpeg_ls",
    "RLE": "rle",
}
AI_PACK = ("torch", "onnxruntime", "captum", "safetensors")


@dataclass(frozen=True)
class Check:
    """One line of the report; ``status`` is ``"ok"``, ``"warn"`` or ``"fail"``."""

    name: str
    status: str
    detail: str
    remedy: str = ""


def check_python() -> Check:
    """Python's version."""
    text = f"Python {platform.python_version()}, {platform.system()} {platform.release()}"
    return Check("python", "ok", text)


def check_processor() -> Check:
    """Cores and the vector units that decide which inference backend is fastest."""
    flags = set()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("flags"):
                flags = set(line.split(":", 1)[1].split())
                break
    units = [f for f in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if f in flags]
    return Check("processor", "ok", f"{psutil.cpu_count(logical=False)} cores {' '.join(units)}".strip())


def check_memory() -> Check:
    """Memory that is free now."""
    memory = psutil.virtual_memory()
    free, total = memory.available / 2**30, memory.total / 2**30
    text = f"{free:.1f} GB free of {total:.1f} GB"
    if total < MINIMUM_MEMORY_GB:
        return Check("memory", "warn", text, f"{MINIMUM_MEMORY_GB:.0f} GB are advised for 3-D models.")
    return Check("memory", "ok", text)


def check_disk(paths: Paths) -> Check:
    """Free space where the library lies."""
    folder = paths.root
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free / 2**30
    if free < MINIMUM_DISK_GB:
        return Check(
            "disk", "warn", f"{free:.1f} GB free", f"Free at least {MINIMUM_DISK_GB:.0f} GB for the library."
        )
    return Check("disk", "ok", f"{free:.1f} GB free")


def check_shared_memory() -> Check:
    """Size of the shared memory that carries volumes to the worker."""
    folder = Path("/dev/shm")
    if not folder.exists():
        return Check("shared memory", "ok", "provided by the operating system")
    free = shutil.disk_usage(folder).free / 2**30
    if free < 1.0:
        return Check(
            "shared memory", "warn", f"{free:.2f} GB in /dev/shm", "Give the container --shm-size=2g or more."
        )
    return Check("shared memory", "ok", f"{free:.1f} GB in /dev/shm")


def check_gpu() -> Check:
    """NVIDIA GPUs by the driver's own tool."""
    tool = shutil.which("nvidia-smi")
    if not tool:
        return Check("gpu", "ok", "no NVIDIA GPU; models run on the processor")
    query = [tool, "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(query, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return Check("gpu", "warn", "nvidia-smi does not answer", "Reinstall the NVIDIA driver.")
    if done.returncode != 0 or not done.stdout.strip():
        return Check(
            "gpu",
            "warn",
            "nvidia-smi finds no GPU",
            "Check the driver; models run on the processor meanwhile.",
        )
    return Check("gpu", "ok", done.stdout.strip().splitlines()[0])


def check_display() -> Check:
    """Whether a window can be opened."""
    if platform.system() != "Linux":
        return Check("display", "ok", "provided by the operating system")
    for variable in ("WAYLAND_DISPLAY", "DISPLAY"):
        if os.environ.get(variable):
            return Check("display", "ok", f"{variable}={os.environ[variable]}")
    return Check("display", "warn", "no display", "Log in to a desktop session, or use the command line.")


def check_codecs() -> Check:
    """Decoders of compressed pixel data."""
    missing = [name for name, module in CODECS.items() if importlib.util.find_spec(module) is None]
    if missing:
        return Check(
            "codecs", "warn", "missing: " + "; ".join(missing), "Reinstall Overread's Python packages."
        )
    return Check("codecs", "ok", "; ".join(CODECS))


def check_ai_pack() -> Check:
    """Whether models can run at all (the viewer opens without)."""
    missing = [name for name in AI_PACK if importlib.util.find_spec(name) is None]
    if missing:
        return Check(
            "ai pack",
            "warn",
            "missing: " + ", ".join(missing),
            "Install the AI pack: pip install overread[ai].",
        )
    return Check("ai pack", "ok", ", ".join(AI_PACK))


def check_database() -> Check:
    """Version of the embedded database: older ones can corrupt a write-ahead log."""
    from sqlcipher3 import dbapi2

    version = tuple(int(n) for n in dbapi2.sqlite_version.split("."))
    if version < MINIMUM_SQLITE:
        return Check(
            "database", "fail", f"SQLite {dbapi2.sqlite_version}", "Install sqlcipher3 0.6.4 or newer."
        )
    return Check("database", "ok", f"SQLite {dbapi2.sqlite_version}, encrypted")


def check_keys(paths: Paths) -> Check:
    """Where the master key is kept."""
    store = KeyStore.open(paths.keys)
    if store.notice:
        return Check(
            "keys", "warn", store.notice, "Set OVERREAD_PASSPHRASE or provide an operating-system keyring."
        )
    return Check("keys", "ok", f"master key in: {store.source}")


def check_models() -> Check:
    """Shipped bundles: every file's hash and the signature."""
    from core.bundles.catalogue import Catalogue

    bundles = Catalogue([shipped_bundles_dir()]).list()
    text = ", ".join(f"{b.manifest.id} {b.manifest.version} ({b.verification})" for b in bundles)
    if not bundles:
        return Check("models", "warn", "no shipped model found", "Reinstall Overread.")
    return Check("models", "ok", text)


def examine(home: Path | None = None) -> dict[str, Any]:
    """Run every check; a check that is refused becomes a failed line, never an exception.

    Returns
    -------
    dict
        ``{"ok": bool, "checks": [{"name", "status", "detail", "remedy"}]}``; warnings leave ``ok`` true.
    """
    paths = Paths.resolve(home)
    checks: list[Callable[[], Check]] = [
        check_python,
        check_processor,
        check_memory,
        lambda: check_disk(paths),
        check_shared_memory,
        check_gpu,
        check_display,
        check_codecs,
        check_ai_pack,
        check_database,
        lambda: check_keys(paths),
        check_models,
    ]
    report = []
    for check in checks:
        try:
            report.append(check())
        except AppError as error:
            report.append(Check(error.code, "fail", error.user_message, error.remedy))
    return {"ok": all(c.status != "fail" for c in report), "checks": [asdict(c) for c in report]}
