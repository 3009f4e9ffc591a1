"""A mixture of experts: a gate sends each token to a few of several perceptrons.

Source: N. Shazeer et al., "Outrageously Large Neural Networks", ICLR 2017, section 2.1 (noisy top-k gate);
W. Fedus et al., "Switch Transformers", JMLR 2022, equations 4 to 6 (load balancing).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.networks.mri_multitask.tracing import exporting


def load_balance(probabilities: Tensor, chosen: Tensor) -> Tensor:
    """Return ``E · Σ f_i P_i``: 1 when tokens and probabilities are spread evenly, at most E.

    Parameters
    ----------
    probabilities : Tensor
        ``(T, E)``, softmax of the gate over all experts; ``P_i`` is its mean over the tokens.
    chosen : Tensor
        ``(T, k)`` int64, the experts of each token; ``f_i`` is the share of the T·k places at expert i.
    """
    experts = probabilities.shape[1]
    counts = functional.one_hot(chosen.reshape(-1), experts).to(probabilities.dtype)
    return experts * (counts.mean(0) * probabilities.mean(0)).sum()


class MixtureOfExperts(nn.Module):
    """Perceptrons ``width → hidden → width`` of which each token runs through ``top_k``.

    Parameters
    ----------
    width, hidden : int
        Features of the tokens, and of the layer between.
    experts : int
        Number of perceptrons.
    top_k : int
        How many run for each token; their outputs are weighted by a softmax over their scores.
    noisy : bool
        Whether the gate's scores get learnt noise during training, so that all experts are tried.
    dropout : float
        Share of the hidden features dropped during training.

    Attributes
    ----------
    balance_loss : Tensor
        Scalar float32, ``load_balance`` of the last forward pass; with its graph during training.
    """

    balance_loss: Tensor

    def __init__(
        self,
        width: int,
        hidden: int,
        *,
        experts: int = 4,
        top_k: int = 2,
        noisy: bool = False,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if not 1 <= top_k <= experts:
            raise ValueError(f"Of {experts} experts {top_k} can't be chosen.")
        self.top_k = top_k
        self.gate = nn.Linear(width, experts, bias=False)
        self.noise = nn.Linear(width, experts, bias=False) if noisy else None
        if self.noise is not None:
            nn.init.zeros_(self.noise.weight)
        self.experts = nn.ModuleList(
            nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Dropout(dropout), nn.Linear(hidden, width))
            for _ in range(experts)
        )
        self.balance_loss = torch.zeros(())

    @property
    def draws_randomness(self) -> bool:
        """Whether a forward pass takes random numbers now."""
        return self.training and self.noise is not None

    def forward(self, tokens: Tensor) -> Tensor:
        """Return ``(…, width)`` of ``tokens`` ``(…, width)`` and set ``balance_loss``."""
        rows = tokens.reshape(-1, tokens.shape[-1])
        scores = self._scores(rows)
        kept, chosen = scores.topk(self.top_k, dim=-1)
        weights = kept.softmax(-1)
        loss = load_balance(scores.softmax(-1), chosen)
        if exporting():
            mixed = self._dense(rows, weights, chosen)
        else:
            self.balance_loss = loss if self.training else loss.detach()
            mixed = self._dispatched(rows, weights, chosen)
        return mixed.reshape(tokens.shape)

    def _scores(self, rows: Tensor) -> Tensor:
        """The gate's scores ``(T, E)`` in at least float32: bfloat16 would tie experts."""
        dtype = torch.promote_types(rows.dtype, torch.float32)
        device = rows.device.type
        if torch.is_autocast_enabled(device):
            with torch.autocast(device, enabled=False):
                return self._noised(rows.to(dtype))
        return self._noised(rows.to(dtype))

    def _noised(self, rows: Tensor) -> Tensor:
        scores = functional.linear(rows, self.gate.weight.to(rows.dtype))
        if self.noise is None or not self.training:
            return scores
        spread = functional.softplus(functional.linear(rows, self.noise.weight.to(rows.dtype)))
        return scores + torch.randn_like(scores) * spread

    def _dispatched(self, rows: Tensor, weights: Tensor, chosen: Tensor) -> Tensor:
        """Run each expert once, on the tokens that chose it."""
        order = chosen.reshape(-1).argsort(stable=True)
        counts = torch.bincount(chosen.reshape(-1), minlength=len(self.experts)).tolist()
        repeated = rows.unsqueeze(1).expand(-1, self.top_k, -1).reshape(-1, rows.shape[-1])
        shares = repeated[order].split(counts)
        # In training an expert without tokens runs on none: its gradients are zeros, as several processes expect.
        outputs = [
            expert(share)
            for expert, share in zip(self.experts, shares, strict=True)
            if len(share) or self.training
        ]
        # Each place is written once: nothing is summed in an order that could vary.
        places = torch.empty_like(order)
        places[order] = torch.arange(len(order), device=order.device)
        if not outputs:
            return torch.zeros_like(rows)
        each = torch.cat(outputs)[places].unflatten(0, (-1, self.top_k))
        return (each * weights.unsqueeze(-1).to(each.dtype)).sum(1)

    def _dense(self, rows: Tensor, weights: Tensor, chosen: Tensor) -> Tensor:
        """Run all experts on all tokens: the same answer, in a graph that doesn't depend on the data."""
        shares = weights.new_zeros(rows.shape[0], len(self.experts)).scatter(1, chosen, weights)
        outputs = torch.stack([expert(rows) for expert in self.experts], dim=1)
        return (outputs * shares.unsqueeze(-1).to(outputs.dtype)).sum(1)

    def __getstate__(self) -> dict[str, Any]:
        """Return the state for a copy, whose balance loss has no graph (a graph can't be copied)."""
        state = dict(self.__dict__)
        state["balance_loss"] = self.balance_loss.detach()
        return state


def total_balance_loss(network: nn.Module) -> Tensor:
    """Return the sum of ``balance_loss`` over all mixtures in a network; 0 when it has none."""
    losses = [module.balance_loss for module in network.modules() if isinstance(module, MixtureOfExperts)]
    return torch.stack(losses).sum() if losses else torch.zeros(())
