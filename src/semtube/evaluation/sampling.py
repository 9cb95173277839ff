"""Answers drawn from a model's own distribution, in batches; a draw belongs to its prompt.

Shape letters: B rows, V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import Cache, LogitsProcessor, LogitsProcessorList
from transformers.generation.utils import ALL_CACHE_NAMES

from semtube.config import BATCH_TOKENS
from semtube.evaluation.batching import token_batches
from semtube.evaluation.decoding import Decoded, by_room, evaluating, generating_with
from semtube.evaluation.greedy_loop import GreedyLoop, Written, close_choices
from semtube.evaluation.padding import masks_padding, pad_left
from semtube.objectives.random_keys import document_keys, fold

#: Bits of a uniform number: half a unit more is still exact in float64, so it is never 0 or 1.
_BITS = 52


def sample_answers(
    model: Any,
    prompts: Sequence[list[int]],
    *,
    stop_ids: frozenset[int],
    pad_id: int,
    max_new_tokens: int,
    temperature: float,
    seed: int,
    batch_tokens: int = BATCH_TOKENS,
) -> list[Decoded]:
    """Tokens drawn from softmax(logits / temperature), until a stop token or the limit.

    A token's noise is a function of seed, prompt, step and token, so a prompt's answer is the same
    in any batch and order (in float32; see `decode_greedily`), and no global generator is touched.
    Equal prompts get equal answers: for several answers to one, take several seeds. Two models meet
    the same noise, so their answers differ only where their distributions do.

    Prompts are batched and padded as for greedy decoding. The model's own sampling settings and
    penalties are not used.

    Args:
        model: a causal language model of transformers, with adapters or without.
        prompts: token ids of each prompt, at least one.
        stop_ids: tokens at which an answer ends.
        pad_id: fills the padding; it is masked, so any id serves.
        max_new_tokens: an answer without a stop token by then has not stopped. Less for a prompt
            that would outgrow the model's context.
        temperature: above 0; 1 for the model's distribution as it is.
        batch_tokens: tokens of a batch: rows x (longest prompt + max_new_tokens).

    Returns:
        In the order of the prompts.

    Raises:
        UserError: a prompt fills the model's context.
        ValueError: temperature not above 0 and finite, an empty prompt, or a budget below 1.

    Source: the largest of logit + Gumbel noise is a draw from the softmax (Gumbel 1954; Maddison,
        Tarlow and Minka 2014, "A* sampling").
    """
    if not 0 < temperature < math.inf:
        raise ValueError(f"temperature is {temperature}: wanted a number above 0")
    sampled: dict[int, Decoded] = {}
    for room, places in by_room(model, prompts, max_new_tokens).items():
        with evaluating(model), torch.no_grad():
            cache = "dynamic" if _keeps_cache(model, prompts[places[0]]) else "none"
            loop = GreedyLoop(model, stop_ids, pad_id, room, cache)
            batches = token_batches(
                [len(prompts[i]) + room for i in places],
                batch_tokens=batch_tokens,
                same_length=not masks_padding(model, prompts[places[0]], pad_id),
            )
            with generating_with(model, loop.config):
                for batch in batches:
                    chosen = [places[k] for k in batch]
                    rows = _sample(loop, [prompts[i] for i in chosen], temperature, seed)
                    for i, row in zip(chosen, rows, strict=True):
                        if row.is_close and len(chosen) > 1:
                            (row,) = _sample(loop, [prompts[i]], temperature, seed)
                        sampled[i] = Decoded(row.token_ids, row.stopped)
    return [sampled[i] for i in range(len(prompts))]


def _sample(
    loop: GreedyLoop, prompts: list[list[int]], temperature: float, seed: int
) -> list[Written]:
    """Answers to one batch, in its order."""
    weights = next(loop.model.parameters())
    ids, mask = pad_left(prompts, loop.pad_id, weights.device)
    noise = _Noise(prompts, ids, temperature, seed, rounds_little=weights.dtype == torch.float32)
    written = loop.model.generate(
        input_ids=ids, attention_mask=mask, logits_processor=LogitsProcessorList([noise])
    )
    rows = []
    close = zip(*noise.close, strict=True)
    for tokens, close_of_row in zip(written[:, ids.shape[1] :].tolist(), close, strict=True):
        rows.append(Written())
        # On a GPU the loop may run some steps beyond the end, which it takes back.
        for token, is_close in zip(tokens, close_of_row, strict=False):
            rows[-1].add(token, is_close, loop.stop_ids)
    return rows


class _Noise(LogitsProcessor):
    """Adds Gumbel noise to logits / temperature, and notes where rounding could turn the choice."""

    def __init__(
        self,
        prompts: list[list[int]],
        ids: Tensor,
        temperature: float,
        seed: int,
        *,
        rounds_little: bool,
    ) -> None:
        self.key_B = fold(_keys(prompts), seed).to(ids.device)
        self.width = ids.shape[1]
        self.temperature = temperature
        self.rounds_little = rounds_little
        self.close: list[list[bool]] = []

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        token_V = torch.arange(scores.shape[1], device=scores.device)
        key_BV = fold(fold(self.key_B, input_ids.shape[1] - self.width)[:, None], token_V)
        uniform_BV = ((key_BV & ((1 << _BITS) - 1)).double() + 0.5) / (1 << _BITS)
        noisy_BV = scores.double() / self.temperature - (-uniform_BV.log()).log()
        close = close_choices(noisy_BV.float()) if self.rounds_little else [False] * len(scores)
        self.close.append(close)
        return noisy_BV


def _keys(prompts: list[list[int]]) -> Tensor:
    """(B,) int64 key of each prompt's tokens."""
    ids = torch.tensor([token for prompt in prompts for token in prompt])
    sizes = torch.tensor([len(prompt) for prompt in prompts])
    document = torch.arange(len(prompts)).repeat_interleave(sizes)
    return document_keys(ids, document, len(prompts))


def _keeps_cache(model: Any, prompt: list[int]) -> bool:
    """Whether the model keeps what it has read in a form that holds for several rows.

    Old models do not; they read the whole text for every token, to the same end.
    """
    ids = torch.tensor([prompt[:1]], device=next(model.parameters()).device)
    outputs = model(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=True)
    return any(isinstance(outputs.get(name), Cache) for name in ALL_CACHE_NAMES)
