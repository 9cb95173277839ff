"""README and docs say only what runs."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, flags=re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("block", blocks("python"), ids=range(len(blocks("python"))))
def test_python_blocks_run(block: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    code = "import warnings; warnings.simplefilter('error')\n" + block
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)


def test_commands_run_in_their_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every `semtube` line of the README, as written, with fewer steps and rows."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "studies").symlink_to(ROOT / "studies")  # they are run in a checkout
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "src"))
    if has_data := "SEMTUBE_SHARED" in os.environ:
        monkeypatch.setenv("SEMTUBE_DATA", str(Path(os.environ["SEMTUBE_SHARED"]) / "data"))
    lines = [
        line
        for block in blocks("sh")
        for line in block.replace("\\\n", " ").splitlines()
        if line.startswith("semtube ") and not line.startswith("semtube demo")
    ]
    assert len(lines) >= 5
    for line in lines:
        # Without the tasks' data these would fetch them.
        if not has_data and any(word in line for word in ("data get", "--task nl", "runs/synth")):
            continue
        words = shlex.split(line, comments=True)[1:]
        words = ["2" if words[i - 1] == "--steps" else word for i, word in enumerate(words)]
        words = ["120" if words[i - 1] == "--num_pairs" else word for i, word in enumerate(words)]
        if words[0] in ("evaluate", "probe"):
            words += ["--limit", "20"]
        if "--drop_overlap" in words:  # a real set: fewer test rows cannot be asked for in training
            words = [word for word in words if word not in ("--test", "test")]
            words += ["--fraction", "0.02"]
        done = subprocess.run(
            [sys.executable, "-m", "semtube", *words], capture_output=True, text=True
        )
        assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"


def test_make_targets_named_in_the_readme_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):.*##", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"\bmake ([a-z-]+)", README)) <= targets


def test_ci_runs_the_readmes_test_command() -> None:
    assert "make test" in README
    assert "\nmake test\n" in (ROOT / ".ci" / "run").read_text()
