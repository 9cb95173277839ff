"""Do the objectives of the paper, or their rivals, help a model trained on little data?

    python studies/01_objectives.py --train synth_train.jsonl --test synth_test.jsonl \\
        --runs studies-out/objectives --output results/objectives_nl_rx_2m.json

Hypothesis, written before the first run: no objective over hidden states raises exact match by a
point or more over next-token prediction; stop tokens are trained and all arms are scaled alike.

NL-RX-SYNTH, preset tiny-2m from nothing. 500 rows are taken out of the training file for
validation; every run trains on the same kind of eighth of the full set (1,000 of the other 7,500
rows, nested by seed), 300 steps of 16 rows, learning rate 1e-3. Per arm, three strengths are tried
at seed 1 and the one with the best exact match on the validation rows is kept (ties: the lower
loss); it is then trained at seeds 2 and 3 too. Test rows are decoded once for each of these three
runs and for no other. An arm is compared with plain next-token prediction by seed and by row.

Expected cost: an hour and a half on two cores. An arm that stands in --output is not done again,
nor is a run that is finished under --runs.
"""

from __future__ import annotations

import argparse
import random
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from semtube.evaluation.compare import read_records, score_matrix
from semtube.run_folder import read_json, write_json
from semtube.statistics.intervals import bootstrap_interval
from semtube.study.environment import describe_environment

SEEDS = (1, 2, 3)
VALIDATION_ROWS = 500
COMMON = [
    "--model", "tiny-2m", "--fraction", repr(1000 / 7500), "--steps", "300", "--batch_size", "16",
    "--learning_rate", "1e-3", "--weight_decay", "0.1", "--schedule", "cosine", "--threads", "1",
]  # fmt: skip


def tube(*options: str) -> list[str]:
    """Command-line options of a tube arm."""
    return ["--objective", "tube", *options]


TUBE_WEIGHTS = ("0.005", "0.02", "0.08")
NTP = ["--objective", "ntp"]
DROPOUT = ["--attention_dropout", "0.1"]
#: Arm -> its options, the option that is tuned, and the values tried.
ARMS: dict[str, tuple[list[str], str, tuple[str, ...]]] = {
    "next token": (NTP, "--neftune", ("0",)),
    "tube (paper)": (tube(), "--weight", TUBE_WEIGHTS),
    "tube (code: span)": (tube("--options.form", "span"), "--weight", TUBE_WEIGHTS),
    "tube, Zero": (tube("--options.law", "anchored"), "--weight", TUBE_WEIGHTS),
    "tube, Pred": (tube("--options.predictor", "linear"), "--weight", TUBE_WEIGHTS),
    "tube, Inst": (tube("--options.content", "instruction"), "--weight", TUBE_WEIGHTS),
    "tube, adaptive": (tube("--weight_schedule", "adaptive"), "--weight", ("0.02", "0.1", "0.5")),
    "two-view": (["--objective", "two_view"], "--weight", TUBE_WEIGHTS),
    "two-view, warm-up": (
        ["--objective", "two_view", "--weight_schedule", "linear"], "--weight", TUBE_WEIGHTS,
    ),
    "mask": (["--objective", "masked_span"], "--weight", ("0.02", "0.08", "0.32")),
    "mask, Full": (
        ["--objective", "masked_span", "--options.target", "full"],
        "--weight", ("0.02", "0.08", "0.32"),
    ),
    "curvature": (["--objective", "curvature"], "--weight", TUBE_WEIGHTS),
    "LLM-JEPA": (["--objective", "llm_jepa"], "--weight", ("0.1", "0.5", "2")),
    "next latent": (["--objective", "next_latent"], "--weight", ("0.1", "0.5", "2")),
    "NEFTune": (NTP, "--neftune", ("1", "2.5", "5")),
    "attention dropout": (NTP, "--attention_dropout", ("0.05", "0.1", "0.2")),
    "R-Drop": (["--objective", "r_drop", *DROPOUT], "--weight", ("0.1", "0.5", "2")),
}  # fmt: skip


class Study:
    """The runs of the study on disk.

    Args:
        train, test: the files of NL-RX-SYNTH.
        folder: where runs and the carved rows are kept.
    """

    def __init__(self, train: Path, test: Path, folder: Path) -> None:
        self.test = test
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.pool, self.validation = folder / "pool.jsonl", folder / "validation.jsonl"
        lines = [line + "\n" for line in train.read_text().rstrip("\n").split("\n")]
        chosen = set(random.Random(0).sample(range(len(lines)), VALIDATION_ROWS))
        for path, inside in ((self.pool, False), (self.validation, True)):
            path.write_text("".join(x for i, x in enumerate(lines) if (i in chosen) == inside))

    def run_folder(self, arm: str, value: str, seed: int) -> Path:
        """Of one run."""
        name = "".join(c if c.isalnum() else "-" for c in arm.lower())
        return self.folder / f"{name}_{value}_{seed}"

    def train(self, arm: str, value: str, seed: int) -> Path:
        """Train and measure on the validation rows, unless that is done."""
        folder = self.run_folder(arm, value, seed)
        if not (folder / "result.json").is_file():
            shutil.rmtree(folder, ignore_errors=True)
            options, tuned, _ = ARMS[arm]
            semtube("train", "--data", self.pool, "--test", self.validation, *COMMON, *options,
                    tuned, value, "--seed", seed, "--output", folder)  # fmt: skip
            print(f"{arm}, {tuned} {value}, seed {seed}: done", flush=True)
        return folder

    def read_test(self, arm: str, value: str, seed: int) -> Path:
        """Decode the test rows with the final model, unless that is done."""
        folder = self.train(arm, value, seed)
        output = folder / "test"
        if not (output / "metrics.json").is_file():
            shutil.rmtree(output, ignore_errors=True)
            semtube("evaluate", folder, "--data", self.test, "--output", output)
        return output

    def best(self, arm: str) -> str:
        """The value with the best validation exact match at the first seed."""
        scores = []
        for value in ARMS[arm][2]:
            metrics = read_json(self.train(arm, value, SEEDS[0]) / "result.json")["metrics"]
            scores.append((metrics["exact_match"]["mean"], -metrics["loss"]["mean"], value))
        return max(scores)[2]

    def arm(self, arm: str) -> None:
        """Tune, train the other seeds, read the test rows."""
        value = self.best(arm)
        for seed in SEEDS:
            self.read_test(arm, value, seed)

    def row(self, arm: str) -> dict[str, Any]:
        """One finished arm."""
        tuned, values = ARMS[arm][1:]
        value = self.best(arm)
        folders = [self.run_folder(arm, value, seed) for seed in SEEDS]
        metrics = [read_json(folder / "test" / "metrics.json") for folder in folders]
        tuning = {v: read_json(self.run_folder(arm, v, SEEDS[0]) / "result.json") for v in values}
        right = self.right(arm, value)
        return {
            "tuned": tuned,
            "value": value,
            "validation_exact_match": {
                v: result["metrics"]["exact_match"]["mean"] for v, result in tuning.items()
            },
            "exact_match": [float(r.mean()) for r in right],
            "loss": [m["loss"]["mean"] for m in metrics],
            "tube_loss": [m["tube_loss"]["mean"] for m in metrics],
            "stopped": [m["stopped"]["mean"] for m in metrics],
            "right": ["".join("01"[int(x)] for x in r) for r in right],
            "commit": read_json(folders[0] / "environment.json")[0]["commit"],
        }

    def right(self, arm: str, value: str) -> np.ndarray:
        """(seeds, test rows) which rows an arm has right."""
        runs = {
            f"seed {seed}": read_records(
                self.run_folder(arm, value, seed) / "test" / "examples.jsonl"
            )
            for seed in SEEDS
        }
        return score_matrix(runs, "exact_match")


def semtube(*words: Any) -> None:
    """One command in a process of its own."""
    command = [sys.executable, "-m", "semtube", *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}\n{done.stderr}")


def difference(row: dict[str, Any], base: dict[str, Any]) -> tuple[float, float, float]:
    """Points of exact match over next-token prediction, with a 95 % interval.

    Paired by seed and by test row; seeds and rows are resampled.
    """
    right, plain = (np.array([[x == "1" for x in r] for r in a["right"]]) for a in (row, base))
    paired = 100 * (right.astype(float) - plain)
    interval = bootstrap_interval(
        paired, over_seeds=True, confidence=0.95, num_resamples=10_000,
        generator=np.random.default_rng(0),
    )  # fmt: skip
    return float(paired.mean()), interval.low, interval.high


def table(rows: dict[str, Any]) -> str:
    """Markdown."""
    lines = [
        "| arm | tuned to | exact match, each seed, % | difference to next token, points [95 %] | "
        "loss | tube loss |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for arm in ARMS:
        if arm not in rows:
            continue
        row = rows[arm]
        each = " / ".join(f"{100 * x:.1f}" for x in row["exact_match"])
        mean, low, high = difference(row, rows["next token"])
        shown = "" if arm == "next token" else f"{mean:+.2f} [{low:+.2f}, {high:+.2f}]"
        name = row["tuned"].removeprefix("--")
        lines.append(
            f"| {arm} | {name} {row['value']} | {each} | {shown} | {np.mean(row['loss']):.4f} | "
            f"{np.mean(row['tube_loss']):.3f} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Do the arms that the results file lacks, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--train", type=Path, required=True)
    parser.add_argument("--test", type=Path, required=True)
    parser.add_argument("--runs", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    document = read_json(options.output) if options.output.is_file() else {"arms": {}}
    missing = [arm for arm in ARMS if arm not in document["arms"]]
    study = Study(options.train, options.test, options.runs)

    def finish(arm: str) -> None:
        study.arm(arm)
        document["arms"][arm] = study.row(arm)
        write_json(options.output, {**document, "common": COMMON, **describe()})

    with ThreadPoolExecutor(options.workers) as pool:
        for _ in pool.map(finish, missing):
            pass
    print(table(document["arms"]))


def describe() -> dict[str, Any]:
    """Versions and device; each arm carries the commit of its own runs."""
    environment = describe_environment()
    environment.pop("commit")
    return {"environment": environment}


if __name__ == "__main__":
    main()
