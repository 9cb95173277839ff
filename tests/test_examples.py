"""Every script in examples/ runs as it stands and prints a finite term."""

import math
import re
import runpy
import sys
from pathlib import Path

import pytest
import torch

pytest.importorskip("transformers")

EXAMPLES = Path(__file__).parents[1] / "examples"
SCRIPTS = sorted(path.name for path in EXAMPLES.glob("*.py"))
#: What a script needs beside semtube's `hf` packages.
NEEDS = {
    "lightning_module.py": ["lightning"],
    "peft_lora.py": ["peft", "trl", "datasets"],
    "trl_sft.py": ["trl", "datasets"],
}
#: Runs of a script with other arguments than none.
MORE = [("trl_sft.py", ["--layout", layout]) for layout in ("padded", "padding_free")]
RUNS = [(name, []) for name in SCRIPTS] + MORE


@pytest.fixture(autouse=True)
def _as_in_a_process_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


# In this process: importing torch and transformers anew for each would take most of the time.
@pytest.mark.filterwarnings("ignore")  # what other libraries say of each other
@pytest.mark.parametrize(("name", "arguments"), RUNS, ids=[" ".join([n, *a]) for n, a in RUNS])
def test_an_example_runs_and_prints_a_finite_term(name, arguments, monkeypatch, capsys):
    for package in NEEDS.get(name, []):
        pytest.importorskip(package, reason=f"{name} needs {package}, which is not installed")
    monkeypatch.setattr(sys, "argv", [name, *arguments])
    with torch.random.fork_rng(devices=[]):
        runpy.run_path(str(EXAMPLES / name), run_name="__main__")
    printed = re.findall(r"'term_loss': '?(?:tensor\()?([^,)}']+)", capsys.readouterr().out)
    assert printed
    assert all(math.isfinite(float(value)) for value in printed)


@pytest.mark.parametrize("name", SCRIPTS)
def test_an_example_is_short_and_marks_what_is_new(name):
    lines = (EXAMPLES / name).read_text().splitlines()
    assert len(lines) <= 66
    # Behind the new line, or as a comment before it.
    [attaching] = [i for i, line in enumerate(lines) if "semtube.attach(" in line]
    assert any("# NEW" in line for line in lines[attaching - 1 : attaching + 1])
    assert any(name in line for line in lines[:20]), "the docstring says how to run it"


def test_the_table_names_every_example():
    named = re.findall(r"\[`?([a-z_]+\.py)`?\]\(\1\)", (EXAMPLES / "README.md").read_text())
    assert sorted(named) == SCRIPTS
