"""Losses that were once written down; `python tools/regold.py` renews them."""

import importlib.util
import json
from pathlib import Path

import pytest

TOOLS = Path(__file__).parents[2] / "tools"
GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "losses.json").read_text())["series"]


def load_regold():
    spec = importlib.util.spec_from_file_location("regold", TOOLS / "regold.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


REGOLD = load_regold()


@pytest.mark.parametrize("name", REGOLD.SERIES)
def test_the_loss_series_is_the_golden_one(name: str) -> None:
    found = REGOLD.loss_series(REGOLD.SERIES[name])
    assert len(found) == len(GOLDEN[name]) == 20
    for step, (line, golden) in enumerate(zip(found, GOLDEN[name], strict=True)):
        assert line.keys() == golden.keys()
        # Other processors round otherwise, and 20 steps of Adam let that grow.
        tolerance = 1e-5 * 1.3**step
        for key, value in golden.items():
            message = f"step {step + 1}, {key}: if the change is meant, run tools/regold.py"
            assert line[key] == pytest.approx(value, rel=tolerance), message


def test_the_series_differ() -> None:
    last = [tuple(GOLDEN[name][-1].values()) for name in GOLDEN]
    assert len(set(last)) == len(last)
