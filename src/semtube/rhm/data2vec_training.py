"""Train data2vec, or the same encoder on tokens, and probe it along the way.

Shape letters: B strings, T tokens, D hidden size, U nodes of a level.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from semtube.errors import UserError
from semtube.rhm.data2vec import build_learner, draw_masks, weight_groups
from semtube.rhm.data2vec_settings import Data2VecSettings
from semtube.rhm.generators import numpy_generator, torch_generator
from semtube.rhm.lab_run import run_training
from semtube.rhm.network_settings import PROBE, SWAPS, TEST, TRAINING, VALIDATION
from semtube.rhm.probes import (
    ProbeKind,
    ProbeOptions,
    Rows,
    accuracy,
    fit_probe,
    node_features,
    synonym_score,
)

EVALUATION_BATCH = 256
#: Beside the evaluations, a run is saved so many times.
NUM_SAVES = 50


def run_data2vec(
    settings: Data2VecSettings,
    folder: str | Path,
    on_progress: Callable[[dict[str, Any]], None] = lambda line: None,
) -> dict[str, Any]:
    """One run from start to end, see `run_training`; gives `Data2VecTraining.result`."""
    return run_training(
        "data2vec", settings, lambda device: Data2VecTraining(settings, device), folder, on_progress
    )


class Data2VecTraining:
    """Learner, optimizer, strings, step, and the lines of metrics so far.

    Args:
        settings: of the run.
        device: where the networks live.
    """

    def __init__(self, settings: Data2VecSettings, device: torch.device) -> None:
        self.settings = settings
        self.device = device
        self.step = 0
        self.metrics: list[dict[str, Any]] = []
        self.grammar = settings.draw_grammar()
        self.fixed_PT: np.ndarray | None = None
        if settings.num_strings is not None:
            self.fixed_PT = settings.draw_strings(self.grammar, settings.num_strings, TRAINING)[0]
        parts = (PROBE, settings.num_probe), (VALIDATION, settings.num_validation), (
            TEST, settings.num_test,
        )  # fmt: skip
        self.labelled = [settings.draw_strings(self.grammar, n, part) for part, n in parts]
        self.learner = build_learner(settings)
        self.model.to(device)
        self.optimizer = torch.optim.AdamW(
            weight_groups(self.model, settings.weight_decay),
            settings.learning_rate,
            betas=(settings.beta1, settings.beta2),
            fused=True,
        )
        self._losses: list[Tensor] = []
        self._orders: dict[int, np.ndarray] = {}

    @property
    def model(self) -> nn.Module:
        """The learner, as a module."""
        assert isinstance(self.learner, nn.Module)
        return self.learner

    @property
    def is_done(self) -> bool:
        """Whether all steps are over."""
        return self.step >= self.settings.steps

    def advance(self) -> None:
        """The evaluation before training; or steps up to the next evaluation or save."""
        evaluations = {0, *self.settings.evaluation_steps}
        save_every = max(1, self.settings.steps // NUM_SAVES)
        if self.metrics:
            self.train_step()
            while self.step not in evaluations and self.step % save_every:
                self.train_step()
        if self.step in evaluations:
            self.evaluate()

    def train_step(self) -> None:
        """One step of the optimizer, and of the teacher."""
        settings = self.settings
        tokens_BT = self._tensor(self._batch(self.step))
        generator = numpy_generator(settings.seed, "spans", self.step)
        num_strings, num_tokens = tokens_BT.shape
        masked = draw_masks(num_strings, num_tokens, settings.mask_fraction, generator)
        dropout = torch_generator(settings.seed, "dropout", self.step, device=self.device)
        masked_BT = torch.from_numpy(masked).to(self.device)
        loss = self.learner.loss(tokens_BT, masked_BT, dropout)
        self.optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), settings.max_grad_norm)
        self.optimizer.step()
        self.learner.update_teachers(1 - settings.teacher_decay)
        self._losses.append(loss.detach())
        self.step += 1

    def _batch(self, step: int) -> np.ndarray:
        """(B, T) tokens of a step: fresh ones; or the next rows of endless shuffled epochs."""
        size = self.settings.batch_size
        if self.fixed_PT is None:
            return self.settings.draw_strings(self.grammar, size, TRAINING, step)[0]
        epochs, places = np.divmod(np.arange(step * size, (step + 1) * size), len(self.fixed_PT))
        self._orders = {
            epoch: self._order(epoch, len(self.fixed_PT)) for epoch in np.unique(epochs).tolist()
        }
        rows = np.concatenate(
            [order[places[epochs == epoch]] for epoch, order in self._orders.items()]
        )
        return self.fixed_PT[rows]

    def _order(self, epoch: int, num_strings: int) -> np.ndarray:
        if epoch in self._orders:
            return self._orders[epoch]
        generator = numpy_generator(self.settings.seed, "order", epoch)
        return generator.permutation(num_strings)

    def evaluate(self) -> dict[str, Any]:
        """Probe the encoder as it stands; adds the line to the metrics.

        Returns:
            step; num_strings_seen; training_loss, its mean since the last evaluation (None before
            training); root_linear, root_mlp and root_mlp_validation, accuracy of probes on the
            final features; level_linear, of linear probes for levels 1..L on the target;
            synonym_scores, by level 1..L a list by block; target_deviation, over strings, the mean
            of all positions and features (0 if collapsed).
        """
        rows = [self._rows(strings) for strings in self.labelled]
        root = {kind: self._probe([part[0] for part in rows], kind) for kind in ("linear", "mlp")}
        levels = [
            self._probe([part[level] for part in rows], "linear")[1]
            for level in range(1, self.settings.depth + 1)
        ]
        loss = float(torch.stack(self._losses).mean()) if self._losses else None
        if loss is not None and not np.isfinite(loss):
            raise UserError(
                f"step {self.step}: the loss is not finite; choose a lower learning_rate"
            )
        self._losses.clear()
        line = {
            "step": self.step,
            "num_strings_seen": self.step * self.settings.batch_size,
            "training_loss": loss,
            "root_linear": root["linear"][1],
            "root_mlp": root["mlp"][1],
            "root_mlp_validation": root["mlp"][0],
            "level_linear": levels,
            "synonym_scores": self._synonym_scores(),
            "target_deviation": self._target_deviation(),
        }
        self.metrics.append(line)
        return line

    def _probe(self, parts: list[Rows], kind: ProbeKind) -> tuple[float, float]:
        """Accuracy on validation and test rows."""
        training, validation, test = parts
        options = ProbeOptions(kind=kind, steps=self.settings.probe_steps)
        probe = fit_probe(
            training, validation,
            num_classes=self.settings.num_features, options=options, seed=self.settings.seed,
        )  # fmt: skip
        return accuracy(probe, *validation), accuracy(probe, *test)

    @torch.no_grad()
    def _rows(self, strings: list[np.ndarray]) -> list[Rows]:
        """For the probes: final features with the root, then targets with levels 1..L."""
        parts: list[list[Rows]] = []
        latents = [self._tensor(level) for level in strings]
        for chunk in zip(*(level.split(EVALUATION_BATCH) for level in latents), strict=True):
            features, targets = self.learner.features(chunk[0]), self.learner.targets(chunk[0])
            rows = [node_features(features, chunk[-1])]
            parts.append(rows + [node_features(targets, nodes_BU) for nodes_BU in chunk[1:]])
        return [
            (torch.cat([x for x, _ in level]), torch.cat([y for _, y in level]))
            for level in zip(*parts, strict=True)
        ]

    @torch.no_grad()
    def _synonym_scores(self) -> list[list[float | None]]:
        strings = self.labelled[-1]
        generator = numpy_generator(self.settings.seed, "generator", SWAPS)
        original = self._layers(strings[0])
        generic = self._layers(self.grammar.generic_swap(strings, generator)[0])
        scores = []
        for level in range(1, self.settings.depth + 1):
            synonym = self._layers(self.grammar.synonym_swap(strings, level, generator)[0])
            layers = zip(original, synonym, generic, strict=True)
            scores.append([synonym_score(*moved) for moved in layers])
        return scores

    def _layers(self, tokens_BT: np.ndarray) -> list[Tensor]:
        chunks = self._tensor(tokens_BT).split(EVALUATION_BATCH)
        states = [self.learner.layers(tokens) for tokens in chunks]
        return [torch.cat(block) for block in zip(*states, strict=True)]

    @torch.no_grad()
    def _target_deviation(self) -> float:
        tokens_BT = self._tensor(self.labelled[-1][0][:EVALUATION_BATCH])
        return float(self.learner.targets(tokens_BT).std(0, correction=0).mean())

    def state(self) -> dict[str, Any]:
        """All that the next step depends on, beside the metrics."""
        return {
            "step": self.step,
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "losses": self._losses,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Take up a stored state."""
        self.step = state["step"]
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self._losses = state["losses"]
        self.metrics = state["metrics"]

    def result(self) -> dict[str, Any]:
        """What was measured along the way.

        Returns:
            Lines of metrics, see `evaluate`: before training ("initial"), at the end ("final"),
            and where the MLP root probe did best on the validation strings ("best"); with chance
            1/v and the number of learned weights.
        """
        return {
            "initial": self.metrics[0],
            "final": self.metrics[-1],
            "best": max(self.metrics[1:], key=lambda line: line["root_mlp_validation"]),
            "chance": 1 / self.settings.num_features,
            "num_parameters": sum(x.numel() for x in self.model.parameters() if x.requires_grad),
            "device": str(self.device),
        }

    def _tensor(self, numbers: np.ndarray) -> Tensor:
        return torch.from_numpy(numbers.astype(np.int64)).to(self.device)
