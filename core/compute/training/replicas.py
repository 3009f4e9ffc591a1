"""Data-parallel steps on the CPU: one thread and one core per replica.

Threads of one operation wait for one another thousands of times per step, which is slow when other programs
use the same cores. Replicas meet once per step instead.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType

import torch
from torch import Tensor, nn

Batch = tuple[Tensor, Tensor]


class Replicas:
    """Copies of a network that share its parameters and sum their gradients.

    Parameters
    ----------
    network : torch.nn.Module
        The network; replica 0.
    count : int
        Number of replicas; with 1 the calling thread computes with all its cores.
    batches, loss_of
        As in ``loop.train``.
    """

    def __init__(
        self,
        network: nn.Module,
        count: int,
        batches: Callable[[int, range], Batch],
        loss_of: Callable[[Tensor, Tensor], Tensor],
        layout: torch.memory_format,
        bf16: bool,
    ) -> None:
        self._batches, self._loss_of, self._layout, self._bf16 = batches, loss_of, layout, bf16
        self._networks = [network, *(copy.deepcopy(network) for _ in range(count - 1))]
        for other in self._networks[1:]:
            for mine, shared in zip(other.parameters(), network.parameters(), strict=True):
                mine.data = shared.data
        self._pool = (
            ThreadPoolExecutor(count, initializer=torch.set_num_threads, initargs=(1,)) if count > 1 else None
        )

    def __enter__(self) -> Replicas:
        """Return self."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the threads."""
        if self._pool is not None:
            self._pool.shutdown()

    def freeze_normalisation(self) -> None:
        """Let batch normalisation use and keep its running statistics."""
        for network in self._networks:
            for module in network.modules():
                if isinstance(module, nn.BatchNorm2d | nn.BatchNorm3d):
                    module.eval()

    def backward(self, step: int, batch_size: int) -> float:
        """Put the mean gradient of a step's batch into the network's parameters and return the mean loss."""
        count = len(self._networks)
        shares = [range(n * batch_size // count, (n + 1) * batch_size // count) for n in range(count)]
        if self._pool is None:
            return self._one(0, step, shares[0])
        jobs = [self._pool.submit(self._one, n, step, share) for n, share in enumerate(shares) if len(share)]
        losses = [job.result() for job in jobs]
        self._merge(len(losses))
        return sum(losses) / len(losses)

    def _one(self, index: int, step: int, items: range) -> float:
        network = self._networks[index]
        for parameter in network.parameters():
            parameter.grad = None
        images, targets = self._batches(step, items)
        with torch.autocast("cpu", torch.bfloat16, enabled=self._bf16):
            output = network(images.to(memory_format=self._layout))
        loss = self._loss_of(output, targets)
        loss.backward()
        return float(loss.detach())

    @torch.no_grad()
    def _merge(self, used: int) -> None:
        """Average gradients and running statistics over the replicas."""
        first, *others = self._networks[:used]
        for parameters in zip(*(n.parameters() for n in self._networks[:used]), strict=True):
            total = parameters[0].grad
            if total is None:
                continue
            for other in parameters[1:]:
                total += other.grad
            total /= used
        for name, buffer in first.named_buffers():
            if buffer.dtype.is_floating_point:
                same = [buffer, *(dict(n.named_buffers())[name] for n in others)]
                mean = torch.stack(same).mean(dim=0)
                for one in same:
                    one.copy_(mean)
