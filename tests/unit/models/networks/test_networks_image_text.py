"""Picture and report in one network: fusions by their formulas, reports that are missing, parts for transfer."""

from __future__ import annotations

import pytest
import torch
from scipy.stats import entropy
from torch import nn

from models.networks.multimodal.fusion import (
    FUSIONS,
    ConcatFusion,
    CrossAttentionFusion,
    GatedFusion,
)
from models.networks.multimodal.image_text import ImageText
from models.networks.multimodal.text_path import TextPath
from models.networks.parts import backbone_parameters, head_parameters, stages
from models.networks.registry import build

TINY = {"vocab_size": 50, "hidden_size": 32, "num_hidden_layers": 2, "intermediate_size": 32}
SMALL_PICTURES = {
    "cnn2d": {"channels": [4, 8]},
    "cell_net": {"channels": [4, 8]},
    "simple_cnn": {"channels": [4, 8]},
}


def made(fusion: str, image: str = "cnn2d", **params: object) -> ImageText:
    torch.manual_seed(0)
    network = build(
        "image_text", image=image, image_params=SMALL_PICTURES[image], fusion=fusion, text_config=TINY, width=16,
        **params,
    )  # fmt: skip
    assert isinstance(network, ImageText)
    return network


def inputs() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    text = torch.randint(1, 50, (4, 12), generator=generator)
    text[1] = 0
    text[2, 5:] = 0
    return torch.randn(4, 1, 24, 24, generator=generator), text


@pytest.mark.parametrize("fusion", FUSIONS)
@pytest.mark.parametrize("image", sorted(SMALL_PICTURES))
def test_a_missing_report_is_a_row_of_zeros_or_no_tensor_at_all(fusion: str, image: str) -> None:
    network = made(fusion, image).eval()
    pictures, text = inputs()
    with torch.no_grad():
        both, alone = network(pictures, text), network(pictures)
    assert both.shape == (4, 2)
    assert torch.allclose(both[1], alone[1], atol=1e-6)
    assert not torch.allclose(both[0], alone[0], atol=1e-4)


@pytest.mark.parametrize("fusion", FUSIONS)
def test_padding_and_the_other_rows_of_a_batch_change_nothing(fusion: str) -> None:
    network = made(fusion).eval()
    pictures, text = inputs()
    with torch.no_grad():
        together = network(pictures, text)
        longer = network(pictures, torch.cat([text, torch.zeros(4, 7, dtype=torch.long)], dim=1))
        single = network(pictures[2:3], text[2:3, :5])
    assert torch.allclose(together, longer, atol=1e-5)
    assert torch.allclose(together[2:3], single, atol=1e-5)


@pytest.mark.parametrize("fusion", FUSIONS)
def test_every_parameter_learns_from_pictures_with_and_without_a_report(fusion: str) -> None:
    network = made(fusion).train()
    pictures, text = inputs()
    network(pictures, text).square().sum().backward()
    still = [
        name
        for name, parameter in network.named_parameters()
        if parameter.grad is None or not parameter.grad.isfinite().all()
    ]
    assert still == []
    network.zero_grad()
    network(pictures, torch.zeros_like(text)).square().sum().backward()
    learnt = {
        name for name, p in network.named_parameters() if p.grad is not None and bool(p.grad.abs().sum())
    }
    assert "image.network.features.0.0.weight" in learnt
    assert not [name for name in learnt if name.startswith("text.")]


@pytest.mark.parametrize("fusion", FUSIONS)
def test_the_answer_without_a_report_imitates_the_one_with_it(fusion: str) -> None:
    network = made(fusion, dropout=0.0)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d | nn.Dropout):
            module.eval()
    network.text.eval()
    network.fusion.eval()
    network.training = True
    pictures, text = inputs()
    taught = network(pictures, text)
    value = network.auxiliary_loss()
    with torch.no_grad():
        without = network(pictures)
    # The second picture has no report. Source: scipy's relative entropy.
    rows = [entropy(taught[n].softmax(0).detach().numpy(), without[n].softmax(0).numpy()) for n in (0, 2, 3)]
    assert float(value.detach()) == pytest.approx(sum(rows) / 3, rel=1e-3)
    value.backward()
    assert not [
        name for name, p in network.named_parameters() if name.startswith("text.") and p.grad is not None
    ]
    assert float(network.auxiliary_loss().detach()) == 0


def test_the_text_encoder_is_bert_of_transformers() -> None:
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    path = TextPath(TINY).eval()
    config = transformers.BertConfig(**TINY, num_attention_heads=4, max_position_embeddings=512)
    theirs = transformers.BertModel(config).eval()
    theirs.load_state_dict(path.bert.state_dict(), strict=False)
    _, text = inputs()
    with torch.no_grad():
        states, there = path(text)
        expected = theirs(input_ids=text[2:3, :5]).last_hidden_state
    assert torch.allclose(states[2:3, :5], expected, atol=1e-5)
    assert torch.equal(there, text != 0)


def test_concatenation_is_two_layers_on_both_vectors() -> None:
    torch.manual_seed(0)
    fusion = ConcatFusion(3, 5, 4, 0.0)
    nn.init.normal_(fusion.no_report)
    picture, report = torch.randn(2, 6, 3), torch.randn(2, 7, 5)
    there = torch.ones(2, 7, dtype=torch.bool)
    there[1] = False
    summary = torch.stack([report[0, 0], fusion.no_report])
    expected = fusion.mix(torch.cat([picture.mean(1), summary], dim=1))
    assert torch.allclose(fusion(picture, report, there), expected)


def test_the_gate_weighs_report_against_picture_and_is_shut_without_one() -> None:
    torch.manual_seed(0)
    fusion = GatedFusion(3, 5, 4, 0.0)
    picture, report = torch.randn(2, 6, 3), torch.randn(2, 7, 5)
    there = torch.ones(2, 7, dtype=torch.bool)
    there[1] = False
    h_picture, h_report = fusion.image(picture.mean(1)), fusion.text(report[:, 0])
    z = torch.sigmoid(fusion.weigh(torch.cat([h_picture, h_report], dim=1)))
    # Source: J. Arevalo et al. 2017, equation of the gated multimodal unit, h = z h_t + (1 - z) h_v.
    expected = z * h_report + (1 - z) * h_picture
    answer = fusion(picture, report, there)
    assert torch.allclose(answer[0], expected[0])
    assert torch.allclose(answer[1], h_picture[1])
    assert torch.equal(fusion.gate(picture, report, there)[1], torch.zeros(4))


def test_cross_attention_looks_at_tokens_that_are_there_only() -> None:
    torch.manual_seed(0)
    fusion = CrossAttentionFusion(3, 5, 8, 2, 0.0).eval()
    picture, report = torch.randn(1, 6, 3), torch.randn(1, 7, 5)
    there = torch.tensor([[True, True, True, False, False, False, False]])
    changed = report.clone()
    changed[:, 3:] += 10
    assert torch.allclose(fusion(picture, report, there), fusion(picture, changed, there), atol=1e-6)
    changed[:, 1] += 1
    assert not torch.allclose(fusion(picture, report, there), fusion(picture, changed, there), atol=1e-3)


@pytest.mark.parametrize("image", ["resnet18", "efficientnet_b0", "densenet121", "swin_t", "convnext_tiny"])
def test_every_picture_encoder_can_be_the_image_s(image: str) -> None:
    with torch.device("meta"):
        network = build("image_text", image=image, in_channels=1, out_channels=3, text_config=TINY)
        answer = network(torch.empty(2, 1, 64, 64))
    assert answer.shape == (2, 3)
    staged = [parameter for stage in stages(network) for parameter in stage.parameters]
    assert {id(p) for p in staged} == {id(p) for p in backbone_parameters(network)}
    assert {id(p) for p in head_parameters(network)}.isdisjoint(id(p) for p in staged)


def test_both_encoders_unfreeze_together_from_their_ends() -> None:
    network = made("gated")
    last = stages(network)[-1]
    names = {id(p): name for name, p in network.named_parameters()}
    unfrozen = {names[id(p)].split(".")[0] for p in last.parameters}
    assert unfrozen == {"image", "text"}
    assert any("encoder.layer.1" in names[id(p)] for p in last.parameters)


@pytest.mark.parametrize(
    ("params", "said"),
    [
        ({"fusion": "sum"}, "cross_attention"),
        ({"text_config": {"vocab": 3}}, "vocab_size"),
        ({"text_config": {"hidden_size": 30}}, "multiple"),
        ({"image": "unet"}, "no picture classifier"),
        ({"image": "image_text"}, "no picture classifier"),
        ({"fusion": "cross_attention", "width": 30}, "heads"),
    ],
)
def test_what_cannot_be_built_is_said(params: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        build("image_text", **params)


def test_more_tokens_than_the_text_encoder_knows_are_refused() -> None:
    network = build("image_text", text_config={**TINY, "max_position_embeddings": 8}).eval()
    with pytest.raises(ValueError, match="9 tokens"):
        network(torch.zeros(1, 1, 24, 24), torch.ones(1, 9, dtype=torch.long))
