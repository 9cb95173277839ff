"""A checkpoint's states as a set: spectra, views, concepts, capacity, stability, transport.

Shape letters: D hidden size, P sampled positions.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from semtube.errors import UserError
from semtube.geometry.capacity import Capacity, manifold_capacity
from semtube.geometry.draws import generator_of
from semtube.geometry.drift import drift, feature_stability
from semtube.geometry.transport import layer_transport
from semtube.models.head import Head
from semtube.models.layer_states import BEFORE_NORM, LAST, final_norm, num_layers_of
from semtube.study.checkpoint_probe import CheckpointProbe
from semtube.study.probe_table import Row

#: Classes of states (by the token that comes next), states of each, and repeats, for the capacity:
#: seconds a layer instead of minutes. Ours.
CLASSES, STATES_OF_A_CLASS, CAPACITY_REPEATS, CAPACITY_DRAWS = 20, 20, 2, 50
#: Splits and samples of the stability, for the same reason. Ours.
STABILITY_SPLITS, STABILITY_SAMPLES = 10, 400
#: Positions at which next-token distributions of neighbouring layers are compared. Ours.
TRANSPORT_POSITIONS = 256
#: A null of several measures.
GAUSSIAN = "Gaussian states"


@dataclass(frozen=True)
class Curve:
    """Numbers by index, for a picture.

    Args:
        name: `spectrum`, `views`, `views_normalised`.
        values: at index 1, 2, ...
    """

    checkpoint: str
    layer: str
    name: str
    values: list[float]


def cheap_sets(probe: CheckpointProbe, reasons: dict[str, str]) -> tuple[list[Row], list[Curve]]:
    """Spectra, the two views and concepts of every layer.

    Args:
        reasons: measure -> why it has no value, filled in.
    """
    rows, curves = [], []
    for layer, sums in probe.sums.items():
        found: dict[str, float | None] = {}
        spectrum = sums.spectrum.result()
        found["effective_rank"] = spectrum.effective_rank
        found["first_share"] = spectrum.first_share
        found["anisotropy"] = spectrum.anisotropy
        tail = spectrum.tail()
        # A slope of what is no power law would be read as one.
        found["spectral_tail"] = tail.slope if tail is not None and tail.is_power_law else None
        curves.append(Curve(probe.name, layer, "spectrum", spectrum.singular_values.tolist()))
        nulls: dict[tuple[str, str], float | None] = {}
        if probe.num_without_views < len(probe.rows):
            views = sums.views.result()
            found["views_residual_share"] = views.residual_share
            nulls["views_residual_share", "answers dealt out anew"] = views.null_share
            if views.residual_share is None:
                reasons["views_residual_share"] = (
                    f"{views.num_examples} rows are too few, or their answers' states are equal: a "
                    "linear map fits whatever it is given; raise --limit"
                )
            curves.append(Curve(probe.name, layer, "views", views.raw.tolist()))
            normalised = views.normalised.tolist()
            curves.append(Curve(probe.name, layer, "views_normalised", normalised))
        concepts = sums.concepts.result()
        if concepts.within:
            found["concept_within"] = sum(concepts.within.values()) / len(concepts.within)
            found["concept_across"] = concepts.across
            nulls["concept_within", "other phrases"] = concepts.across
            nulls["concept_across", "directions spread evenly"] = 0.0
        rows += [Row(probe.name, layer, "", m, v) for m, v in found.items() if v is not None]
        rows += [
            Row(probe.name, layer, "", measure, value, null=null)
            for (measure, null), value in nulls.items()
            if value is not None
        ]
    return rows, curves


def dear_sets(probe: CheckpointProbe, reasons: dict[str, str]) -> Iterator[Row]:
    """Capacity, stability and transport, at the sampled positions.

    Args:
        reasons: measure -> why it has no value, filled in.
    """
    classes = _classes(probe)
    for layer, sums in probe.sums.items():
        states_PD = sums.sampled()
        if len(classes) < 2:
            reasons["capacity"] = "fewer than two tokens come next twice"
        else:
            try:
                yield from _capacities(probe, layer, states_PD, classes)
            except ArithmeticError as error:
                reasons["capacity"] = f"layer {layer}: {error}"
        if len(states_PD) < 3:
            reasons["feature_stability"] = "fewer than three states"
        else:
            value = stability(states_PD, probe.options.seed)
            yield Row(probe.name, layer, "", "feature_stability", value)
    try:
        yield from _transports(probe, reasons)
    except UserError as error:
        reasons["transport"] = str(error)


def stability(states_PD: Tensor, seed: int) -> float:
    """`feature_stability` at the sizes of a probe."""
    return feature_stability(
        states_PD, splits=STABILITY_SPLITS, max_samples=STABILITY_SAMPLES, seed=seed
    ).rotated


def _capacities(
    probe: CheckpointProbe, layer: str, states_PD: Tensor, classes: list[list[int]]
) -> Iterator[Row]:
    """Of the classes, and of the same states in classes of the same sizes, dealt out anew."""
    places = torch.tensor([place for group in classes for place in group])
    generator = generator_of(probe.options.seed, "shuffled classes")
    shuffled = places[torch.randperm(len(places), generator=generator)]
    sizes = [len(group) for group in classes]
    for order, null in ((places, ""), (shuffled, "classes dealt out anew")):
        found: Capacity = manifold_capacity(
            [states_PD[group] for group in order.split(sizes)],
            draws=CAPACITY_DRAWS,
            per_manifold=STATES_OF_A_CLASS,
            repeats=CAPACITY_REPEATS,
            seed=probe.options.seed,
        )
        for measure, value in (
            ("capacity", found.capacity),
            ("capacity_dimension", found.dimension),
            ("capacity_radius", found.radius),
            ("capacity_utility", found.utility),
        ):
            yield Row(probe.name, layer, "", measure, value, null=null)


def _classes(probe: CheckpointProbe) -> list[list[int]]:
    """Sampled positions by the token that comes next, the most frequent ones."""
    places: dict[int, list[int]] = defaultdict(list)
    for place, (row, token) in enumerate(probe.positions):
        places[probe.rows[row].input_ids[token + 1]].append(place)
    often = sorted(places.values(), key=len, reverse=True)
    return [group for group in often[:CLASSES] if len(group) > 1]


@torch.no_grad()
def _transports(probe: CheckpointProbe, reasons: dict[str, str]) -> Iterator[Row]:
    """To each probed layer from the one before it, both read through the last norm and the head.

    Beside it the distance of a layer's distributions at two positions that are not one.

    Raises:
        UserError: the model has no such norm or head.
    """
    depth = num_layers_of(probe.model)
    norm, head = final_norm(probe.model), Head(probe.model)
    #: Depth -> the layer's name and its states as the head takes them.
    read: dict[int, tuple[str, Tensor]] = {}
    for layer in probe.layers:
        states_PD = probe.sums[layer].sampled()[:TRANSPORT_POSITIONS].to(probe.device)
        is_deepest = layer in (BEFORE_NORM, LAST)
        normed_PD = states_PD if layer == LAST else norm(states_PD)
        if is_deepest and depth in read:  # the same distribution twice
            _check_norm(read[depth][1], normed_PD)
        read[depth if is_deepest else int(layer)] = (layer, normed_PD)
    alone = [name for place, (name, _) in read.items() if place > 1 and place - 1 not in read]
    if alone:
        reasons["transport"] = f"to {', '.join(alone)}: the layer before is not probed"
    for place, (layer, states_PD) in read.items():
        if place - 1 not in read:
            continue
        # A shift by one makes a pair of every position with another one.
        for before_PD, null in (
            (read[place - 1][1], ""),
            (states_PD.roll(1, 0), "other positions"),
        ):
            angle_P = layer_transport(
                before_PD, states_PD, head.weight_VD, head.bias_V, on_logits=head.capped
            )
            yield Row(probe.name, layer, "", "transport", float(angle_P.mean()), null=null)


def _check_norm(normed_PD: Tensor, last_PD: Tensor) -> None:
    if (normed_PD - last_PD).abs().max() > 1e-3 * last_PD.abs().max():
        raise UserError(
            "the norm found is not what lies between the last layer and the head: transport "
            "between layers cannot be measured"
        )


def drifts(first: CheckpointProbe, second: CheckpointProbe, reasons: dict[str, str]) -> list[Row]:
    """How far each layer's distances have moved from one checkpoint to another."""
    if not first.has_tokens_of(second):
        reasons["drift"] = f"{second.name} has other tokens than {first.name}"
        return []
    if len(first.positions) < 3:
        reasons["drift"] = "fewer than three states"
        return []
    rows = []
    for layer in first.layers:
        if layer in second.sums:
            value = drift(first.sums[layer].sampled(), second.sums[layer].sampled())
            rows.append(Row(second.name, layer, "", "drift", value))
            rows.append(Row(second.name, layer, "", "drift", 1.0, null="nothing in common"))
    return rows
