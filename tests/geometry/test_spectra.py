"""Spectra that are known, streaming against one batch, and what noise looks like."""

import math

import pytest
import torch
from torch import Tensor

from semtube.geometry.moments import Moments, singular_values
from semtube.geometry.spectra import (
    SpectrumOfStates,
    effective_rank,
    gaussian_rows,
    independent_coordinates,
    spectral_tail,
)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def with_spectrum(values_K: Tensor, num_rows: int) -> Tensor:
    """Centred states of just these singular values, in directions across the axes."""
    left = normal(num_rows, len(values_K))
    left = torch.linalg.qr(left - left.mean(0)).Q
    right = torch.linalg.qr(normal(len(values_K), len(values_K), seed=1)).Q
    return left * values_K @ right.T


def spectrum(*batches: Tensor):
    states = SpectrumOfStates()
    for batch in batches:
        states.add(batch)
    return states.result()


@pytest.mark.parametrize("far", [0.0, 1e5])
@pytest.mark.parametrize("cuts", [[50], [1, 0, 20, 29], [1] * 50])
def test_streamed_moments_are_those_of_one_batch(far, cuts):
    rows_ND = normal(50, 7) * torch.arange(1.0, 8) + far
    moments = Moments()
    for batch in rows_ND.split(cuts):
        moments.add(batch)
    mean_D = rows_ND.mean(0)
    centred_ND = rows_ND - mean_D
    assert moments.num_rows == 50
    torch.testing.assert_close(moments.mean_D, mean_D, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(moments.scatter_DD, centred_ND.T @ centred_ND, rtol=1e-9, atol=1e-8)
    torch.testing.assert_close(moments.gram_DD, rows_ND.T @ rows_ND, rtol=1e-11, atol=1e-8)


def test_streamed_spectra_are_those_of_one_batch_in_flat_memory():
    rows_ND = normal(400, 12) @ normal(12, 12, seed=1) + 3
    whole, streamed = spectrum(rows_ND), spectrum(*rows_ND.split(37))
    assert streamed.num_rows == whole.num_rows == 400
    torch.testing.assert_close(streamed.singular_values, whole.singular_values)
    centred = rows_ND - rows_ND.mean(0)
    torch.testing.assert_close(whole.singular_values, torch.linalg.svdvals(centred))
    for name in ("effective_rank", "first_share", "anisotropy"):
        assert getattr(streamed, name) == pytest.approx(getattr(whole, name), rel=1e-12)

    def held(states: SpectrumOfStates) -> int:
        tensors = [*vars(states).values(), *vars(states._moments).values()]
        return sum(x.numel() for x in tensors if isinstance(x, Tensor))

    states = SpectrumOfStates()
    states.add(rows_ND[:3])
    first = held(states)
    for batch in rows_ND.split(5):
        states.add(batch)
    assert held(states) == first == 12 * 12 + 2 * 12


def test_known_ranks_and_shares():
    flat = spectrum(with_spectrum(torch.ones(6, dtype=torch.float64), 40))
    assert flat.effective_rank == pytest.approx(6)
    assert flat.first_share == pytest.approx(1 / 6)
    two = spectrum(with_spectrum(torch.tensor([3.0, 1.0], dtype=torch.float64), 40))
    entropy = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))
    assert two.effective_rank == pytest.approx(math.exp(entropy))
    assert two.first_share == pytest.approx(0.9)
    line = spectrum(normal(40, 1) * torch.tensor([[1.0, 2.0, 3.0]]) + 1)
    assert line.effective_rank == pytest.approx(1, abs=1e-6)
    assert line.first_share == pytest.approx(1)
    assert effective_rank(torch.zeros(4)) == 0


def test_anisotropy_is_the_mean_cosine_of_all_pairs():
    states_ND = normal(30, 5) + torch.tensor([1.0, 0, 0, 0, 0])
    unit_ND = states_ND / states_ND.norm(dim=1, keepdim=True)
    cosines = [float(unit_ND[i] @ unit_ND[j]) for i in range(30) for j in range(i)]
    found = spectrum(*torch.cat([states_ND, torch.zeros(2, 5)]).split(7))
    assert found.anisotropy == pytest.approx(sum(cosines) / len(cosines))
    assert found.num_without_direction == 2
    assert spectrum(torch.ones(4, 3)).anisotropy == pytest.approx(1)
    assert spectrum(torch.tensor([[1.0, 0], [-1, 0]])).anisotropy == pytest.approx(-1)


@pytest.mark.parametrize("value", [0.0, 0.1, 1 / 3, 1e4 / 3])
def test_equal_states_have_no_spectrum(value):
    # Means of 7 and 49 equal numbers are not always that number.
    batches = [torch.full((n, 4), value, dtype=torch.float64) for n in (7, 49, 11)]
    found = spectrum(*batches)
    assert found.effective_rank == found.first_share == 0
    assert found.tail() is None
    assert (found.anisotropy is None) is (value == 0)


def test_states_equal_up_to_float32_have_no_spectrum():
    one_D = normal(64).float()
    # Rounding of a deep model: differences of 1e-6 of the state.
    states_ND = one_D * (1 + 1e-6 * normal(300, 64, seed=1).float())
    assert len(states_ND.unique(dim=0)) == 300
    found = spectrum(states_ND)
    assert found.effective_rank == found.first_share == 0
    assert found.tail() is None
    assert not found.singular_values.any()
    assert found.anisotropy == pytest.approx(1)
    apart = spectrum(one_D * (1 + 1e-3 * normal(300, 64, seed=1).float()))
    assert apart.effective_rank > 30


def test_a_power_law_is_found_exactly():
    values_K = torch.arange(1.0, 513, dtype=torch.float64) ** -1.5
    found = spectrum(*with_spectrum(values_K, 1024).split(300)).tail()
    assert found.slope == pytest.approx(1.5, abs=1e-6)
    assert found.r_squared == pytest.approx(1)
    assert found.is_power_law
    assert (found.first_rank, found.last_rank) == (51, 307)
    flat = spectral_tail(torch.ones(100), 1000)
    assert flat.slope == pytest.approx(0)
    assert not flat.is_power_law


@pytest.mark.parametrize(
    ("num_rows", "power_law", "noise"), [(1024, 1.57, 0.34), (2048, 1.53, 0.24), (4096, 1.51, 0.17)]
)
def test_tails_of_gaussian_rows_depend_on_their_number(num_rows, power_law, noise):
    rows_ND = gaussian_rows(num_rows, 512, seed=num_rows)
    found = spectrum(rows_ND * torch.arange(1.0, 513) ** -1.5).tail()
    assert found.slope == pytest.approx(power_law, abs=0.01)
    assert found.is_power_law
    null = spectrum(rows_ND).tail()
    assert null.slope == pytest.approx(noise, abs=0.01)
    assert 0.93 < null.r_squared < 0.97
    assert not null.is_power_law


def test_ranks_that_the_rows_cannot_fill_are_left_out():
    found = spectrum(gaussian_rows(101, 512)).tail()
    assert (found.first_rank, found.last_rank) == (10, 60)
    assert spectrum(gaussian_rows(3, 512)).tail() is None
    for window in ((0.5, 0.5), (-0.1, 0.5), (0.2, 1.1)):
        with pytest.raises(ValueError, match="window is"):
            spectral_tail(torch.ones(9), 9, window)


def test_independent_coordinates_keep_variances_and_lose_directions():
    states_ND = (3 + normal(500, 1) * torch.arange(1.0, 9)).float()
    states = SpectrumOfStates()
    for batch in states_ND.split(123):
        states.add(batch)
    deviation_D = states.deviation_D
    assert torch.allclose(deviation_D, states_ND.double().std(0, correction=0))
    null = independent_coordinates(deviation_D, 2000, seed=2)
    assert spectrum(states_ND).first_share == pytest.approx(1)
    # The largest of the variances 1, 4, .. 64 over their sum.
    assert null.first_share == pytest.approx(64 / 204, abs=0.05)
    assert null.anisotropy is None
    again = independent_coordinates(deviation_D, 2000, seed=2)
    assert torch.equal(null.singular_values, again.singular_values)
    point = independent_coordinates(torch.zeros(8), 2000)
    assert (point.effective_rank, point.first_share) == (0, 0)


@pytest.mark.parametrize("outliers", [False, True])
def test_independent_coordinates_have_the_spectrum_of_shuffled_ones(outliers):
    """Of correlated, skewed states, with a mean: what the null stands for, done by hand."""
    states_ND = normal(4000, 16).exp() @ normal(16, 32) + 1
    if outliers:  # as the massive activations of large models
        states_ND[::50, 3] = 300
    states = SpectrumOfStates()
    states.add(states_ND)
    null = independent_coordinates(states.deviation_D, 4000, seed=3)
    shuffled = spectrum(torch.stack([column[torch.randperm(4000)] for column in states_ND.T], 1))
    own = spectrum(states_ND)
    assert null.effective_rank == pytest.approx(shuffled.effective_rank, rel=0.02)
    assert null.first_share == pytest.approx(shuffled.first_share, rel=0.1)
    assert own.effective_rank < 0.8 * shuffled.effective_rank


def test_no_rows_and_other_widths_are_refused():
    with pytest.raises(ValueError, match="no rows"):
        SpectrumOfStates().result()
    moments = Moments()
    moments.add(torch.zeros(0, 3))
    with pytest.raises(ValueError, match="there is no mean"):
        _ = moments.mean_D
    moments.add(torch.zeros(2, 3))
    with pytest.raises(ValueError, match="width 4: wanted 3"):
        moments.add(torch.zeros(2, 4))
    with pytest.raises(ValueError, match="wanted rows"):
        moments.add(torch.zeros(2))
    with pytest.raises(ValueError, match="row 1 is not finite"):
        moments.add(torch.tensor([[0.0, 1, 2], [0, torch.nan, 0]]))
    assert singular_values(torch.zeros(3, 3)).tolist() == [0, 0, 0]
