"""Loss, tube loss and stopping on held-out rows, alike whatever a model was trained with.

Shape letters: B rows, T tokens, D hidden size, N documents.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from semtube.config import BATCH_TOKENS
from semtube.data.rendering import IGNORED, Rendered
from semtube.data.tokens import ROW_KEY, Collator
from semtube.evaluation.batching import token_batches, tokens_with_logits
from semtube.evaluation.decoding import evaluating
from semtube.models.decoder import find_decoder
from semtube.models.host_batch import HostBatch
from semtube.objectives.trajectories import ANSWER, ROLES_KEY, TEMPLATE
from semtube.objectives.tube import SemanticTube

#: The paper's form with enough triplets that drawing them adds little noise.
PROBE = SemanticTube(weight=0.0, draws=16)


@dataclass(frozen=True)
class HeldOut:
    """What held-out rows tell.

    Args:
        metrics: `loss`, the mean over supervised tokens in nats, with an interval over rows (a
            ratio's: 1.96 standard errors by the delta method); `tube_loss`, the mean over rows of
            16 triplets each of the last states, paper's form, 0 to 2, with 1.96 standard errors.
        stop_log_probabilities: ln p(stop token | all before it) behind each row's last answer, in
            nats, in the order of the rows; None where no stop token stands there.
    """

    metrics: dict[str, dict[str, float | None]]
    stop_log_probabilities: list[float | None]


def held_out_losses(
    model: Any,
    rows: Sequence[Rendered],
    *,
    pad_id: int,
    batch_tokens: int = BATCH_TOKENS,
    batch_size: int | None = None,
) -> dict[str, dict[str, float | None]]:
    """Next-token loss and tube loss of the rows, see `HeldOut`, without touching the model."""
    return measure_held_out(
        model, rows, pad_id=pad_id, batch_tokens=batch_tokens, batch_size=batch_size
    ).metrics


def measure_held_out(
    model: Any,
    rows: Sequence[Rendered],
    *,
    pad_id: int,
    stop_ids: frozenset[int] = frozenset(),
    batch_tokens: int = BATCH_TOKENS,
    batch_size: int | None = None,
) -> HeldOut:
    """Losses of the rows and how surely the model would stop after the right answer.

    The model is not touched. Whether its stop token was trained does not matter.

    Args:
        stop_ids: tokens at which an answer ends.
        batch_tokens: tokens of a batch, padding included; fewer where their logits would outgrow
            half a gigabyte.
        batch_size: most rows in a batch.
    """
    batches = token_batches(
        [len(row.input_ids) for row in rows],
        batch_tokens=min(batch_tokens, tokens_with_logits(model)),
        batch_size=batch_size,
    )
    stops = [_stop_place(row, stop_ids) for row in rows]
    stop_log_probabilities: list[float | None] = [None] * len(rows)
    sums, counts, tubes = [], [], []
    with _last_states(model) as states, evaluating(model), torch.no_grad():
        for chosen in batches:
            batch, labels, roles = _collate([rows[i] for i in chosen], pad_id, model)
            logits_BTV = model(**batch, use_cache=False).logits.float()
            loss_BT = torch.nn.functional.cross_entropy(
                logits_BTV[:, :-1].transpose(1, 2), labels[:, 1:], reduction="none"
            )
            sums.append(loss_BT.sum(1))
            counts.append((labels[:, 1:] != IGNORED).sum(1))
            tubes.append(_tube_losses(states.pop(), batch, roles))
            for logits_TV, i in zip(logits_BTV, chosen, strict=True):
                if (place := stops[i]) is not None:
                    log_probability_V = logits_TV[place - 1].log_softmax(-1)
                    stop_log_probabilities[i] = float(log_probability_V[rows[i].input_ids[place]])
    total_N, count_N = torch.cat(sums).double(), torch.cat(counts).double()
    loss = total_N.sum() / count_N.sum()
    # Residuals of a ratio estimate: how far each row is from the loss its tokens would give.
    residual_N = (total_N - loss * count_N) / count_N.mean()
    tube_N = torch.cat(tubes).double()
    metrics = {
        "loss": _with_interval(loss, residual_N),
        "tube_loss": _with_interval(tube_N.mean(), tube_N),
    }
    return HeldOut(metrics, stop_log_probabilities)


@contextmanager
def _last_states(model: Any) -> Iterator[list[Tensor]]:
    """A list to which each forward pass adds the decoder's output (B, T, D)."""
    states: list[Tensor] = []
    hook = find_decoder(model).register_forward_hook(
        lambda module, args, output: states.append(output.last_hidden_state)
    )
    try:
        yield states
    finally:
        hook.remove()


def _collate(
    rows: Sequence[Rendered], pad_id: int, model: Any
) -> tuple[dict[str, Tensor], Tensor, Tensor]:
    """The model's inputs, labels and token roles, each (B, T), on its device."""
    device = next(model.parameters()).device
    batch = Collator(pad_id, with_roles=True)(list(enumerate(rows)))
    del batch[ROW_KEY]
    batch = {name: value.to(device) for name, value in batch.items()}
    return batch, batch.pop("labels"), batch.pop(ROLES_KEY)


def _tube_losses(hidden_BTD: Tensor, batch: dict[str, Tensor], roles_BT: Tensor) -> Tensor:
    """Tube loss of each row that has a triplet."""
    host = HostBatch.read((), batch, roles_BT)
    term = PROBE(hidden_BTD, host.trajectories(hidden_BTD, PROBE.content), key=0)
    return term.mean_N[term.count_N > 0]


def _stop_place(row: Rendered, stop_ids: frozenset[int]) -> int | None:
    """Index of the first stop token behind the last answer, before any other text."""
    if ANSWER not in row.roles:
        return None
    end = len(row.roles) - row.roles[::-1].index(ANSWER)
    for place in range(end, len(row.roles)):
        if row.roles[place] != TEMPLATE:
            return None
        if row.input_ids[place] in stop_ids:
            return place
    return None


def _with_interval(mean: Tensor, values_N: Tensor) -> dict[str, float | None]:
    """None for what cannot be said: a mean of nothing, an interval from one row."""
    count = values_N.numel()
    margin = 1.96 * values_N.std() / math.sqrt(count) if count > 1 else torch.tensor(math.nan)
    numbers = {"mean": mean, "low": mean - margin, "high": mean + margin}
    found = {name: float(number) for name, number in numbers.items()}
    return {
        **{name: value if math.isfinite(value) else None for name, value in found.items()},
        "num_examples": count,
    }
