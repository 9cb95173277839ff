"""Does the tube, or next-latent prediction, let a decoder learn a grammar from fewer strings?

    python studies/04_tube_on_the_grammar.py --quick --runs studies-out/rhm_tube \\
        --output results/tube_on_the_grammar.json

Hypothesis, written before the first run: the tube does not lower the number of strings at which
the states of a small causal decoder hold the grammar's latents. Its term asks states to go straight
on and names no latent; next-latent prediction has a target of its own, but one that the tokens
shape. By the theory of arXiv 2605.27734 (section 2.2 of its token family) next-token training needs
about v m^(L+1) strings for level L-1.

A Llama decoder is trained from nothing on P strings of the Random Hierarchy Model, drawn once and
used again and again (a start token, then the s^L tokens), for a fixed number of steps: AdamW,
weight decay 0.1, linear warm-up over a tenth of the steps, then cosine. The arms of one
(grammar, P) share strings, order and initial weights and differ in the term alone. After the last
step, a ridge regression for each node reads its symbol off the last hidden state at the last token
of its span; it is fitted on fresh strings and scored on other fresh strings.

Two kinds of node are kept apart. Inner nodes end before the string does: their state predicts a
token. The last node of each level, the root among them, ends with the string: no token follows it,
next-token training gives its state no target, while the terms move it. Thresholds are read from the
inner nodes of level L-1.

Set before any arm with a term was run, from the untrained decoder and the next-token arm on a
grammar that is not in the study: an untrained decoder of this width reads level L-1 at about 50 %
already, so that the usual threshold of 50 % says nothing. P50 is given, but the arms are compared
at P_half, where the accuracy crosses half way from the untrained decoder's to 1, linear in log P.
The steps of --quick were set to what two busy cores do in half an hour, so training there is short
of convergence. Nothing else was tuned.

--quick: v = 16, s = 2, m = 3, L = 3, v m^(L+1) = 1,296; three grammars, 8 CPU minutes.
--size threshold: v = 8, s = 2, m = 3, L = 3, v m^(L+1) = 648, five grammars, 3,000 steps of 64: a
pilot of the next-token arm, on a grammar of another seed, got half way from the untrained decoder's
accuracy to 1 between 1,024 and 4,096 strings there; an hour of CPU. Without either m = 4, L = 4 and
eight grammars, for a larger machine; never run so far. A cell that stands under --runs is not run
again.
"""

from __future__ import annotations

import argparse
import math
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

# Before numpy comes: cells side by side use the cores better than threads do.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

import semtube
from semtube.objectives.objective import Objective
from semtube.objectives.trajectories import Trajectories
from semtube.rhm.generators import initial_weights, torch_generator
from semtube.rhm.grammar import Grammar
from semtube.rhm.oracles import bayes_score, next_token_probabilities
from semtube.rhm.scoring import crossing
from semtube.rhm.sweeps import Cell, cell_generator, run_sweep
from semtube.run_folder import write_json
from semtube.statistics.intervals import t_interval
from semtube.study.environment import describe_environment

BASELINE, UNTRAINED = "next token", "untrained"
ARMS: dict[str, Objective | None] = {
    BASELINE: None,
    "tube 0.02": semtube.SemanticTube(weight=0.02),
    "tube 0.1": semtube.SemanticTube(weight=0.1),
    "next latent": semtube.NextLatent(),
}
#: Added to the mean squares of the probe's standardised features.
RIDGE = 1e-3
_COMMON = {
    "num_features": 16, "num_synonyms": 4, "branching": 2, "depth": 3, "width": 64, "layers": 3,
    "batch_size": 64, "learning_rate": 3e-3, "weight_decay": 0.1, "fit_strings": 512,
    "score_strings": 4096, "seed": 0,
}  # fmt: skip
#: Settings of a cell, numbers of strings, grammars.
SIZES: dict[str, tuple[Cell, tuple[int, ...], int]] = {
    "quick": (
        _COMMON | {"num_synonyms": 3, "layers": 2, "batch_size": 32, "steps": 800},
        (512, 2048, 8192),
        3,
    ),
    "full": (
        _COMMON | {"depth": 4, "width": 128, "layers": 4, "batch_size": 128, "steps": 20_000},
        (1024, 4096, 16384, 65536, 262_144),
        8,
    ),
    "threshold": (
        _COMMON
        | {"num_features": 8, "num_synonyms": 3, "layers": 2, "batch_size": 64, "steps": 3000},
        (1024, 2048, 4096, 8192),
        5,
    ),
    "tiny": (
        _COMMON
        | {"num_features": 4, "num_synonyms": 2, "width": 16, "layers": 1, "batch_size": 16}
        | {"steps": 4, "fit_strings": 256, "score_strings": 256},
        (32, 128),
        2,
    ),
}


def grid(settings: Cell, sizes: Sequence[int], num_grammars: int) -> list[Cell]:
    """All cells: the untrained decoders (P = 0), then every arm, the largest P first.

    A sweep that is stopped then has whole comparisons, where there is most to see.
    """
    grammars = range(num_grammars)
    cells = [
        settings | {"grammar": grammar, "arm": UNTRAINED, "num_strings": 0} for grammar in grammars
    ]
    return cells + [
        settings | {"grammar": grammar, "arm": arm, "num_strings": num_strings}
        for num_strings in sorted(sizes, reverse=True)
        for grammar in grammars
        for arm in ARMS
    ]


def run_cell(cell: Cell) -> dict[str, Any]:
    """Train one decoder and probe it."""
    torch.set_num_threads(1)
    start = time.process_time()
    grammar = cell_grammar(cell)
    model = initial_model(cell)
    if cell["arm"] != UNTRAINED:
        train(model, training_strings(cell, grammar), cell)
    fitting, scored = (
        grammar.sample(cell[f"{part}_strings"], _generator(cell, part)) for part in ("fit", "score")
    )
    states_BTD, losses = read_states(model, scored[0], cell)
    result: dict[str, Any] = probe(
        read_states(model, fitting[0], cell)[0], fitting, states_BTD, scored
    )
    result |= {"loss": losses, "tube_loss": turning(states_BTD)}
    if cell["arm"] == UNTRAINED:
        result["bayes_loss"] = bayes_score(next_token_probabilities(grammar, scored[0])).entropy
    return result | {"cpu_seconds": round(time.process_time() - start, 1)}


def cell_grammar(cell: Cell) -> Grammar:
    """The grammar, the same in every arm and at every P; kept as it is drawn."""
    sizes = {name: cell[name] for name in ("num_features", "num_synonyms", "branching", "depth")}
    return Grammar.draw(**sizes, generator=_generator(cell, "grammar"), degenerate="keep")


def training_strings(cell: Cell, grammar: Grammar) -> np.ndarray:
    """(P, T) tokens, the same in every arm."""
    generator = _generator(cell, "strings", num_strings=cell["num_strings"])
    return grammar.sample(cell["num_strings"], generator)[0]


def initial_model(cell: Cell) -> LlamaForCausalLM:
    """The decoder before training, the same in every arm and at every P of a grammar."""
    config = LlamaConfig(
        vocab_size=cell["num_features"] + 1,
        hidden_size=cell["width"],
        intermediate_size=2 * cell["width"],
        num_hidden_layers=cell["layers"],
        num_attention_heads=4,
        max_position_embeddings=1 + cell["branching"] ** cell["depth"],
        use_cache=False,
    )
    with initial_weights(cell["seed"], cell["grammar"]):
        return LlamaForCausalLM(config)


def with_start(tokens: np.ndarray, cell: Cell) -> Tensor:
    """(P, 1 + T) token ids; the start token is the last of the vocabulary."""
    return F.pad(torch.from_numpy(tokens.astype(np.int64)), (1, 0), value=cell["num_features"])


def batches(cell: Cell) -> Tensor:
    """(steps, batch_size) numbers of strings: one permutation after another, alike in all arms."""
    num_strings, wanted = cell["num_strings"], cell["steps"] * cell["batch_size"]
    generator = torch_generator(cell["seed"], "order", cell["grammar"], num_strings)
    epochs = [
        torch.randperm(num_strings, generator=generator)
        for _ in range(math.ceil(wanted / num_strings))
    ]
    return torch.cat(epochs)[:wanted].view(cell["steps"], cell["batch_size"])


def train(model: LlamaForCausalLM, tokens: np.ndarray, cell: Cell) -> None:
    """A plain loop, with the arm's term attached around it."""
    objective, strings = ARMS[cell["arm"]], with_start(tokens, cell)
    model.train()
    attachment = None
    if objective is not None:
        attachment = semtube.attach(model, objective, seed=cell["seed"])
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=cell["learning_rate"], weight_decay=cell["weight_decay"], fused=True
    )
    steps = cell["steps"]
    warm_up = max(1, steps // 10)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer,
        lambda step: min((step + 1) / warm_up, 0.5 + 0.5 * math.cos(math.pi * step / steps)),
    )
    for rows in batches(cell):
        batch = strings[rows]
        model(input_ids=batch, labels=batch).loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
    if attachment is not None:
        attachment.detach()


@torch.no_grad()
def read_states(model: LlamaForCausalLM, tokens: np.ndarray, cell: Cell) -> tuple[Tensor, float]:
    """(P, T, D) last hidden states without the start token's, and the mean next-token loss."""
    model.eval()
    states, total = [], 0.0
    strings = with_start(tokens, cell)
    for batch in strings.split(1024):
        hidden_BTD = model.model(input_ids=batch).last_hidden_state
        logits_BTV = model.lm_head(hidden_BTD[:, :-1])
        total += float(
            F.cross_entropy(logits_BTV.flatten(0, 1), batch[:, 1:].flatten(), reduction="sum")
        )
        states.append(hidden_BTD[:, 1:])
    return torch.cat(states), total / tokens.size


def turning(states_BTD: Tensor) -> float:
    """Mean tube loss of the states, one random triplet a string: does the term do what it asks?"""
    tokens_BT = torch.ones(states_BTD.shape[:2], dtype=torch.bool)
    trajectories = Trajectories.build(attended_BT=tokens_BT, content_BT=tokens_BT)
    term = semtube.SemanticTube()(states_BTD, trajectories, 0)
    return float(term.total_N.sum() / term.count_N.sum())


def probe(
    fit_BTD: Tensor, fit_levels: list[np.ndarray], states_BTD: Tensor, levels: list[np.ndarray]
) -> dict[str, list[float]]:
    """Accuracy of a linear read-out of the latents of levels 1..L, on strings it was not fitted on.

    Args:
        fit_BTD, states_BTD: states of T tokens.
        fit_levels, levels: their strings' symbols, as `Grammar.sample` gives them.

    Returns:
        "inner", one number for each level 1..L-1, the mean over the nodes that end before the
        string; "last", one for each level 1..L, the node that ends with it.
    """
    inner, last = [], []
    for fit_PN, true_PN in zip(fit_levels[1:], levels[1:], strict=True):
        num_nodes = true_PN.shape[1]
        span = states_BTD.shape[1] // num_nodes
        accuracies = [
            ridge_accuracy(
                fit_BTD[:, (node + 1) * span - 1], fit_PN[:, node],
                states_BTD[:, (node + 1) * span - 1], true_PN[:, node],
            )
            for node in range(num_nodes)
        ]  # fmt: skip
        last.append(accuracies[-1])
        if num_nodes > 1:
            inner.append(float(np.mean(accuracies[:-1])))
    return {"inner": inner, "last": last}


def ridge_accuracy(
    fit_PD: Tensor, fit_P: np.ndarray, states_PD: Tensor, true_P: np.ndarray
) -> float:
    """Share of symbols that are the largest output of a ridge regression on one-hot symbols.

    W = (X'X / P + RIDGE)^-1 X'Y / P, X standardised by the fitting strings, Y centred.
    """
    mean_D, deviation_D = fit_PD.double().mean(0), fit_PD.double().std(0, correction=0)
    deviation_D = torch.where(deviation_D > 0, deviation_D, 1)
    x_PD, new_PD = ((s.double() - mean_D) / deviation_D for s in (fit_PD, states_PD))
    y_PV = F.one_hot(torch.from_numpy(fit_P.astype(np.int64))).double()
    gram_DD = x_PD.T @ x_PD / len(x_PD) + RIDGE * torch.eye(x_PD.shape[1], dtype=torch.double)
    weights_DV = torch.linalg.solve(gram_DD, x_PD.T @ (y_PV - y_PV.mean(0)) / len(x_PD))
    guess_P = (new_PD @ weights_DV + y_PV.mean(0)).argmax(1)
    return float((guess_P.numpy() == true_P).mean())


def summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Per arm: thresholds of each grammar, and what differs from next-token prediction, by grammar.

    A threshold is infinite (None in the file) where the grid ends first, and the grid's first
    number where the grid begins too late; a difference is taken over the grammars where both arms
    cross inside the grid. Accuracies are compared at the P nearest the baseline's P_half, the last
    one where it has none. Intervals: Student's t over grammars, 95 %.
    """
    top = {(row["arm"], row["grammar"], row["num_strings"]): row["inner"][-1] for row in rows}
    grammars = sorted({row["grammar"] for row in rows})
    sizes = sorted({row["num_strings"] for row in rows} - {0})

    def crossings(arm: str, levels: list[float]) -> list[float]:
        return [
            crossing(sizes, [top[arm, g, size] for size in sizes], level)
            for g, level in zip(grammars, levels, strict=True)
        ]

    half_way = [(1 + top[UNTRAINED, g, 0]) / 2 for g in grammars]
    base_half = crossings(BASELINE, half_way)
    nearest = [
        min(sizes, key=lambda size: abs(math.log(size / min(base, sizes[-1]))))
        for base in base_half
    ]
    arms = {}
    for arm in ARMS:
        p_half = crossings(arm, half_way)
        shifts = [
            math.log2(value / base)
            for value, base in zip(p_half, base_half, strict=True)
            if sizes[0] < value < math.inf and sizes[0] < base < math.inf
        ]
        near = [
            top[arm, g, size] - top[BASELINE, g, size]
            for g, size in zip(grammars, nearest, strict=True)
        ]
        arms[arm] = {
            "p50": [_finite(value) for value in crossings(arm, [0.5] * len(grammars))],
            "p_half": [_finite(value) for value in p_half],
            "log2_p_half_difference": _estimate(shifts),
            "accuracy_difference_near_threshold": _estimate(near),
            "accuracy_difference": {
                str(size): _estimate([top[arm, g, size] - top[BASELINE, g, size] for g in grammars])
                for size in sizes
            },
        }
    return {
        "arms": arms, "num_grammars": len(grammars), "half_way": half_way,
        "nearest_num_strings": nearest,
    }  # fmt: skip


def table(rows: list[dict[str, Any]], found: dict[str, Any]) -> str:
    """Means over grammars by arm and P, then the thresholds; Markdown."""
    depth = rows[0]["depth"]
    levels = [f"level {level}" for level in range(1, depth)]
    lasts = [*(f"last, {level}" for level in levels), "root"]
    names = ["arm", "P", *levels, *lasts, "loss", "tube loss"]
    lines = ["| " + " | ".join(names) + " |", "| " + " | ".join(["---"] * len(names)) + " |"]
    for arm, size in dict.fromkeys((row["arm"], row["num_strings"]) for row in rows):
        some = [row for row in rows if (row["arm"], row["num_strings"]) == (arm, size)]
        accuracies = np.mean([row["inner"] + row["last"] for row in some], axis=0)
        loss, turn = (np.mean([row[name] for row in some]) for name in ("loss", "tube_loss"))
        cells = [arm, f"{size:,}", *(f"{100 * x:.1f}" for x in accuracies), f"{loss:.4f}"]
        lines.append("| " + " | ".join([*cells, f"{turn:.3f}"]) + " |")
    bayes = np.mean([row["bayes_loss"] for row in rows if "bayes_loss" in row])
    sizes = list(next(iter(found["arms"].values()))["accuracy_difference"])
    names = ["arm", "P50, each grammar", "P_half, each grammar", "log2 P_half to next token"]
    names += [f"accuracy to next token, {where}" for where in ("near P_half", *sizes)]
    lines += [
        f"\nBayes next-token entropy {bayes:.4f} nats; {found['num_grammars']} grammars. Level "
        "L-1, differences paired by grammar with 95 % intervals, accuracies in points\n",
        "| " + " | ".join(names) + " |",
        "| " + " | ".join(["---"] * len(names)) + " |",
    ]
    for arm, values in found["arms"].items():
        cells = [arm]
        for name in ("p50", "p_half"):
            cells.append(" / ".join("-" if x is None else f"{x:,.0f}" for x in values[name]))
        cells.append(_shown(values["log2_p_half_difference"], 1))
        near = values["accuracy_difference_near_threshold"]
        cells += [_shown(x, 100) for x in (near, *values["accuracy_difference"].values())]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _estimate(values: list[float]) -> dict[str, Any]:
    interval = t_interval(values, 0.95) if values else None
    return {
        "each": values,
        "mean": float(np.mean(values)) if values else None,
        "low": interval and interval.low,
        "high": interval and interval.high,
    }


def _shown(estimate: dict[str, Any], unit: float) -> str:
    if estimate["mean"] is None:
        return "-"
    if estimate["low"] is None:
        return f"{unit * estimate['mean']:+.2f} (one grammar)"
    mean, low, high = (unit * estimate[name] for name in ("mean", "low", "high"))
    return f"{mean:+.2f} [{low:+.2f}, {high:+.2f}] ({len(estimate['each'])} grammars)"


def _generator(cell: Cell, part: str, **key: Any) -> np.random.Generator:
    names = ("num_features", "num_synonyms", "branching", "depth", "grammar")
    return cell_generator(cell["seed"], part, **{name: cell[name] for name in names}, **key)


def main() -> None:
    """Run the cells that are missing, store all, print both tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--runs", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--workers", type=int, default=1)
    group = parser.add_mutually_exclusive_group()
    group.add_argument("--quick", dest="size", action="store_const", const="quick")
    group.add_argument("--size", choices=list(SIZES), default="full")
    parser.add_argument("--strings", type=int, nargs="+", help="these numbers of strings alone")
    options = parser.parse_args()
    settings, sizes, num_grammars = SIZES[options.size]
    cells = grid(settings, options.strings or sizes, num_grammars)
    done = []

    def tell(cell: Cell, result: dict[str, Any]) -> None:
        done.append(result["cpu_seconds"])
        print(
            f"{len(done)} of {len(cells)} cells, {sum(done):,.0f} CPU seconds: grammar "
            f"{cell['grammar']}, P {cell['num_strings']:,}, {cell['arm']}: level L-1 "
            f"{result['inner'][-1]:.3f}, loss {result['loss']:.4f}",
            flush=True,
        )

    rows = run_sweep(cells, options.runs, run_cell, num_workers=options.workers, on_cell=tell)
    found = summary(rows)
    write_json(
        options.output,
        {"environment": describe_environment(), "size": options.size, "summary": found}
        | {"cells": rows},
    )
    print(table(rows, found))


if __name__ == "__main__":
    main()
