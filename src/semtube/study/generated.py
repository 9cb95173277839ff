"""The embedded text-to-regex data as three files."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from semtube.data.regex_grammar import chat_row, generate_pairs, split_by_regex
from semtube.errors import UserError
from semtube.run_folder import write_jsonl, writing
from semtube.seeding import stream_seed


def write_generated(
    folder: Path,
    *,
    num_pairs: int,
    validation_fraction: float,
    test_fraction: float,
    seed: int,
) -> dict[str, int]:
    """Write train, validation and test; no regex stands in two of them. Returns their sizes.

    Raises:
        UserError: sizes that cannot be had, or a folder that holds something.
    """
    if folder.exists() and any(folder.iterdir()):
        raise UserError(f"output {str(folder)!r} is not empty: choose another")
    generator_seed = stream_seed(seed, "generator")
    try:
        pairs = generate_pairs(num_pairs, generator_seed)
        splits = split_by_regex(
            pairs,
            validation_fraction=validation_fraction,
            test_fraction=test_fraction,
            seed=generator_seed,
        )
    except ValueError as error:
        raise UserError(str(error)) from error
    part_folder = folder.with_name(f".{folder.name}.{os.getpid()}.part")
    sizes = {}
    try:
        with writing(folder):
            part_folder.mkdir(parents=True)
            for name in ("train", "validation", "test"):
                part = getattr(splits, name)
                if part:
                    write_jsonl(part_folder / f"{name}.jsonl", (chat_row(pair) for pair in part))
                    sizes[name] = len(part)
            part_folder.rename(folder)  # all three files or none
    finally:
        shutil.rmtree(part_folder, ignore_errors=True)
    return sizes
