"""What a run of Stacked Latent Clustering is. Needs no torch."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from typing import Literal

from semtube.errors import UserError
from semtube.rhm.network_settings import NetworkSettings, check_range


@dataclass(frozen=True)
class Arm:
    """Where gradients stop.

    Args:
        has_teacher: targets and similarities from a slow teacher; else from the student itself.
        stop_between_modules: no gradient from a module into the one below.
        stop_before_clusterer: none from the clusterer into the predictor.
    """

    has_teacher: bool
    stop_between_modules: bool
    stop_before_clusterer: bool


#: Source: arXiv 2605.27734, appendix on local learning, arms (a) to (d).
#: Without a teacher the similarities are the student's and let gradients through, unless the
#: clusterer is cut off: that is how we read "the clustering loss flows into the predictor".
ARMS = {
    "ema": Arm(True, False, False),
    "ema_local": Arm(True, True, False),
    "local": Arm(False, True, False),
    "local_cut": Arm(False, True, True),
}


@dataclass(frozen=True, kw_only=True)
class SLCSettings(NetworkSettings):
    """One run of Stacked Latent Clustering.

    Args:
        num_strings: P, training strings.
        target: what a module predicts of its cousins: their own `latent` codes, as the teacher
            sees them; or the visible `token` first below each (the control).
        arm: `ema`, a slow teacher and full gradients; `ema_local`, none between modules; `local`,
            the same without teacher; `local_cut`, none into the predictor either.
        aggregation: `upgrad` projects each loss's gradient so that no loss rises; or plain `sum`.
        clustering_weight: Factor of the clustering losses. 1: the paper's equations as they stand.
            s (s-1) D: as if a prediction loss were the mean over all its terms, not their sum;
            with that, and not with 1, the arm `local` fails as in the paper (at v = 16, m = 4,
            s = 2, L = 3).
        codebook_size: D, codes of a level; unset for v m, where synonyms could keep codes of
            their own.
        hidden_size: Hidden units of predictors and clusterers.
        epochs: Passes over the training strings; also of the probe.
        batch_size: Strings of a step.
        learning_rate: Of AdamW, constant.
        weight_decay: Decoupled weight decay.
        similarity_threshold: S_m; patches more alike than this are pulled together.
        separation_weight: lambda_sep.
        sparsity_weight: lambda_spars.
        num_compared: Patches of a batch that are compared at each level.
        teacher_rate: Weight of the student in the teacher's running mean.
        selection: What picks the best epoch on the validation strings: Hungarian `accuracy` of
            the highest level below the root (needs the true latents), or the summed `loss`.
        num_validation: Validation strings.
        num_test: Test strings.

    Raises:
        UserError: a value out of range; see `NetworkSettings`.

    Source: arXiv 2605.27734, appendix on Stacked Latent Clustering; defaults are its values. It
        does not say by what early stopping selects.
    """

    num_strings: int = 4096
    target: Literal["latent", "token"] = "latent"
    arm: Literal["ema", "ema_local", "local", "local_cut"] = "ema"
    aggregation: Literal["upgrad", "sum"] = "upgrad"
    clustering_weight: float = 1.0
    codebook_size: int | None = None
    hidden_size: int = 150
    epochs: int = 30
    batch_size: int = 32
    learning_rate: float = 3e-3
    weight_decay: float = 1e-3
    similarity_threshold: float = 0.8
    separation_weight: float = 0.5
    sparsity_weight: float = 1e-2
    num_compared: int = 300
    teacher_rate: float = 0.015
    selection: Literal["accuracy", "loss"] = "accuracy"
    num_validation: int = 2000
    num_test: int = 2000

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range("num_strings", self.num_strings, low=self.num_features)
        if self.codebook_size is not None:
            check_range("codebook_size", self.codebook_size, low=self.num_features)
        for name in ("hidden_size", "epochs", "batch_size", "num_validation", "num_test"):
            check_range(name, getattr(self, name), low=1)
        check_range("num_compared", self.num_compared, low=2)
        for name in ("learning_rate", "clustering_weight"):
            check_range(name, getattr(self, name), above=0)
        for name in ("weight_decay", "separation_weight", "sparsity_weight"):
            check_range(name, getattr(self, name), low=0)
        check_range("similarity_threshold", self.similarity_threshold, low=0, below=1)
        check_range("teacher_rate", self.teacher_rate, above=0, high=1)
        if self.aggregation == "upgrad":
            _check_torchjd()

    @property
    def num_strings_held(self) -> int:
        """Strings that a run draws whole, of all its parts."""
        return self.num_strings + self.num_validation + self.num_test

    @property
    def num_numbers(self) -> int:
        """Weights, states of the lowest level, pairs of patches, and the codes the probe reads."""
        predicted = self.branching**2 * (self.branching - 1) * self.num_codes
        weights = self.hidden_size * (
            (self.branching + 1) * self.num_codes + 2 * predicted + self.hidden_size
        )
        num_patches = self.batch_size * self.branching ** (self.depth - 1)
        states = num_patches * (self.branching * self.num_codes + 2 * predicted + self.hidden_size)
        pairs = min(self.num_compared, num_patches) ** 2
        codes = self.num_strings_held * self.branching * self.num_codes
        return 5 * (self.depth - 1) * weights + states + pairs + codes

    @property
    def num_codes(self) -> int:
        """D."""
        return self.codebook_size or self.num_features * self.num_synonyms


def _check_torchjd() -> None:
    for package in ("torchjd", "scipy"):
        if importlib.util.find_spec(package) is None:
            raise UserError(
                f"aggregation 'upgrad' needs the package {package}: pip install 'semtube[rhm]', "
                "or choose aggregation 'sum'"
            )
