"""Slices shared by two processes: the features and gradients are those of one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from models.networks.mri_multitask.distributed_slices import embedded_over_ranks, slab
from models.networks.mri_multitask.embedding import PatchEmbedding

PROGRAM = """
import json, os, sys
import torch
import torch.distributed as dist
from models.networks.mri_multitask.distributed_slices import embedded_over_ranks
from models.networks.mri_multitask.embedding import PatchEmbedding

store, out = sys.argv[1:]
rank, world = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=world)
torch.manual_seed(0)
embedding, alone = PatchEmbedding(2, 8, scales=(1, 4)), PatchEmbedding(2, 8, scales=(1, 4))
alone.load_state_dict(embedding.state_dict())
weight = torch.randn(8, 1, 1, 1)


def learn(features):
    places = torch.arange(features.shape[2])[:, None, None]
    (features * weight * places).square().sum().backward()


found = {}
for slices in (12, 4):
    embedding.zero_grad()
    alone.zero_grad()
    image = torch.randn(1, 2, slices, 8, 12, generator=torch.Generator().manual_seed(1))
    image[:, 1, : slices // 2] = 0.0
    features, expected = embedded_over_ranks(embedding, image), alone(image)
    learn(features)
    learn(expected)
    gaps = {}
    for (key, one), two in zip(alone.named_parameters(), embedding.parameters()):
        mean = two.grad.clone()
        dist.all_reduce(mean)
        gaps[key] = float((mean / world - one.grad).abs().max() / one.grad.abs().max().clamp(min=1e-6))
    gap = float((features - expected).detach().abs().max())
    found[slices] = {"gap": gap, "slopes": gaps, "shape": list(features.shape)}
with open(f"{out}.{rank}", "w") as file:
    json.dump(found, file)
dist.destroy_process_group()
"""


@pytest.mark.skipif(os.name == "nt", reason="gloo's file store is POSIX here")
def test_two_processes_embed_a_volume_as_one_does(tmp_path: Path) -> None:
    children = [
        subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(tmp_path / "store"), str(tmp_path / "out")],
            env=os.environ | {"RANK": str(rank), "WORLD_SIZE": "2", "OMP_NUM_THREADS": "1"},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    told = [child.communicate(timeout=120)[1] for child in children]
    assert [child.returncode for child in children] == [0, 0], told
    for rank in range(2):
        answers = json.loads((tmp_path / f"out.{rank}").read_text(encoding="utf-8"))
        # Twelve slices are three units, shared unevenly; four are one, which leaves a process idle.
        for slices, found in answers.items():
            assert found["shape"] == [1, 8, int(slices) // 2, 4, 6]
            assert found["gap"] <= 1e-6
            assert max(found["slopes"].values()) <= 1e-5, found["slopes"]


def test_parts_are_whole_units_and_cover_all_slices() -> None:
    parts = [slab(28, 4, rank, 3) for rank in range(3)]
    assert parts == [(0, 8), (8, 16), (16, 28)]
    with pytest.raises(ValueError, match="units of 4"):
        slab(30, 4, 0, 2)


def test_alone_it_is_the_embedding() -> None:
    made = PatchEmbedding(1, 8)
    volume = torch.randn(1, 1, 8, 8, 8)
    assert torch.equal(embedded_over_ranks(made, volume), made(volume))
