"""English side of the text-to-regex generator: the words, and the clean-up of joined phrases.

Source: Locascio et al. 2016, arXiv 1608.03000; restated grammar.  Standard library only.
"""

import re

# Filled in from left to right, the same word on both sides of a pair.
WORDS = ("dog", "truck", "ring", "lake")
PLACEHOLDER = "\0"

# Word orders that read badly; a tree whose phrase holds one of them is rejected.
REJECTED_PHRASES = (
    "letter before a letter",
    "starting with ending",
    "ending with starting",
    "starting with contain",
    "containing contains",
    "containing starting",
    "before starting",
)

# Pattern and replacement, in order of effect.  The published rules that reduce "not not" and
# doubled "having"/"with" have nothing to do here: "not" stands once per tree, and the patterns
# below are anchored at the start of the line, so that they never make a double.
_LEAF = r"(?:a(?: capital| lower-case)? \w+|the string '[^']*')"
_CLEAN_UP = tuple(
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"^lines (?=(?:a|the) )", "lines with "),
        (r"^lines not (?=(?:a|the) )", "lines not having "),
        (r"^lines words", "lines with words"),
        (r"^lines with words with not (?=(?:a|the) )", "lines with words that don't have "),
        (r"^lines either", "lines having either"),
        (rf"^lines with (?={_LEAF}, {_LEAF}, and )", "lines having "),
        (r"\bwords with containing", "words that contain"),
    )
)


def clean_english(description: str) -> str:
    """Return the description with the joints of its phrases made readable.

    "lines a vowel" becomes "lines with a vowel", "lines not a vowel" "lines not having a vowel",
    "words with containing" "words that contain", and so on (see _CLEAN_UP).
    Source: Locascio et al. 2016, arXiv 1608.03000; restated grammar.
    """
    for pattern, replacement in _CLEAN_UP:
        description = pattern.sub(replacement, description, count=1)
    return description


def fill_words(text: str) -> str:
    """Replace the placeholders of a text by dog, truck, ring, lake from left to right."""
    for word in WORDS:
        text = text.replace(PLACEHOLDER, word, 1)
    return text
