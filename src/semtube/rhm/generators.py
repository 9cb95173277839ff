"""Generators named by run seed, stream and counters, so that no draw depends on an earlier one.

A batch order is a function of the epoch, a mask of the step: a resumed run needs no generator
state, and arms that differ only in their objective see the same weights, batches and masks.
Settings use this too, so torch is loaded by those functions alone that draw with it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np

from semtube.seeding import Stream, stream_seed

if TYPE_CHECKING:
    import torch


def numpy_generator(seed: int, stream: Stream, *counters: int) -> np.random.Generator:
    """A numpy generator of its own for every (seed, stream, counters)."""
    return np.random.default_rng(_sequence(seed, stream, counters))


def torch_generator(
    seed: int, stream: Stream, *counters: int, device: torch.device | str = "cpu"
) -> torch.Generator:
    """A torch generator of its own for every (seed, stream, counters)."""
    import torch

    generator = torch.Generator(device)
    generator.manual_seed(_wide_seed(seed, stream, counters))
    return generator


@contextmanager
def initial_weights(seed: int, *counters: int) -> Iterator[None]:
    """Let torch's layers, which know the global generator alone, draw their weights from "init".

    The global generator is put back afterwards.
    """
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(_wide_seed(seed, "init", counters))
        yield


def _wide_seed(seed: int, stream: Stream, counters: tuple[int, ...]) -> int:
    words = _sequence(seed, stream, counters).generate_state(1, np.uint64)
    return int(words[0] >> np.uint64(1))


def _sequence(seed: int, stream: Stream, counters: tuple[int, ...]) -> np.random.SeedSequence:
    # With the number of counters: a trailing 0 alone would change nothing.
    return np.random.SeedSequence([stream_seed(seed, stream), len(counters), *counters])
