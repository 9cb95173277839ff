"""data2vec on strings, and the same encoder trained on tokens.

Shape letters: B strings, T tokens, D hidden size.

Source: arXiv 2605.27734, section 5 and table 1; arXiv 2202.03555 (data2vec).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from semtube.rhm.data2vec_settings import Data2VecSettings
from semtube.rhm.encoder import Encoder, average_top
from semtube.rhm.generators import initial_weights
from semtube.rhm.teacher import update_teacher


def draw_masks(
    num_strings: int, num_tokens: int, fraction: float, generator: np.random.Generator
) -> np.ndarray:
    """(B, T) bool: each position masked with chance `fraction`, and at least one in a string.

    A string that drew none gets one, at a uniform place. The paper says neither; a string without
    a masked position would have no loss.
    """
    masked = generator.random((num_strings, num_tokens)) < fraction
    forced = generator.integers(num_tokens, size=num_strings)
    empty = ~masked.any(1)
    masked[empty, forced[empty]] = True
    return masked


class Learner(Protocol):
    """What training and probing need of a model."""

    def loss(
        self, tokens_BT: Tensor, masked_BT: Tensor, generator: torch.Generator | None, /
    ) -> Tensor:
        """The scalar to minimise."""
        ...

    def update_teachers(self, rate: float, /) -> None:
        """After each step; nothing where there is no teacher."""
        ...

    def layers(self, tokens_BT: Tensor, /) -> list[Tensor]:
        """States after every block on clean strings, without dropout."""
        ...

    def features(self, tokens_BT: Tensor, /) -> Tensor:
        """(B, T, D) final features of clean strings."""
        ...

    def targets(self, tokens_BT: Tensor, /) -> Tensor:
        """(B, T, D) `average_top` of the teacher, or of the encoder itself where there is none."""
        ...


class Data2Vec(nn.Module):
    """A student that predicts, at masked positions, what its slow teacher sees in the whole string.

    Args:
        make_encoder: builds the student's and the teacher's encoder; the teacher begins as a copy.
        num_top: K, blocks averaged in the target.
        beta: where smooth L1 turns from quadratic to linear.
    """

    def __init__(self, make_encoder: Callable[[], Encoder], num_top: int, beta: float) -> None:
        super().__init__()
        self.student = make_encoder()
        self.teacher = make_encoder().requires_grad_(False)
        self.teacher.load_state_dict(self.student.state_dict())
        hidden_size = self.student.positions.shape[-1]
        self.head = nn.Linear(hidden_size, hidden_size)
        self.num_top = num_top
        self.beta = beta

    @torch.no_grad()
    def targets(self, inputs: Tensor) -> Tensor:
        """(B, T, D) of the teacher, which sees everything and has no dropout."""
        return average_top(self.teacher(inputs), self.num_top)

    def loss(self, inputs: Tensor, masked_BT: Tensor, generator: torch.Generator | None) -> Tensor:
        """Mean smooth L1 over masked positions and features.

        d^2 / (2 beta) for |d| < beta, else |d| - beta / 2.

        Source: arXiv 2605.27734, table 1; its text says squared loss.
        """
        states = self.student(inputs, masked_BT, generator)
        predictions = self.head(self.student.final(states)[masked_BT])
        return F.smooth_l1_loss(predictions, self.targets(inputs)[masked_BT], beta=self.beta)

    def update_teachers(self, rate: float) -> None:
        """See `update_teacher`."""
        update_teacher(self.teacher, self.student, rate)

    def layers(self, inputs: Tensor) -> list[Tensor]:
        """Of the student."""
        return self.student(inputs)

    def features(self, inputs: Tensor) -> Tensor:
        """Of the student."""
        return self.student.final(self.student(inputs))


class TokenModel(nn.Module):
    """The same encoder, trained to name tokens: the baseline.

    Args:
        encoder: causal for "next".
        num_features: v.
        num_top: as `Data2Vec`, for reading the encoder as its target is read.
        predicts: the masked tokens, or at every position the next one.
    """

    def __init__(
        self,
        encoder: Encoder,
        num_features: int,
        num_top: int,
        predicts: Literal["masked", "next"],
    ) -> None:
        super().__init__()
        if encoder.causal != (predicts == "next"):
            raise ValueError(f"predicts {predicts!r} with causal {encoder.causal}")
        self.encoder = encoder
        self.head = nn.Linear(encoder.positions.shape[-1], num_features)
        self.num_top = num_top
        self.predicts = predicts

    def loss(
        self, tokens_BT: Tensor, masked_BT: Tensor, generator: torch.Generator | None
    ) -> Tensor:
        """Mean cross-entropy of a token, in nats."""
        if self.predicts == "next":
            features = self.encoder.final(self.encoder(tokens_BT, None, generator))
            return F.cross_entropy(
                self.head(features[:, :-1]).flatten(0, 1), tokens_BT[:, 1:].flatten()
            )
        features = self.encoder.final(self.encoder(tokens_BT, masked_BT, generator))
        return F.cross_entropy(self.head(features[masked_BT]), tokens_BT[masked_BT])

    def update_teachers(self, rate: float) -> None:
        """There is none."""

    def layers(self, tokens_BT: Tensor) -> list[Tensor]:
        """Of the encoder."""
        return self.encoder(tokens_BT)

    def features(self, tokens_BT: Tensor) -> Tensor:
        """Of the encoder."""
        return self.encoder.final(self.encoder(tokens_BT))

    def targets(self, tokens_BT: Tensor) -> Tensor:
        """`average_top` of the encoder itself."""
        return average_top(self.encoder(tokens_BT), self.num_top)


class StackedData2Vec(nn.Module):
    """Two data2vec models, the upper one on the lower one's targets; each has a loss of its own.

    What the paper holds to be redundant and does not train. No gradient flows between them.

    Args:
        lower: on tokens.
        upper: on vectors; with the masks of the lower one.
    """

    def __init__(self, lower: Data2Vec, upper: Data2Vec) -> None:
        super().__init__()
        self.lower = lower
        self.upper = upper

    def loss(
        self, tokens_BT: Tensor, masked_BT: Tensor, generator: torch.Generator | None
    ) -> Tensor:
        """Sum of both losses."""
        low = self.lower.loss(tokens_BT, masked_BT, generator)
        return low + self.upper.loss(self.lower.targets(tokens_BT), masked_BT, generator)

    def update_teachers(self, rate: float) -> None:
        """Both."""
        self.lower.update_teachers(rate)
        self.upper.update_teachers(rate)

    def layers(self, tokens_BT: Tensor) -> list[Tensor]:
        """The lower student's, then the upper one's."""
        return self.lower.layers(tokens_BT) + self.upper.layers(self.lower.targets(tokens_BT))

    def features(self, tokens_BT: Tensor) -> Tensor:
        """Of the upper student."""
        return self.upper.features(self.lower.targets(tokens_BT))

    def targets(self, tokens_BT: Tensor) -> Tensor:
        """Of the upper teacher."""
        return self.upper.targets(self.lower.targets(tokens_BT))


def build_learner(settings: Data2VecSettings) -> Learner:
    """A model with the seed's initial weights.

    The encoder is drawn first, so that all objectives on one encoder begin from the same one.
    """
    sizes = dict(
        num_tokens=settings.branching**settings.depth,
        hidden_size=settings.hidden_size,
        num_layers=settings.layers_per_level,
        num_heads=settings.num_heads,
        feed_forward_size=settings.feed_forward_size,
        dropout_rate=settings.dropout,
    )

    def data2vec(num_features: int | None) -> Data2Vec:
        make = lambda: Encoder(num_features=num_features, **sizes)  # noqa: E731
        return Data2Vec(make, settings.num_top, settings.beta)

    with initial_weights(settings.seed):
        if settings.objective == "data2vec":
            return data2vec(settings.num_features)
        if settings.objective == "stacked":
            return StackedData2Vec(data2vec(settings.num_features), data2vec(None))
        causal = settings.objective == "next_token"
        encoder = Encoder(num_features=settings.num_features, causal=causal, **sizes)
        predicts = "next" if causal else "masked"
        return TokenModel(encoder, settings.num_features, settings.num_top, predicts)


def weight_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Learned weights in two groups: matrices and embeddings decay, biases and norms do not."""
    learned = [x for x in model.parameters() if x.requires_grad]
    return [
        {"params": [x for x in learned if x.ndim > 1], "weight_decay": weight_decay},
        {"params": [x for x in learned if x.ndim == 1], "weight_decay": 0.0},
    ]
