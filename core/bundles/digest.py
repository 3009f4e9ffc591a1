"""One number for all files of a bundle."""

from __future__ import annotations

from core.bundles.bundle import Bundle
from core.bundles.signing import format_hashes, sha256_hex


def bundle_digest(bundle: Bundle) -> str:
    """Return the sha256 over the hashes of all files: equal for two bundles only if every byte is."""
    return sha256_hex(format_hashes(bundle.hashes))
