"""The demo: two arms, two data fractions, two seeds on the embedded data."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from semtube.config import RunConfig
from semtube.errors import UserError
from semtube.run_folder import RunFolder, read_json, write_json
from semtube.study.generated import write_generated
from semtube.study.run import RunListener, execute

#: Few rows and steps, so that eight runs take minutes on two cores.
NUM_PAIRS, TEST_FRACTION = 5_000, 0.1
FRACTIONS = (1.0, 0.25)
SEEDS = (1, 2)
BASE = RunConfig(
    data="train.jsonl",
    output="",
    model="tiny-0.3m",
    test="test.jsonl",
    weight=0.02,
    steps=400,
    batch_size=32,
    learning_rate=4e-3,
    schedule="cosine",
    weight_decay=0.1,
    log_every=20,
    checkpoint_every=200,
    precision="fp32",
)


def demo_configs(folder: Path) -> list[RunConfig]:
    """The eight runs, both arms of a pair next to each other; all take the same steps."""
    data = folder / "data"
    return [
        replace(
            BASE,
            data=str(data / str(BASE.data)),
            test=str(data / str(BASE.test)),
            output=str(folder / f"{objective}-{fraction:g}-seed{seed}"),
            objective=objective,
            fraction=fraction,
            seed=seed,
        )
        for fraction in FRACTIONS
        for seed in SEEDS
        for objective in ("ntp", "tube")
    ]


def run_demo(
    folder: Path, listener_of: Callable[[int, RunConfig], RunListener]
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Do the runs that are not done yet; gives each one's number and result.

    Raises:
        UserError: the folder holds something else, or a demo of another version.
        Interrupted: stopped; calling again goes on.
    """
    recipe = {"base": asdict(BASE), "num_pairs": NUM_PAIRS, "test_fraction": TEST_FRACTION}
    stored = folder / "demo.json"
    if not stored.is_file():
        RunFolder(folder).check_free()
        write_generated(
            folder / "data",
            num_pairs=NUM_PAIRS,
            validation_fraction=0.0,
            test_fraction=TEST_FRACTION,
            seed=0,
        )
        write_json(stored, recipe)
    elif read_json(stored) != recipe:
        raise UserError(f"{str(folder)!r} holds a demo of another version: choose another --output")
    for number, config in enumerate(demo_configs(folder)):
        run = RunFolder(config.output)
        if run.is_done:
            yield number, read_json(run.result)
            continue
        result = execute(config, resume=run.config.is_file(), listener=listener_of(number, config))
        yield number, result
