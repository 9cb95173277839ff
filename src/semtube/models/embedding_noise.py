"""NEFTune for loops whose trainer has none: noise on the input embeddings while training.

Shape letters: B rows, T tokens, D embedding size.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from semtube.errors import UserError
from semtube.models.decoder import causal_lm_of, unwrap


@contextmanager
def embedding_noise(model: nn.Module, alpha: float = 5.0) -> Iterator[None]:
    """Add uniform noise in [-1, 1] * alpha / sqrt(T * D) to every embedded token in training.

    In `eval()`, and after the block, the model is what it was. The noise comes from torch's global
    generator, as dropout's does. The Hugging Face Trainer and TRL have it built in
    (`neftune_noise_alpha`): use theirs there.

    Args:
        model: a causal language model of transformers, wrapped or not.
        alpha: strength; the paper uses 5 to 15.

    Raises:
        UserError: alpha is not above 0, or the model has no input embeddings.

    Source: NEFTune, arXiv 2310.05914, algorithm 1.
    """
    if not 0 < alpha < math.inf:
        raise UserError(f"alpha is {alpha}: it must be above 0")
    causal_lm = causal_lm_of(unwrap(model))
    if not hasattr(causal_lm, "get_input_embeddings"):
        raise UserError(f"{type(causal_lm).__name__} has no get_input_embeddings()")

    @torch.compiler.disable
    def add_noise(module: nn.Module, args: Any, embedded_BTD: Tensor) -> Tensor:
        if not module.training:
            return embedded_BTD
        size = alpha / math.sqrt(embedded_BTD.shape[-2] * embedded_BTD.shape[-1])
        return embedded_BTD + torch.empty_like(embedded_BTD).uniform_(-size, size)

    hook = causal_lm.get_input_embeddings().register_forward_hook(add_noise)
    try:
        yield
    finally:
        hook.remove()
