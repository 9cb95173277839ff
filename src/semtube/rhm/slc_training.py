"""Train Stacked Latent Clustering on strings of a grammar and measure what it found.

Shape letters: B strings, N tokens of a level, D codes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from semtube.errors import UserError
from semtube.rhm.generators import initial_weights, numpy_generator
from semtube.rhm.lab_run import run_training
from semtube.rhm.network_settings import TEST, TRAINING, VALIDATION
from semtube.rhm.probes import ProbeKind, ProbeOptions, accuracy, fit_probe
from semtube.rhm.scoring import hungarian_accuracy
from semtube.rhm.slc import (
    ClusteringWeights,
    LevelOutput,
    StackedLatentClustering,
    effective_codes,
    hard_codes,
    leaf_targets,
    level_losses,
)
from semtube.rhm.slc_settings import ARMS, SLCSettings
from semtube.rhm.teacher import update_teacher

EVALUATION_BATCH = 128


def run_slc(
    settings: SLCSettings,
    folder: str | Path,
    on_progress: Callable[[dict[str, Any]], None] = lambda line: None,
) -> dict[str, Any]:
    """One run from start to end, see `run_training`; gives `SLCTraining.result`."""
    return run_training(
        "slc", settings, lambda device: SLCTraining(settings, device), folder, on_progress
    )


class SLCTraining:
    """Student, teacher, optimizer, strings, and the lines of metrics so far.

    Args:
        settings: of the run.
        device: where the networks live.
    """

    def __init__(self, settings: SLCSettings, device: torch.device) -> None:
        self.settings = settings
        self.device = device
        self.arm = ARMS[settings.arm]
        grammar = settings.draw_grammar()
        self.training = settings.draw_strings(grammar, settings.num_strings, TRAINING)
        self.validation = settings.draw_strings(grammar, settings.num_validation, VALIDATION)
        self.test = settings.draw_strings(grammar, settings.num_test, TEST)
        with initial_weights(settings.seed):
            self.student = self._network()
        self.teacher = self.student
        if self.arm.has_teacher:
            self.teacher = self._network().requires_grad_(False).eval()
            self.teacher.load_state_dict(self.student.state_dict())
        self.optimizer = torch.optim.AdamW(
            self.student.parameters(),
            settings.learning_rate,
            weight_decay=settings.weight_decay,
            fused=True,
        )
        self.weights = ClusteringWeights(
            settings.similarity_threshold, settings.separation_weight, settings.sparsity_weight
        )
        self.metrics: list[dict[str, Any]] = []
        self.best_state: dict[str, Tensor] = {}

    def _network(self) -> StackedLatentClustering:
        return StackedLatentClustering(
            branching=self.settings.branching,
            depth=self.settings.depth,
            codebook_size=self.settings.num_codes,
            hidden_size=self.settings.hidden_size,
        ).to(self.device)

    @property
    def is_done(self) -> bool:
        """Whether all epochs are over."""
        return len(self.metrics) >= self.settings.epochs

    def advance(self) -> None:
        """One epoch over the training strings, then the validation strings: a line of metrics."""
        epoch = len(self.metrics)
        generator = numpy_generator(self.settings.seed, "order", epoch)
        order = generator.permutation(self.settings.num_strings)
        self.student.train()
        losses = []
        for start in range(0, len(order), self.settings.batch_size):
            rows = order[start : start + self.settings.batch_size]
            losses.append(self._step(self._tensor(self.training[0][rows]), generator))
        training_loss = float(torch.stack(losses).mean())
        if not np.isfinite(training_loss):
            raise UserError(
                f"epoch {epoch + 1}: the training loss is not finite; choose a lower learning_rate"
            )
        line = {"epoch": epoch + 1, "training_loss": training_loss}
        line |= self.validate()
        self.metrics.append(line)
        if self.best_epoch() == epoch + 1:
            self.best_state = {k: x.clone() for k, x in self.student.state_dict().items()}

    def _step(self, tokens_BN: Tensor, generator: np.random.Generator) -> Tensor:
        weight = self.settings.clustering_weight
        pairs = self._losses(tokens_BN, generator)[1]
        losses = [loss for pair in pairs for loss in (pair[0], weight * pair[1])]
        self.optimizer.zero_grad()
        if self.settings.aggregation == "sum":
            torch.stack(losses).sum().backward()
        else:
            from semtube.rhm.upgrad import upgrad_backward  # torchjd comes with the extra "rhm"

            upgrad_backward(losses, self.student.parameters())
        self.optimizer.step()
        if self.arm.has_teacher:
            update_teacher(self.teacher, self.student, self.settings.teacher_rate)
        return torch.stack(losses).detach().sum()

    def _losses(
        self, tokens_BN: Tensor, generator: np.random.Generator | None
    ) -> tuple[list[LevelOutput], list[tuple[Tensor, Tensor]]]:
        """The student's outputs, and (prediction, clustering) loss of every level.

        Without a generator the first patches are compared, not drawn ones.
        """
        student = self._forward(self.student, tokens_BN)
        teacher = student
        if self.arm.has_teacher:
            with torch.no_grad():
                teacher = self._forward(self.teacher, tokens_BN)
        if self.settings.target == "token":
            sizes = len(student), self.settings.branching, self.settings.num_codes
            targets = leaf_targets(tokens_BN, *sizes)
        else:
            codes = [below.codes_BUD.detach() for below in teacher[:-1]]
            targets = [teacher[0].inputs_BND, *codes]
        pairs = []
        for own, other, target in zip(student, teacher, targets, strict=True):
            num_patches = own.codes_BUD.shape[:2].numel()
            compared = None
            if num_patches > self.settings.num_compared:
                chosen = np.arange(self.settings.num_compared)
                if generator is not None:
                    chosen = generator.choice(num_patches, len(chosen), replace=False)
                compared = self._tensor(chosen)
            pairs.append(
                level_losses(
                    own, other, target, compared, self.weights,
                    stop_before_clusterer=self.arm.stop_before_clusterer,
                )
            )  # fmt: skip
        return student, pairs

    def _forward(self, network: StackedLatentClustering, tokens_BN: Tensor) -> list[LevelOutput]:
        return network(
            tokens_BN,
            stop_between_modules=self.arm.stop_between_modules,
            stop_before_clusterer=self.arm.stop_before_clusterer,
        )

    @torch.no_grad()
    def validate(self) -> dict[str, Any]:
        """The student on the validation strings, in evaluation mode.

        Returns:
            Lists over modules, lowest first: accuracy and effective_codes, see `scores`;
            prediction_loss_nats (of a target token) and clustering_loss; and loss, the sum of all
            that is minimised. The losses need no labels.
        """
        self.student.eval()
        chunks = self._tensor(self.validation[0]).split(EVALUATION_BATCH)
        codes, pairs = [], []
        for tokens_BN in chunks:
            outputs, losses_of_levels = self._losses(tokens_BN, None)
            codes.append(hard_codes(outputs))
            pairs.append(losses_of_levels)
        sizes = torch.tensor([len(tokens) for tokens in chunks])
        # Chunks, levels, (prediction, clustering): a mean over strings is left.
        losses = torch.tensor(pairs)
        prediction, clustering = torch.einsum("clk,c->kl", losses, sizes / sizes.sum())
        num_targets = self.settings.branching * (self.settings.branching - 1)
        return self._score(codes, self.validation) | {
            "prediction_loss_nats": (prediction / num_targets).tolist(),
            "clustering_loss": clustering.tolist(),
            "loss": float(prediction.sum() + self.settings.clustering_weight * clustering.sum()),
        }

    @torch.no_grad()
    def scores(self, strings: list[np.ndarray]) -> dict[str, list[float]]:
        """Of the student on strings whose latents are known.

        Returns:
            Lists over modules, lowest first: accuracy (Hungarian, of levels 1..L-1) and
            effective_codes.
        """
        self.student.eval()
        chunks = self._tensor(strings[0]).split(EVALUATION_BATCH)
        return self._score([hard_codes(self.student(tokens)) for tokens in chunks], strings)

    def _score(
        self, codes: Sequence[list[Tensor]], strings: list[np.ndarray]
    ) -> dict[str, list[float]]:
        hard = [torch.cat(level) for level in zip(*codes, strict=True)]
        num_codes, num_features = self.settings.num_codes, self.settings.num_features
        return {
            "accuracy": [
                hungarian_accuracy(
                    found.numpy(), latents, num_codes=num_codes, num_features=num_features
                )
                for found, latents in zip(hard, strings[1:-1], strict=True)
            ],
            "effective_codes": [effective_codes(found) for found in hard],
        }

    def best_epoch(self) -> int:
        """The epoch that `selection` picks, counted from 1; the first of equals."""
        if self.settings.selection == "accuracy":
            return max(self.metrics, key=lambda line: line["accuracy"][-1])["epoch"]
        return min(self.metrics, key=lambda line: line["loss"])["epoch"]

    def state(self) -> dict[str, Any]:
        """All that the next epoch depends on, beside the metrics."""
        return {
            "student": self.student.state_dict(),
            "teacher": self.teacher.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "best": self.best_state,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Take up a stored state."""
        self.student.load_state_dict(state["student"])
        self.teacher.load_state_dict(state["teacher"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.best_state = state["best"]
        self.metrics = state["metrics"]

    def result(self) -> dict[str, Any]:
        """Test scores of the best epoch, with root probes on its frozen codes.

        Returns:
            best_epoch; validation, that epoch's line of metrics; test, see `scores`; root_accuracy
            of a linear and an MLP probe on test strings (chance 1/v).
        """
        self.student.load_state_dict(self.best_state)
        return {
            "best_epoch": self.best_epoch(),
            "validation": self.metrics[self.best_epoch() - 1],
            "test": self.scores(self.test),
            "root_accuracy": {kind: self._root_accuracy(kind) for kind in ("linear", "mlp")},
            "chance": 1 / self.settings.num_features,
            "num_parameters": sum(x.numel() for x in self.student.parameters()),
            "device": str(self.device),
        }

    def _root_accuracy(self, kind: ProbeKind) -> float:
        steps_per_epoch = -(-self.settings.num_strings // self.settings.batch_size)
        options = ProbeOptions(
            kind=kind,
            steps=self.settings.epochs * steps_per_epoch,
            batch_size=self.settings.batch_size,
            num_checks=min(10, self.settings.epochs),
            standardize=False,
        )
        probe = fit_probe(
            self._top(self.training), self._top(self.validation),
            num_classes=self.settings.num_features, options=options, seed=self.settings.seed,
        )  # fmt: skip
        return accuracy(probe, *self._top(self.test))

    @torch.no_grad()
    def _top(self, strings: list[np.ndarray]) -> tuple[Tensor, Tensor]:
        """The highest codes (P, s D), and root labels."""
        self.student.eval()
        chunks = self._tensor(strings[0]).split(EVALUATION_BATCH)
        top = torch.cat([self.student(tokens_BN)[-1].codes_BUD.flatten(1) for tokens_BN in chunks])
        return top, self._tensor(strings[-1][:, 0])

    def _tensor(self, numbers: np.ndarray) -> Tensor:
        return torch.from_numpy(numbers.astype(np.int64)).to(self.device)
