"""The word pieces of the reports that go with the images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from core.config.atomic import atomic_path
from core.domain.errors import InputError
from core.recipes.schema import TextConfig

if TYPE_CHECKING:
    from core.compute.text import TextEncoder

FOLDER = "text"
VOCABULARY_FILE = "vocab.txt"


def text_encoder(config: TextConfig, texts: Sequence[str | None], out: Path | None) -> TextEncoder:
    """Return the encoder that the recipe names, or one learnt from the training reports.

    The vocabulary is kept as ``text/vocab.txt`` in the run's folder ``out``.

    Raises
    ------
    InputError
        ``training.no_text`` when no training case has a report to learn from.
    """
    from core.compute.text import TextEncoder

    if config.vocabulary is not None:
        encoder = TextEncoder.from_folder(Path(config.vocabulary), config)
    else:
        known = [text for text in texts if text]
        if not known:
            raise InputError(
                "training.no_text",
                "No training case has a report to learn words from.",
                "Give reports, or remove data.text.",
            )
        encoder = TextEncoder.learn(known, config)
    if out is not None:
        (out / FOLDER).mkdir(parents=True, exist_ok=True)
        with atomic_path(out / FOLDER / VOCABULARY_FILE) as part:
            part.write_bytes(encoder.vocabulary_bytes())
    return encoder
