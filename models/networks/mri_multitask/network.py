"""The multi-task network for magnetic resonance volumes: structures, classes and measurements at once."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, distributed, nn

from models.networks.mri_multitask.blocks import BlockOptions, Trunk
from models.networks.mri_multitask.convolutions import ConvNorm, Down, ResidualBlock, SubvoxelLogits, Up
from models.networks.mri_multitask.distributed_slices import embedded_over_ranks
from models.networks.mri_multitask.embedding import PatchEmbedding
from models.networks.mri_multitask.experts import total_balance_loss
from models.networks.mri_multitask.kan import KANHead
from models.networks.mri_multitask.memory import MemoryPolicy, saved
from models.networks.mri_multitask.parallel_heads import ParallelHeads
from models.networks.mri_multitask.tracing import exporting

DIVISOR = 16
BALANCE_WEIGHT = 0.01
_BYTES_KEPT_PER_VALUE = 12
# One class or number per volume says little about its voxels, yet its gradient is the larger one: measured on brain MR,
# two to five times that of the segmentation, which it drowns.
_FROM_HEADS = 0.05


class BaseMRINet(nn.Module):
    """Patch embedding, convolutions down, a transformer at stride 8, convolutions up, and heads by task.

    Parameters
    ----------
    in_channels : int
        Contrasts.
    out_channels, classes, measurements : int
        Channels of the segmentation (background among them), classes of the whole volume, and numbers to
        estimate; 0: this task has no head (and without a segmentation there is no decoder).
    embed_dim, num_layers, num_heads : int
        Features of the transformer's tokens, its blocks, and the heads of its attention.
    widths : sequence of int
        Channels at the strides 2, 4 and 8.
    depths : sequence of int
        Convolutions at stride 2, residual blocks at the strides 4 and 8, and in the decoder convolutions at
        the strides 8, 4 and 2.
    bottleneck, bottleneck_blocks : int
        Channels and residual blocks at stride 16, where most of the parameters are: they cost least there.
    blocks : BlockOptions
        How the transformer's blocks are made.
    scales : sequence of int
        Resolutions that the patch embedding fuses.
    learnable_knots, gated : bool
        Of the Kolmogorov-Arnold heads.
    head_width : int
        Width of the layer inside those heads.
    head_dropout : float
        Dropout in those heads.
    policy : MemoryPolicy
        When to save memory.
    over_ranks : bool
        Whether the processes of a distributed run share the work on the finest level, each taking some slices
        of the same volume.

    Notes
    -----
    Input ``(N, in_channels, D, H, W)``, sizes multiples of 16; a channel of zeros is a contrast that wasn't
    taken. Output by task: ``segmentation`` ``(N, out_channels, D, H, W)`` logits, ``classification``
    ``(N, classes)`` logits, ``regression`` ``(N, measurements)``, standardised values.
    """

    def __init__(
        self,
        in_channels: int = 1,
        out_channels: int = 8,
        classes: int = 3,
        measurements: int = 2,
        *,
        embed_dim: int = 64,
        num_layers: int = 4,
        num_heads: int = 4,
        widths: Sequence[int] = (32, 64, 128),
        depths: Sequence[int] = (1, 1, 1, 2, 1, 1),
        bottleneck: int = 320,
        bottleneck_blocks: int = 2,
        blocks: BlockOptions | None = None,
        scales: Sequence[int] = (1,),
        learnable_knots: bool = False,
        gated: bool = False,
        head_width: int = 64,
        head_dropout: float = 0.0,
        policy: MemoryPolicy | None = None,
        over_ranks: bool = False,
    ) -> None:
        super().__init__()
        if min(in_channels, out_channels + 1, classes + 1, measurements + 1) < 1:
            raise ValueError("in_channels must be at least 1, and the numbers of outputs at least 0")
        if not out_channels + classes + measurements:
            raise ValueError("the network has no task: out_channels, classes and measurements are all 0")
        two, four, eight = widths
        self.policy, self.over_ranks = policy or MemoryPolicy(), over_ranks
        self.embedding = PatchEmbedding(in_channels, two, scales=scales, policy=self.policy)
        self.encoder = nn.ModuleList(
            [
                nn.Sequential(*(ConvNorm(two, two) for _ in range(depths[0]))),
                Down(two, four, depths[1]),
                Down(four, eight, depths[2]),
            ]
        )
        self.trunk = Trunk(eight, embed_dim, num_layers, num_heads, blocks)
        self.merge = nn.Conv3d(embed_dim, eight, 1)
        self.bottleneck = nn.ModuleList(
            [ConvNorm(eight, bottleneck, 2), *(ResidualBlock(bottleneck) for _ in range(bottleneck_blocks))]
        )
        if out_channels:
            pairs = zip((bottleneck, eight, four), (eight, four, two), depths[3:6], strict=True)
            self.decoder: Decoder | None = Decoder([Up(*pair) for pair in pairs])
        else:
            self.decoder = None
        pooled = 3 * two if out_channels else embed_dim + 3 * bottleneck
        self.pooled_norm = RunningNorm(pooled)
        options = {"learnable_knots": learnable_knots, "gated": gated}
        heads: dict[str, nn.Module] = {}
        if out_channels:
            heads["segmentation"] = VolumeHead(SubvoxelLogits(two, out_channels))
        for task, outputs in (("classification", classes), ("regression", measurements)):
            if outputs:
                head = KANHead(pooled, outputs, hidden=(head_width,), dropout=head_dropout, **options)
                heads[task] = PooledHead(head)
        self.heads = ParallelHeads(heads)
        self._work = _work(tuple(widths), tuple(depths), bottleneck, bottleneck_blocks)

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        """Return the tasks' outputs by name (see the class)."""
        again = self.policy.checkpoints(self.kept_bytes(image.shape), image.device)
        if self.over_ranks:
            features = embedded_over_ranks(self.embedding, image)
        else:
            features = self.embedding(image, again)
        skips: list[Tensor] = []
        for stage in self.encoder:
            features = saved(stage, features, again=again)
            skips.append(features)
        tokens = self.trunk(features, again)
        deep = skips[-1] = features + self.merge(tokens)
        for stage in self.bottleneck:
            deep = saved(stage, deep, again=again)
        if self.decoder is None:
            pooled = torch.cat([_mean(tokens), _mean(deep), *_extent(deep)], dim=1)
            answers: dict[str, Tensor] = self.heads(self.pooled_norm(pooled))
            return answers
        # The structures' own features tell sizes best; those of the coarser levels hardly differ between volumes.
        decoded = self.decoder(deep, skips, again)
        pooled = _damped(torch.cat([_mean(decoded), *_extent(decoded)], dim=1), _FROM_HEADS)
        answers = self.heads(self.pooled_norm(pooled), decoded)
        return answers

    def auxiliary_loss(self) -> Tensor:
        """Return what the training adds to the tasks' losses: the experts' load balance, weighted; 0 without.

        Source of the weight: W. Fedus et al., "Switch Transformers", JMLR 2022, equation 4.
        """
        return BALANCE_WEIGHT * total_balance_loss(self)

    def kept_bytes(self, shape: Sequence[int]) -> int:
        """Return about how many bytes the gradient of an image of this shape needs without checkpoints."""
        voxels = shape[0] * shape[2] * shape[3] * shape[4]
        return int(voxels * self._work * _BYTES_KEPT_PER_VALUE)


class Decoder(nn.Module):
    """Steps up from stride 16 to stride 2, with the encoder's features."""

    def __init__(self, stages: Sequence[Up]) -> None:
        super().__init__()
        self.stages = nn.ModuleList(stages)

    def forward(self, deep: Tensor, skips: Sequence[Tensor], again: bool = False) -> Tensor:
        """Return the features at the finest of the skips, which come finest first."""
        for stage, skip in zip(self.stages, reversed(skips), strict=True):
            deep = saved(stage, deep, skip, again=again)
        return deep


class RunningNorm(nn.Module):
    """Features less their mean over the volumes seen so far, over their standard deviation.

    Notes
    -----
    The statistics of the volumes before are used in training too, so that one volume per batch is enough. They begin
    as those of one volume of mean 0 and deviation 1, are averages over the first volumes, and then fade over about
    ``memory`` of them. Source: S. Ioffe, "Batch Renormalization", NeurIPS 2017, in the limit in which the batch's own
    statistics are not used. Processes that train together keep the statistics of all their volumes.
    """

    mean: Tensor
    square: Tensor
    seen: Tensor

    def __init__(self, features: int, memory: int = 30) -> None:
        super().__init__()
        self.memory = memory
        self.register_buffer("mean", torch.zeros(features))
        self.register_buffer("square", torch.ones(features))
        self.register_buffer("seen", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        """Return ``(N, features)`` float32 within ±8."""
        x = x.float()
        if self.training and not exporting():
            self._learn(x.detach())
        spread = (self.square - self.mean.square()).clamp(min=0.0).sqrt()
        return ((x - self.mean) / (spread + 1e-4 * self.mean.abs() + 1e-5)).clamp(-8.0, 8.0)

    @torch.no_grad()
    def _learn(self, x: Tensor) -> None:
        self.seen += 1.0
        share = max(1.0 / (float(self.seen) + 1.0), 1.0 / self.memory)
        moments = torch.stack([x.mean(dim=0), x.square().mean(dim=0)])
        if distributed.is_available() and distributed.is_initialized():
            distributed.all_reduce(moments)
            moments /= distributed.get_world_size()
        self.mean.lerp_(moments[0], share)
        self.square.lerp_(moments[1], share)


class PooledHead(nn.Module):
    """A head that reads the pooled features."""

    def __init__(self, head: nn.Module) -> None:
        super().__init__()
        self.head = head

    def forward(self, pooled: Tensor, decoded: Tensor | None = None) -> Tensor:
        """Return the head's answer to ``pooled`` ``(N, features)``."""
        del decoded
        answer: Tensor = self.head(pooled)
        return answer


class VolumeHead(nn.Module):
    """A head that reads the decoded features."""

    def __init__(self, head: nn.Module) -> None:
        super().__init__()
        self.head = head

    def forward(self, pooled: Tensor, decoded: Tensor) -> Tensor:
        """Return the head's answer to ``decoded`` ``(N, C, D, H, W)``."""
        del pooled
        answer: Tensor = self.head(decoded)
        return answer


def _mean(features: Tensor) -> Tensor:
    """Return the mean over the volume, ``(N, C)`` float32: a sum of so many values needs its precision."""
    return features.float().mean(dim=(2, 3, 4))


def _damped(features: Tensor, share: float) -> Tensor:
    """Return the features unchanged; only a share of their gradient flows back."""
    return share * features + (1.0 - share) * features.detach()


def _extent(features: Tensor) -> list[Tensor]:
    """Return the largest value and the standard deviation over the volume, each ``(N, C)`` float32.

    After a normalisation over the volume the mean says little about how much of the volume a feature marks.
    """
    flat = features.float().flatten(2)
    return [flat.amax(dim=2), (flat.var(dim=2, correction=0) + 1e-6).sqrt()]


def _work(widths: tuple[int, ...], depths: tuple[int, ...], bottleneck: int, blocks: int) -> float:
    """Return how many values all convolutions together give per voxel of the image."""
    two, four, eight = widths
    convolutions = (
        (2, two, 2 + depths[0] + depths[5] + 2),
        (4, four, 1 + 2 * depths[1] + depths[4] + 2),
        (8, eight, 1 + 2 * depths[2] + depths[3] + 2),
        (16, bottleneck, 1 + 2 * blocks),
    )
    return sum(width * count / stride**3 for stride, width, count in convolutions)
