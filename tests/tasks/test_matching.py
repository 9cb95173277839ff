"""Exact and prefix match of a prediction with its gold text."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from semtube.tasks.matching import exact_match, prefix_match


@pytest.mark.parametrize(
    ("prediction", "gold", "exact", "prefix"),
    [
        ("a+b", "a+b", True, True),
        ("  a+b\n", "a+b ", True, True),
        ("a+b and more", "a+b", False, True),
        ("\na+b\na+b", "a+b", False, True),
        ("a+bc", "a+b", False, True),
        ("a+", "a+b", False, False),
        ("so a+b", "a+b", False, False),
        ("A+b", "a+b", False, False),
        ("a + b", "a+b", False, False),
        ("", "a+b", False, False),
        (" \n", "a+b", False, False),
    ],
)
def test_outer_white_space_is_ignored_and_all_else_counts(prediction, gold, exact, prefix):
    assert exact_match(prediction, gold) is exact
    assert prefix_match(prediction, gold) is prefix


@given(st.text(), st.text().filter(str.strip))
def test_exact_match_implies_prefix_match(prediction, gold):
    assert prefix_match(prediction, gold) or not exact_match(prediction, gold)
    assert exact_match(gold, gold)
    assert prefix_match(gold + prediction, gold)


@pytest.mark.parametrize("match", [exact_match, prefix_match])
@pytest.mark.parametrize("gold", ["", " \t\n"])
def test_an_empty_gold_text_is_refused(match, gold):
    with pytest.raises(ValueError, match="gold must hold more than white space, got"):
        match("anything", gold)
