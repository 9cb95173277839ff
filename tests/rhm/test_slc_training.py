"""Training SLC: arms, targets, exact resumption, selection; slow: it learns, and can collapse."""

import json
from dataclasses import replace

import pytest
import torch

from semtube.errors import UserError
from semtube.rhm.generators import numpy_generator
from semtube.rhm.slc_settings import ARMS, SLCSettings
from semtube.rhm.slc_training import SLCTraining, run_slc

CPU = torch.device("cpu")
TINY = SLCSettings(
    num_features=4, num_synonyms=2, depth=3, num_strings=70, aggregation="sum", hidden_size=12,
    epochs=3, num_compared=40, num_validation=60, num_test=60,
)  # fmt: skip
#: Small enough for seconds, large enough to be learned: 16 v m^3 strings.
LEARNABLE = SLCSettings(
    num_features=8, num_synonyms=2, depth=3, num_strings=1024, aggregation="sum", epochs=12,
    degenerate="redraw", num_validation=1000, num_test=1000,
)  # fmt: skip


@pytest.fixture(autouse=True)
def on_cpu(monkeypatch):
    monkeypatch.setattr("semtube.rhm.lab_run.choose_device", lambda: CPU)


@pytest.mark.parametrize(
    "changes",
    [{"arm": arm} for arm in ARMS]
    + [{"target": "token"}, {"selection": "loss"}, {"aggregation": "upgrad"}],
    ids=str,
)
def test_an_interrupted_run_gives_the_numbers_of_the_unbroken_one(tmp_path, changes):
    if changes.get("aggregation") == "upgrad":
        pytest.importorskip("torchjd")
    settings = replace(TINY, **changes)
    torch.manual_seed(1)
    whole = run_slc(settings, tmp_path / "whole")

    def interrupt(line):
        if line["epoch"] == 2:
            raise KeyboardInterrupt

    torch.manual_seed(2)
    with pytest.raises(KeyboardInterrupt):
        run_slc(settings, tmp_path / "broken", interrupt)
    lines = []
    assert run_slc(settings, tmp_path / "broken", lines.append) == whole
    assert [line["epoch"] for line in lines] == [3]
    metrics = [(tmp_path / name / "metrics.jsonl").read_text() for name in ("whole", "broken")]
    assert metrics[0] == metrics[1]
    assert len(metrics[0].splitlines()) == 3
    assert json.loads((tmp_path / "whole" / "result.json").read_text()) == whole
    assert run_slc(settings, tmp_path / "whole", lines.append) == whole
    assert len(lines) == 1


def test_what_is_measured(tmp_path):
    result = run_slc(TINY, tmp_path / "run")
    line = result["validation"]
    assert line["epoch"] == result["best_epoch"]
    for name in ("accuracy", "effective_codes", "prediction_loss_nats", "clustering_loss"):
        assert len(line[name]) == 2
    assert line["loss"] == pytest.approx(
        2 * sum(line["prediction_loss_nats"]) + sum(line["clustering_loss"]), rel=1e-5
    )
    heavy = SLCTraining(replace(TINY, clustering_weight=50.0), CPU).validate()
    assert heavy["loss"] == pytest.approx(
        2 * sum(heavy["prediction_loss_nats"]) + 50 * sum(heavy["clustering_loss"]), rel=1e-5
    )
    assert set(result["root_accuracy"]) == {"linear", "mlp"}
    assert result["chance"] == 0.25
    assert len(result["test"]["accuracy"]) == 2


def lines(*values):
    return [{"epoch": k + 1, "accuracy": [0.9, a], "loss": b} for k, (a, b) in enumerate(values)]


def test_the_best_epoch_is_the_first_of_the_most_accurate_or_of_the_least_loss():
    training = SLCTraining(TINY, CPU)
    training.metrics = lines((0.1, 5.0), (0.5, 4.0), (0.5, 3.0), (0.2, 3.0))
    assert training.best_epoch() == 2
    training.settings = replace(TINY, selection="loss")
    assert training.best_epoch() == 3


def test_the_weights_of_the_best_epoch_are_the_ones_measured(monkeypatch):
    training = SLCTraining(TINY, CPU)
    accuracies = iter([0.4, 0.8, 0.6])
    monkeypatch.setattr(training, "validate", lambda: {"accuracy": [next(accuracies)]})
    states = []
    for _ in range(3):
        training.advance()
        states.append({k: x.clone() for k, x in training.student.state_dict().items()})
    assert all(torch.equal(x, states[1][k]) for k, x in training.best_state.items())
    assert not torch.equal(states[1]["levels.0.predictor.0.weight"],
                           states[2]["levels.0.predictor.0.weight"])  # fmt: skip


def test_without_a_teacher_the_student_is_its_own_and_with_one_it_lags():
    own = SLCTraining(replace(TINY, arm="local"), CPU)
    assert own.teacher is own.student
    training = SLCTraining(TINY, CPU)
    before = {k: x.clone() for k, x in training.teacher.named_parameters()}
    training.advance()
    for name, weights in training.student.named_parameters():
        teacher = training.teacher.get_parameter(name)
        assert not teacher.requires_grad
        # Three steps at 0.015 leave the teacher nearer to its start.
        to_start = (teacher - before[name]).norm()
        if (weights.detach() - before[name]).norm() > 1e-3:
            assert 0 < to_start < (teacher - weights.detach()).norm()


def test_the_arms_differ_where_gradients_flow():
    """From the first batch on: the gradient of the lowest predictor under the sum of losses."""
    gradients = {}
    for arm in ARMS:
        training = SLCTraining(replace(TINY, arm=arm), CPU)
        tokens = training._tensor(training.training[0][:32])
        training.student.train()
        _, pairs = training._losses(tokens, None)
        top_pair = sum(pairs[-1])
        top_pair.backward()
        low, high = training.student.levels
        gradients[arm] = tuple(
            any(x.grad is not None and x.grad.abs().max() > 0 for x in part.parameters())
            for part in (low, high.predictor, high.clusterer)
        )
    assert gradients == {
        "ema": (True, True, True),
        "ema_local": (False, True, True),
        "local": (False, True, True),
        "local_cut": (False, True, True),
    }
    for arm, reaches in (("local", True), ("local_cut", False), ("ema_local", True)):
        training = SLCTraining(replace(TINY, arm=arm), CPU)
        training.student.train()
        training._losses(training._tensor(training.training[0][:32]), None)[1][-1][1].backward()
        weights = training.student.levels[-1].predictor.parameters()
        assert any(x.grad is not None and x.grad.abs().max() > 0 for x in weights) == reaches


def test_the_control_and_the_learner_differ_in_the_target_alone():
    latent = SLCTraining(TINY, CPU)
    token = SLCTraining(replace(TINY, target="token"), CPU)
    strings = latent._tensor(latent.training[0][:32])
    assert torch.equal(strings, token._tensor(token.training[0][:32]))
    own, other = latent._losses(strings, None)[1], token._losses(strings, None)[1]
    # The lowest level predicts the visible tokens in both.
    for level, is_equal in ((0, True), (1, False)):
        assert torch.equal(own[level][0], other[level][0]) == is_equal
        assert torch.equal(own[level][1], other[level][1])


def test_pools_larger_than_the_limit_are_sampled(monkeypatch):
    training = SLCTraining(TINY, CPU)
    counts = []
    from semtube.rhm import slc_training

    real = slc_training.level_losses
    monkeypatch.setattr(
        slc_training, "level_losses",
        lambda own, other, target, compared, *rest, **more: (
            counts.append(None if compared is None else len(set(compared.tolist()))),
            real(own, other, target, compared, *rest, **more),
        )[1],
    )  # fmt: skip
    training._losses(training._tensor(training.training[0][:15]), None)
    # 15 strings have 60 patches at level 0 and 30 at level 1; 40 may be compared.
    assert counts == [40, None]


@pytest.mark.parametrize("aggregation", ["sum", "upgrad"])
def test_a_diverged_run_stops_with_a_sentence(tmp_path, aggregation):
    if aggregation == "upgrad":
        pytest.importorskip("torchjd")
    settings = replace(TINY, learning_rate=1e30, aggregation=aggregation)
    with pytest.raises(UserError, match="epoch 1: the training loss is not finite"):
        run_slc(settings, tmp_path / "run")


@pytest.mark.parametrize("aggregation", ["sum", "upgrad"])
def test_the_weight_scales_the_gradient_of_clustering_alone(aggregation):
    """Of a clusterer that no prediction loss reaches; and of a predictor that only those reach."""
    if aggregation == "upgrad":
        pytest.importorskip("torchjd")
    gradients = {}
    for weight in (1.0, 8.0):
        settings = replace(TINY, arm="local_cut", aggregation=aggregation, clustering_weight=weight)
        training = SLCTraining(settings, CPU)
        training.student.train()
        training._step(training._tensor(training.training[0][:32]), numpy_generator(0, "order"))
        level = training.student.levels[0]
        gradients[weight] = [
            torch.cat([x.grad.flatten() for x in part.parameters() if x.grad is not None])
            for part in (level.predictor, level.clusterer)
        ]
    for light, heavy, ratio in zip(gradients[1.0], gradients[8.0], (1, 8), strict=True):
        assert light.abs().max() > 0
        torch.testing.assert_close(heavy, ratio * light, rtol=1e-4, atol=1e-8)


@pytest.mark.slow
def test_it_learns_the_latents_and_the_root_without_labels(tmp_path):
    result = run_slc(LEARNABLE, tmp_path / "run")
    assert min(result["test"]["accuracy"]) > 0.8
    assert result["root_accuracy"]["mlp"] > 0.8


@pytest.mark.slow
def test_without_teacher_it_learns_unless_clustering_moves_the_predictions(tmp_path):
    """The paper's arm (c) collapses and the others do not, where clustering weighs enough."""
    settings = SLCSettings(
        num_features=16, num_synonyms=4, depth=3, num_strings=4096, aggregation="sum",
        clustering_weight=128.0, epochs=20, num_validation=1000, num_test=1000,
    )  # fmt: skip
    for arm in ARMS:
        lines = []
        result = run_slc(replace(settings, arm=arm), tmp_path / arm, lines.append)
        top = result["test"]["accuracy"][-1]
        if arm == "local":
            assert top < 0.35
            assert result["root_accuracy"]["mlp"] < 0.35
            assert min(lines[-1]["effective_codes"]) < 4
        else:
            assert top > 0.8, arm
    light = replace(settings, arm="local", clustering_weight=1.0)
    assert run_slc(light, tmp_path / "light")["test"]["accuracy"][-1] > 0.8
