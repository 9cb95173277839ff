"""Mean cosines of displacements against plain loops."""

from itertools import combinations

import pytest
import torch

from semtube.geometry.concepts import ConceptDirectionsOfPhrases


def cosine(first, second) -> float:
    return float(torch.cosine_similarity(first, second, dim=0))


@pytest.mark.parametrize("batch", [1, 4, 100])
def test_cosines_equal_plain_loops(batch):
    generator = torch.Generator().manual_seed(0)
    phrases = ["a", "b", "a", "c", "b", "a", "d", "d", "a", "b"]
    rows = torch.randn(10, 4, generator=generator, dtype=torch.float64) + 0.5
    rows[5] = 0
    concepts = ConceptDirectionsOfPhrases()
    for start in range(0, 10, batch):
        concepts.add(phrases[start : start + batch], rows[start : start + batch])
    found = concepts.result()
    pairs = [(i, j) for i, j in combinations(range(10), 2) if 5 not in (i, j)]
    for name in "abd":
        within = [cosine(rows[i], rows[j]) for i, j in pairs if phrases[i] == phrases[j] == name]
        assert found.within[name] == pytest.approx(sum(within) / len(within))
    across = []
    for one, other in combinations("abcd", 2):
        between = [
            cosine(rows[i], rows[j]) for i, j in pairs if {phrases[i], phrases[j]} == {one, other}
        ]
        across.append(sum(between) / len(between))
    assert found.across == pytest.approx(sum(across) / len(across))
    assert set(found.within) == set("abd")
    assert (found.num_left_out, found.num_still) == (1, 1)


def test_one_direction_and_its_opposite():
    concepts = ConceptDirectionsOfPhrases()
    concepts.add(["x", "x", "y", "y"], torch.tensor([[1.0, 0], [3, 0], [0, 1], [0, -2]]))
    found = concepts.result()
    assert found.within == pytest.approx({"x": 1, "y": -1})
    assert found.across == pytest.approx(0)


def test_a_frequent_phrase_counts_no_more_than_a_rare_one():
    concepts = ConceptDirectionsOfPhrases()
    one, near, other = torch.tensor([[1.0, 0, 0], [1, 0.1, 0], [0, 0, 1]])
    concepts.add(["a"] * 100, one.expand(100, 3))
    concepts.add(["b"] * 100, near.expand(100, 3))
    concepts.add(["c"] * 2, other.expand(2, 3))
    assert concepts.result().across == pytest.approx(cosine(one, near) / 3, abs=1e-6)


def test_nothing_and_one_phrase():
    concepts = ConceptDirectionsOfPhrases()
    assert concepts.result().within == {}
    concepts.add(["x"], torch.ones(1, 2))
    found = concepts.result()
    assert (found.within, found.across, found.num_left_out) == ({}, None, 1)
    with pytest.raises(ValueError, match="wanted displacements"):
        concepts.add(["x"], torch.ones(2, 2))
