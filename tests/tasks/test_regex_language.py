"""Equality of regex languages against two oracles that know no derivatives.

`describes` follows the sets of positions at which a match can end, `words` enumerates all strings
up to a length as arrays. Both read the syntax tree and are held to Python's `re` where that can
read the regex.
"""

import json
import random
import re
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import pairwise, product
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from semtube.tasks.regex_language import (
    MAX_LETTERS,
    Comparison,
    Verdict,
    regex_equal,
    same_language,
)
from semtube.tasks.regex_syntax import (
    ANY_LETTER,
    LAST_CODE_POINT,
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

EQUAL, DIFFERENT, UNDECIDED = Verdict.EQUAL, Verdict.DIFFERENT, Verdict.UNDECIDED
MAX_LENGTH = 6


# --- Trees: writing them, walking them -----------------------------------------------------------


def operands(node: Syntax) -> tuple[Syntax, ...]:
    if isinstance(node, Characters):
        return ()
    return (node.body,) if isinstance(node, Complement | Repetition) else node.parts


def with_operands(node: Syntax, new: tuple[Syntax, ...]) -> Syntax:
    if isinstance(node, Complement):
        return Complement(*new)
    if isinstance(node, Repetition):
        return Repetition(*new, node.least, node.most)
    return type(node)(new)


Place = tuple[int, ...]


def places(node: Syntax, here: Place = ()) -> Iterator[tuple[Place, Syntax]]:
    """All nodes with the way to them."""
    yield here, node
    for index, operand in enumerate(operands(node)):
        yield from places(operand, (*here, index))


def put(tree: Syntax, place: Place, new: Syntax) -> Syntax:
    """The tree with another node at a place."""
    if not place:
        return new
    parts = list(operands(tree))
    parts[place[0]] = put(parts[place[0]], place[1:], new)
    return with_operands(tree, tuple(parts))


def write(node: Syntax, least_level: int = 0) -> str:
    """The text of a tree; a level is that of the grammar's rule, 0 for a union."""
    match node:
        case Characters():
            return write_characters(node)
        case Concatenation(()):
            return "()"
        case Union(parts):
            level, text = 0, "|".join(write(part, 1) for part in parts)
        case Intersection(parts):
            level, text = 1, "&".join(write(part, 2) for part in parts)
        case Concatenation(parts):
            level, text = 2, "".join(write(part, 3) for part in parts)
        case Repetition(body, least, most):
            signs = {(0, None): "*", (1, None): "+", (0, 1): "?", (least, least): f"{{{least}}}"}
            count = f"{{{least},{'' if most is None else most}}}"
            level, text = 3, write(body, 3) + signs.get((least, most), count)
        case Complement(body):
            level, text = 4, "~" + write(body, 4)
    return text if level >= least_level and not is_group(node) else f"({text})"


def is_group(node: Syntax) -> bool:
    return isinstance(node, Concatenation) and len(node.parts) == 1


def write_characters(node: Characters) -> str:
    if node == ANY_LETTER:
        return "."
    ranges, sign = node.ranges, ""
    if ranges == ((ord(MARKER), ord(MARKER)),):
        return "\\b"
    if ranges[0][0] == 0:
        sign = "^"
        ranges = tuple((a[1] + 1, b[0] - 1) for a, b in pairwise(ranges))
        if node.ranges[-1][1] < LAST_CODE_POINT:
            ranges += ((node.ranges[-1][1] + 1, LAST_CODE_POINT),)
    elif len(ranges) == 1 and ranges[0][0] == ranges[0][1]:
        return escaped(chr(ranges[0][0]))
    pieces = (
        f"{escaped(chr(a))}-{escaped(chr(b))}" if a < b else escaped(chr(a)) for a, b in ranges
    )
    return f"[{sign}{''.join(pieces)}]"


def escaped(character: str) -> str:
    return "\\" + character if character in r"\|&~*+?{}()[].^-" else character


# --- The oracles ---------------------------------------------------------------------------------


def describes(tree: Syntax, string: str) -> bool:
    """Whether the whole string matches."""
    return len(string) in ends(tree, string, 0, {})


def ends(node: Syntax, string: str, start: int, known: dict[tuple[int, int], set[int]]) -> set[int]:
    """Where a match from `start` may end."""
    key = (id(node), start)
    if key not in known:
        known[key] = set(ends_unknown(node, string, start, known))
    return known[key]


def ends_unknown(node: Syntax, string: str, start: int, known: dict) -> set[int]:
    def after(body: Syntax, positions: set[int]) -> set[int]:
        return {end for position in positions for end in ends(body, string, position, known)}

    match node:
        case Characters(ranges):
            fits = start < len(string) and any(a <= ord(string[start]) <= b for a, b in ranges)
            return {start + 1} if fits else set()
        case Union(parts):
            return set.union(*(ends(part, string, start, known) for part in parts))
        case Intersection(parts):
            return set.intersection(*(ends(part, string, start, known) for part in parts))
        case Complement(body):
            return set(range(start, len(string) + 1)) - ends(body, string, start, known)
        case Concatenation(parts):
            positions = {start}
            for part in parts:
                positions = after(part, positions)
            return positions
        case Repetition(body, least, most):
            reached = {start}
            for _ in range(least):
                reached = after(body, reached)
            found = set(reached)
            # More rounds than characters only repeat the empty string.
            for _ in range(len(string) if most is None else most - least):
                reached = after(body, reached)
                found |= reached
            return found


Words = list[np.ndarray]
"""For every length n: which of the num_letters^n strings, in lexical order, are in the language."""


def words(node: Syntax, letters: str, max_length: int = MAX_LENGTH) -> Words:
    """All strings over the letters up to a length which the tree describes."""
    sizes = [len(letters) ** length for length in range(max_length + 1)]

    def nothing() -> Words:
        return [np.zeros(size, dtype=bool) for size in sizes]

    def joined(a: Words, b: Words) -> Words:
        found = nothing()
        for i, j in product(range(max_length + 1), repeat=2):
            if i + j <= max_length and a[i].any() and b[j].any():
                found[i + j] |= (a[i][:, None] & b[j][None, :]).ravel()
        return found

    def merged(a: Words, b: Words) -> Words:
        return [x | y for x, y in zip(a, b, strict=True)]

    empty = nothing()
    empty[0][0] = True
    parts = [words(part, letters, max_length) for part in operands(node)]
    match node:
        case Characters(ranges):
            found = nothing()
            found[1][:] = [any(a <= ord(x) <= b for a, b in ranges) for x in letters]
            return found
        case Union():
            return [np.logical_or.reduce(same_length) for same_length in zip(*parts, strict=True)]
        case Intersection():
            return [np.logical_and.reduce(same_length) for same_length in zip(*parts, strict=True)]
        case Complement():
            return [~flags for flags in parts[0]]
        case Concatenation():
            found = empty
            for part in parts:
                found = joined(found, part)
            return found
        case Repetition(_, least, most):
            power = empty
            for _ in range(least):
                power = joined(power, parts[0])
            found = power
            for _ in range(max_length if most is None else min(most - least, max_length)):
                power = joined(power, parts[0])
                found = merged(found, power)
            return found


def letters_of(*trees: Syntax) -> str:
    """A character of every class that the trees do not tell apart."""
    ranges = [
        node.ranges for tree in trees for _, node in places(tree) if isinstance(node, Characters)
    ]
    candidates = {MARKER, "!", *map(chr, range(32, 127))}
    candidates |= {chr(end) for part in ranges for a, b in part for end in (a, b) if end > 127}
    of_kind = {
        tuple(any(a <= ord(letter) <= b for a, b in part) for part in ranges): letter
        for letter in sorted(candidates, reverse=True)
    }
    return "".join(of_kind.values())


def check_witness(a: str, b: str, comparison: Comparison) -> None:
    """A string stands behind every `different`, and nothing behind `equal`."""
    if comparison.verdict is DIFFERENT:
        assert comparison.witness is not None
        told = [describes(parse(text), comparison.witness) for text in (a, b)]
        assert told[0] is not told[1], (a, b, comparison.witness)
    else:
        assert comparison.witness is None
    assert (comparison.reason is not None) is (comparison.verdict is UNDECIDED)


def agrees_with_enumeration(
    a: str, b: str, comparison: Comparison, most_strings: int, max_length: int = MAX_LENGTH
) -> bool:
    """Hold a verdict to all strings up to a length; False where they are too many to try."""
    trees = parse(a), parse(b)
    letters = letters_of(*trees)
    if len(letters) ** max_length > most_strings or comparison.verdict is UNDECIDED:
        return False
    both = zip(*(words(tree, letters, max_length) for tree in trees), strict=True)
    shortest = next((n for n, (x, y) in enumerate(both) if (x != y).any()), None)
    if comparison.witness is not None and len(comparison.witness) <= max_length:
        assert shortest == len(comparison.witness), (a, b)
    else:
        assert shortest is None, (a, b)
    return True


# --- Rewriting that keeps the language, and changes that need not --------------------------------

DOG = parse(".*dog.*")
NOTHING = parse("a&b")
EMPTY = Concatenation(())
ANY_STRING = Repetition(ANY_LETTER, 0, None)


def times(body: Syntax, count: int) -> tuple[Syntax, ...]:
    return (body,) * count


def unroll_plus(node: Syntax) -> Syntax | None:
    if isinstance(node, Repetition) and (node.least, node.most) == (1, None):
        return Concatenation((node.body, Repetition(node.body, 0, None)))
    return None


def unroll_at_least(node: Syntax) -> Syntax | None:
    if isinstance(node, Repetition) and node.least > 1 and node.most is None:
        return Concatenation((*times(node.body, node.least), Repetition(node.body, 0, None)))
    return None


def unroll_between(node: Syntax) -> Syntax | None:
    if isinstance(node, Repetition) and node.most is not None and node.most > 0:
        optional = Repetition(node.body, 0, 1)
        parts = (*times(node.body, node.least), *times(optional, node.most - node.least))
        return Concatenation(parts)
    return None


def unroll_star(node: Syntax) -> Syntax | None:
    if isinstance(node, Repetition) and (node.least, node.most) == (0, None):
        return Union((EMPTY, Concatenation((node.body, node))))
    return None


def count_in_two_steps(node: Syntax) -> Syntax | None:
    if isinstance(node, Repetition) and node.least > 1 and node.most is None:
        first = Repetition(node.body, node.least - 1, node.least - 1)
        return Concatenation((Repetition(node.body, 1, None), first))
    return None


def square_of_star(node: Syntax) -> Syntax | None:
    if isinstance(node, Repetition) and (node.least, node.most) == (0, None):
        square = Concatenation((node.body, node.body))
        return Repetition(Union((node.body, square)), 0, None)
    return None


def reverse_union(node: Syntax) -> Syntax | None:
    return Union(node.parts[::-1]) if isinstance(node, Union) else None


def reverse_intersection(node: Syntax) -> Syntax | None:
    return Intersection(node.parts[::-1]) if isinstance(node, Intersection) else None


def de_morgan_union(node: Syntax) -> Syntax | None:
    if isinstance(node, Union):
        return Complement(Intersection(tuple(map(Complement, node.parts))))
    return None


def de_morgan_intersection(node: Syntax) -> Syntax | None:
    if isinstance(node, Intersection):
        return Complement(Union(tuple(map(Complement, node.parts))))
    return None


def split_class(node: Syntax) -> Syntax | None:
    """[A-Za-z] as [A-Z]|[a-z], and a range as its first character or the rest."""
    if not isinstance(node, Characters) or node.ranges[0][0] < ord(" "):
        return None
    first, last = node.ranges[0]
    if len(node.ranges) > 1:
        return Union((Characters(node.ranges[:1]), Characters(node.ranges[1:])))
    if first < last:
        return Union((Characters(((first, first),)), Characters(((first + 1, last),))))
    return None


def class_by_complement(node: Syntax) -> Syntax | None:
    if isinstance(node, Characters):
        return Intersection((ANY_LETTER, Complement(Complement(node))))
    return None


def distribute(node: Syntax) -> Syntax | None:
    """X(Y|Z)... as XY...|XZ..."""
    if not isinstance(node, Concatenation):
        return None
    for index, part in enumerate(node.parts):
        if isinstance(part, Union):
            before, behind = node.parts[:index], node.parts[index + 1 :]
            return Union(tuple(Concatenation((*before, choice, *behind)) for choice in part.parts))
    return None


def distribute_intersection(node: Syntax) -> Syntax | None:
    """(X|Y)&Z as X&Z|Y&Z."""
    if not isinstance(node, Intersection):
        return None
    for index, part in enumerate(node.parts):
        if isinstance(part, Union):
            others = node.parts[:index] + node.parts[index + 1 :]
            return Union(tuple(Intersection((choice, *others)) for choice in part.parts))
    return None


def double_any_string(node: Syntax) -> Syntax | None:
    return Concatenation((node, node)) if node == ANY_STRING else None


def any_string_by_complement(node: Syntax) -> Syntax | None:
    return Complement(NOTHING) if node == ANY_STRING else None


def regroup(node: Syntax) -> Syntax | None:
    if isinstance(node, Concatenation) and len(node.parts) > 2:
        return Concatenation((node.parts[0], Concatenation(node.parts[1:])))
    return None


Rule = Callable[[Syntax], Syntax | None]

#: Equivalences; None where one does not apply to a node.
RULES: dict[str, Rule] = {
    "X+ = XX*": unroll_plus,
    "X{n,} = X..XX*": unroll_at_least,
    "X{n,} = X+X{n-1}": count_in_two_steps,
    "X{m,n} = X..X?": unroll_between,
    "X* = ()|XX*": unroll_star,
    "X* = (X|XX)*": square_of_star,
    "X|Y = Y|X": reverse_union,
    "X&Y = Y&X": reverse_intersection,
    "X|Y = ~(~X&~Y)": de_morgan_union,
    "X&Y = ~(~X|~Y)": de_morgan_intersection,
    "[A-Za-z] = [A-Z]|[a-z]": split_class,
    "[a] = .&~~[a]": class_by_complement,
    "X(Y|Z) = XY|XZ": distribute,
    "(X|Y)&Z = X&Z|Y&Z": distribute_intersection,
    ".* = .*.*": double_any_string,
    ".* = ~(a&b)": any_string_by_complement,
    "XYZ = X(YZ)": regroup,
    "X = (X)": lambda node: Concatenation((node,)),
    "X = ~~X": lambda node: Complement(Complement(node)),
    "X = X|X": lambda node: Union((node, node)),
    "X = X&X": lambda node: Intersection((node, node)),
    "X = X()": lambda node: Concatenation((node, EMPTY)),
    "X = X{1}": lambda node: Repetition(node, 1, 1),
    "X = X&.*": lambda node: Intersection((node, ANY_STRING)),
    "X = X|(a&b)": lambda node: Union((node, NOTHING)),
    "X = X|(X&Y)": lambda node: Union((node, Intersection((node, DOG)))),
    "X = (X&Y)|(X&~Y)": lambda node: Union(
        (Intersection((node, DOG)), Intersection((node, Complement(DOG))))
    ),
}


def rewritten(tree: Syntax, rule: Rule, rng: random.Random) -> Syntax | None:
    """The tree with the rule applied at one of the places it applies to."""
    found = [(place, new) for place, node in places(tree) if (new := rule(node)) is not None]
    return put(tree, *rng.choice(found)) if found else None


LEAVES = [parse(leaf) for leaf in ("[0-9]", "[a-z]", "[A-Z]", "[AEIOUaeiou]", ".", "dog", r"\b")]


def mutant(tree: Syntax, rng: random.Random) -> Syntax:
    """The tree with a part dropped, replaced or appended: a mistake such as models make."""
    place, node = rng.choice(list(places(tree)))
    changes: list[Syntax] = [
        rng.choice(LEAVES),
        Concatenation((node, ANY_STRING)),
        Concatenation((node, rng.choice(LEAVES))),
        Complement(node),
        Repetition(node, rng.randrange(3), None),
    ]
    if not isinstance(node, Characters):
        changes.append(rng.choice(operands(node) or (ANY_LETTER,)))
    if isinstance(node, Concatenation | Union | Intersection):
        dropped = rng.randrange(len(node.parts) or 1)
        changes.append(type(node)(node.parts[:dropped] + node.parts[dropped + 1 :] or (node,)))
        changes.append(rng.choice([Concatenation, Union, Intersection])(node.parts or (node,)))
    if isinstance(node, Repetition):
        changes.append(Repetition(node.body, node.least + 1, None))
    return put(tree, place, rng.choice(changes))


# --- Tests ---------------------------------------------------------------------------------------


def trees(has_all_operators: bool = True) -> st.SearchStrategy[Syntax]:
    """Small trees over a small alphabet, with & and ~ or without."""
    counts = st.sampled_from([(0, None), (1, None), (0, 1), (2, 2), (2, None), (1, 3), (0, 0)])

    def larger(smaller: st.SearchStrategy[Syntax]) -> st.SearchStrategy[Syntax]:
        several = st.lists(smaller, min_size=2, max_size=3).map(tuple)
        larger = several.map(Concatenation) | several.map(Union)
        larger |= st.builds(lambda body, count: Repetition(body, *count), smaller, counts)
        if has_all_operators:
            larger |= several.map(Intersection) | smaller.map(Complement)
        return larger

    leaves = [parse(leaf) for leaf in ("a", "b", "[ab]", ".", r"\b", "()", "[^a]", ".*")]
    return st.recursive(st.sampled_from(leaves), larger, max_leaves=8)


@pytest.fixture(scope="module")
def golds(shared: Path) -> list[str]:
    """The 2,000 regexes of the NL-RX-SYNTH test split."""
    lines = (shared / "data" / "nl_rx" / "synth_test.jsonl").read_text().splitlines()
    return [json.loads(line)["messages"][-1]["content"] for line in lines]


@pytest.mark.parametrize(
    ("a", "b", "witness"),
    [
        ("a", "a", None),
        ("a", "b", "a"),
        ("(a|b)*", "(a*b*)*", None),
        ("(ab)*a", "a(ba)*", None),
        ("a*", "a+", ""),
        ("(aa)*", "(aaa)*", "aa"),
        ("(aa)*|(aaa)*", "a*", "a"),
        ("a{2,4}", "a{2}(()|a|aa)", None),
        ("a{2,4}", "a{2,5}", "aaaaa"),
        ("(a?){3}", "a{0,3}", None),
        ("(a?){2,}", "a*", None),
        ("(a{2,3}){2}", "a{4,6}", None),
        ("(a{3,4}){2,}", "a{6,}", None),
        ("(a{4,5}){2,}", "a{8,}", "a" * 11),
        ("(a{2,})*", "a*", "a"),
        ("(a{2,}){3}", "a{6,}", None),
        ("(a+){3,5}", "a{3,}", None),
        ("(a+)*", "a*", None),
        ("(a*){3}", "a*", None),
        ("(a{1,2}){2}", "a{2,4}", None),
        ("(a{1,2}){2,}", "a{2,}", None),
        ("(a{0,2}){2}", "a{0,4}", None),
        ("a{0}", "()", None),
        # Two letters lead to one derivative only by the law X*X* = X*.
        ("(a|bc*)c*", "bc*", "a"),
        ("(a|bc*)c*", "ac*", "b"),
        ("~()", ".+", None),
        ("~(.*)", "a&b", None),
        ("~(a&b)", ".*", None),
        ("~a*", "~(a*)", ""),
        ("~(a)b", "~(ab)", ""),
        ("(.*a.*)&(.*b.*)", ".*a.*b.*|.*b.*a.*", None),
        ("a&b|c", "c", None),
        ("a&(b|c)", "c", "c"),
        ("[a-m]|[n-z]", "[a-z]", None),
        ("[^a]|a", ".", None),
        ("[^a]", ".&~a", None),
        ("[a-z]", "[A-Z]", "a"),
        ("[^b-y]", ".", "b"),
        # The marker is a letter: `.` takes it, no other character is it, it takes a place.
        (r"\b", ".", "!"),
        (r"\b&.", r"\b", None),
        (r"[^a]&\b", r"\b", None),
        (r"\b", "b", MARKER),
        (r"\ba\b", "a", "a"),
        (r"\b\b", r"\b", MARKER),
        # Any code point is a letter, line ends and those outside the first plane too.
        ("犬|.", ".", None),
        ("[一-龥]", "[一-龤]", "龥"),
        ("😀", "😁", "😀"),
        (r"\.", ".", "!"),
        ("^a$", "a", "a"),
    ],
)
def test_languages_known_by_hand(a: str, b: str, witness: str | None) -> None:
    comparison = same_language(a, b)
    verdict = EQUAL if witness is None else DIFFERENT
    assert comparison.verdict is verdict
    assert comparison.witness is None or len(comparison.witness) == len(witness)
    if witness is not None and len(witness) == 1:
        assert comparison.witness == witness or len(letters_of(parse(a), parse(b))) > 2
    check_witness(a, b, comparison)


@settings(deadline=None)
@given(trees())
def test_a_written_tree_is_read_back(tree: Syntax) -> None:
    assert parse(write(tree)) == tree


@settings(deadline=None)
@given(trees(), st.text("ab" + MARKER + "!", max_size=5))
def test_the_two_oracles_agree(tree: Syntax, string: str) -> None:
    letters = "ab" + MARKER + "!"
    index = 0
    for letter in string:
        index = index * len(letters) + letters.index(letter)
    assert describes(tree, string) == words(tree, letters)[len(string)][index]


@settings(deadline=None)
@given(trees(has_all_operators=False), st.text("ab" + MARKER + "!", max_size=6))
def test_the_oracle_agrees_with_python_where_python_has_the_operators(
    tree: Syntax, string: str
) -> None:
    # \b is a word boundary there.
    text = write(grouped(tree)).replace(r"\b", MARKER)
    assert describes(tree, string) is (re.fullmatch(text, string, re.DOTALL) is not None)


def grouped(node: Syntax) -> Syntax:
    """Parentheses around repetitions: there a** is an error and a*? lazy."""
    new = with_operands(node, tuple(map(grouped, operands(node)))) if operands(node) else node
    return Concatenation((new,)) if isinstance(node, Repetition) else new


@settings(max_examples=300, deadline=None)
@given(trees(), trees())
def test_verdicts_agree_with_all_strings_up_to_a_length(a: Syntax, b: Syntax) -> None:
    texts = write(a), write(b)
    comparison = same_language(*texts)
    assert comparison.verdict is not UNDECIDED
    check_witness(*texts, comparison)
    assert agrees_with_enumeration(*texts, comparison, most_strings=5000)


@settings(deadline=None)
@given(trees(), trees())
def test_the_order_of_the_two_does_not_matter(a: Syntax, b: Syntax) -> None:
    one, other = same_language(write(a), write(b)), same_language(write(b), write(a))
    assert one.verdict is other.verdict
    assert len(one.witness or "") == len(other.witness or "")


@settings(max_examples=300, deadline=None)
@given(trees(), st.integers(0, 2**32))
def test_rewriting_small_trees_keeps_the_language(tree: Syntax, seed: int) -> None:
    rng = random.Random(seed)
    new = tree
    for name in rng.sample(list(RULES), k=len(RULES))[:9]:
        new = rewritten(new, RULES[name], rng) or new
    assert same_language(write(tree), write(new)).verdict is EQUAL


def check_rewriting(golds: list[str], num_golds: int) -> tuple[Counter[str], Counter[str]]:
    """Rewrite golds, by a rule once and twice; returns counts of golds by rule and of verdicts.

    A rule is tried until it applied to num_golds of them. No verdict may be wrong.
    """
    num_golds_of: Counter[str] = Counter()
    verdicts: Counter[str] = Counter()
    for name, rule in RULES.items():
        rng = random.Random(name)
        for gold in rng.sample(golds, k=len(golds)):
            if name == "X{m,n} = X..X?":  # which the grammar of the data never draws
                gold = re.sub(r"{(\d),}", r"{\1,9}", gold)
            once = rewritten(parse(gold), rule, rng)
            if once is None:
                continue
            num_golds_of[name] += 1
            for new in (once, rewritten(once, rule, rng) or once):
                comparison = same_language(gold, write(new))
                assert comparison.verdict is not DIFFERENT, (name, gold, write(new))
                verdicts[comparison.verdict.value] += 1
            if num_golds_of[name] == num_golds:
                break
    return num_golds_of, verdicts


def check_mutants(golds: list[str], num_mutants: int, most_strings: int) -> Counter[str]:
    """Hold verdicts on mutants to the oracles; returns how many there were of each kind."""
    counts: Counter[str] = Counter()
    for number, gold in enumerate(golds):
        rng = random.Random(number)
        for _ in range(num_mutants):
            text = write(mutant(parse(gold), rng))
            comparison = same_language(text, gold)
            check_witness(text, gold, comparison)
            counts[comparison.verdict.value] += 1
            counts["enumerated"] += agrees_with_enumeration(text, gold, comparison, most_strings)
    return counts


def check_whole_walk(golds: list[str]) -> None:
    """Golds are equal to themselves, as texts and where every state is walked."""
    for gold in golds:
        assert regex_equal(gold, gold) is True
        assert regex_equal(f"(({gold})&(.*dog.*))|(({gold})&~(.*dog.*))", gold) is True


def test_some_golds_are_equal_to_themselves(golds: list[str]) -> None:
    check_whole_walk(golds[::10])


def test_rewriting_some_golds_keeps_the_language(golds: list[str]) -> None:
    num_golds_of, verdicts = check_rewriting(golds, num_golds=15)
    assert num_golds_of == dict.fromkeys(RULES, 15)
    assert verdicts["undecided"] <= 0.01 * verdicts.total()


def test_mutants_of_some_golds_agree_with_the_oracles(golds: list[str]) -> None:
    counts = check_mutants(golds[::20], num_mutants=2, most_strings=20_000)
    assert counts["undecided"] == 0
    assert min(counts["enumerated"], counts["different"]) >= 80
    assert counts["equal"] >= 10


@pytest.mark.slow
def test_all_golds_are_equal_to_themselves(golds: list[str]) -> None:
    check_whole_walk(golds)


@pytest.mark.slow
def test_rewriting_all_golds_keeps_the_language(golds: list[str]) -> None:
    num_golds_of, verdicts = check_rewriting(golds, num_golds=len(golds))
    print(num_golds_of, verdicts)
    assert num_golds_of.keys() == RULES.keys()
    assert verdicts["undecided"] <= 0.01 * verdicts.total()


@pytest.mark.slow
def test_mutants_of_all_golds_agree_with_the_oracles(golds: list[str]) -> None:
    counts = check_mutants(golds, num_mutants=2, most_strings=300_000)
    print(counts)
    assert counts["undecided"] == 0
    assert counts["enumerated"] >= 0.8 * 2 * len(golds)
    assert counts["equal"] >= 100


@pytest.mark.slow
def test_different_golds_agree_with_the_oracles(golds: list[str]) -> None:
    counts: Counter[str] = Counter()
    for a, b in pairwise(golds):
        comparison = same_language(a, b)
        check_witness(a, b, comparison)
        counts[comparison.verdict.value] += 1
        counts["enumerated"] += agrees_with_enumeration(a, b, comparison, most_strings=50_000)
    print(counts)
    assert counts["undecided"] == 0
    assert counts["enumerated"] >= 500


HUGE = 999_999_999
LONG = 10_000


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (".*a.{30}", ".*a.{31}"),
        (f"a{{{HUGE}}}", f"a{{{HUGE - 1}}}"),
        ("((.*a.*){1000}&~((.*b.*){500}))", "((.*a.*){1000}&~((.*b.*){501}))"),
        ("((((a{999}){999}){999}){999}|b)*", "((((a{999}){999}){998}){999}|b)*"),
        ("(a?){30000}b", "(a?){29999}b"),
        (
            "&".join(f".*{x}.*" for x in "abcdefghijklmnop"),
            "&".join(f".*{x}.*" for x in "abcdefghijklmno"),
        ),
        ("~(~(.*a).*b(.{20}))*", "~(~(.*a).*b(.{21}))*"),
        ("(" + "a?" * 5000 + "b)*", "(" + "a?" * 5001 + "b)*"),
    ],
)
def test_a_regex_that_explodes_is_undecided(a: str, b: str) -> None:
    comparison = same_language(a, b, max_states=20_000)
    assert comparison.verdict is UNDECIDED
    assert comparison.reason == "more than 20000 states"
    assert regex_equal(a, a) is True


def test_time_is_bounded_too() -> None:
    comparison = same_language(".*a.{30}", ".*a.{31}", max_seconds=1e-9)
    assert comparison == Comparison(UNDECIDED, reason="more than 1e-09 seconds")


def test_an_alphabet_is_bounded_too() -> None:
    script = "".join(map(chr, range(0x4E00, 0x4E00 + MAX_LETTERS + 1)))
    comparison = same_language(script, "犬")
    reason = f"more than {MAX_LETTERS} characters are told apart"
    assert comparison == Comparison(UNDECIDED, reason=reason)


@pytest.mark.parametrize(
    ("a", "b", "verdict"),
    [
        ("(" * LONG + "a" + ")" * LONG, "a", EQUAL),
        ("~" * LONG + "a", "a", EQUAL),
        ("~" * LONG + "~a", "a", DIFFERENT),
        ("a" + "*" * LONG, "a*", EQUAL),
        ("a" + "+?" * LONG, "a*", EQUAL),
        ("(a|" * (LONG // 2) + "b" + ")" * (LONG // 2), "[ab]", EQUAL),
        ("(a" * (LONG // 2) + "b" + ")*" * (LONG // 2), "ab", DIFFERENT),
        ("~(a" * (LONG // 2) + "b" + ")" * (LONG // 2), "ab", DIFFERENT),
        ("a" * LONG, "dog.*", DIFFERENT),
        ("犬" * 100_000, "dog.*", DIFFERENT),
        (".*" * LONG, ".*", EQUAL),
        ("[a-z]" * (LONG // 2) + ".*", "[a-z].*", DIFFERENT),
        (f"(a*){{{HUGE}}}", "a*", EQUAL),
        (f"(.*a.*){{{HUGE},}}&(a&b)", "a&b", EQUAL),
        (f"a{{{HUGE}}}", "dog", DIFFERENT),
    ],
)
def test_large_regexes_are_decided_where_few_states_matter(
    a: str, b: str, verdict: Verdict
) -> None:
    assert same_language(a, b, max_seconds=60).verdict is verdict


@pytest.mark.parametrize(
    ("prediction", "gold", "equal"),
    [
        ("ab", "ab", True),
        (" ab\n", "ab", True),
        ("(a)b", "ab", True),
        ("ab.*", "ab", False),
        ("", "ab", False),
        ("", "(a&b)*", False),
        ("()", "(a&b)*", True),
        ("\n", "ab", False),
        ("(ab", "ab", False),
        ("ab\nab", "ab", False),
        ("a\x00b", "ab", False),
        ("正規表現", "ab", False),
        (r"\w+", "ab", False),
        ("a" * 300_000, "ab", False),
        (".*a.{30}", ".*a.{31}", None),
    ],
)
def test_a_prediction_is_judged(prediction: str, gold: str, equal: bool | None) -> None:
    assert regex_equal(prediction, gold) is equal


@pytest.mark.parametrize("gold", ["", "(ab", r"\d"])
def test_a_gold_outside_the_dialect_is_named(gold: str) -> None:
    for prediction in (gold, "ab", "(("):
        with pytest.raises(RegexSyntaxError):
            regex_equal(prediction, gold)


@pytest.mark.parametrize("bad", [{"max_states": 0}, {"max_seconds": 0.0}, {"max_seconds": -1.0}])
def test_bounds_must_be_positive(bad: dict) -> None:
    with pytest.raises(ValueError, match="bounds must be positive, got max_states="):
        same_language("a", "b", **bad)


@pytest.mark.parametrize(("a", "b"), [("a(", "a"), ("a", "a("), ("(", "(")])
def test_both_texts_must_be_of_the_dialect(a: str, b: str) -> None:
    with pytest.raises(RegexSyntaxError):
        same_language(a, b)
