"""A BERT of one's own for networks that read reports: its configuration and weights, from a local folder only.

The folder is one of Hugging Face's: ``config.json``, ``model.safetensors`` and, for ``data.text.vocabulary``,
``vocab.txt``. It is read here field by field; nothing is looked up by name and no code of it runs.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from torch import nn

from core.compute.text import LEARNT_PIECES, TextEncoder
from core.domain.errors import InputError
from core.recipes.schema import Recipe
from models.networks.multimodal.text_path import SMALL

CONFIG_FILE, WEIGHTS_FILE = "config.json", "model.safetensors"
TEXT_WEIGHTS = "text_weights"
_MAX_CONFIG_BYTES = 1 << 20
# Names of the first BERT files, before transformers renamed the layers.
_RENAMED = (("LayerNorm.gamma", "LayerNorm.weight"), ("LayerNorm.beta", "LayerNorm.bias"))


def text_params(recipe: Recipe) -> dict[str, Any]:
    """Return the network's own arguments with the text encoder's configuration in full.

    ``text_weights`` gives way to the fields of the folder's configuration, so that a bundle needs no folder; a
    vocabulary of one's own gives its size.

    Raises
    ------
    InputError
        ``training.text_weights``; ``text.vocabulary``.
    """
    params = dict(recipe.network.params)
    if recipe.network.name != "image_text":
        return params
    folder = params.pop(TEXT_WEIGHTS, None)
    config: dict[str, Any] = {} if folder is None else _config(Path(str(folder)))
    config |= dict(params.get("text_config") or {})
    text = recipe.data.text
    if text is not None:
        size = LEARNT_PIECES
        if text.vocabulary is not None:
            size = TextEncoder.from_folder(Path(text.vocabulary), text).size
            config.setdefault("vocab_size", size)
        if config.get("vocab_size", size) < size:
            raise _refusal(
                f"The vocabulary may have {size} pieces, the text encoder knows {config['vocab_size']}",
                "Give the vocabulary that belongs to the weights (data.text.vocabulary).",
            )
    return {**params, "text_config": config} if config else params


def load_text_weights(network: nn.Module, recipe: Recipe) -> None:
    """Load the weights of ``network.params.text_weights``, where the recipe has it, into the text encoder.

    Raises
    ------
    InputError
        ``training.text_weights`` when the file isn't there, isn't safetensors, or lacks a tensor.
    """
    folder = recipe.network.params.get(TEXT_WEIGHTS)
    if folder is None or recipe.network.name != "image_text":
        return
    from safetensors import SafetensorError, safe_open

    file = Path(str(folder)) / WEIGHTS_FILE
    bert = network.get_submodule("text.bert")
    own = bert.state_dict()
    found = {}
    try:
        with safe_open(file, framework="pt") as opened:
            for name in opened.keys():  # noqa: SIM118 - no mapping
                if _own_name(name) in own:
                    found[_own_name(name)] = opened.get_tensor(name)
    except (OSError, SafetensorError) as error:
        raise _refusal(
            f"“{file.name}” of the text encoder's folder can't be read",
            "Give a folder with config.json and model.safetensors; pickled weights aren't read.",
        ) from error
    for name, tensor in own.items():
        if name.endswith(("position_ids", "token_type_ids")):
            found.setdefault(name, tensor)
        elif name not in found or found[name].shape != tensor.shape:
            why = "lacks" if name not in found else "has another shape of"
            raise _refusal(
                f"“{file.name}” {why} the tensor {name}", "Give the weights of a BERT with this config.json."
            )
    bert.load_state_dict(
        {name: value.float() if value.is_floating_point() else value for name, value in found.items()}
    )


def _own_name(name: str) -> str:
    name = name.removeprefix("bert.")
    for old, new in _RENAMED:
        name = name.replace(old, new)
    return name


def _config(folder: Path) -> dict[str, Any]:
    file = folder / CONFIG_FILE
    try:
        if file.stat().st_size > _MAX_CONFIG_BYTES:
            raise ValueError("too large")
        document = json.loads(file.read_text(encoding="utf-8"))
        if not isinstance(document, dict):
            raise ValueError("no object")
    except (OSError, ValueError) as error:
        raise _refusal(
            f"“{CONFIG_FILE}” of the text encoder's folder can't be read",
            "Give the folder of a BERT model (config.json, model.safetensors, vocab.txt).",
        ) from error
    kind = document.get("model_type", "bert")
    if kind != "bert":
        raise _refusal(f"The text encoder's folder holds a {kind}", "Give a BERT.")
    return {name: document[name] for name in SMALL if name in document}


def _refusal(what: str, remedy: str) -> InputError:
    return InputError("training.text_weights", f"{what}.", remedy)
