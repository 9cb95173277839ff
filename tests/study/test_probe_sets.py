"""A probe's numbers of states as a set, from states put there by hand: values, reasons, nulls.

Shape letters: N states, D hidden size.
"""

from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

pytest.importorskip("transformers")
from semtube.geometry.nulls import NullValue
from semtube.study import probe_nulls
from semtube.study.checkpoint_probe import LayerSums
from semtube.study.probe_sets import _tell, _transport_places, cheap_sets, dear_sets, drifts


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def equal(number: int, width: int) -> Tensor:
    """Equal but for rounding."""
    return normal(width) * (1 + 1e-6 * normal(number, width, seed=1))


def probe_of(states_ND: Tensor) -> SimpleNamespace:
    """What the sets are read from, with these states in its one layer, 4 in each row."""
    sums = LayerSums()
    sums.spectrum.add(states_ND)
    sums.concepts.add(["a", "a", "b", "b"], states_ND[:4] - states_ND[4:8])
    sums.states = dict(enumerate(states_ND))
    rows = [SimpleNamespace(input_ids=[0, 1, 2, 1, 2, 1]) for _ in range(len(states_ND) // 4)]
    positions = [(n // 4, n % 4) for n in range(len(states_ND))]
    return SimpleNamespace(
        name="a", sums={"last": sums}, rows=rows, num_without_views=len(rows), layers=["last"],
        positions=positions, options=SimpleNamespace(seed=0, measures="all"),
        has_tokens_of=lambda other: True,
    )  # fmt: skip


@pytest.fixture
def no_model(monkeypatch) -> None:
    """Transport needs a model's head; all else its states."""
    monkeypatch.setattr("semtube.study.probe_sets._transports", lambda probe, reasons: [])


def values(rows) -> dict[tuple[str, str], float]:
    return {(row.measure, row.null): row.value for row in rows}


def test_a_tail_that_is_no_power_law_is_told_with_its_fit() -> None:
    reasons: dict[str, str] = {}
    found = values(cheap_sets(probe_of(normal(400, 40)), reasons)[0])
    r_squared = found["spectral_tail_r_squared", ""]
    assert 0.9 < r_squared < 0.99
    assert ("spectral_tail", "") not in found
    assert reasons == {"spectral_tail": f"layer last: no power law (R^2 {r_squared:.3f})"}
    reasons = {}
    falling = normal(8000, 40) * torch.arange(1.0, 41) ** -1.5
    found = values(cheap_sets(probe_of(falling), reasons)[0])
    assert found["spectral_tail", ""] == pytest.approx(1.5, abs=0.1)
    assert found["spectral_tail_r_squared", ""] >= 0.99
    assert reasons == {}


def test_a_reason_of_several_layers_is_told_once() -> None:
    reasons: dict[str, str] = {}
    for layer, why in (("1", "equal"), ("2", "equal"), ("last", "too few")):
        _tell(reasons, "capacity", layer, why)
    assert reasons == {"capacity": "layer 1, 2: equal; layer last: too few"}


def test_equal_states_have_reasons_for_what_they_lack(no_model) -> None:
    probe, reasons = probe_of(equal(80, 16)), {}
    found = values(cheap_sets(probe, reasons)[0])
    assert found.keys() == {("effective_rank", ""), ("first_share", ""), ("anisotropy", "")}
    assert found["effective_rank", ""] == 0
    why = "layer last: the states are equal but for rounding"
    assert reasons == {"spectral_tail": why, "concepts": why}
    reasons = {}
    assert list(dear_sets(probe, reasons)) == []
    assert reasons["capacity"] == reasons["feature_stability"] == why
    reasons = {}
    assert drifts(probe, probe_of(normal(80, 16)), reasons) == []
    assert reasons == {"drift": why}


def test_views_have_the_numbers_of_the_papers_and_a_share_where_rows_are_enough() -> None:
    prompt_ND, answer_ND = normal(64, 16) + 1, normal(64, 16, seed=1)
    probe = probe_of(normal(80, 16))
    probe.num_without_views = 0
    probe.sums["last"].views.add(prompt_ND, answer_ND)
    reasons: dict[str, str] = {}
    found = values(cheap_sets(probe, reasons)[0])
    mean = float(torch.linalg.svdvals(prompt_ND - answer_ND).mean())
    assert found["views_mean_singular_value", ""] == pytest.approx(mean)
    rest = prompt_ND @ torch.linalg.lstsq(prompt_ND, answer_ND).solution - answer_ND
    assert found["views_residual", ""] == pytest.approx(float(rest.norm()), rel=1e-5)
    for measure in ("views_mean_singular_value", "views_residual", "views_residual_share"):
        # The views have nothing to do with each other.
        null = found[measure, "answers dealt out anew"]
        assert found[measure, ""] == pytest.approx(null, rel=0.1)
    assert "views_residual_share" not in reasons
    probe = probe_of(normal(80, 16))
    probe.num_without_views = 0
    probe.sums["last"].views.add(prompt_ND[:63], answer_ND[:63])
    found = values(cheap_sets(probe, reasons)[0])
    assert ("views_residual", "") in found
    assert not [key for key in found if key[0] == "views_residual_share"]
    assert reasons["views_residual_share"].endswith("raise --limit to 64 or more")


def test_stability_stands_beside_the_raw_one(no_model) -> None:
    # Two axes carry all: as they are the halves share them or not, turned they do.
    states_ND = 0.01 * normal(120, 32)
    states_ND[:, :2] += normal(120, 2, seed=1)
    found = values(dear_sets(probe_of(states_ND), {}))
    assert found["feature_stability", ""] > found["feature_stability_raw", ""] + 0.2


@pytest.mark.parametrize("number", [6, 40, 1000])
def test_transports_positions_are_of_all_rows_and_pairs_of_two(number) -> None:
    positions = [(row, token) for row in range(number) for token in range(10)]
    probe = SimpleNamespace(positions=positions, options=SimpleNamespace(seed=0))
    places, other, is_other = _transport_places(probe)
    assert len(places) == min(256, 10 * number)
    assert len(set(places.tolist())) == len(places)
    rows = [positions[place][0] for place in places.tolist()]
    quarters = [sum(4 * row // number == quarter for row in rows) for quarter in range(4)]
    assert min(quarters) > len(places) / 8
    assert is_other.all()
    assert all(rows[k] != rows[j] for k, j in enumerate(other.tolist()))
    alone = SimpleNamespace(positions=positions[:10], options=SimpleNamespace(seed=0))
    assert not _transport_places(alone)[2].any()


def test_a_null_outside_its_range_is_shown_as_it_is() -> None:
    def shown(measure: str, values: list[float]) -> list[float]:
        value = torch.tensor(values, dtype=torch.float64).squeeze()
        found = NullValue(value, value, torch.ones_like(value, dtype=torch.bool))
        return [row.value for row in probe_nulls._rows("a", "", "b", measure, found, 1.0)]

    assert shown("tube_loss", [-1e-8]) == [0]
    assert shown("lemma_largest_ratio", [0.5, 1 + 1e-9, 1.2, 1, 0]) == [0.5, 1, 1.2, 1, 0]
