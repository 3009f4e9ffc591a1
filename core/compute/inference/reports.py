"""The text that goes with an image, as the ids that the network takes."""

from __future__ import annotations

import tempfile
from pathlib import Path

import torch

from core.bundles.bundle import Bundle
from core.domain.errors import InputError


def text_ids(bundle: Bundle, text: str | None) -> torch.Tensor | None:
    """Return ``(1, L)`` int64 ids of the report; zeros for no text, None for a model that takes none.

    Raises
    ------
    InputError
        ``run.text``: a text for a model without one, or a vocabulary that is damaged.
    """
    settings = bundle.manifest.text
    if settings is None:
        if text:
            raise InputError(
                "run.text",
                f"{bundle.manifest.title} takes no text.",
                "Leave out the text, or choose another model.",
            )
        return None
    if not text or not text.strip():
        return torch.zeros((1, settings.max_tokens), dtype=torch.int64)
    from core.compute.text import TextEncoder
    from core.recipes.schema import TextConfig

    config = TextConfig(max_tokens=settings.max_tokens, lowercase=settings.lowercase)
    with tempfile.TemporaryDirectory(prefix="overread-words-") as folder:
        file = Path(folder) / "vocab.txt"
        file.write_bytes(bundle.read(settings.vocabulary_file))
        ids = TextEncoder.from_folder(Path(folder), config).encode(text)
    if len(ids) != settings.max_tokens:
        raise InputError(
            "run.text",
            f"The vocabulary of {bundle.manifest.title} doesn't fit its network.",
            "Get the bundle again.",
        )
    return torch.tensor([ids], dtype=torch.int64)
