"""What several test files need."""

import json
import os
from pathlib import Path

import pytest
import torch

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real data and models."""
    if "SEMTUBE_SHARED" not in os.environ:
        pytest.skip("SEMTUBE_SHARED names no folder of real data and models")
    return Path(os.environ["SEMTUBE_SHARED"])


@pytest.fixture(scope="session")
def rows_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """48 chat rows of a small rewriting task, of unequal length."""
    words = ["red", "green", "blue", "one", "two", "three", "four", "wide", "narrow"]
    rows = []
    for number in range(48):
        chosen = [words[(number * 7 + k * k) % len(words)] for k in range(2 + number % 5)]
        turns = [
            {"role": "system", "content": "Turn the words round."},
            {"role": "user", "content": " ".join(chosen)},
            {"role": "assistant", "content": " ".join(reversed(chosen))},
        ]
        rows.append(json.dumps({"messages": turns}))
    path = tmp_path_factory.mktemp("rows") / "rows.jsonl"
    path.write_text("\n".join(rows))
    return path
