"""Thresholds: hand numbers and how they hang together."""

import math

import pytest

from semtube.rhm import theory


def test_hand_numbers():
    assert theory.latent_threshold(16, 4) == 1024
    assert [theory.token_threshold(16, 4, level) for level in (1, 2, 3)] == [1024, 4096, 16384]
    assert theory.threshold("token", 16, 4, 5) == 65536
    assert theory.threshold("root", 16, 4, 4) == 4096
    assert [theory.root_threshold(16, 4, 3, level) for level in (1, 2, 3)] == [1024, 256, 64]
    assert theory.label_threshold(16, 4) == 64


@pytest.mark.parametrize("target", ["latent", "token", "root"])
@pytest.mark.parametrize("depth", [2, 3, 6])
def test_the_exponent_is_the_slope(target, depth):
    slope = math.log2(theory.threshold(target, 9, 4, depth) / theory.threshold(target, 9, 2, depth))
    assert slope == pytest.approx(theory.exponent(target, depth))


def test_tokens_and_latents_agree_where_there_is_one_level():
    assert theory.threshold("token", 7, 3, 2) == theory.threshold("latent", 7, 3, 2)


def test_the_bound_is_the_sum_of_its_terms_and_infinite_where_nothing_can_be_learned():
    value = theory.recovery_bound(16, 4, 2, 5, failure_probability=0.1, constant=2)
    assert value == pytest.approx(2 * math.log(5 * 16 * 4 / 0.1) * (64 + 1024 / 0.75))
    assert theory.recovery_bound(4, 4, 2, 3, failure_probability=0.1) == math.inf
    # Depth enters through a logarithm alone.
    deep = theory.recovery_bound(16, 4, 2, 500, failure_probability=0.1, constant=2)
    assert deep / value == pytest.approx(1 + math.log(100) / math.log(3200))


def test_signal_to_noise_is_of_order_one_at_the_threshold():
    assert theory.signal_to_noise(16, 4, 2, 1024) == pytest.approx(1.5)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: theory.token_threshold(4, 2, 0), "level must be at least 1"),
        (lambda: theory.root_threshold(4, 2, 3, 4), "level must be 1 to depth 3"),
        (lambda: theory.threshold("leaf", 4, 2, 3), "got 'leaf'"),
        (lambda: theory.recovery_bound(4, 2, 2, 3, failure_probability=0), "in \\(0, 1\\)"),
    ],
)
def test_bad_arguments(call, message):
    with pytest.raises(ValueError, match=message):
        call()
