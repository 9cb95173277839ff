"""Writes made-up studies to disk in the layout of the study engine; nothing is trained."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

HOSTILE = '</script><img src=x onerror="window.hacked=1">'
FORMULA = "=HYPERLINK(1)|`*_"
ENDINGS = ("ending in .*", "ending in .*.*", "other endings")


@dataclass
class Store:
    """What is made up.

    Args:
        gains: arm -> points of exact match above the first arm, in [0, 1].
        failing: (arm, seed) -> the cause that its final runs fail with.
        not_begun: seeds whose final runs have no folder yet.
        weights: arm -> weights tried, the best of them in the middle.
        arms: arm -> its options; without, the first is next-token prediction and others the tube.
        base: settings of all runs beside the usual ones.
        axis: what `fractions` are values of.
    """

    gains: Mapping[str, float] = field(default_factory=lambda: {"ntp": 0.0, "tube": 0.08})
    fractions: Sequence[float] = (1.0, 0.125)
    seeds: Sequence[int] = (1, 2, 3)
    num_rows: int = 120
    num_steps: int = 60
    failing: Mapping[tuple[str, int], str] = field(default_factory=dict)
    not_begun: Sequence[int] = ()
    weights: Mapping[str, Sequence[float]] = field(default_factory=dict)
    text: str = "lines with the word"
    question: str = "How many times fewer examples does the tube need?"
    at: Mapping[str, Any] = field(default_factory=lambda: {"fraction": 0.125})
    margin: float = 0.02
    noise: float = 0.02
    identical: bool = False
    arms: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    base: Mapping[str, Any] = field(default_factory=dict)
    axis: str = "fraction"

    def write(self, folder: Path) -> Path:
        """The whole study; returns its folder."""
        self.folder = folder
        tuning = self._tuning()
        write(folder / "study.json", self._design(tuning))
        runs, chosen = [], {}
        for arm in self.gains:
            trials = []
            for at in self.fractions[:1] if tuning else ():
                for tried in self._grid(arm):
                    point = {self.axis: at, "seed": self.seeds[0]}
                    trials.append(self._trial(arm, point, tried, runs))
            if trials:
                best = max(trials, key=lambda trial: (trial["score"], -trial["loss"]))
                at = {self.axis: self.fractions[0]}
                chosen[arm] = [{"at": at, "chosen": best["tried"], "trials": trials}]
            for fraction in self.fractions:
                for seed in self.seeds:
                    tried = chosen[arm][0]["chosen"] if arm in chosen else {}
                    self._final(arm, {self.axis: fraction, "seed": seed}, tried, runs)
        write(folder / "plan.json", {"runs": runs})
        if chosen:
            write(folder / "chosen.json", chosen)
        write(folder / "runs" / "store.json", {"format": 1})
        return folder

    def _tuning(self) -> dict[str, Any] | None:
        if not self.weights:
            return None
        return {
            "at": {self.axis: [self.fractions[0]]},
            "seed": self.seeds[0],
            "grids": {arm: self._axis(arm) for arm in self.gains},
            "score": "exact_match",
        }

    def _axis(self, arm: str) -> dict[str, Any]:
        if arm in self.weights:
            return {"weight": list(self.weights[arm])}
        count = len(next(iter(self.weights.values())))
        return {"learning_rate": [1e-3 * 2**k for k in range(count)]}

    def _grid(self, arm: str) -> list[dict[str, Any]]:
        [(option, values)] = self._axis(arm).items()
        return [{option: value} for value in values]

    def _design(self, tuning: Any) -> dict[str, Any]:
        arms = list(self.gains)
        return {
            "format": 1,
            "name": "05_data_fractions",
            "command": "semtube study 'my studies/05.py' --quick",
            "doc": "How much less data?\n\n    semtube study studies/05_data_fractions.py\n",
            "question": self.question,
            "hypothesis": "As many.",
            "primary": "exact_match",
            "baseline": arms[0],
            "deciding": {"arm": arms[min(1, len(arms) - 1)], "at": dict(self.at)},
            "margin": self.margin,
            "regime": "correct",
            "updates": "fixed updates",
            "arms": {arm: dict(self.arms.get(arm, {"objective": "tube" if k else "ntp"}))
                     for k, arm in enumerate(arms)},
            "axes": {self.axis: list(self.fractions), "seed": list(self.seeds)},
            "base": {"task": "nl-rx-synth", "model": "tiny-2m", "steps": self.num_steps,
                     "batch_size": 32, "test": "test", "validation_rows": 50, **self.base},
            "tuning": tuning,
            "generated": None,
            "seconds_per_step": 0.3,
        }  # fmt: skip

    def _trial(self, arm: str, point: Any, tried: Any, runs: list[Any]) -> dict[str, Any]:
        run = f"{len(runs):016x}"
        runs.append(planned(run, "tuning", arm, point, tried, ["validation"]))
        [value] = tried.values()
        [values] = self._axis(arm).values()
        away = abs(values.index(value) - (len(values) - 1) / 2) / len(values)
        metrics = self._run(run, arm, point, tried, "validation", penalty=0.2 * away)
        score, loss = metrics["exact_match"]["mean"], metrics["loss"]["mean"]
        return {"tried": tried, "run": run, "score": score, "loss": loss}

    def _final(self, arm: str, point: Any, tried: Any, runs: list[Any]) -> None:
        run = f"{len(runs):016x}"
        runs.append(planned(run, "final", arm, point, tried, ["test"]))
        if point["seed"] in self.not_begun:
            return
        if cause := self.failing.get((arm, point["seed"])):
            path = self.folder / "runs" / run
            self._begin(path, arm, point, tried)
            write(path / "failure.json", {"error": cause, "kind": "UserError"})
            return
        self._run(run, arm, point, tried, "test")

    def _begin(self, path: Path, arm: str, point: Any, tried: Any) -> None:
        design = self._design(None)
        write(path / "config.json", {**design["base"], **design["arms"][arm], **point, **tried})
        versions = {"torch": "2.13.0", "semtube": "0.1.0", "transformers": "5.23.0"}
        write(path / "environment.json", [
            {"commit": "abc123", "device": "cpu", "num_cpus": 2, "num_threads": 1,
             "platform": "Linux", "python": "3.11.7", "versions": versions},
        ])  # fmt: skip
        generator = np.random.default_rng(
            [point["seed"], len(arm), round(1e4 * fraction_of(point))]
        )
        lines = []
        is_baseline = arm == next(iter(self.gains))
        for step in range(1, self.num_steps + 1):
            loss = 4 * math.exp(-step / 20) + 0.2 + generator.normal(0, 0.03)
            line = {"step": step, "loss": loss, "grad_norm": 1.0, "learning_rate": 1e-3}
            if not is_baseline:
                line["term_loss"] = 0.6 + 0.8 * math.exp(-step / 15) + generator.normal(0, 0.02)
            lines.append(line)
        write_lines(path / "metrics.jsonl", lines)

    def _run(
        self, run: str, arm: str, point: Any, tried: Any, split: str, penalty: float = 0.0
    ) -> dict[str, Any]:
        path = self.folder / "runs" / run
        self._begin(path, arm, point, tried)
        records = self._records(arm, point, penalty)
        right = np.array([record["exact_match"] for record in records])
        is_baseline = arm == next(iter(self.gains))
        metrics = {
            "exact_match": rate(right),
            "stopped": rate(np.array([record["stopped"] for record in records])),
            "loss": {"mean": 0.2 + 0.1 * penalty, "low": 0.19, "high": 0.23, "num_examples": 9},
            "tube_loss": {"mean": 1.4 if is_baseline else 0.7, "low": 0.6, "high": 1.5},
        }
        for group in ENDINGS:
            members = np.array([r["exact_match"] for r in records if r["group"] == group])
            metrics[f"exact_match, {group}"] = rate(members)
        seconds = self.num_steps * (0.3 if is_baseline else 0.32)
        write(path / "result.json", {
            "id": run, "arm": arm, "seed": point["seed"], "fraction": fraction_of(point),
            "num_steps": self.num_steps, "num_train_examples": round(8000 * fraction_of(point)),
            "training_seconds": seconds, "num_parameters": 2_000_000, "precision": "fp32",
            "fingerprints": {"train": f"f{fraction_of(point)}", "test": "t"}, "metrics": {},
        })  # fmt: skip
        write_lines(path / "readings" / split / "examples.jsonl", records)
        write_lines(path / "readings" / split / "reads.jsonl", [{"time": "2026-11-25T03:00:00Z"}])
        write(path / "readings" / split / "metrics.json", metrics)
        return metrics

    def _records(self, arm: str, point: Any, penalty: float) -> list[dict[str, Any]]:
        """Rows differ in how hard they are, the same in all runs; arms and seeds shift them."""
        hard = np.random.default_rng(0).uniform(size=self.num_rows)
        # Identical arms give identical rows: only the seed draws.
        arm_number = 0 if self.identical else list(self.gains).index(arm)
        generator = np.random.default_rng([point["seed"], arm_number])
        share = 0.3 + 0.4 * (1 + math.log(fraction_of(point), 32)) + self.gains[arm] - penalty
        share += generator.normal(0, self.noise)
        right = hard + generator.normal(0, 0.1, self.num_rows) < share
        return [
            {
                "id": f"row{number}",
                "source": f"test:{number}",
                "prompt": f"{self.text} {number}",
                "prompt_hash": f"{number:016x}",
                "gold": f"(.*w{number}.*)",
                "prediction": f"(.*w{number}.*)" if right[number] else f"{self.text} wrong",
                "exact_match": bool(right[number]),
                "stopped": bool(right[number]) or number % 7 > 0,
                "num_tokens": 12,
                "group": ENDINGS[0 if number % 5 < 2 else 1 if number % 40 == 3 else 2],
                "log_probabilities": {},
            }
            for number in range(self.num_rows)
        ]


def fraction_of(point: Any) -> float:
    return point.get("fraction", 1.0)


def planned(run: str, phase: str, arm: str, point: Any, tried: Any, read: list[str]) -> Any:
    return {"run": run, "phase": phase, "arm": arm, "point": point, "tried": tried, "read": read}


def rate(right: np.ndarray) -> dict[str, Any]:
    if not len(right):
        return {"mean": None, "low": None, "high": None, "num_examples": 0, "num_unjudged": 0}
    mean = float(right.mean())
    margin = 2 * math.sqrt(mean * (1 - mean) / len(right))
    return {"mean": mean, "low": mean - margin, "high": mean + margin,
            "num_examples": len(right), "num_unjudged": 0}  # fmt: skip


def write(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value), encoding="utf-8")


def write_lines(path: Path, values: Sequence[Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(v) + "\n" for v in values), encoding="utf-8")


def hostile() -> Store:
    """Every text that can come from data is an attack."""
    return Store(
        gains={"ntp": 0.0, HOSTILE: 0.08, FORMULA: 0.02},
        weights={HOSTILE: [0.02, 0.08, 0.32], FORMULA: [0.02, 0.08, 0.32]},
        failing={(FORMULA, 3): HOSTILE},
        text=HOSTILE,
        question=f"Is {HOSTILE} safe? {{{{ 7 * 7 }}}} \u2028",
    )
