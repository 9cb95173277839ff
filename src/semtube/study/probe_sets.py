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
from semtube.geometry.drift import Stability, drift, feature_stability
from semtube.geometry.measures import TRANSPORT_QUANTILES
from semtube.geometry.spectra import Spectrum
from semtube.geometry.transport import layer_transport
from semtube.geometry.two_views import EXAMPLES_PER_DIMENSION, ViewsFit
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
#: Nulls of several measures.
GAUSSIAN, DEALT_OUT = "Gaussian states", "answers dealt out anew"


@dataclass(frozen=True)
class Curve:
    """Numbers by index, for a picture.

    Args:
        name: `spectrum`, `views`, `views_normalised`.
        values: at index 1, 2, ...
        null: empty for what was measured; else the null whose curve this is.
    """

    checkpoint: str
    layer: str
    name: str
    values: list[float]
    null: str = ""


def cheap_sets(probe: CheckpointProbe, reasons: dict[str, str]) -> tuple[list[Row], list[Curve]]:
    """Spectra, the two views and concepts of every layer.

    Args:
        reasons: measure -> why it has no value, filled in.
    """
    rows, curves = [], []
    for layer, sums in probe.sums.items():
        #: Measure, null (empty for what was measured) -> value.
        found: dict[tuple[str, str], float | None] = {}
        spectrum = sums.spectrum.result()
        found |= _of_spectrum(spectrum, layer, reasons)
        curves.append(Curve(probe.name, layer, "spectrum", spectrum.singular_values.tolist()))
        if probe.num_without_views < len(probe.rows):
            views = sums.views.result()
            found |= _of_views(views, reasons)
            curves.append(Curve(probe.name, layer, "views", views.raw.tolist()))
            null = views.null_raw.tolist()
            curves.append(Curve(probe.name, layer, "views", null, DEALT_OUT))
            normalised = views.normalised.tolist()
            curves.append(Curve(probe.name, layer, "views_normalised", normalised))
        concepts = sums.concepts.result()
        if concepts.within and spectrum.is_one_point:
            _tell(reasons, "concepts", layer, "the states are equal but for rounding")
        elif concepts.within:
            found["concept_within", ""] = sum(concepts.within.values()) / len(concepts.within)
            found["concept_across", ""] = concepts.across
            found["concept_within", "other phrases"] = concepts.across
            found["concept_across", "directions spread evenly"] = 0.0
        rows += [
            Row(probe.name, layer, "", measure, value, null=null)
            for (measure, null), value in found.items()
            if value is not None
        ]
    return rows, curves


def _of_spectrum(
    spectrum: Spectrum, layer: str, reasons: dict[str, str]
) -> dict[tuple[str, str], float | None]:
    tail = spectrum.tail()
    if tail is None:
        why = "the states are equal but for rounding" if spectrum.is_one_point else "too few states"
        _tell(reasons, "spectral_tail", layer, why)
    elif not tail.is_power_law:
        _tell(reasons, "spectral_tail", layer, f"no power law (R^2 {tail.r_squared:.3f})")
    return {
        ("effective_rank", ""): spectrum.effective_rank,
        ("first_share", ""): spectrum.first_share,
        ("anisotropy", ""): spectrum.anisotropy,
        # A slope of what is no power law would be read as one.
        ("spectral_tail", ""): tail.slope if tail is not None and tail.is_power_law else None,
        ("spectral_tail_r_squared", ""): None if tail is None else tail.r_squared,
    }


def _of_views(views: ViewsFit, reasons: dict[str, str]) -> dict[tuple[str, str], float | None]:
    found: dict[tuple[str, str], float | None] = {
        ("views_mean_singular_value", ""): float(views.raw.mean()),
        ("views_mean_singular_value", DEALT_OUT): float(views.null_raw.mean()),
        ("views_residual", ""): views.residual,
        ("views_residual", DEALT_OUT): views.null_residual,
    }
    wanted = EXAMPLES_PER_DIMENSION * views.width
    if views.is_sparse:
        reasons["views_residual_share"] = (
            f"of {views.num_examples} rows in {views.width} dimensions a linear map leaves little "
            f"or nothing, whatever they are; raise --limit to {wanted} or more"
        )
    elif views.residual_share is None:
        reasons["views_residual_share"] = "the states of a view are equal but for rounding"
    else:
        found["views_residual_share", ""] = views.residual_share
        found["views_residual_share", DEALT_OUT] = views.null_share
    return found


def _tell(reasons: dict[str, str], measure: str, layer: str, why: str) -> None:
    told, why = reasons.get(measure, ""), f": {why}"
    if told.endswith(why):
        reasons[measure] = f"{told.removesuffix(why)}, {layer}{why}"
    else:
        reasons[measure] = f"{told}{'; ' * bool(told)}layer {layer}{why}"


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
                _tell(reasons, "capacity", layer, str(error))
        if len(states_PD) < 3:
            reasons["feature_stability"] = "fewer than three states"
        else:
            yield from _stabilities(probe, layer, states_PD, reasons)
    try:
        yield from _transports(probe, reasons)
    except UserError as error:
        reasons["transport"] = str(error)


def stability(states_PD: Tensor, seed: int) -> Stability:
    """`feature_stability` at the sizes of a probe."""
    return feature_stability(
        states_PD, splits=STABILITY_SPLITS, max_samples=STABILITY_SAMPLES, seed=seed
    )


def _stabilities(
    probe: CheckpointProbe, layer: str, states_PD: Tensor, reasons: dict[str, str]
) -> Iterator[Row]:
    try:
        found = stability(states_PD, probe.options.seed)
    except ArithmeticError as error:
        _tell(reasons, "feature_stability", layer, str(error))
        return
    yield Row(probe.name, layer, "", "feature_stability", found.rotated)
    yield Row(probe.name, layer, "", "feature_stability_raw", found.raw)


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
    places, other, is_other = _transport_places(probe)
    depth = num_layers_of(probe.model)
    norm, head = final_norm(probe.model), Head(probe.model)
    #: Depth -> the layer's name and its states as the head takes them.
    read: dict[int, tuple[str, Tensor]] = {}
    for layer in probe.layers:
        states_PD = probe.sums[layer].sampled()[places].to(probe.device)
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
        before_PD = read[place - 1][1]
        pairs = [("", before_PD, states_PD)]
        if is_other.any():
            pairs.append(("other positions", states_PD[other][is_other], states_PD[is_other]))
        for null, first_PD, second_PD in pairs:
            angle_P = layer_transport(
                first_PD, second_PD, head.weight_VD, head.bias_V, on_logits=head.capped
            )
            yield Row(probe.name, layer, "", "transport", float(angle_P.mean()), null=null)
            for name, share in TRANSPORT_QUANTILES:
                value = float(angle_P.quantile(share))
                yield Row(probe.name, layer, "", f"transport_{name}", value, null=null)


def _transport_places(probe: CheckpointProbe) -> tuple[Tensor, Tensor, Tensor]:
    """(P,) places of the sample drawn at random; of each, another one, and whether of another row.

    In the order of rows, half of the places on: of another row, unless one has most of them.
    """
    generator = generator_of(probe.options.seed, "transport")
    order = torch.randperm(len(probe.positions), generator=generator)
    places = order[:TRANSPORT_POSITIONS].sort().values
    other = torch.arange(len(places)).roll(len(places) // 2)
    row_P = torch.tensor([probe.positions[place][0] for place in places.tolist()])
    return places, other, row_P[other] != row_P


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
        if layer not in second.sums:
            _tell(reasons, "drift", layer, f"{second.name} has no such layer")
        else:
            try:
                value = drift(first.sums[layer].sampled(), second.sums[layer].sampled())
            except ArithmeticError as error:
                _tell(reasons, "drift", layer, str(error))
                continue
            rows.append(Row(second.name, layer, "", "drift", value))
            rows.append(Row(second.name, layer, "", "drift", 1.0, null="nothing in common"))
    return rows
