"""One gradient from several losses that, to first order, raises none of them. Needs torchjd.

Shape letters: K losses.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import torch
from scipy.optimize import nnls
from torch import Tensor, nn
from torchjd.aggregation import UPGrad
from torchjd.autojac import backward, jac_to_grad
from torchjd.linalg import DualConeProjector, PSDMatrix


class NonNegativeProjector(DualConeProjector):
    """Projection onto the dual cone as a non-negative least-squares problem.

    min v^T G v over v >= u, with v = u + w and G = C^T C, is min ||C u + C w||^2 over w >= 0.
    torchjd's own projector needs quadprog, which is under the GPL, and adds 1e-4 to the diagonal;
    this one needs scipy and adds nothing.
    """

    def __call__(self, U: Tensor, G: PSDMatrix) -> Tensor:
        """Weights of the projections.

        Args:
            U: (..., K) weights of the vectors to project, in terms of the K gradients.
            G: (K, K) products of the gradients; where they are not finite, nothing is projected.
        """
        gram_KK = G.detach().cpu().double().numpy()
        if not np.isfinite(gram_KK).all():  # the training diverged, as its loss will say
            return U
        values, vectors = np.linalg.eigh(gram_KK)
        root_KK = np.sqrt(values.clip(min=0))[:, None] * vectors.T
        scale = np.abs(root_KK).max()
        if scale > 0:
            root_KK /= scale
        rows = U.detach().cpu().double().numpy().reshape(-1, len(values))
        projected = np.stack([u + nnls(root_KK, -root_KK @ u)[0] for u in rows])
        return torch.as_tensor(projected, dtype=U.dtype, device=U.device).reshape(U.shape)


def upgrad_backward(losses: Sequence[Tensor], parameters: Iterable[nn.Parameter]) -> None:
    """Add to every parameter's `grad` the UPGrad of the losses.

    Each loss's own gradient is projected onto the cone of directions that increase no loss, and
    the projections are averaged; without conflicts that is the gradient of the losses' mean.

    Source: arXiv 2406.16232, as torchjd implements it.
    """
    parameters = list(parameters)
    # One loss after the other: batch normalisation under vmap is the slower way on a CPU.
    backward(list(losses), inputs=parameters, parallel_chunk_size=1)
    jac_to_grad(parameters, UPGrad(projector=NonNegativeProjector()))
