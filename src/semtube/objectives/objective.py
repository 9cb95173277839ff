"""The contract between an auxiliary objective and whatever trains with it.

Shape letters: B rows, T tokens, D hidden size, R rows of an extra forward pass, W its width.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor, nn

from semtube.objectives import weights
from semtube.objectives.arguments import needs, needs_positive
from semtube.objectives.directions import LinearPredictor
from semtube.objectives.term import LossTerm
from semtube.objectives.trajectories import CONTENT_ROLES, Trajectories
from semtube.objectives.weights import Weight

#: In the index of an extra forward pass: no token here. Learned vector k is VECTOR - k.
PADDING_INDEX, VECTOR = -1, -2


class Encoder(Protocol):
    """The model itself, for objectives that need more than the states of the main forward pass."""

    def __call__(
        self, index_RW: Tensor, position_RW: Tensor, vectors_KD: Tensor | None = None
    ) -> Tensor:
        """Last hidden states (R, W, D) of rows put together from the batch's own tokens.

        Args:
            index_RW: flat index in the batch of the token to place here, PADDING_INDEX for none,
                or VECTOR - k for the learned vector k.
            position_RW: where it starts again from 0, a new text begins, which sees nothing of
                the one before it.
            vectors_KD: learned input vectors.
        """
        ...

    def embed(self, index: Tensor) -> Tensor:
        """(..., D) input embeddings of the batch's tokens at flat indices."""
        ...

    def logits(self, states: Tensor) -> Tensor:
        """(..., vocabulary) what the model's head makes of last hidden states."""
        ...

    def again(self) -> Tensor:
        """(B, T, D) last states of the same batch in a second pass, with other dropout masks."""
        ...


@dataclass(frozen=True, repr=False)
class Objective:
    """An auxiliary objective; its constructor arguments are its whole configuration.

    A subclass is a frozen dataclass. It prints itself, compares equal by value, turns into a
    plain dict and back, and holds no tensors: learnable parts are built by `build_parts` and
    kept by whoever trains.

    Args:
        weight: factor beside the next-token loss (lambda in the papers): a number of at least 0,
            or a `Ramp`, `Dropped` or `Adaptive`.

    Raises:
        ValueError: naming the argument, what it is and what it may be.
    """

    #: Name in configurations and dicts.
    name: ClassVar[str]
    #: Whether an `Encoder` is needed.
    encodes: ClassVar[bool] = False
    # Not annotated, so that a subclass can make fields of them behind `weight`.
    #: Which tokens form the trajectory, see `Content`.
    content = "text"
    #: Which states are read, see `SemanticTube.layer`.
    layer = -1
    #: `linear` for a learned matrix, and how many times faster than the model it learns.
    predictor = "none"
    predictor_rate = 100.0

    weight: Weight = 0.02

    def __post_init__(self) -> None:
        weights.check(self.weight)
        if isinstance(self.layer, list):  # as JSON and YAML have it
            object.__setattr__(self, "layer", tuple(self.layer))
        layers = self.layers
        if not all(isinstance(x, int) and not isinstance(x, bool) for x in layers):
            raise ValueError(f"layer is {self.layer!r}: give whole numbers, such as -1 or (4, -1)")
        if not layers or len(set(layers)) != len(layers):
            raise ValueError(f"layer is {self.layer!r}: give one layer or several different ones")
        if 0 in layers:
            raise ValueError("layer is 0, the embeddings, which hold no trajectory: use 1.. or -1")
        if len(layers) > 1 and isinstance(self.weight, weights.Adaptive):
            raise ValueError(
                f"layer is {self.layer!r}: an Adaptive weight is measured at one layer"
            )
        needs("content", self.content, tuple(CONTENT_ROLES))
        needs("predictor", self.predictor, ("none", "linear"))
        needs_positive("predictor_rate", self.predictor_rate)
        if self.predictor == "linear" and len(layers) > 1:
            raise ValueError(f"layer is {layers}: a predictor serves one layer")

    @property
    def layers(self) -> tuple[int, ...]:
        """The layers read; the term is the mean over them."""
        layer: Any = self.layer
        return tuple(layer) if isinstance(layer, tuple) else (layer,)

    def __repr__(self) -> str:
        """The constructor call, without the arguments that have their default."""
        given = (
            f"{field.name}={getattr(self, field.name)!r}"
            for field in fields(self)
            if getattr(self, field.name) != field.default or field.name == "weight"
        )
        return f"{type(self).__name__}({', '.join(given)})"

    def build_parts(self, width: int) -> nn.Module | None:
        """Freshly made learnable parts for states of this width; None where there are none."""
        return LinearPredictor(width, self.predictor_rate) if self.predictor == "linear" else None

    def to_dict(self) -> dict[str, Any]:
        """Plain values under the constructor's names; `objective_from_dict` turns it back."""
        plain = {field.name: getattr(self, field.name) for field in fields(self)}
        for key, value in plain.items():
            if isinstance(value, tuple):
                plain[key] = list(value)
        return {"objective": self.name, **plain, "weight": weights.to_plain(self.weight)}

    def __call__(
        self,
        hidden_BTD: Tensor,
        trajectories: Trajectories,
        key: int,
        *,
        parts: nn.Module | None = None,
        encoder: Encoder | None = None,
    ) -> LossTerm:
        """Summed cost and number of costs per document.

        Args:
            hidden_BTD: states of one layer, any float type; the cost is computed in float32
                (float64 stays float64).
            trajectories: the batch's documents.
            key: seeds the draws together with each document's own key.
            parts: what `build_parts` made.
            encoder: the model, where `encodes` is true.
        """
        raise NotImplementedError


def widened(values: Tensor) -> Tensor:
    """The values in float32, or in their own type if that is wider."""
    return values.to(torch.promote_types(values.dtype, torch.float32))
