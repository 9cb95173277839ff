"""Small Llama-architecture models to train from nothing, named by their parameters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM


@dataclass(frozen=True)
class Preset:
    """Sizes of one preset; the embedding is tied to the head."""

    vocabulary_size: int
    hidden_size: int
    feed_forward_size: int
    num_layers: int
    num_heads: int


PRESETS = {
    "tiny-0.3m": Preset(512, 96, 288, 2, 3),
    "tiny-2m": Preset(1024, 192, 512, 4, 6),
    "tiny-10m": Preset(2048, 384, 1024, 5, 6),
}


def build_preset(name: str, vocabulary_size: int, seed: int, **token_ids: Any) -> LlamaForCausalLM:
    """A freshly initialised model in float32.

    Args:
        name: a key of PRESETS.
        vocabulary_size: of the tokenizer at hand; a small text gives fewer than the preset's.
        seed: of the initial weights. The global generator is left as it was.
        token_ids: `bos_token_id`, `eos_token_id`, `pad_token_id`.
    """
    preset = PRESETS[name]
    config = LlamaConfig(
        vocab_size=vocabulary_size,
        hidden_size=preset.hidden_size,
        intermediate_size=preset.feed_forward_size,
        num_hidden_layers=preset.num_layers,
        num_attention_heads=preset.num_heads,
        num_key_value_heads=preset.num_heads,
        max_position_embeddings=1024,
        # Three times the usual 0.02, which suits widths of thousands: here it slows the start.
        initializer_range=0.06,
        tie_word_embeddings=True,
        **token_ids,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return LlamaForCausalLM(config)
