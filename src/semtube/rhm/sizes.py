"""Sizes: which grammars exist, which types hold their symbols, what fits in memory."""

from __future__ import annotations

import math
import os

import numpy as np

from semtube.errors import UserError

GIBIBYTE = 2**30
MAX_SYMBOLS = 1 << 16
LOG2_MAX_TUPLES = 26
LOG2_MAX_TOKENS = 40


def physical_memory() -> int:
    """Bytes of memory this machine has."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def check_fits(num_bytes: int, what: str, limit: int | None = None) -> None:
    """Make sure that an array of this size can be held.

    Args:
        num_bytes: its size.
        what: it is.
        limit: bytes there are; None for this machine's memory.

    Raises:
        UserError: it is larger; names both numbers.
    """
    limit = physical_memory() if limit is None else limit
    if num_bytes > limit:
        raise UserError(
            f"{what} would take {num_bytes / GIBIBYTE:,.1f} GiB and this machine has "
            f"{limit / GIBIBYTE:,.1f} GiB: choose smaller sizes"
        )


def check_strings_fit(num_strings: int, num_features: int, branching: int, depth: int) -> None:
    """Make sure that strings with their latents, true and recovered, can be held.

    Raises:
        UserError: they cannot.
    """
    num_nodes = sum(branching**level for level in range(depth + 1))
    num_bytes = 2 * num_strings * num_nodes * np.dtype(symbol_type(num_features)).itemsize
    check_fits(
        num_bytes, f"{num_strings:,} strings of {branching**depth:,} tokens and their latents"
    )


def symbol_type(num_symbols: int) -> type[np.unsignedinteger]:
    """The smallest unsigned type for 0..num_symbols-1."""
    return np.uint8 if num_symbols <= 1 << 8 else np.uint16 if num_symbols <= 1 << 16 else np.uint32


def tuple_codes(tuples: np.ndarray, num_features: int) -> np.ndarray:
    """(..., s) symbols below v -> (...) int32 numbers in base v, first symbol highest."""
    codes = tuples[..., 0].astype(np.int32)
    for place in range(1, tuples.shape[-1]):
        codes *= num_features
        codes += tuples[..., place]
    return codes


def check_sizes(num_features: int, num_synonyms: int, branching: int, depth: int) -> None:
    """Make sure that a grammar of these sizes exists.

    Raises:
        UserError: it does not, or its tables would be too large.
    """
    smallest = {"num_features": 2, "num_synonyms": 1, "branching": 2, "depth": 1}
    given = dict(zip(smallest, (num_features, num_synonyms, branching, depth), strict=True))
    for name, value in given.items():
        if value < smallest[name]:
            raise UserError(f"{name} is {value}: at least {smallest[name]} is needed")
    if num_features > MAX_SYMBOLS or branching * math.log2(num_features) > LOG2_MAX_TUPLES:
        raise UserError(
            f"num_features {num_features} with branching {branching} has {num_features}^{branching}"
            f" tuples: at most 2^{LOG2_MAX_TUPLES} are held"
        )
    if depth * math.log2(branching) > LOG2_MAX_TOKENS:
        raise UserError(
            f"branching {branching} with depth {depth} has strings of {branching}^{depth} tokens: "
            f"at most 2^{LOG2_MAX_TOKENS} are held"
        )
    if num_synonyms > num_features ** (branching - 1):
        raise UserError(
            f"num_synonyms is {num_synonyms}: with num_features {num_features} and branching "
            f"{branching} a symbol has at most {num_features ** (branching - 1)} tuples of its own"
        )


def check_learnable(num_features: int, num_synonyms: int, branching: int) -> None:
    """Make sure that strings say something about the grammar.

    Raises:
        UserError: f = 1.
    """
    if num_synonyms == num_features ** (branching - 1):
        raise UserError(
            f"num_synonyms {num_synonyms} makes every tuple grammatical (f = 1): all strings are "
            "then equally likely and nothing can be learned from them; choose num_synonyms below "
            f"{num_features ** (branching - 1)}"
        )
