"""data2vec: masks, targets, losses by hand, the teacher, the token baselines, the stack."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from semtube.rhm.data2vec import (
    Data2Vec,
    StackedData2Vec,
    TokenModel,
    build_learner,
    draw_masks,
    weight_groups,
)
from semtube.rhm.data2vec_settings import CPU_SIZE, Data2VecSettings
from semtube.rhm.encoder import Encoder, average_top
from semtube.rhm.generators import torch_generator

SETTINGS = Data2VecSettings(
    **CPU_SIZE | {"hidden_size": 8, "feed_forward_size": 16, "num_heads": 2, "dropout": 0.0}
)
TOKENS = torch.tensor([[0, 1, 2, 3, 4, 5, 6, 7], [7, 5, 1, 0, 2, 4, 2, 2]])
MASKED = torch.zeros(2, 8, dtype=torch.bool)
MASKED[0, 3] = MASKED[1, 0] = MASKED[1, 6] = True


def learner(objective: str, **changes):
    """With weights large enough for a difference to show."""
    made = build_learner(replace(SETTINGS, objective=objective, **changes))
    torch.manual_seed(1)
    with torch.no_grad():
        for weights in made.parameters():
            weights.add_(0.3 * torch.randn_like(weights))
    return made


def test_masks_hide_the_share_they_should_and_never_nothing():
    masked = draw_masks(40_000, 16, 0.15, np.random.default_rng(0))
    assert masked.dtype == bool
    assert masked.any(1).all()
    # A string that would have none gets one: 0.15 + 0.85^16 / 16 of all positions.
    share = 0.15 + 0.85**16 / 16
    assert masked.mean() == pytest.approx(share, abs=5 * math.sqrt(0.13 / masked.size))
    by_place = masked.mean(0)
    assert np.abs(by_place - share).max() < 5 * math.sqrt(0.13 / len(masked))
    seldom = draw_masks(9000, 9, 1e-12, np.random.default_rng(0))
    assert (seldom.sum(1) == 1).all()
    assert seldom.sum(0).min() > 800


def test_smooth_l1_at_masked_positions_by_hand():
    model = learner("data2vec")
    predictions = model.head(model.student.final(model.student(TOKENS, MASKED)))
    targets = average_top(model.teacher(TOKENS), SETTINGS.num_top)
    total, count = 0.0, 0
    for b, t in MASKED.nonzero().tolist():
        for d in (predictions[b, t] - targets[b, t]).tolist():
            total += d * d / 8 if abs(d) < 4 else abs(d) - 2
            count += 1
    assert model.loss(TOKENS, MASKED, None).item() == pytest.approx(total / count, rel=1e-5)


def test_far_predictions_cost_their_distance():
    model = learner("data2vec")
    with torch.no_grad():
        model.head.weight.zero_()
        model.head.bias.fill_(1000.0)
    mean = model.targets(TOKENS)[MASKED].mean()
    assert model.loss(TOKENS, MASKED, None).item() == pytest.approx(
        1000 - 2 - mean.item(), rel=1e-5
    )


def test_the_target_is_of_the_clean_string_and_takes_no_gradient():
    model = learner("data2vec")
    targets = model.targets(TOKENS)
    assert not targets.requires_grad
    torch.testing.assert_close(targets, average_top(model.teacher(TOKENS), SETTINGS.num_top))
    other = TOKENS.clone()
    other[0, 3] = 0  # a masked token: hidden from the student, not from the teacher
    assert not torch.allclose(model.targets(other), targets)
    model.loss(TOKENS, MASKED, None).backward()
    assert all(x.grad is None for x in model.teacher.parameters())
    assert all(x.grad is not None for x in model.student.parameters())


def test_positions_that_are_not_masked_have_no_part_in_the_loss():
    model = learner("data2vec")
    model.targets = lambda inputs: clean.masked_fill(~MASKED[..., None], 1e9)
    clean = torch.zeros(2, 8, 8)
    assert model.loss(TOKENS, MASKED, None) < 100


def test_the_teacher_begins_as_the_student_and_follows_it():
    model = build_learner(SETTINGS)
    student, teacher = model.student.state_dict(), model.teacher.state_dict()
    assert all(torch.equal(x, teacher[name]) for name, x in student.items())
    before = model.teacher.mask_vector.clone()
    with torch.no_grad():
        model.student.mask_vector.add_(1.0)
    model.update_teachers(0.01)
    torch.testing.assert_close(model.teacher.mask_vector, before + 0.01)


def test_the_teacher_has_no_dropout():
    model = learner("data2vec", dropout=0.5)
    assert torch.equal(model.targets(TOKENS), model.targets(TOKENS))
    losses = {model.loss(TOKENS, MASKED, torch_generator(k, "dropout")).item() for k in range(3)}
    assert len(losses) == 3


def test_masked_tokens_are_named_at_masked_positions_alone():
    model = learner("masked_token")
    logits = model.head(model.encoder.final(model.encoder(TOKENS, MASKED)))
    costs = [
        -logits[b, t].log_softmax(-1)[TOKENS[b, t]].item() for b, t in MASKED.nonzero().tolist()
    ]
    loss = model.loss(TOKENS, MASKED, None).item()
    assert loss == pytest.approx(sum(costs) / 3, rel=1e-5)
    assert loss != pytest.approx(model.loss(TOKENS, ~MASKED, None).item(), rel=1e-3)


def test_the_next_token_is_named_from_those_before():
    model = learner("next_token")
    features = model.features(TOKENS)
    costs = [
        F.cross_entropy(model.head(features[b, t]), TOKENS[b, t + 1]).item()
        for b in range(2)
        for t in range(7)
    ]
    loss = model.loss(TOKENS, MASKED, None)
    assert loss.item() == pytest.approx(sum(costs) / 14, rel=1e-5)
    assert torch.equal(loss, model.loss(TOKENS, ~MASKED, None))


def test_a_next_token_model_must_be_causal_and_a_masked_one_not():
    for objective, predicts in (("next_token", "masked"), ("masked_token", "next")):
        encoder = build_learner(replace(SETTINGS, objective=objective)).encoder
        with pytest.raises(ValueError, match="causal"):
            TokenModel(encoder, 8, 2, predicts)


def test_all_objectives_on_one_encoder_begin_from_the_same_weights():
    data2vec = build_learner(SETTINGS)
    for objective in ("masked_token", "next_token"):
        encoder = build_learner(replace(SETTINGS, objective=objective)).encoder
        for name, weights in data2vec.student.state_dict().items():
            assert torch.equal(weights, encoder.state_dict()[name])
    other = build_learner(replace(SETTINGS, seed=1))
    assert not torch.equal(other.head.weight, data2vec.head.weight)


def test_the_stack_learns_two_levels_that_share_no_gradient():
    model = learner("stacked")
    assert isinstance(model, StackedData2Vec)
    assert len(model.lower.student.blocks) == len(model.upper.student.blocks) == 2
    assert model.upper.student.embedding is None
    low = model.lower.loss(TOKENS, MASKED, None)
    high = model.upper.loss(model.lower.targets(TOKENS), MASKED, None)
    torch.testing.assert_close(model.loss(TOKENS, MASKED, None), low + high)
    high.backward()
    assert all(x.grad is None for x in model.lower.parameters())
    assert all(x.grad is not None for x in model.upper.student.parameters())
    assert len(model.layers(TOKENS)) == 4
    below = model.lower.targets(TOKENS)
    assert not model.upper.targets(below.requires_grad_()).requires_grad
    below = below.detach()
    torch.testing.assert_close(model.features(TOKENS), model.upper.features(below))
    torch.testing.assert_close(model.targets(TOKENS), model.upper.targets(below))


def test_the_stack_is_no_larger_than_the_single_model_by_much():
    def size(objective):
        made = build_learner(replace(SETTINGS, objective=objective, hidden_size=64, num_heads=4))
        return sum(x.numel() for x in made.parameters() if x.requires_grad)

    assert 1 < size("stacked") / size("data2vec") < 1.1


def test_biases_and_norms_do_not_decay_and_all_else_does():
    model = build_learner(SETTINGS)
    decayed, kept = weight_groups(model, 0.01)
    assert (decayed["weight_decay"], kept["weight_decay"]) == (0.01, 0.0)
    norms = {id(x) for m in model.modules() if isinstance(m, nn.LayerNorm) for x in m.parameters()}
    named = {id(x): name for name, x in model.named_parameters() if x.requires_grad}
    for group, decays in ((decayed, True), (kept, False)):
        for x in group["params"]:
            is_exempt = id(x) in norms or named[id(x)].endswith("bias")
            assert is_exempt != decays, named[id(x)]
    assert len(decayed["params"]) + len(kept["params"]) == len(named)


def test_nothing_is_changed_in_place():
    model, strings, masked = learner("data2vec"), TOKENS.clone(), MASKED.clone()
    layers = model.layers(strings)
    kept = [x.clone() for x in layers]
    model.loss(strings, masked, torch_generator(0, "dropout")).backward()
    model.update_teachers(0.5)
    assert torch.equal(strings, TOKENS)
    assert torch.equal(masked, MASKED)
    assert all(torch.equal(a, b) for a, b in zip(kept, layers, strict=True))


def test_a_model_made_by_hand_is_the_same_kind():
    def make():
        return Encoder(
            num_features=8, num_tokens=8, hidden_size=8, num_layers=2, num_heads=2,
            feed_forward_size=8, dropout_rate=0.0,
        )  # fmt: skip

    model = Data2Vec(make, num_top=1, beta=1.0)
    assert model.features(TOKENS).shape == (2, 8, 8)
