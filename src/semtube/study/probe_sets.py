"""A checkpoint's states as a set: spectra, views, concepts, capacity, stability, transport.

Shape letters: D hidden size, P sampled positions.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from semtube.errors import UserError
from semtube.geometry.capacity import manifold_capacity
from semtube.geometry.drift import drift, feature_stability
from semtube.geometry.spectra import SpectrumOfStates, gaussian_rows
from semtube.geometry.transport import layer_transport
from semtube.models.head import Head
from semtube.models.layer_states import BEFORE_NORM, final_norm, num_layers_of
from semtube.study.checkpoint_probe import CheckpointProbe
from semtube.study.probe_table import NULL, Row

#: Classes of states (by the token that comes next), states of each, and repeats, for the capacity:
#: seconds a layer instead of minutes. Ours.
CLASSES, STATES_OF_A_CLASS, CAPACITY_REPEATS, CAPACITY_DRAWS = 20, 20, 2, 50
#: Splits and samples of the stability, for the same reason. Ours.
STABILITY_SPLITS, STABILITY_SAMPLES = 10, 400
#: Positions at which next-token distributions of neighbouring layers are compared. Ours.
TRANSPORT_POSITIONS = 256
#: Rows and width up to which the Gaussian null of a spectrum is drawn at its own size.
MOST_NULL_ROWS = 20_000


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


def cheap_sets(probe: CheckpointProbe) -> tuple[list[Row], list[Curve]]:
    """Spectra, the two views and concepts of every layer."""
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
        if probe.num_without_views < len(probe.rows):
            views = sums.views.result()
            found["views_residual_share"] = views.residual_share
            curves.append(Curve(probe.name, layer, "views", views.raw.tolist()))
            normalised = views.normalised.tolist()
            curves.append(Curve(probe.name, layer, "views_normalised", normalised))
        concepts = sums.concepts.result()
        if concepts.within:
            found["concept_within"] = sum(concepts.within.values()) / len(concepts.within)
            found["concept_across"] = concepts.across
        rows += [Row(probe.name, layer, "", m, v) for m, v in found.items() if v is not None]
    return rows, curves


def null_sets(probe: CheckpointProbe) -> list[Row]:
    """What spectra say of Gaussian states of the same number and width, and the views' null."""
    sums = next(iter(probe.sums.values()))
    spectrum = sums.spectrum.result()
    width = len(spectrum.singular_values)
    name = f"{NULL}Gaussian states"
    gaussian = SpectrumOfStates()
    number = min(spectrum.num_rows, MOST_NULL_ROWS)
    gaussian.add(gaussian_rows(number, width, seed=probe.options.seed))
    null = gaussian.result()
    rows = [
        Row(name, "", "", "effective_rank", null.effective_rank),
        Row(name, "", "", "first_share", null.first_share),
    ]
    if null.anisotropy is not None:
        rows.append(Row(name, "", "", "anisotropy", null.anisotropy))
    if probe.num_without_views < len(probe.rows):
        share = sums.views.result().null_share
        rows.append(Row(f"{NULL}unrelated views", "", "", "views_residual_share", share))
    return rows


def dear_sets(probe: CheckpointProbe, say_reason: dict[str, str]) -> Iterator[Row]:
    """Capacity, stability and transport, at the sampled positions.

    Args:
        say_reason: measure -> why it has no value, filled in.
    """
    classes = _classes(probe)
    for layer, sums in probe.sums.items():
        states_PD = sums.sampled()
        if len(classes) < 2:
            say_reason["capacity"] = "fewer than two tokens come next twice"
        else:
            found = manifold_capacity(
                [states_PD[places] for places in classes],
                draws=CAPACITY_DRAWS,
                per_manifold=STATES_OF_A_CLASS,
                repeats=CAPACITY_REPEATS,
                seed=probe.options.seed,
            )
            yield Row(probe.name, layer, "", "capacity", found.capacity)
            yield Row(probe.name, layer, "", "capacity_dimension", found.dimension)
            yield Row(probe.name, layer, "", "capacity_radius", found.radius)
            yield Row(probe.name, layer, "", "capacity_utility", found.utility)
        if len(states_PD) < 3:
            say_reason["feature_stability"] = "fewer than three states"
        else:
            stability = feature_stability(
                states_PD,
                splits=STABILITY_SPLITS,
                max_samples=STABILITY_SAMPLES,
                seed=probe.options.seed,
            )
            yield Row(probe.name, layer, "", "feature_stability", stability.rotated)
    try:
        yield from _transports(probe)
    except UserError as error:
        say_reason["transport"] = str(error)


def _classes(probe: CheckpointProbe) -> list[list[int]]:
    """Sampled positions by the token that comes next, the most frequent ones."""
    places: dict[int, list[int]] = defaultdict(list)
    for place, (row, token) in enumerate(probe.positions):
        places[probe.rows[row].input_ids[token + 1]].append(place)
    often = sorted(places.values(), key=len, reverse=True)
    return [group for group in often[:CLASSES] if len(group) > 1]


@torch.no_grad()
def _transports(probe: CheckpointProbe) -> Iterator[Row]:
    """From each probed layer to the next one, both read through the last norm and the head.

    Raises:
        UserError: the model has no such norm or head.
    """
    last = str(num_layers_of(probe.model))
    norm, head = final_norm(probe.model), Head(probe.model)
    read: dict[str, Tensor] = {}
    for layer in probe.layers:
        states_PD = probe.sums[layer].sampled()[:TRANSPORT_POSITIONS].to(probe.device)
        read[layer] = states_PD if layer == last else norm(states_PD)
    names = list(probe.layers)
    if BEFORE_NORM in read and last in read:  # the same distribution twice
        _check_norm(read[BEFORE_NORM], read[last])
        names.remove(last)
    for one, two in pairwise(names):
        angle_P = layer_transport(
            read[one], read[two], head.weight_VD, head.bias_V, on_logits=head.capped
        )
        yield Row(probe.name, two, "", "transport", float(angle_P.mean()))


def _check_norm(normed_PD: Tensor, last_PD: Tensor) -> None:
    if (normed_PD - last_PD).abs().max() > 1e-3 * last_PD.abs().max():
        raise UserError(
            "the norm found is not what lies between the last layer and the head: transport "
            "between layers cannot be measured"
        )


def drifts(first: CheckpointProbe, second: CheckpointProbe, reasons: dict[str, str]) -> list[Row]:
    """How far each layer's distances have moved from one checkpoint to another."""
    shared = [layer for layer in first.layers if layer in second.sums]
    if first.positions != second.positions or not _same_tokens(first, second):
        reasons["drift"] = f"{second.name} has other tokens than {first.name}"
        return []
    if len(first.positions) < 3:
        reasons["drift"] = "fewer than three states"
        return []
    return [
        Row(
            second.name, layer, "", "drift",
            drift(first.sums[layer].sampled(), second.sums[layer].sampled()),
        )
        for layer in shared
    ]  # fmt: skip


def _same_tokens(first: CheckpointProbe, second: CheckpointProbe) -> bool:
    return [row.input_ids for row in first.rows] == [row.input_ids for row in second.rows]
