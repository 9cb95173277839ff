"""How likely a model finds given continuations of a prompt, which it reads once for all of them.

Shape letters: B prompts, P prompt tokens, M options of these prompts, L option tokens, V words.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import Cache
from transformers.cache_utils import LinearAttentionCacheLayerMixin

from semtube.config import BATCH_TOKENS
from semtube.errors import UserError
from semtube.evaluation.batching import token_batches, tokens_with_logits
from semtube.evaluation.decoding import evaluating
from semtube.evaluation.padding import accepts, masks_padding, pad_left, pad_right, positions_of

#: Padding is masked or stands behind what counts, so that any id serves.
_PAD = 0


def option_log_probabilities(
    model: Any,
    prompts: Sequence[list[int]],
    options: Sequence[Sequence[list[int]]],
    *,
    batch_tokens: int = BATCH_TOKENS,
    batch_size: int | None = None,
    share_prompt: bool = True,
    on_progress: Callable[[int], None] = lambda num_done: None,
) -> list[list[float]]:
    """Log-probability of each option: sum over its tokens of ln p(token | prompt, tokens before).

    The prompt is run through the model once; its keys and values serve all its options, and an
    option of one token costs nothing more. A model that keeps no such cache, or reads padding in
    spite of its mask, is given every option with its prompt anew: slower, with the same result.

    Args:
        model: a causal language model of transformers, with adapters or without.
        prompts: token ids of each row's prompt, at least one.
        options: token ids of each row's options, at least one each; any number of options.
        batch_tokens: tokens of a batch: options x (longest prompt + longest option); fewer where
            their logits would outgrow half a gigabyte.
        batch_size: most prompts in a batch.
        share_prompt: False runs every prompt anew for each of its options.
        on_progress: told the number of prompts done after each batch.

    Returns:
        In nats, for every row and option in their order.

    Raises:
        ValueError: prompts and options differ in number, or one is empty.
        UserError: a prompt with its longest option outgrows the model's context.
    """
    _check(model, prompts, options)
    found: list[list[float]] = [[] for _ in prompts]
    asked = [i for i, row in enumerate(options) if row]
    if not asked:
        return found
    with evaluating(model), torch.no_grad():
        shares = share_prompt and _can_share(model, prompts[asked[0]])
        score = _score_behind_prompts if shares else _score_apart
        batches = token_batches(
            [_cost(model, len(prompts[i]), options[i], batch_tokens, shares) for i in asked],
            batch_tokens=batch_tokens,
            batch_size=batch_size,
            copies=[len(options[i]) for i in asked],
        )
        num_done = len(prompts) - len(asked)
        for batch in batches:
            chosen = [asked[place] for place in batch]
            owners = [row for row, i in enumerate(chosen) for _ in options[i]]
            scored = iter(
                score(
                    model,
                    [prompts[i] for i in chosen],
                    [option for i in chosen for option in options[i]],
                    owners,
                ).tolist()
            )
            for i in chosen:
                found[i] = [next(scored) for _ in options[i]]
            num_done += len(chosen)
            on_progress(num_done)
    return found


def _check(
    model: Any, prompts: Sequence[list[int]], options: Sequence[Sequence[list[int]]]
) -> None:
    if len(prompts) != len(options):
        raise ValueError(f"{len(prompts)} prompts but options for {len(options)}")
    positions = getattr(model.config, "max_position_embeddings", None)
    for i, (prompt, row) in enumerate(zip(prompts, options, strict=True)):
        if not prompt:
            raise ValueError(f"prompt {i} is empty: give it a token to predict the options from")
        for k, option in enumerate(row):
            if not option:
                raise ValueError(f"option {k} of prompt {i} is empty: it needs at least one token")
            if positions is not None and len(prompt) + len(option) > positions:
                raise UserError(
                    f"a prompt and its answer have {len(prompt) + len(option)} tokens and the "
                    f"model takes {positions}: leave such rows out with max_tokens"
                )


def _cost(
    model: Any, num_prompt: int, options: Sequence[list[int]], batch_tokens: int, shares: bool
) -> int:
    """What an option takes of a batch's budget, in tokens, or in logits where these are scarcer."""
    num_option = max(map(len, options))
    num_tokens = num_prompt + num_option
    with_logits = num_option if shares else num_tokens
    return max(num_tokens, with_logits * batch_tokens // tokens_with_logits(model))


def _can_share(model: Any, prompt: list[int]) -> bool:
    """Whether the model keeps keys and values, behind which several tokens can be read at once."""
    ids, mask = pad_left([prompt[:1]], _PAD, next(model.parameters()).device)
    outputs = model(input_ids=ids, attention_mask=mask, use_cache=True)
    cache = outputs.get("past_key_values")
    if not isinstance(cache, Cache):
        return False
    recurrent = any(isinstance(layer, LinearAttentionCacheLayerMixin) for layer in cache.layers)
    return not recurrent and masks_padding(model, prompt, _PAD)


def _score_behind_prompts(
    model: Any, prompts: list[list[int]], options: list[list[int]], owners: list[int]
) -> Tensor:
    """(M,) log-probabilities; the prompts are read once, the options behind their cache.

    Args:
        owners: which prompt each option belongs to, M numbers.
    """
    device = next(model.parameters()).device
    ids_BP, mask_BP = pad_left(prompts, _PAD, device)
    outputs = _run(model, ids_BP, mask_BP, positions_of(mask_BP), num_logits=1, use_cache=True)
    first_BV = outputs.logits[:, -1].float().log_softmax(-1)
    owner_M = torch.tensor(owners, device=device)
    score_M = first_BV[owner_M, torch.tensor([option[0] for option in options], device=device)]
    longer = [m for m, option in enumerate(options) if len(option) > 1]
    if not longer:
        return score_M
    cache = outputs.past_key_values
    cache.reorder_cache(owner_M[longer])  # each prompt as often as it has longer options
    ids_ML, mask_ML = pad_right([options[m] for m in longer], _PAD, device)
    before_M1 = mask_BP[owner_M[longer]].sum(1, keepdim=True)
    length = ids_ML.shape[1] - 1
    outputs = _run(
        model,
        ids_ML[:, :-1],
        torch.cat([mask_BP[owner_M[longer]], mask_ML[:, :-1]], 1),
        before_M1 + torch.arange(length, device=device),
        num_logits=length,
        past_key_values=cache,
        use_cache=True,
    )
    logp_ML = _log_probabilities(outputs.logits, ids_ML[:, 1:])
    return score_M.index_add(
        0, torch.tensor(longer, device=device), (logp_ML * mask_ML[:, 1:]).sum(1)
    )


def _score_apart(
    model: Any, prompts: list[list[int]], options: list[list[int]], owners: list[int]
) -> Tensor:
    """(M,) log-probabilities; every option with its prompt is a row, padded behind its end."""
    device = next(model.parameters()).device
    starts = [len(prompts[owner]) for owner in owners]
    whole = [prompts[owner] + option for owner, option in zip(owners, options, strict=True)]
    ids_MT, mask_MT = pad_right(whole, _PAD, device)
    num_logits = ids_MT.shape[1] - min(starts) + 1
    outputs = _run(model, ids_MT, mask_MT, None, num_logits=num_logits, use_cache=False)
    logp_MT = _log_probabilities(outputs.logits[:, -num_logits:-1], ids_MT[:, 1 - num_logits :])
    place_T = torch.arange(min(starts), ids_MT.shape[1], device=device)
    is_option_MT = place_T >= torch.tensor(starts, device=device)[:, None]
    return (logp_MT * (is_option_MT & mask_MT[:, min(starts) :].bool())).sum(1)


def _run(
    model: Any,
    ids: Tensor,
    mask: Tensor,
    positions: Tensor | None,
    *,
    num_logits: int,
    **inputs: Any,
) -> Any:
    """A forward pass, with the logits of the last tokens alone where the model can do that."""
    if positions is not None and accepts(model, "position_ids"):
        inputs["position_ids"] = positions
    if accepts(model, "logits_to_keep"):
        inputs["logits_to_keep"] = num_logits
    return model(input_ids=ids, attention_mask=mask, **inputs)


def _log_probabilities(logits: Tensor, targets: Tensor) -> Tensor:
    """ln softmax(logits) at the targets, in float32."""
    logits = logits.float()
    return logits.gather(-1, targets[..., None]).squeeze(-1) - logits.logsumexp(-1)
