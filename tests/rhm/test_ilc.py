"""Iterative Latent Clustering: its features, its variants, what it recovers, what it refuses."""

import time

import numpy as np
import pytest

import semtube.rhm.sizes
from semtube.errors import UserError
from semtube.rhm.grammar import Grammar
from semtube.rhm.ilc import LatentClustering, tuple_features
from semtube.rhm.ilc_sweep import ilc_cells, run_ilc_cell
from semtube.rhm.scoring import hungarian_accuracy
from semtube.rhm.theory import threshold


def draw(v, m, s, depth, seed=0) -> Grammar:
    return Grammar.draw(
        num_features=v, num_synonyms=m, branching=s, depth=depth,
        generator=np.random.default_rng(seed), degenerate="keep",
    )  # fmt: skip


def recover(learner, grammar, latents, seed=0, **changes):
    return learner.recover(
        latents[0],
        num_features=grammar.num_features,
        branching=grammar.branching,
        generator=np.random.default_rng(seed),
        **changes,
    )


def counts_by_loops(learner, symbols, targets, v, s):
    """The definition: a loop over strings, groups, positions and contexts."""
    found = {}
    num_strings, num_groups = symbols.shape[:2]
    for p in range(num_strings):
        for g in range(num_groups if learner.positions == "all" else 1):
            for r in range(s if learner.positions == "all" else 1):
                code = 0
                for t in range(s):
                    code = code * v + int(symbols[p, g, r, t])
                others = [(q, t) for q in range(s) if q != r for t in range(s)]
                for q, t in others if learner.contexts == "all" else [((r + 1) % s, 0)]:
                    key = (r, q, t), code, int(targets[p, g, q, t])
                    found[key] = found.get(key, 0) + 1
    return found


@pytest.mark.parametrize("positions", ["one", "all"])
@pytest.mark.parametrize("contexts", ["one", "all"])
@pytest.mark.parametrize(("v", "s", "groups"), [(5, 2, 4), (4, 3, 3)])
def test_counts_are_those_of_the_definition(positions, contexts, v, s, groups, monkeypatch):
    monkeypatch.setattr("semtube.rhm.ilc.CHUNK", 17)
    learner = LatentClustering("latent", positions=positions, contexts=contexts)
    generator = np.random.default_rng(0)
    symbols = generator.integers(v, size=(50, groups, s, s)).astype(np.uint8)
    targets = generator.integers(v, size=(50, groups, s, s)).astype(np.uint8)
    counts, support = learner._count(symbols, targets, v)
    blocks = list(learner._blocks(s))
    expected = counts_by_loops(learner, symbols, targets, v, s)
    assert counts.sum() == sum(expected.values())
    assert set(support) == {code for _, code, _ in expected}
    for (block, code, target), number in expected.items():
        assert counts[blocks.index(block), np.searchsorted(support, code), target] == number
    assert (
        len(blocks)
        == {
            ("one", "one"): 1,
            ("one", "all"): s * (s - 1),
            ("all", "one"): s,
            ("all", "all"): s * s * (s - 1),
        }[positions, contexts]
    )


def test_features_are_centred_conditional_frequencies():
    counts = np.array([[[3, 1], [0, 4], [0, 0]], [[1, 1], [0, 0], [1, 0]]])
    features, weights = tuple_features(counts)
    np.testing.assert_allclose(
        features,
        [
            [3 / 4 - 3 / 8, 1 / 4 - 5 / 8, 1 / 2 - 2 / 3, 1 / 2 - 1 / 3],
            [0 - 3 / 8, 1 - 5 / 8, 0, 0],
            [0, 0, 1 - 2 / 3, 0 - 1 / 3],
        ],
    )
    np.testing.assert_array_equal(weights, [6, 4, 1])


def test_frequent_tuples_weigh_more():
    features = np.array([[0.0], [1.0], [10.0]])
    cluster = LatentClustering("latent")._cluster
    labels = [
        cluster(features, np.array(weights), 2, np.random.default_rng(0))
        for weights in ([1.0, 1.0, 1.0], [1.0, 1.0, 1e-9])
    ]
    # Alike, the nearest two join: 0.5 against 40.5. The outlier seen almost never: 0.5 and 81e-9.
    assert labels[0][0] == labels[0][1] != labels[0][2]
    assert labels[1][0] != labels[1][1] == labels[1][2]


def test_equal_features_are_one_point():
    labels = LatentClustering("latent")._cluster(
        np.zeros((5, 3)), np.ones(5), 4, np.random.default_rng(0)
    )
    assert (labels == labels[0]).all()


@pytest.mark.parametrize("sizes", [(8, 3, 2, 4), (8, 4, 3, 3)])
@pytest.mark.parametrize("target", ["latent", "token", "root"])
def test_with_enough_strings_every_target_recovers_every_level(sizes, target):
    grammar = draw(*sizes, seed=1)
    num_strings = round(8 * threshold(target, sizes[0], sizes[1], sizes[3]))
    latents = grammar.sample(num_strings, np.random.default_rng(2))
    learner = LatentClustering(target, positions="one" if target == "root" else "all")
    root = latents[-1] if target == "root" else None
    found = recover(learner, grammar, latents, root=root)
    assert [x.shape for x in found] == [x.shape for x in latents[:-1]]
    for codes, truth in zip(found[1:], latents[1:-1], strict=True):
        accuracy = hungarian_accuracy(codes, truth, num_codes=8, num_features=8)
        assert accuracy > 0.9
    # A label belongs to a tuple, not to a place: equal tuples, equal labels.
    codes = grammar.tuple_codes(found[0].reshape(len(found[0]), -1, grammar.branching))
    pairs = np.unique(np.stack([codes.ravel(), found[1].ravel()]), axis=1)
    assert len(np.unique(pairs[0])) == pairs.shape[1]


def test_the_token_target_is_the_first_leaf_below_the_cousin(monkeypatch):
    grammar = draw(8, 4, 2, 4)
    latents = grammar.sample(200, np.random.default_rng(0))
    seen = []

    def spy(self, symbols, targets, num_features, level, generator):
        seen.append(np.array(targets))
        return original(self, symbols, targets, num_features, level, generator)

    original = LatentClustering._label_tuples
    monkeypatch.setattr(LatentClustering, "_label_tuples", spy)
    recover(LatentClustering("token"), grammar, latents)
    for level, targets in enumerate(seen):
        flat = targets.reshape(200, -1)
        np.testing.assert_array_equal(flat, latents[0][:, :: 2**level])
        assert flat.shape == latents[level].shape
    seen.clear()
    found = recover(LatentClustering("latent"), grammar, latents)
    for targets, symbols in zip(seen, found, strict=False):
        np.testing.assert_array_equal(targets.reshape(200, -1), symbols)
    seen.clear()
    root = LatentClustering("root")
    recover(root, grammar, latents, root=latents[-1])
    for targets in seen:
        np.testing.assert_array_equal(
            targets, np.broadcast_to(latents[-1][:, :, None, None], targets.shape)
        )


def test_at_depth_2_tokens_are_the_latents_and_both_arms_agree():
    grammar = draw(8, 4, 2, 2)
    latents = grammar.sample(500, np.random.default_rng(0))
    first, second = (
        recover(LatentClustering(target), grammar, latents) for target in ("latent", "token")
    )
    np.testing.assert_array_equal(first[1], second[1])


def test_names_of_tokens_do_not_matter():
    grammar = draw(8, 4, 2, 3, seed=2)
    latents = grammar.sample(3000, np.random.default_rng(0))
    names = np.random.default_rng(1).permutation(8).astype(np.uint8)
    accuracies = [
        hungarian_accuracy(
            recover(LatentClustering("latent"), grammar, [tokens])[2], latents[2],
            num_codes=8, num_features=8,
        )
        for tokens in (latents[0], names[latents[0]])
    ]  # fmt: skip
    assert accuracies[0] == pytest.approx(accuracies[1], abs=0.02)
    assert accuracies[0] > 0.8


def test_strings_without_structure_teach_nothing():
    # f = 1: the top latent is independent of everything the features see.
    grammar = draw(8, 8, 2, 3)
    latents = grammar.sample(8000, np.random.default_rng(0))
    found = recover(LatentClustering("latent"), grammar, latents)
    accuracy = hungarian_accuracy(found[1], latents[1], num_codes=8, num_features=8)
    assert accuracy < 0.4


def test_unseen_tuples_get_random_labels():
    grammar = draw(8, 4, 2, 3)
    latents = grammar.sample(60, np.random.default_rng(0))
    learner = LatentClustering("latent", positions="one")
    symbols = latents[0].reshape(60, -1, 2, 2)
    labels = [
        learner._label_tuples(symbols, symbols, 8, 0, np.random.default_rng(seed))
        for seed in range(40)
    ]
    _, support = learner._count(symbols, symbols, 8)
    unseen = np.setdiff1d(np.arange(64), support)
    draws = np.stack(labels)[:, unseen]
    assert len(unseen) > 20
    assert np.bincount(draws.ravel(), minlength=8).min() > 0.6 * draws.size / 8


@pytest.mark.parametrize(
    ("count", "changes", "message"),
    [
        (7, {}, "num_strings is 7: at least num_features, 8"),
        (8, {"positions": "one"}, r"only [34567] tuples of level 0 occur and 8 clusters"),
    ],
)
def test_too_few_strings_or_tuples_are_refused(count, changes, message):
    grammar = draw(8, 2, 2, 3, seed=3)
    latents = grammar.sample(count, np.random.default_rng(0))
    with pytest.raises(UserError, match=message):
        recover(LatentClustering("latent", **changes), grammar, latents)


def test_other_bad_input():
    grammar = draw(8, 2, 2, 3)
    latents = grammar.sample(50, np.random.default_rng(0))
    with pytest.raises(ValueError, match="'root' needs root"):
        recover(LatentClustering("root"), grammar, latents)
    with pytest.raises(ValueError, match="'latent' takes no root"):
        recover(LatentClustering("latent"), grammar, latents, root=latents[-1])
    for tokens in (latents[0][:, :7], latents[0][:, :2], latents[0][0]):
        with pytest.raises(ValueError, match=r"must be \(P, 2\^L\) with L of 2 or more"):
            recover(LatentClustering("latent"), grammar, [tokens])


def test_strings_that_do_not_fit_are_refused(monkeypatch):
    grammar = draw(8, 2, 2, 3)
    latents = grammar.sample(50, np.random.default_rng(0))
    monkeypatch.setattr(semtube.rhm.sizes, "physical_memory", lambda: 1000)
    with pytest.raises(UserError, match="50 strings of 8 tokens and their latents would take"):
        recover(LatentClustering("latent"), grammar, latents)


def test_features_that_do_not_fit_are_refused(monkeypatch):
    grammar = draw(8, 4, 2, 2)
    latents = grammar.sample(500, np.random.default_rng(0))
    # The strings take 7 kB; 4 blocks of 32 tuples with 8 frequencies, six times: 48 kB.
    monkeypatch.setattr(semtube.rhm.sizes, "physical_memory", lambda: 20_000)
    with pytest.raises(UserError, match="the features of 32 tuples would take"):
        recover(LatentClustering("latent"), grammar, latents)


def accuracies(target: str, *, v, m, depth, num_strings, num_grammars) -> np.ndarray:
    cells = ilc_cells(
        LatentClustering(target), num_features=v, num_synonyms=m, branching=2, depth=depth,
        num_strings=[num_strings], num_grammars=num_grammars, seed=1,
    )  # fmt: skip
    return np.array([run_ilc_cell(cell)["accuracy"][-1] for cell in cells])


def test_own_latents_need_fewer_strings_than_tokens():
    """The demonstration: same strings, same algorithm, one number of strings; two seconds."""
    sizes = dict(v=16, m=4, depth=4, num_strings=4096, num_grammars=10)
    latent, token = accuracies("latent", **sizes), accuracies("token", **sizes)
    assert np.median(latent) >= 0.9
    assert np.median(token) <= 0.45
    assert (latent > token).all()


def test_recovery_at_eight_times_the_threshold():
    latent = accuracies("latent", v=8, m=4, depth=3, num_strings=4096, num_grammars=20)
    assert np.median(latent) == 1
    assert latent.min() > 0.8


@pytest.mark.slow
def test_one_depth_of_set_a_takes_seconds():
    from semtube.rhm.acceptance import Curve

    cells = Curve("latent", 4, 6).cells()
    assert len(cells) == 14 * 4
    run_ilc_cell(cells[0])
    begin = time.process_time()
    for cell in cells:
        run_ilc_cell(cell)
    assert time.process_time() - begin < 10


@pytest.mark.slow
def test_a_million_strings_fit_in_two_gigabytes():
    import resource

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    cell = ilc_cells(
        LatentClustering("token"), num_features=16, num_synonyms=4, branching=2, depth=5,
        num_strings=[10**6], num_grammars=1, seed=0,
    )[0]  # fmt: skip
    run_ilc_cell(cell)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2 * 10**6
