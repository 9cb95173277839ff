"""Do pairs of samples keep their distances: within one representation, and from one to another?

Shape letters: N samples, D features, P pairs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from semtube.geometry.draws import generator_of
from semtube.geometry.rounding import refuse_one_point
from semtube.objectives.directions import MIN_LENGTH

#: Splits, rotations and most samples. Splits and samples: the authors' code. Rotations: ours.
SPLITS, ROTATIONS, MAX_SAMPLES = 30, 5, 1600


@dataclass(frozen=True)
class Stability:
    """Agreement of two halves of the features, see `feature_stability`.

    Args:
        rotated: mean over rotations and splits: the value to quote.
        raw: mean over splits of the features as they are: depends on the axes.
        spread: standard deviation of the rotated values over rotations and splits.
        num_samples: that were used.
    """

    rotated: float
    raw: float
    spread: float
    num_samples: int


def feature_stability(
    states_ND: Tensor,
    *,
    splits: int = SPLITS,
    rotations: int = ROTATIONS,
    max_samples: int = MAX_SAMPLES,
    seed: int = 0,
) -> Stability:
    """Spearman correlation of the pairwise cosine distances in two random halves of the features.

    -1 to 1; 0 for isotropic noise. The authors split the features as they are, and the same
    geometry then scores -.003 or .885 by how it lies to the axes, of which a residual stream has
    privileged ones: ours averages over random rotations first.

    Args:
        splits, rotations: random splits in each random rotation.
        max_samples: of more, so many are drawn.
        seed: names rotations, splits and drawn samples.

    Raises:
        ValueError: fewer than 3 samples or 2 features, no split or rotation, or a sample that is
            not finite.
        ArithmeticError: the samples are equal but for rounding.

    Source: Shesha's feature split; rotations are ours.
    """
    if len(states_ND) < 3 or states_ND.shape[1] < 2 or splits < 1 or rotations < 1:
        raise ValueError(
            "wanted at least 3 samples, 2 features, 1 split and 1 rotation, "
            f"got states {tuple(states_ND.shape)}, splits={splits}, rotations={rotations}"
        )
    generator = generator_of(seed, "stability")
    if len(states_ND) > max_samples:
        chosen = torch.randperm(len(states_ND), generator=generator)[:max_samples]
        states_ND = states_ND[chosen.to(states_ND.device)]
    states_ND = states_ND.detach().float()
    _check_finite(states_ND)
    refuse_one_point(states_ND)
    raw = [_split_halves(states_ND, generator) for _ in range(splits)]
    rotated = []
    for _ in range(rotations):
        turned_ND = states_ND @ random_rotation(states_ND.shape[1], generator).to(states_ND.device)
        rotated += [_split_halves(turned_ND, generator) for _ in range(splits)]
    values = torch.tensor(rotated, dtype=torch.float64)
    return Stability(
        float(values.mean()),
        sum(raw) / len(raw),
        float(values.std(correction=0)),
        len(states_ND),
    )


def replicate_stability(first_ND: Tensor, second_ND: Tensor) -> float:
    """Spearman correlation of the pairwise cosine distances of the same samples, taken twice.

    Two dropout masks, prompts or seeds; -1 to 1, 1 where every distance keeps its rank. Does not
    depend on the axes.

    Raises:
        ValueError: other samples in the two, fewer than 3, or one that is not finite.
        ArithmeticError: the samples of one are equal but for rounding.

    Source: Shesha, in place of its unmatched variants, which compare pairs that do not belong
        together.
    """
    if len(first_ND) != len(second_ND) or len(first_ND) < 3:
        raise ValueError(
            "wanted the same 3 samples or more twice, "
            f"got {tuple(first_ND.shape)} and {tuple(second_ND.shape)}"
        )
    for states_ND in (first_ND, second_ND):
        _check_finite(states_ND)
        refuse_one_point(states_ND)
    return spearman(cosine_distances(first_ND), cosine_distances(second_ND))


def drift(before_ND: Tensor, after_ND: Tensor) -> float:
    """1 - `replicate_stability` of two checkpoints on the same samples; 0 to 2, 0 for no drift.

    1 for representations that know nothing of each other.
    """
    return 1 - replicate_stability(before_ND, after_ND)


def label_alignment(states_ND: Tensor, labels: Sequence[object]) -> float:
    """Spearman correlation of correlation distance with "the labels differ"; -1 to 1, 0 for none.

    Raises:
        ValueError: not one label a sample, fewer than 3 samples, or one that is not finite.

    Source: Shesha's supervised variant.
    """
    if len(labels) != len(states_ND) or len(states_ND) < 3:
        raise ValueError(f"wanted 3 labels or more, one a sample, got {len(labels)} of "
                         f"{len(states_ND)}")  # fmt: skip
    _check_finite(states_ND)
    names = {label: k for k, label in enumerate(dict.fromkeys(labels))}
    label_N = torch.tensor([names[label] for label in labels], device=states_ND.device)
    first_P, second_P = torch.triu_indices(len(labels), len(labels), 1, device=states_ND.device)
    differ_P = (label_N[first_P] != label_N[second_P]).float()
    centred_ND = states_ND.float() - states_ND.float().mean(1, keepdim=True)
    return spearman(cosine_distances(centred_ND), differ_P)


def cosine_distances(states_ND: Tensor) -> Tensor:
    """(P,) 1 - cos of every pair of samples, the first with the second, third and so on first.

    A sample without a direction is at distance 1 from all.
    """
    states_ND = states_ND.detach().float()
    length_N1 = torch.linalg.vector_norm(states_ND, dim=-1, keepdim=True)
    unit_ND = torch.where(length_N1 > MIN_LENGTH, states_ND / length_N1.clamp_min(MIN_LENGTH), 0)
    first_P, second_P = torch.triu_indices(len(unit_ND), len(unit_ND), 1, device=unit_ND.device)
    return 1 - (unit_ND @ unit_ND.T)[first_P, second_P]


def spearman(first_P: Tensor, second_P: Tensor) -> float:
    """Correlation of ranks, equal values sharing the mean of theirs; 0 where all are equal."""
    first_P, second_P = (_centred_ranks(x) for x in (first_P, second_P))
    size = torch.linalg.vector_norm(first_P) * torch.linalg.vector_norm(second_P)
    return float(first_P @ second_P / size) if size > 0 else 0.0


def random_rotation(width: int, generator: torch.Generator) -> Tensor:
    """(D, D) an orthogonal matrix, all equally likely (Mezzadri 2007)."""
    q_DD, r_DD = torch.linalg.qr(torch.randn(width, width, generator=generator))
    return q_DD * r_DD.diagonal().sign()


def _check_finite(states_ND: Tensor) -> None:
    bad_N = ~states_ND.isfinite().all(-1)
    if bad_N.any():
        raise ValueError(f"sample {int(bad_N.nonzero()[0])} is not finite: wanted numbers")


def _split_halves(states_ND: Tensor, generator: torch.Generator) -> float:
    order_D = torch.randperm(states_ND.shape[1], generator=generator).to(states_ND.device)
    half = len(order_D) // 2
    return spearman(
        cosine_distances(states_ND[:, order_D[:half]]),
        cosine_distances(states_ND[:, order_D[half : 2 * half]]),
    )


def _centred_ranks(values_P: Tensor) -> Tensor:
    _, group_P, count_G = torch.unique(values_P, return_inverse=True, return_counts=True)
    last_G = count_G.cumsum(0).double()
    return (last_G - (count_G.double() - 1) / 2)[group_P] - (len(values_P) + 1) / 2
