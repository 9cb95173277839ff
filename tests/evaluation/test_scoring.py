"""Judging decoded rows: right means the gold text, the whole of it, and then a stop."""

import json
import os
from pathlib import Path

import pytest
import torch

from semtube.data.examples import Example, Message, read_examples
from semtube.data.rendering import Renderer
from semtube.evaluation import scoring
from semtube.evaluation.decoding import Decoded
from semtube.evaluation.intervals import wilson_interval
from semtube.evaluation.scoring import length_limit, rate_metrics, score_rows

transformers = pytest.importorskip("transformers")
from semtube.models.tokenizer import train_tokenizer  # noqa: E402

PAIRS = [
    ("lines with a vowel", "[AEIOUaeiou]"),
    ("lines with words", r"\b(.*)\b"),
    ("nothing , or . more ?", "a , b . c ? n't 's"),
    ("東京", "naïve 🙂"),
]
TOKENIZER = train_tokenizer([text for pair in PAIRS for text in pair] * 3, 400)
STOP = TOKENIZER.eos_token_id


def rows(pairs=PAIRS):
    renderer = Renderer(TOKENIZER, frozenset({STOP}))
    return [
        renderer.render(
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
    return score_rows(None, TOKENIZER, chosen, stop_ids=frozenset({STOP}))


def judged(records) -> list[tuple[bool, bool]]:
    return [(record["exact_match"], record["prefix_match"]) for record in records]


def test_gold_against_gold_is_all_right(written):
    records = score(written, [(answer, True) for _, answer in PAIRS])
    assert judged(records) == [(True, True)] * len(PAIRS)
    metrics = rate_metrics(records)
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
    assert rate_metrics(records)["exact_match"]["mean"] == 0.0
    assert rate_metrics(records)["prefix_match"]["mean"] == 1.0


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
        "gold": "[AEIOUaeiou]",
        "prediction": "[AEIOUaeiou]",
        "exact_match": True,
        "prefix_match": True,
        "stopped": True,
        "num_tokens": len(TOKENIZER("[AEIOUaeiou]")["input_ids"]),
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
    metrics = rate_metrics(records)
    for name, num_right in (("exact_match", 3), ("prefix_match", 5), ("stopped", 10)):
        interval = wilson_interval(num_right, 10)
        assert metrics[name] == {
            "mean": num_right / 10, "low": interval.low, "high": interval.high, "num_examples": 10,
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


class Parrot(torch.nn.Module):
    """Writes the right continuation of every row it knows: gold through the real decoder."""

    def __init__(self, known):
        super().__init__()
        config = transformers.LlamaConfig(
            vocab_size=len(TOKENIZER), hidden_size=8, intermediate_size=8, num_hidden_layers=1,
            num_attention_heads=1, bos_token_id=1, eos_token_id=STOP, pad_token_id=0,
        )  # fmt: skip
        self.inner = transformers.LlamaForCausalLM(config)
        self.known = known
        self.config = config
        self.generation_config = self.inner.generation_config

    def generate(self, input_ids, attention_mask):
        settings = self.generation_config
        out = []
        for ids, mask in zip(input_ids.tolist(), attention_mask.tolist(), strict=True):
            prompt = [token for token, kept in zip(ids, mask, strict=True) if kept]
            whole = next(row for row in self.known if row[: len(prompt)] == prompt)
            answer = whole[len(prompt) :][: settings.max_new_tokens]
            out.append(ids + answer)
        width = max(map(len, out))
        return torch.tensor([row + [settings.pad_token_id] * (width - len(row)) for row in out])


def test_gold_through_the_real_decoder_is_all_right():
    model = Parrot([row.input_ids for row in ROWS])
    records = score_rows(model, TOKENIZER, ROWS, stop_ids=frozenset({STOP}), batch_size=3)
    assert judged(records) == [(True, True)] * len(ROWS)
    assert [record["gold"] for record in records] == [answer for _, answer in PAIRS]


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
    metrics = rate_metrics(score(written, texts, chosen))
    assert metrics["exact_match"]["mean"] == 1.0
    assert metrics["exact_match"]["num_examples"] == 2000
