"""The Random Hierarchy Model: rules drawn once, strings sampled from them, latents read back.

Shapes: v symbols at every level, m rules for each symbol, s children, L levels of rules;
P strings, N = s^(L-l) nodes of level l. Level 0 holds the tokens, level L the root.

Source: arXiv 2605.27734, section 2; arXiv 2307.02129.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np

from semtube.errors import UserError
from semtube.rhm.degeneracy import degeneracies
from semtube.rhm.sizes import (
    check_learnable,
    check_sizes,
    check_strings_fit,
    symbol_type,
    tuple_codes,
)

#: Strings sampled at a time: bounds what sampling needs beside its result.
CHUNK = 1 << 15
MAX_DRAWS = 1000


@dataclass(frozen=True, eq=False)
class Grammar:
    """One grammar.

    Every string is a full tree of depth L with s children a node. Symbol a of level l + 1 expands
    to one of its m tuples rules[l][a], all equally likely; the v m tuples of a level are distinct,
    so a tuple has one parent. The root is uniform.

    Args:
        num_features: v, symbols of every level.
        num_synonyms: m, rules of every symbol.
        branching: s, children of every node.
        depth: L.
        rules: rules[l] (v, m, s), symbols of level l; l = 0..L-1.

    Raises:
        UserError: impossible sizes.
        ValueError: rules of another shape, out of range, or with a tuple twice in a level.
    """

    num_features: int
    num_synonyms: int
    branching: int
    depth: int
    rules: tuple[np.ndarray, ...]

    def __post_init__(self) -> None:
        check_sizes(self.num_features, self.num_synonyms, self.branching, self.depth)
        shape = (self.num_features, self.num_synonyms, self.branching)
        if len(self.rules) != self.depth or any(level.shape != shape for level in self.rules):
            got = [level.shape for level in self.rules]
            raise ValueError(f"rules must be {self.depth} arrays of shape {shape}, got {got}")
        for level, rules_VMS in enumerate(self.rules):
            if rules_VMS.min() < 0 or rules_VMS.max() >= self.num_features:
                raise ValueError(f"rules[{level}] has symbols outside 0..{self.num_features - 1}")
            if len(np.unique(self.tuple_codes(rules_VMS))) < self.num_features * self.num_synonyms:
                raise ValueError(f"rules[{level}] has a tuple twice; every tuple has one parent")

    @classmethod
    def draw(
        cls,
        *,
        num_features: int,
        num_synonyms: int,
        branching: int,
        depth: int,
        generator: np.random.Generator,
        degenerate: Literal["keep", "redraw"],
    ) -> Grammar:
        """Draw v m distinct tuples a level, uniformly, and split them into v groups of m.

        Args:
            degenerate: keep whatever is drawn, or draw anew until no symbol is absent and no two
                parents are nearly equal (see `semtube.rhm.degeneracy`).

        Raises:
            UserError: impossible sizes; or "redraw" and no draw was free of degeneracies.
        """
        check_sizes(num_features, num_synonyms, branching, depth)
        if degenerate not in ("keep", "redraw"):
            raise ValueError(f"degenerate must be 'keep' or 'redraw', got {degenerate!r}")
        sizes = dict(
            num_features=num_features, num_synonyms=num_synonyms, branching=branching, depth=depth
        )
        if degenerate == "redraw":
            check_learnable(num_features, num_synonyms, branching)
        for _ in range(MAX_DRAWS):
            rules = tuple(
                _draw_rules(num_features, num_synonyms, branching, generator) for _ in range(depth)
            )
            if degenerate == "keep" or next(degeneracies(rules), None) is None:
                return cls(**sizes, rules=rules)
        raise UserError(
            f"{MAX_DRAWS} grammars with num_features {num_features}, num_synonyms {num_synonyms}, "
            f"branching {branching}, depth {depth} all had an absent symbol or two nearly equal "
            "parents: keep degenerate grammars, or raise num_synonyms"
        )

    @property
    def f(self) -> float:
        """Fraction of all tuples that are grammatical, m / v^(s-1)."""
        return self.num_synonyms / self.num_features ** (self.branching - 1)

    @property
    def num_tokens(self) -> int:
        """s^L, tokens of a string."""
        return self.branching**self.depth

    @property
    def symbol_type(self) -> type[np.unsignedinteger]:
        """The smallest type that holds a symbol."""
        return symbol_type(self.num_features)

    def tuple_codes(self, tuples: np.ndarray) -> np.ndarray:
        """(..., s) symbols -> (...) codes, the tuple as a number in base v, first symbol highest.

        Codes are int32, which holds all of them.
        """
        return tuple_codes(tuples, self.num_features)

    @cached_property
    def parents(self) -> tuple[np.ndarray, ...]:
        """parents[l] (v^s,): level-(l+1) parent of each tuple code; -1 for ungrammatical ones."""
        tables = []
        for rules_VMS in self.rules:
            table = np.full(self.num_features**self.branching, -1, dtype=np.int32)
            table[self.tuple_codes(rules_VMS)] = np.arange(self.num_features)[:, None]
            tables.append(table)
        return tuple(tables)

    def sample(self, num_strings: int, generator: np.random.Generator) -> list[np.ndarray]:
        """Draw strings with all their latents.

        Returns:
            L + 1 arrays, level 0 first: out[l] (P, s^(L-l)); out[0] tokens, out[L] (P, 1) root.
            Of `symbol_type`.

        Raises:
            UserError: they would not fit in memory.
        """
        if num_strings < 1:
            raise UserError(f"num_strings is {num_strings}: at least 1 is needed")
        widths = [self.branching ** (self.depth - level) for level in range(self.depth + 1)]
        check_strings_fit(num_strings, self.num_features, self.branching, self.depth)
        out = [np.empty((num_strings, width), dtype=self.symbol_type) for width in widths]
        for start in range(0, num_strings, CHUNK):
            top = out[-1][start : start + CHUNK]
            top[:] = generator.integers(self.num_features, size=top.shape, dtype=self.symbol_type)
            self._expand([level[start : start + CHUNK] for level in out], self.depth, generator)
        return out

    def parse(self, tokens: np.ndarray) -> list[np.ndarray]:
        """Read all levels back from tokens.

        Args:
            tokens: (P, s^L) whole numbers.

        Returns:
            As `sample`.

        Raises:
            ValueError: tokens of another shape.
            UserError: a token out of range, or a tuple that has no parent; names string, level
                and place, all counted from 0.
        """
        if tokens.ndim != 2 or tokens.shape[1] != self.num_tokens:
            raise ValueError(f"tokens must be (P, {self.num_tokens}), got {tokens.shape}")
        outside = (tokens < 0) | (tokens >= self.num_features)
        if outside.any():
            string, place = np.argwhere(outside)[0]
            raise UserError(
                f"string {string}, token {place} is {tokens[string, place]}: "
                f"tokens are 0 to {self.num_features - 1}"
            )
        levels = [tokens.astype(self.symbol_type)]
        for level, parents in enumerate(self.parents):
            tuples = levels[-1].reshape(len(tokens), -1, self.branching)
            above = parents[self.tuple_codes(tuples)]
            if (above < 0).any():
                string, place = np.argwhere(above < 0)[0]
                symbols = tuple(tuples[string, place].tolist())
                raise UserError(
                    f"string {string}, level {level}, tuple {place}: {symbols} is not a tuple of "
                    "this grammar"
                )
            levels.append(above.astype(self.symbol_type))
        return levels

    def synonym_swap(
        self, latents: list[np.ndarray], level: int, generator: np.random.Generator
    ) -> list[np.ndarray]:
        """Give every node of a level another of its rules, and expand anew below.

        Latents of `level` and above stay; every tuple of level - 1 becomes one of its m - 1
        synonyms, all equally likely.

        Args:
            latents: as `sample` gives them.
            level: 1..L.

        Raises:
            ValueError: no such level, or m = 1, where nothing has a synonym.

        Source: arXiv 2307.02129, section 4.2 (exchange of synonyms).
        """
        if not 1 <= level <= self.depth:
            raise ValueError(f"level must be 1 to {self.depth}, got {level}")
        if self.num_synonyms < 2:
            raise ValueError("num_synonyms is 1: no tuple has a synonym")
        out = [np.copy(level_PN) for level_PN in latents]
        for start in range(0, len(out[0]), CHUNK):
            chunk = [level_PN[start : start + CHUNK] for level_PN in out]
            tuples = chunk[level - 1].reshape(len(chunk[0]), -1, self.branching)
            steps = generator.integers(1, self.num_synonyms, size=tuples.shape[:2])
            rule = self._rule_places[level - 1][self.tuple_codes(tuples)] + steps
            rule %= self.num_synonyms
            tuples[:] = self.rules[level - 1][chunk[level], rule]
            self._expand(chunk, level - 1, generator)
        return out

    def generic_swap(
        self, latents: list[np.ndarray], generator: np.random.Generator
    ) -> list[np.ndarray]:
        """As many unrelated strings: what a synonym swap at any level is compared with.

        There is none for each level: the numbers of rules mean nothing, so new symbols at a level,
        expanded below, are in law a new string.
        """
        return self.sample(len(latents[0]), generator)

    @cached_property
    def _rule_places(self) -> tuple[np.ndarray, ...]:
        """_rule_places[l] (v^s,): which of its parent's m rules a tuple is; -1 for none."""
        tables = []
        for rules_VMS in self.rules:
            table = np.full(self.num_features**self.branching, -1, dtype=np.int32)
            table[self.tuple_codes(rules_VMS)] = np.arange(self.num_synonyms)
            tables.append(table)
        return tuple(tables)

    def _expand(self, levels: list[np.ndarray], top: int, generator: np.random.Generator) -> None:
        """Fill the levels below `top`, in place, by rules drawn uniformly."""
        for level in range(top - 1, -1, -1):
            above = levels[level + 1]
            rule = above.astype(np.intp)
            rule *= self.num_synonyms
            rule += generator.integers(
                self.num_synonyms, size=above.shape, dtype=symbol_type(self.num_synonyms)
            )
            table = self.rules[level].reshape(-1, self.branching)
            target = levels[level].reshape(*above.shape, self.branching)
            np.take(table, rule, axis=0, out=target, mode="clip")


def _draw_rules(
    num_features: int, num_synonyms: int, branching: int, generator: np.random.Generator
) -> np.ndarray:
    """(v, m, s) one level's rules."""
    num_tuples = num_features**branching
    codes = generator.choice(num_tuples, num_features * num_synonyms, replace=False)
    symbols = np.empty((len(codes), branching), dtype=symbol_type(num_features))
    for place in range(branching - 1, -1, -1):
        codes, symbols[:, place] = np.divmod(codes, num_features)
    return symbols.reshape(num_features, num_synonyms, branching)
