"""The training-time callback: what it logs, and that training does not notice it."""

import json
from pathlib import Path

import pytest
import torch

pytest.importorskip("transformers")
from transformers import Trainer, TrainingArguments

import semtube
from semtube.config import RunConfig
from semtube.errors import UserError
from semtube.models.presets import build_preset
from semtube.objectives.trajectories import PROMPT, ROLES_KEY, TEMPLATE
from semtube.objectives.tube import SemanticTube
from semtube.study.geometry_callback import GeometryCallback
from semtube.study.run import execute

IDS = torch.randint(3, 90, (8, 12), generator=torch.Generator().manual_seed(0))
BATCHES = [{"input_ids": IDS[:4, :9]}, {"input_ids": IDS[4:]}]


def model_of(seed: int = 0):
    return build_preset("tiny-0.3m", 96, seed, bos_token_id=0, eos_token_id=1, pad_token_id=2)


def train(folder: Path, callback=None):
    model = model_of()
    rows = [{"input_ids": ids, "labels": ids} for ids in IDS]
    args = TrainingArguments(
        output_dir=str(folder), max_steps=4, per_device_train_batch_size=4, logging_steps=1,
        save_strategy="no", report_to="none", use_cpu=True, disable_tqdm=True,
    )  # fmt: skip
    trainer = Trainer(model=model, args=args, train_dataset=rows)
    if callback is not None:
        callback.add_to(trainer)
    trainer.train()
    return model, trainer.state.log_history


def test_training_is_unchanged_and_the_log_has_the_measures(tmp_path) -> None:
    callback = GeometryCallback(BATCHES, every=2, layers=[1, -1])
    model, log = train(tmp_path / "with", callback)
    plain, _ = train(tmp_path / "without")
    for one, two in zip(model.parameters(), plain.parameters(), strict=True):
        assert torch.equal(one, two)
    steps = [line["step"] for line in log if "geometry/1/tube_loss" in line]
    assert steps == [2, 4]
    names = {key.split("/")[2] for line in log for key in line if key.startswith("geometry/")}
    assert names == {
        "tube_loss", "span_loss", "turning_angle", "curvature", "chord_over_path",
        "step_length", "effective_rank", "first_share", "anisotropy",
    }  # fmt: skip
    # What stands at the last step is what the trained model gives now.
    now = callback.measure(model)
    assert {k: v for k, v in log[3].items() if k in now} == now
    assert model.training


def test_the_tube_loss_is_the_mean_over_documents_of_all_batches() -> None:
    model = model_of().eval()
    values = GeometryCallback(BATCHES).measure(model)
    costs = []
    for batch in BATCHES:
        with torch.no_grad():
            hidden = model(**batch, output_hidden_states=True).hidden_states[-1]
        trajectories = semtube.Trajectories.build(
            attended_BT=torch.ones(hidden.shape[:2], dtype=torch.bool),
            content_BT=torch.ones(hidden.shape[:2], dtype=torch.bool),
            input_ids_BT=batch["input_ids"],
        )
        term = SemanticTube(weight=0.0, draws=16)(hidden, trajectories, key=0)
        costs.append(term.mean_N)
    layer = next(iter(values)).split("/")[1]
    assert values[f"geometry/{layer}/tube_loss"] == pytest.approx(
        float(torch.cat(costs).double().mean()), abs=1e-6
    )


def test_roles_choose_the_trajectory() -> None:
    model = model_of().eval()
    roles = torch.full_like(IDS, PROMPT)
    roles[:, 6:] = TEMPLATE
    some = GeometryCallback([{"input_ids": IDS, ROLES_KEY: roles}]).measure(model)
    cut = GeometryCallback([{"input_ids": IDS[:, :6]}]).measure(model)
    assert some.keys() == cut.keys()
    # Draws go by the whole document's tokens; measures without draws must agree.
    for name in (n for n in cut if not n.endswith("_loss")):
        assert some[name] == pytest.approx(cut[name], rel=1e-4), name


def test_bad_input(tmp_path) -> None:
    with pytest.raises(ValueError, match="got 0 batches"):
        GeometryCallback([])
    with pytest.raises(ValueError, match="every=0"):
        GeometryCallback(BATCHES, every=0)
    with pytest.raises(ValueError, match="batch 1 of the geometry callback has no input_ids"):
        GeometryCallback([BATCHES[0], {"labels": IDS}])
    with pytest.raises(ValueError, match="batch 0 of the geometry callback has no input_ids"):
        GeometryCallback([{"input_ids": IDS.tolist()}])
    with pytest.raises(ValueError, match=r"attention_mask is \(\d+, 3\), wanted a tensor"):
        GeometryCallback([{"input_ids": IDS, "attention_mask": IDS[:, :3]}])
    with pytest.raises(ValueError, match="content is 'prompt': wanted one of text, instruction"):
        GeometryCallback(BATCHES, content="prompt")
    with pytest.raises(UserError, match="layer is '77', but the model has"):
        train(tmp_path, GeometryCallback(BATCHES, layers=[77]))
    wanted = "weights are bfloat16, .*: train float32 weights with bf16=True, .* or probe a saved"
    with pytest.raises(UserError, match=wanted):
        GeometryCallback(BATCHES).on_train_begin(None, None, None, model_of().bfloat16())


def test_a_run_logs_trajectories_and_both_gradients(rows_file, tmp_path) -> None:
    settings = {
        "data": str(rows_file), "task": "exact", "validation_rows": 8, "model": "tiny-0.3m",
        "objective": "tube", "weight": 0.1, "steps": 4, "batch_size": 4, "precision": "fp32",
        "learning_rate": 1e-3,
    }  # fmt: skip
    watched = RunConfig.from_dict(settings | {"output": str(tmp_path / "a"), "geometry_every": 2})
    plain = RunConfig.from_dict(settings | {"output": str(tmp_path / "b")})
    one, two = execute(watched), execute(plain)
    assert one["id"] == two["id"], "watching changes no number"
    lines = [
        [json.loads(line) for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines()]
        for name in ("a", "b")
    ]
    added = ("geometry/", "gradient_", "term_weight")
    for with_it, without in zip(*lines, strict=True):
        kept = {k: v for k, v in with_it.items() if not k.startswith(added)}
        assert kept == without
        if "loss" in with_it:
            assert with_it["gradient_term"] > 0
            assert -1 <= with_it["gradient_cosine"] <= 1
    watched_steps = [
        line["step"] for line in lines[0] if any(key.startswith("geometry/") for key in line)
    ]
    assert watched_steps == [2, 4]
