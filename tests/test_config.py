"""Settings of a run: values that cannot be meant are refused, the identity follows the numbers."""

import json
import subprocess
import sys
from dataclasses import asdict, fields, replace

import pytest

from semtube.config import EvaluationOptions, LoraOptions, RunConfig
from semtube.errors import UserError

CONFIG = RunConfig(data="train.jsonl", output="runs/a")
PRINTS = {"train": "0" * 64}
NAN, INF = float("nan"), float("inf")


def test_the_default_settings_are_good():
    CONFIG.check()


@pytest.mark.parametrize(
    ("name", "value", "wanted"),
    [
        *[(n, v, "at least 1") for n in ("batch_size", "max_tokens", "log_every") for v in (0, -3)],
        *[
            (n, 0, "at least 1, or unset")
            for n in ("steps", "checkpoint_every", "micro_batch_size", "threads", "max_new_tokens")
        ],
        ("steps", -1, "at least 1, or unset"),
        *[(n, v, "above 0") for n in ("max_grad_norm", "epochs") for v in (0.0, -1e-3, NAN, INF)],
        *[("learning_rate", v, "above 0, or unset") for v in (0.0, -1e-3, NAN, INF)],
        *[("weight_decay", v, "at least 0") for v in (-0.1, NAN)],
        *[("weight", v, "at least 0, or unset") for v in (-0.02, NAN, INF)],
        *[("neftune", v, "at least 0") for v in (-0.02, NAN, INF)],
        *[(n, v, "in [0, 1)") for n in ("weight_dropout", "attention_dropout") for v in (-0.1, 1)],
        *[("fraction", v, "above 0 and at most 1") for v in (0.0, -0.5, 1.01, NAN)],
        *[("warmup_fraction", v, "in [0, 1)") for v in (-0.1, 1.0, NAN)],
    ],
)
def test_a_value_that_cannot_be_meant_is_refused_by_name(name, value, wanted):
    with pytest.raises(UserError) as caught:
        replace(CONFIG, **{name: value}).check()
    assert str(caught.value) == f"{name} is {value}: it must be {wanted}"


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"validation_rows": -1}, "validation_rows is -1: it must be at least 0"),
        ({"validation_rows": 5, "validation": "v.jsonl"}, "it must be 0 where validation is set"),
        ({"drop_overlap": "row"}, "drop_overlap is row: it must be unset without validation"),
    ],
)
def test_splits_that_cannot_be_meant_are_refused(changes, sentence):
    with pytest.raises(UserError) as caught:
        replace(CONFIG, **changes).check()
    assert sentence in str(caught.value)
    replace(CONFIG, validation_rows=5, drop_overlap="row").check()


@pytest.mark.parametrize("name", ["max_tokens", "batch_tokens", "limit"])
def test_an_evaluation_refuses_what_cannot_be_meant(name):
    EvaluationOptions().check()
    with pytest.raises(UserError, match=f"{name} is 0: it must be at least 1"):
        EvaluationOptions(**{name: 0}).check()
    with pytest.raises(UserError, match="engine is vllm: it must be transformers, or the URL"):
        EvaluationOptions(engine="vllm").check()


@pytest.mark.parametrize("rank", [-1, -8])
def test_a_negative_rank_is_refused(rank):
    with pytest.raises(UserError, match=f"lora.rank is {rank}: it must be at least 0"):
        replace(CONFIG, lora=LoraOptions(rank=rank)).check()


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"dropout": 1.5}, "lora.dropout"),
        ({"dropout": -0.1}, "lora.dropout"),
        ({"alpha": 0}, "lora.alpha"),
        ({"alpha": -16}, "lora.alpha"),
    ],
)
def test_adapters_that_cannot_be_meant_are_refused(options, named):
    with pytest.raises(UserError, match=named):
        replace(CONFIG, lora=LoraOptions(rank=8, **options)).check()


def test_an_endless_weight_decay_is_refused():
    with pytest.raises(UserError, match="weight_decay is inf"):
        replace(CONFIG, weight_decay=INF).check()


@pytest.mark.parametrize(("whole", "micro"), [(32, 5), (32, 64), (6, 4)])
def test_a_step_is_split_evenly_or_not_at_all(whole, micro):
    with pytest.raises(UserError) as caught:
        replace(CONFIG, batch_size=whole, micro_batch_size=micro).check()
    assert str(caught.value) == (
        f"micro_batch_size is {micro}: it must be a divisor of batch_size ({whole})"
    )


@pytest.mark.parametrize(("micro", "steps"), [(None, 1), (32, 1), (16, 2), (8, 4), (1, 32)])
def test_micro_batches_and_accumulation_make_the_batch(micro, steps):
    config = replace(CONFIG, micro_batch_size=micro)
    config.check()
    assert config.accumulation_steps == steps


def test_values_at_the_bounds_are_good():
    replace(
        CONFIG, batch_size=1, max_tokens=1, log_every=1, steps=1, checkpoint_every=1, threads=1,
        weight=0.0, weight_decay=0.0, fraction=1.0, warmup_fraction=0.0, lora=LoraOptions(rank=0),
    ).check()  # fmt: skip


# Another value for every setting; the test below fails for a new one that is in neither table.
CHANGES_NUMBERS = {
    "chat_form": "plain",
    "task": "choice",
    "task_options": {"choices": ["a", "b"]},
    "validation_rows": 8,
    "max_new_tokens": 64,
    "drop_overlap": "row",
    "model": "tiny-10m",
    "objective": "ntp",
    "weight": 0.04,
    "options": {"form": "span"},
    "weight_schedule": "adaptive",
    "weight_dropout": 0.5,
    "neftune": 5.0,
    "attention_dropout": 0.1,
    "fraction": 0.5,
    "labels": "full",
    "train_stop": False,
    "max_tokens": 128,
    "steps": 100,
    "epochs": 2.0,
    "batch_size": 16,
    "learning_rate": 2e-3,
    "weight_decay": 0.1,
    "schedule": "cosine",
    "warmup_fraction": 0.1,
    "max_grad_norm": 0.5,
    "lora": LoraOptions(rank=8),
    "seed": 1,
    "precision": "bf16",
}
CHANGES_NONE = {
    "data": "other.jsonl",
    "data_folder": "elsewhere",
    "output": "runs/b",
    "validation": "v.jsonl",
    "test": "t.jsonl",
    "micro_batch_size": 8,
    "threads": 1,
    "log_every": 1,
    "geometry_every": 5,
    "checkpoint_every": 7,
    "report_to": ["trackio"],
    "trust_remote_code": True,
    "decode_test": False,
}


def test_every_setting_is_known_to_change_numbers_or_not():
    assert {f.name for f in fields(RunConfig)} == set(CHANGES_NUMBERS) | set(CHANGES_NONE)
    for name, value in (CHANGES_NUMBERS | CHANGES_NONE).items():
        assert getattr(CONFIG, name) != value


@pytest.mark.parametrize("name", CHANGES_NUMBERS)
def test_the_identity_changes_with_what_changes_numbers(name):
    changed = replace(CONFIG, **{name: CHANGES_NUMBERS[name]})
    assert changed.identity(PRINTS) != CONFIG.identity(PRINTS)


@pytest.mark.parametrize("name", CHANGES_NONE)
def test_the_identity_does_not_change_with_paths_logging_or_the_splitting_of_a_step(name):
    changed = replace(CONFIG, **{name: CHANGES_NONE[name]})
    assert changed.identity(PRINTS) == CONFIG.identity(PRINTS)


def test_next_token_prediction_has_no_weight():
    ntp = replace(CONFIG, objective="ntp")
    weighed = {"weight": 0.5, "weight_schedule": "linear"}
    assert replace(ntp, **weighed).identity(PRINTS) == ntp.identity(PRINTS)
    assert replace(CONFIG, **weighed).identity(PRINTS) != CONFIG.identity(PRINTS)


def test_options_that_no_objective_would_read_are_refused():
    with pytest.raises(UserError, match=r"options is \{'form': 'span'\}: it must be unset with ob"):
        replace(CONFIG, objective="ntp", options={"form": "span"}).check()
    with pytest.raises(UserError, match=r"weight_dropout is 0\.5: it must be 0 with the adaptive"):
        replace(CONFIG, weight_schedule="adaptive", weight_dropout=0.5).check()


def test_the_identity_knows_the_data_by_its_fingerprints():
    names = [PRINTS, {"train": "1" * 64}, {**PRINTS, "test": "0" * 64}, {"test": "0" * 64}, {}]
    assert len({CONFIG.identity(prints) for prints in names}) == 5
    pair = {"train": "a", "test": "b"}
    assert CONFIG.identity(pair) == CONFIG.identity(dict(reversed(pair.items())))


def test_the_identity_is_the_same_in_every_process():
    code = (
        "from semtube.config import RunConfig; import sys; "
        "print(RunConfig(data='x', output='y').identity({'train': '0' * 64})); "
        "assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == CONFIG.identity(PRINTS)
    assert len(CONFIG.identity(PRINTS)) == 16


@pytest.mark.parametrize(
    ("whole", "real"),
    [({"epochs": 4}, {"epochs": 4.0}), ({"weight": 1}, {"weight": 1.0}),
     ({"fraction": 1}, {"fraction": 1.0}), ({"max_grad_norm": 1}, {"max_grad_norm": 1.0})],
)  # fmt: skip
def test_equal_settings_have_one_identity(whole, real):
    one, other = replace(CONFIG, **whole), replace(CONFIG, **real)
    assert one == other
    assert one.identity(PRINTS) == other.identity(PRINTS)


def test_every_setting_has_a_type_that_is_checked():
    for field in fields(RunConfig):
        with pytest.raises(UserError, match=f"{field.name} is .*: (it must be|did you mean)"):
            RunConfig.from_dict({"output": "b", field.name: object()})


def test_settings_come_back_from_their_stored_form():
    config = replace(CONFIG, **CHANGES_NUMBERS, **CHANGES_NONE)
    stored = json.loads(json.dumps(asdict(config)))
    assert RunConfig.from_dict(stored) == config
    assert RunConfig.from_dict(stored).identity(PRINTS) == config.identity(PRINTS)


def test_settings_left_out_have_their_defaults_and_the_given_dict_is_not_changed():
    given = {"data": "train.jsonl", "output": "runs/a", "options": {"draws": 2}}
    before = json.dumps(given)
    assert RunConfig.from_dict(given) == replace(CONFIG, options={"draws": 2})
    assert json.dumps(given) == before


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"data": "a", "output": "b", "lerning_rate": 1}, "a run has no option 'lerning_rate'"),
        ({"data": "a"}, "do not fit.*output"),
        ({}, "do not fit.*output"),
        ({"output": "b", "task_options": "x"}, "task_options is 'x': it must be a mapping"),
        ({"data": "a", "output": "b", "options": [2]}, "options is"),
        ({"data": "a", "output": "b", "lora": [8]}, r"lora is \[8\]: it must be a mapping"),
        ({"output": "b", "lora": {"rang": 8}}, "do not fit"),
        ({"output": "b", "lora": {"rank": "8"}}, "lora.rank is '8': it must be a whole number"),
        ({"output": "b", "objective": "tub"}, "objective is 'tub': did you mean 'tube'?"),
        ({"output": "b", "chat_form": 3}, "chat_form is 3: it must be one of template, plain"),
        ({"output": "b", "steps": "three"}, "steps is 'three': it must be a whole number, or un"),
        ({"output": "b", "batch_size": 8.5}, "batch_size is 8.5: it must be a whole number$"),
        ({"output": "b", "seed": True}, "seed is True: it must be a whole number"),
        ({"output": "b", "learning_rate": "1e-3"}, "learning_rate is '1e-3': it must be a number"),
        ({"output": "b", "train_stop": 1}, "train_stop is 1: it must be true or false"),
        ({"output": "b", "report_to": "wandb"}, "report_to is 'wandb': it must be a list"),
        ({"output": "b", "data": 3}, "data is 3: it must be a text, or unset"),
    ],
)
def test_settings_that_do_not_fit_are_named(given, reason):
    with pytest.raises(UserError, match=reason):
        RunConfig.from_dict(given)
