"""A probe's folder without a model: few rows, two checkpoints, names that want to be elements."""

import csv
import json
import math
from pathlib import Path

from semtube.geometry.measures import PROBE_FORMAT

HOSTILE = '</script><img src=x onerror="window.hacked=1">'
LAYERS = ["1", "before_norm", "last"]
NULLS = {"straight line": 0.0, "independent increments": 1.0, "memoryless points": 1.5}
BY_LENGTH = ("tube_deviation_relative", "tube_loss_by_width", "perpendicular")


def write_probe(folder: Path, *, names=("before", HOSTILE), num_rows: int = 8) -> Path:
    folder.mkdir()
    lines = [("checkpoint", "layer", "example", "measure", "length", "null", "value")]
    for place, name in enumerate(names):
        lines.append((name, "", "", "loss", "", "", 2.0 - place))
        lines.append((name, "", "", "loss", "", "all tokens alike", 5.5))
        for row in range(num_rows):
            example = f"rows.jsonl:{row}"
            lines.append((name, "", example, "stop_log_probability", "", "", -0.1 * row))
            for depth, layer in enumerate(LAYERS):
                # The second checkpoint is 0.2 lower in every row, and the rows differ.
                value = 1.4 - 0.2 * place + 0.01 * row + 0.05 * depth
                lines.append((name, layer, example, "tube_loss", "", "", value))
                lines.append((name, layer, example, "chord_over_path", "", "", row % 2))
                lines += [
                    (name, layer, example, measure, length, "", value / 2 + 0.01 * length)
                    for measure in BY_LENGTH
                    for length in (2, 4, 8)
                ]
        for layer in LAYERS:
            lines.append((name, layer, "", "effective_rank", "", "", 30.0 + place))
            lines.append((name, layer, "", "capacity", "", "", 0.4 + 0.1 * place))
            lines.append((name, layer, "", "capacity", "", "classes dealt out anew", 0.2))
        for null, value in NULLS.items():
            lines.append((name, "", "", "tube_loss", "", null, value))
            lines += [
                # What has a unit, has it from the layer's steps.
                (name, layer, "", measure, length, null, value / 2 + at)
                for measure in BY_LENGTH
                for at, layer in enumerate(LAYERS if measure == "perpendicular" else [""])
                for length in (2, 4, 8)
            ]
        lines.append((name, "", "", "effective_rank", "", "Gaussian states", 31.5))
    with (folder / "table.csv").open("w", newline="") as file:
        csv.writer(file).writerows(lines)
    path = {"x": [0.0, 0.4, 0.7, 1.0], "y": [0.0, 0.3, 0.2, 0.0]}
    pictures = {
        "curves": [
            {"checkpoint": name, "layer": layer, "name": curve,
             "values": [10 * math.exp(-k / 4) for k in range(16)]}
            for name in names
            for layer in LAYERS
            for curve in ("spectrum", "views", "views_normalised")
        ]
        + [
            {"checkpoint": name, "layer": layer, "name": "views", "null": "answers dealt out anew",
             "values": [9 * math.exp(-k / 6) for k in range(16)]}
            for name in names
            for layer in LAYERS
        ],
        "cones": [
            {"checkpoint": name, "layer": layer, "kind": kind, "since": since,
             "steps": [{"step": k, "value": 0.1 * k**0.5, "low": 0.08 * k**0.5,
                        "high": 0.12 * k**0.5, "num_prompts": 30 - k} for k in range(1, 10)]}
            for name in names
            for layer in ("before_norm", "last")
            for kind in ("greedy", "sampled")
            for since in ("prompt", "divergence")
        ],
        "paths": [
            {"checkpoint": name, "layer": layer, "example": "rows.jsonl:0",
             "plane": plane, "tokens": ["a", HOSTILE, "=1+1", "b"], "share": 0.4, **path}
            for name in names
            for layer in LAYERS
            for plane in ("principal directions", "chord")
        ],
    }  # fmt: skip
    (folder / "pictures.json").write_text(json.dumps(pictures))
    told = {
        "format": PROBE_FORMAT,
        "settings": {"models": list(names), "data": "rows.jsonl", "task": "exact", "limit": 8,
                     "start": False, "layers": "1,last", "task_options": {"a": 1}},
        "environment": {"commit": "abc"},
        "checkpoints": [
            {
                "name": name, "compared_with": names[0] if name != names[0] else None,
                "same_tokens": name == names[0], "layers": LAYERS,
                "num_examples": num_rows, "num_too_long": 2,
                "num_without_views": 0, "num_positions": 20,
                "left_out": [
                    {"layer": layer, "measure": measure, "length": 8, "num_examples": 3}
                    for layer in LAYERS
                    for measure in BY_LENGTH
                ],
                "not_measured": {"transport": "no norm"},
                "cones": [
                    {"checkpoint": name, "layer": "last", "kind": "greedy", "since": "prompt",
                     "steps": "all", "num_left": 6, "exponent": 0.5, "low": 0.4, "high": 0.6,
                     "nulls": {"Brownian once apart": 0.87, "saturated once apart": 0.4},
                     "scale": 0.1, "first_step": 1, "last_step": 9, "num_prompts": 21},
                    {"checkpoint": name, "layer": "last", "kind": "greedy", "since": "prompt",
                     "steps": "unsaturated", "num_left": 6, "reason": "saturated at step 1"},
                ],
            }
            for name in names
        ],
    }  # fmt: skip
    (folder / "probe.json").write_text(json.dumps(told))
    return folder
