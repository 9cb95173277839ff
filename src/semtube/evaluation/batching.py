"""Batches of like length under a budget of tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from semtube.config import BATCH_TOKENS

#: Most logits made at once where a pass needs many of them: half a gigabyte in float32.
MAX_LOGITS = 2**27


def token_batches(
    lengths: Sequence[int],
    *,
    batch_tokens: int = BATCH_TOKENS,
    batch_size: int | None = None,
    copies: Sequence[int] | None = None,
    same_length: bool = False,
) -> list[list[int]]:
    """Group rows so that rows x longest row of a batch stays within the budget.

    Rows go by length, so that little is padded, and the longest first, so that what does not fit
    into memory fails at once. A row that is over the budget alone is a batch of its own.

    Args:
        lengths: tokens that each row will take, N numbers.
        batch_tokens: the budget, padding included. Its default holds some hundred short rows,
            which keeps matrix products busy, and keys and values of 0.1 GB (2 million parameters)
            to 0.8 GB (SmolLM2-135M) in float32.
        batch_size: most rows in a batch; unset for as many as the budget allows.
        copies: how often each row stands in its batch, N numbers; once if unset.
        same_length: only rows of one length together, so that nothing is padded.

    Returns:
        Row numbers; every row is in one batch, equal rows in their order.

    Raises:
        ValueError: a budget or a batch size below 1.
    """
    for name, value in (("batch_tokens", batch_tokens), ("batch_size", batch_size)):
        if value is not None and value < 1:
            raise ValueError(f"{name} is {value}: it must be at least 1")
    copies = [1] * len(lengths) if copies is None else copies
    batches: list[list[int]] = []
    width = num_copies = 0
    for row in sorted(range(len(lengths)), key=lambda row: -lengths[row]):
        is_full = (num_copies + copies[row]) * width > batch_tokens
        is_other = same_length and lengths[row] != width
        if not batches or is_full or is_other or len(batches[-1]) == batch_size:
            batches.append([])
            width, num_copies = lengths[row], 0
        batches[-1].append(row)
        num_copies += copies[row]
    return batches


def tokens_with_logits(model: Any) -> int:
    """For how many tokens at once logits are made, where a pass needs those of many tokens."""
    return max(1, MAX_LOGITS // model.config.get_text_config().vocab_size)
