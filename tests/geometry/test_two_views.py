"""Residuals and singular values against torch's own, and views that know nothing of each other."""

import math

import pytest
import torch
from torch import Tensor

from semtube.geometry.two_views import TwoViews


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def fit(prompt_ND: Tensor, answer_ND: Tensor, batch: int = 1000, top: int = 100):
    views = TwoViews(top)
    for pair in zip(prompt_ND.split(batch), answer_ND.split(batch), strict=True):
        views.add(*pair)
    return views.result()


@pytest.mark.parametrize("batch", [1, 17, 1000])
def test_all_numbers_equal_those_of_whole_matrices(batch):
    prompt_ND, noise_ND = normal(90, 8) + 2, normal(90, 8, seed=1)
    answer_ND = prompt_ND @ normal(8, 8, seed=2) + noise_ND - 5
    found = fit(prompt_ND, answer_ND, batch)
    apart_ND = prompt_ND - answer_ND
    torch.testing.assert_close(found.raw, torch.linalg.svdvals(apart_ND))
    unit_ND = apart_ND / apart_ND.norm(dim=1, keepdim=True)
    torch.testing.assert_close(found.normalised, torch.linalg.svdvals(unit_ND))
    solution = torch.linalg.lstsq(prompt_ND, answer_ND).solution
    residual = float((prompt_ND @ solution - answer_ND).norm())
    assert found.residual == pytest.approx(residual, rel=1e-8)
    with_one_ND = torch.cat([prompt_ND, torch.ones(90, 1)], 1).double()
    rest_ND = with_one_ND @ torch.linalg.lstsq(with_one_ND, answer_ND).solution - answer_ND
    spread = float((answer_ND - answer_ND.mean(0)).square().sum())
    assert found.residual_share == pytest.approx(float(rest_ND.square().sum()) / spread)
    assert found.num_examples == 90
    assert found.num_alike == 0


def test_a_linear_map_leaves_nothing_and_scale_does_not_matter():
    prompt_ND = normal(60, 5)
    assert fit(prompt_ND, prompt_ND @ normal(5, 5, seed=1)).residual_share < 1e-12
    answer_ND = normal(60, 5, seed=2)
    large, small = fit(prompt_ND, answer_ND), fit(prompt_ND * 1e-3, answer_ND * 1e-3)
    assert small.residual == pytest.approx(large.residual * 1e-3)
    assert small.residual_share == pytest.approx(large.residual_share)


def test_views_apart_from_each_other_have_the_share_of_the_null():
    # Views that belong together, far from 0 and of very unlike variances, dealt out anew.
    prompt_ND = normal(100, 20) + 30
    answer_ND = (prompt_ND @ normal(20, 20, seed=1)) * torch.arange(1.0, 21) ** 2 - 500
    apart = fit(prompt_ND, answer_ND)
    assert apart.null_share == pytest.approx(1 - 20 / 99)
    assert apart.residual_share < 1e-9
    generator = torch.Generator().manual_seed(2)
    values = torch.tensor(
        [
            fit(prompt_ND, answer_ND[torch.randperm(100, generator=generator)]).residual_share
            for _ in range(100)
        ]
    )
    error = float(values.std()) / 10
    assert float(values.mean()) == pytest.approx(apart.null_share, abs=4 * error)


def test_nulls_are_those_of_answers_dealt_out_anew():
    prompt_ND = normal(60, 6) + 2
    answer_ND = prompt_ND @ normal(6, 6, seed=1) + normal(60, 6, seed=2) - 1
    found = fit(prompt_ND, answer_ND)
    generator = torch.Generator().manual_seed(3)
    dealt = [fit(prompt_ND, answer_ND[torch.randperm(60, generator=generator)]) for _ in range(200)]
    squared = torch.tensor([each.residual**2 for each in dealt])
    error = float(squared.std()) / math.sqrt(200)
    assert found.null_residual**2 == pytest.approx(float(squared.mean()), abs=4 * error)
    assert found.residual < 0.7 * found.null_residual
    square_RK = torch.stack([each.raw.square() for each in dealt])
    # The null's squares add up to the mean of those of the dealt out ones, whatever their order.
    error = float(square_RK.sum(1).std()) / math.sqrt(200)
    null = float(found.null_raw.square().sum())
    assert null == pytest.approx(float(square_RK.sum(1).mean()), abs=4 * error)
    assert float(found.null_raw.mean()) == pytest.approx(
        float(torch.stack([each.raw for each in dealt]).mean()), rel=0.02
    )


def test_few_examples_for_the_width_are_told():
    assert fit(normal(79, 20), normal(79, 20, seed=1)).is_sparse
    enough = fit(normal(80, 20), normal(80, 20, seed=1))
    assert not enough.is_sparse
    assert enough.num_free == 80 - 1 - 20


@pytest.mark.parametrize("which", ["prompt", "answer"])
def test_views_equal_but_for_rounding_have_no_share(which):
    views = {"prompt": normal(40, 5), "answer": normal(40, 5, seed=1)}
    views[which] = views[which][:1] * (1 + 1e-6 * views[which])
    found = fit(views["prompt"], views["answer"])
    assert (found.residual_share, found.null_share) == (None, None)
    alike = fit(views[which] + 5, (views[which] + 5) * (1 + 1e-6 * normal(40, 5, seed=2)))
    assert alike.num_alike == 40


@pytest.mark.parametrize("number", [6, 20, 21])
def test_with_too_few_examples_any_map_fits_and_nothing_is_said(number):
    few = fit(normal(number, 20), normal(number, 20, seed=1))
    assert (few.residual_share, few.null_share) == (None, None)
    enough = fit(normal(22, 20), normal(22, 20, seed=1))
    assert enough.null_share == pytest.approx(1 / 21)


def test_collapsed_and_equal_views():
    prompt_ND = normal(30, 1) * torch.arange(1.0, 5)  # of rank 1
    found = fit(prompt_ND, normal(30, 4, seed=1))
    assert found.null_share == pytest.approx(1 - 1 / 29)
    assert math.isfinite(found.residual)
    same = fit(normal(4, 3), normal(4, 3))
    assert same.num_alike == 4
    assert same.raw.tolist() == same.normalised.tolist() == [0, 0, 0]
    assert fit(torch.zeros(4, 3), torch.zeros(4, 3)).residual_share is None


def test_one_direction_of_difference_is_one_singular_value():
    prompt_ND, step_D = normal(25, 6), torch.tensor([0.0, 3, 0, 0, 4, 0])
    found = fit(prompt_ND, prompt_ND + step_D, top=3)
    torch.testing.assert_close(
        found.raw, torch.tensor([25.0, 0, 0], dtype=torch.float64), atol=1e-6, rtol=0
    )
    assert float(found.normalised[0]) == pytest.approx(5)


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match="two views of one shape"):
        TwoViews().add(torch.zeros(2, 3), torch.zeros(3, 3))
    with pytest.raises(ValueError, match="no rows"):
        TwoViews().result()
