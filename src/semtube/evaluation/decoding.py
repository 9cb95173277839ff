"""Greedy decoding in batches of like length, with every stop token of the model.

What is written equals what the model writes for one prompt at a time. Batches and single rows
round differently in the last bits of a logit, so a choice between two tokens that rounding could
turn is not left to the batch: such a row is decoded again alone. This is so in float32; in half
precision, where rounding turns many choices, batches stand as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from transformers import GenerationConfig

from semtube.config import BATCH_TOKENS
from semtube.errors import UserError
from semtube.evaluation.batching import token_batches
from semtube.evaluation.greedy_loop import CacheKind, GreedyLoop
from semtube.evaluation.padding import masks_padding
from semtube.evaluation.shared_prefix import SharedPrefix
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
    batch_tokens: int = BATCH_TOKENS,
    batch_size: int | None = None,
    cache: CacheKind = "dynamic",
    on_progress: Callable[[int], None] = lambda num_done: None,
) -> list[Decoded]:
    """The most likely next token, again and again, until a stop token or the limit.

    Prompts are sorted by length, padded on the left and masked; a model that reads padding all the
    same (tried out once) is given prompts of equal length only. What all prompts begin with is read
    once. In float32 the result equals that of one prompt at a time. The model's own sampling
    settings and penalties are not used.

    Args:
        model: a causal language model of transformers, with adapters or without.
        prompts: token ids of each prompt, at least one.
        stop_ids: tokens at which an answer ends.
        pad_id: fills the padding; it is masked, so any id serves.
        max_new_tokens: an answer without a stop token by then has not stopped. Less for a prompt
            that would outgrow the model's context; no other prompt is cut for it.
        batch_tokens: tokens of a batch: rows x (longest prompt + max_new_tokens).
        batch_size: most prompts in a batch; unset for as many as batch_tokens allows.
        cache: `dynamic` grows with the text, and rows that are done leave the batch; `static` has
            its full size from the start, which transformers compiles on a GPU; `none` runs the
            whole text through the model for every token, for models that keep nothing.
        on_progress: told the number of prompts done after each batch.

    Returns:
        In the order of the prompts.

    Raises:
        UserError: a prompt fills the model's context, or the model keeps no cache for batches.
        ValueError: an empty prompt, or a budget below 1.
    """
    decoded: dict[int, Decoded] = {}
    for room, places in by_room(model, prompts, max_new_tokens).items():
        loop = GreedyLoop(model, stop_ids, pad_id, room, cache)
        alike = [prompts[i] for i in places]
        with evaluating(model), generating_with(model, loop.config), torch.no_grad():
            can_pad = masks_padding(model, alike[0], pad_id)
            batches = token_batches(
                [len(prompt) + room for prompt in alike],
                batch_tokens=batch_tokens,
                batch_size=batch_size,
                same_length=not can_pad,
            )
            shares = can_pad and cache == "dynamic" and len(alike) > 1
            prefix = SharedPrefix.read(model, alike) if shares else None
            for chosen in batches:
                written = loop.decode([alike[k] for k in chosen], prefix)
                for k, row in zip(chosen, written, strict=True):
                    if row.is_close and (len(chosen) > 1 or prefix):
                        (row,) = loop.decode([alike[k]], None)
                    decoded[places[k]] = Decoded(row.token_ids, row.stopped)
                on_progress(len(decoded))
    return [decoded[i] for i in range(len(prompts))]


def by_room(model: Any, prompts: Sequence[list[int]], max_new_tokens: int) -> dict[int, list[int]]:
    """Most tokens an answer may take -> prompts with that much room; nearly always all of them.

    Raises:
        UserError: a prompt has no room.
        ValueError: a prompt is empty.
    """
    if not all(prompts):
        raise ValueError(f"prompt {[len(p) for p in prompts].index(0)} is empty: give it a token")
    if not prompts:
        return {}
    positions = getattr(model.config, "max_position_embeddings", None)
    longest = max(map(len, prompts))
    if positions is not None and positions <= longest:
        raise UserError(
            f"a prompt has {longest} tokens and the model takes {positions}: leave such rows "
            f"out with max_tokens below {positions}"
        )
    rooms: dict[int, list[int]] = {}
    for i, prompt in enumerate(prompts):
        left = max_new_tokens if positions is None else positions - len(prompt)
        rooms.setdefault(min(max_new_tokens, left), []).append(i)
    return rooms


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
def generating_with(model: Any, config: GenerationConfig) -> Iterator[None]:
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
