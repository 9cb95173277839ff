"""NL-RX: regular expressions from English, synthetic and human."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from semtube.tasks.cards import NL_RX_SYNTH, NL_RX_TURK
from semtube.tasks.json_lines import read_json_lines
from semtube.tasks.matching import exact_match, prefix_match
from semtube.tasks.regex_language import regex_equal
from semtube.tasks.regex_syntax import RegexSyntaxError
from semtube.tasks.task import Answer, Scores, Task


class NlRxSynth(Task):
    """Descriptions made by a grammar.

    `dfa_equal`: the written regex accepts the same strings as the right one (the field's metric);
    a pair that cannot be decided within the bounds, or whose right
    answer is no regex of the dialect, is not judged. `exact_match`: the same text, and
    stopped. `prefix_match`: begins with the right text, stopped or not. Rates are also given for
    answers that end in `.*.*`, those that end in `.*`, and the others: the first two are where a
    model must know when to stop.

    Source: Locascio et al. 2016, arXiv 1608.03000; the groups are Table 1 of arXiv 2602.22617.
    """

    card = NL_RX_SYNTH
    scores = ("dfa_equal", "exact_match", "prefix_match")
    _name = "synth"

    def read(self, folder: Path, split: str) -> list[dict[str, Any]]:
        """Chat rows as the source has them."""
        path = folder / "nl_rx" / f"{self._name}_{split}.jsonl"
        return [row for _, row in read_json_lines(path, ("messages",))]

    def judge(self, answers: Sequence[Answer]) -> list[Scores]:
        """Language, text and beginning."""
        return [
            {
                "dfa_equal": a.stopped and _same_language(a.prediction, a.gold),
                "exact_match": a.stopped and exact_match(a.prediction, a.gold),
                "prefix_match": prefix_match(a.prediction, a.gold),
            }
            for a in answers
        ]

    def group(self, gold: str, fields: Mapping[str, Any]) -> str:
        """How the right answer ends."""
        if gold.endswith(".*.*"):
            return "ending in .*.*"
        return "ending in .*" if gold.endswith(".*") else "other endings"


def _same_language(prediction: str, gold: str) -> bool | None:
    try:
        return regex_equal(prediction, gold)
    except RegexSyntaxError:  # the gold is no regex of the dialect
        return None


class NlRxTurk(NlRxSynth):
    """The same regexes described by people."""

    card = NL_RX_TURK
    _name = "turk"
