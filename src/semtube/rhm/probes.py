"""What frozen features know: linear and MLP probes, and how little synonyms move them.

Shape letters: N rows, D features, K classes, B strings, T tokens, U nodes of a level.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from semtube.rhm.dropout import dropout
from semtube.rhm.generators import initial_weights, torch_generator

ProbeKind = Literal["linear", "mlp"]


@dataclass(frozen=True)
class ProbeOptions:
    """How a probe is trained.

    Args:
        kind: a linear map D -> K; or D -> 2 D, GELU, dropout, -> K.
        steps: of Adam.
        batch_size: rows of a step.
        learning_rate: constant.
        dropout: of the MLP's hidden layer.
        num_checks: looks at the validation rows, evenly spread over the steps; the best is kept.
        standardize: whether features are first brought to mean 0 and deviation 1. The paper does
            not say so. Without it a probe of an encoder's states measures their scale as much as
            what is in them, and an untrained encoder looks worse than it is; with it a probe of
            collapsed codes, which have a scale, reads their last digits.

    Source: arXiv 2605.27734, table 1: Adam, 1e-3, 2,000 steps, dropout 0.1. Batch size and the
        looks are ours.
    """

    kind: ProbeKind
    steps: int = 2000
    batch_size: int = 256
    learning_rate: float = 1e-3
    dropout: float = 0.1
    num_checks: int = 10
    standardize: bool = True


class Probe(nn.Module):
    """A classifier of features.

    Args:
        options: see `ProbeOptions`.
        features_ND: whose mean and deviation are taken; a constant feature stays 0.
        num_classes: K.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, options: ProbeOptions, features_ND: Tensor, num_classes: int) -> None:
        super().__init__()
        size = features_ND.shape[1]
        mean, deviation = torch.zeros(size), torch.ones(size)
        if options.standardize:
            mean, deviation = features_ND.mean(0), features_ND.std(0, correction=0)
            deviation = torch.where(deviation > 0, deviation, 1)
        self.register_buffer("mean", mean)
        self.register_buffer("deviation", deviation)
        is_mlp = options.kind == "mlp"
        self.hidden = nn.Linear(size, 2 * size) if is_mlp else None
        self.out = nn.Linear(2 * size if is_mlp else size, num_classes)
        self.dropout_rate = options.dropout

    def forward(self, features_ND: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Logits (N, K); with a generator for dropout, as in training."""
        x = (features_ND - self.mean) / self.deviation
        if self.hidden is not None:
            x = dropout(F.gelu(self.hidden(x)), self.dropout_rate, generator)
        return self.out(x)


Rows = tuple[Tensor, Tensor]
"""Features (N, D) and labels (N,)."""


def fit_probe(
    training: Rows, validation: Rows, *, num_classes: int, options: ProbeOptions, seed: int
) -> Probe:
    """Train a probe and keep what does best on the validation rows (ties: the earlier).

    Same seed, same probe: weights, order and dropout come from the streams of that name.

    Raises:
        ValueError: features that are not (N, D), or a label outside 0..K-1.
    """
    features_ND, labels_N = training
    _check_rows(features_ND, labels_N, num_classes)
    device = features_ND.device
    with initial_weights(seed):
        probe = Probe(options, features_ND.cpu(), num_classes).to(device)
    optimizer = torch.optim.Adam(probe.parameters(), lr=options.learning_rate, fused=True)
    order = torch_generator(seed, "order")
    masks = torch_generator(seed, "dropout", device=device)
    checks = {
        round(options.steps * (k + 1) / options.num_checks) for k in range(options.num_checks)
    }
    best, best_state = -1.0, probe.state_dict()
    for step in range(1, options.steps + 1):
        rows = torch.randint(len(labels_N), (options.batch_size,), generator=order).to(device)
        loss = F.cross_entropy(probe(features_ND[rows], masks), labels_N[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step in checks and (value := accuracy(probe, *validation)) > best:
            best = value
            best_state = {name: x.clone() for name, x in probe.state_dict().items()}
    probe.load_state_dict(best_state)
    return probe


@torch.no_grad()
def accuracy(probe: Probe, features_ND: Tensor, labels_N: Tensor) -> float:
    """Share of rows whose highest logit is their label's."""
    right = [
        probe(features).argmax(-1) == labels
        for features, labels in zip(features_ND.split(65536), labels_N.split(65536), strict=True)
    ]
    return float(torch.cat(right).double().mean())


def node_features(features_BTD: Tensor, nodes_BU: Tensor) -> Rows:
    """Rows for a probe of one level: mean features over the tokens below each node, and its symbol.

    For the root that is the mean over all tokens, as in the paper. For lower levels the paper does
    not say which positions it reads; this is the same rule there.

    Args:
        features_BTD: T tokens, a multiple of U.
        nodes_BU: symbols of the level's nodes, in order.
    """
    num_nodes = nodes_BU.shape[1]
    means_BUD = features_BTD.unflatten(1, (num_nodes, -1)).mean(2)
    return means_BUD.flatten(0, 1), nodes_BU.flatten()


def synonym_score(original: Tensor, synonym: Tensor, generic: Tensor) -> float | None:
    """How much less synonyms move the features than unrelated strings do.

    C = 1 - mean ||F(x) - F(x_syn)||^2 / mean ||F(x) - F(x')||^2: 1 if synonyms have one image, 0
    if they move the features as far as an unrelated string, below 0 if farther. None if nothing
    moves them (a collapsed encoder).

    Args:
        original, synonym, generic: (B, ...) features of x, x_syn and x', compared entry by entry.

    Source: arXiv 2605.27734, section 5 describes it and prints no formula; this is the natural one.
    """
    moved_by_synonym = (original - synonym).double().square().sum()
    moved_by_generic = (original - generic).double().square().sum()
    if moved_by_generic == 0:
        return None
    return float(1 - moved_by_synonym / moved_by_generic)


def _check_rows(features_ND: Tensor, labels_N: Tensor, num_classes: int) -> None:
    if features_ND.ndim != 2 or labels_N.shape != features_ND.shape[:1]:
        raise ValueError(
            f"features must be (N, D) and labels (N,), got {tuple(features_ND.shape)} and "
            f"{tuple(labels_N.shape)}"
        )
    if labels_N.min() < 0 or labels_N.max() >= num_classes:
        raise ValueError(f"labels must lie in 0..{num_classes - 1}")
