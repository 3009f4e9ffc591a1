"""Weights from a user's file: what is loaded, what is reported, what is refused."""

from __future__ import annotations

import json
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from core.compute.training.pretrained import load_pretrained
from core.domain.errors import InputError
from models.networks.classifier import classifier
from models.networks.parts import Parts, backbone_parameters, head_parameters
from models.networks.registry import build
from models.networks.vit import VitEncoder


def network(**params: object) -> nn.Module:
    torch.manual_seed(0)
    return build("resnet18", out_channels=3, in_channels=1, **params)


def imagenet_file_content() -> dict[str, Tensor]:
    """Return torchvision's table of a ResNet-18 of 1000 classes: the encoder's names, and ``fc``."""
    torch.manual_seed(7)
    state = build("resnet18", out_channels=3).get_submodule("encoder").state_dict()
    content = {key: tensor + 0.01 if tensor.is_floating_point() else tensor for key, tensor in state.items()}
    return {**content, "fc.weight": torch.zeros(1000, 512), "fc.bias": torch.zeros(1000)}


def test_the_backbone_is_loaded_and_the_head_stays_new(tmp_path: Path) -> None:
    content, target = imagenet_file_content(), network()
    save_file(content, tmp_path / "resnet18.safetensors")
    head = [parameter.clone() for parameter in head_parameters(target)]
    report = load_pretrained(target, "resnet18", tmp_path / "resnet18.safetensors")
    state = target.state_dict()
    assert all(
        torch.equal(state[f"encoder.{key}"], content[key]) for key in content if not key.startswith("fc")
    )
    assert all(torch.equal(old, new) for old, new in zip(head, head_parameters(target), strict=True))
    assert (report.coverage, report.missing, report.mismatched) == (1.0, (), ())
    assert set(report.unused) == {"fc.bias", "fc.weight"}
    assert len(report.loaded) == 120
    assert report.file == "resnet18.safetensors"
    assert len(report.sha256) == 64
    assert json.loads(json.dumps(report.as_dict()))["naming"] == "torchvision"


def test_grey_pictures_meet_the_colour_weights(tmp_path: Path) -> None:
    content, grey = imagenet_file_content(), network().eval()
    save_file(content, tmp_path / "resnet18.safetensors")
    load_pretrained(grey, "resnet18", tmp_path / "resnet18.safetensors")
    image = torch.randn(1, 1, 64, 64)
    with torch.no_grad():
        same = grey.get_submodule("head")(grey.get_submodule("encoder")(image.repeat(1, 3, 1, 1)))
        assert torch.allclose(grey(image), same, atol=1e-6)
        assert torch.isfinite(same).all()


@pytest.mark.parametrize("container", [None, "state_dict", "model"])
@pytest.mark.parametrize("prefix", ["", "module.", "model.module."])
def test_containers_and_wrappers_are_opened(tmp_path: Path, container: str | None, prefix: str) -> None:
    content: object = OrderedDict((f"{prefix}{key}", value) for key, value in imagenet_file_content().items())
    if container:
        content = {container: content, "epoch": 3}
    torch.save(content, tmp_path / "weights.pth")
    assert load_pretrained(network(), "resnet18", tmp_path / "weights.pth").coverage == 1.0


def test_our_own_weights_are_taken_from_any_network(tmp_path: Path) -> None:
    params = {"spatial_dims": 2, "depth": 2, "features": 4}
    source, target = build("unet", out_channels=2, **params), build("unet", out_channels=5, **params)
    save_file(
        {key: value.contiguous() for key, value in source.state_dict().items()}, tmp_path / "unet.safetensors"
    )
    report = load_pretrained(target, "unet", tmp_path / "unet.safetensors")
    assert report.naming == "overread"
    assert report.coverage == 1.0
    pairs = zip(backbone_parameters(source), backbone_parameters(target), strict=True)
    assert all(torch.equal(one, two) for one, two in pairs)


def test_half_precision_is_taken(tmp_path: Path) -> None:
    content = {k: v.half() if v.is_floating_point() else v for k, v in imagenet_file_content().items()}
    save_file(content, tmp_path / "half.safetensors")
    target = network()
    load_pretrained(target, "resnet18", tmp_path / "half.safetensors")
    assert next(target.get_submodule("encoder").parameters()).dtype == torch.float32


def test_one_missing_tensor_is_reported(tmp_path: Path) -> None:
    content = imagenet_file_content()
    del content["layer1.0.conv1.weight"]
    content["layer1.1.conv1.weight"] = torch.zeros(64, 64, 1, 1)
    save_file(content, tmp_path / "part.safetensors")
    target = network()
    before = target.state_dict()["encoder.layer1.1.conv1.weight"].clone()
    report = load_pretrained(target, "resnet18", tmp_path / "part.safetensors")
    assert report.missing == ("encoder.layer1.0.conv1.weight",)
    assert report.mismatched == ("encoder.layer1.1.conv1.weight",)
    assert 0.98 < report.coverage < 1.0
    assert torch.equal(target.state_dict()["encoder.layer1.1.conv1.weight"], before)


def test_a_file_of_another_network_is_refused_and_nothing_changes(tmp_path: Path) -> None:
    content = imagenet_file_content()
    save_file({k: v for k, v in content.items() if not k.startswith("layer4")}, tmp_path / "half.safetensors")
    target = network()
    before = {key: value.clone() for key, value in target.state_dict().items()}
    with pytest.raises(InputError) as refusal:
        load_pretrained(target, "resnet18", tmp_path / "half.safetensors")
    assert refusal.value.code == "training.pretrained"
    assert "half.safetensors" in refusal.value.user_message
    assert "encoder.layer4.0.conv1.weight" in refusal.value.user_message
    assert "resnet18" in refusal.value.remedy
    assert all(torch.equal(before[key], value) for key, value in target.state_dict().items())


def test_colour_weights_do_not_fit_volumes(tmp_path: Path) -> None:
    save_file(imagenet_file_content(), tmp_path / "flat.safetensors")
    with pytest.raises(InputError, match="another shape"):
        load_pretrained(network(spatial_dims=3), "resnet18", tmp_path / "flat.safetensors")


def small_vit(image_size: int) -> nn.Module:
    encoder = VitEncoder(image_size, patch=8, depth=2, width=24, heads=2, hidden=48)
    return classifier(encoder, 24, Parts((), (("conv_proj",),)), out_channels=2)


def test_a_position_table_of_another_picture_size_is_interpolated(tmp_path: Path) -> None:
    content = small_vit(96).get_submodule("encoder").state_dict()
    ramp = torch.linspace(0, 1, 12)[:, None].expand(12, 12).reshape(1, -1, 1).expand(1, -1, 24)
    content["encoder.pos_embedding"] = torch.cat([torch.full((1, 1, 24), 5.0), ramp], dim=1)
    torch.save(content, tmp_path / "vit_larger.pth")
    target = small_vit(64)
    assert load_pretrained(target, "vit_b_16", tmp_path / "vit_larger.pth").mismatched == ()
    table = target.state_dict()["encoder.encoder.pos_embedding"]
    assert table.shape == (1, 65, 24)
    assert torch.all(table[:, 0] == 5.0)
    rows = table[0, 1:, 0].reshape(8, 8)
    assert torch.allclose(rows[:, 0], rows[:, 7])
    assert torch.all(rows.diff(dim=0) > 0)


def test_padding_that_does_not_belong_to_the_weights_is_noted(tmp_path: Path) -> None:
    target = build("efficientnet_b0", out_channels=2)
    state = target.get_submodule("encoder").state_dict()
    content = {_lukemelas(key): value.clone() for key, value in state.items()}
    torch.save(content, tmp_path / "efficientnet-b0.pth")
    report = load_pretrained(target, "efficientnet_b0", tmp_path / "efficientnet-b0.pth")
    assert report.naming == "efficientnet-pytorch"
    assert "same" in report.notes[0]
    fitting = build("efficientnet_b0", out_channels=2, padding="same")
    assert load_pretrained(fitting, "efficientnet_b0", tmp_path / "efficientnet-b0.pth").notes == ()


def _lukemelas(key: str) -> str:
    """Return MONAI's name without the stage: _blocks.2.3._bn1 is block 3 there."""
    parts = key.split(".")
    return ".".join([parts[0], *parts[2:]]) if parts[0] == "_blocks" else key


class Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return print, ("this must never be printed",)


def test_code_in_a_file_is_not_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save({"state_dict": Evil()}, tmp_path / "evil.pth")
    with pytest.raises(InputError, match=r"evil\.pth"):
        load_pretrained(network(), "resnet18", tmp_path / "evil.pth")
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("broken.safetensors", b"\x08\x00\x00\x00\x00\x00\x00\x00{}"),
        ("cut.safetensors", b"\xff"),
        ("broken.pth", b"not a file of torch"),
        ("empty.pth", b""),
    ],
)
def test_unreadable_files_are_refused(tmp_path: Path, file: str, content: bytes) -> None:
    (tmp_path / file).write_bytes(content)
    with pytest.raises(InputError) as refusal:
        load_pretrained(network(), "resnet18", tmp_path / file)
    assert file in refusal.value.user_message
    assert refusal.value.remedy


def test_a_missing_file_and_one_without_tensors_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="doesn't exist"):
        load_pretrained(network(), "resnet18", tmp_path / "none.pth")
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(InputError, match="no table"):
        load_pretrained(network(), "resnet18", tmp_path / "list.pth")
    torch.save({"epoch": 1}, tmp_path / "numbers.pth")
    with pytest.raises(InputError, match="no tensors"):
        load_pretrained(network(), "resnet18", tmp_path / "numbers.pth")
