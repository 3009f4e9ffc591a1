"""The licences of what a frozen build carries, copied from the packages' own metadata."""

from __future__ import annotations

import re
import shutil
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT_PACKAGE = "overread"
EXTRAS = {"", "ai", "fast", "postgres"}
_TEXT = re.compile(r"^(licen[sc]e|copying|notice|authors|copyright)", re.IGNORECASE)
# Debian's own copies, for packages that name a licence of the GNU project without bringing its text.
_COMMON = Path("/usr/share/common-licenses")
_GNU = {"LGPL-3.0": ("LGPL-3", "GPL-3")}


def shipped_distributions() -> dict[str, Distribution]:
    """Return what the program requires, directly and indirectly, as far as it is installed."""
    found: dict[str, Distribution] = {}
    waiting = [(ROOT_PACKAGE, EXTRAS)]
    while waiting:
        name, extras = waiting.pop()
        try:
            package = distribution(name)
        except PackageNotFoundError:
            continue  # an optional package that this build doesn't carry
        if canonicalize_name(name) in found:
            continue
        found[canonicalize_name(name)] = package
        for text in package.requires or ():
            need = Requirement(text)
            if need.marker is None or any(need.marker.evaluate({"extra": extra}) for extra in extras):
                waiting.append((need.name, {"", *need.extras}))
    found.pop(ROOT_PACKAGE, None)
    return found


def licence_of(package: Distribution) -> str:
    """Return what a package says about its licence, on one line."""
    about = package.metadata
    stated = (about.get("License-Expression") or about.get("License") or "").strip()
    classifiers = [c.split(" :: ")[-1] for c in about.get_all("Classifier") or () if c.startswith("License")]
    if stated and "\n" not in stated:
        return stated
    return ", ".join(classifiers) or "see the text"


def copy_texts(package: Distribution, folder: Path) -> int:
    """Copy a package's licence files into its own folder; return how many there were."""
    texts = [f for f in package.files or () if _TEXT.match(f.name) and f.suffix not in {".py", ".pyc"}]
    copied = 0
    for number, text in enumerate(texts):
        source = Path(str(package.locate_file(text)))
        if not source.is_file():
            continue
        folder.mkdir(parents=True, exist_ok=True)
        name = text.name if not (folder / text.name).exists() else f"{number}-{text.name}"
        shutil.copyfile(source, folder / name)
        copied += 1
    if not copied:
        copied = _copy_common(licence_of(package), folder)
    return copied


def _copy_common(licence: str, folder: Path) -> int:
    names = next((files for key, files in _GNU.items() if key in licence), ())
    present = [_COMMON / name for name in names if (_COMMON / name).is_file()]
    for source in present:
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, folder / source.name)
    return len(present)


def collect_licences(folder: Path) -> int:
    """Write every shipped package's licence texts and an index; return the number of packages."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = ["What this build of Overread carries, and under which licence.", ""]
    packages = sorted(shipped_distributions().items())
    for name, package in packages:
        count = copy_texts(package, folder / name)
        where = (
            name
            if count
            else f"no text in the package; {package.metadata.get('Home-page') or 'see its site'}"
        )
        lines.append(f"{name} {package.version}: {licence_of(package)} ({where})")
    (folder / "INDEX.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return len(packages)
