"""Registered models by name and alias, for everything that runs a model."""

from __future__ import annotations

from pathlib import Path

from core.bundles.bundle import Bundle, read_bundle
from core.bundles.digest import bundle_digest
from core.config.paths import Paths
from core.domain.errors import SafetyError
from core.registry.store import ModelRegistry, RegisteredVersion
from core.registry.versions import check_name, is_reference, parse_reference


def registered(paths: Paths, name: str = "") -> list[RegisteredVersion]:
    """Return the versions of one model, or of all, each model's highest version first."""
    registry = ModelRegistry(paths.registry)
    names = (check_name(name),) if name else registry.names()
    return [version for one in names for version in registry.versions(one)]


def registered_bundle(paths: Paths, reference: str) -> Bundle | None:
    """Return the bundle of ``NAME@ALIAS`` or ``NAME@X.Y.Z``; None when the text is no such reference.

    Raises
    ------
    InputError
        ``registry.unknown`` and what a reference can be wrong by.
    SafetyError
        ``registry.changed`` when the files aren't those that were registered.
    """
    if not is_reference(reference) or Path(reference).exists():
        return None
    return verified(ModelRegistry(paths.registry).find(parse_reference(reference)))


def verified(found: RegisteredVersion) -> Bundle:
    """Return the bundle of a version; raises SafetyError (``registry.changed``) when its files were changed."""
    bundle = read_bundle(found.bundle)
    if bundle_digest(bundle) != found.sha256:
        raise SafetyError(
            "registry.changed",
            f"The files of {found.name}@{found.version} aren't those that were registered.",
            "Restore the folder of this version from a backup, or use another version.",
        )
    return bundle
