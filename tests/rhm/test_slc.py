"""SLC: shapes, losses against plain loops, where gradients stop, codes in use."""

import math
from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F

from semtube.rhm.slc import (
    ClusteringWeights,
    PatchModule,
    StackedLatentClustering,
    clustering_loss,
    cousin_tokens,
    effective_codes,
    leaf_targets,
    level_losses,
    prediction_loss,
    similarity,
)

WEIGHTS = ClusteringWeights(threshold=0.6, separation=0.5, sparsity=0.1)


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def network(branching=2, depth=3, codebook_size=7, hidden_size=5) -> StackedLatentClustering:
    torch.manual_seed(0)
    return StackedLatentClustering(
        branching=branching, depth=depth, codebook_size=codebook_size, hidden_size=hidden_size
    )


def tokens(num_strings=6, num_tokens=8, num_features=4, seed=0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(num_features, (num_strings, num_tokens), generator=generator)


@pytest.mark.parametrize(("branching", "depth"), [(2, 2), (2, 4), (3, 3)])
def test_level_l_has_s_to_the_L_minus_l_tokens(branching, depth):
    outputs = network(branching, depth)(tokens(3, branching**depth))
    assert len(outputs) == depth - 1
    for level, output in enumerate(outputs):
        num_patches = branching ** (depth - level - 1)
        assert output.inputs_BND.shape == (3, num_patches * branching, 7)
        cousins = (branching, branching - 1, branching, 7)
        assert output.logits_BUrqtD.shape == (3, num_patches, *cousins)
        assert output.predictions_BUF.shape == (3, num_patches, math.prod(cousins))
        assert output.codes_BUD.shape == (3, num_patches, 7)
        torch.testing.assert_close(output.codes_BUD.sum(-1), torch.ones(3, num_patches))
    for below, above in pairwise(outputs):
        assert above.inputs_BND is below.codes_BUD


def test_a_patch_is_read_as_a_convolution_reads_it():
    module = PatchModule(branching=3, codebook_size=4, hidden_size=5)
    inputs = random(2, 9, 4).float()
    linear = module.predictor[0]
    convolution = torch.nn.Conv1d(4, 5, kernel_size=3, stride=3)
    convolution.weight.data = linear.weight.data.view(5, 3, 4).transpose(1, 2)
    convolution.bias.data = linear.bias.data
    expected = convolution(inputs.transpose(1, 2)).transpose(1, 2)
    torch.testing.assert_close(linear(inputs.reshape(2, 3, 12)), expected)


def looped_prediction_loss(logits, targets):
    """Eq. 5, one number at a time."""
    num_strings, num_patches, s = logits.shape[:3]
    num_groups, num_codes = num_patches // s, logits.shape[-1]
    total = torch.zeros((), dtype=logits.dtype)
    for b in range(num_strings):
        for g in range(num_groups):
            for r in range(s):
                for other in range(s):
                    if other == r:
                        continue
                    place = other if other < r else other - 1
                    for t in range(s):
                        scores = logits[b, g * s + r, r, place, t]
                        log_sum = torch.logsumexp(scores, 0)
                        target = targets[b, (g * s + other) * s + t]
                        for a in range(num_codes):
                            total = total - target[a] * (scores[a] - log_sum)
    return total / (num_strings * num_groups * s)


@pytest.mark.parametrize("branching", [2, 3])
def test_the_prediction_loss_and_its_gradients_are_those_of_the_plain_loops(branching):
    s = branching
    logits = random(2, 2 * s, s, s - 1, s, 4).requires_grad_()
    targets = random(2, 2 * s * s, 4, seed=1).softmax(-1).requires_grad_()
    loss, expected = prediction_loss(logits, targets), looped_prediction_loss(logits, targets)
    torch.testing.assert_close(loss, expected)
    got = torch.autograd.grad(loss, (logits, targets))
    for mine, plain in zip(got, torch.autograd.grad(expected, (logits, targets)), strict=True):
        torch.testing.assert_close(mine, plain)
        assert mine.abs().max() > 0
    for patch in range(2 * s):
        for place in range(s):
            assert (got[0][:, patch, place].abs().max() > 0) == (place == patch % s)


def test_a_right_and_sure_prediction_costs_nothing_and_a_flat_one_ln_d_a_token():
    targets = F.one_hot(tokens(2, 8, 4), 5).double()
    cousins = cousin_tokens(targets, 2).flatten(1, 2)
    right = (100 * cousins)[:, :, None].expand(-1, -1, 2, -1, -1, -1)
    assert prediction_loss(right, targets) < 1e-12
    flat = prediction_loss(torch.zeros_like(right), targets)
    assert flat == pytest.approx(2 * math.log(5))


def test_cousins_are_the_other_patches_of_the_group_in_order():
    numbers = torch.arange(18.0).view(1, 18, 1)
    cousins = cousin_tokens(numbers, 3)[0, ..., 0]
    assert cousins.shape == (2, 3, 2, 3)
    assert cousins[0, 0].tolist() == [[3, 4, 5], [6, 7, 8]]
    assert cousins[0, 1].tolist() == [[0, 1, 2], [6, 7, 8]]
    assert cousins[1, 2].tolist() == [[9, 10, 11], [12, 13, 14]]


def test_similarity_is_one_along_a_half_across_and_zero_against():
    mean = torch.tensor([1.0, 1.0])
    points = mean + torch.tensor([[1.0, 0.0], [3.0, 0.0], [0.0, 2.0], [-5.0, 0.0], [0.0, 0.0]])
    expected = torch.tensor(
        [
            [1.0, 1.0, 0.5, 0.0, 0.5],
            [1.0, 1.0, 0.5, 0.0, 0.5],
            [0.5, 0.5, 1.0, 0.5, 0.5],
            [0.0, 0.0, 0.5, 1.0, 0.5],
            [0.5, 0.5, 0.5, 0.5, 0.5],
        ]
    )
    torch.testing.assert_close(similarity(points, mean), expected)


def looped_clustering_loss(codes, alike, weights):
    """Eqs. 9-11, pair by pair."""
    count = len(codes)
    total = torch.zeros((), dtype=codes.dtype)
    for i in range(count):
        for j in range(count):
            pull = bool(alike[i, j] > weights.threshold)
            distance = ((codes[i] - codes[j]) ** 2).sum()
            product = (codes[i] * codes[j]).sum()
            total = total + distance * (alike[i, j] - weights.threshold) * pull / count**2
            total = total + weights.separation * product * (1 - alike[i, j]) / count**2
        total = total - weights.sparsity * (codes[i] * codes[i]).sum() / count
    return total


def test_the_clustering_loss_and_its_gradients_are_those_of_the_plain_loops():
    codes = random(9, 4).softmax(-1).requires_grad_()
    alike = random(9, 9, seed=1).sigmoid().requires_grad_()
    assert (alike > WEIGHTS.threshold).any()
    assert (alike < WEIGHTS.threshold).any()
    loss = clustering_loss(codes, alike, WEIGHTS)
    expected = looped_clustering_loss(codes, alike, WEIGHTS)
    torch.testing.assert_close(loss, expected)
    got = torch.autograd.grad(loss, (codes, alike))
    for mine, plain in zip(got, torch.autograd.grad(expected, (codes, alike)), strict=True):
        torch.testing.assert_close(mine, plain)


def test_right_clusters_cost_least():
    # Two kinds of patches whose predictions point opposite ways.
    alike = torch.block_diag(torch.ones(3, 3), torch.ones(3, 3))
    split = F.one_hot(torch.tensor([0, 0, 0, 1, 1, 1]), 4).float()
    merged = F.one_hot(torch.zeros(6, dtype=torch.long), 4).float()
    apart = F.one_hot(torch.tensor([0, 1, 2, 3, 3, 3]), 4).float()
    right = clustering_loss(split, alike, WEIGHTS)
    assert right == pytest.approx(-WEIGHTS.sparsity)
    assert clustering_loss(merged, alike, WEIGHTS) == pytest.approx(0.5 * 0.5 - 0.1)
    assert clustering_loss(apart, alike, WEIGHTS) == pytest.approx(6 * 2 * 0.4 / 36 - 0.1)


def test_gradients_stop_where_they_are_told_to():
    student = network()

    def gradients(which, **stops):
        outputs = student(tokens(), **stops)
        stop = stops.get("stop_before_clusterer", False)
        losses = level_losses(
            outputs[1], outputs[1], outputs[1].inputs_BND, None, WEIGHTS, stop_before_clusterer=stop
        )
        student.zero_grad()
        losses[which].backward()
        low, high = student.levels
        parts = {"low": low, "predictor": high.predictor, "clusterer": high.clusterer}
        return {
            name: any(p.grad is not None and p.grad.abs().max() > 0 for p in part.parameters())
            for name, part in parts.items()
        }

    everywhere = {"low": True, "predictor": True, "clusterer": True}
    assert gradients(1) == everywhere
    assert gradients(1, stop_between_modules=True) == everywhere | {"low": False}
    cut = {"stop_between_modules": True, "stop_before_clusterer": True}
    assert gradients(1, **cut) == {"low": False, "predictor": False, "clusterer": True}
    assert gradients(0, **cut) == {"low": False, "predictor": True, "clusterer": False}
    assert gradients(0)["low"]


def test_the_similarity_is_the_teachers_and_the_codes_are_the_students():
    student, teacher = network(), network()
    with torch.no_grad():
        for weights in teacher.parameters():
            weights.add_(0.3 * torch.randn_like(weights))
    own, other = student(tokens())[0], teacher(tokens())[0]
    chosen = torch.tensor([1, 4, 7, 20])
    _, loss = level_losses(own, other, own.inputs_BND, chosen, WEIGHTS)
    predictions = other.predictions_BUF.flatten(0, 1)
    alike = similarity(predictions[chosen], predictions.mean(0))
    codes = own.codes_BUD.flatten(0, 1)[chosen]
    torch.testing.assert_close(loss, looped_clustering_loss(codes, alike, WEIGHTS))


def test_nothing_is_changed_in_place():
    student, strings = network(), tokens()
    outputs = student(strings)
    kept = [x.clone() for output in outputs for x in vars(output).values()]
    losses = [
        loss
        for output in outputs
        for loss in level_losses(output, output, output.inputs_BND, None, WEIGHTS)
    ]
    torch.stack(losses).sum().backward()
    now = [x for output in outputs for x in vars(output).values()]
    assert all(torch.equal(a, b) for a, b in zip(kept, now, strict=True))
    assert torch.equal(strings, tokens())


def test_the_control_predicts_the_first_leaf_below_each_token():
    strings = torch.arange(16).view(1, 16) % 7
    low, middle, high = leaf_targets(strings, 3, 2, 8)
    assert low.argmax(-1).tolist() == strings.tolist()
    assert middle.argmax(-1).tolist() == strings[:, ::2].tolist()
    assert high.argmax(-1).tolist() == strings[:, ::4].tolist()
    assert all(level.sum(-1).eq(1).all() and level.shape[-1] == 8 for level in (low, middle, high))


def test_effective_codes_count_what_is_used():
    assert effective_codes(torch.zeros(4, 5, dtype=torch.long)) == 1
    assert effective_codes(torch.arange(12).view(3, 4) % 6) == pytest.approx(6)
    lopsided = effective_codes(torch.tensor([0] * 99 + [1]))
    assert 1 < lopsided < 1.1
