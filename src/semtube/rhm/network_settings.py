"""Settings that both networks share: the grammar, the seed, and the strings they name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from semtube.errors import UserError
from semtube.rhm.generators import numpy_generator
from semtube.rhm.grammar import Grammar
from semtube.rhm.sizes import check_fits, check_learnable, check_sizes, check_strings_fit

#: Counters of the "generator" stream.
GRAMMAR, TRAINING, VALIDATION, TEST, PROBE, SWAPS = range(6)


@dataclass(frozen=True, kw_only=True)
class NetworkSettings:
    """The grammar of a run.

    Args:
        num_features: v, symbols of every level.
        num_synonyms: m, rules of every symbol.
        branching: s, children of every node.
        depth: L, at least 2.
        degenerate: keep whatever grammar is drawn, or redraw until no symbol is absent and no two
            parents are nearly equal.
        seed: names the grammar, the strings and every other draw.

    Raises:
        UserError: sizes of which there is no grammar, or one that strings say nothing of.
    """

    num_features: int = 16
    num_synonyms: int = 4
    branching: int = 2
    depth: int = 3
    degenerate: Literal["keep", "redraw"] = "keep"
    seed: int = 0

    def __post_init__(self) -> None:
        check_sizes(self.num_features, self.num_synonyms, self.branching, self.depth)
        check_learnable(self.num_features, self.num_synonyms, self.branching)
        check_range("depth", self.depth, low=2)

    @property
    def num_strings_held(self) -> int:
        """Strings that a run draws whole, of all its parts."""
        raise NotImplementedError

    @property
    def num_numbers(self) -> int:
        """Numbers held at least: weights, what a batch leaves for gradients, what scores read.

        Each weight counts five times: itself, its gradient, two moments, and the teacher's.
        """
        raise NotImplementedError

    def check_fits(self, limit: int | None = None) -> None:
        """Make sure that strings and network can be held, as far as sizes tell beforehand.

        Args:
            limit: bytes where the network lives; None for this machine's memory.

        Raises:
            UserError: they cannot.
        """
        check_strings_fit(self.num_strings_held, self.num_features, self.branching, self.depth)
        num_bytes = np.dtype(np.float32).itemsize * self.num_numbers
        check_fits(num_bytes, "the network's weights, one batch and what its scores read", limit)

    @property
    def latent_theory(self) -> int:
        """v m^3, the number of strings from which own latents can be learned."""
        return self.num_features * self.num_synonyms**3

    def draw_grammar(self) -> Grammar:
        """The grammar of this seed."""
        return Grammar.draw(
            num_features=self.num_features,
            num_synonyms=self.num_synonyms,
            branching=self.branching,
            depth=self.depth,
            generator=numpy_generator(self.seed, "generator", GRAMMAR),
            degenerate=self.degenerate,
        )

    def draw_strings(
        self, grammar: Grammar, num_strings: int, part: int, *counters: int
    ) -> list[np.ndarray]:
        """Strings of one part (TRAINING, ...) with all levels; parts are independent."""
        generator = numpy_generator(self.seed, "generator", part, *counters)
        return grammar.sample(num_strings, generator)


def check_range(
    name: str,
    value: float,
    *,
    low: float | None = None,
    above: float | None = None,
    high: float | None = None,
    below: float | None = None,
) -> None:
    """Make sure that a setting lies where it may.

    Args:
        low, high: limits that are allowed themselves.
        above, below: limits that are not.

    Raises:
        UserError: it does not; NaN never does.
    """
    parts = [
        (low, f"at least {low}", low is None or value >= low),
        (above, f"above {above}", above is None or value > above),
        (high, f"at most {high}", high is None or value <= high),
        (below, f"below {below}", below is None or value < below),
    ]
    if not all(holds for _, _, holds in parts):
        wanted = " and ".join(text for limit, text, _ in parts if limit is not None)
        raise UserError(f"{name} is {value}: it must be {wanted}")
