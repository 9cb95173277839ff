"""The demo: two arms, two data fractions, two seeds on the embedded data."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from semtube.config import RunConfig
from semtube.run_folder import RunFolder, read_json
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
            data=str(data / BASE.data),
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
        UserError: the folder holds something else.
        Interrupted: stopped; calling again goes on.
    """
    data = folder / "data"
    if not data.is_dir():
        write_generated(
            data,
            num_pairs=NUM_PAIRS,
            validation_fraction=0.0,
            test_fraction=TEST_FRACTION,
            seed=0,
        )
    for number, config in enumerate(demo_configs(folder)):
        run = RunFolder(config.output)
        if run.is_done:
            yield number, read_json(run.result)
            continue
        yield (
            number,
            execute(config, resume=run.config.is_file(), listener=listener_of(number, config)),
        )
