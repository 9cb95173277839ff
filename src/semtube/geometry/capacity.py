"""Manifold capacity: how many clouds of states a hyperplane can tell apart, and their shape.

Shape letters: P clouds, M points of a cloud, N dimensions, T draws.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from semtube.geometry.draws import generator_of
from semtube.geometry.rounding import refuse_one_point

#: Draws, points and repeats of the third-party code. The projection is ours.
DRAWS, PER_MANIFOLD, REPEATS, PROJECT_TO = 100, 50, 10, 512
#: Steps of the least-squares solver for each point. Ours.
MOST_STEPS = 30


@dataclass(frozen=True)
class Capacity:
    """Mean over repeats of what `manifold_capacity` finds.

    Args:
        capacity: alpha, clouds per dimension, P / N (clouds that no hyperplane parts: the cone is
            all space) to 2 P (all on one ray); 2 for single points in general position.
        dimension: D of the clouds as a separating hyperplane feels them; 0 for single points.
        radius: R, relative to the centres; 0 for single points.
        utility: Psi; in each repeat capacity = utility (1 + 1 / radius^2) / dimension with the
            radius as a ratio of means, but for single points, whose utility is 0.
        spread: standard deviation of the capacity over the repeats; 0 of one.
        num_clouds, num_dimensions: P and N, as they were used.
    """

    capacity: float
    dimension: float
    radius: float
    utility: float
    spread: float
    num_clouds: int
    num_dimensions: int


def manifold_capacity(
    clouds: Sequence[Tensor],
    *,
    draws: int = DRAWS,
    dichotomies: Literal["random", "one against all"] = "random",
    per_manifold: int = PER_MANIFOLD,
    repeats: int = REPEATS,
    project_to: int | None = PROJECT_TO,
    centre: bool = True,
    radius_of: Literal["ratio of means", "mean of ratios"] = "ratio of means",
    seed: int = 0,
) -> Capacity:
    """Simulated capacity of classes of states, with the geometry that brings it about.

    For a direction t ~ N(0, I) and labels y of the clouds, t is projected on the cone of the y_i x
    (non-negative least squares). The weighted mean of a cloud's points in it is its anchor. With
    signed anchors S, signed centres S0 (means of anchors over draws), S1 = S - S0, and G0, G1 their
    Gram matrices:

        b = (S t)' (S S')^+ (S t),  c = (S1 t)' G1^+ (S1 t),  a = (S1 t)' (G0 + G1)^+ (S1 t)
        capacity P / E[b],  dimension E[c] / P,  radius^2 E[a] / E[c - a],  utility E[a] / E[b]

    A cloud without weight has no anchor in that draw: it is left out of b, and stands at its
    centre in a and c. Single points that are linearly independent have capacity 2: over all labels,
    the faces of their cones make the projection's dimension binomial, with mean P / 2.

    Args:
        clouds: (M_i, N) states of each class.
        draws: of t and y, in each repeat.
        dichotomies: labels at random, or one cloud against all others. Of centred clouds, labels
            all alike are not drawn: no hyperplane has every point of a centred set on one side.
            This raises the capacity of few clouds: of single points to 4 (two), 2.8 (three), 2.0 to
            2.1 (five and more). Ours.
        per_manifold: points drawn of each cloud (all, if it has fewer), anew in each repeat.
        repeats: over points, projection and draws.
        project_to: of more dimensions, to so many by a random map; None for no projection.
        centre: take the mean of all points away first. With few clouds this ties their centres
            together and raises the radius.
        radius_of: the neuroscience version, for which the identity holds, or the network one.
        seed: names all that is drawn.

    Raises:
        ValueError: fewer than two clouds, an empty one, widths that differ, or numbers below 1.
        ArithmeticError: the states are equal but for rounding, or, not centred, all 0: a capacity
            would be infinite. Or the least-squares solver did not arrive.

    Source: GLUE (Chou et al. 2025, "Geometry linked to untangling efficiency"); defaults of a
        third party's code, but for the projection, which is ours.
    """
    _check(clouds, draws, per_manifold, repeats, project_to)
    if centre:
        refuse_one_point(torch.cat(list(clouds)))
    values = []
    for repeat in range(repeats):
        generator = generator_of(seed, "capacity", repeat)
        points = [_choose(cloud, per_manifold, generator) for cloud in clouds]
        points = _prepare(points, project_to, centre, generator)
        values.append(_one_repeat(points, draws, dichotomies, centre, radius_of, generator))
    value_R4 = torch.tensor(values, dtype=torch.float64)
    capacity, dimension, radius, utility = value_R4.mean(0).tolist()
    width = clouds[0].shape[1]
    return Capacity(
        capacity, dimension, radius, utility, float(value_R4[:, 0].std(correction=0)),
        len(clouds), min(width, project_to or width),
    )  # fmt: skip


def _check(
    clouds: Sequence[Tensor], draws: int, per_manifold: int, repeats: int, project_to: int | None
) -> None:
    if len(clouds) < 2 or any(cloud.dim() != 2 or not len(cloud) for cloud in clouds):
        raise ValueError(
            "wanted two clouds of points (M, N) or more, none empty, "
            f"got shapes {[tuple(cloud.shape) for cloud in clouds]}"
        )
    if len({cloud.shape[1] for cloud in clouds}) > 1:
        raise ValueError(f"clouds have {sorted({cloud.shape[1] for cloud in clouds})} dimensions: "
                         "wanted one number")  # fmt: skip
    numbers = {"draws": draws, "per_manifold": per_manifold, "repeats": repeats}
    if project_to is not None:
        numbers["project_to"] = project_to
    for name, number in numbers.items():
        if number < 1:
            raise ValueError(f"{name} is {number}: wanted at least 1")


def _choose(cloud: Tensor, number: int, generator: torch.Generator) -> Tensor:
    order = torch.randperm(len(cloud), generator=generator)[:number]
    return cloud.detach()[order.to(cloud.device)].double().cpu()


def _prepare(
    points: list[Tensor], project_to: int | None, centre: bool, generator: torch.Generator
) -> list[Tensor]:
    together = torch.cat(points)
    if centre:
        together = together - together.mean(0)
    width = together.shape[1]
    if project_to is not None and width > project_to:
        random = torch.randn(width, project_to, generator=generator, dtype=torch.float64)
        together = together @ torch.linalg.qr(random).Q
    return list(together.split([len(cloud) for cloud in points]))


def _one_repeat(
    points: list[Tensor],
    draws: int,
    dichotomies: str,
    two_sided: bool,
    radius_of: str,
    generator: torch.Generator,
) -> tuple[float, float, float, float]:
    """Capacity, dimension, radius and utility."""
    width, number = points[0].shape[1], len(points)
    t_TN = torch.randn(draws, width, generator=generator, dtype=torch.float64)
    label_TP = _labels(draws, number, dichotomies, two_sided, generator)
    anchors = [_anchors(points, t, y) for t, y in zip(t_TN, label_TP, strict=True)]
    anchor_TPN = torch.stack([anchor for anchor, _ in anchors])
    found_TP = torch.stack([found for _, found in anchors])
    count_P1 = found_TP.sum(0)[:, None]
    centre_PN = anchor_TPN.sum(0) / count_P1.clamp_min(1)
    forms = [
        _forms(anchor_PN, found_P, label_P, t_N, centre_PN)
        for anchor_PN, found_P, label_P, t_N in zip(
            anchor_TPN, found_TP, label_TP, t_TN, strict=True
        )
    ]
    a, b, c = (torch.stack(x) for x in zip(*forms, strict=True))
    if radius_of == "ratio of means":
        between = (c - a).mean()
        radius = (a.mean() / between).sqrt() if between > 0 else a.new_zeros(())
    elif radius_of == "mean of ratios":
        ratio = a / (c - a)
        radius = ratio[c > a].sqrt().mean() if (c > a).any() else a.new_zeros(())
    else:
        raise ValueError(f"radius_of is {radius_of!r}: 'ratio of means' or 'mean of ratios'")
    mean_b = b.mean()
    if mean_b == 0:
        raise ArithmeticError("all points are 0: there is nothing to tell apart")
    return (
        float(number / mean_b),
        float(c.mean() / number),
        float(radius),
        float(a.mean() / mean_b),
    )


def _labels(
    draws: int, number: int, dichotomies: str, two_sided: bool, generator: torch.Generator
) -> Tensor:
    """(T, P) labels -1 and 1; `two_sided` draws have both."""
    if dichotomies == "one against all":
        return 2 * torch.eye(number, dtype=torch.float64)[torch.arange(draws) % number] - 1
    if dichotomies != "random":
        raise ValueError(f"dichotomies is {dichotomies!r}: wanted 'random' or 'one against all'")
    label_TP = torch.randint(2, (draws, number), generator=generator)
    if two_sided:
        # Drawn anew until both are there: less than half of the rows each time.
        while len(bad_T := (label_TP == label_TP[:, :1]).all(1).nonzero()[:, 0]):
            label_TP[bad_T] = torch.randint(2, (len(bad_T), number), generator=generator)
    return 2.0 * label_TP.double() - 1


def _anchors(points: list[Tensor], t_N: Tensor, label_P: Tensor) -> tuple[Tensor, Tensor]:
    """(P, N) unsigned anchors, 0 where there is none, and (P,) whether there is one."""
    from scipy.optimize import nnls

    signed = torch.cat([y * cloud for y, cloud in zip(label_P, points, strict=True)])
    try:
        # Active sets of near-collinear points change often: scipy's own 3 steps a point are few.
        weight, _ = nnls(signed.T.numpy(), t_N.numpy(), maxiter=MOST_STEPS * len(signed))
    except RuntimeError as error:
        raise ArithmeticError(f"least squares did not arrive: {error}") from None
    weight = torch.from_numpy(weight)
    # At the projection no point has a part along what is left of t.
    slack = (signed @ (t_N - signed.T @ weight)).max()
    if slack > 1e-6 * signed.norm(dim=1).max() * t_N.norm():
        raise ArithmeticError(f"least squares stopped {float(slack):.2g} short of the projection")
    weights = weight.split([len(cloud) for cloud in points])
    total_P = torch.stack([w.sum() for w in weights])
    sums_PN = torch.stack([w @ cloud for w, cloud in zip(weights, points, strict=True)])
    found_P = total_P > 0
    return sums_PN / torch.where(found_P, total_P, 1)[:, None], found_P


def _forms(
    anchor_PN: Tensor, found_P: Tensor, label_P: Tensor, t_N: Tensor, centre_PN: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """a, b and c of one draw."""
    signed_PN = label_P[:, None] * torch.where(found_P[:, None], anchor_PN, centre_PN)
    centre_PN = label_P[:, None] * centre_PN
    along_PN = signed_PN - centre_PN
    found_QN = signed_PN[found_P]
    along_t = along_PN @ t_N
    within_PP, centres_PP = along_PN @ along_PN.T, centre_PN @ centre_PN.T
    # Points lie on their centres but for rounding: one measure of rounding for both forms.
    smallest = 1e-10 * float((within_PP + centres_PP).trace())
    return (
        _form(along_t, within_PP + centres_PP, smallest),
        _form(found_QN @ t_N, found_QN @ found_QN.T, 0.0),
        _form(along_t, within_PP, smallest),
    )


def _form(vector: Tensor, matrix: Tensor, smallest: float) -> Tensor:
    """v' M^+ v; eigenvalues up to `smallest`, or 1e-10 of the largest, count as 0."""
    if not len(vector):
        return matrix.new_zeros(())
    value, axes = torch.linalg.eigh(matrix)
    kept = value > max(smallest, 1e-10 * float(value[-1]))
    along = axes[:, kept].T @ vector
    return (along.square() / value[kept]).sum()
