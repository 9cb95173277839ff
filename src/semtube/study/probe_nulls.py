"""The nulls beside a probe's measures that belong to a checkpoint's length, width and steps."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from statistics import median

from semtube.config import ProbeOptions
from semtube.geometry.measures import MEASURES, null_values
from semtube.geometry.nulls import NULLS, NullValue
from semtube.geometry.spectra import (
    Spectrum,
    SpectrumOfStates,
    gaussian_rows,
    independent_coordinates,
)
from semtube.objectives.trajectories import CONTENT_ROLES
from semtube.study.checkpoint_probe import CheckpointProbe
from semtube.study.probe_sets import GAUSSIAN, stability
from semtube.study.probe_table import Row

#: Paths of each null that are simulated. Ours.
NULL_PATHS = 16
#: Rows of the nulls of a spectrum, at most: where the states are more, they have fewer.
MOST_NULL_ROWS = 20_000
#: Null of a layer's spectrum beside `GAUSSIAN`.
INDEPENDENT = "independent coordinates"
#: What rounding may put a null outside of a measure's range. Ours: more is shown as it is.
ROUNDING = 1e-6


@dataclass(frozen=True)
class ProbeNulls:
    """Simulates them, once for every size."""

    options: ProbeOptions

    def rows(self, probe: CheckpointProbe) -> Iterator[Row]:
        """Of trajectories, and of states as a set."""
        yield from self._of_paths(probe)
        yield from self._of_sets(probe)

    def _of_paths(self, probe: CheckpointProbe) -> Iterator[Row]:
        """At the median length and the width; with a unit, with steps as long as the layer's."""
        roles = CONTENT_ROLES[self.options.content]
        num_tokens = round(median(row.num_tokens_of(roles) for row in probe.rows))
        if num_tokens < 3:
            return
        width = next(iter(probe.sums.values())).spectrum.width
        for null in NULLS:
            found = _simulated(
                null, num_tokens, width, self.options.measures == "all", self.options.seed
            )
            for measure, value in found.items():
                if not MEASURES[measure].power:
                    yield from _rows(probe.name, "", null, measure, value, 1.0)
                    continue
                for layer, sums in probe.sums.items():
                    if sums.mean_step is not None:
                        scale = sums.mean_step / float(found["step_length"].mean)
                        yield from _rows(probe.name, layer, null, measure, value, scale)

    def _of_sets(self, probe: CheckpointProbe) -> Iterator[Row]:
        spectrum = next(iter(probe.sums.values())).spectrum
        width = spectrum.width
        number = min(spectrum.num_rows, MOST_NULL_ROWS)
        found = dict(_gaussian_spectrum(number, width, self.options.seed))
        if self.options.measures == "all" and len(probe.positions) >= 3:
            states_PD = gaussian_rows(len(probe.positions), width, seed=self.options.seed)
            of = stability(states_PD, self.options.seed)
            found |= {"feature_stability": of.rotated, "feature_stability_raw": of.raw}
        for measure, value in found.items():
            yield Row(probe.name, "", "", measure, value, null=GAUSSIAN)
        if self.options.measures == "all":
            for layer, sums in probe.sums.items():
                null = independent_coordinates(
                    sums.spectrum.deviation_D, number, seed=self.options.seed
                )
                for measure, value in _numbers(null).items():
                    yield Row(probe.name, layer, "", measure, value, null=INDEPENDENT)


def _rows(
    name: str, layer: str, null: str, measure: str, found: NullValue, scale: float
) -> Iterator[Row]:
    about = MEASURES[measure]
    means, defined = found.mean.reshape(-1).tolist(), found.defined.reshape(-1).tolist()
    for length, mean, is_defined in zip(about.lengths or (None,), means, defined, strict=True):
        if is_defined:
            value = mean * scale**about.power
            # A straight line's loss is 0 but for rounding, which may go below.
            within = min(max(value, about.low), about.high)
            if abs(value - within) <= ROUNDING:
                value = within
            yield Row(name, layer, "", measure, value, length, null)


@lru_cache
def _simulated(
    null: str, num_tokens: int, width: int, dear: bool, seed: int
) -> dict[str, NullValue]:
    return null_values(
        null, num_tokens=num_tokens, width=width, dear=dear, num_paths=NULL_PATHS, seed=seed
    )


@lru_cache
def _gaussian_spectrum(number: int, width: int, seed: int) -> tuple[tuple[str, float], ...]:
    states = SpectrumOfStates()
    states.add(gaussian_rows(number, width, seed=seed))
    return tuple(_numbers(states.result()).items())


def _numbers(null: Spectrum) -> dict[str, float]:
    tail = null.tail()
    found = {
        "effective_rank": null.effective_rank,
        "first_share": null.first_share,
        "anisotropy": null.anisotropy,
        # No power law, but what a slope there is to be held against.
        "spectral_tail": None if tail is None else tail.slope,
        "spectral_tail_r_squared": None if tail is None else tail.r_squared,
    }
    return {name: value for name, value in found.items() if value is not None}
