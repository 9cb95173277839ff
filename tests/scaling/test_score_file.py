"""A file of scores: what is read, what is refused and where, what is left out."""

from pathlib import Path

import pytest

from semtube.errors import UserError
from semtube.scaling.score_file import full_grid, read_scores

HEAD = "arm,num_examples,seed,loss\n"


@pytest.fixture
def write(tmp_path: Path):
    def _write(text: str | bytes) -> Path:
        path = tmp_path / "results.csv"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return _write


def test_columns_in_any_order_with_others_beside(write) -> None:
    path = write('\ufeffseed,loss,note,num_examples,arm\n1,0.5,"a, b",10,ntp\n2,0.25,,10,tube\n')
    assert read_scores(path, "loss") == {"ntp": {(10, 1): 0.5}, "tube": {(10, 2): 0.25}}


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", ":1: lacks the column 'arm'; its columns: nothing"),
        ("arm,num_examples,seed\n", ":1: lacks the column 'loss'; its columns: arm, num_ex"),
        ("arm,seed,num_examples,seed,loss\n", ":1: has two columns 'seed'"),
        (HEAD, ": holds no runs"),
        (HEAD + "a,1,1\n", ":2: wanted as many fields"),
        (HEAD + "a,1,1,2,3\n", ":2: wanted as many fields"),
        (HEAD + "a,1,1,2\n,1,1,2\n", ":3, column 'arm': wanted a name, got nothing"),
        (HEAD + "a,0,1,2\n", ":2, column 'num_examples': wanted a whole number above 0, got '0'"),
        (HEAD + "a,1.5,1,2\n", ":2, column 'num_examples': wanted a whole number above 0, got '1"),
        (HEAD + "a,1,x,2\n", ":2, column 'seed': wanted a whole number, got 'x'"),
        (HEAD + "a,1,1,nan\n", ":2, column 'loss': wanted a finite number, got 'nan'"),
        (HEAD + "a,1,1,50%\n", ":2, column 'loss': wanted a finite number, got '50%'"),
        (HEAD + "a,1,1,2\na,1,2,2\na,1,1,3\n", ":4: arm 'a' with 1 examples and seed 1 stands in"),
        (HEAD + 'a,1,1,"2\n', ": wanted CSV ("),
        (HEAD.encode() + b"\xff,1,1,2\n", ": wanted UTF-8 text ("),
    ],
)
def test_a_mistake_is_told_with_its_place(write, text, sentence) -> None:
    path = write(text)
    with pytest.raises(UserError) as told:
        read_scores(path, "loss")
    assert str(told.value).startswith(f"{path}{sentence}")


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file"):
        read_scores(tmp_path / "none.csv", "loss")


def test_what_is_not_in_all_arms_is_left_out_and_told() -> None:
    a = {(m, s): m + s / 10 for m in (10, 20, 40) for s in (1, 2, 3)}
    b = {(m, s): -m for m in (10, 20) for s in (1, 3)} | {(10, 2): -1.0}
    grid = full_grid({"a": a, "b": b})
    assert grid.sizes_F.tolist() == [10, 20]
    assert grid.seeds == (1, 3)
    assert grid.scores_AFS.tolist() == [[[10.1, 10.3], [20.1, 20.3]], [[-10, -10], [-20, -20]]]
    assert grid.left_out == (
        "40 examples left out: not in all of 'a' and 'b'",
        "seed 2 left out: not run for 'b' at 20",
    )


def test_arms_that_share_nothing() -> None:
    with pytest.raises(UserError, match="'a' and 'b' have no number of examples in common"):
        full_grid({"a": {(1, 1): 0.0}, "b": {(2, 1): 0.0}})
    with pytest.raises(UserError, match=r"no seed .* seed 1 lacks 'b' at 1; seed 2 lacks 'a' at 1"):
        full_grid({"a": {(1, 1): 0.0}, "b": {(1, 2): 0.0}})
