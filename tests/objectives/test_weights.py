"""Weights that change with the step: their values, their rates, their plain form."""

from __future__ import annotations

import json
import math
from itertools import pairwise

import pytest

from semtube.objectives import weights
from semtube.objectives.weights import Adaptive, Dropped, Ramp

RAMPS = [Ramp(0.5, 4), Ramp(0.5, 4, start=0.1), Ramp(0.2, 7, 1.0, "cosine"), Ramp(0.3, 1)]
WEIGHTS = [0.0, 3, 0.02, *RAMPS, Dropped(0.1, 0.75), Adaptive(), Adaptive(0.2, 0.0, 5.0)]


@pytest.mark.parametrize(
    ("ramp", "values"),
    [
        (Ramp(1.0, 4), [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]),
        (Ramp(0.5, 4, start=0.1), [0.2, 0.3, 0.4, 0.5, 0.5]),
        (Ramp(0.1, 2, start=0.5), [0.3, 0.1, 0.1]),
        (Ramp(0.3, 1), [0.3, 0.3]),
        # (1 - cos(pi p)) / 2 at p = 1/4, 1/2, 3/4, 1.
        (
            Ramp(1.0, 4, shape="cosine"),
            [0.5 - math.sqrt(0.125), 0.5, 0.5 + math.sqrt(0.125), 1, 1, 1],
        ),
        (Ramp(3.0, 2, 1.0, "cosine"), [2.0, 3.0, 3.0]),
        (Ramp(1.0, 3, 2.5, "cosine"), [2.5 - 1.5 * 0.25, 2.5 - 1.5 * 0.75, 1.0]),
    ],
)
def test_ramps_have_these_values(ramp, values):
    got = [ramp.at(step, key=9) for step in range(len(values))]
    assert got == pytest.approx(values, rel=1e-12)


@pytest.mark.parametrize("ramp", RAMPS, ids=repr)
def test_a_ramp_goes_one_way_and_stays_where_it_ends(ramp):
    values = [ramp.at(step, key=0) for step in range(ramp.steps)]
    assert values == sorted(values, reverse=ramp.start > ramp.weight)
    assert all(ramp.at(step, 0) == values[-1] for step in (ramp.steps, 10 * ramp.steps, 10**9))
    assert values[-1] == pytest.approx(ramp.weight, rel=1e-15)


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.75])
@pytest.mark.parametrize("key", [0, 2**31 + 7])
def test_the_share_of_dropped_steps_is_the_rate(rate, key):
    steps = 3000
    values = [Dropped(0.3, rate).at(step, key) for step in range(steps)]
    assert set(values) == {0.0, 0.3}
    # 4.5 standard deviations of a binomial count.
    bound = 4.5 * math.sqrt(steps * rate * (1 - rate))
    assert abs(values.count(0.0) - steps * rate) < bound
    # Neighbouring steps are dropped independently.
    both = sum(one == two == 0 for one, two in pairwise(values))
    assert abs(both - steps * rate**2) < 6 * math.sqrt(steps) * rate


def test_a_step_is_dropped_alike_on_every_call_and_apart_under_another_key():
    weight = Dropped(0.3, 0.5)
    first, second, other = ([weight.at(step, key) for step in range(100)] for key in (5, 5, 6))
    assert first == second
    # Two independent halves agree in 50 of 100, standard deviation 5.
    assert 25 < sum(one == two for one, two in zip(first, other, strict=True)) < 75
    # A lower rate drops a subset of the same steps.
    fewer = [Dropped(0.3, 0.2).at(step, 5) for step in range(100)]
    assert all(one == 0 for one, two in zip(first, fewer, strict=True) if two == 0)


def test_a_rate_of_zero_drops_nothing():
    assert all(Dropped(0.3, 0.0).at(step, key=1) == 0.3 for step in range(300))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Ramp(-1.0, 3), r"^weight is -1\.0: "),
        (lambda: Ramp(math.inf, 3), r"^weight is inf: "),
        (lambda: Ramp(math.nan, 3), r"^weight is nan: "),
        (lambda: Ramp(1.0, 3, start=-0.5), r"^start is -0\.5: "),
        (lambda: Ramp(1.0, 3, start=math.nan), r"^start is nan: "),
        (lambda: Ramp(1.0, 0), r"^steps is 0: "),
        (lambda: Ramp(1.0, -4), r"^steps is -4: "),
        (lambda: Ramp(1.0, 3, shape="log"), r"^shape is 'log': use one of"),
        (lambda: Dropped(-1.0, 0.5), r"^weight is -1\.0: "),
        (lambda: Dropped(math.nan, 0.5), r"^weight is nan: "),
        (lambda: Dropped(1.0, 1.0), r"^rate is 1\.0: "),
        (lambda: Dropped(1.0, -0.1), r"^rate is -0\.1: "),
        (lambda: Dropped(1.0, math.nan), r"^rate is nan: "),
        (lambda: Adaptive(0.0), r"^fraction is 0\.0: "),
        (lambda: Adaptive(-0.05), r"^fraction is -0\.05: "),
        (lambda: Adaptive(math.inf), r"^fraction is inf: "),
        (lambda: Adaptive(math.nan), r"^fraction is nan: "),
        (lambda: Adaptive(smoothing=1.0), r"^smoothing is 1\.0: "),
        (lambda: Adaptive(smoothing=-0.1), r"^smoothing is -0\.1: "),
        (lambda: Adaptive(smoothing=math.nan), r"^smoothing is nan: "),
        (lambda: Adaptive(maximum=0.0), r"^maximum is 0\.0: "),
        (lambda: Adaptive(maximum=math.inf), r"^maximum is inf: "),
        (lambda: Adaptive(maximum=math.nan), r"^maximum is nan: "),
    ],
)
def test_a_wrong_argument_is_named_with_its_value(make, message):
    with pytest.raises(ValueError, match=message) as raised:
        make()
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Ramp(0.0, 1, 0.0),
        lambda: Dropped(0.0, 0.0),
        lambda: Dropped(1, 0.999),
        lambda: Adaptive(1e-9, 0.0, 1e-9),
        lambda: Adaptive(3.0, 0.999, 1e9),
    ],
)
def test_the_outermost_admissible_values_are_taken(make):
    assert make() == make()


@pytest.mark.parametrize("weight", WEIGHTS, ids=repr)
def test_a_weight_comes_back_from_its_plain_form(weight):
    plain = weights.to_plain(weight)
    again = weights.from_plain(json.loads(json.dumps(plain)))
    assert again == weight
    assert type(again) is type(weight)
    assert hash(again) == hash(weight)
    assert weights.from_plain(plain) == weight  # reading took nothing out of it
    assert eval(repr(weight)) == weight


def test_the_plain_form_names_the_kind_and_every_argument():
    assert weights.to_plain(Ramp(0.5, 3)) == {
        "kind": "ramp", "weight": 0.5, "steps": 3, "start": 0.0, "shape": "linear"
    }  # fmt: skip
    assert weights.to_plain(Dropped(0.5, 0.2)) == {"kind": "dropped", "weight": 0.5, "rate": 0.2}
    assert weights.to_plain(Adaptive()) == {
        "kind": "adaptive", "fraction": 0.05, "smoothing": 0.9, "maximum": 10.0
    }  # fmt: skip
    assert weights.to_plain(0.25) == 0.25
    assert weights.from_plain({"kind": "ramp", "weight": 1.0, "steps": 2}) == Ramp(1.0, 2)


@pytest.mark.parametrize(
    ("plain", "message"),
    [
        ({"kind": "cosine"}, r"weight has kind 'cosine': use one of \('ramp', 'dropped', 'adap"),
        ({"weight": 1.0}, r"weight has kind None"),
        ({"kind": "ramp", "weight": 1.0}, r"weight of kind 'ramp': .*'steps'"),
        ({"kind": "ramp", "wieght": 1.0, "steps": 2}, r"weight of kind 'ramp': .*'wieght'"),
        ({"kind": "dropped", "weight": 1.0, "rate": "x"}, r"weight of kind 'dropped': rate is 'x'"),
        ({"kind": "ramp", "weight": 1.0, "steps": 0}, r"steps is 0"),
    ],
)
def test_a_wrong_plain_form_is_refused(plain, message):
    with pytest.raises(ValueError, match=message):
        weights.from_plain(plain)


@pytest.mark.parametrize("weight", WEIGHTS, ids=repr)
def test_weights_pass_the_check(weight):
    weights.check(weight)


@pytest.mark.parametrize(
    "value", [True, None, "0.1", [0.1], {"kind": "ramp"}, -0.1, -1, math.nan, math.inf, Ramp, 1j]
)
def test_what_is_no_weight_is_refused(value):
    with pytest.raises(ValueError, match=r"^weight is "):
        weights.check(value)


@pytest.mark.parametrize(
    ("weight", "never"),
    [
        (0, True),
        (0.0, True),
        (1e-9, False),
        (Ramp(0.0, 5), True),
        (Ramp(0.0, 5, start=0.1), False),
        (Ramp(0.1, 5), False),
        (Dropped(0.0, 0.5), True),
        (Dropped(0.1, 0.99), False),
        (Adaptive(), False),
    ],
    ids=repr,
)
def test_a_term_that_never_counts_is_known(weight, never):
    assert weights.is_never_used(weight) is never
