"""`probe_models` on tiny models: what is measured, that batches do not matter, what is refused."""

import csv
import gc
import json
import math
import tracemalloc
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import torch

pytest.importorskip("transformers")
from semtube.config import ProbeOptions
from semtube.data.rendering import Rendered
from semtube.errors import UserError
from semtube.evaluation.decoding import decode_greedily
from semtube.geometry.cone import first_differences, fit_cone, state_distances
from semtube.geometry.measured import Measured
from semtube.geometry.measures import MEASURES, PROBE_FORMAT
from semtube.models.loading import load_model
from semtube.models.presets import build_preset
from semtube.models.tokenizer import train_tokenizer
from semtube.objectives.trajectories import ANSWER, PROMPT, TEMPLATE
from semtube.report.probe_page import write_probe_page
from semtube.run_folder import read_json
from semtube.study.checkpoint_probe import (
    MOST_POSITIONS,
    CheckpointProbe,
    sampled_positions,
)
from semtube.study.phrases import Occurrence, repeated_phrases
from semtube.study.probe import probe_models
from semtube.study.probe_cone import ConeProbe
from semtube.study.probe_exponents import nulls_of_exponent
from semtube.study.probe_pictures import in_chord_plane, in_principal_plane
from semtube.study.probe_table import Row, writing_table


@pytest.fixture(scope="module", autouse=True)
def fewer_draws():
    """What is measured is the same with fewer draws, and the tests shorter."""
    with pytest.MonkeyPatch.context() as patch:
        for name, number in (("CAPACITY_DRAWS", 5), ("STABILITY_SPLITS", 2),
                             ("STABILITY_SAMPLES", 50)):  # fmt: skip
            patch.setattr(f"semtube.study.probe_sets.{name}", number)
        yield


def save(folder: Path, texts, seed: int, vocabulary: int = 200) -> Path:
    tokenizer = train_tokenizer(texts, vocabulary)
    ids = {f"{t}_token_id": getattr(tokenizer, f"{t}_token_id") for t in ("bos", "eos", "pad")}
    build_preset("tiny-0.3m", len(tokenizer), seed, **ids).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def models(rows_file: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Two of the same tokenizer, with other weights."""
    folder = tmp_path_factory.mktemp("models")
    texts = [rows_file.read_text()]
    return [str(save(folder / name, texts, seed)) for name, seed in (("one", 1), ("two", 2))]


@pytest.fixture(scope="module")
def options(rows_file: Path) -> ProbeOptions:
    return ProbeOptions(data=str(rows_file), task="exact", limit=12, cone_prompts=0)


@pytest.fixture(scope="module")
def probed(models, options, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("probe") / "both"
    return probe_models(models, replace(options, output=str(output)))


def table(folder: Path, *, nulls: bool = False) -> dict[tuple[str, ...], float]:
    """What was measured, or the nulls, of which the last part of the key is the null."""
    with (folder / "table.csv").open(newline="") as file:
        lines = list(csv.reader(file))
    assert lines[0] == [
        "checkpoint", "layer", "example", "measure", "length", "null", "value", "low", "high",
    ]  # fmt: skip
    found = {tuple(line[:6]): float(line[6]) for line in lines[1:]}
    assert len(found) == len(lines) - 1, "a number stands twice"
    if nulls:
        return {key: value for key, value in found.items() if key[5]}
    return {key[:5]: value for key, value in found.items() if not key[5]}


def test_every_measure_has_its_number_in_every_layer(probed, models) -> None:
    found = table(probed)
    layers = {key[1] for key in found} - {""}
    depth = len(layers) - 1
    assert layers == {*map(str, range(1, depth)), "before_norm", "last"}
    of_rows = {"tube_loss", "span_loss", "turning_angle", "chord_over_path", "parallel",
               "tube_deviation_relative", "lemma_mean_ratio", "step_length"}  # fmt: skip
    of_sets = {"effective_rank", "first_share", "anisotropy", "concept_within", "capacity",
               "feature_stability"}  # fmt: skip
    for layer in layers:
        for name in ("one", "two"):
            here = {key for key in found if key[:2] == (name, layer)}
            assert of_rows <= {key[3] for key in here if key[2]}
            assert of_sets <= {key[3] for key in here if not key[2]}
    drifts = {key[1]: value for key, value in found.items() if key[3] == "drift"}
    assert drifts.keys() == layers
    assert all(0 < value < 2 for value in drifts.values())
    transports = {key[1] for key in found if key[:1] == ("one",) and key[3] == "transport"}
    assert transports == layers - {"1", "before_norm"}
    for layer in transports:
        shares = [f"transport_{name}" for name in ("tenth", "median", "nine_tenths")]
        low, middle, high = (found["one", layer, "", share, ""] for share in shares)
        assert 0 < low < middle < high < math.pi


def test_its_format_is_that_of_the_measures(probed) -> None:
    assert read_json(probed / "probe.json")["format"] == PROBE_FORMAT


def test_every_number_stands_beside_a_null(probed) -> None:
    found, nulls = table(probed), table(probed, nulls=True)
    of = {(name, layer, measure, length) for name, layer, _, measure, length, _ in nulls}
    for name, layer, _, measure, length in found:
        assert {(name, layer, measure, length), (name, "", measure, length)} & of, measure
    assert abs(nulls["one", "", "", "tube_loss", "", "straight line"]) < 1e-6
    assert 0.8 < nulls["one", "", "", "tube_loss", "", "independent increments"] < 1.2
    assert 1.3 < nulls["two", "", "", "tube_loss", "", "memoryless points"] < 1.7
    assert nulls["one", "last", "", "transport", "", "other positions"] > 0.01
    ranks = {
        key[1] for key in nulls if key[3:] == ("effective_rank", "", "independent coordinates")
    }
    assert ranks == {key[1] for key in found if key[3] == "effective_rank"}


def test_nulls_with_a_unit_have_the_layers_steps(probed) -> None:
    found, nulls = table(probed), table(probed, nulls=True)
    for layer in ("1", "before_norm", "last"):
        steps = [v for key, v in found.items() if key[:2] == ("one", layer)
                 and key[3] == "step_length"]  # fmt: skip
        line = {
            measure: nulls["one", layer, "", measure, length, "straight line"]
            for measure, length in (("step_length", ""), ("parallel", "4"), ("curvature", ""))
        }
        assert line["step_length"] == pytest.approx(sum(steps) / len(steps))
        # Two steps before the middle of four, on average over the places between.
        assert line["step_length"] < line["parallel"] < 4 * line["step_length"]
        memoryless = nulls["one", layer, "", "curvature", "", "memoryless points"]
        # Of three points without memory, the circle has about the size of a step.
        assert 0.5 < memoryless * line["step_length"] < 3


def test_the_last_layers_tube_loss_is_that_of_the_evaluation(probed, models, options) -> None:
    from semtube.data.rendering import Renderer
    from semtube.data.tokens import tokenize_rows
    from semtube.evaluation.held_out import held_out_losses
    from semtube.study.splits import read_rows
    from semtube.tasks.catalogue import build_scorer

    loaded = load_model(models[0])
    renderer = Renderer(loaded.tokenizer, loaded.stop_ids, labels="answer", train_stop=True)
    examples = read_rows(build_scorer("exact", {}), options.data, None)
    rows = tokenize_rows(examples, renderer, 512, max_rows=12).rows
    losses = held_out_losses(loaded.model, rows, pad_id=loaded.tokenizer.pad_token_id)
    found = table(probed)
    values = [
        value
        for key, value in found.items()
        if key[:2] == ("one", "last") and key[3] == "tube_loss"
    ]
    assert len(values) == 12
    assert sum(values) / 12 == pytest.approx(losses["tube_loss"]["mean"], abs=1e-5)
    assert found["one", "", "", "loss", ""] == pytest.approx(losses["loss"]["mean"], abs=1e-5)


def test_batches_change_nothing(probed, models, options, tmp_path) -> None:
    alone = replace(options, output=str(tmp_path / "alone"), batch_tokens=1, measures="cheap")
    together = table(probed)
    found = table(probe_models(models[:1], alone))
    assert len(found) > 12 * 5
    for key, value in found.items():
        assert value == pytest.approx(together[key], rel=1e-4, abs=1e-4), key


def test_a_repeated_probe_gives_the_same_table(probed, models, options, tmp_path) -> None:
    """Of one model alone, too: what stands beside it changes none of its numbers."""
    again = table(probe_models(models[:1], replace(options, output=str(tmp_path / "again"))))
    first = {key: value for key, value in table(probed).items() if key[0] != "two"}
    assert again == first


def test_the_cheap_measures_take_one_pass_over_the_rows(
    models, options, tmp_path, monkeypatch
) -> None:
    passes: list[int] = []

    def counted(*args, **settings):
        loaded = load_model(*args, **settings)
        loaded.model.model.register_forward_hook(lambda *_: passes.append(1))
        return loaded

    monkeypatch.setattr("semtube.study.probe_checkpoints.load_model", counted)
    cheap = replace(options, output=str(tmp_path / "cheap"), measures="cheap", layers="1,last")
    folder = probe_models(models[:1], cheap, draw=write_probe_page)
    assert len(passes) == 1, "twelve short rows are one batch"
    found = table(folder)
    dear = {"tube_radius", "capacity", "transport", "drift", "loss", "stop_log_probability",
            "views_residual_share", "concept_within"}  # fmt: skip
    assert not dear & {key[3] for key in found}
    assert {"tube_loss", "effective_rank", "anisotropy"} <= {key[3] for key in found}
    assert {MEASURES[key[3]].cost for key in found} == {"cheap"}
    assert {key[1] for key in found} == {"1", "last"}
    told = read_json(folder / "probe.json")["checkpoints"][0]
    assert told["num_without_views"] == 0
    assert "drift" not in told["not_measured"], "it was not asked for"
    page = (folder / "index.html").read_text()
    assert "next-token loss" not in page.split("What the measures are")[0]


def test_rows_that_are_too_short_are_left_out_and_counted(models, options, tmp_path) -> None:
    rows = [{"text": "a"}, {"text": "red green blue one two three four wide narrow red"}]
    path = tmp_path / "short.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    folder = probe_models(models[:1], replace(options, data=str(path), output=str(tmp_path / "p")))
    told = json.loads((folder / "probe.json").read_text())["checkpoints"][0]
    left = {(e["layer"], e["measure"], e["length"]): e["num_examples"] for e in told["left_out"]}
    assert left["1", "tube_loss", None] == 1
    assert told["num_without_views"] == 2
    assert len({key[2] for key in table(folder) if key[3] == "tube_loss" and key[2]}) == 1


def test_states_that_are_not_finite_are_named(models, options, tmp_path, monkeypatch) -> None:
    loaded = load_model(models[0])
    with torch.no_grad():
        loaded.model.model.layers[0].mlp.down_proj.weight[0, 0] = float("nan")
    loaded.model.save_pretrained(tmp_path / "nan")
    loaded.tokenizer.save_pretrained(tmp_path / "nan")
    with pytest.raises(UserError, match=r"layer 1, example .*: the hidden state of content token"):
        probe_models([str(tmp_path / "nan")], replace(options, output=str(tmp_path / "p")))
    assert not (tmp_path / "p").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["nan"], "nothing half-written"


def with_broken_token(folder: str, token: int):
    """A model whose states are not finite from this token on; its head is one of its own."""
    loaded = load_model(folder)
    head = loaded.model.get_output_embeddings()
    loaded.model.config.tie_word_embeddings = False
    head.weight = torch.nn.Parameter(head.weight.detach().clone())
    with torch.no_grad():
        loaded.model.get_input_embeddings().weight[token] = float("nan")
    return loaded


def test_a_view_that_is_not_finite_is_named(models, options) -> None:
    rows = [
        replace(row(ids, [PROMPT, PROMPT, ANSWER, ANSWER][: len(ids)]), source=f"f:{number}")
        for number, ids in enumerate([[3, 4, 5, 6], [3, 4], [6, 5, 4, 9], [4, 5, 6, 3]])
    ]
    loaded = with_broken_token(models[0], 9)
    for budget in (1, 1000):
        asked = replace(options, batch_tokens=budget)
        probe = CheckpointProbe("one", loaded.model, rows, ["1", "last"], [], 0, asked)
        with pytest.raises(
            UserError,
            match="layer 1, example f:2: the hidden state of the answer's last token is not",
        ):
            probe.read_views()


def test_a_written_text_whose_states_are_not_finite_is_named(models, options) -> None:
    """A token that stands in no row, but that the model writes."""
    loaded = load_model(models[0])
    rows = [
        replace(row([3, 4 + k, 5, 6], [PROMPT, PROMPT, ANSWER, ANSWER]), source=f"f:{k}",
                num_prompt_tokens=2, answer="some")
        for k in range(4)
    ]  # fmt: skip
    prompts = [of.input_ids[:2] for of in rows]
    asked = replace(options, cone_prompts=4)
    written = decode_greedily(
        loaded.model, prompts, stop_ids=frozenset([2]), pad_id=0, max_new_tokens=4
    )
    known = {token for of in rows for token in of.input_ids} | {0, 2}
    new = [set(text.token_ids) - known for text in written]
    number, token = next(
        (n, token) for n, tokens in enumerate(new) for token in tokens
        if not any(token in others for others in new[:n] + new[n + 1 :])
    )  # fmt: skip
    loaded = with_broken_token(models[0], token)
    probe = CheckpointProbe("one", loaded.model, rows, ["1", "last"], [], 0, asked)
    with pytest.raises(
        UserError,
        match=f"layer 1, example f:{number}: the hidden state of a token of the greedy text "
        "is not finite",
    ):
        ConeProbe(probe, frozenset([2])).measure({})


def test_predictions_that_are_not_finite_are_named(models, options, tmp_path) -> None:
    """A head of its own that is broken: states are finite, what it says of them is not."""
    loaded = load_model(models[0])
    head = loaded.model.get_output_embeddings()
    loaded.model.config.tie_word_embeddings = False
    head.weight = torch.nn.Parameter(head.weight.detach().clone())
    with torch.no_grad():
        head.weight[5, 0] = float("nan")
    loaded.model.save_pretrained(tmp_path / "nan")
    loaded.tokenizer.save_pretrained(tmp_path / "nan")
    with pytest.raises(UserError, match=r"nan, example .*: the model's predictions are not a num"):
        probe_models([str(tmp_path / "nan")], replace(options, output=str(tmp_path / "p")))
    assert [path.name for path in tmp_path.iterdir()] == ["nan"]


@pytest.mark.parametrize("same", ["zero", "one vector"])
def test_identical_states_have_reasons_and_a_page(models, options, tmp_path, same) -> None:
    """All embeddings alike: every state of a layer is one vector, exactly or up to rounding."""
    loaded = load_model(models[0])
    with torch.no_grad():
        weight = loaded.model.get_input_embeddings().weight
        weight[:] = 0 if same == "zero" else weight[5].clone()
    loaded.model.save_pretrained(tmp_path / "alike")
    loaded.tokenizer.save_pretrained(tmp_path / "alike")
    asked = replace(options, output=str(tmp_path / "p"), limit=24, cone_prompts=24, layers="1,last")
    folder = probe_models([str(tmp_path / "alike")], asked, draw=write_probe_page)
    told = read_json(folder / "probe.json")["checkpoints"][0]
    assert told["not_measured"]["cone"] == (
        "layer 1, last: the states of the right answers are equal but for rounding"
    )
    assert told["cones"] == []
    found = table(folder) | table(folder, nulls=True)
    assert len(found) > 100
    assert all(map(math.isfinite, found.values()))
    assert not {key[3] for key in found if key[3].startswith(("cone", "near"))}
    assert "no cone: layer 1, last: the states of the right" in (folder / "index.html").read_text()


def test_what_is_not_finite_is_told_and_not_written(tmp_path) -> None:
    rows = [Row("m", "2", "", "capacity", value) for value in (math.inf, math.nan)]
    reasons: dict[str, str] = {}
    with writing_table(tmp_path / "table.csv") as writer:
        writer.add([*rows, Row("m", "2", "", "drift", 1.0, low=0.5, high=1.5)], reasons)
    assert table(tmp_path) == {("m", "2", "", "drift", ""): 1.0}
    assert (tmp_path / "table.csv").read_text().endswith("m,2,,drift,,,1,0.5,1.5\n")
    assert reasons == {"capacity": "layer 2: its value is not a finite number"}


def test_a_checkpoint_alone_has_no_drift_and_says_so(probed, models, options, tmp_path) -> None:
    asked = replace(options, output=str(tmp_path / "p"), limit=6, layers="last")
    folder = probe_models(models[:1], asked, draw=write_probe_page)
    why = read_json(folder / "probe.json")["checkpoints"][0]["not_measured"]
    assert why["drift"] == "it needs a second checkpoint to compare with"
    assert "one: no drift: it needs a second" in (folder / "index.html").read_text()
    for checkpoint in read_json(probed / "probe.json")["checkpoints"]:
        assert "drift" not in checkpoint["not_measured"]


def test_models_of_other_depth_and_tokens_are_compared_where_they_can_be(
    models, options, tmp_path
) -> None:
    loaded = load_model(models[0])
    shorter = loaded.model
    shorter.model.layers = shorter.model.layers[:-1]
    shorter.config.num_hidden_layers -= 1
    shorter.save_pretrained(tmp_path / "shorter")
    loaded.tokenizer.save_pretrained(tmp_path / "shorter")
    other = str(save(tmp_path / "other", [Path(options.data).read_text()], 3, vocabulary=280))
    asked = replace(options, output=str(tmp_path / "p"), limit=6)
    folder = probe_models([models[0], str(tmp_path / "shorter"), other], asked)
    one, two, three = json.loads((folder / "probe.json").read_text())["checkpoints"]
    assert (one["compared_with"], two["compared_with"], three["compared_with"]) == (
        None, "one", "one",
    )  # fmt: skip
    assert (one["same_tokens"], two["same_tokens"], three["same_tokens"]) == (True, True, False)
    assert len(two["layers"]) == len(one["layers"]) - 1
    found = table(folder)
    drifts = {key[1] for key in found if key[:1] == ("shorter",) and key[3] == "drift"}
    assert drifts == set(two["layers"])
    assert three["not_measured"]["drift"] == "other has other tokens than one"
    assert not {key for key in found if key[0] == "other" and key[3] == "drift"}


def test_a_later_checkpoints_fault_is_told_before_the_first_is_measured(
    models, options, rows_file, tmp_path
) -> None:
    from transformers import AutoTokenizer

    other = save(tmp_path / "other", [rows_file.read_text()], seed=3)
    tokenizer = AutoTokenizer.from_pretrained(other)
    tokenizer.chat_template = None
    tokenizer.save_pretrained(other)
    (other / "chat_template.jinja").unlink(missing_ok=True)
    measured: list[str] = []
    asked = replace(options, output=str(tmp_path / "p"))
    with pytest.raises(UserError, match="chat rows need a chat template"):
        probe_models(
            [models[0], str(other)], asked, on_progress=lambda name, *_: measured.append(name)
        )
    assert measured == []
    assert not (tmp_path / "p").exists()


def test_transport_is_from_the_layer_before_or_not_told(models, options, tmp_path) -> None:
    asked = replace(options, layers="before_norm,last", output=str(tmp_path / "p"), limit=6)
    folder = probe_models(models[:1], asked)
    assert "transport" not in {key[3] for key in table(folder)}
    told = json.loads((folder / "probe.json").read_text())["checkpoints"][0]["not_measured"]
    assert told["transport"] == "to last: the layer before is not probed"


def test_rows_without_a_prompt_are_told_where_the_answer_is_asked_for(
    models, options, tmp_path
) -> None:
    path = tmp_path / "texts.jsonl"
    rows = [{"text": "red green blue one"}, {"prompt": "red", "completion": "green blue two red"}]
    path.write_text("\n".join(map(json.dumps, rows)))
    asked = replace(options, data=str(path), content="answer", output=str(tmp_path / "p"))
    said: list[str] = []
    probe_models(models[:1], asked, say=said.append)
    assert said == [
        "one: 1 of 2 rows have no prompt: all of their text counts as the answer",
        "one: all rows measured; next their states as sets, the cone, the nulls",
    ]


def test_a_capacity_that_cannot_be_had_is_told(models, options, tmp_path, monkeypatch) -> None:
    def tired(*args, **options):
        raise ArithmeticError("least squares did not arrive")

    monkeypatch.setattr("semtube.study.probe_sets.manifold_capacity", tired)
    asked = replace(options, output=str(tmp_path / "p"), limit=6, layers="last")
    folder = probe_models(models[:1], asked)
    told = json.loads((folder / "probe.json").read_text())["checkpoints"][0]["not_measured"]
    assert told["capacity"] == "layer last: least squares did not arrive"
    measures = {key[3] for key in table(folder)}
    assert "capacity" not in measures
    assert "feature_stability" in measures


def test_an_interrupt_while_pictures_are_drawn_leaves_nothing(models, options, tmp_path) -> None:
    def draw(folder: Path) -> None:
        assert (folder / "probe.json").is_file()
        raise KeyboardInterrupt

    cheap = replace(options, output=str(tmp_path / "p"), measures="cheap")
    with pytest.raises(KeyboardInterrupt):
        probe_models(models[:1], cheap, draw=draw)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("fields", "wanted"),
    [
        ({"layers": "99"}, "layer is '99', but the model has"),
        ({"start": True}, "is no run, so what it began with is unknown"),
        ({"limit": 0}, "limit is 0"),
        ({"layers": ","}, "layers is ',': it must be layers with commas between"),
        ({"data": None}, "data is unset"),
        ({"max_tokens": 100_000}, "max_tokens is 100000: the model takes at most"),
    ],
)
def test_bad_options_are_refused(models, options, tmp_path, fields, wanted) -> None:
    with pytest.raises(UserError, match=wanted):
        probe_models(models[:1], replace(options, output=str(tmp_path / "p"), **fields))
    assert not list(tmp_path.iterdir())


def test_outputs_and_names_are_checked(models, options, tmp_path) -> None:
    with pytest.raises(UserError, match="--output is needed"):
        probe_models(models, options)
    with pytest.raises(UserError, match="exists: choose another"):
        probe_models(models, replace(options, output=str(tmp_path)))
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"p' would stand in '.*file', which is a file"):
        probe_models(models, replace(options, output=str(tmp_path / "file" / "a" / "p")))
    with pytest.raises(UserError, match="is given twice"):
        probe_models([models[0], models[0]], replace(options, output=str(tmp_path / "p")))


def row(ids: list[int], roles: list[int]) -> Rendered:
    return Rendered(ids, roles, ids, 1, "", "", "f:1", "d", False)


def test_phrases_count_once_behind_the_same_text() -> None:
    rows = [
        row([9, 1, 2, 5], [TEMPLATE, PROMPT, PROMPT, ANSWER]),
        row([9, 1, 2, 6], [TEMPLATE, PROMPT, PROMPT, ANSWER]),  # the same text before 1 2
        row([9, 7, 1, 2], [TEMPLATE, PROMPT, PROMPT, PROMPT]),
        row([9, 8, 8, 1, 2], [TEMPLATE, PROMPT, PROMPT, PROMPT, ANSWER]),  # 1 2 over two roles
    ]
    assert repeated_phrases(rows) == [Occurrence((1, 2), 0, 1, 3), Occurrence((1, 2), 2, 2, 4)]


def test_phrases_are_drawn_by_the_probes_seed(models, options, tmp_path, monkeypatch) -> None:
    def seen(rows, *, seed: int):
        raise UserError(f"phrases by seed {seed}")

    monkeypatch.setattr("semtube.study.probe.repeated_phrases", seen)
    with pytest.raises(UserError, match="phrases by seed 7"):
        probe_models(models[:1], replace(options, output=str(tmp_path / "p"), seed=7))


def test_positions_are_content_with_a_successor(options) -> None:
    rows = [row([9, 1, 2], [TEMPLATE, PROMPT, ANSWER]), row([1, 2], [PROMPT, TEMPLATE])]
    assert sampled_positions(rows, options) == [(0, 1), (1, 0)]


def test_positions_are_a_random_sample_that_takes_no_room(options, monkeypatch) -> None:
    rows = [row([1] * 51, [TEMPLATE, *[PROMPT] * 25, *[ANSWER] * 25])] * 4000
    tracemalloc.start()
    found = sampled_positions(rows, options)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1e6, "all of 200 000 places would take 12 MB"
    assert len(set(found)) == MOST_POSITIONS
    assert found == sorted(found) == sampled_positions(rows, options)
    assert found != sampled_positions(rows, replace(options, seed=1))
    assert {token for _, token in found} == set(range(1, 50))
    # Every place is as likely as any other: 3 of 12, in draws by 400 seeds.
    monkeypatch.setattr("semtube.study.checkpoint_probe.MOST_POSITIONS", 3)
    few = [row([1] * size, [PROMPT] * size) for size in (2, 9, 4)]
    drawn = Counter(
        place
        for seed in range(400)
        for place in sampled_positions(few, replace(options, seed=seed))
    )
    assert len(drawn) == 12
    # Pearson's statistic of draws without replacement, over (12 - 3) / (12 - 1): chi^2 of 11.
    statistic = sum((number - 100) ** 2 / 100 for number in drawn.values()) / (9 / 11)
    assert 2.6 < statistic < 31.3, "within all but a thousandth at either end"


def test_a_bent_path_is_drawn_as_it_is() -> None:
    # In a plane, turned in eight dimensions: a half circle of radius 1.
    angle = torch.linspace(torch.pi, 0, 9, dtype=torch.float64)
    plane = torch.stack([angle.cos(), angle.sin()], 1)
    generator = torch.Generator().manual_seed(0)
    turn = torch.linalg.qr(torch.randn(8, 8, generator=generator, dtype=torch.float64)).Q[:2]
    flat = in_chord_plane(plane @ turn + 3.0)
    assert flat.x == pytest.approx(((plane[:, 0] + 1) / 2).tolist(), abs=1e-12)
    assert flat.y == pytest.approx((plane[:, 1] / 2).tolist(), abs=1e-12)
    assert flat.share == pytest.approx(1.0)
    # The half circle is wider than high, so its principal directions are along and across, too.
    flat = in_principal_plane(plane @ turn + 3.0)
    assert flat.x == pytest.approx((plane[:, 0] / 2).tolist(), abs=1e-12)
    height = (plane[:, 1] - plane[:, 1].mean()) / 2
    assert [abs(y) for y in flat.y] == pytest.approx(height.abs().tolist(), abs=1e-12)
    assert flat.share == pytest.approx(1.0)


def test_a_plane_shows_its_share() -> None:
    # Spread 4 : 2 : 1 in three directions that are independent of each other over the states.
    signs = torch.tensor([[a, b, c] for a in (-1.0, 1) for b in (-1.0, 1) for c in (-1.0, 1)])
    flat = in_principal_plane(signs * torch.tensor([4.0, 2, 1]))
    assert flat.share == pytest.approx((16 + 4) / (16 + 4 + 1))
    chord = (4 * (16 + 4 + 1)) ** 0.5
    assert sorted(set(map(abs, flat.x))) == pytest.approx([4 / chord] * len({*map(abs, flat.x)}))


@pytest.mark.parametrize("flatten", [in_chord_plane, in_principal_plane])
@pytest.mark.parametrize("path", [torch.zeros(4, 3), torch.eye(3)[[0, 1, 2, 0]], torch.eye(3, 1)])
def test_a_path_without_a_chord_or_a_second_direction_is_drawn(path, flatten) -> None:
    flat = flatten(path)
    assert all(map(torch.isfinite, torch.tensor([*flat.x, *flat.y, flat.share])))


@pytest.fixture(scope="module")
def long_rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 rows whose answers are long enough for an exponent."""
    words = ["red", "green", "blue", "one", "two", "three", "four", "wide", "narrow"]
    path = tmp_path_factory.mktemp("long") / "rows.jsonl"
    rows = [
        {"prompt": f"{words[n % 9]} {words[n // 9]}",
         "completion": " ".join(words[(n * 7 + k * k) % 9] for k in range(10))}
        for n in range(24)
    ]  # fmt: skip
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


@pytest.fixture(scope="module")
def continued(models, options, long_rows, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = str(tmp_path_factory.mktemp("cone") / "p")
    asked = replace(options, data=str(long_rows), output=output, limit=24, cone_prompts=24)
    return probe_models(models[:1], replace(asked, layers="1,before_norm,last"))


def test_prompts_are_continued_and_compared(continued) -> None:
    found = table(continued)
    told = read_json(continued / "probe.json")["checkpoints"][0]
    # Distances are bounded behind the last norm: before it they are taken, too.
    assert {(c["layer"], c["kind"], c["since"], c["steps"]) for c in told["cones"]} == {
        (layer, kind, since, steps)
        for layer in ("before_norm", "last")
        for kind in ("greedy", "sampled")
        for since in ("prompt", "divergence")
        for steps in ("all", "unsaturated")
    }
    assert all(c["num_left"] == 24 for c in told["cones"]), "an untrained model is never right"
    nearest = {key[3] for key in found if key[2] and key[3].startswith("nearest_other")}
    assert nearest == {f"nearest_other_{kind}" for kind in ("gold", "greedy", "sampled")}
    shares = {key: v for key, v in found.items() if key[3].startswith("near_collision_share")}
    assert len(shares) == 4
    assert all(0 <= share <= 1 for share in shares.values())
    margins = {key[1]: value for key, value in found.items() if key[3] == "cell_margin"}
    assert margins.keys() == {"last"}, "the head reads no other"
    assert "cell_margin" not in told["not_measured"]
    cones = read_json(continued / "pictures.json")["cones"]
    for layer in ("before_norm", "last"):
        cone = next(c for c in cones if (c["layer"], c["kind"], c["since"])
                    == (layer, "greedy", "prompt"))  # fmt: skip
        measure = "cone_distance_greedy_since_prompt"
        distances = {
            (key[2], key[4]): v for key, v in found.items() if (key[1], key[3]) == (layer, measure)
        }
        for step in cone["steps"]:
            squared = [v**2 for (_, k), v in distances.items() if k == str(step["step"])]
            assert len(squared) == step["num_prompts"] > 0
            assert step["value"] == pytest.approx((sum(squared) / len(squared)) ** 0.5)
    assert cones[0]["steps"] != next(c for c in cones if c["layer"] != cones[0]["layer"])["steps"]
    nulls = table(continued, nulls=True)
    assert nulls["one", "last", "", "near_collision_share_greedy", "", "right answers"] == 0.05
    assert nulls["one", "last", "", "cell_margin", "", "other tokens"] < 0, "one cell of hundreds"


def test_an_exponent_has_its_interval_and_its_own_nulls(continued) -> None:
    cones = read_json(continued / "probe.json")["checkpoints"][0]["cones"]
    with (continued / "table.csv").open(newline="") as file:
        every = [line for line in csv.DictReader(file) if line["layer"] == "before_norm"]
    lines = [line for line in every if line["measure"].startswith("cone_exponent")]
    fits = {
        f"cone_exponent_{cone['kind']}_since_{cone['since']}": cone
        for cone in cones
        if (cone["layer"], cone["steps"]) == ("before_norm", "all") and "exponent" in cone
    }
    measured = {line["measure"]: line for line in lines if not line["null"]}
    assert measured.keys() == fits.keys()
    assert "cone_exponent_greedy_since_prompt" in fits
    assert "cone_exponent_greedy_since_divergence" in fits
    for measure, fit in fits.items():
        assert all(null in MEASURES[measure].null for null in fit["nulls"])
        numbers = [float(measured[measure][name]) for name in ("value", "low", "high")]
        assert numbers == pytest.approx([fit["exponent"], fit["low"], fit["high"]], rel=1e-6)
        assert numbers[1] < numbers[0] < numbers[2]
        nulls = {ln["null"]: float(ln["value"]) for ln in lines
                 if ln["null"] and ln["measure"] == measure}  # fmt: skip
        assert nulls == pytest.approx(fit["nulls"], abs=1e-8)
        if measure.endswith("divergence"):
            assert nulls == {"Brownian": 0.5, "saturated": 0.0}
        else:
            assert nulls.keys() == {"Brownian once apart", "saturated once apart"}


def test_brownian_texts_that_leave_one_by_one_are_held_against_such() -> None:
    """Behind the prompt a share that leaves grows, too: Brownian texts are far above 1/2 then."""
    generator = torch.Generator().manual_seed(0)
    number, length, width = 400, 24, 16
    noise = torch.randn(number, length, width, generator=generator)
    leaves = torch.rand(number, length, generator=generator) < 0.1
    gold = [[0] * length] * number
    texts = [[0] * k + [1] * (length - k) for k in
             (int(row.nonzero()[0]) if row.any() else length for row in leaves)]  # fmt: skip
    diverged = first_differences(texts, gold)
    away = torch.arange(length) >= diverged[:, None]
    states = (noise * away[..., None]).cumsum(1)
    size = torch.full((number,), length)
    for since in ("prompt", "divergence"):
        distances = state_distances(states, torch.zeros_like(states), size, diverged, since=since)
        fit = fit_cone(distances)
        nulls = nulls_of_exponent(distances, diverged, since, fit)
        brownian = next(value for null, value in nulls.items() if null.startswith("Brownian"))
        assert fit.low < brownian < fit.high
    apart = state_distances(states, torch.zeros_like(states), size, diverged, since="prompt")
    nulls = nulls_of_exponent(apart, diverged, "prompt", fit_cone(apart))
    assert nulls["Brownian once apart"] > 0.75
    assert 0.2 < nulls["saturated once apart"] < nulls["Brownian once apart"] - 0.2
    at_once = torch.zeros(number, dtype=torch.long)
    flat = Measured(torch.ones(number, length, dtype=torch.float64), away | True)
    nulls = nulls_of_exponent(flat, at_once, "prompt", fit_cone(flat))
    assert nulls["Brownian once apart"] == pytest.approx(0.5)
    assert nulls["saturated once apart"] == pytest.approx(0, abs=1e-12)


def test_a_margin_is_that_of_the_loop(models, options, tmp_path) -> None:
    """The states that predict the right answer's tokens, each to the nearest other cell."""
    from semtube.data.rendering import Renderer
    from semtube.data.tokens import tokenize_rows
    from semtube.study.splits import read_rows
    from semtube.tasks.catalogue import build_scorer

    loaded = load_model(models[0])
    renderer = Renderer(loaded.tokenizer, loaded.stop_ids, labels="answer", train_stop=True)
    examples = read_rows(build_scorer("exact", {}), options.data, None)
    rows = tokenize_rows(examples, renderer, 512, max_rows=4).rows
    pad_id = loaded.tokenizer.pad_token_id
    asked = replace(options, cone_prompts=4)
    probe = CheckpointProbe("one", loaded.model, rows, ["1", "last"], [], pad_id, asked)
    found, _ = ConeProbe(probe, renderer.stop_ids).measure({})
    margins = {
        row.example: row.value for row in found if row.measure == "cell_margin" and not row.null
    }
    weight = loaded.model.get_output_embeddings().weight.detach()
    for row in rows:
        with torch.no_grad():
            out = loaded.model(input_ids=torch.tensor([row.input_ids]), output_hidden_states=True)
        stop = next(
            place
            for place in range(row.num_prompt_tokens, len(row.input_ids))
            if row.input_ids[place] in renderer.stop_ids
        )
        values = []
        for place in range(row.num_prompt_tokens, stop + 1):
            token, logits = row.input_ids[place], out.logits[0, place - 1]
            others = [j for j in range(len(weight)) if j != token]
            faces = [
                (logits[token] - logits[j]) / (weight[token] - weight[j]).norm() for j in others
            ]
            values.append(float(min(faces)))
        assert margins[row.source] == pytest.approx(sum(values) / len(values), rel=1e-3, abs=1e-4)


def test_memory_does_not_grow_with_the_rows(models, options, monkeypatch) -> None:
    """Bytes of all live tensors between batches, with the sample of kept states full from start."""
    monkeypatch.setattr("semtube.study.checkpoint_probe.MOST_POSITIONS", 4)
    loaded = load_model(models[0])
    rows = [
        row([3 + (k * i) % 90 for k in range(12)], [PROMPT] * 8 + [ANSWER] * 4)
        for i in range(1, 41)
    ]
    asked = replace(options, batch_tokens=4 * 12)
    probe = CheckpointProbe("one", loaded.model, rows, ["1", "2"], [], 0, asked)

    def live_bytes(num_done: int) -> None:
        gc.collect()
        tensors = [o for o in gc.get_objects() if type(o) in (torch.Tensor, torch.nn.Parameter)]
        held.append(sum(t.numel() * t.element_size() for t in tensors))

    held: list[int] = []
    assert sum(1 for _ in probe.documents(live_bytes)) > 40 * 2 * 5
    assert len(held) == 10
    # Kept may be four states of two layers: a batch of them would be twelve times as much.
    assert held[-1] <= held[0] + 4 * 2 * 4 * loaded.model.config.hidden_size


def test_stories260k_is_probed_from_its_folder_to_its_page(shared: Path, tmp_path) -> None:
    """A trained model of another maker, on real text."""
    folder = shared / "models" / "stories260k"
    data = shared / "data" / "nl_rx" / "synth_test.jsonl"
    for needed in (folder, data):
        if not needed.exists():
            pytest.skip(f"{needed} is not there")
    asked = ProbeOptions(
        data=str(data), task="exact", chat_form="plain", limit=6, cone_prompts=3,
        layers="4,before_norm,last", output=str(tmp_path / "p"),
    )  # fmt: skip
    found = table(probe_models([str(folder)], asked, draw=write_probe_page))
    layers = {key[1] for key in found} - {""}
    assert layers == {"4", "before_norm", "last"}
    for layer in layers:
        losses = [value for key, value in found.items()
                  if key[1] == layer and key[3] == "tube_loss"]  # fmt: skip
        assert len(losses) == 6
        # As next-token prediction leaves it: far above a walk's 1, about that of mere points.
        assert 1.2 < sum(losses) / 6 < 1.7
    # It knows stories and no regexes: on these, it is worse than one that knows nothing.
    assert found["stories260k", "", "", "loss", ""] > math.log(512)
    page = (tmp_path / "p" / "index.html").read_text()
    assert "Tube loss in layer last: stories260k 1." in page
    assert {path.name for path in (tmp_path / "p" / "figures").glob("*.png")} >= {
        "path_1.png", "by_layer.png", "by_length.png", "sets_by_layer.png", "spectra.png",
    }  # fmt: skip
