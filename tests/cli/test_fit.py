"""`semtube fit` as a user meets it."""

import re
from pathlib import Path

import pytest

from semtube.cli import main

SIZES = [250 * 2**n for n in range(6)]


def write(path: Path, scales: dict[str, float], *, seeds=(1, 2, 3), rate: bool = True) -> str:
    lines = ["arm,num_examples,seed,exact_match"]
    for arm, scale in scales.items():
        for m in SIZES:
            for seed in seeds:
                error = 0.05 + (scale + 0.01 * seed) * m**-0.5
                lines.append(f"{arm},{m},{seed},{1 - error if rate else error}")
    path.write_text("\n".join(lines) + "\n")
    return str(path)


def fit(capsys, *words: str) -> tuple[int, str, str]:
    status = main(["fit", *words])
    out, err = capsys.readouterr()
    return status, out, err


def words(path: str, rate: bool = True) -> list[str]:
    return [path, "--baseline", "ntp", "--score", "exact_match",
            "--higher_is_better", str(rate).lower()]  # fmt: skip


@pytest.mark.parametrize("rate", [True, False])
def test_fits_and_multipliers(capsys, tmp_path: Path, rate: bool) -> None:
    path = write(tmp_path / "r.csv", {"ntp": 4.0, "half|arm": 2.0}, rate=rate)
    status, out, err = fit(capsys, *words(path, rate))
    assert (status, err) == (0, "")
    row = next(line for line in out.splitlines() if line.startswith("| half"))
    assert row.startswith("| half\\|arm | 6 | 3 | 2.02 [")
    assert "| 0.5 [" in row
    assert "| yes |" in row
    assert row.endswith("6 power law |")
    assert "How many times fewer examples half|arm needs for the score of ntp" in out
    first, *_, last = [line for line in out.splitlines() if re.match(r"\| \d", line)]
    assert first.startswith("| 250 |")
    assert first.count(">= 1x, outside the sizes run") == 2
    # (4.02 / 2.02)^2 at the mean over seeds; between sizes the interpolation is a chord.
    interpolated, by_fit = (float(x) for x in re.findall(r"\| ([\d.]+)x \[", last))
    assert by_fit == 3.96
    assert interpolated == pytest.approx(3.96, rel=0.02)
    difference = re.search(r"Exponent b of half\|arm less that of ntp: (\S+) \[\S+, \S+\]$", out)
    assert float(difference[1]) == pytest.approx(0, abs=1e-3)


def test_one_seed_and_few_sizes(capsys, tmp_path: Path) -> None:
    path = Path(write(tmp_path / "r.csv", {"ntp": 4.0, "tube": 4.0}, seeds=(1,)))
    status, out, _ = fit(capsys, *words(str(path)))
    assert status == 0
    assert out.count("1x no interval: one seed") == 12
    assert "Exponent b of tube less that of ntp: +0 (no interval: one seed)" in out
    lines = [x for x in path.read_text().splitlines() if ",250," in x or ",500," in x]
    path.write_text("arm,num_examples,seed,exact_match\n" + "\n".join(lines))
    status, out, _ = fit(capsys, *words(str(path)))
    assert status == 0
    assert out.count("no fit: fewer than 4 sizes") == 3
    assert out.count("| fewer than 4 sizes |") == 2


def test_mistakes_are_one_sentence(capsys, tmp_path: Path) -> None:
    path = write(tmp_path / "r.csv", {"ntp": 4.0, "tube": 3.0})
    good = words(path)
    for given, sentence in (
        ([*good[:2], "nto", *good[3:]], "--baseline: "),
        ([*good[:4], "accuracy", *good[5:]], f"{path}:1: lacks the column 'accuracy'"),
        ([*good, "--confidence", "95"], "--confidence must lie between 0 and 1, got 95.0"),
        ([*good, "--sore", "x"], "no option '--sore': did you mean '--score'?"),
        (good[:-2], "higher_is_better"),
    ):
        status, out, err = fit(capsys, *given)
        assert (status, out) == (2, "")
        assert sentence in err
        assert err.count("\n") == 1
    Path(path).write_text("arm,num_examples,seed,exact_match\nntp,10,1,61.5\n")
    assert "wanted a rate between 0 and 1" in fit(capsys, *good)[2]
