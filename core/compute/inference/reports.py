"""The text that goes with an image, as the ids that the network takes."""

from __future__ import annotations

import torch

from core.bundles.bundle import Bundle
from core.compute.text import TextEncoder
from core.domain.errors import InputError


def text_ids(bundle: Bundle, text: str | None) -> torch.Tensor | None:
    """Return ``(1, L)`` int64 ids of the report; zeros for no text, None for a model that takes none.

    Raises
    ------
    InputError
        ``run.text``: a text for a model without one. ``text.vocabulary``: the bundle's is damaged.
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
    ids = TextEncoder.from_bytes(bundle.read(settings.vocabulary_file), settings).encode(text)
    return torch.tensor([ids], dtype=torch.int64)
