"""The tokens that all prompts begin with, such as a system prompt, read once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import Cache, DynamicCache
from transformers.cache_utils import DynamicLayer


@dataclass(frozen=True)
class SharedPrefix:
    """Keys and values of the tokens that all prompts begin with.

    Args:
        length: L, how many tokens.
        layers: of each layer, keys and values (1, heads, L, head size).
    """

    length: int
    layers: list[tuple[Tensor, Tensor]]

    @classmethod
    def read(cls, model: Any, prompts: Sequence[list[int]]) -> SharedPrefix | None:
        """Run the common tokens through the model.

        At least one token of every prompt is left. None where nothing is common, or where a layer
        keeps something else than the keys and values of all tokens.
        """
        first, last = min(prompts), max(prompts)
        length = next(
            (
                place
                for place, pair in enumerate(zip(first, last, strict=False))
                if len(set(pair)) > 1
            ),
            min(len(first), len(last)),
        )
        length = min(length, min(map(len, prompts)) - 1)
        if not length:
            return None
        ids = torch.tensor([first[:length]], device=next(model.parameters()).device)
        outputs = model(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=True)
        cache = outputs.get("past_key_values")
        if not isinstance(cache, DynamicCache):
            return None
        layers: list[tuple[Tensor, Tensor]] = []
        for layer in cache.layers:
            if type(layer) is not DynamicLayer or layer.keys is None or layer.values is None:
                return None
            layers.append((layer.keys, layer.values))
        return cls(length, layers)

    def fill(self, cache: Cache, num_pads_B: Tensor) -> None:
        """Give an empty cache what reading the first L places of a padded batch would give it.

        A row's places are its padding, then the prefix; what the padding shifts beyond place L is
        still to be read. At padding, which is masked, stand keys and values of the first token.
        """
        place_L = torch.arange(self.length, device=num_pads_B.device)
        place_BL = (place_L - num_pads_B[:, None]).clamp(min=0)
        for number, (keys, values) in enumerate(self.layers):
            cache.update(
                keys[0][:, place_BL].transpose(0, 1), values[0][:, place_BL].transpose(0, 1), number
            )
