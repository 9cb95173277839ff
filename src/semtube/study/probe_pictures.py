"""What the pictures of a probe are drawn from: curves by index, and paths in two directions.

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
from semtube.study.probe_sets import Curve


class ProbePictures:
    """Collects them, checkpoint after checkpoint."""

    def __init__(self) -> None:
        self.curves: list[Curve] = []
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
                if len(path_LD) < 3:
                    continue
                self._paths.append(
                    {
                        "checkpoint": probe.name,
                        "layer": layer,
                        "example": row.source,
                        "tokens": texts,
                        **asdict(flattened(path_LD)),
                    }
                )

    def write(self, path: Path) -> None:
        """Curves and paths as one JSON file."""
        write_json(path, {"curves": [asdict(curve) for curve in self.curves], "paths": self._paths})


@dataclass(frozen=True)
class FlatPath:
    """A path in two directions, see `flattened`; one number a state, but for the share."""

    x: list[float]
    y: list[float]
    across: list[float]
    share: float


def flattened(path_LD: Tensor) -> FlatPath:
    """A path in the plane that shows most of how it leaves its chord.

    x runs along the chord from the first to the last state, in units of its length: 0 at the
    first, 1 at the last. y is the direction across the chord in which the path spreads most, in
    the same unit; its sign is free and taken so that the largest deviation is positive. across is
    the whole distance from the chord, and share the part of its squares that y shows.

    A path that ends where it began has no chord: x is then its first principal direction, and the
    unit its root mean square distance from its mean.
    """
    path_LD = path_LD.double()
    from_start_LD = path_LD - path_LD[0]
    chord_D = from_start_LD[-1]
    length = float(chord_D.norm())
    if length <= 1e-9 * float(from_start_LD.norm()):
        from_start_LD = path_LD - path_LD.mean(0)
        length = max(float(from_start_LD.square().sum(1).mean().sqrt()), 1e-300)
        chord_D = torch.linalg.svd(from_start_LD, full_matrices=False).Vh[0]
    along_D = chord_D / chord_D.norm()
    x_L = from_start_LD @ along_D
    rest_LD = from_start_LD - x_L[:, None] * along_D
    across_L = rest_LD.norm(dim=1)
    side_D = torch.linalg.svd(rest_LD, full_matrices=False).Vh[0]
    y_L = rest_LD @ side_D
    if float(y_L[y_L.abs().argmax()]) < 0:
        y_L = -y_L
    total = float(across_L.square().sum())
    share = float(y_L.square().sum()) / total if total > 0 else 1.0
    return FlatPath(
        (x_L / length).tolist(), (y_L / length).tolist(), (across_L / length).tolist(), share
    )
