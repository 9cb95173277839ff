"""Stacked Latent Clustering: modules that predict cousins and cluster by what they predict.

Shape letters: B strings, N tokens of a level, U = N / s patches, s branching (r, q, t count it: a
patch's place among its siblings, a cousin, a token in the cousin), D codes, H hidden units,
P compared patches, F = s^2 (s-1) D numbers of a patch's flattened prediction.

Source: arXiv 2605.27734, appendix on Stacked Latent Clustering, eqs. 5-11.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True)
class LevelOutput:
    """What one module made of its level.

    Attributes:
        inputs_BND: tokens of the level, one-hot or soft.
        logits_BUrqtD: predicted cousins for every place r that a patch might have.
        codes_BUD: tokens of the next level, a softmax.
    """

    inputs_BND: Tensor
    logits_BUrqtD: Tensor
    codes_BUD: Tensor

    @property
    def predictions_BUF(self) -> Tensor:
        """Softmax of the logits, flattened for every patch."""
        return self.logits_BUrqtD.softmax(-1).flatten(2)


class PatchModule(nn.Module):
    """One level: s tokens -> predicted cousins -> one code.

    The paper's convolutions have kernel and stride s, or 1: they are linear maps of single
    patches, and are written as such.

    Args:
        branching: s.
        codebook_size: D.
        hidden_size: H.
    """

    def __init__(self, branching: int, codebook_size: int, hidden_size: int) -> None:
        super().__init__()
        self.shape = (branching, branching - 1, branching, codebook_size)
        num_predicted = branching * (branching - 1) * branching * codebook_size
        self.predictor = nn.Sequential(
            nn.Linear(branching * codebook_size, hidden_size),
            nn.BatchNorm1d(hidden_size),
            nn.ReLU(),
            nn.Linear(hidden_size, hidden_size),
            nn.BatchNorm1d(hidden_size),
            nn.ReLU(),
            nn.Linear(hidden_size, num_predicted),
        )
        self.clusterer = nn.Sequential(
            nn.Linear(num_predicted, hidden_size),
            nn.BatchNorm1d(hidden_size),
            nn.ReLU(),
            nn.Linear(hidden_size, codebook_size),
        )

    def forward(self, inputs_BND: Tensor, *, stop_before_clusterer: bool) -> LevelOutput:
        """Predict the cousins of every patch and give it a code."""
        num_strings = len(inputs_BND)
        patches = inputs_BND.reshape(-1, self.shape[0] * self.shape[-1])
        logits = self.predictor(patches)
        if stop_before_clusterer:
            predictions = logits.detach().view(-1, *self.shape).softmax(-1)
        else:
            predictions = logits.view(-1, *self.shape).softmax(-1)
        codes = self.clusterer(predictions.flatten(1)).softmax(-1)
        return LevelOutput(
            inputs_BND,
            logits.view(num_strings, -1, *self.shape),
            codes.view(num_strings, -1, self.shape[-1]),
        )


class StackedLatentClustering(nn.Module):
    """L - 1 modules, each on the codes of the one below.

    Args:
        branching: s.
        depth: L, at least 2.
        codebook_size: D, at least the number of features.
        hidden_size: H.
    """

    def __init__(self, *, branching: int, depth: int, codebook_size: int, hidden_size: int) -> None:
        super().__init__()
        self.codebook_size = codebook_size
        self.levels = nn.ModuleList(
            PatchModule(branching, codebook_size, hidden_size) for _ in range(depth - 1)
        )

    def forward(
        self,
        tokens_BN: Tensor,
        *,
        stop_between_modules: bool = False,
        stop_before_clusterer: bool = False,
    ) -> list[LevelOutput]:
        """All levels, lowest first.

        Args:
            tokens_BN: whole numbers (B, s^L).
            stop_between_modules: no gradient from a module into the one below.
            stop_before_clusterer: none from the clusterer into the predictor.
        """
        inputs = F.one_hot(tokens_BN, self.codebook_size).float()
        outputs = []
        for level in self.levels:
            outputs.append(level(inputs, stop_before_clusterer=stop_before_clusterer))
            codes = outputs[-1].codes_BUD
            inputs = codes.detach() if stop_between_modules else codes
        return outputs


@dataclass(frozen=True)
class ClusteringWeights:
    """Constants of the clustering loss.

    Args:
        threshold: S_m; only patches more alike than this are pulled together.
        separation: lambda_sep.
        sparsity: lambda_spars.
    """

    threshold: float
    separation: float
    sparsity: float


def prediction_loss(logits_BUrqtD: Tensor, targets_BND: Tensor) -> Tensor:
    """Cross-entropy of the cousins' tokens under the predictions for a patch's true place.

    L(g, r) = - sum_{r' != r} sum_t sum_a target[g, r', t, a] log phi[r, rho_r(r'), t, a], summed
    over the s (s-1) cousin tokens and averaged over groups g, places r and strings. In nats, at
    least 0. rho_r counts the other places in order. The slices of the places a patch does not
    have get no gradient.

    Source: arXiv 2605.27734, eq. 5.
    """
    branching = logits_BUrqtD.shape[2]
    places = torch.arange(branching, device=logits_BUrqtD.device)
    grouped = logits_BUrqtD.unflatten(1, (-1, branching))
    log_phi_BGrqtD = grouped[:, :, places, places].log_softmax(-1)
    return -(cousin_tokens(targets_BND, branching) * log_phi_BGrqtD).sum((-3, -2, -1)).mean()


def cousin_tokens(tokens_BND: Tensor, branching: int) -> Tensor:
    """(B, G, r, q, t, D): for every group and place r, the tokens of the other s - 1 patches."""
    groups_BGrtD = tokens_BND.unflatten(1, (-1, branching, branching))
    others = [[q for q in range(branching) if q != r] for r in range(branching)]
    return groups_BGrtD[:, :, torch.tensor(others, device=tokens_BND.device)]


def similarity(predictions_PF: Tensor, mean_F: Tensor) -> Tensor:
    """S_ij = (1 + cos(phi_i - mean, phi_j - mean)) / 2 in [0, 1]; 1/2 for a vector at the mean.

    Source: arXiv 2605.27734, eqs. 7-8.
    """
    unit_PF = F.normalize(predictions_PF - mean_F, dim=-1)
    return (1 + unit_PF @ unit_PF.T) / 2


def clustering_loss(codes_PD: Tensor, similarity_PP: Tensor, weights: ClusteringWeights) -> Tensor:
    """Same code for patches that predict alike, other codes for those that do not.

    mean over all ordered pairs, i = j included, of
        ||q_i - q_j||^2 relu(S_ij - S_m) + lambda_sep (q_i . q_j) (1 - S_ij)
    minus lambda_spars times the mean of q_i . q_i.

    Source: arXiv 2605.27734, eqs. 9-11.
    """
    products_PP = codes_PD @ codes_PD.T
    squares_P = products_PP.diagonal()
    distances_PP = squares_P[:, None] + squares_P[None, :] - 2 * products_PP
    alike = distances_PP * F.relu(similarity_PP - weights.threshold)
    apart = weights.separation * products_PP * (1 - similarity_PP)
    return (alike + apart).mean() - weights.sparsity * squares_P.mean()


def level_losses(
    student: LevelOutput,
    teacher: LevelOutput,
    targets_BND: Tensor,
    compared_P: Tensor | None,
    weights: ClusteringWeights,
    *,
    stop_before_clusterer: bool = False,
) -> tuple[Tensor, Tensor]:
    """Prediction and clustering loss of one module.

    Args:
        student: whose weights are to learn.
        teacher: whose predictions say which patches are alike; the student itself where there is
            no teacher, and then gradients flow through the similarity too.
        targets_BND: tokens of the module's own level that it must predict.
        compared_P: numbers of the patches that are compared, of all of the batch; None for all.
        weights: of the clustering loss.
        stop_before_clusterer: no gradient through the similarity.
    """
    predictions = teacher.predictions_BUF.flatten(0, 1)
    if stop_before_clusterer:
        predictions = predictions.detach()
    mean_F = predictions.mean(0)
    codes = student.codes_BUD.flatten(0, 1)
    if compared_P is not None:
        predictions, codes = predictions[compared_P], codes[compared_P]
    alike_PP = similarity(predictions, mean_F)
    return (
        prediction_loss(student.logits_BUrqtD, targets_BND),
        clustering_loss(codes, alike_PP, weights),
    )


def leaf_targets(
    tokens_BN: Tensor, num_levels: int, branching: int, codebook_size: int
) -> list[Tensor]:
    """Targets of the token control: the first visible leaf under every token of a level.

    Returns:
        one-hot (B, s^(L-l), D) for l = 0..num_levels-1; level 0 is the string itself.

    Source: ours; everything else of SLC stays, so that only the target differs.
    """
    leaves = [tokens_BN[:, :: branching**level] for level in range(num_levels)]
    return [F.one_hot(level, codebook_size).float() for level in leaves]


def hard_codes(outputs: Sequence[LevelOutput]) -> list[Tensor]:
    """(B, U) code of every patch, on the CPU, lowest level first: the soft one at temperature 0."""
    return [level.codes_BUD.argmax(-1).cpu() for level in outputs]


def effective_codes(codes_N: Tensor) -> float:
    """exp of the entropy of how often each hard code is used: 1 if all patches have one code."""
    counts = torch.bincount(codes_N.flatten()).double()
    shares = counts[counts > 0] / counts.sum()
    return float((-(shares * shares.log()).sum()).exp())
