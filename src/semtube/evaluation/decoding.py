"""Greedy decoding in batches of like length, with every stop token of the model."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from transformers import GenerationConfig

from semtube.errors import UserError
from semtube.models.decoder import causal_lm_of


@dataclass(frozen=True)
class Decoded:
    """What the model wrote after one prompt.

    Args:
        token_ids: without the stop token.
        stopped: it ended by itself within the limit.
    """

    token_ids: list[int]
    stopped: bool


def decode_greedily(
    model: Any,
    prompts: Sequence[list[int]],
    *,
    stop_ids: frozenset[int],
    pad_id: int,
    max_new_tokens: int,
    batch_size: int = 64,
    on_progress: Callable[[int], None] = lambda num_done: None,
) -> list[Decoded]:
    """The most likely next token, again and again, until a stop token or the limit.

    Prompts are sorted by length, padded on the left and masked; in float32 the result equals that
    of one prompt at a time. The model's own sampling settings and penalties are not used.

    Args:
        model: a causal language model of transformers.
        prompts: token ids of each prompt.
        stop_ids: tokens at which an answer ends.
        pad_id: fills the padding; it is masked, so any id serves.
        max_new_tokens: an answer without a stop token by then has not stopped. Less, and for all
            prompts alike, where the longest would outgrow the model's context.
        batch_size: prompts decoded together.
        on_progress: told the number of prompts done after each batch.

    Returns:
        In the order of the prompts.

    Raises:
        UserError: a prompt fills the model's context.
    """
    positions = getattr(model.config, "max_position_embeddings", None)
    if positions is not None and prompts:
        longest = max(map(len, prompts))
        max_new_tokens = min(max_new_tokens, positions - longest)
        if max_new_tokens < 1:
            raise UserError(
                f"a prompt has {longest} tokens and the model takes {positions}: leave such rows "
                f"out with max_tokens below {positions}"
            )
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
    decoded: dict[int, Decoded] = {}
    device = next(model.parameters()).device
    config = GenerationConfig(
        do_sample=False,
        num_beams=1,
        max_new_tokens=max_new_tokens,
        eos_token_id=sorted(stop_ids),
        pad_token_id=pad_id,
    )
    with evaluating(model), _generating_with(model, config), torch.no_grad():
        for start in range(0, len(order), batch_size):
            chosen = order[start : start + batch_size]
            width = max(len(prompts[i]) for i in chosen)
            ids = torch.tensor([[pad_id] * (width - len(prompts[i])) + prompts[i] for i in chosen])
            mask = torch.tensor(
                [[0] * (width - len(prompts[i])) + [1] * len(prompts[i]) for i in chosen]
            )
            written = model.generate(input_ids=ids.to(device), attention_mask=mask.to(device))
            for i, row in zip(chosen, written[:, width:].tolist(), strict=True):
                end = next((k for k, token in enumerate(row) if token in stop_ids), None)
                decoded[i] = Decoded(row[:end], end is not None)
            on_progress(len(decoded))
    return [decoded[i] for i in range(len(prompts))]


@contextmanager
def evaluating(model: Any) -> Iterator[None]:
    """Eval mode for every module; afterwards each is in the mode it was in."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


@contextmanager
def _generating_with(model: Any, config: GenerationConfig) -> Iterator[None]:
    """Our generation settings alone, also for the model inside a PEFT wrapper."""
    holders = [model, causal_lm_of(model)]
    before = [holder.generation_config for holder in holders]
    for holder in holders:
        holder.generation_config = config
    try:
        yield
    finally:
        for holder, settings in zip(holders, before, strict=True):
            holder.generation_config = settings
