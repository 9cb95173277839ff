"""Loss and tube loss on held-out rows, measured alike whatever a model was trained with.

Shape letters: B rows, T tokens, D hidden size, N documents.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from semtube.data.rendering import Rendered
from semtube.data.tokens import ROW_KEY, Collator
from semtube.evaluation.decoding import evaluating
from semtube.models.decoder import find_decoder
from semtube.models.host_batch import HostBatch
from semtube.objectives.trajectories import ROLES_KEY
from semtube.objectives.tube import SemanticTube

#: The paper's form with enough triplets that drawing them adds little noise.
PROBE = SemanticTube(weight=0.0, draws=16)


def held_out_losses(
    model: Any, rows: Sequence[Rendered], *, pad_id: int, batch_size: int = 32
) -> dict[str, dict[str, float | None]]:
    """Next-token loss and tube loss of the rows, without touching the model.

    Returns:
        `loss`: mean over supervised tokens, in nats, with an interval over rows (a ratio's:
        1.96 standard errors by the delta method); `tube_loss`: mean over rows of 16 triplets each
        of the last states, paper's form, 0 to 2, with 1.96 standard errors.
    """
    collate = Collator(pad_id, with_roles=True)
    device = next(model.parameters()).device
    rows = sorted(rows, key=lambda row: len(row.input_ids))
    sums, counts, tubes = [], [], []
    states: list[Tensor] = []
    hook = find_decoder(model).register_forward_hook(
        lambda module, args, output: states.append(output.last_hidden_state)
    )
    try:
        with evaluating(model), torch.no_grad():
            for start in range(0, len(rows), batch_size):
                batch = collate(list(enumerate(rows[start : start + batch_size])))
                batch = {name: value.to(device) for name, value in batch.items()}
                del batch[ROW_KEY]
                roles = batch.pop(ROLES_KEY)
                labels = batch.pop("labels")
                logits = model(**batch, use_cache=False).logits
                hidden_BTD = states.pop()
                loss_BT = torch.nn.functional.cross_entropy(
                    logits[:, :-1].float().transpose(1, 2), labels[:, 1:], reduction="none"
                )
                sums.append(loss_BT.sum(1))
                counts.append((labels[:, 1:] != -100).sum(1))
                host = HostBatch.read((), batch, roles)
                term = PROBE(hidden_BTD, host.trajectories(hidden_BTD, PROBE.content), key=0)
                tubes.append(term.mean_N[term.count_N > 0])
    finally:
        hook.remove()
    total_N, count_N = torch.cat(sums).double(), torch.cat(counts).double()
    loss = total_N.sum() / count_N.sum()
    # Residuals of a ratio estimate: how far each row is from the loss its tokens would give.
    residual_N = (total_N - loss * count_N) / count_N.mean()
    tube_N = torch.cat(tubes).double()
    return {
        "loss": _with_interval(loss, residual_N),
        "tube_loss": _with_interval(tube_N.mean(), tube_N),
    }


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
