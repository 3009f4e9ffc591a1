"""A BERT of the user's own folder: its configuration stands in the bundle, its weights in the network."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from core.compute.text import SPECIAL
from core.compute.training.objective import build_network, network_params
from core.domain.errors import InputError
from core.recipes.load import parse_recipe
from core.recipes.schema import Recipe
from tests.fakes.recipes import tiny_recipe

transformers = pytest.importorskip("transformers")
SIZES = {
    "vocab_size": 9, "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16,
    "max_position_embeddings": 64,
}  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A BERT as Hugging Face saves it, made on the spot."""
    torch.manual_seed(5)
    bert = transformers.BertModel(transformers.BertConfig(**SIZES))
    bert.save_pretrained(tmp_path)
    (tmp_path / "vocab.txt").write_text("\n".join([*SPECIAL, "no", "lung", "clear", "##s"]), encoding="utf-8")
    return tmp_path


def recipe(folder: Path, **text: Any) -> Recipe:
    network = {
        "name": "image_text",
        "params": {"image_params": {"channels": [4, 8]}, "text_weights": str(folder)},
    }
    data = {
        "source": {"name": "synthetic_reports"},
        "text": {"vocabulary": str(folder), "max_tokens": 16, **text},
    }
    return parse_recipe(tiny_recipe(network=network, data=data))


def test_the_text_encoder_begins_with_the_weights_of_the_folder(folder: Path) -> None:
    network = build_network(recipe(folder)).eval()
    theirs = transformers.BertModel.from_pretrained(folder, local_files_only=True).eval()
    text = torch.tensor([[2, 5, 6, 3]])
    with torch.no_grad():
        states = network.get_submodule("text")(text)[0]
        assert torch.allclose(states, theirs(input_ids=text).last_hidden_state, atol=1e-6)


def test_the_bundle_s_arguments_hold_the_configuration_and_no_path(folder: Path) -> None:
    params = network_params(recipe(folder))
    assert str(folder) not in json.dumps(params)
    assert params["text_config"] == {**SIZES, **params["text_config"]}


def test_weights_with_the_names_of_the_first_berts_fit_too(folder: Path) -> None:
    file = folder / "model.safetensors"
    renamed = {
        f"bert.{name}".replace("LayerNorm.weight", "LayerNorm.gamma").replace(
            "LayerNorm.bias", "LayerNorm.beta"
        ): value
        for name, value in load_file(file).items()
    }
    expected = build_network(recipe(folder)).state_dict()
    save_file(renamed, file)
    for name, value in build_network(recipe(folder)).state_dict().items():
        if name.startswith("text."):
            assert torch.equal(value, expected[name])


def test_a_vocabulary_without_weights_gives_its_size(folder: Path) -> None:
    plain = recipe(folder)
    without = plain.model_copy(update={"network": plain.network.model_copy(update={"params": {}})})
    assert network_params(without)["text_config"] == {"vocab_size": 9}


def test_what_does_not_belong_together_is_refused_by_name(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="2048 pieces"):
        network_params(recipe(folder, vocabulary=None))
    tensors = load_file(folder / "model.safetensors")
    lacking = "encoder.layer.0.output.dense.bias"
    save_file(
        {name: value for name, value in tensors.items() if name != lacking}, folder / "model.safetensors"
    )
    with pytest.raises(InputError, match=lacking):
        build_network(recipe(folder))
    (folder / "model.safetensors").write_bytes(b"\x80\x04pickle")
    with pytest.raises(InputError, match=r"model\.safetensors"):
        build_network(recipe(folder))
    (folder / "config.json").write_text('{"model_type": "gpt2"}', encoding="utf-8")
    with pytest.raises(InputError, match="gpt2"):
        build_network(recipe(folder))
    with pytest.raises(InputError, match=r"config\.json"):
        build_network(recipe(tmp_path / "nowhere", vocabulary=None))
