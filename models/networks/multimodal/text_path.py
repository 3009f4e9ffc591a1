"""A BERT that reads reports as token ids. Source: J. Devlin et al., BERT, NAACL 2019, as transformers has it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from transformers import BertConfig

SMALL: dict[str, Any] = {
    "vocab_size": 2048,
    "hidden_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 256,
    "max_position_embeddings": 512,
    "type_vocab_size": 2,
    "hidden_act": "gelu",
    "layer_norm_eps": 1e-12,
    "hidden_dropout_prob": 0.1,
    "attention_probs_dropout_prob": 0.1,
}
"""Fields of BERT's configuration that may be given, and the small BERT that is built without any."""


class TextPath(nn.Module):
    """The states of a report's tokens.

    Parameters
    ----------
    config : mapping
        Fields of BERT's configuration (those of ``SMALL``); the others are as there.

    Notes
    -----
    Input ``(N, L)`` int64, 0 = padding; output ``(N, L, hidden_size)`` float32 and ``(N, L)`` bool, True where a token
    is. A row without any token gives states that mean nothing. Nothing is downloaded; weights of one's own are loaded
    into ``bert``, whose names are those of transformers.

    Raises
    ------
    ValueError
        For a field that isn't known.
    ImportError
        When transformers isn't installed.
    """

    def __init__(self, config: Mapping[str, Any] | None = None) -> None:
        super().__init__()
        from transformers import BertModel

        settings = bert_config(config)
        self.bert = BertModel(settings, add_pooling_layer=False)
        self.features = int(settings.hidden_size)
        self.longest = int(settings.max_position_embeddings)

    def forward(self, text: Tensor) -> tuple[Tensor, Tensor]:
        """Return states and which tokens are there."""
        if text.shape[1] > self.longest:
            raise ValueError(f"{text.shape[1]} tokens; this text encoder takes {self.longest}")
        there = text != 0
        # Attention needs something to look at in a row without a token.
        first = torch.zeros_like(there)
        first[:, 0] = True
        looked_at = there | (first & ~there.any(dim=1, keepdim=True))
        states: Tensor = self.bert(input_ids=text, attention_mask=looked_at.long()).last_hidden_state
        return states, there


def bert_config(config: Mapping[str, Any] | None) -> BertConfig:
    """Return BERT's configuration.

    Raises
    ------
    ValueError
        For a field that isn't in ``SMALL``, and for widths that don't divide.
    """
    from transformers import BertConfig

    given = dict(config or {})
    unknown = sorted(set(given) - set(SMALL))
    if unknown:
        raise ValueError(f"text_config has no field {unknown[0]!r}; known: {', '.join(SMALL)}")
    merged = {**SMALL, **given}
    if merged["hidden_size"] % merged["num_attention_heads"]:
        raise ValueError("text_config: hidden_size is a multiple of num_attention_heads")
    return BertConfig(**merged, pad_token_id=0)
