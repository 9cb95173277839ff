"""Training the encoder: which strings a step sees, exact resumption, what is measured."""

import json
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch

from semtube.errors import UserError
from semtube.rhm.data2vec_settings import CPU_SIZE, Data2VecSettings
from semtube.rhm.data2vec_training import Data2VecTraining, run_data2vec

CPU = torch.device("cpu")
TINY = Data2VecSettings(
    **CPU_SIZE
    | {
        "steps": 8, "batch_size": 24, "hidden_size": 16, "num_heads": 2, "num_layers": 2,
        "feed_forward_size": 16, "num_top": 1, "num_evaluations": 3, "probe_steps": 10,
        "num_probe": 64, "num_validation": 32, "num_test": 300, "num_strings": 40,
    }
)  # fmt: skip


@pytest.fixture(autouse=True)
def on_cpu(monkeypatch):
    monkeypatch.setattr("semtube.rhm.lab_run.choose_device", lambda: CPU)


def test_offline_every_string_is_seen_once_an_epoch_in_another_order():
    training = Data2VecTraining(TINY, CPU)
    seen = np.concatenate([training._batch(step) for step in range(10)])
    assert len(seen) == 6 * 40
    epochs = seen.reshape(6, 40, -1)
    assert len(np.unique(training.fixed_PT, axis=0)) == 40
    for epoch in epochs:
        assert Counter(map(bytes, epoch)) == Counter(map(bytes, training.fixed_PT))
    assert not np.array_equal(epochs[0], epochs[1])
    # Any step alone, as after a resumption.
    assert np.array_equal(Data2VecTraining(TINY, CPU)._batch(7), training._batch(7))


def test_offline_a_batch_may_be_larger_than_all_strings():
    training = Data2VecTraining(replace(TINY, num_strings=10), CPU)
    counts = Counter(map(bytes, training._batch(0)))
    assert set(counts.values()) <= {2, 3}


def test_online_every_step_draws_afresh():
    training = Data2VecTraining(replace(TINY, num_strings=None), CPU)
    first, second = training._batch(0), training._batch(1)
    assert first.shape == (24, 8)
    assert not np.array_equal(first, second)
    assert np.array_equal(first, training._batch(0))
    training.grammar.parse(first)


@pytest.mark.parametrize("objective", ["data2vec", "stacked", "masked_token", "next_token"])
def test_an_interrupted_run_gives_the_numbers_of_the_unbroken_one(tmp_path, objective, monkeypatch):
    settings = replace(TINY, objective=objective, num_synonyms=3)
    torch.manual_seed(1)
    whole = run_data2vec(settings, tmp_path / "whole")

    train_step = Data2VecTraining.train_step

    def interrupted(training):
        if training.step == 5:
            raise KeyboardInterrupt
        train_step(training)

    torch.manual_seed(2)
    monkeypatch.setattr(Data2VecTraining, "train_step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run_data2vec(settings, tmp_path / "broken")
    monkeypatch.setattr(Data2VecTraining, "train_step", train_step)
    assert not (tmp_path / "broken" / "result.json").exists()
    lines = []
    assert run_data2vec(settings, tmp_path / "broken", lines.append) == whole
    assert [line["step"] for line in lines] == [6, 8]
    metrics = [(tmp_path / name / "metrics.jsonl").read_text() for name in ("whole", "broken")]
    assert metrics[0] == metrics[1]
    steps = [json.loads(line)["step"] for line in metrics[0].splitlines()]
    assert steps == [0, *settings.evaluation_steps]
    assert run_data2vec(settings, tmp_path / "whole", lines.append) == whole
    assert len(lines) == 2


def test_what_is_measured(tmp_path):
    result = run_data2vec(TINY, tmp_path / "run")
    assert result["initial"]["step"] == 0
    assert result["initial"]["training_loss"] is None
    final = result["final"]
    assert final["num_strings_seen"] == 8 * 24
    assert final["training_loss"] > 0
    assert len(final["level_linear"]) == 3
    assert np.shape(final["synonym_scores"]) == (3, 2)
    assert result["best"]["root_mlp_validation"] >= final["root_mlp_validation"]
    assert result["chance"] == 1 / 8
    assert final["target_deviation"] > 0


def test_scores_of_an_encoder_that_reads_single_tokens():
    """The first block's input would score by how many tokens each swap changes."""
    settings = replace(TINY, num_test=4000)
    training = Data2VecTraining(settings, CPU)
    one_hot = lambda tokens: [torch.nn.functional.one_hot(tokens, 8).float()]  # noqa: E731
    training.learner.layers = one_hot
    scores = [level[0] for level in training._synonym_scores()]
    strings = training.labelled[-1]
    generator = np.random.default_rng(5)
    generic = training.grammar.sample(4000, generator)[0]
    for level, score in enumerate(scores, start=1):
        synonym = training.grammar.synonym_swap(strings, level, generator)[0]
        changed = (synonym != strings[0]).mean(), (generic != strings[0]).mean()
        # Both shares have a standard error below sqrt(0.25 / 32,000) = 0.003.
        assert score == pytest.approx(1 - changed[0] / changed[1], abs=0.02)


def test_a_collapsed_teacher_has_no_deviation_and_no_score():
    training = Data2VecTraining(TINY, CPU)
    with torch.no_grad():
        for weights in training.model.parameters():
            weights.zero_()
    assert training._target_deviation() == 0
    assert training._synonym_scores() == [[None, None]] * 3


def test_a_diverged_run_stops_with_a_sentence(tmp_path):
    with pytest.raises(UserError, match="loss is not finite; choose a lower learning_rate"):
        run_data2vec(replace(TINY, learning_rate=1e30), tmp_path / "run")


SMALL = replace(
    TINY, num_synonyms=2, depth=2, steps=500, batch_size=64, hidden_size=64, num_layers=2,
    num_heads=4, feed_forward_size=128, num_strings=None, num_evaluations=1, probe_steps=300,
    num_probe=1000, num_test=1000,
)  # fmt: skip


@pytest.mark.slow
def test_masked_tokens_are_learned_better_than_by_chance(tmp_path):
    result = run_data2vec(replace(SMALL, objective="masked_token"), tmp_path / "run")
    # Without a context a token costs at most ln 8 nats; one of its string's four is hidden.
    assert result["final"]["training_loss"] < np.log(8) - 0.3


@pytest.mark.slow
def test_data2vec_predicts_its_teacher_better_than_its_mean_and_does_not_collapse(tmp_path):
    result = run_data2vec(SMALL, tmp_path / "run")
    deviation = result["final"]["target_deviation"]
    assert deviation > 0.1
    # The mean of the targets would cost about deviation^2 / (2 beta).
    assert result["final"]["training_loss"] < deviation**2 / 8
    assert result["final"]["root_mlp"] > 3 * result["chance"]
