"""Judging decoded rows: right means the gold text, the whole of it, and then a stop."""

import hashlib
import json
import math
import os
from pathlib import Path

import pytest

from semtube.data.examples import Example, Message, read_examples
from semtube.data.rendering import Renderer
from semtube.evaluation import scoring
from semtube.evaluation.decoding import Decoded
from semtube.evaluation.scoring import (
    length_limit,
    rate_metrics,
    score_rows,
    unjudged_notes,
)
from semtube.statistics.intervals import exact_interval, wilson_interval
from semtube.tasks.own_rows import ExactText
from semtube.tasks.task import Contrast, Scorer

pytest.importorskip("transformers")
from semtube.models.tokenizer import train_tokenizer

PAIRS = [
    ("lines with a vowel", "[AEIOUaeiou]"),
    ("lines with words", r"\b(.*)\b"),
    ("nothing , or . more ?", "a , b . c ? n't 's"),
    ("東京", "naïve 🙂"),
]
TOKENIZER = train_tokenizer([text for pair in PAIRS for text in pair] * 3, 400)
STOP = TOKENIZER.eos_token_id


RENDERER = Renderer(TOKENIZER, frozenset({STOP}))
SCORES = ExactText.scores


def rows(pairs=PAIRS):
    return [
        RENDERER.render(
            Example("chat", (Message("user", question), Message("assistant", answer)), f"t:{line}")
        )
        for line, (question, answer) in enumerate(pairs, 1)
    ]


ROWS = rows()


@pytest.fixture
def written(monkeypatch):
    """What the fake model writes for each row, and the arguments it was asked with."""

    class Written(list):
        asked = None

    texts = Written()

    def decode(model, prompts, **options):
        texts.asked = {"prompts": prompts, **options}
        return [
            Decoded(ids if isinstance(ids, list) else TOKENIZER(ids)["input_ids"], stopped)
            for ids, stopped in texts
        ]

    monkeypatch.setattr(scoring, "decode_greedily", decode)
    return texts


def score(written, texts, chosen=ROWS):
    written[:] = texts
    return score_rows(None, RENDERER, chosen, ExactText(), batch_tokens=1000)


def judged(records) -> list[tuple[bool, bool]]:
    return [(record["exact_match"], record["prefix_match"]) for record in records]


def test_gold_against_gold_is_all_right(written):
    records = score(written, [(answer, True) for _, answer in PAIRS])
    assert judged(records) == [(True, True)] * len(PAIRS)
    metrics = rate_metrics(records, SCORES)
    assert {metrics[name]["mean"] for name in ("exact_match", "prefix_match", "stopped")} == {1.0}


def test_the_rows_own_tokens_behind_the_prompt_are_all_right(written):
    texts = []
    for row in ROWS:
        answer = row.input_ids[row.num_prompt_tokens :]
        texts.append((answer[: answer.index(STOP)], True))
    assert judged(score(written, texts)) == [(True, True)] * len(ROWS)


def test_an_empty_prediction_is_wrong(written):
    for text in ("", " ", "\n"):
        assert judged(score(written, [(text, True)] * 4)) == [(False, False)] * 4


def test_a_right_answer_that_does_not_stop_is_a_prefix_match_and_no_exact_match(written):
    texts = [(answer, False) for _, answer in PAIRS[:2]]
    texts += [(answer + " and more", False) for _, answer in PAIRS[2:]]
    records = score(written, texts)
    assert judged(records) == [(False, True)] * 4
    assert [record["stopped"] for record in records] == [False] * 4
    assert rate_metrics(records, SCORES)["exact_match"]["mean"] == 0.0
    assert rate_metrics(records, SCORES)["prefix_match"]["mean"] == 1.0


def test_a_wrong_answer_that_stops_is_wrong(written):
    texts = [
        (PAIRS[1][1], True),
        (PAIRS[0][1], True),
        ("a , b", True),
        ("A , b . c ? n't 's", True),
    ]
    assert judged(score(written, texts)) == [(False, False)] * 4


def test_special_tokens_in_the_prediction_stay_and_make_it_wrong(written):
    start = TOKENIZER.bos_token_id
    right = [TOKENIZER(answer)["input_ids"] for _, answer in PAIRS]
    texts = [
        ([start, *right[0]], True),
        ([*right[1], TOKENIZER.pad_token_id], True),
        ([*right[2][:1], start, *right[2][1:]], True),
        (right[3], True),
    ]
    records = score(written, texts)
    assert judged(records) == [(False, False), (False, True), (False, False), (True, True)]
    assert records[0]["prediction"] == "<|start|>" + PAIRS[0][1]
    assert records[1]["prediction"] == PAIRS[1][1] + "<|pad|>"


def test_white_space_around_the_prediction_is_forgiven_and_inside_it_is_not(written):
    texts = [(f"  {PAIRS[0][1]}\n", True), (PAIRS[1][1].replace("(", "( "), True)] * 2
    chosen = rows([PAIRS[0], PAIRS[1]] * 2)
    assert judged(score(written, texts, chosen)) == [(True, True), (False, False)] * 2


def test_spaces_before_marks_are_not_cleaned_away(written):
    # decode(..., clean_up_tokenization_spaces=True), the default of some models' tokenizers,
    # would make "a, b. c?" of it; the right answer would then be wrong.
    (record,) = score(written, [(PAIRS[2][1], True)], ROWS[2:3])
    assert record["prediction"] == PAIRS[2][1]


def test_the_decoder_gets_prompts_stop_tokens_and_a_limit_from_the_data(written):
    score(written, [(answer, True) for _, answer in PAIRS])
    assert written.asked["prompts"] == [row.input_ids[: row.num_prompt_tokens] for row in ROWS]
    for prompt in written.asked["prompts"]:
        assert TOKENIZER.decode(prompt).endswith("<|assistant|>")
    assert written.asked["stop_ids"] == {STOP}
    assert written.asked["pad_id"] == TOKENIZER.pad_token_id
    longest = max(len(TOKENIZER(answer)["input_ids"]) + 1 for _, answer in PAIRS)  # and the stop
    assert written.asked["max_new_tokens"] == length_limit(ROWS) == 2 * longest


def test_no_right_answer_is_cut_by_the_limit():
    for chosen in (ROWS, ROWS[:1], rows([("q", "x" * 300)])):
        assert all(
            len(row.input_ids) - row.num_prompt_tokens <= length_limit(chosen) for row in chosen
        )


def test_a_record_tells_all_and_is_json(written):
    (record,) = score(written, [(PAIRS[0][1], True)], ROWS[:1])
    prompt = "<|start|><|user|>lines with a vowel<|assistant|>"
    assert json.loads(json.dumps(record)) == {
        "id": ROWS[0].digest,
        "source": "t:1",
        "prompt": prompt,
        "prompt_hash": hashlib.sha256(prompt.encode()).hexdigest()[:16],
        "gold": "[AEIOUaeiou]",
        "prediction": "[AEIOUaeiou]",
        "exact_match": True,
        "prefix_match": True,
        "stopped": True,
        "num_tokens": len(TOKENIZER("[AEIOUaeiou]")["input_ids"]),
        "group": None,
        "log_probabilities": {},
    }


def test_an_id_is_of_prompt_and_gold_and_not_of_the_prediction(written):
    one = score(written, [("x", True)] * 4)
    two = score(written, [("y", False)] * 4)
    assert [record["id"] for record in one] == [record["id"] for record in two]
    assert len({record["id"] for record in one}) == 4
    other = score(written, [("x", True)], rows([(PAIRS[0][0], "other gold")]))
    assert other[0]["id"] not in {record["id"] for record in one}


def test_metrics_are_rates_with_wilson_intervals():
    records = [{"exact_match": i < 3, "prefix_match": i < 5, "stopped": i < 10} for i in range(10)]
    metrics = rate_metrics(records, SCORES)
    for name, num_right in (("exact_match", 3), ("prefix_match", 5), ("stopped", 10)):
        interval = wilson_interval(num_right, 10)
        assert metrics[name] == {
            "mean": num_right / 10, "low": interval.low, "high": interval.high, "num_examples": 10,
            "num_unjudged": 0,
        }  # fmt: skip
    # Wilson by hand for 3 of 10: (0.3 + z2/20 -+ z sqrt(0.21/10 + z2/400)) / (1 + z2/10).
    z = 1.959964
    centre, half = 0.3 + z * z / 20, z * (0.021 + z * z / 400) ** 0.5
    assert metrics["exact_match"]["low"] == pytest.approx(
        (centre - half) / (1 + z * z / 10), abs=1e-5
    )
    assert metrics["exact_match"]["high"] == pytest.approx(
        (centre + half) / (1 + z * z / 10), abs=1e-5
    )


def test_rows_that_cannot_be_judged_are_left_out_counted_and_named():
    records = [
        {"score": verdict, "none": None, "stopped": True, "source": f"t:{place}"}
        for place, verdict in enumerate([True, None, False, None])
    ]
    metrics = rate_metrics(records, ("score", "none"))
    assert metrics["score"]["mean"] == 0.5
    assert (metrics["score"]["num_examples"], metrics["score"]["num_unjudged"]) == (2, 2)
    assert metrics["none"] == {
        "mean": None, "low": None, "high": None, "num_examples": 0, "num_unjudged": 4,
    }  # fmt: skip
    notes = unjudged_notes(records, ("score", "none"))
    assert notes[0] == "score: 2 rows are not judged and left out of the rate: t:1, t:3"
    assert unjudged_notes(records[:1], ("score",)) == []


def test_groups_have_exact_intervals():
    records = [
        {"score": place < 2, "stopped": True, "group": "few" if place < 3 else "many"}
        for place in range(9)
    ]
    metrics = rate_metrics(records, ("score",))
    interval = exact_interval(2, 3)
    assert metrics["score, few"] == {
        "mean": 2 / 3, "low": interval.low, "high": interval.high, "num_examples": 3,
        "num_unjudged": 0,
    }  # fmt: skip
    assert (metrics["score, many"]["mean"], metrics["score, many"]["num_examples"]) == (0, 6)


def test_a_whole_answer_takes_its_stop_token_and_nan_is_wrong(written, monkeypatch):
    class Nested(Letters):
        scores = ("whole",)

        def contrasts(self, gold, fields):
            return {"whole": Contrast(("1", "10"), 0, is_whole=True)}

    asked = []

    def scored(model, prompts, options, *, batch_tokens):
        asked.append(options)
        return [[math.nan, -1.0]] * len(prompts)

    monkeypatch.setattr(scoring, "option_log_probabilities", scored)
    written[:] = [("", True)] * len(ROWS)
    records = score_rows(None, RENDERER, ROWS, Nested(), batch_tokens=1000)
    assert [record["whole"] for record in records] == [False] * len(ROWS)
    for row_options in asked[0]:
        assert [option[-1] for option in row_options] == [STOP, STOP]
        assert [TOKENIZER.decode(option[:-1]) for option in row_options] == ["1", "10"]


class Letters(Scorer):
    """Of two plain texts and of two answers, the second is right."""

    scores = ("letter", "text")

    def judge(self, answers):
        return [{} for _ in answers]

    def contrasts(self, gold, fields):
        return {
            "letter": Contrast(("a", "bcde"), 1),
            "text": Contrast((" x", " yyyy"), 1, prompt="plain", per_character=True),
        }


@pytest.mark.parametrize(
    ("values", "right"),
    [
        ([-1.0, -2.0], {"letter": False, "text": True}),
        ([-3.0, -1.0], {"letter": True, "text": True}),
        ([-1.0, -8.0], {"letter": False, "text": False}),
        ([-1.0, -1.0], {"letter": False, "text": True}),
    ],
)
def test_choices_by_likelihood(written, monkeypatch, values, right):
    asked = []

    def scored(model, prompts, options, *, batch_tokens):
        asked.append((prompts, options))
        return [values] * len(prompts)

    monkeypatch.setattr(scoring, "option_log_probabilities", scored)
    written[:] = [("", True)] * len(ROWS)
    records = score_rows(None, RENDERER, ROWS, Letters(), batch_tokens=1000)
    for record in records:
        assert {name: record[name] for name in right} == right
        assert record["log_probabilities"] == {"letter": values, "text": values}
    (prompts, options), (plain, _) = asked
    assert prompts == [row.input_ids[: row.num_prompt_tokens] for row in ROWS]
    assert [TOKENIZER.decode(ids) for ids in options[0]] == ["a", "bcde"]
    assert {TOKENIZER.decode(ids).removeprefix("<|start|>") for ids in plain} == {"plain"}


def test_another_engine_may_decode():
    asked = []

    def decode(prompts, limit):
        asked.append((prompts, limit))
        answers = [row.input_ids[row.num_prompt_tokens :] for row in ROWS]
        return [Decoded(answer[: answer.index(STOP)], True) for answer in answers]

    records = score_rows(None, RENDERER, ROWS, ExactText(), decode=decode, batch_tokens=1000)
    assert judged(records) == [(True, True)] * len(ROWS)
    assert asked == [([row.input_ids[: row.num_prompt_tokens] for row in ROWS], length_limit(ROWS))]


def test_gold_of_nl_rx_is_all_right(written):
    if "SEMTUBE_SHARED" not in os.environ:
        pytest.skip("SEMTUBE_SHARED is not set: no NL-RX data here")
    data = Path(os.environ["SEMTUBE_SHARED"]) / "data" / "nl_rx" / "synth_test.jsonl"
    renderer = Renderer(TOKENIZER, frozenset({STOP}))
    chosen = [renderer.render(example) for example in read_examples(data)]
    texts = []
    for row in chosen:
        answer = row.input_ids[row.num_prompt_tokens :]
        texts.append((answer[: answer.index(STOP)], True))
    metrics = rate_metrics(score(written, texts, chosen), SCORES)
    assert metrics["exact_match"]["mean"] == 1.0
    assert metrics["exact_match"]["num_examples"] == 2000
