#!/usr/bin/env python3
"""Set up Overread on a fresh machine and run or test it; standard library only.

``bootstrap.py env``   make or update the environment; print its Python's path and nothing else on standard output
``bootstrap.py run``   the main job on the embedded sample: the window, or without a display the demonstration
``bootstrap.py test``  the test suite; further arguments go to pytest

The environment is ``.venv`` beside this checkout, or ``OVERREAD_VENV``. What is already there is reused.
"""

from __future__ import annotations

import argparse
import ctypes.util
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CONSTRAINTS = ROOT / "installer" / "constraints.txt"
MINIMUM_PYTHON = (3, 11)

# Library to look for -> Debian/Ubuntu package that holds it. Qt's xcb plugin and VTK need these.
SYSTEM_LIBRARIES = {
    "libEGL.so.1": "libegl1",
    "libGL.so.1": "libgl1",
    "libOpenGL.so.0": "libopengl0",
    "libGLX_mesa.so.0": "libglx-mesa0",
    "libxcb-cursor.so.0": "libxcb-cursor0",
    "libxkbcommon-x11.so.0": "libxkbcommon-x11-0",
    "libxcb-icccm.so.4": "libxcb-icccm4",
    "libxcb-image.so.0": "libxcb-image0",
    "libxcb-keysyms.so.1": "libxcb-keysyms1",
    "libxcb-randr.so.0": "libxcb-randr0",
    "libxcb-render-util.so.0": "libxcb-render-util0",
    "libxcb-shape.so.0": "libxcb-shape0",
    "libxcb-xinerama.so.0": "libxcb-xinerama0",
    "libxcb-xkb.so.1": "libxcb-xkb1",
    "libdbus-1.so.3": "libdbus-1-3",
    "libfontconfig.so.1": "libfontconfig1",
    "libXrender.so.1": "libxrender1",
    "libXi.so.6": "libxi6",
    "libSM.so.6": "libsm6",
    "libglib-2.0.so.0": "libglib2.0-0",
}
SYSTEM_PROGRAMS = {"Xvfb": "xvfb"}
SYSTEM_FILES = {"/usr/share/fonts/truetype/dejavu/DejaVuSans.ttf": "fonts-dejavu-core"}
TEST_PROGRAMS = {"xdotool": "xdotool", "openbox": "openbox"}

EXTRAS = {"run": "ai", "env": "dev", "test": "dev"}


class BootstrapError(Exception):
    """Something is missing that this script can't mend by itself."""


def say(text: str) -> None:
    """Tell the person what happens; standard output stays free for results."""
    print(f"overread: {text}", file=sys.stderr, flush=True)


def is_root() -> bool:
    """Whether packages can be installed."""
    return hasattr(os, "geteuid") and os.geteuid() == 0


def has_library(name: str) -> bool:
    """Whether the loader can find a shared library by its file name."""
    stem = name.removeprefix("lib").split(".so")[0]
    if ctypes.util.find_library(stem):
        return True
    try:
        ctypes.CDLL(name)
    except OSError:
        return False
    return True


def missing_packages(purpose: str) -> list[str]:
    """Name the Debian packages that Qt, VTK and (for tests) the window tools lack."""
    if platform.system() != "Linux":
        return []
    packages = [package for library, package in SYSTEM_LIBRARIES.items() if not has_library(library)]
    programs = dict(SYSTEM_PROGRAMS)
    if purpose != "run":
        programs |= TEST_PROGRAMS
    packages += [package for program, package in programs.items() if not shutil.which(program)]
    packages += [package for file, package in SYSTEM_FILES.items() if not Path(file).exists()]
    return list(dict.fromkeys(packages))


def resolve_package_names(packages: list[str]) -> list[str]:
    """Follow renames between releases (``libglib2.0-0`` became ``libglib2.0-0t64``)."""
    names = []
    for package in packages:
        shown = subprocess.run(["apt-cache", "show", package], capture_output=True, text=True, check=False)
        renamed = f"{package}t64"
        if shown.returncode != 0 or not shown.stdout.strip():
            again = subprocess.run(
                ["apt-cache", "show", renamed], capture_output=True, text=True, check=False
            )
            package = renamed if again.stdout.strip() else package
        names.append(package)
    return names


def install_packages(packages: list[str]) -> None:
    """Install system packages when root; else print the exact command.

    Raises
    ------
    BootstrapError
        If they can't be installed here.
    """
    if not packages:
        return
    command = "apt-get install -y --no-install-recommends " + " ".join(packages)
    if not shutil.which("apt-get"):
        raise BootstrapError(
            "These libraries are missing: "
            + ", ".join(packages)
            + ". Install your system's packages of that name."
        )
    if not is_root():
        raise BootstrapError(
            f"System libraries are missing. Run once:\n  sudo apt-get update && sudo {command}"
        )
    say(f"installing system packages: {' '.join(packages)}")
    environment = dict(os.environ, DEBIAN_FRONTEND="noninteractive")
    subprocess.run(["apt-get", "update", "-qq"], env=environment, check=True, stdout=sys.stderr)
    names = resolve_package_names(packages)
    subprocess.run(
        ["apt-get", "install", "-y", "-qq", "--no-install-recommends", *names],
        env=environment,
        check=True,
        stdout=subprocess.DEVNULL,
    )


def require_system(purpose: str) -> None:
    """Check Python's version, its venv module and the system libraries; install what is missing if allowed."""
    if sys.version_info < MINIMUM_PYTHON:
        raise BootstrapError(
            f"Python {platform.python_version()} is too old; Overread needs 3.11 or newer. "
            "Install python3.11 and call this script with it."
        )
    packages = missing_packages(purpose)
    try:
        import ensurepip  # noqa: F401
        import venv  # noqa: F401
    except ImportError:
        packages.append(f"python{sys.version_info.major}.{sys.version_info.minor}-venv")
    install_packages(packages)


def environment_folder() -> Path:
    """Return the folder of the virtual environment."""
    return Path(os.environ.get("OVERREAD_VENV", ROOT / ".venv")).absolute()


def environment_python(folder: Path) -> Path:
    """Return the interpreter inside the environment."""
    return folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def fingerprint(extra: str) -> str:
    """Hash what decides the environment's content."""
    digest = hashlib.sha256()
    for part in (ROOT / "pyproject.toml", CONSTRAINTS):
        digest.update(part.read_bytes())
    digest.update(f"{sys.version_info[:3]}{extra}{ROOT}".encode())
    return digest.hexdigest()


def up_to_date(folder: Path, extra: str) -> bool:
    """Whether the environment already holds what is wanted (a richer one counts)."""
    for candidate in {extra, "dev"}:
        stamp = folder / f"overread-{candidate}.stamp"
        if stamp.exists() and stamp.read_text(encoding="utf-8") == fingerprint(candidate):
            return True
    return False


def make_environment(extra: str) -> Path:
    """Create or update the environment with the given extra; return its Python.

    Raises
    ------
    BootstrapError
        If pip fails.
    """
    folder = environment_folder()
    python = environment_python(folder)
    if python.exists() and up_to_date(folder, extra):
        say(f"environment is ready: {folder}")
        return python
    started = time.monotonic()
    if not python.exists():
        say(f"[1/3] making the environment in {folder}")
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True, stdout=sys.stderr)
    else:
        say(f"[1/3] updating the environment in {folder}")
    say(f"[2/3] installing Python packages (overread[{extra}]); the first time this takes some minutes")
    pip = [str(python), "-m", "pip", "install", "--disable-pip-version-check", "--progress-bar", "off"]
    command = [*pip, "-c", str(CONSTRAINTS), "-e", f"{ROOT}[{extra}]"]
    for attempt in (1, 2):
        if subprocess.run(command, stdout=sys.stderr, check=False).returncode == 0:
            break
        if attempt == 2:
            raise BootstrapError(
                "pip could not install the packages; its message stands above. Check the network."
            )
        say("pip failed; trying once more")
    (folder / f"overread-{extra}.stamp").write_text(fingerprint(extra), encoding="utf-8")
    say(f"[3/3] environment is ready after {time.monotonic() - started:.0f} s")
    return python


def has_display() -> bool:
    """Whether a window can be opened."""
    if platform.system() != "Linux":
        return True
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def run_main_job(python: Path, headless: bool, out: Path | None) -> int:
    """Open the window on the sample, or run the demonstration without a screen."""
    if has_display() and not headless:
        say("opening the window on the embedded sample")
        return subprocess.run([str(python), "-m", "app", "--sample"], cwd=ROOT, check=False).returncode
    folder = (out or ROOT / "out" / "demo").absolute()
    say(f"no window wanted or possible: running the demonstration into {folder}")
    command = [str(python), "-m", "core.cli.main", "demo", "--out", str(folder)]
    return subprocess.run(command, cwd=ROOT, check=False).returncode


def run_tests(python: Path, arguments: list[str]) -> int:
    """Run the suite, in parallel unless told otherwise."""
    parallel = [] if any(a.startswith("-n") for a in arguments) else ["-n", str(min(os.cpu_count() or 1, 8))]
    command = [str(python), "-m", "pytest", *parallel, "--dist", "worksteal", *arguments]
    if "-n0" in arguments or ("-n" in arguments and "0" in arguments):
        command = [str(python), "-m", "pytest", *arguments]
    return subprocess.run(command, cwd=ROOT, check=False).returncode


def main(argv: list[str] | None = None) -> int:
    """Parse the command and do it; return the exit status."""
    parser = argparse.ArgumentParser(prog="bootstrap.py", description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("env", help="make or update the environment, print its Python")
    run = commands.add_parser("run", help="run the main job on the embedded sample")
    run.add_argument("--headless", action="store_true", help="never open a window")
    run.add_argument("--out", type=Path, help="folder for what the demonstration writes")
    commands.add_parser("test", help="run the test suite; further arguments go to pytest")
    options, rest = parser.parse_known_args(argv)
    if rest and options.command != "test":
        parser.error(f"unknown arguments: {' '.join(rest)}")
    try:
        require_system(options.command)
        python = make_environment(EXTRAS[options.command])
    except (BootstrapError, subprocess.CalledProcessError) as error:
        say(str(error))
        return 1
    if options.command == "env":
        print(python)
        return 0
    if options.command == "run":
        return run_main_job(python, options.headless, options.out)
    return run_tests(python, rest)


if __name__ == "__main__":
    sys.exit(main())
