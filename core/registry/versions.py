"""Semantic versions and references to registered models.

Source: Semantic Versioning 2.0.0, sections 2, 9, 10 and 11.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import total_ordering

from core.domain.errors import InputError

_NUMBER = r"(0|[1-9]\d*)"
_IDENTIFIER = r"(?:0|[1-9]\d*|\d*[a-zA-Z-][0-9a-zA-Z-]*)"
_SEMVER = re.compile(rf"^{_NUMBER}\.{_NUMBER}\.{_NUMBER}(?:-({_IDENTIFIER}(?:\.{_IDENTIFIER})*))?$", re.ASCII)
_NAME = re.compile(r"^[a-z0-9][a-z0-9-]{1,62}$")
_ALIAS = re.compile(r"^[a-z][a-z0-9_-]{0,62}$")


@total_ordering
@dataclass(frozen=True)
class SemVer:
    """A semantic version without build metadata; ordered by precedence."""

    major: int
    minor: int
    patch: int
    pre: tuple[str, ...] = ()

    def __lt__(self, other: SemVer) -> bool:
        """Compare by precedence: a pre-release comes before its release."""
        return self._key() < other._key()

    def _key(self) -> tuple[object, ...]:
        parts = tuple((0, int(p), "") if p.isdecimal() else (1, 0, p) for p in self.pre)
        return (self.major, self.minor, self.patch, not self.pre, parts)

    def __str__(self) -> str:
        """Return for example ``1.2.0-rc.1``."""
        core = f"{self.major}.{self.minor}.{self.patch}"
        return f"{core}-{'.'.join(self.pre)}" if self.pre else core


def parse_version(text: str) -> SemVer:
    """Parse ``MAJOR.MINOR.PATCH`` with an optional pre-release.

    Raises
    ------
    InputError
        ``registry.version``.
    """
    match = _SEMVER.fullmatch(text)
    if match is None:
        raise InputError(
            "registry.version",
            f"“{text}” is no semantic version.",
            "Give three numbers, for example 1.2.0; 1.3.0-rc.1 for a preview.",
        )
    major, minor, patch, pre = match.groups()
    return SemVer(int(major), int(minor), int(patch), tuple(pre.split(".")) if pre else ())


def check_name(name: str) -> str:
    """Return the name of a registered model; raises InputError (``registry.name``) when it can't be one."""
    if _NAME.fullmatch(name) is None:
        raise InputError(
            "registry.name",
            f"“{name}” can't name a model.",
            "Use small letters, digits and hyphens, 2 to 63 of them.",
        )
    return name


def check_alias(alias: str) -> str:
    """Return the alias; raises InputError (``registry.alias``) when it can't be one.

    An alias starts with a letter, so that it is never taken for a version.
    """
    if _ALIAS.fullmatch(alias) is None or re.fullmatch(r"v\d+|latest", alias):
        raise InputError(
            "registry.alias",
            f"“{alias}” can't be an alias.",
            "Use small letters, digits, hyphens and underscores, for example production; v1 and latest are taken.",
        )
    return alias


@dataclass(frozen=True)
class Reference:
    """A registered model by alias, or by version (the other one is empty)."""

    name: str
    alias: str = ""
    version: str = ""


def is_reference(text: str) -> bool:
    """Whether a model is given as ``NAME@ALIAS`` or ``NAME@X.Y.Z``."""
    return "@" in text and "/" not in text and "\\" not in text


def parse_reference(text: str) -> Reference:
    """Parse ``NAME@ALIAS`` or ``NAME@X.Y.Z``.

    Raises
    ------
    InputError
        ``registry.name``, ``registry.alias``, ``registry.version``.
    """
    name, _, what = text.partition("@")
    check_name(name)
    if what[:1].isdecimal():
        return Reference(name, version=str(parse_version(what)))
    return Reference(name, alias=check_alias(what))
