"""The patch embedding: in chunks as in one piece, at several resolutions, with absent contrasts named."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from models.networks.mri_multitask import memory
from models.networks.mri_multitask.embedding import PatchEmbedding, in_chunks, missing_contrasts
from models.networks.mri_multitask.memory import MemoryPolicy


def image(*size: int, channels: int = 2) -> torch.Tensor:
    return torch.randn(1, channels, *size, generator=torch.Generator().manual_seed(1))


def embedding(policy: MemoryPolicy | None = None, **options: object) -> PatchEmbedding:
    torch.manual_seed(0)
    return PatchEmbedding(2, 8, policy=policy, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("overlap", [True, False])
@pytest.mark.parametrize("stride", [2, 4])
@pytest.mark.parametrize("scales", [(1,), (1, 2, 4), (8,)])
def test_chunks_give_what_the_whole_volume_gives(scales: tuple[int, ...], stride: int, overlap: bool) -> None:
    options = {"scales": scales, "stride": stride, "overlap": overlap}
    whole = embedding(MemoryPolicy(chunking="never"), **options)
    parts = embedding(MemoryPolicy(chunking="always"), **options)
    volume = image(32, 16, 16)
    one, many = whole(volume), parts(volume)
    assert one.shape == (1, 8, 32 // stride, 16 // stride, 16 // stride)
    assert (one - many).abs().max() <= 1e-6
    one.square().sum().backward()
    many.square().sum().backward()
    for expected, found in zip(whole.parameters(), parts.parameters(), strict=True):
        assert expected.grad is not None
        assert found.grad is not None
        assert torch.allclose(found.grad, expected.grad, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("chunk", [4, 8, 12, 20, 24])
def test_every_length_of_chunk_gives_the_same(chunk: int) -> None:
    made = embedding(scales=(1, 4))
    volume = image(24, 8, 8)
    absent = missing_contrasts(volume)
    with torch.no_grad():
        found = in_chunks(lambda part: made.piece(part, absent), volume, chunk, made.unit, made.stride)
        assert (found - made.piece(volume, absent)).abs().max() <= 1e-6


def test_without_its_halo_a_chunk_would_differ() -> None:
    made = embedding()
    volume = image(16, 8, 8)
    absent = missing_contrasts(volume)
    with torch.no_grad():
        found = in_chunks(lambda part: made.piece(part, absent), volume, 8, 0, made.stride)
        assert (found - made.piece(volume, absent)).abs().max() > 1e-3


def test_chunks_and_halos_must_be_whole_steps() -> None:
    with pytest.raises(ValueError, match=r"chunks of 3 .* multiples of 2"):
        in_chunks(lambda part: part, image(8, 4, 4), 3, 2, 2)


@pytest.mark.parametrize("overlap", [True, False])
def test_at_one_scale_it_is_one_convolution(overlap: bool) -> None:
    made = embedding(overlap=overlap)
    volume, branch = image(8, 8, 8), made.branches[0]
    plain = functional.conv3d(volume, branch.weight, branch.bias, stride=2, padding=1 if overlap else 0)
    assert torch.allclose(made(volume), functional.gelu(plain), atol=1e-6)


def test_brighter_patches_have_other_features() -> None:
    made = embedding()
    with torch.no_grad():
        one, two = (made(torch.full((1, 2, 8, 8, 8), level))[0, :, 2, 2, 2] for level in (1.0, 2.0))
    assert 1 - functional.cosine_similarity(one, two, dim=0) > 1e-3


def test_each_scale_is_used() -> None:
    made = embedding(scales=(1, 2, 4))
    made(image(16, 16, 16)).square().sum().backward()
    assert all(branch.weight.grad.abs().sum() > 0 for branch in made.branches)


def test_a_scale_that_does_not_fit_the_stride_is_refused() -> None:
    with pytest.raises(ValueError, match="scale 3"):
        PatchEmbedding(1, 8, stride=2, scales=(1, 3))


def test_a_contrast_is_missing_only_when_all_of_it_is_zero() -> None:
    volume = image(8, 8, 8, channels=3)
    volume[:, 1] = 0.0
    volume[:, 2] = 0.0
    volume[0, 2, 3, 3, 3] = 1e-6
    assert missing_contrasts(volume).tolist() == [[0.0, 1.0, 0.0]]


def test_the_learnt_vector_is_added_exactly_for_a_missing_contrast() -> None:
    made = embedding()
    volume = image(8, 8, 8)
    volume = torch.cat([volume, volume])
    volume[1, 1] = 0.0
    with torch.no_grad():
        before = made(volume)
        made.missing[1] += 1.0 + torch.arange(8.0)
        after = made(volume)
        made.missing[0] += 1.0 + torch.arange(8.0)
        again = made(volume)
    assert torch.equal(before[0], after[0])
    assert not torch.allclose(before[1], after[1])
    assert torch.equal(after, again)


def test_a_chunk_of_zeros_is_no_missing_contrast() -> None:
    volume = image(32, 8, 8)
    volume[:, 0, :16] = 0.0
    whole, parts = (embedding(MemoryPolicy(chunking=mode)) for mode in ("never", "always"))
    assert (whole(volume) - parts(volume)).abs().max() <= 1e-6


def test_the_chunk_follows_the_free_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    policy, device = MemoryPolicy(share=0.5), torch.device("cpu")
    monkeypatch.setattr(memory, "free_bytes", lambda _device: 1000)
    assert policy.chunk(64, 1, 4, device) == 64
    assert policy.chunk(64, 40, 4, device) == 12
    assert policy.chunk(64, 900, 4, device) == 4
    assert MemoryPolicy(chunking="never").chunk(64, 900, 4, device) == 64


def test_checkpoints_begin_when_memory_is_short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "free_bytes", lambda _device: 1000)
    device = torch.device("cpu")
    assert not MemoryPolicy().checkpoints(500, device)
    assert MemoryPolicy().checkpoints(501, device)
    assert MemoryPolicy(checkpointing="always").checkpoints(1, device)
    assert not MemoryPolicy(checkpointing="never").checkpoints(10**9, device)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"checkpointing": "maybe"}, "maybe"),
        ({"chunking": "often"}, "always, never, auto"),
        ({"share": 0.0}, "share"),
    ],
)
def test_an_unknown_policy_is_refused(options: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        MemoryPolicy(**options)  # type: ignore[arg-type]
