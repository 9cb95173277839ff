"""The NL-RX dialect's parser: trees by hand, Python's `re` as oracle, errors by position."""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from semtube.tasks.regex_syntax import (
    ANY_LETTER,
    LARGEST_COUNT,
    LAST_CODE_POINT,
    LONGEST_REGEX,
    MARKER,
    Characters,
    Complement,
    Concatenation,
    Intersection,
    RegexSyntaxError,
    Repetition,
    Syntax,
    Union,
    parse,
)


def one(character: str) -> Characters:
    return Characters(((ord(character), ord(character)),))


A, B, C, D = map(one, "abcd")


def span(*ends: str) -> Characters:
    return Characters(tuple((ord(first), ord(last)) for first, last in ends))


@pytest.mark.parametrize(
    ("text", "tree"),
    [
        ("a", A),
        (".", ANY_LETTER),
        ("(a)", A),
        ("((a))", A),
        ("()", Concatenation(())),
        ("a()", Concatenation((A, Concatenation(())))),
        ("abc", Concatenation((A, B, C))),
        ("a(bc)", Concatenation((A, Concatenation((B, C))))),
        ("a|b|c", Union((A, B, C))),
        ("a|(b|c)", Union((A, Union((B, C))))),
        ("a&b&c", Intersection((A, B, C))),
        ("a|b&c", Union((A, Intersection((B, C))))),
        ("a&b|c", Union((Intersection((A, B)), C))),
        ("ab&c", Intersection((Concatenation((A, B)), C))),
        ("a&bc|d", Union((Intersection((A, Concatenation((B, C)))), D))),
        ("a*", Repetition(A, 0, None)),
        ("a+", Repetition(A, 1, None)),
        ("a?", Repetition(A, 0, 1)),
        ("a{3}", Repetition(A, 3, 3)),
        ("a{3,}", Repetition(A, 3, None)),
        ("a{3,5}", Repetition(A, 3, 5)),
        ("a{0}", Repetition(A, 0, 0)),
        ("a{03,5}", Repetition(A, 3, 5)),
        (f"a{{{LARGEST_COUNT}}}", Repetition(A, LARGEST_COUNT, LARGEST_COUNT)),
        ("a*{2}", Repetition(Repetition(A, 0, None), 2, 2)),
        ("ab*", Concatenation((A, Repetition(B, 0, None)))),
        ("(ab)*", Repetition(Concatenation((A, B)), 0, None)),
        ("a|b*", Union((A, Repetition(B, 0, None)))),
        ("~a", Complement(A)),
        ("~~a", Complement(Complement(A))),
        ("~a*", Repetition(Complement(A), 0, None)),
        ("~(a*)", Complement(Repetition(A, 0, None))),
        ("~ab", Concatenation((Complement(A), B))),
        ("~(ab)", Complement(Concatenation((A, B)))),
        ("a~b", Concatenation((A, Complement(B)))),
        ("~a|b", Union((Complement(A), B))),
        ("~(~(a)b)", Complement(Concatenation((Complement(A), B)))),
        ("[abc]", span("ac")),
        ("[b-da]", span("ad")),
        ("[c-da-b]", span("ad")),
        ("[A-Za-z0-9]", span("09", "AZ", "az")),
        ("[a-zb]", span("az")),
        ("[aa-ce]", span("ac", "ee")),
        ("[a-a]", A),
        ("[-a]", span("--", "aa")),
        ("[a-]", span("--", "aa")),
        ("[a-c-]", span("--", "ac")),
        ("[.|&~*+?(){}[$]", span("$$", "&&", "(+", "..", "??", "[[", "{~")),
        (r"[\]\\\-]", span("--", r"\]")),
        ("[a^]", span("^^", "aa")),
        ("[^b-y]", Characters(((0, ord("a")), (ord("z"), LAST_CODE_POINT)))),
        ("[^^]", Characters(((0, ord("]")), (ord("_"), LAST_CODE_POINT)))),
        (r"\b", one(MARKER)),
        (r"\ba\b", Concatenation((one(MARKER), A, one(MARKER)))),
        (r"\.\*\(\\", Concatenation(tuple(map(one, ".*(\\")))),
        (r"\|\&\~", Concatenation(tuple(map(one, "|&~")))),
        ("a b", Concatenation((A, one(" "), B))),
        ("^a$", Concatenation((one("^"), A, one("$")))),
        ("é犬", Concatenation((one("é"), one("犬")))),
    ],
)
def test_a_text_has_one_tree(text: str, tree: Syntax) -> None:
    assert parse(text) == tree


@pytest.mark.parametrize(
    ("text", "position", "wanted", "found"),
    [
        ("", 0, "an operand", "the end"),
        ("|a", 0, "an operand", "'|'"),
        ("a|", 2, "an operand", "the end"),
        ("a||b", 2, "an operand", "'|'"),
        ("a&|b", 2, "an operand", "'|'"),
        ("(a&)", 3, "an operand", "')'"),
        ("a(|b)", 2, "an operand", "'|'"),
        ("~", 1, "an operand", "the end"),
        ("a~", 2, "an operand", "the end"),
        ("(~)", 2, "an operand", "')'"),
        ("a~|b", 2, "an operand", "'|'"),
        ("*a", 0, "an operand to repeat", "'*'"),
        ("a|+", 2, "an operand to repeat", "'+'"),
        ("(?:a)", 1, "an operand to repeat", "'?'"),
        ("a~*", 2, "an operand to repeat", "'*'"),
        ("{3}", 0, "an operand to repeat", "'{'"),
        ("(a", 2, "')' for the '(' at character 1", "the end"),
        ("a((b)", 5, "')' for the '(' at character 2", "the end"),
        ("a)", 1, r"'(' before, or \) for the character,", "')'"),
        ("(a))b", 3, r"'(' before, or \) for the character,", "')'"),
        ("a]", 1, r"an operand, or \] for the character,", "']'"),
        ("a}", 1, r"an operand, or \} for the character,", "'}'"),
        ("a{", 1, "a count {n}, {n,} or {m,n}", "'{'"),
        ("a{,3}", 1, "a count {n}, {n,} or {m,n}", "'{'"),
        ("a{x}", 1, "a count {n}, {n,} or {m,n}", "'{'"),
        ("a{1 }", 1, "a count {n}, {n,} or {m,n}", "'{'"),
        ("a{-1}", 1, "a count {n}, {n,} or {m,n}", "'{'"),
        ("a{٣}", 1, "a count {n}, {n,} or {m,n}", "'{'"),
        ("ab{5,3}", 2, "a count {m,n} with m <= n", "'{5,3}'"),
        ("a{1000000000}", 1, "a count of at most 999999999", "'{'"),
        ("a{1," + "9" * 5000 + "}", 1, "a count of at most 999999999", "'{'"),
        ("a\\", 2, "b or a sign after the backslash", "the end"),
        (r"\d", 1, "b or a sign after the backslash", "'d'"),
        (r"\1", 1, "b or a sign after the backslash", "'1'"),
        (r"\é", 1, "b or a sign after the backslash", "'é'"),
        ("[]", 1, "a character of the class", "']'"),
        ("[^]", 2, "a character of the class", "']'"),
        ("[a", 2, "']' after the class", "the end"),
        ("[", 1, "']' after the class", "the end"),
        ("[a-", 3, "']' after the class", "the end"),
        ("x[z-a]", 2, "a range from lower to higher", "'z'"),
        (r"[a\b]", 2, r"a character (\b stands outside classes)", r"'\\'"),
        ("a\n", 1, "a printable character", r"'\n'"),
        ("a\tb", 1, "a printable character", r"'\t'"),
        ("a\x00", 1, "a printable character", r"'\x00'"),
        ("[\x08]", 1, "a printable character", r"'\x08'"),
        ("\x7f", 0, "a printable character", r"'\x7f'"),
        ("a\ud800", 1, "a printable character", r"'\ud800'"),
        ("a" * (LONGEST_REGEX + 1), LONGEST_REGEX, "the end", "200001 characters in all"),
    ],
)
def test_an_error_names_position_and_what_is_wanted(
    text: str, position: int, wanted: str, found: str
) -> None:
    with pytest.raises(RegexSyntaxError) as caught:
        parse(text)
    error = caught.value
    assert (error.position, error.wanted, error.found) == (position, wanted, found)
    assert str(error) == f"character {position + 1}: {wanted} is wanted, got {found}"


@settings(deadline=None)
@given(st.text("ab.[]^-()|&~*+?{},0123\\b", max_size=20) | st.text(max_size=20))
def test_any_text_has_a_tree_or_a_syntax_error_within_it(text: str) -> None:
    try:
        parse(text)
    except RegexSyntaxError as error:
        position = error.position
    else:
        position = 0
    assert 0 <= position <= len(text)


DEEP = 30_000


@pytest.mark.parametrize(
    ("text", "depth"),
    [
        ("(" * DEEP + "a" + ")" * DEEP, 1),
        ("~" * DEEP + "a", DEEP + 1),
        ("a" + "*" * DEEP, DEEP + 1),
        ("(a|" * DEEP + "b" + ")" * DEEP, DEEP + 1),
        ("~(a&" * DEEP + "b" + ")*" * DEEP, 3 * DEEP + 1),
        ("犬" * 2 * DEEP, 2),
        ("[" + "ab" * DEEP + "]", 1),
    ],
    ids=["groups", "complements", "stars", "unions", "all", "other script", "class"],
)
def test_neither_depth_nor_length_overflows(text: str, depth: int) -> None:
    level, deepest = [parse(text)], 0
    while level:
        deepest += 1
        operands = []
        for node in level:
            if isinstance(node, Complement | Repetition):
                operands.append(node.body)
            elif not isinstance(node, Characters):
                operands += node.parts
        level = operands
    assert deepest == depth


@pytest.mark.parametrize("text", ["(" * DEEP, "a|" * DEEP, "[" + "a-" * DEEP, "a{" + "1" * DEEP])
def test_a_long_text_may_be_wrong_at_its_end(text: str) -> None:
    with pytest.raises(RegexSyntaxError):
        parse(text)


@pytest.mark.parametrize("name", ["synth_train", "synth_test", "turk_train", "turk_test"])
def test_every_published_regex_is_of_the_dialect(shared: Path, name: str) -> None:
    lines = (shared / "data" / "nl_rx" / f"{name}.jsonl").read_text().splitlines()
    regexes = {json.loads(line)["messages"][-1]["content"] for line in lines}
    assert len(regexes) > 1900
    for regex in regexes:
        parse(regex)
