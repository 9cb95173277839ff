"""A small pre-norm transformer encoder that gives the states after every block.

Shape letters: B strings, T tokens, D hidden size, A attention heads.

Source: arXiv 2605.27734, table 1.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from semtube.rhm.dropout import dropout


class Block(nn.Module):
    """A pre-norm transformer block: x + attention(norm(x)), then x + feed-forward(norm(x)).

    Dropout on attention weights, on both branches and on the feed-forward's hidden layer.
    """

    def __init__(
        self, hidden_size: int, num_heads: int, feed_forward_size: int, dropout_rate: float
    ) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.rate = dropout_rate
        self.norm_attention = nn.LayerNorm(hidden_size)
        self.queries_keys_values = nn.Linear(hidden_size, 3 * hidden_size)
        self.attention_out = nn.Linear(hidden_size, hidden_size)
        self.norm_feed_forward = nn.LayerNorm(hidden_size)
        self.feed_forward_in = nn.Linear(hidden_size, feed_forward_size)
        self.feed_forward_out = nn.Linear(feed_forward_size, hidden_size)

    def forward(self, x_BTD: Tensor, causal: bool, generator: torch.Generator | None) -> Tensor:
        """The states after the block."""
        attended = self._attend(self.norm_attention(x_BTD), causal, generator)
        x_BTD = x_BTD + dropout(attended, self.rate, generator)
        hidden = F.gelu(self.feed_forward_in(self.norm_feed_forward(x_BTD)))
        out = self.feed_forward_out(dropout(hidden, self.rate, generator))
        return x_BTD + dropout(out, self.rate, generator)

    def _attend(self, x_BTD: Tensor, causal: bool, generator: torch.Generator | None) -> Tensor:
        # Written out: the strings are short, and the fused kernels draw dropout globally.
        parts = self.queries_keys_values(x_BTD).unflatten(-1, (3, self.num_heads, -1))
        queries_BATD, keys_BATD, values_BATD = parts.permute(2, 0, 3, 1, 4)
        scores_BATT = queries_BATD @ keys_BATD.mT / queries_BATD.shape[-1] ** 0.5
        if causal:
            ahead = torch.ones(scores_BATT.shape[-2:], dtype=torch.bool, device=x_BTD.device)
            scores_BATT = scores_BATT.masked_fill(ahead.triu(1), float("-inf"))
        weights_BATT = dropout(scores_BATT.softmax(-1), self.rate, generator)
        return self.attention_out((weights_BATT @ values_BATD).transpose(1, 2).flatten(2))


class Encoder(nn.Module):
    """Tokens, or vectors, to the states after every block.

    Weights and embeddings begin as N(0, 0.02^2), biases at 0. The paper's table lists v + 2 token
    ids; here are v and one learned vector for masked positions, as nothing is known of the other.

    Args:
        num_features: v token ids; None where vectors (B, T, D) come in.
        num_tokens: T.
        hidden_size, num_layers, num_heads, feed_forward_size, dropout_rate: see `Data2VecSettings`.
        causal: whether a position sees only itself and those before it.
    """

    def __init__(
        self,
        *,
        num_features: int | None,
        num_tokens: int,
        hidden_size: int,
        num_layers: int,
        num_heads: int,
        feed_forward_size: int,
        dropout_rate: float,
        causal: bool = False,
    ) -> None:
        super().__init__()
        self.causal = causal
        self.embedding = None if num_features is None else nn.Embedding(num_features, hidden_size)
        self.mask_vector = nn.Parameter(torch.empty(1, 1, hidden_size))
        self.positions = nn.Parameter(torch.empty(1, num_tokens, hidden_size))
        self.blocks = nn.ModuleList(
            Block(hidden_size, num_heads, feed_forward_size, dropout_rate)
            for _ in range(num_layers)
        )
        self.norm_out = nn.LayerNorm(hidden_size)
        for name, weights in self.named_parameters():
            if weights.ndim > 1:
                nn.init.normal_(weights, std=0.02)
            elif name.endswith("bias"):
                nn.init.zeros_(weights)

    def forward(
        self,
        inputs: Tensor,
        masked_BT: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> list[Tensor]:
        """States (B, T, D) after each block, lowest first.

        Args:
            inputs: tokens (B, T), or vectors (B, T, D) if the encoder has no embedding.
            masked_BT: positions whose input is replaced by the mask vector.
            generator: for dropout; None, no dropout.
        """
        x_BTD = inputs if self.embedding is None else self.embedding(inputs)
        if masked_BT is not None:
            x_BTD = torch.where(masked_BT[..., None], self.mask_vector, x_BTD)
        x_BTD = x_BTD + self.positions
        states = []
        for block in self.blocks:
            x_BTD = block(x_BTD, self.causal, generator)
            states.append(x_BTD)
        return states

    def final(self, states: Sequence[Tensor]) -> Tensor:
        """The last block's states under the encoder's own layer norm, as a pre-norm encoder ends.

        The paper does not say whether it has that norm.
        """
        return self.norm_out(states[-1])


def average_top(states: Sequence[Tensor], num_top: int) -> Tensor:
    """Mean over the last blocks of their states, each layer-normed without weights; (B, T, D).

    Source: arXiv 2605.27734, table 1 (K = 4; no norm after the mean).
    """
    normed = [F.layer_norm(x_BTD, x_BTD.shape[-1:]) for x_BTD in states[-num_top:]]
    return torch.stack(normed).mean(0)
