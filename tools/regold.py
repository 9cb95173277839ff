"""Write the golden loss series anew and show what changed.

    python tools/regold.py

Each series is the first 20 steps of `tiny-0.3m` on 64 generated rows: next-token loss and the
objective's own. A change of these numbers belongs in the changelog under "Numbers".
"""

from __future__ import annotations

import json
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from semtube.config import RunConfig
from semtube.data.regex_grammar import chat_row, generate_pairs
from semtube.run_folder import write_json, write_jsonl
from semtube.study.environment import describe_environment
from semtube.study.run import execute

PAGE = Path(__file__).parents[1] / "tests" / "golden" / "losses.json"
BASE = RunConfig(
    data="", output="", model="tiny-0.3m", steps=20, batch_size=8, learning_rate=1e-3,
    weight=0.1, precision="fp32", threads=1, seed=7,
)  # fmt: skip
SERIES = {
    "ntp": replace(BASE, objective="ntp"),
    "tube, triplet": BASE,
    "tube, span": replace(BASE, options={"form": "span", "law": "sequential"}),
    "tube, layer 1, anchored": replace(BASE, options={"layer": 1, "law": "anchored", "draws": 4}),
    "tube, Pred, adaptive": replace(
        BASE, options={"predictor": "linear"}, weight_schedule="adaptive"
    ),
    "two-view, ramp": replace(BASE, objective="two_view", weight_schedule="linear"),
    "masked span": replace(BASE, objective="masked_span"),
    "curvature, two layers": replace(BASE, objective="curvature", options={"layer": [1, -1]}),
    "LLM-JEPA, dropped": replace(BASE, objective="llm_jepa", weight_dropout=0.5),
    "R-Drop": replace(BASE, objective="r_drop", attention_dropout=0.1),
    "next latent": replace(BASE, objective="next_latent"),
    "NEFTune": replace(BASE, objective="ntp", neftune=5.0),
}


def loss_series(config: RunConfig) -> list[dict[str, float]]:
    """Next-token loss and, with an objective, its own loss at each step."""
    with tempfile.TemporaryDirectory() as folder:
        rows = Path(folder) / "rows.jsonl"
        write_jsonl(rows, (chat_row(pair) for pair in generate_pairs(64, seed=1)))
        output = Path(folder) / "run"
        execute(replace(config, data=str(rows), output=str(output)))
        lines = [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]
    return [{k: line[k] for k in ("loss", "term_loss") if k in line} for line in lines]


def main() -> None:
    """Renew the file; print old, new and relative change of each series' last losses."""
    old = json.loads(PAGE.read_text())["series"] if PAGE.exists() else {}
    series: dict[str, Any] = {name: loss_series(config) for name, config in SERIES.items()}
    for name, lines in series.items():
        for key, value in lines[-1].items():
            before = old.get(name, [{}])[-1].get(key)
            change = f"{value / before - 1:+.2e}" if before else "new"
            print(f"{name}: last {key} {before} -> {value} ({change})")
    provenance = {"command": "python tools/regold.py", **describe_environment()}
    write_json(PAGE, {"provenance": provenance, "series": series})


if __name__ == "__main__":
    main()
