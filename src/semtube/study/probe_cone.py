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
    ConeFit,
    ConeStep,
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
from semtube.geometry.paths import check_ends
from semtube.models.head import Head
from semtube.models.layer_states import LAST
from semtube.study.checkpoint_probe import CheckpointProbe, forward_states
from semtube.study.probe_exponents import nulls_of_exponent
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

    All states are those of the last two probed layers (distances are bounded behind the last norm,
    and before it they are not), from one forward pass over prompt and continuation, as for the
    right answer: what the model had while it wrote, up to rounding.

    Args:
        probe: of the checkpoint; its first `cone_prompts` rows that ask are used.
        stop_ids: tokens at which an answer ends.
    """

    def __init__(self, probe: CheckpointProbe, stop_ids: frozenset[int]) -> None:
        self.probe = probe
        self.stop_ids = stop_ids
        self.layers = probe.layers[-2:]
        asked = [row for row in probe.rows if row.num_prompt_tokens and row.answer]
        self.rows = asked[: probe.options.cone_prompts]
        #: For every layer, kind of continuation and origin of steps, the fit, or why there is none.
        self.fits: list[dict[str, Any]] = []

    def measure(self, reasons: dict[str, str]) -> tuple[list[Row], list[ConeCurve]]:
        """Distances, exponents, near collisions and margins, and the curves of distance by step.

        Args:
            reasons: measure -> why it has no value, filled in.

        Raises:
            UserError: states that are not finite, naming layer, row and text.
        """
        if len(self.rows) < 2:
            reasons["cone"] = "fewer than two rows have a prompt and an answer"
            return [], []
        gold = [self._gold(row) for row in self.rows]
        gold_states = self._states(gold, "right")
        rows: list[Row] = []
        curves: list[ConeCurve] = []
        try:
            rows += self._margins(gold, *gold_states[self.layers[-1]])
        except UserError as error:
            reasons["cell_margin"] = str(error)
        inside_NL = _inside(gold)
        unrelated = {
            layer: unrelated_distance(states_NLD[inside_NL])
            for layer, (states_NLD, _) in gold_states.items()
        }
        if equal := [layer for layer in self.layers if not unrelated[layer]]:
            where = f"layer {', '.join(equal)}"
            reasons["cone"] = f"{where}: the states of the right answers are equal but for rounding"
        layers = [layer for layer in self.layers if layer not in equal]
        if not layers:
            return rows, curves
        nearest = {layer: self._nearest(gold, gold_states[layer][0]) for layer in layers}
        for layer in layers:
            rows += self._of_rows(layer, "nearest_other_gold", nearest[layer])
        for kind, decoded in self._continued(gold):
            texts = [self._with_stop(*both) for both in zip(decoded, gold, strict=True)]
            states = self._states(texts, kind)
            for layer in layers:
                states_NLD, gold_NLD = states[layer][0], gold_states[layer][0]
                near = self._nearest(texts, states_NLD)
                rows += self._collisions(layer, kind, near, nearest[layer], reasons)
                more_rows, more_curves = self._cone(
                    layer, kind, texts, states_NLD, gold, gold_NLD, unrelated[layer]
                )
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

    def _states(self, texts: Sequence[list[int]], kind: str) -> dict[str, tuple[Tensor, Tensor]]:
        """Layer -> (N, L, D) states of the tokens behind each prompt, (N, D) of its last.

        Raises:
            UserError: one that is not finite.
        """
        whole = [
            [*row.input_ids[: row.num_prompt_tokens], *text]
            for row, text in zip(self.rows, texts, strict=True)
        ]
        found: dict[str, dict[int, Tensor]] = {layer: {} for layer in self.layers}
        for chosen in token_batches(
            [len(ids) for ids in whole], batch_tokens=self.probe.options.batch_tokens
        ):
            ids_BT, mask_BT = pad_right(
                [whole[i] for i in chosen], self.probe.pad_id, self.probe.device
            )
            inputs = {"input_ids": ids_BT, "attention_mask": mask_BT}
            hidden = forward_states(self.probe.model, self.layers, inputs)
            for layer, hidden_BTD in hidden.items():
                for b, i in enumerate(chosen):
                    first = self.rows[i].num_prompt_tokens - 1
                    states_TD = hidden_BTD[b, first : len(whole[i])].cpu().clone()
                    # No token is named: masked attention, too, spreads NaN to those before.
                    ends = [f"a token of the {kind} text"]
                    check_ends(states_TD.reshape(1, -1), layer, [self.rows[i].source], ends)
                    found[layer][i] = states_TD
        ordered = {layer: [of[i] for i in range(len(whole))] for layer, of in found.items()}
        return {
            layer: (
                pad_sequence([states[1:] for states in every], batch_first=True),
                torch.stack([states[0] for states in every]),
            )
            for layer, every in ordered.items()
        }

    def _nearest(self, texts: Sequence[list[int]], states_NLD: Tensor) -> Measured:
        keys = []
        for row, text in zip(self.rows, texts, strict=True):
            ids = torch.tensor([*row.input_ids[: row.num_prompt_tokens], *text])
            keys.append(prefix_keys(ids)[row.num_prompt_tokens :])
        return near_collisions(states_NLD, _sizes(texts), pad_sequence(keys, batch_first=True))

    def _collisions(
        self, layer: str, kind: str, nearest: Measured, gold: Measured, reasons: dict[str, str]
    ) -> Iterator[Row]:
        measure = f"nearest_other_{kind}"
        yield from self._of_rows(layer, measure, nearest)
        if bool(gold.defined.any()):
            yield self._row(layer, measure, float(gold.mean().value), null=RIGHT)
        measure = f"near_collision_share_{kind}"
        share = near_collision_share(nearest, gold)
        if bool(share.defined):
            yield self._row(layer, measure, float(share.value))
            yield self._row(layer, measure, NEAR, null=RIGHT)
        else:
            reasons[measure] = f"{len(self.rows)} prompts are too few; raise --cone_prompts"

    def _cone(
        self,
        layer: str,
        kind: str,
        texts: Sequence[list[int]],
        states_NLD: Tensor,
        gold: Sequence[list[int]],
        gold_NLD: Tensor,
        unrelated: float,
    ) -> tuple[list[Row], list[ConeCurve]]:
        length = min(states_NLD.shape[1], gold_NLD.shape[1])
        size_N = torch.minimum(_sizes(texts), _sizes(gold))
        diverged_N = first_differences(texts, gold)
        rows: list[Row] = []
        curves = []
        for since in SINCE:
            distances = state_distances(
                states_NLD[:, :length], gold_NLD[:, :length], size_N, diverged_N, since=since
            )
            relative = relative_distances(distances, unrelated)
            measure = f"cone_distance_{kind}_since_{since}"
            rows += self._of_rows(layer, measure, relative)
            # Distances are in units of this one.
            rows.append(self._row(layer, measure, 1.0, null="unrelated states"))
            told = {"checkpoint": self.probe.name, "layer": layer, "kind": kind,
                    "since": since, "num_left": int((diverged_N < size_N).sum())}  # fmt: skip
            for steps, limit in (("all", None), ("unsaturated", 1.0)):
                fit = fit_cone(relative, unrelated=limit, seed=self.probe.options.seed)
                told_of_fit = told | {"steps": steps} | asdict(fit)
                if isinstance(fit, ConeFit):
                    nulls = nulls_of_exponent(relative, diverged_N, since, fit)
                    told_of_fit["nulls"] = nulls
                    if steps == "all":
                        measure = f"cone_exponent_{kind}_since_{since}"
                        between = {"low": fit.low, "high": fit.high}
                        rows.append(self._row(layer, measure, fit.exponent, **between))
                        rows += [self._row(layer, measure, v, null=n) for n, v in nulls.items()]
                self.fits.append(told_of_fit)
            curves.append(ConeCurve(self.probe.name, layer, kind, since, cone_curve(relative)))
        return rows, curves

    def _margins(
        self, gold: Sequence[list[int]], gold_NLD: Tensor, before_ND: Tensor
    ) -> Iterator[Row]:
        """Mean margin of a right answer's tokens in their own cells, and in those of others.

        Raises:
            UserError: the states are not those that the head reads, or there is no plain head.
        """
        layer = self.layers[-1]
        if layer != LAST:
            raise UserError(f"the head does not read layer {layer}")
        head = Head(self.probe.model)
        predicting_NLD = torch.cat([before_ND[:, None], gold_NLD[:, :-1]], 1)
        token_P = torch.tensor([token for text in gold for token in text])
        place_P = torch.randperm(
            len(token_P), generator=generator_of(self.probe.options.seed, "other tokens")
        )
        for tokens, null in ((token_P, ""), (token_P[place_P], "other tokens")):
            margins = cell_margin(
                predicting_NLD[_inside(gold)].to(self.probe.device),
                head.weight_VD,
                head.bias_V,
                tokens.to(self.probe.device),
            )
            if null:
                yield self._row(layer, "cell_margin", float(margins.mean().value), null=null)
                continue
            sizes = [len(text) for text in gold]
            value_NL = pad_sequence(list(margins.value.split(sizes)), batch_first=True)
            defined_NL = pad_sequence(list(margins.defined.split(sizes)), batch_first=True)
            mean = Measured.ratio(value_NL.sum(1), defined_NL.sum(1))
            yield from self._of_rows(layer, "cell_margin", mean)

    def _of_rows(self, layer: str, measure: str, found: Measured) -> Iterator[Row]:
        """(N,) or (N, steps) as rows of the table."""
        number = len(self.rows)
        values, defined = found.value.reshape(number, -1), found.defined.reshape(number, -1)
        has_steps = found.value.dim() > 1
        for n, k in defined.nonzero().tolist():
            length = k + 1 if has_steps else None
            source = self.rows[n].source
            yield Row(self.probe.name, layer, source, measure, float(values[n, k]), length)

    def _row(self, layer: str, measure: str, value: float, **rest: Any) -> Row:
        return Row(self.probe.name, layer, "", measure, value, **rest)


def _sizes(texts: Sequence[list[int]]) -> Tensor:
    return torch.tensor([len(text) for text in texts])


def _inside(texts: Sequence[list[int]]) -> Tensor:
    """(N, L) bool: which places of the padded texts are theirs."""
    size_N = _sizes(texts)
    return torch.arange(int(size_N.max())) < size_N[:, None]
