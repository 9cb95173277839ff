"""What the pictures of a probe are drawn from: curves by index, cones, and paths in a plane.

Shape letters: L tokens of a path, D hidden size.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from semtube.objectives.trajectories import CONTENT_ROLES
from semtube.run_folder import write_json
from semtube.study.checkpoint_probe import CheckpointProbe
from semtube.study.probe_cone import ConeCurve
from semtube.study.probe_sets import Curve


class ProbePictures:
    """Collects them, checkpoint after checkpoint."""

    def __init__(self) -> None:
        self.curves: list[Curve] = []
        self.cones: list[ConeCurve] = []
        self._paths: list[dict[str, Any]] = []

    def add(self, probe: CheckpointProbe, tokenizer: Any) -> None:
        """The drawn paths of a checkpoint in every layer, token by token."""
        roles = CONTENT_ROLES[probe.options.content]
        for layer, sums in probe.sums.items():
            for number, path_LD in sorted(sums.paths.items()):
                row = probe.rows[number]
                texts = [
                    tokenizer.decode([token])
                    for token, role in zip(row.input_ids, row.roles, strict=True)
                    if role in roles
                ]
                self._paths += [
                    {
                        "checkpoint": probe.name,
                        "layer": layer,
                        "example": row.source,
                        "plane": plane,
                        "tokens": texts,
                        **asdict(flatten(path_LD)),
                    }
                    for plane, flatten in PLANES.items()
                ]

    def write(self, path: Path) -> None:
        """All as one JSON file."""
        write_json(
            path,
            {
                "curves": [asdict(curve) for curve in self.curves],
                "cones": [asdict(cone) for cone in self.cones],
                "paths": self._paths,
            },
        )


@dataclass(frozen=True)
class FlatPath:
    """A path in a plane, see `in_principal_plane` and `in_chord_plane`.

    Args:
        x, y: of each state, in lengths of the chord from the first state to the last.
        share: of the states' squared distances from what the plane is fitted around, the part that
            lies in the plane, 0 to 1.
    """

    x: list[float]
    y: list[float]
    share: float


def in_principal_plane(path_LD: Tensor) -> FlatPath:
    """The two directions in which the states spread most around their mean.

    The signs are free: taken so that the last state is not to the left of the first, nor below.
    """
    path_LD = path_LD.double()
    centred_LD = path_LD - path_LD.mean(0)
    xy_L2 = centred_LD @ _principal(centred_LD, 2).T
    total = float(centred_LD.square().sum())
    share = float(xy_L2.square().sum()) / total if total > 0 else 1.0
    signs_2 = torch.where(xy_L2[-1] < xy_L2[0], -1.0, 1.0)
    return _flat(xy_L2 * signs_2, path_LD, share)


def in_chord_plane(path_LD: Tensor) -> FlatPath:
    """x along the chord, 0 at the first state and 1 at the last; y where the path leaves it most.

    The sign of y is taken so that the largest deviation is positive. A path that ends where it
    began has no chord: x is then its first principal direction.
    """
    path_LD = path_LD.double()
    from_start_LD = path_LD - path_LD[0]
    chord_D = from_start_LD[-1]
    if not _has_chord(path_LD):
        chord_D = _principal(from_start_LD - from_start_LD.mean(0), 1)[0]
    along_D = chord_D / chord_D.norm().clamp_min(1e-300)
    x_L = from_start_LD @ along_D
    rest_LD = from_start_LD - x_L[:, None] * along_D
    y_L = rest_LD @ _principal(rest_LD, 1)[0]
    if float(y_L[y_L.abs().argmax()]) < 0:
        y_L = -y_L
    total = float(rest_LD.square().sum())
    share = float(y_L.square().sum()) / total if total > 0 else 1.0
    return _flat(torch.stack([x_L, y_L], 1), path_LD, share)


PLANES = {"principal directions": in_principal_plane, "chord": in_chord_plane}


def _flat(xy_L2: Tensor, path_LD: Tensor, share: float) -> FlatPath:
    """In lengths of the chord; without one, in root mean square distances from the mean."""
    if _has_chord(path_LD):
        unit = float((path_LD[-1] - path_LD[0]).norm())
    else:
        centred_LD = path_LD - path_LD.mean(0)
        unit = max(float(centred_LD.square().sum(1).mean().sqrt()), 1e-300)
    x_L, y_L = (xy_L2 / unit).unbind(1)
    return FlatPath(x_L.tolist(), y_L.tolist(), share)


def _has_chord(path_LD: Tensor) -> bool:
    from_start_LD = path_LD - path_LD[0]
    return bool(from_start_LD[-1].norm() > 1e-9 * from_start_LD.norm())


def _principal(rows_LD: Tensor, number: int) -> Tensor:
    """(number, D) first right singular vectors; zeros where there are no more."""
    found = torch.linalg.svd(rows_LD, full_matrices=False).Vh[:number]
    missing = number - len(found)
    return torch.cat([found, found.new_zeros(missing, rows_LD.shape[1])]) if missing else found
