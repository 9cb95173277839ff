"""What is wrong with a setting is said in one sentence that names it."""

import math

import numpy as np
import pytest

from semtube.errors import UserError
from semtube.rhm.data2vec_settings import CPU_SIZE, Data2VecSettings
from semtube.rhm.network_settings import TEST, TRAINING, NetworkSettings, check_range
from semtube.rhm.slc_settings import SLCSettings


@pytest.mark.parametrize(
    ("settings", "values", "message"),
    [
        (SLCSettings, {"num_synonyms": 17}, "at most 16 tuples"),
        (SLCSettings, {"num_synonyms": 16}, r"f = 1.*nothing can be learned"),
        (SLCSettings, {"depth": 1}, "depth is 1: it must be at least 2"),
        (SLCSettings, {"num_strings": 15}, "num_strings is 15: it must be at least 16"),
        (SLCSettings, {"codebook_size": 15}, "codebook_size is 15: it must be at least 16"),
        (SLCSettings, {"num_compared": 1}, "num_compared is 1"),
        (SLCSettings, {"teacher_rate": 0}, "teacher_rate is 0: .* above 0 and at most 1"),
        (SLCSettings, {"similarity_threshold": 1}, "at least 0 and below 1"),
        (SLCSettings, {"learning_rate": math.nan}, "learning_rate is nan"),
        (SLCSettings, {"epochs": 0}, "epochs is 0"),
        (Data2VecSettings, {"num_strings": 3}, "num_strings is 3"),
        (Data2VecSettings, {"num_heads": 3}, "hidden_size is 2048: .* multiple of num_heads, 3"),
        (Data2VecSettings, {"objective": "stacked", "num_layers": 7}, "even number"),
        (Data2VecSettings, {"objective": "stacked", "num_top": 5}, "num_top is 5: .* at most 4"),
        (Data2VecSettings, {"num_top": 9}, "num_top is 9"),
        (Data2VecSettings, {"dropout": 1.0}, "dropout is 1.0"),
        (Data2VecSettings, {"mask_fraction": 0}, "mask_fraction is 0"),
        (Data2VecSettings, {"num_synonyms": 1}, "num_synonyms is 1"),
    ],
)
def test_bad_values(settings, values, message):
    with pytest.raises(UserError, match=message):
        settings(**values)


def test_upgrad_without_its_package_is_refused(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"needs the package torchjd: pip install 'semtube\[rhm\]'"):
        SLCSettings(aggregation="upgrad")
    SLCSettings(aggregation="sum")


def test_limits_themselves_are_allowed_or_not_as_named():
    check_range("x", 1, low=1, high=1)
    for limits in ({"above": 1}, {"below": 1}, {"low": 1.1}, {"high": 0.9}):
        with pytest.raises(UserError):
            check_range("x", 1, **limits)


def test_a_seed_has_one_grammar_and_independent_strings():
    settings = NetworkSettings(seed=3)
    grammar, again = settings.draw_grammar(), settings.draw_grammar()
    assert all(np.array_equal(a, b) for a, b in zip(grammar.rules, again.rules, strict=True))
    other = NetworkSettings(seed=4).draw_grammar()
    assert not np.array_equal(grammar.rules[0], other.rules[0])
    training = settings.draw_strings(grammar, 50, TRAINING)[0]
    assert np.array_equal(training, settings.draw_strings(grammar, 50, TRAINING)[0])
    for different in (
        settings.draw_strings(grammar, 50, TEST)[0],
        settings.draw_strings(grammar, 50, TRAINING, 1)[0],
    ):
        assert not np.array_equal(training, different)


def test_defaults_are_the_papers_and_the_cpu_size_is_valid():
    slc = SLCSettings(num_features=16, num_synonyms=8)
    assert (slc.num_codes, slc.latent_theory) == (128, 8192)
    data2vec = Data2VecSettings()
    assert data2vec.batch_size * data2vec.steps == 2**27
    assert data2vec.evaluation_steps[-1] == data2vec.steps
    ratios = np.diff(np.log2(data2vec.evaluation_steps))
    assert np.allclose(ratios, 0.5, atol=0.01)
    assert Data2VecSettings(**CPU_SIZE).hidden_size == 64


def test_evaluations_of_a_short_run_are_distinct_and_after_the_start():
    steps = Data2VecSettings(steps=4, num_evaluations=15).evaluation_steps
    assert steps == sorted(set(steps))
    assert steps[0] >= 1
    assert steps[-1] == 4
