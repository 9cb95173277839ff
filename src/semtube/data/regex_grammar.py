"""Generator of text-to-regex pairs ("lines ending with a vowel" -> "(.*)([AEIOUaeiou])").

Random trees are drawn from a small grammar; every tree is written once as English and once as a
regular expression.  The shape of the data (shares of constructs, repeat counts, endings) follows
the synthetic part of NL-RX.
Source: Locascio et al. 2016, arXiv 1608.03000; restated grammar.  Standard library only.
"""

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from semtube.data.regex_english import (
    PLACEHOLDER,
    REJECTED_PHRASES,
    WORDS,
    clean_english,
    fill_words,
)

SYSTEM_PROMPT = "Convert natural language to regular expression."

# (depth limit, node limit, tries) of the three sampling passes.  The first finds all of its 175
# trees, the second sees the common ones some 50 times each and misses rare ones (about 5,600 of
# more than 8,000).  So the shares of constructs are those of a nearly *saturated* set, and fewer
# tries for a small request would move them: at a quarter of the tries "before" falls from 43% to
# 37%.  Therefore passes one and two always run in full, the third stops at
# PUBLISHED_DESCRIPTIONS, and a smaller request is a uniform draw from that pool.  This costs two
# to four seconds whatever the request.  About 600 descriptions of the pool have two regexes and
# are dropped; a request for more than the rest lengthens only the third pass, up to ten times the
# published 70,000 tries (about 28,000 pairs).  Beyond 10,000 the shares drift to deep trees.
# The published set keeps such descriptions; dropping them puts "&" (27%) and the ending ".*"
# (44.5%) some 1.5 to 2.4 points too high.
PASSES = ((1, 4, 10_000), (2, 5, 600_000), (3, 7, 700_000))
PUBLISHED_DESCRIPTIONS = 10_000
_SMALLEST_REPEAT, _LARGEST_REPEAT = 2, 7
_MAX_WORDS = len(WORDS)
_MAX_AND_OR = 2


@dataclass(frozen=True)
class RegexPair:
    """One English description and the regular expression it stands for."""

    description: str
    regex: str


@dataclass(frozen=True)
class Splits:
    """Three disjoint parts of a set of pairs; no regex string occurs in two of them."""

    train: list[RegexPair]
    validation: list[RegexPair]
    test: list[RegexPair]


@dataclass(frozen=True, eq=False)
class _Kind:
    """A node class: templates take the children as {0}, {1}, {2} and the repeat count as {n}.

    `children` names the child set of each child; `negated_phrase` is used below a "not".
    """

    name: str
    regex: str
    phrase: str
    children: tuple[str, ...] = ()
    negated_phrase: str = ""


_LEAVES = (
    _Kind("number", "[0-9]", "a number"),
    _Kind("capital", "[A-Z]", "a capital letter"),
    _Kind("lower", "[a-z]", "a lower-case letter"),
    _Kind("letter", "[A-Za-z]", "a letter"),
    _Kind("vowel", "[AEIOUaeiou]", "a vowel"),
    _Kind("character", ".", "a character"),
)
_WORD = _Kind("word", PLACEHOLDER, f"the string '{PLACEHOLDER}'")
_FUNCTIONS = (
    _Kind("contains", ".*{0}.*", "containing {0}", ("any",)),
    _Kind("starts", "({0})(.*)", "starting with {0}", ("middle",)),
    _Kind("ends", "(.*)({0})", "ending with {0}", ("middle",)),
    _Kind("words", r"\b{0}\b", "words with {0}", ("inner",)),
    _Kind("followed", "{0}.*{1}.*", "{0} followed by {1}", ("leaf", "leaf")),
)
_REPETITIONS = (
    _Kind("once", "({0})+", "{0} at least once", ("middle",)),
    _Kind("n_times", "({0}){{{n},}}", "{0}, {n} or more times", ("middle",)),
    _Kind("any_times", "({0})*", "{0}, zero or more times", ("middle",)),
)
_ONLY = _Kind("only", "{0}", "containing only {0}", ("leaf",))
_OR = _Kind("or", "({0})|({1})", "{0} or {1}", ("any", "any"))
_AND = _Kind("and", "({0})&({1})", "{0} and {1}", ("any", "any"), "{0} and not {1}")
_NOT = _Kind("not", "~({0})", "not {0}", ("any",))
_BEFORE = _Kind("before", "({0}).*({1}).*", "{0} before {1}", ("any", "any"))
_THREE_LEAVES = ("leaf", "leaf", "leaf")
_AND_OF_3 = _Kind(
    "and_of_3", "({0})&({1})&({2})", "{0}, {1}, and {2}", _THREE_LEAVES, "{0}, not {1}, and not {2}"
)
_OR_OF_3 = _Kind(
    "or_of_3", "({0})|({1})|({2})", "either {0}, {1}, or {2}", _THREE_LEAVES, "{0}, {1}, or {2}"
)

_TERNARY = frozenset((_AND_OF_3, _OR_OF_3))
_AND_OR = frozenset((_OR, _AND)) | _TERNARY
_REPETITION_SET = frozenset(_REPETITIONS)
_LEAF_SET = frozenset((*_LEAVES, _WORD))

# A word is drawn with weight 4, so that it is 4 of the 10 entries of the leaf list.
_LEAF_OPTIONS = (*_LEAVES, _WORD, _WORD, _WORD, _WORD)
_INNER_OPTIONS = (*_FUNCTIONS, *_REPETITIONS, _ONLY, _OR, _AND, _NOT, _BEFORE, _AND_OF_3, _OR_OF_3)
_OPTIONS = {
    "leaf": _LEAF_OPTIONS,
    "inner": _INNER_OPTIONS,
    "any": (*_INNER_OPTIONS, *_LEAF_OPTIONS),
    "middle": (*_FUNCTIONS, *_REPETITIONS, _ONLY, *_LEAF_OPTIONS, _OR),
}

_Tree = tuple[tuple[_Kind, ...], int]


def _draw_tree(rng: random.Random, depth_limit: int, node_limit: int) -> _Tree | None:
    """Draw the nodes of one tree, level by level; None where the tree is rejected.

    Returns the kinds in breadth-first order and the repeat count (0 without "n or more times").
    Once the depth, the size (one per node plus its children) or two and/or nodes is reached, only
    leaves may be drawn.  Rejected at once: a kind other than word used twice, a fifth word, a
    second repetition.  (The published limit of five repeats in all can then never be passed.)
    """
    uniform = rng.random
    kinds: list[_Kind] = []
    waiting = [("inner", 0)]
    used: set[_Kind] = set()
    size = and_or_nodes = words = repeat_count = 0
    # The list grows while it is walked: this is the breadth-first queue.
    for option_name, depth in waiting:
        if depth and (depth >= depth_limit or size >= node_limit or and_or_nodes >= _MAX_AND_OR):
            if option_name == "inner":
                return None
            option_name = "leaf"
        options = _OPTIONS[option_name]
        kind = options[int(uniform() * len(options))]
        if kind is _WORD:
            words += 1
            if words > _MAX_WORDS:
                return None
        elif kind in used or (kind in _REPETITION_SET and not used.isdisjoint(_REPETITIONS)):
            return None
        used.add(kind)
        if kind in _AND_OR:
            and_or_nodes += 1
        if kind.name == "n_times":
            repeat_count = rng.randint(_SMALLEST_REPEAT, _LARGEST_REPEAT)
        kinds.append(kind)
        size += 1 + len(kind.children)
        waiting.extend((child, depth + 1) for child in kind.children)
    return tuple(kinds), repeat_count


def _has_bad_root(kinds: tuple[_Kind, ...]) -> bool:
    """Tell whether the root is an and/or over a bare leaf, or has "only" below other than "not".

    A ternary and/or has leaves only, so that it never stands at the root.
    """
    root = kinds[0]
    children = kinds[1 : 1 + len(root.children)]
    if root in _AND_OR and not _LEAF_SET.isdisjoint(children):
        return True
    return root is not _NOT and _ONLY in children


def _write_tree(kinds: tuple[_Kind, ...], repeat_count: int) -> tuple[str, str]:
    """Return the phrase and the regex of a tree, words still as placeholders."""
    first_child: list[int] = []
    negated = [False]
    for kind, is_negated in zip(kinds, negated, strict=False):
        first_child.append(len(negated))
        negated.extend([is_negated or kind is _NOT] * len(kind.children))
    phrases = [""] * len(kinds)
    regexes = [""] * len(kinds)
    # Children come after their parent, so that going backwards finds them already written.
    for index in reversed(range(len(kinds))):
        kind = kinds[index]
        below = slice(first_child[index], first_child[index] + len(kind.children))
        phrase = kind.phrase
        if negated[index] and kind.negated_phrase:
            phrase = kind.negated_phrase
        phrases[index] = phrase.format(*phrases[below], n=repeat_count)
        regexes[index] = kind.regex.format(*regexes[below], n=repeat_count)
    return phrases[0], regexes[0]


def _collect_pool(rng: random.Random, num_pairs: int) -> list[RegexPair]:
    """Run the passes until the published number of descriptions and `num_pairs` are found.

    Descriptions with two regexes count among the former only.  The result is shorter than
    `num_pairs` where the tries are used up.
    """
    seen: set[_Tree] = set()
    regex_of: dict[str, str] = {}
    ambiguous: set[str] = set()
    for depth_limit, node_limit, tries in PASSES:
        for _ in range(tries):
            num_found = len(regex_of)
            if num_found >= PUBLISHED_DESCRIPTIONS and num_found - len(ambiguous) >= num_pairs:
                break
            tree = _draw_tree(rng, depth_limit, node_limit)
            # Trees come up again and again: known ones stop here, before any text is written.
            if tree is None or tree in seen or _has_bad_root(tree[0]):
                continue
            # A tree with a ternary node survives each of its draws with probability 1/2.
            if not _TERNARY.isdisjoint(tree[0]) and rng.random() < 0.5:
                continue
            seen.add(tree)
            phrase, regex = _write_tree(*tree)
            if any(rejected in phrase for rejected in REJECTED_PHRASES):
                continue
            description = fill_words(clean_english("lines " + phrase))
            regex = fill_words(regex)
            if regex_of.setdefault(description, regex) != regex:
                ambiguous.add(description)
    return [
        RegexPair(description, regex)
        for description, regex in regex_of.items()
        if description not in ambiguous
    ]


def generate_pairs(num_pairs: int, seed: int) -> list[RegexPair]:
    """Return `num_pairs` pairs in random order, the same for the same (num_pairs, seed).

    Descriptions are unique, and a description that arises with two regexes is dropped.
    Takes a few seconds for up to 10,000 pairs (see PASSES for why small requests cost the same).
    Raises ValueError for num_pairs < 1 and for more pairs than the tries find (about 28,000).
    Source: Locascio et al. 2016, arXiv 1608.03000; restated grammar.
    """
    if num_pairs < 1:
        raise ValueError(f"num_pairs must be at least 1, got {num_pairs}")
    rng = random.Random(seed)
    pool = _collect_pool(rng, num_pairs)
    if num_pairs > len(pool):
        raise ValueError(f"num_pairs={num_pairs} asked, but the grammar gave only {len(pool)}")
    return rng.sample(pool, num_pairs)


def split_by_regex(
    pairs: Sequence[RegexPair], *, validation_fraction: float, test_fraction: float, seed: int
) -> Splits:
    """Split pairs into train, validation and test so that no regex string is in two parts.

    The sizes are round(fraction * len(pairs)), or the nearest below that whole groups of equal
    regexes allow; train takes the rest.  Each part keeps the order of `pairs`.
    Raises ValueError for a fraction outside [0, 1) and for fractions that leave nothing to train.
    """
    for name, value in (("validation", validation_fraction), ("test", test_fraction)):
        if not 0.0 <= value < 1.0:
            raise ValueError(f"{name}_fraction must lie in [0, 1), got {value}")
    if validation_fraction + test_fraction >= 1.0:
        total = validation_fraction + test_fraction
        raise ValueError(f"validation_fraction + test_fraction must be below 1, got {total}")
    group_sizes = Counter(pair.regex for pair in pairs)
    regexes = list(group_sizes)
    random.Random(seed).shuffle(regexes)
    room = {
        "test": round(test_fraction * len(pairs)),
        "validation": round(validation_fraction * len(pairs)),
        "train": len(pairs),
    }
    part_of: dict[str, str] = {}
    for regex in regexes:
        part = next(name for name, free in room.items() if free >= group_sizes[regex])
        part_of[regex] = part
        room[part] -= group_sizes[regex]
    parts: dict[str, list[RegexPair]] = {name: [] for name in room}
    for pair in pairs:
        parts[part_of[pair.regex]].append(pair)
    return Splits(**parts)


def chat_row(pair: RegexPair) -> dict[str, list[dict[str, str]]]:
    """Return the pair as a chat row: system prompt, description as user, regex as assistant."""
    return {
        "messages": [
            {"role": "system", "content": SYSTEM_PROMPT},
            {"role": "user", "content": pair.description},
            {"role": "assistant", "content": pair.regex},
        ]
    }
