"""The study of the tube on a grammar: its cells, its probe, what its arms share."""

import importlib.util
import math
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from semtube.rhm.grammar import Grammar
from semtube.rhm.sweeps import Cell, run_sweep
from semtube.run_folder import read_json

FILE = Path(__file__).parents[2] / "studies" / "04_tube_on_the_grammar.py"


@pytest.fixture(scope="module")
def study() -> ModuleType:
    """A file that starts with a digit is no module's name."""
    spec = importlib.util.spec_from_file_location("tube_on_the_grammar", FILE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def cell(study: ModuleType) -> Cell:
    return study.SIZES["tiny"][0] | {"grammar": 0, "arm": study.BASELINE, "num_strings": 32}


def planted_states(levels: list[np.ndarray], num_features: int) -> torch.Tensor:
    """States that hold, at every token, the symbols of all nodes above it, one-hot."""
    num_tokens = levels[0].shape[1]
    held = [
        F.one_hot(
            torch.from_numpy(np.repeat(level, num_tokens // level.shape[1], axis=1).astype(int)),
            num_features,
        )
        for level in levels[1:]
    ]
    return torch.cat(held, dim=-1).float()


def two_samples(num_strings: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
    generator = np.random.default_rng(3)
    grammar = Grammar.draw(
        num_features=8, num_synonyms=4, branching=2, depth=3, generator=generator, degenerate="keep"
    )
    return grammar.sample(num_strings, generator), grammar.sample(num_strings, generator)


def test_the_probe_reads_planted_latents(study: ModuleType) -> None:
    fit, scored = two_samples(1024)
    found = study.probe(planted_states(fit, 8), fit, planted_states(scored, 8), scored)
    assert found == {"inner": [1.0, 1.0], "last": [1.0, 1.0, 1.0]}


def test_the_probe_reads_the_last_token_of_a_span(study: ModuleType) -> None:
    """With all other states destroyed it is still right at the lowest level."""
    fit, scored = two_samples(1024)
    states = [planted_states(levels, 8) for levels in (fit, scored)]
    for states_BTD in states:
        states_BTD[:, ::2] = 0
    found = study.probe(states[0], fit, states[1], scored)
    assert found == {"inner": [1.0, 1.0], "last": [1.0, 1.0, 1.0]}
    for states_BTD in states:
        states_BTD[:, 3] = 0
    found = study.probe(states[0], fit, states[1], scored)
    assert found["inner"][1] < 0.5
    assert found["last"] == [1.0, 1.0, 1.0]


def test_noise_is_read_at_chance(study: ModuleType) -> None:
    fit, scored = two_samples(4096)
    generator = torch.Generator().manual_seed(0)
    noise = [torch.randn(4096, 8, 16, generator=generator) for _ in range(2)]
    found = study.probe(noise[0], fit, noise[1], scored)
    commonest = [np.bincount(level[:, -1]).max() / 4096 for level in scored[1:]]
    deviation = math.sqrt(0.25 / 4096)
    for accuracy, limit in zip(found["last"], commonest, strict=True):
        assert accuracy < limit + 5 * deviation


def test_a_constant_feature_is_no_harm(study: ModuleType) -> None:
    fit, scored = two_samples(256)
    states = [F.pad(planted_states(levels, 8), (0, 3), value=7.0) for levels in (fit, scored)]
    assert study.probe(states[0], fit, states[1], scored)["last"] == [1.0, 1.0, 1.0]


def test_arms_share_strings_order_and_weights(study: ModuleType, cell: Cell) -> None:
    """Seen from inside the training of every arm: what it starts from and what it is fed."""
    seen: dict[str, Any] = {}
    for arm in study.ARMS:
        this = cell | {"arm": arm}
        model = study.initial_model(this)
        before = {name: x.clone() for name, x in model.state_dict().items()}
        fed: list[torch.Tensor] = []
        model.register_forward_pre_hook(
            lambda module, args, kwargs, fed=fed: fed.append(kwargs["input_ids"].clone()),
            with_kwargs=True,
        )
        study.train(model, study.training_strings(this, study.cell_grammar(this)), this)
        seen[arm] = before, torch.stack(fed), model.state_dict()
    first_before, first_fed, first_after = seen[study.BASELINE]
    assert first_fed.shape == (4, 16, 9)
    for arm, (before, fed_SBT, after) in seen.items():
        assert before.keys() == after.keys(), "the term's parts go when it is detached"
        assert all(torch.equal(before[name], first_before[name]) for name in before)
        assert torch.equal(fed_SBT, first_fed)
        changed = any(not torch.equal(after[name], first_after[name]) for name in after)
        assert changed == (arm != study.BASELINE)


def test_batches_take_every_string_once_an_epoch(study: ModuleType, cell: Cell) -> None:
    batches = study.batches(cell)
    assert batches.shape == (4, 16)
    for epoch in batches.view(2, 32):
        assert epoch.sort().values.tolist() == list(range(32))
    other = study.batches(cell | {"arm": "tube 0.1"})
    assert torch.equal(batches, other)
    assert not torch.equal(batches, study.batches(cell | {"grammar": 1}))


def test_the_training_strings_are_not_those_of_the_probe(study: ModuleType, cell: Cell) -> None:
    cell = cell | {"num_strings": cell["score_strings"]}
    grammar = study.cell_grammar(cell)
    drawn = [study.training_strings(cell, grammar)]
    drawn += [
        grammar.sample(cell["score_strings"], study._generator(cell, part))[0]
        for part in ("fit", "score")
    ]
    for first in range(3):
        for second in range(first):
            assert not np.array_equal(drawn[first], drawn[second])


def test_the_loss_is_the_models_own(study: ModuleType, cell: Cell) -> None:
    grammar = study.cell_grammar(cell)
    tokens = study.training_strings(cell, grammar)
    model = study.initial_model(cell)
    states, loss = study.read_states(model, tokens, cell)
    assert states.shape == (32, 8, 16)
    ids = study.with_start(tokens, cell)
    assert loss == pytest.approx(model(input_ids=ids, labels=ids).loss.item(), rel=1e-5)


def test_a_straight_path_has_no_turning(study: ModuleType) -> None:
    path = torch.arange(8.0)[None, :, None] * torch.randn(5, 1, 4)
    assert study.turning(path) == pytest.approx(0, abs=1e-6)
    assert study.turning(torch.randn(4096, 8, 64)) == pytest.approx(1.5, abs=0.02)


def planted_rows(
    study: ModuleType, tops: dict[str, list[list[float]]], untrained: list[float]
) -> list[dict[str, Any]]:
    rows = [
        {"arm": study.UNTRAINED, "grammar": grammar, "num_strings": 0, "inner": [1.0, accuracy]}
        for grammar, accuracy in enumerate(untrained)
    ]
    return rows + [
        {"arm": arm, "grammar": grammar, "num_strings": size, "inner": [1.0, accuracy]}
        for arm, grammars in tops.items()
        for grammar, accuracies in enumerate(grammars)
        for size, accuracy in zip((256, 1024, 4096), accuracies, strict=True)
    ]


def test_summary_of_planted_curves(study: ModuleType) -> None:
    """Half way is 0.6 and 0.5: one arm needs half the strings, one as many, one never crosses."""
    base = [[0.3, 0.6, 0.9], [0.1, 0.2, 0.5]]
    half = [[0.4, 0.8, 0.9], [0.1, 0.35, 0.65]]
    never = [[0.3, 0.6, 0.9], [0.1, 0.1, 0.3]]
    tops = dict(zip(study.ARMS, (base, half, base, never), strict=True))
    found = study.summary(planted_rows(study, tops, [0.2, 0.0]))
    assert found["half_way"] == pytest.approx([0.6, 0.5])
    assert found["nearest_num_strings"] == [1024, 4096]
    arms = found["arms"]
    assert arms[study.BASELINE]["p_half"] == pytest.approx([1024, 4096])
    assert arms[study.BASELINE]["p50"] == pytest.approx([256 * 4 ** (2 / 3), 4096])
    tube = arms["tube 0.02"]
    assert tube["log2_p_half_difference"]["each"] == pytest.approx([-1, -1])
    assert tube["log2_p_half_difference"]["low"] == pytest.approx(-1)
    assert tube["accuracy_difference_near_threshold"]["each"] == pytest.approx([0.2, 0.15])
    assert tube["accuracy_difference"]["4096"]["each"] == pytest.approx([0, 0.15])
    assert arms["tube 0.1"]["log2_p_half_difference"]["mean"] == 0
    late = arms["next latent"]
    assert late["p_half"][1] is None
    assert late["log2_p_half_difference"]["each"] == [0]
    assert late["accuracy_difference_near_threshold"]["each"] == pytest.approx([0, -0.2])


def test_an_interval_of_the_differences_is_students(study: ModuleType) -> None:
    """Three grammars with gains of 1, 2 and 3 points: 2 -+ 4.303 * 1 / sqrt(3)."""
    base = [[0.1, 0.5, 0.9]] * 3
    gains = [[0.1, 0.5 + gain / 100, 0.9] for gain in (1, 2, 3)]
    tops = {arm: base for arm in study.ARMS} | {"tube 0.1": gains}
    found = study.summary(planted_rows(study, tops, [0.0] * 3))
    near = found["arms"]["tube 0.1"]["accuracy_difference_near_threshold"]
    assert near["mean"] == pytest.approx(0.02)
    assert [near["low"], near["high"]] == pytest.approx(
        [0.02 - 0.0430265 / math.sqrt(3), 0.02 + 0.0430265 / math.sqrt(3)], rel=1e-5
    )


@pytest.mark.parametrize(
    ("accuracies", "threshold", "nearest"),
    [([0.6, 0.7, 0.9], 256, 256), ([0.1, 0.2, 0.3], None, 4096)],
    ids=["crossed before the grid", "never crossed"],
)
def test_a_threshold_outside_the_grid_gives_no_difference(
    study: ModuleType, accuracies: list[float], threshold: float | None, nearest: int
) -> None:
    tops = {arm: [accuracies] for arm in study.ARMS}
    found = study.summary(planted_rows(study, tops, [0.0]))
    for values in found["arms"].values():
        assert values["p_half"] == [threshold]
        assert values["log2_p_half_difference"]["mean"] is None
    assert found["nearest_num_strings"] == [nearest]


def test_an_interrupted_sweep_ends_with_the_same_numbers(study: ModuleType, tmp_path: Path) -> None:
    settings, sizes, _ = study.SIZES["tiny"]
    cells = study.grid(settings, sizes[:1], 1)

    def numbers(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [{k: v for k, v in row.items() if k != "cpu_seconds"} for row in rows]

    whole = run_sweep(cells, tmp_path / "whole", study.run_cell)
    run_sweep(cells[2:4], tmp_path / "parts", study.run_cell)
    told = []

    def count(cell: Cell) -> dict[str, Any]:
        told.append(cell)
        return study.run_cell(cell)

    parts = run_sweep(cells, tmp_path / "parts", count)
    assert numbers(parts) == numbers(whole)
    assert len(told) == len(cells) - 2


@pytest.mark.slow
def test_the_command(tmp_path: Path) -> None:
    """Its smallest form, on two processes, from the command line."""
    words = [
        "--size", "tiny", "--runs", tmp_path / "runs", "--output", tmp_path / "out.json",
        "--workers", "2",
    ]  # fmt: skip
    done = subprocess.run(
        [sys.executable, FILE, *map(str, words)], capture_output=True, text=True, check=True
    )
    assert "| arm | P |" in done.stdout
    stored = read_json(tmp_path / "out.json")
    assert len(stored["cells"]) == 18
    assert stored["environment"]["versions"]["torch"]
    assert set(stored["summary"]["arms"]) == {
        "next token", "tube 0.02", "tube 0.1", "next latent",
    }  # fmt: skip
