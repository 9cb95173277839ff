"""`probe_models` on tiny models: what is measured, that batches do not matter, what is refused."""

import csv
import gc
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

pytest.importorskip("transformers")
from semtube.config import ProbeOptions
from semtube.data.rendering import Rendered
from semtube.errors import UserError
from semtube.models.loading import load_model
from semtube.models.presets import build_preset
from semtube.models.tokenizer import train_tokenizer
from semtube.objectives.trajectories import ANSWER, PROMPT, TEMPLATE
from semtube.study.checkpoint_probe import CheckpointProbe, sampled_positions
from semtube.study.phrases import Occurrence, repeated_phrases
from semtube.study.probe import probe_models
from semtube.study.probe_pictures import flattened
from semtube.study.probe_table import NULL


def save(folder: Path, texts, seed: int) -> Path:
    tokenizer = train_tokenizer(texts, 200)
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


def table(folder: Path) -> dict[tuple[str, ...], float]:
    with (folder / "table.csv").open(newline="") as file:
        lines = list(csv.reader(file))
    assert lines[0] == ["checkpoint", "layer", "example", "measure", "length", "value"]
    found = {tuple(line[:5]): float(line[5]) for line in lines[1:]}
    assert len(found) == len(lines) - 1, "a number stands twice"
    return found


def test_every_measure_has_its_number_in_every_layer(probed, models) -> None:
    found = table(probed)
    layers = {key[1] for key in found} - {""}
    assert layers == {*map(str, range(1, len(layers))), "before_norm"}
    of_rows = {"tube_loss", "span_loss", "turning_angle", "chord_over_path", "parallel",
               "tube_deviation_relative", "lemma_mean_ratio"}  # fmt: skip
    of_sets = {"effective_rank", "first_share", "anisotropy", "views_residual_share",
               "concept_within", "capacity", "feature_stability"}  # fmt: skip
    for layer in layers:
        for name in ("one", "two"):
            here = {key for key in found if key[:2] == (name, layer)}
            assert of_rows <= {key[3] for key in here if key[2]}
            assert of_sets <= {key[3] for key in here if not key[2]}
    drifts = {key[1]: value for key, value in found.items() if key[3] == "drift"}
    assert drifts.keys() == layers
    assert all(0 < value < 2 for value in drifts.values())
    nulls = {key[0]: value for key, value in found.items() if key[3] == "tube_loss" and not key[1]}
    assert abs(nulls[f"{NULL}straight line"]) < 1e-6
    assert 0.8 < nulls[f"{NULL}independent increments"] < 1.2
    assert 1.3 < nulls[f"{NULL}memoryless points"] < 1.7
    transports = {key[1] for key in found if key[:1] == ("one",) and key[3] == "transport"}
    assert transports == layers - {"1", str(len(layers) - 1)}


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
    last = str(max(int(key[1]) for key in found if key[1].isdigit()))
    values = [
        value for key, value in found.items() if key[:2] == ("one", last) and key[3] == "tube_loss"
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


def test_cheap_measures_leave_the_dear_ones_out(models, options, tmp_path) -> None:
    cheap = replace(options, output=str(tmp_path / "cheap"), measures="cheap", layers=[1, -1])
    found = table(probe_models(models[:1], cheap))
    assert not {"tube_radius", "capacity", "transport", "drift"} & {key[3] for key in found}
    assert len({key[1] for key in found}) == 3, "two layers, and none"


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


@pytest.mark.parametrize(
    ("fields", "wanted"),
    [
        ({"layers": [99]}, "layer is '99', but the model has"),
        ({"start": True}, "is no run, so what it began with is unknown"),
        ({"limit": 0}, "limit is 0"),
        ({"layers": []}, "layers is \\[\\]"),
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


def test_positions_are_content_with_a_successor(options) -> None:
    rows = [row([9, 1, 2], [TEMPLATE, PROMPT, ANSWER]), row([1, 2], [PROMPT, TEMPLATE])]
    assert sampled_positions(rows, options) == [(0, 1), (1, 0)]


def test_a_bent_path_is_drawn_as_it_is() -> None:
    # In a plane, turned in eight dimensions: a half circle of radius 1.
    angle = torch.linspace(torch.pi, 0, 9, dtype=torch.float64)
    plane = torch.stack([angle.cos(), angle.sin()], 1)
    generator = torch.Generator().manual_seed(0)
    turn = torch.linalg.qr(torch.randn(8, 8, generator=generator, dtype=torch.float64)).Q[:2]
    flat = flattened(plane @ turn + 3.0)
    assert flat.x == pytest.approx(((plane[:, 0] + 1) / 2).tolist(), abs=1e-12)
    assert flat.y == pytest.approx((plane[:, 1] / 2).tolist(), abs=1e-12)
    assert flat.across == pytest.approx((plane[:, 1] / 2).tolist(), abs=1e-12)
    assert flat.share == pytest.approx(1.0)


@pytest.mark.parametrize("path", [torch.zeros(4, 3), torch.eye(3)[[0, 1, 2, 0]]])
def test_a_path_without_a_chord_is_drawn(path) -> None:
    flat = flattened(path)
    assert all(map(torch.isfinite, torch.tensor([*flat.x, *flat.y, flat.share])))


def test_prompts_are_continued_and_compared(models, options, tmp_path) -> None:
    asked = replace(
        options,
        output=str(tmp_path / "cone"),
        cone_prompts=24,
        limit=24,
        layers=["before_norm", -1],
    )
    folder = probe_models(models[:1], asked)
    found = table(folder)
    told = json.loads((folder / "probe.json").read_text())["checkpoints"][0]
    assert {(c["kind"], c["since"], c["steps"]) for c in told["cones"]} == {
        (kind, since, steps)
        for kind in ("greedy", "sampled")
        for since in ("prompt", "divergence")
        for steps in ("all", "unsaturated")
    }
    assert all(c["num_left"] == 24 for c in told["cones"]), "an untrained model is never right"
    shares = {key[3]: v for key, v in found.items() if key[3].startswith("near_collision_share")}
    assert len(shares) == 3
    assert all(0 <= share <= 1 for share in shares.values())
    margins = [value for key, value in found.items() if key[3] == "cell_margin"]
    assert len(margins) == 24
    curves = json.loads((folder / "pictures.json").read_text())["curves"]
    curve = next(c for c in curves if c["name"] == "cone_greedy_since_prompt")
    assert curve["layer"] == told["layers"][-1]


def test_a_margin_is_that_of_the_loop(models, options, tmp_path) -> None:
    """The states that predict the right answer's tokens, each to the nearest other cell."""
    from semtube.data.rendering import Renderer
    from semtube.data.tokens import tokenize_rows
    from semtube.study.probe_cone import ConeProbe
    from semtube.study.splits import read_rows
    from semtube.tasks.catalogue import build_scorer

    loaded = load_model(models[0])
    renderer = Renderer(loaded.tokenizer, loaded.stop_ids, labels="answer", train_stop=True)
    examples = read_rows(build_scorer("exact", {}), options.data, None)
    rows = tokenize_rows(examples, renderer, 512, max_rows=4).rows
    pad_id = loaded.tokenizer.pad_token_id
    last = str(loaded.model.config.num_hidden_layers)
    asked = replace(options, cone_prompts=4)
    probe = CheckpointProbe("one", loaded.model, rows, [last], [], pad_id, asked)
    found, _ = ConeProbe(probe, renderer.stop_ids).measure({})
    margins = {row.example: row.value for row in found if row.measure == "cell_margin"}
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
