"""Probes find what is there and not what is not; the synonym score in closed cases."""

import numpy as np
import pytest
import torch

from semtube.rhm.dropout import dropout
from semtube.rhm.generators import torch_generator
from semtube.rhm.probes import (
    Probe,
    ProbeOptions,
    accuracy,
    fit_probe,
    node_features,
    synonym_score,
)


def rows(num_rows: int, seed: int, scale: float = 1.0):
    """Two signs and their product: the first is a linear question, the last is none."""
    generator = torch.Generator().manual_seed(seed)
    signs = torch.randint(2, (num_rows, 2), generator=generator)
    noise = 0.1 * torch.randn(num_rows, 2, generator=generator)
    features = scale * (2.0 * signs - 1 + noise) + 7
    return features, signs[:, 0], (signs[:, 0] + signs[:, 1]) % 2


def fit(kind, labels: int, *, scale: float = 1.0, seed: int = 0, steps: int = 300, **options):
    training, validation, test = (rows(n, k, scale) for k, n in enumerate((1024, 256, 512)))
    parts = [(part[0], part[labels]) for part in (training, validation, test)]
    probe = fit_probe(
        parts[0], parts[1], num_classes=2,
        options=ProbeOptions(kind, steps=steps, learning_rate=1e-2, **options), seed=seed,
    )  # fmt: skip
    return probe, accuracy(probe, *parts[2])


@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e4])
def test_a_linear_question_is_answered_whatever_the_scale(scale):
    assert fit("linear", 1, scale=scale)[1] > 0.99


def test_without_standardizing_the_features_come_in_as_they_are():
    features = rows(64, 0, 1e-4)[0]
    plain = Probe(ProbeOptions("linear", standardize=False), features, 2)
    torch.testing.assert_close(plain(features), plain.out(features))
    standard = Probe(ProbeOptions("linear"), features, 2)
    by_row = standard(features).std(0) / standard.out(features).std(0)
    assert by_row.min() > 100


def test_an_exclusive_or_needs_the_mlp():
    # No line gets more than three of the four corners.
    assert fit("linear", 2)[1] < 0.8
    assert fit("mlp", 2)[1] > 0.99


def test_same_seed_same_probe_and_the_global_generator_has_no_part_in_it():
    torch.manual_seed(1)
    first = fit("mlp", 2, seed=3, steps=20, num_checks=2)[0].state_dict()
    torch.manual_seed(2)
    second = fit("mlp", 2, seed=3, steps=20, num_checks=2)[0].state_dict()
    assert all(torch.equal(x, second[name]) for name, x in first.items())
    other = fit("mlp", 2, seed=4, steps=20, num_checks=2)[0].state_dict()
    assert not torch.equal(first["out.weight"], other["out.weight"])


def test_the_best_check_on_the_validation_rows_is_kept():
    features, labels, _ = rows(512, 0)
    flipped = (features, 1 - labels)
    options = ProbeOptions("linear", steps=200, learning_rate=1e-2, num_checks=200)
    probe = fit_probe((features, labels), flipped, num_classes=2, options=options, seed=0)
    trained = fit_probe(
        (features, labels), (features, labels), num_classes=2, options=options, seed=0
    )
    assert accuracy(trained, features, labels) > 0.99
    # Judged by flipped labels, the least trained is the best.
    assert accuracy(probe, features, labels) < accuracy(trained, features, labels)


def test_constant_features_do_not_break_a_probe():
    features = torch.ones(64, 3)
    labels = torch.arange(64) % 2
    options = ProbeOptions("linear", steps=20, num_checks=1)
    probe = fit_probe(
        (features, labels), (features, labels), num_classes=2, options=options, seed=0
    )
    assert accuracy(probe, features, labels) == 0.5


@pytest.mark.parametrize(
    ("features", "labels", "message"),
    [
        (torch.ones(4, 2, 2), torch.zeros(4, dtype=torch.long), "features must be"),
        (torch.ones(4, 2), torch.zeros(3, dtype=torch.long), "labels"),
        (torch.ones(4, 2), torch.full((4,), 2), r"labels must lie in 0\.\.1"),
    ],
)
def test_bad_rows(features, labels, message):
    with pytest.raises(ValueError, match=message):
        fit_probe(
            (features, labels), (features, labels), num_classes=2,
            options=ProbeOptions("linear"), seed=0,
        )  # fmt: skip


def test_a_node_has_the_mean_of_the_tokens_below_it():
    features = torch.arange(16.0).view(2, 4, 2)
    means, labels = node_features(features, torch.tensor([[5, 6], [7, 8]]))
    assert labels.tolist() == [5, 6, 7, 8]
    assert means.tolist() == [[1, 2], [5, 6], [9, 10], [13, 14]]
    root, _ = node_features(features, torch.tensor([[1], [2]]))
    torch.testing.assert_close(root, features.mean(1))


def test_the_score_is_one_for_synonyms_that_move_nothing_and_zero_for_equal_movement():
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(2, 5, 4, 3, generator=generator)
    assert synonym_score(x, x, y) == 1
    assert synonym_score(x, y, y) == 0
    assert synonym_score(x, x + (y - x) / 2, y) == pytest.approx(0.75)
    assert synonym_score(x, x + 2 * (y - x), y) == pytest.approx(-3)
    assert synonym_score(x, y, x) is None
    assert synonym_score(x, x, x) is None


def test_the_score_divides_means_and_does_not_average_quotients():
    x = torch.zeros(2, 1)
    synonym, generic = torch.tensor([[1.0], [0.0]]), torch.tensor([[1.0], [3.0]])
    assert synonym_score(x, synonym, generic) == pytest.approx(1 - 1 / 10)


def test_dropout_keeps_the_mean_and_follows_its_generator():
    x = torch.ones(200_000, requires_grad=True)
    dropped = dropout(x, 0.25, torch_generator(0, "dropout"))
    # Standard error sqrt(0.25 / 0.75 / 200,000) = 0.0013.
    assert float(dropped.detach().mean()) == pytest.approx(1, abs=5 * 0.0013)
    assert set(np.unique(dropped.detach().numpy()).tolist()) == {0.0, float(np.float32(1 / 0.75))}
    assert torch.equal(dropped, dropout(x, 0.25, torch_generator(0, "dropout")))
    assert dropout(x, 0.25, None) is x
    dropped.sum().backward()
    torch.testing.assert_close(x.grad, dropped.detach())


def test_a_probe_without_generator_has_no_dropout():
    probe = Probe(ProbeOptions("mlp", dropout=0.5), torch.randn(8, 3), 2)
    x = torch.randn(4, 3)
    assert torch.equal(probe(x), probe(x))
    assert not torch.equal(probe(x), probe(x, torch_generator(0, "dropout")))
