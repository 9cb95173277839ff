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
    a pair that cannot be decided within the bounds is wrong, and counted by `reasons`; one whose
    right answer is no regex of the dialect is not judged. `exact_match`: the same text, and
    stopped. `prefix_match`: begins with the right text, stopped or not. Rates are also given for
    answers that end in `.*.*`, those that end in `.*`, and the others: the first two are where a
    model must know when to stop.

    Source: Locascio et al. 2016, arXiv 1608.03000; the groups are Table 1 of arXiv 2602.22617.
    """

    card = NL_RX_SYNTH
    scores = ("dfa_equal", "exact_match", "prefix_match")
    _name = "synth"

    def __init__(self) -> None:
        self._num_undecided = 0

    def paths(self, split: str) -> tuple[str, ...]:
        """One file a split."""
        return (f"nl_rx/{self._name}_{split}.jsonl",)

    def read(self, folder: Path, split: str) -> list[dict[str, Any]]:
        """Chat rows as the source has them."""
        rows = read_json_lines(folder / self.paths(split)[0], ("messages",))
        return [row for _, row in rows]

    def judge(self, answers: Sequence[Answer]) -> list[Scores]:
        """Language, text and beginning."""
        return [
            {
                "dfa_equal": self._same_language(a),
                "exact_match": a.stopped and exact_match(a.prediction, a.gold),
                "prefix_match": prefix_match(a.prediction, a.gold),
            }
            for a in answers
        ]

    def _same_language(self, answer: Answer) -> bool | None:
        try:
            equal = regex_equal(answer.prediction, answer.gold)
        except RegexSyntaxError:  # the gold is no regex of the dialect
            return None
        self._num_undecided += equal is None
        return answer.stopped and equal is True

    def reasons(self) -> list[str]:
        """How many pairs could not be decided."""
        if not self._num_undecided:
            return []
        return [
            f"dfa_equal: {self._num_undecided:,} answers could not be compared within the bounds; "
            "they count as wrong"
        ]

    def group(self, gold: str, fields: Mapping[str, Any]) -> str:
        """How the right answer ends."""
        if gold.endswith(".*.*"):
            return "ending in .*.*"
        return "ending in .*" if gold.endswith(".*") else "other endings"


class NlRxTurk(NlRxSynth):
    """The same regexes described by people."""

    card = NL_RX_TURK
    _name = "turk"
