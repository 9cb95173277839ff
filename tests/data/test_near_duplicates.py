"""Near-duplicates against all pairs compared one by one."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from semtube.data import near_duplicates
from semtube.data.examples import Example, Message, read_examples
from semtube.data.near_duplicates import NearPair, count_near, near_overlap, row_text


def row(question: str, answer: str = "", system: str | None = None) -> Example:
    turns = [Message("system", system)] if system is not None else []
    turns += [Message("user", question), Message("assistant", answer)]
    return Example("chat", tuple(turns), "x:1")


def texts(*contents: str) -> list[Example]:
    return [Example("text", (Message("assistant", content),), "x:1") for content in contents]


def shingles(text: str) -> set[str]:
    text = text.ljust(5, "\0")
    return {text[i : i + 5] for i in range(len(text) - 4)}


def by_comparing_all(
    examples: list[Example], others: list[Example], threshold: float
) -> list[NearPair]:
    found = []
    for i, example in enumerate(examples):
        one = shingles(row_text(example))
        best = NearPair(i, -1, 0.0)
        for j, other in enumerate(others):
            two = shingles(row_text(other))
            similarity = len(one & two) / len(one | two)
            if similarity > best.similarity:
                best = NearPair(i, j, similarity)
        if best.similarity >= threshold:
            found.append(best)
    return found


#: Few letters, so that stretches repeat; some need two UTF-16 units, or fold to several letters.
CONTENTS = st.text(alphabet="ab 𝔘é你", min_size=1, max_size=24)
ROWS = st.lists(CONTENTS, min_size=1, max_size=12)
THRESHOLDS = st.sampled_from([0.05, 0.1, 0.3, 0.5, 0.6, 0.7, 0.75, 0.8, 0.9, 1.0])


@settings(max_examples=100, deadline=None)
@given(ROWS, ROWS, THRESHOLDS, st.data())
def test_the_same_pairs_as_comparing_all(left, right, threshold, data):
    changed = [
        content[:place] + letter + content[place + cut :]
        for content in left
        for place in [data.draw(st.integers(0, len(content)))]
        for letter, cut in [data.draw(st.sampled_from([("", 0), ("", 1), ("b", 0), ("a", 1)]))]
        if (content[:place] + letter + content[place + cut :]).strip()
    ]
    examples, others = texts(*left), texts(*right, *changed)
    found = near_overlap(examples, others, threshold)
    assert found == by_comparing_all(examples, others, threshold)


@pytest.mark.slow
@pytest.mark.parametrize("threshold", [0.5, 0.8])
def test_the_same_pairs_on_real_rows(threshold, shared: Path):
    folder = shared / "data" / "nl_rx"
    test = read_examples(folder / "synth_test.jsonl")[:60]
    train = read_examples(folder / "synth_train.jsonl")[:4000]
    found = near_overlap(test, train, threshold)
    assert len(found) > 10
    assert found == by_comparing_all(test, train, threshold)


@pytest.mark.parametrize("threshold", [0.4, 0.56, 0.8])
def test_a_similarity_of_just_the_threshold_counts(threshold):
    # 25 shingles in one row, k of them in the other: k / 25; and 0.56 * 25 rounds above 14.
    whole = "abcdefghijklmnopqrstuvwxyz012"
    part = whole[: round(threshold * 25) + 4]
    assert len(shingles(whole)) == 25
    assert near_overlap(texts(part), texts(whole), threshold) == [NearPair(0, 0, threshold)]
    assert near_overlap(texts(whole), texts(part), threshold) == [NearPair(0, 0, threshold)]
    assert near_overlap(texts(whole), texts(part[:-1]), threshold) == []


def test_blocks_change_nothing(monkeypatch):
    examples = texts(
        *(f"{word} and {other}" for word in "abcd" for other in ("this", "that thing"))
    )
    whole = near_overlap(examples, examples[::-1], 0.3)
    assert len(whole) == len(examples)
    monkeypatch.setattr(near_duplicates, "_ROWS", 3)
    monkeypatch.setattr(near_duplicates, "_PAIRS", 2)
    assert near_overlap(examples, examples[::-1], 0.3) == whole


def test_case_white_space_form_and_the_system_turn_do_not_count():
    one = row("Which  LINES\nhave a Dog", "(dog).*", system="Convert text to a regex.")
    two = row(
        "which lines have a dog",
        "(\N{FULLWIDTH LATIN SMALL LETTER D}og).*",
        system="Another prompt altogether, longer.",
    )
    assert row_text(one) == row_text(two) == "which lines have a dog (dog).*"
    assert near_overlap([one], [two]) == [NearPair(0, 0, 1.0)]


def test_a_long_system_turn_makes_no_rows_alike():
    system = "You are a helpful assistant. " * 20
    assert near_overlap([row("dogs?", "yes", system)], [row("cats!", "no", system)]) == []


def test_the_nearest_of_several_is_named_the_first_of_equals():
    others = texts("a long sentence on cats", "a long sentence on dogs", "A long sentence on dogs")
    assert near_overlap(texts("a long  sentence on dogs"), others, 0.5) == [NearPair(0, 1, 1.0)]


def test_texts_shorter_than_a_shingle_are_alike_when_equal():
    assert near_overlap(texts("ab", "abc"), texts("abc", "abcd"), 0.01) == [NearPair(1, 0, 1.0)]


def test_nothing_is_near_nothing():
    assert near_overlap([], texts("a")) == near_overlap(texts("a"), []) == []


@pytest.mark.parametrize("threshold", [0, -0.1, 1.01, float("nan")])
def test_a_threshold_out_of_range_is_refused(threshold):
    with pytest.raises(
        ValueError, match=f"threshold must be above 0 and at most 1, got {threshold}"
    ):
        near_overlap(texts("a"), texts("a"), threshold)


def test_the_sentence():
    found = count_near(
        "test", texts("a long sentence", "other"), "train", texts("a long sentence.")
    )
    assert found.sentence() == (
        "2 test rows: 1 with a near-duplicate in train "
        "(Jaccard similarity of character 5-grams at least 0.8)"
    )
