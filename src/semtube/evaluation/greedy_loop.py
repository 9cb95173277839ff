"""Greedy decoding of one batch through `generate`, in a loop that rows leave when they are done."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor
from transformers import Cache, GenerationConfig, LogitsProcessor, LogitsProcessorList
from transformers.generation.utils import ALL_CACHE_NAMES

from semtube.errors import UserError
from semtube.evaluation.padding import pad_left
from semtube.evaluation.shared_prefix import SharedPrefix
from semtube.models.decoder import causal_lm_of

CacheKind = Literal["dynamic", "static", "none"]
#: Two logits are close if they differ by less than this share of the row's largest magnitude:
#: rounding is some 1e-6 of it, and with 1e-4 one row in several hundred has a close choice.
CLOSE = 1e-4
#: Rows leave the batch when this share of it is done; each time the cache is copied.
DROPPED_SHARE = 1 / 8


@dataclass
class Written:
    """An answer as it grows.

    Args:
        token_ids: without the stop token.
        stopped: it has ended by itself.
        is_close: rounding could have changed one of its tokens.
    """

    token_ids: list[int] = field(default_factory=list)
    stopped: bool = False
    is_close: bool = False

    def add(self, token: int, is_close: bool, stop_ids: frozenset[int]) -> None:
        """The next token, if the answer has not ended."""
        if self.stopped:
            return
        self.is_close |= is_close
        if token in stop_ids:
            self.stopped = True
        else:
            self.token_ids.append(token)


class GreedyLoop:
    """Decodes prompts together, through the model's own `generate`.

    `generate` knows each family's cache, positions and masks. With a static cache its own loop
    runs, which it compiles on a GPU; else this one.

    Args:
        max_new_tokens: no answer is longer.
        cache: see `decode_greedily`.
    """

    def __init__(
        self,
        model: Any,
        stop_ids: frozenset[int],
        pad_id: int,
        max_new_tokens: int,
        cache: CacheKind,
    ) -> None:
        self.model = model
        self.stop_ids = stop_ids
        self.pad_id = pad_id
        self.cache = cache
        self.config = GenerationConfig(
            do_sample=False,
            num_beams=1,
            max_new_tokens=max_new_tokens,
            eos_token_id=sorted(stop_ids),
            pad_token_id=pad_id,
            use_cache=cache != "none",
            cache_implementation="static" if cache == "static" else None,
        )

    def decode(self, prompts: list[list[int]], prefix: SharedPrefix | None) -> list[Written]:
        """Answers to one batch, in its order.

        Args:
            prefix: what all prompts begin with, for the dynamic cache.

        Raises:
            UserError: the model keeps no cache, or one of its own kind.
        """
        ids, mask = pad_left(prompts, self.pad_id, next(self.model.parameters()).device)
        inputs = {"input_ids": ids, "attention_mask": mask}
        if self.cache == "static":
            return self._decode_static(inputs)
        return self.model.generate(**inputs, custom_generate=_Loop(self, prefix))

    def _decode_static(self, inputs: dict[str, Tensor]) -> list[Written]:
        watch = _CloseChoices(next(self.model.parameters()).dtype)
        written = self.model.generate(**inputs, logits_processor=LogitsProcessorList([watch]))
        rows = []
        for tokens, close in zip(
            written[:, inputs["input_ids"].shape[1] :].tolist(), watch.rows(), strict=True
        ):
            rows.append(Written())
            # On a GPU the loop may run some steps beyond the end, which it takes back.
            for token, is_close in zip(tokens, close, strict=False):
                rows[-1].add(token, is_close, self.stop_ids)
        return rows


class _Loop:
    """What `generate` runs in place of its own loop, with all inputs prepared."""

    def __init__(self, settings: GreedyLoop, prefix: SharedPrefix | None) -> None:
        self.settings = settings
        self.prefix = prefix

    def __call__(
        self,
        model: Any,
        input_ids: Tensor,
        logits_processor: Any,
        stopping_criteria: Any,
        generation_config: GenerationConfig,
        **inputs: Any,
    ) -> list[Written]:
        settings = self.settings
        rows = [Written() for _ in input_ids]
        unfinished = rows
        fresh = self._fill_cache(input_ids, inputs)  # the prompts first, then token by token
        for step in range(settings.config.max_new_tokens):
            outputs = model(
                **model.prepare_inputs_for_generation(
                    input_ids, next_sequence_length=fresh, is_first_iteration=step == 0, **inputs
                ),
                return_dict=True,
            )
            if settings.cache != "none":
                _check_cached(settings.model, outputs, len(input_ids))
                fresh = 1
            logits_BV = outputs.logits[:, -1]
            inputs = model._update_model_kwargs_for_generation(outputs, inputs)
            del outputs  # a prompt's logits may be large
            tokens_B = logits_BV.argmax(-1)
            found = zip(unfinished, tokens_B.tolist(), close_choices(logits_BV), strict=True)
            for row, token, is_close in found:
                row.add(token, is_close, settings.stop_ids)
            kept = [place for place, row in enumerate(unfinished) if not row.stopped]
            if not kept:
                break
            input_ids = torch.cat([input_ids, tokens_B[:, None]], 1)
            if len(unfinished) - len(kept) >= DROPPED_SHARE * len(unfinished):
                places = torch.tensor(kept, device=input_ids.device)
                _keep_rows(inputs, places, len(unfinished))
                input_ids = input_ids[places]
                unfinished = [unfinished[place] for place in kept]
        return rows

    def _fill_cache(self, input_ids: Tensor, inputs: dict[str, Any]) -> int | None:
        """How many tokens of each row are still to be read; None for all."""
        if self.prefix is None:
            return None
        mask = inputs.get("attention_mask")
        no_pads = torch.zeros(len(input_ids), dtype=torch.long, device=input_ids.device)
        num_pads = no_pads if mask is None else (1 - mask).sum(1)
        self.prefix.fill(inputs["past_key_values"], num_pads)
        return input_ids.shape[1] - self.prefix.length


def _check_cached(model: Any, outputs: Any, num_rows: int) -> None:
    """Old models keep nothing, or something of their own (RWKV's is wrong for several rows)."""
    kept = [outputs[name] for name in ALL_CACHE_NAMES if name in outputs]
    name = type(causal_lm_of(model)).__name__
    if not kept:
        raise UserError(f"{name} keeps nothing of what it has read: decode with cache 'none'")
    if num_rows > 1 and not isinstance(kept[0], Cache):
        raise UserError(
            f"{name} keeps what it has read in a form of its own, which cannot be relied on in "
            "batches: decode with cache 'none' or batch_size 1"
        )


def _keep_rows(inputs: dict[str, Any], places: Tensor, num_rows: int) -> None:
    """Take the other rows out of the cache and of what goes with it, in place."""
    for name in ALL_CACHE_NAMES:
        if inputs.get(name) is not None:
            inputs[name].reorder_cache(places)
    if inputs.get("attention_mask") is not None:
        inputs["attention_mask"] = inputs["attention_mask"][places]
    positions = inputs.get("position_ids")  # (B, T), or (3, B, T); B = 1 if rows share theirs
    if positions is not None and positions.shape[-2] == num_rows:
        inputs["position_ids"] = positions.index_select(-2, places)


def close_choices(logits_BV: Tensor) -> list[bool]:
    """For each row, whether rounding in float32 could change which logit is the largest."""
    if logits_BV.dtype != torch.float32:
        return [False] * len(logits_BV)
    best_B2 = logits_BV.topk(2).values
    scale_B = logits_BV.abs().amax(-1)
    return (best_B2[:, 0] - best_B2[:, 1] <= CLOSE * scale_B).tolist()


class _CloseChoices(LogitsProcessor):
    """Notes the close choices of a loop that is not ours, and changes nothing."""

    def __init__(self, dtype: torch.dtype) -> None:
        self.dtype = dtype  # of the model; the scores come in float32
        self.steps: list[list[bool]] = []

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        self.steps.append(close_choices(scores.to(self.dtype)))
        return scores

    def rows(self) -> list[tuple[bool, ...]]:
        return list(zip(*self.steps, strict=True))
