"""The inference cone: a checkpoint continues prompts, and its states leave the right answer's.

Shape letters: N prompts, L longest continuation, D hidden size, P positions.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from semtube.data.rendering import Rendered
from semtube.errors import UserError
from semtube.evaluation.batching import token_batches
from semtube.evaluation.decoding import Decoded, decode_greedily
from semtube.evaluation.padding import pad_right
from semtube.evaluation.sampling import sample_answers
from semtube.geometry.cell_margin import cell_margin
from semtube.geometry.collisions import (
    NEAR,
    near_collision_share,
    near_collisions,
    prefix_keys,
)
from semtube.geometry.cone import (
    ConeStep,
    NoCone,
    Since,
    cone_curve,
    first_differences,
    fit_cone,
    relative_distances,
    state_distances,
    unrelated_distance,
)
from semtube.geometry.draws import generator_of
from semtube.geometry.measured import Measured
from semtube.models.head import Head
from semtube.models.layer_states import LAST
from semtube.study.checkpoint_probe import CheckpointProbe, forward_states
from semtube.study.probe_table import Row

#: A continuation is cut at so many times the longest right answer.
LONGEST = 2
SINCE: tuple[Since, ...] = ("prompt", "divergence")
RIGHT = "right answers"


@dataclass(frozen=True)
class ConeCurve:
    """Distance by step, for a picture.

    Args:
        kind: greedy or sampled.
    """

    checkpoint: str
    layer: str
    kind: str
    since: str
    steps: list[ConeStep]


class ConeProbe:
    """Continues prompts greedily and by sampling (temperature 1), and compares states.

    All states are those of the last probed layer, from one forward pass over prompt and
    continuation, as for the right answer: what the model had while it wrote, up to rounding.

    Args:
        probe: of the checkpoint; its first `cone_prompts` rows that ask are used.
        stop_ids: tokens at which an answer ends.
    """

    def __init__(self, probe: CheckpointProbe, stop_ids: frozenset[int]) -> None:
        self.probe = probe
        self.stop_ids = stop_ids
        self.layer = probe.layers[-1]
        asked = [row for row in probe.rows if row.num_prompt_tokens and row.answer]
        self.rows = asked[: probe.options.cone_prompts]
        #: For every kind of continuation and origin of steps, the fit, or why there is none.
        self.fits: list[dict[str, Any]] = []

    def measure(self, reasons: dict[str, str]) -> tuple[list[Row], list[ConeCurve]]:
        """Distances, exponents, near collisions and margins, and the curves of distance by step.

        Args:
            reasons: measure -> why it has no value, filled in.
        """
        if len(self.rows) < 2:
            reasons["cone"] = "fewer than two rows have a prompt and an answer"
            return [], []
        gold = [self._gold(row) for row in self.rows]
        gold_NLD, before_ND = self._states(gold)
        rows: list[Row] = []
        curves: list[ConeCurve] = []
        try:
            rows += self._margins(gold, gold_NLD, before_ND)
        except UserError as error:
            reasons["cell_margin"] = str(error)
        nearest = self._nearest(gold, gold_NLD)
        rows += self._of_rows("nearest_other_gold", nearest)
        for kind, decoded in self._continued(gold):
            texts = [self._with_stop(*both) for both in zip(decoded, gold, strict=True)]
            states_NLD, _ = self._states(texts)
            rows += self._collisions(kind, self._nearest(texts, states_NLD), nearest, reasons)
            more_rows, more_curves = self._cone(kind, texts, states_NLD, gold, gold_NLD)
            rows, curves = [*rows, *more_rows], [*curves, *more_curves]
        return rows, curves

    def _continued(self, gold: Sequence[list[int]]) -> Iterator[tuple[str, list[Decoded]]]:
        prompts = [row.input_ids[: row.num_prompt_tokens] for row in self.rows]
        model, options = self.probe.model, self.probe.options
        shared: dict[str, Any] = {
            "stop_ids": self.stop_ids,
            "pad_id": self.probe.pad_id,
            "max_new_tokens": LONGEST * max(map(len, gold)),
            "batch_tokens": options.batch_tokens,
        }
        yield "greedy", decode_greedily(model, prompts, **shared)
        seed = options.seed
        yield "sampled", sample_answers(model, prompts, temperature=1.0, seed=seed, **shared)

    def _gold(self, row: Rendered) -> list[int]:
        """The right answer's tokens with the first stop token behind them, if there is one."""
        tokens = row.input_ids[row.num_prompt_tokens :]
        stops = [place for place, token in enumerate(tokens) if token in self.stop_ids]
        return tokens[: stops[0] + 1] if stops else tokens

    def _with_stop(self, text: Decoded, gold: list[int]) -> list[int]:
        """The tokens and the stop token, so that to stop early is to differ: all stops are one."""
        stop = gold[-1] if gold[-1] in self.stop_ids else min(self.stop_ids)
        return [*text.token_ids, stop] if text.stopped else text.token_ids

    def _states(self, texts: Sequence[list[int]]) -> tuple[Tensor, Tensor]:
        """(N, L, D) states of the tokens behind each prompt, and (N, D) of the prompt's last."""
        whole = [
            [*row.input_ids[: row.num_prompt_tokens], *text]
            for row, text in zip(self.rows, texts, strict=True)
        ]
        found: dict[int, Tensor] = {}
        for chosen in token_batches(
            [len(ids) for ids in whole], batch_tokens=self.probe.options.batch_tokens
        ):
            ids_BT, mask_BT = pad_right(
                [whole[i] for i in chosen], self.probe.pad_id, self.probe.device
            )
            inputs = {"input_ids": ids_BT, "attention_mask": mask_BT}
            hidden_BTD = forward_states(self.probe.model, [self.layer], inputs)[self.layer]
            for b, i in enumerate(chosen):
                first = self.rows[i].num_prompt_tokens - 1
                found[i] = hidden_BTD[b, first : len(whole[i])].cpu().clone()
        ordered = [found[i] for i in range(len(whole))]
        states_NLD = pad_sequence([states[1:] for states in ordered], batch_first=True)
        return states_NLD, torch.stack([states[0] for states in ordered])

    def _nearest(self, texts: Sequence[list[int]], states_NLD: Tensor) -> Measured:
        keys = []
        for row, text in zip(self.rows, texts, strict=True):
            ids = torch.tensor([*row.input_ids[: row.num_prompt_tokens], *text])
            keys.append(prefix_keys(ids)[row.num_prompt_tokens :])
        return near_collisions(states_NLD, _sizes(texts), pad_sequence(keys, batch_first=True))

    def _collisions(
        self, kind: str, nearest: Measured, gold: Measured, reasons: dict[str, str]
    ) -> Iterator[Row]:
        measure = f"nearest_other_{kind}"
        yield from self._of_rows(measure, nearest)
        if bool(gold.defined.any()):
            yield self._row(measure, float(gold.mean().value), RIGHT)
        measure = f"near_collision_share_{kind}"
        share = near_collision_share(nearest, gold)
        if bool(share.defined):
            yield self._row(measure, float(share.value))
            yield self._row(measure, NEAR, RIGHT)
        else:
            reasons[measure] = f"{len(self.rows)} prompts are too few; raise --cone_prompts"

    def _cone(
        self,
        kind: str,
        texts: Sequence[list[int]],
        states_NLD: Tensor,
        gold: Sequence[list[int]],
        gold_NLD: Tensor,
    ) -> tuple[list[Row], list[ConeCurve]]:
        length = min(states_NLD.shape[1], gold_NLD.shape[1])
        size_N = torch.minimum(_sizes(texts), _sizes(gold))
        inside_NL = torch.arange(gold_NLD.shape[1]) < _sizes(gold)[:, None]
        unrelated = unrelated_distance(gold_NLD[inside_NL])
        diverged_N = first_differences(texts, gold)
        rows: list[Row] = []
        curves = []
        for since in SINCE:
            distances = state_distances(
                states_NLD[:, :length], gold_NLD[:, :length], size_N, diverged_N, since=since
            )
            relative = relative_distances(distances, unrelated)
            rows += self._of_rows(f"cone_distance_{kind}_since_{since}", relative)
            told = {"checkpoint": self.probe.name, "layer": self.layer, "kind": kind,
                    "since": since, "num_left": int((diverged_N < size_N).sum())}  # fmt: skip
            for steps, limit in (("all", None), ("unsaturated", 1.0)):
                fit = fit_cone(relative, unrelated=limit, seed=self.probe.options.seed)
                self.fits.append(told | {"steps": steps} | asdict(fit))
                if steps == "all" and not isinstance(fit, NoCone):
                    measure = f"cone_exponent_{kind}_since_{since}"
                    rows.append(self._row(measure, fit.exponent))
                    rows.append(self._row(measure, 0.5, "Brownian"))
                    rows.append(self._row(measure, 0.0, "saturated"))
            curve = cone_curve(relative)
            curves.append(ConeCurve(self.probe.name, self.layer, kind, since, curve))
        return rows, curves

    def _margins(
        self, gold: Sequence[list[int]], gold_NLD: Tensor, before_ND: Tensor
    ) -> Iterator[Row]:
        """Mean margin of a right answer's tokens in their own cells, and in those of others.

        Raises:
            UserError: the states are not those that the head reads, or there is no plain head.
        """
        if self.layer != LAST:
            raise UserError(f"the head does not read layer {self.layer}")
        head = Head(self.probe.model)
        predicting_NLD = torch.cat([before_ND[:, None], gold_NLD[:, :-1]], 1)
        inside_NL = torch.arange(predicting_NLD.shape[1]) < _sizes(gold)[:, None]
        token_P = torch.tensor([token for text in gold for token in text])
        place_P = torch.randperm(
            len(token_P), generator=generator_of(self.probe.options.seed, "other tokens")
        )
        for tokens, null in ((token_P, ""), (token_P[place_P], "other tokens")):
            margins = cell_margin(
                predicting_NLD[inside_NL].to(self.probe.device),
                head.weight_VD,
                head.bias_V,
                tokens.to(self.probe.device),
            )
            if null:
                yield self._row("cell_margin", float(margins.mean().value), null)
                continue
            sizes = [len(text) for text in gold]
            value_NL = pad_sequence(list(margins.value.split(sizes)), batch_first=True)
            defined_NL = pad_sequence(list(margins.defined.split(sizes)), batch_first=True)
            mean = Measured.ratio(value_NL.sum(1), defined_NL.sum(1))
            yield from self._of_rows("cell_margin", mean)

    def _of_rows(self, measure: str, found: Measured) -> Iterator[Row]:
        """(N,) or (N, steps) as rows of the table."""
        number = len(self.rows)
        values, defined = found.value.reshape(number, -1), found.defined.reshape(number, -1)
        has_steps = found.value.dim() > 1
        for n, k in defined.nonzero().tolist():
            length = k + 1 if has_steps else None
            source = self.rows[n].source
            yield Row(self.probe.name, self.layer, source, measure, float(values[n, k]), length)

    def _row(self, measure: str, value: float, null: str = "") -> Row:
        return Row(self.probe.name, self.layer, "", measure, value, null=null)


def _sizes(texts: Sequence[list[int]]) -> Tensor:
    return torch.tensor([len(text) for text in texts])
