"""Paired comparison of two runs: counts by hand, rates by simulation, faults by file and line."""

import json

import numpy as np
import pytest
from scipy import stats

from semtube.errors import UserError
from semtube.evaluation.compare import (
    compare_records,
    comparison_table,
    read_records,
    score_matrix,
    score_names,
)


def record(row: int | str, right: bool) -> dict:
    return {
        "id": f"row-{row}",
        "prompt": "p",
        "gold": "g",
        "prediction": "g" if right else "x",
        "exact_match": right,
        "prefix_match": right,
        "stopped": True,
        "num_tokens": 1,
    }


def run(rights) -> list[dict]:
    return [record(row, bool(right)) for row, right in enumerate(rights)]


def pair(both_right: int, only_a: int, only_b: int, both_wrong: int) -> tuple[list, list]:
    a = [1] * both_right + [1] * only_a + [0] * only_b + [0] * both_wrong
    b = [1] * both_right + [0] * only_a + [1] * only_b + [0] * both_wrong
    return run(a), run(b)


def test_counts_scores_and_p_match_hand_numbers():
    comparison = compare_records(*pair(5, 1, 9, 25), seed=0)
    assert comparison.num_examples == 40
    assert (comparison.both_right, comparison.only_a) == (5, 1)
    assert (comparison.only_b, comparison.both_wrong) == (9, 25)
    assert (comparison.score_a, comparison.score_b) == (6 / 40, 14 / 40)
    assert comparison.difference == 8 / 40
    # Of 10 fair coins, 0, 1, 9 or 10 heads are as uneven as 1 : 9.
    assert comparison.mcnemar_p == pytest.approx((1 + 10 + 10 + 1) / 2**10)


def test_exchanging_the_runs_turns_the_difference_around():
    a, b = pair(5, 2, 9, 25)
    forth, back = compare_records(a, b, seed=0), compare_records(b, a, seed=0)
    assert back.difference == -forth.difference
    assert back.mcnemar_p == pytest.approx(forth.mcnemar_p)
    assert (back.only_a, back.only_b) == (forth.only_b, forth.only_a)


def test_equal_runs_differ_by_nothing():
    comparison = compare_records(*pair(3, 0, 0, 4), seed=0)
    assert comparison.mcnemar_p == 1.0
    assert (comparison.interval.low, comparison.interval.high) == (0, 0)


def test_interval_matches_a_plain_bootstrap_and_is_fixed_by_its_seed():
    a, b = pair(50, 20, 40, 90)
    comparison = compare_records(a, b, seed=1)
    assert comparison == compare_records(a, b, seed=1)
    differences = np.array([right["exact_match"] for right in b], dtype=float)
    differences -= [right["exact_match"] for right in a]
    generator = np.random.default_rng(2)
    means = [generator.choice(differences, 200).mean() for _ in range(10_000)]
    low, high = np.quantile(means, [0.025, 0.975])
    # Means move in steps of 1 / 200; two simulations may end a step apart.
    assert comparison.interval.low == pytest.approx(low, abs=1.01 / 200)
    assert comparison.interval.high == pytest.approx(high, abs=1.01 / 200)


def test_interval_covers_the_true_difference_at_the_stated_rate():
    generator, num_experiments, held = np.random.default_rng(3), 1000, 0
    for seed in range(num_experiments):
        counts = generator.multinomial(150, [0.3, 0.1, 0.2, 0.4])
        interval = compare_records(*pair(*counts), num_resamples=1000, seed=seed).interval
        held += interval.low <= 0.1 <= interval.high
    low, high = stats.binom.ppf([5e-5, 1 - 5e-5], num_experiments, 0.95)
    assert low <= held <= high


def test_mcnemar_rejects_equal_runs_no_more_often_than_stated():
    generator, num_experiments, rejected = np.random.default_rng(4), 2000, 0
    for _ in range(num_experiments):
        counts = generator.multinomial(80, [0.1, 0.4, 0.4, 0.1])
        comparison = compare_records(*pair(*counts), num_resamples=1, seed=0)
        rejected += comparison.mcnemar_p <= 0.05
    assert rejected <= stats.binom.ppf(1 - 1e-4, num_experiments, 0.05)
    # An exact test of about 60 pairs rejects less often than stated, but by no means never.
    assert rejected >= stats.binom.ppf(1e-4, num_experiments, 0.025)


def test_rows_pair_by_id_whatever_their_order():
    a, b = pair(5, 1, 9, 25)
    assert compare_records(a, b[::-1], seed=0) == compare_records(a, b, seed=0)


def test_duplicated_rows_pair_by_occurrence():
    a = [record("x", True), record("x", False), record("y", True)]
    b = [record("x", False), record("y", True), record("x", False)]
    matrix = score_matrix({"a": a, "b": b}, "exact_match")
    assert matrix.tolist() == [[True, False, True], [False, False, True]]


def test_rows_without_partner_are_counted_for_each_side():
    a = [record(row, True) for row in ("x", "x", "y", "z")]
    b = [record(row, True) for row in ("x", "y", "w")]
    with pytest.raises(UserError, match="2 of 4 in a and 1 of 3 in b have no partner"):
        compare_records(a, b, seed=0)


def test_empty_runs_and_unknown_scores_are_refused():
    with pytest.raises(UserError, match="a holds no records"):
        compare_records([], [], seed=0)
    with pytest.raises(UserError, match="a has no score 'bleu': use one of exact_match"):
        compare_records(run([1]), run([1]), score="bleu", seed=0)


def test_another_score_is_read_from_its_own_field():
    a, b = run([0, 0]), run([0, 0])
    b[1]["prefix_match"] = True
    assert compare_records(a, b, score="prefix_match", seed=0).only_b == 1
    assert compare_records(a, b, seed=0).only_b == 0


def test_the_first_score_of_a_run_is_compared_where_none_is_named():
    def task_run(rights):
        return [
            {"strict_match": right, "lenient_match": True}
            | {k: v for k, v in record(row, True).items() if not k.endswith("_match")}
            | {"group": None, "log_probabilities": {}}
            for row, right in enumerate(rights)
        ]

    a, b = task_run([True, False, True]), task_run([True, True, True])
    assert score_names(a) == ["strict_match", "lenient_match", "stopped"]
    comparison = compare_records(a, b, seed=0)
    assert (comparison.score, comparison.only_b) == ("strict_match", 1)


def test_rows_that_were_not_judged_in_both_are_left_out_and_counted():
    a, b = pair(2, 1, 1, 0)
    a[0]["exact_match"], b[3]["exact_match"] = None, None
    comparison = compare_records(a, b, seed=0)
    assert (comparison.num_examples, comparison.num_unjudged) == (2, 2)
    assert (comparison.both_right, comparison.only_a, comparison.only_b) == (1, 1, 0)
    for row in a:
        row["exact_match"] = None
    with pytest.raises(UserError, match="a has no score 'exact_match'"):
        compare_records(a, b, score="exact_match", seed=0)
    a, b = run([1, 0]), run([1, 0])
    a[0]["exact_match"], b[1]["exact_match"] = None, None
    with pytest.raises(UserError, match="exact_match judged no row in all of a, b"):
        compare_records(a, b, seed=0)


def write(path, lines):
    path.write_bytes(b"".join(line + b"\n" for line in lines))
    return path


def test_records_survive_the_file(tmp_path):
    records = [record("ä", True), record("ä", False), record("z", True) | {"extra": 1}]
    lines = [json.dumps(each, ensure_ascii=False).encode() for each in records]
    assert read_records(write(tmp_path / "examples.jsonl", lines)) == records


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b'{"id": "cut', 'wanted one JSON object, got b\'{"id": "cut'),
        (b"", "wanted one JSON object"),
        (b'{"id": "\xff"}', "wanted one JSON object"),
        (b"[1]", "wanted a JSON object, got list"),
        (b'{"id": "x"}', "lacks the field 'prompt'"),
        (json.dumps(record(1, True) | {"stopped": 1}).encode(), "'stopped' must be bool, got 1"),
        (json.dumps(record(1, True) | {"num_tokens": True}).encode(), "'num_tokens' must be int"),
    ],
)
def test_a_bad_line_is_named_by_file_and_line(tmp_path, line, message):
    good = json.dumps(record(0, True)).encode()
    path = write(tmp_path / "examples.jsonl", [good, line, good])
    with pytest.raises(UserError) as error:
        read_records(path)
    assert str(error.value).startswith(f"{path}:2: ")
    assert message in str(error.value)


def test_a_missing_or_empty_file_is_named(tmp_path):
    with pytest.raises(UserError, match=r"missing\.jsonl: no such file"):
        read_records(tmp_path / "missing.jsonl")
    with pytest.raises(UserError, match=r"empty\.jsonl: holds no records"):
        read_records(write(tmp_path / "empty.jsonl", []))


def test_the_table_holds_every_number_and_escapes_names():
    comparison = compare_records(*pair(5, 1, 9, 25), seed=0)
    table = comparison_table(comparison, "next|token", "tube\n\\ 0.02")
    lines = table.splitlines()
    assert lines[0] == "| exact_match | value |"
    assert r"| next\|token, % | 15.0 |" in lines
    assert r"| tube \\ 0.02, % | 35.0 |" in lines
    assert r"| tube \\ 0.02 - next\|token, points | +20.0 |" in lines
    assert "| McNemar's exact p | 0.0215 |" in lines
    # Whatever the names, each line has the three bare pipes of a two-column table.
    assert {line.replace(r"\|", "").count("|") for line in lines} == {3}
