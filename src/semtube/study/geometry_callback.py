"""Watch trajectories while a Trainer trains: the cheap measures, every so many steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import (
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)

from semtube.geometry.measured import Measured
from semtube.geometry.spectra import SpectrumOfStates
from semtube.models.decoder import unwrap
from semtube.models.layer_states import layer_names
from semtube.objectives.trajectories import CONTENT_ROLES
from semtube.study.checkpoint_probe import check_probed, measure_batch


class GeometryCallback(TrainerCallback):
    """Log the cheap measures of some held-out texts, for any `Trainer` or `SFTTrainer`.

        GeometryCallback(batches, every=100).add_to(trainer)

    Values stand in the Trainer's log as `geometry/LAYER/MEASURE`, means over documents: tube loss
    in both forms, turning angle, step length, curvature, chord over path, effective rank, share of
    the first direction, anisotropy. They are taken after the step that the log line is of. Training
    is not changed: no gradient, no random number, every module's mode as it was.

    Args:
        batches: what the model takes, such as {"input_ids": ..., "attention_mask": ...}; with
            `token_roles`, if the text is to be told from its template.
        every: steps between measurements; a log line is written at each.
        layers: numbers from 1 or, from the end, from -1, "before_norm" and "last".
        content: tokens of a trajectory, see `semtube.objectives.trajectories`.

    Raises:
        ValueError: no batch, one without input_ids (B, T) or with another tensor that is not (B, T)
            like it, every below 1, or no such content.
        UserError: when training begins: a layer that does not exist, weights that are not float32;
            while training: states that are not finite.
    """

    def __init__(
        self,
        batches: Sequence[Mapping[str, Tensor]],
        *,
        every: int = 100,
        layers: Sequence[int | str] = (-1,),
        content: str = "text",
    ) -> None:
        if not batches or every < 1:
            raise ValueError(
                f"wanted a batch and every at least 1, got {len(batches)} batches, every={every}"
            )
        if content not in CONTENT_ROLES:
            raise ValueError(f"content is {content!r}: wanted one of {', '.join(CONTENT_ROLES)}")
        for number, batch in enumerate(batches):
            _check_batch(number, batch)
        self.batches = batches
        self.every = every
        self.layers = [str(layer) for layer in layers]
        self.content = content
        self._names: list[str] = []
        self._values: dict[str, float] = {}

    def add_to(self, trainer: Trainer) -> None:
        """Become the trainer's first callback, so that its trackers see the values too."""
        trainer.callback_handler.callbacks.insert(0, self)

    def on_train_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        model: Any = None,
        **_: Any,
    ) -> None:
        model = unwrap(model)
        check_probed(model)
        self._names = layer_names(model, self.layers)

    def on_step_end(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        model: Any = None,
        **_: Any,
    ) -> None:
        if state.global_step % self.every == 0:
            self._values = self.measure(unwrap(model))
            control.should_log = True

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **_: Any,
    ) -> None:
        if logs is None or "loss" not in logs or not self._values:
            return
        logs.update(self._values)
        # The host has stored its own copy of the line already.
        state.log_history[-1].update(self._values)
        self._values = {}

    def measure(self, model: Any) -> dict[str, float]:
        """The measures now; one that no document has is left out."""
        names = self._names or layer_names(model, self.layers)
        spectra = {layer: SpectrumOfStates() for layer in names}
        found: dict[tuple[str, str], list[Measured]] = {}
        for number, batch in enumerate(self.batches):
            rows = next(iter(batch.values())).shape[0]
            sources = [f"{row} of batch {number}" for row in range(rows)]
            for layer in measure_batch(
                model, names, dict(batch), sources, content=self.content, dear=False
            ):
                spectra[layer.layer].add(layer.paths.rows())
                for measure, value in layer.measures.items():
                    found.setdefault((layer.layer, measure), []).append(value)
        values: dict[str, float | None] = {}
        for (layer_name, measure), parts in found.items():
            whole = Measured(
                torch.cat([part.value for part in parts]),
                torch.cat([part.defined for part in parts]),
            ).mean()
            values[f"{layer_name}/{measure}"] = float(whole.value) if whole.defined else None
        for layer_name, states in spectra.items():
            spectrum = states.result()
            values[f"{layer_name}/effective_rank"] = spectrum.effective_rank
            values[f"{layer_name}/first_share"] = spectrum.first_share
            values[f"{layer_name}/anisotropy"] = spectrum.anisotropy
        return {f"geometry/{name}": v for name, v in values.items() if v is not None}


def _check_batch(number: int, batch: Any) -> None:
    ids = batch.get("input_ids") if isinstance(batch, Mapping) else None
    if not isinstance(ids, Tensor) or ids.dim() != 2:
        raise ValueError(
            f"batch {number} of the geometry callback has no input_ids (B, T): give what a "
            "tokenizer gives with padding and return_tensors='pt'"
        )
    for name, value in batch.items():
        if not isinstance(value, Tensor) or value.shape != ids.shape:
            got = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
            raise ValueError(
                f"batch {number} of the geometry callback: {name} is {got}, wanted a tensor "
                f"{tuple(ids.shape)} like input_ids"
            )
