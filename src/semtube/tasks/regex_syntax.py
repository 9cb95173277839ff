r"""Regular expressions of the NL-RX dialect: text -> syntax tree.

    union         = intersection ("|" intersection)*
    intersection  = concatenation ("&" concatenation)*
    concatenation = repetition+
    repetition    = operand ("*" | "+" | "?" | "{n}" | "{n,}" | "{m,n}")*
    operand       = "~" operand | "(" union ")" | "()" | "[" class "]" | "." | "\b" | character

So | < & < concatenation < repetition < ~, and `~a*` is `(~a)*`. A regex describes whole strings:
there are no anchors, `^` and `$` are characters like any other. `()` is the empty string. A class
holds characters and ranges, after `^` all others; a `-` beside a bracket is a character. `\` makes
a character of a sign. `\b` is no word boundary but one letter, MARKER, which nothing else can
write. `.` is any one letter, line ends and MARKER among them, and a negated class holds MARKER.

Source: Locascio et al. 2016, arXiv 1608.03000, whose metric reads regexes with dk.brics.automaton;
the grammar is that library's without its own extensions. There `\b` is the letter b.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

#: What `\b` stands for: the backspace, as control characters cannot be written otherwise.
MARKER = "\b"
LAST_CODE_POINT = 0x10FFFF
LONGEST_REGEX = 200_000
LARGEST_COUNT = 999_999_999

#: First and last code point, both included.
Range = tuple[int, int]

_UNWRITABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_COUNT = re.compile(r"\{([0-9]+)(?:(,)([0-9]*))?\}")
_RANGE_SIGN = re.compile(r"-(?!\])")
_SIGN_REPEATS: dict[str, tuple[int, int | None]] = {"*": (0, None), "+": (1, None), "?": (0, 1)}


class RegexSyntaxError(ValueError):
    """A text that is no regex of the dialect.

    Args:
        position: index of the first wrong character; the text's length where it ends too soon.
        wanted: what would be right there.
        found: what is there.
    """

    def __init__(self, position: int, wanted: str, found: str) -> None:
        super().__init__(position, wanted, found)
        self.position = position
        self.wanted = wanted
        self.found = found

    def __str__(self) -> str:
        return f"character {self.position + 1}: {self.wanted} is wanted, got {self.found}"


@dataclass(frozen=True, slots=True)
class Characters:
    """One letter out of `ranges`, which are in order and neither overlap nor touch."""

    ranges: tuple[Range, ...]


@dataclass(frozen=True, slots=True)
class Concatenation:
    """The parts one after another; no parts are the empty string."""

    parts: tuple[Syntax, ...]


@dataclass(frozen=True, slots=True)
class Union:
    """What any of the parts describes."""

    parts: tuple[Syntax, ...]


@dataclass(frozen=True, slots=True)
class Intersection:
    """What all of the parts describe."""

    parts: tuple[Syntax, ...]


@dataclass(frozen=True, slots=True)
class Complement:
    """All strings that `body` does not describe."""

    body: Syntax


@dataclass(frozen=True, slots=True)
class Repetition:
    """`body` from `least` to `most` times; None for any number."""

    body: Syntax
    least: int
    most: int | None


Syntax = Characters | Concatenation | Union | Intersection | Complement | Repetition

ANY_LETTER = Characters(((0, LAST_CODE_POINT),))


def parse(text: str) -> Syntax:
    """The syntax tree of a regex.

    Nesting may be as deep as the text allows: nothing here calls itself. (Comparing or printing
    such a tree does; walk it with a stack.)

    Raises:
        RegexSyntaxError: the text is no regex of the dialect, is empty, holds control characters or
            lone surrogates, or is longer than LONGEST_REGEX.
    """
    if len(text) > LONGEST_REGEX:
        raise RegexSyntaxError(LONGEST_REGEX, "the end", f"{len(text)} characters in all")
    if unwritable := _UNWRITABLE.search(text):
        raise RegexSyntaxError(unwritable.start(), "a printable character", repr(unwritable[0]))
    return _Parser(text).parse()


@dataclass
class _Group:
    """What stands so far between two parentheses; each list waits for the sign that ends it."""

    start: int
    union: list[Syntax] = field(default_factory=list)
    intersection: list[Syntax] = field(default_factory=list)
    concatenation: list[Syntax] = field(default_factory=list)
    num_complements: int = 0


class _Parser:
    def __init__(self, text: str) -> None:
        self._text = text
        self._position = 0
        self._group = _Group(0)
        self._outer: list[_Group] = []

    def parse(self) -> Syntax:
        while self._position < len(self._text):
            self._read(self._text[self._position])
        if self._outer:
            raise self._error(f"')' for the '(' at character {self._group.start + 1}")
        return self._end_union()

    def _read(self, sign: str) -> None:
        """Read one sign, class, escape or count and move past it."""
        if sign in "*+?{":
            self._repeat(sign)
        elif sign == "\\":
            self._add(_one_character(self._escaped_character()))
        elif sign == "[":
            self._add(self._read_class())
        elif sign == "(":
            self._outer.append(self._group)
            self._group = _Group(self._position)
            self._position += 1
        elif sign == ")":
            self._close_group()
        elif sign == "|":
            self._end_intersection()
            self._position += 1
        elif sign == "&":
            self._end_concatenation()
            self._position += 1
        elif sign == "~":
            self._group.num_complements += 1
            self._position += 1
        elif sign in "]}":
            raise self._error(f"an operand, or \\{sign} for the character,")
        else:
            self._add(ANY_LETTER if sign == "." else _one_character(sign))
            self._position += 1

    def _add(self, operand: Syntax) -> None:
        for _ in range(self._group.num_complements):
            operand = Complement(operand)
        self._group.num_complements = 0
        self._group.concatenation.append(operand)

    def _close_group(self) -> None:
        if not self._outer:
            raise self._error("'(' before, or \\) for the character,")
        if self._group.start == self._position - 1:
            operand: Syntax = Concatenation(())
        else:
            operand = self._end_union()
        self._group = self._outer.pop()
        self._position += 1
        self._add(operand)

    def _end_concatenation(self) -> None:
        group = self._group
        if not group.concatenation or group.num_complements:
            raise self._error("an operand")
        parts = tuple(group.concatenation)
        group.intersection.append(parts[0] if len(parts) == 1 else Concatenation(parts))
        group.concatenation = []

    def _end_intersection(self) -> None:
        self._end_concatenation()
        parts = tuple(self._group.intersection)
        self._group.union.append(parts[0] if len(parts) == 1 else Intersection(parts))
        self._group.intersection = []

    def _end_union(self) -> Syntax:
        self._end_intersection()
        parts = tuple(self._group.union)
        return parts[0] if len(parts) == 1 else Union(parts)

    def _repeat(self, sign: str) -> None:
        group = self._group
        if not group.concatenation or group.num_complements:
            raise self._error("an operand to repeat")
        if sign == "{":
            least, most = self._read_count()
        else:
            least, most = _SIGN_REPEATS[sign]
            self._position += 1
        group.concatenation.append(Repetition(group.concatenation.pop(), least, most))

    def _read_count(self) -> tuple[int, int | None]:
        match = _COUNT.match(self._text, self._position)
        if match is None:
            raise self._error("a count {n}, {n,} or {m,n}")
        first, comma, second = match.groups()
        if max(len(first), len(second or "")) > len(str(LARGEST_COUNT)):
            raise self._error(f"a count of at most {LARGEST_COUNT}")
        least = int(first)
        most = least if comma is None else int(second) if second else None
        if most is not None and most < least:
            raise self._error("a count {m,n} with m <= n", found=repr(match[0]))
        self._position = match.end()
        return least, most

    def _escaped_character(self) -> str:
        """The character that a backslash makes, and move past it."""
        self._position += 1
        escaped = self._text[self._position : self._position + 1]
        if not escaped or (escaped.isalnum() and escaped != "b"):
            raise self._error("b or a sign after the backslash")
        self._position += 1
        return MARKER if escaped == "b" else escaped

    def _read_class(self) -> Characters:
        self._position += 1
        is_negated = self._text.startswith("^", self._position)
        self._position += is_negated
        ranges = []
        while not ranges or not self._text.startswith("]", self._position):
            start = self._position
            first = last = self._class_character()
            if _RANGE_SIGN.match(self._text, self._position):
                self._position += 1
                last = self._class_character()
            if last < first:
                raise self._error("a range from lower to higher", start)
            ranges.append((ord(first), ord(last)))
        self._position += 1
        return Characters(_complement(_merge(ranges)) if is_negated else _merge(ranges))

    def _class_character(self) -> str:
        start = self._position
        sign = self._text[start : start + 1]
        if not sign or sign == "]":
            raise self._error("a character of the class" if sign else "']' after the class")
        if sign != "\\":
            self._position += 1
            return sign
        character = self._escaped_character()
        if character == MARKER:
            raise self._error("a character (\\b stands outside classes)", start)
        return character

    def _error(
        self, wanted: str, position: int | None = None, found: str | None = None
    ) -> RegexSyntaxError:
        position = self._position if position is None else position
        here = repr(self._text[position]) if position < len(self._text) else "the end"
        return RegexSyntaxError(position, wanted, found or here)


def _one_character(character: str) -> Characters:
    return Characters(((ord(character), ord(character)),))


def _merge(ranges: list[Range]) -> tuple[Range, ...]:
    """The same code points in order, ranges that overlap or touch made one."""
    merged: list[Range] = []
    for first, last in sorted(ranges):
        if merged and first <= merged[-1][1] + 1:
            merged[-1] = (merged[-1][0], max(merged[-1][1], last))
        else:
            merged.append((first, last))
    return tuple(merged)


def _complement(ranges: tuple[Range, ...]) -> tuple[Range, ...]:
    """All other code points; MARKER is one of them."""
    starts = [0, *(last + 1 for _, last in ranges)]
    ends = [*(first - 1 for first, _ in ranges), LAST_CODE_POINT]
    return tuple((start, end) for start, end in zip(starts, ends, strict=True) if start <= end)
