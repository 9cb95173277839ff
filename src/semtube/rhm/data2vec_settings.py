"""What a run of data2vec, or of a token baseline on the same encoder, is. Needs no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from semtube.errors import UserError
from semtube.rhm.network_settings import NetworkSettings, check_range


@dataclass(frozen=True, kw_only=True)
class Data2VecSettings(NetworkSettings):
    """One run of an encoder on strings of a grammar.

    Args:
        objective: `data2vec`; `stacked`, two of them with half the layers each; `masked_token` or
            `next_token`, the same encoder trained on tokens.
        num_strings: P, unique training strings that are used again and again (offline); unset to
            draw fresh ones at every step (online).
        steps: Optimizer steps.
        batch_size: Strings of a step.
        hidden_size: Width of the states.
        num_layers: Blocks; for `stacked` of both levels together.
        num_heads: Attention heads.
        feed_forward_size: Hidden units of a block's feed-forward part.
        dropout: Of attention weights and block outputs.
        num_top: K, the teacher's last blocks whose mean is the target.
        mask_fraction: Chance of a position to be masked; every string has at least one.
        beta: Where smooth L1 turns from quadratic to linear.
        teacher_decay: Weight of the teacher in its running mean.
        learning_rate: Of AdamW, constant.
        beta1: Of AdamW.
        beta2: Of AdamW.
        weight_decay: Of weights and embeddings, not of biases and layer norms.
        max_grad_norm: Gradients are clipped to this norm.
        num_evaluations: Probed at so many steps, each sqrt(2) times the one before, the last at
            the end; and once before training (the random baseline).
        probe_steps: Steps of each probe.
        num_probe: Labelled strings for the probes, drawn apart.
        num_validation: Strings that choose the probe's step.
        num_test: Strings that probes and synonym scores are measured on.

    Raises:
        UserError: a value out of range; see `NetworkSettings`.

    Source: arXiv 2605.27734, section 5 and table 1; defaults are its values, but for the
        evaluations and probe strings, which it does not state.
    """

    objective: Literal["data2vec", "stacked", "masked_token", "next_token"] = "data2vec"
    depth: int = 4
    num_synonyms: int = 3
    num_strings: int | None = None
    steps: int = 262_144
    batch_size: int = 512
    hidden_size: int = 2048
    num_layers: int = 8
    num_heads: int = 32
    feed_forward_size: int = 8192
    dropout: float = 0.1
    num_top: int = 4
    mask_fraction: float = 0.15
    beta: float = 4.0
    teacher_decay: float = 0.99
    learning_rate: float = 1e-4
    beta1: float = 0.9
    beta2: float = 0.98
    weight_decay: float = 0.01
    max_grad_norm: float = 1.0
    num_evaluations: int = 15
    probe_steps: int = 2000
    num_probe: int = 8192
    num_validation: int = 2000
    num_test: int = 2000

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.num_strings is not None:
            check_range("num_strings", self.num_strings, low=self.num_features)
        for name in (
            "steps", "batch_size", "hidden_size", "num_layers", "num_heads", "feed_forward_size",
            "num_top", "num_evaluations", "probe_steps", "num_probe", "num_validation", "num_test",
        ):  # fmt: skip
            check_range(name, getattr(self, name), low=1)
        check_range("dropout", self.dropout, low=0, below=1)
        check_range("mask_fraction", self.mask_fraction, above=0, below=1)
        for name in ("beta", "learning_rate", "max_grad_norm"):
            check_range(name, getattr(self, name), above=0)
        for name in ("teacher_decay", "beta1", "beta2"):
            check_range(name, getattr(self, name), low=0, below=1)
        check_range("weight_decay", self.weight_decay, low=0)
        self._check_shape()

    @property
    def num_strings_held(self) -> int:
        """Strings that a run draws whole, of all its parts."""
        labelled = self.num_probe + self.num_validation + self.num_test
        return labelled + (self.num_strings or 0)

    @property
    def num_numbers(self) -> int:
        """Weights, states of every block, and what probes and synonym scores read."""
        num_tokens = self.branching**self.depth
        weights = self.hidden_size * (4 * self.hidden_size + 2 * self.feed_forward_size)
        states = num_tokens * (6 * self.hidden_size + 2 * self.feed_forward_size)
        features = self.num_probe * num_tokens * self.hidden_size
        scored = 3 * self.num_test * num_tokens * self.hidden_size  # as drawn and two swaps
        return self.num_layers * (5 * weights + self.batch_size * states + scored) + features

    def _check_shape(self) -> None:
        if self.hidden_size % self.num_heads:
            raise UserError(
                f"hidden_size is {self.hidden_size}: it must be a multiple of num_heads, "
                f"{self.num_heads}"
            )
        if self.objective == "stacked" and self.num_layers % 2:
            raise UserError(f"num_layers is {self.num_layers}: 'stacked' needs an even number")
        check_range("num_top", self.num_top, high=self.layers_per_level)
        if self.num_synonyms < 2:
            raise UserError("num_synonyms is 1: without synonyms there is nothing to score")

    @property
    def layers_per_level(self) -> int:
        """Blocks of one encoder."""
        return self.num_layers // 2 if self.objective == "stacked" else self.num_layers

    @property
    def evaluation_steps(self) -> list[int]:
        """Increasing, without 0."""
        points = {round(self.steps / 2 ** (k / 2)) for k in range(self.num_evaluations)}
        return sorted(points - {0})


#: A size for tests and two CPU cores: not one at which the paper's thresholds can be seen.
CPU_SIZE: dict[str, Any] = {
    "num_features": 8,
    "num_synonyms": 4,
    "depth": 3,
    "steps": 4000,
    "batch_size": 128,
    "hidden_size": 64,
    "num_layers": 4,
    "num_heads": 4,
    "feed_forward_size": 256,
    "num_top": 2,
    "learning_rate": 1e-3,
    "num_evaluations": 6,
    "num_probe": 4096,
}
