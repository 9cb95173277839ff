"""Random numbers of a measure, named by a seed and what they are for."""

from __future__ import annotations

import hashlib

import torch


def generator_of(seed: int, *name: object) -> torch.Generator:
    """A generator of its own for every seed and name, on the CPU; no global one is touched.

    Hashed to 32 bits: torch's CPU generator forgets the higher bits of a seed.
    """
    text = "/".join(str(part) for part in (seed, *name))
    digest = hashlib.sha256(text.encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:4], "big"))
