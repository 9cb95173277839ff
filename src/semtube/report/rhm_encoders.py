"""Figures 4, 5, 13 and 14 of the latents paper: data2vec and its token baselines.

Letters as in the paper: v symbols, m rules for each, s children, L levels, P strings.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from semtube.report.network_points import (
    OVER_VM3,
    PAPER_NOTE,
    Rows,
    latent_theory,
    listed,
    means,
)
from semtube.report.panels import Panel, Point, write_panels
from semtube.rhm.paper import (
    DATA2VEC_OFFLINE_LINEAR,
    DATA2VEC_OFFLINE_MLP_OVER_VM3,
    DATA2VEC_ONLINE_THRESHOLDS,
    DATA2VEC_SIZES,
    RANDOM_NETWORK_ACCURACY,
    SCORE_AT_END,
    SCORE_BY_LAYER,
)

OBJECTIVE_NAMES = {
    "data2vec": "data2vec",
    "stacked": "data2vec, stacked",
    "masked_token": "masked token",
    "next_token": "next token",
}
#: m -> strings seen at the end of the paper's online curves, over v m^3.
PAPER_ONLINE_ENDS = {m: 2 ** (25 if m < 5 else 27) / (16 * m**3) for m in range(3, 8)}


def draw_figure_4(rows: Rows, stem: Path) -> None:
    """Root accuracy along data2vec's online runs, and what training added to it."""
    points = _along(rows, _m, lambda row, line: line["root_mlp"])
    gains = _along(
        rows, _m, lambda row, line: line["root_mlp"] - row["result"]["initial"]["root_mlp"]
    )
    v = DATA2VEC_SIZES["num_features"]
    points += [
        Point(f"m = {m}", "paper", strings / (v * m**3), 0.5)
        for m, strings in DATA2VEC_ONLINE_THRESHOLDS.items()
    ]
    panels = [
        Panel("Root, MLP probe", OVER_VM3 + " seen", "accuracy", points, y_domain=(0, 1)),
        Panel("Less the untrained encoder's", OVER_VM3 + " seen", "accuracy", gains),
    ]
    notes = [_encoder_note(rows), PAPER_NOTE + " Each is where a curve crosses 50 %."]
    write_panels(panels, title="data2vec online", notes=notes, stem=stem)


def draw_figure_5(rows: Rows, stem: Path) -> None:
    """Synonym scores along data2vec's online runs, after the third block; a panel for each m."""
    panels = []
    for m in sorted({row["num_synonyms"] for row in rows}):
        runs = [row for row in rows if row["num_synonyms"] == m]
        points: list[Point] = []
        for level in range(1, max(row["depth"] for row in runs) + 1):
            points += _along(
                [row for row in runs if row["depth"] >= level],
                lambda row, level=level: f"level {level}",
                lambda row, line, level=level: _third_block(line["synonym_scores"][level - 1]),
            )
        if m in PAPER_ONLINE_ENDS:
            end = PAPER_ONLINE_ENDS[m]
            points += [
                Point(f"level {level}", "paper", end, (low + high) / 2, low, high)
                for level, (low, high) in SCORE_AT_END.items()
            ]
        title = f"m = {m}, after the third block"
        panels.append(Panel(title, OVER_VM3 + " seen", "synonym score", points))
    notes = [
        _encoder_note(rows),
        "1: synonyms have one image; 0: they move the states as far as an unrelated string.",
        PAPER_NOTE + " They are its curves' ends, bars their range over m = 3 to 7.",
    ]
    write_panels(panels, title="What synonyms move", notes=notes, stem=stem)


def draw_figure_13(rows: Rows, stem: Path) -> None:
    """Synonym scores by block at the end, and what the target knows of every level."""
    run = max(rows, key=lambda row: (row["num_synonyms"], -row["seed"]))
    levels = range(1, run["depth"] + 1)
    scores = [
        Point(f"level {level}", "ours", block, score)
        for level in levels
        for block, score in enumerate(run["result"]["final"]["synonym_scores"][level - 1], start=1)
        if score is not None
    ]
    scores += [
        Point(f"level {level}", "paper", block, score)
        for level, by_block in SCORE_BY_LAYER.items()
        for block, score in enumerate(by_block, start=1)
    ]
    known: list[Point] = []
    for level in levels:
        read = lambda line, level=level: line["level_linear"][level - 1]  # noqa: E731
        known += _along(
            [run],
            lambda row, level=level: f"level {level}",
            lambda row, line, read=read: read(line),
        )
        known += _untrained(run, read, f"level {level}, untrained")
    before = [
        Point(f"level {level}", "ours", run["num_synonyms"], accuracy)
        for level, accuracy in enumerate(run["result"]["initial"]["level_linear"], start=1)
    ]
    before += [
        Point(f"level {level}", "paper", m, accuracy)
        for level, by_rules in RANDOM_NETWORK_ACCURACY.items()
        for m, accuracy in by_rules.items()
    ]
    panels = [
        Panel("Synonym score after training", "block", "synonym score", scores, log_x=False),
        Panel("Linear probe of the target", OVER_VM3 + " seen", "accuracy", known, y_domain=(0, 1)),
        Panel(
            "Untrained encoder", "rules of a symbol, m", "accuracy", before, log_x=False,
            y_domain=(0, 1),
        ),
    ]  # fmt: skip
    notes = [_encoder_note([run]), PAPER_NOTE + " Its scores are of m = 6."]
    write_panels(panels, title="What data2vec knows", notes=notes, stem=stem)


def draw_figure_14(rows: Rows, stem: Path) -> None:
    """Root accuracy of data2vec and the token baselines on a fixed number of strings."""
    v = DATA2VEC_SIZES["num_features"]
    linear = {m: p / (v * m**3) for m, p in DATA2VEC_OFFLINE_LINEAR.items()}
    panels = []
    for name, title, ratios in (
        ("root_mlp", "Root, MLP probe", DATA2VEC_OFFLINE_MLP_OVER_VM3),
        ("root_linear", "Root, linear probe", linear),
    ):
        best, untrained = (
            means(
                rows, lambda row, suffix=suffix: OBJECTIVE_NAMES[row["objective"]] + suffix,
                lambda row, stage=stage, name=name: row["result"][stage][name],
            )
            for stage, suffix in (("best", ""), ("initial", ", untrained"))
        )  # fmt: skip
        paper = [
            Point("data2vec crosses 50 %, m = 3 to 7", "paper", ratio, 0.5)
            for ratio in ratios.values()
        ]
        # Masked tokens begin with data2vec's encoder; the stack and the causal one are others.
        masked = OBJECTIVE_NAMES["masked_token"] + ", untrained"
        points = best + paper + [p for p in untrained if p.series != masked]
        panels.append(Panel(title, OVER_VM3, "accuracy", points, y_domain=(0, 1)))
    notes = [_encoder_note(rows), "At the step best on validation strings.", PAPER_NOTE]
    write_panels(panels, title="The same strings again and again", notes=notes, stem=stem)


def _along(
    rows: Rows,
    series: Callable[[Mapping[str, Any]], str],
    y: Callable[[Mapping[str, Any], Mapping[str, Any]], float | None],
) -> list[Point]:
    """One point for every evaluation after the start, against the strings seen over v m^3."""
    return [
        Point(series(row), "ours", line["num_strings_seen"] / latent_theory(row), value)
        for row in rows
        for line in row["metrics"]
        if line["step"] > 0 and (value := y(row, line)) is not None
    ]


def _m(row: Mapping[str, Any]) -> str:
    return f"m = {row['num_synonyms']}"


def _untrained(
    row: Mapping[str, Any], y: Callable[[Mapping[str, Any]], float], name: str
) -> list[Point]:
    """A level line at what the run's encoder has before training."""
    seen = [line["num_strings_seen"] / latent_theory(row) for line in row["metrics"][1:]]
    value = y(row["result"]["initial"])
    return [Point(name, "ours", x, value) for x in (min(seen), max(seen))]


def _encoder_note(rows: Rows) -> str:
    first = rows[0]
    return (
        f"v = {listed(rows, 'num_features')}, s = {listed(rows, 'branching')}, "
        f"m = {listed(rows, 'num_synonyms')}, L = {listed(rows, 'depth')}; "
        f"{first['num_layers']} layers of width {first['hidden_size']}, "
        f"{listed(rows, 'steps', ' or ')} steps of {first['batch_size']} strings, learning rate "
        f"{first['learning_rate']:g}. The paper: v = 16, L = 4, 8 layers of width 2,048, 65,536 or "
        "262,144 steps of 512 strings, 1e-4."
    )


def _third_block(by_block: Sequence[float | None]) -> float | None:
    return by_block[min(2, len(by_block) - 1)]
