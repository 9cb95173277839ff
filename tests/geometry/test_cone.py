"""Distances by hand, and exponents of paths that are a line, Brownian or memoryless."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.stats import binom
from torch import Tensor

from semtube.geometry.cone import (
    MIN_PROMPTS,
    MIN_STEPS,
    SATURATED,
    ConeFit,
    NoCone,
    cone_curve,
    first_differences,
    fit_cone,
    relative_distances,
    state_distances,
    unrelated_distance,
)
from semtube.geometry.measured import Measured
from semtube.geometry.nulls import NULLS


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def of_null(null: str, *, prompts: int, steps: int, width: int, seed: int = 0) -> Measured:
    """Distances of two paths of a null, off each other from the first step on."""
    starts = null == "straight line"  # at 0, which is no step
    direction = normal(2 * prompts, 1, width, seed=seed)
    noise = normal(2 * prompts, steps + starts, width, seed=seed + 1_000_000)
    first, second = NULLS[null](direction, noise)[:, int(starts) :].chunk(2)
    every = torch.full((prompts,), steps)
    return state_distances(first, second, every, torch.zeros_like(every), since="divergence")


def defined_everywhere(value_NK: Tensor) -> Measured:
    return Measured(value_NK.double(), torch.ones_like(value_NK, dtype=torch.bool))


def fitted(*args, **options) -> ConeFit:
    found = fit_cone(*args, **options)
    assert isinstance(found, ConeFit), found
    return found


def test_where_texts_first_differ():
    ours = [[1, 2, 3], [1, 2], [5], [], [1, 2]]
    theirs = [[1, 9, 3], [1, 2], [6, 7], [1], [1, 2, 3]]
    assert first_differences(ours, theirs).tolist() == [1, 2, 0, 0, 2]
    with pytest.raises(ValueError, match="argument 2 is shorter"):
        first_differences(ours, theirs[:-1])


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=1, max_size=5),
    st.sampled_from(["prompt", "divergence"]),
)
def test_distances_against_a_loop(sizes, since):
    size_N, diverged_N = torch.tensor(sizes).unbind(1)
    ours, theirs = normal(len(sizes), 6, 3), normal(len(sizes), 6, 3, seed=1)
    for n, (size, _) in enumerate(sizes):
        ours[n, size:] = math.nan  # padding, which must not matter
    found = state_distances(ours, theirs, size_N, diverged_N, since=since)
    assert found.value.isfinite().all()
    for n, (size, diverged) in enumerate(sizes):
        expected = [0.0] * min(size, diverged) if since == "prompt" else []
        expected += [math.dist(ours[n, k], theirs[n, k]) for k in range(diverged, size)]
        assert found.defined[n].tolist() == [k < len(expected) for k in range(6)]
        assert found.value[n, : len(expected)].tolist() == pytest.approx(expected)
        assert not found.value[n, len(expected) :].any()


def test_unrelated_states_against_all_pairs():
    states = 3 * normal(40, 7) + 100
    squared = torch.cdist(states.double(), states.double()).square()
    expected = (squared.sum() / (40 * 39)).sqrt()
    assert unrelated_distance(states) == pytest.approx(float(expected), rel=1e-6)
    relative = relative_distances(defined_everywhere(torch.tensor([[0.0, 5.0]])), 10.0)
    assert relative.value.tolist() == [[0, 0.5]]


def test_states_equal_but_for_rounding_are_0_apart():
    assert unrelated_distance(100 * (1 + 1e-6 * normal(40, 7))) == 0
    assert unrelated_distance(100 * (1 + 1e-3 * normal(40, 7))) > 0.1


def test_texts_that_leave_at_random_steps_have_no_exponent_of_a_half_since_the_prompt():
    """Brownian from where they leave; since the prompt the exponent tells when they leave."""
    generator = torch.Generator().manual_seed(0)
    # One in ten leaves at each step.
    leaves_N = (torch.rand(400, generator=generator).log() / math.log(0.9)).long().clamp_max(24)
    size_N = torch.full((400,), 24)
    noise = torch.randn(400, 24, 16, generator=generator)
    states = (noise * (torch.arange(24) >= leaves_N[:, None])[..., None]).cumsum(1)
    since = {
        since: fitted(state_distances(states, 0 * states, size_N, leaves_N, since=since))
        for since in ("prompt", "divergence")
    }
    assert since["divergence"].low < 0.5 < since["divergence"].high
    assert since["prompt"].low > 0.7


def test_the_curve_is_over_prompts_that_have_the_step():
    value = torch.tensor([[3.0, 1.0, 0.0], [4.0, 0.0, 0.0]], dtype=torch.float64)
    defined = torch.tensor([[True, True, False], [True, False, False]])
    curve = cone_curve(Measured(value, defined))
    assert [step.value for step in curve] == pytest.approx([math.sqrt(12.5), 1])
    assert [(step.step, step.num_prompts) for step in curve] == [(1, 2), (2, 1)]
    between = stats.ttest_1samp([9, 16], 0).confidence_interval()
    assert between.low < 0
    assert (curve[0].low, curve[0].high) == (0, pytest.approx(math.sqrt(between.high)))
    assert (curve[1].low, curve[1].high) == (None, None)


@pytest.mark.parametrize("exponent", [0.0, 0.5, 1.0])
def test_a_power_law_is_found_exactly(exponent):
    scale_N1 = normal(30, 1).abs() + 0.1
    found = fitted(defined_everywhere(scale_N1 * torch.arange(1, 13) ** exponent))
    for value in (found.exponent, found.low, found.high):
        assert value == pytest.approx(exponent, abs=1e-6)
    assert found.scale == pytest.approx(float(scale_N1.double().square().mean().sqrt()))
    assert (found.first_step, found.last_step, found.num_prompts) == (1, 12, 30)


@pytest.mark.parametrize(
    ("null", "exponent"),
    [("straight line", 1.0), ("independent increments", 0.5), ("memoryless points", 0.0)],
)
def test_exponents_of_the_nulls(null, exponent):
    found = fitted(of_null(null, prompts=200, steps=24, width=16))
    assert found.low <= exponent <= found.high or found.exponent == pytest.approx(exponent)
    assert found.high - found.low < 0.05


@pytest.mark.parametrize("bounded", [False, True])
def test_the_interval_covers_a_brownian_exponent(bounded):
    # Few prompts, where plain percentiles are too narrow. With a bound half of the steps are cut.
    prompts, width, runs = MIN_PROMPTS, 4, 600
    steps = 24 if bounded else 12
    unrelated = math.sqrt(2 * width * steps / 2) / SATURATED if bounded else None
    covered, lengths = 0, []
    for run in range(runs):
        distances = of_null(
            "independent increments", prompts=prompts, steps=steps, width=width, seed=run
        )
        found = fitted(distances, unrelated=unrelated, num_resamples=400, seed=run)
        covered += found.low <= 0.5 <= found.high
        lengths.append(found.last_step)
    lowest, highest = binom.ppf(1e-3, runs, 0.95), binom.ppf(1 - 1e-3, runs, 0.95)
    # As many runs as tell 95 % from 88 % and from 98.5 %.
    assert binom.sf(lowest - 1, runs, 0.88) < 1e-3
    assert binom.cdf(highest, runs, 0.985) < 0.05
    assert lowest <= covered <= highest
    assert (sum(lengths) / runs < 0.75 * steps) == bounded


def test_a_bounded_process_looks_brownian_only_before_it_is_saturated():
    # Ornstein-Uhlenbeck, off the gold text from a common start: distance^2 ~ 1 - rho^(2k).
    rho, prompts, steps, width = 0.98, 400, 180, 8
    noise = normal(prompts, steps, width)
    states = [torch.zeros(prompts, width)]
    for k in range(steps):
        states.append(rho * states[-1] + math.sqrt(1 - rho**2) * noise[:, k])
    distances = defined_everywhere(torch.stack(states[1:], 1).norm(dim=-1))
    unrelated = math.sqrt(width)
    whole, free = fitted(distances), fitted(distances, unrelated=unrelated)
    assert whole.exponent < 0.35
    assert free.exponent == pytest.approx(0.5, abs=0.05)
    # 1 - rho^(2k) = SATURATED^2
    last = int(math.log(1 - SATURATED**2) / (2 * math.log(rho)))
    assert free.last_step == pytest.approx(last, abs=1)
    curve = cone_curve(relative_distances(distances, unrelated))
    assert curve[free.last_step - 1].value <= SATURATED < curve[free.last_step].value


def test_every_step_is_of_the_same_prompts():
    # Short texts are far off, long ones near: over whatever texts there are, distances would fall.
    value = torch.ones(60, 12)
    value[:30] *= 10
    defined = torch.ones_like(value, dtype=torch.bool)
    defined[:29, 6:] = False
    found = fitted(Measured(value.double().where(defined, 0), defined))
    assert (found.last_step, found.num_prompts) == (12, 31)
    assert found.exponent == pytest.approx(0, abs=1e-9)
    found = fitted(Measured(value.double().where(defined, 0), defined), last_step=6)
    assert (found.last_step, found.num_prompts) == (6, 60)


def test_texts_that_stay_on_the_gold_text_count_as_0_since_the_prompt_only():
    prompts, steps, stay = 60, 10, 20
    ours, theirs = normal(prompts, steps, 3).cumsum(1), torch.zeros(prompts, steps, 3)
    size_N = torch.full((prompts,), steps)
    diverged_N = torch.full((prompts,), 2)
    diverged_N[:stay] = steps
    since = {
        kind: state_distances(ours, theirs, size_N, diverged_N, since=kind)
        for kind in ("prompt", "divergence")
    }
    fits = {kind: fitted(distances) for kind, distances in since.items()}
    assert (fits["prompt"].num_prompts, fits["divergence"].num_prompts) == (60, 40)
    # Steps at which all are on the gold text have no logarithm.
    assert (fits["prompt"].first_step, fits["divergence"].first_step) == (3, 1)
    assert fits["divergence"].last_step == steps - 2
    curves = {kind: cone_curve(distances) for kind, distances in since.items()}
    values = {kind: [step.value for step in curve] for kind, curve in curves.items()}
    expected = [value * math.sqrt(40 / 60) for value in values["divergence"]]
    assert values["prompt"][2:] == pytest.approx(expected)
    assert [step.num_prompts for step in curves["divergence"]] == [40] * (steps - 2)


def test_the_scale_of_the_states_is_that_of_the_fit():
    distances = of_null("independent increments", prompts=40, steps=10, width=3)
    one, eight = fitted(distances), fitted(Measured(8 * distances.value, distances.defined))
    assert eight.scale == pytest.approx(8 * one.scale)
    assert (eight.exponent, eight.low, eight.high) == pytest.approx(
        (one.exponent, one.low, one.high)
    )
    assert fitted(distances, seed=1).low != one.low
    assert fitted(distances) == one


def test_the_last_step_is_one_that_enough_prompts_reach():
    # Half of 24 prompts have 9 steps; with 20 prompts, the last is the sixth.
    place = torch.arange(9)
    reached_N = torch.tensor([9] * 12 + [6] * 8 + [2] * 4)
    defined = place < reached_N[:, None]
    distances = Measured((1.0 + place).sqrt().double() * defined, defined)
    found = fitted(distances)
    assert (found.last_step, found.num_prompts) == (6, 20)
    assert found.exponent == pytest.approx(0.5)


def test_reasons_for_no_exponent():
    enough = defined_everywhere(torch.ones(30, 8))

    def reason(distances, **options) -> str:
        found = fit_cone(distances, **options)
        assert isinstance(found, NoCone)
        return found.reason

    few = defined_everywhere(torch.ones(MIN_PROMPTS - 1, 8))
    assert reason(few) == f"{MIN_PROMPTS - 1} prompts have a step: {MIN_PROMPTS} are needed"
    none = Measured(torch.zeros(30, 8).double(), torch.zeros(30, 8, dtype=torch.bool))
    assert reason(none).startswith("0 prompts have a step")
    assert reason(enough, last_step=9) == f"0 prompts reach step 9: {MIN_PROMPTS} are needed"
    assert "off the gold text" in reason(defined_everywhere(torch.zeros(30, 8)))
    assert reason(enough, unrelated=1.5).startswith("saturated at step 1, the first")
    assert MIN_STEPS == 6
    assert reason(enough, first_step=4) == "only steps 4 to 8 can be fitted: 6 are needed"
    assert fitted(enough, first_step=3).first_step == 3
    growing = defined_everywhere(torch.arange(1.0, 9).expand(30, 8))
    assert "only steps 1 to 5" in reason(growing, unrelated=5 / SATURATED)
    assert fitted(growing, unrelated=6 / SATURATED).last_step == 6


def test_bad_input_is_refused():
    states, number = torch.zeros(2, 3, 4), torch.tensor([3, 3])
    with pytest.raises(ValueError, match="of both texts"):
        state_distances(states, states[:1], number, number, since="prompt")
    with pytest.raises(ValueError, match="since is 'start'"):
        state_distances(states, states, number, number, since="start")
    with pytest.raises(ValueError, match="there are 1 states"):
        unrelated_distance(states[0, :1])
    with pytest.raises(ValueError, match="wanted more than 0"):
        relative_distances(defined_everywhere(torch.ones(2, 2)), unrelated_distance(states[0]))
    distances = defined_everywhere(torch.ones(30, 8))
    with pytest.raises(ValueError, match="steps are 0 to 4"):
        fit_cone(distances, first_step=0, last_step=4)
    with pytest.raises(ValueError, match="steps are 5 to 4"):
        fit_cone(distances, first_step=5, last_step=4)
    with pytest.raises(ValueError, match="confidence"):
        fit_cone(distances, confidence=1.0)
