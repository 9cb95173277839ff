"""Two processes train as one does: DistributedDataParallel, FSDP2, the Hugging Face Trainer.

`distributed_program.py` holds the cases. Starting torchrun costs more than all of them, so they
share one run of two processes and one of one process, side by side.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import Tensor, distributed

pytest.importorskip("transformers")
load_file = pytest.importorskip("safetensors.torch").load_file
if not (distributed.is_available() and distributed.is_gloo_available()):
    pytest.skip("needs gloo", allow_module_level=True)

PROGRAM = Path(__file__).with_name("distributed_program.py")
TIMEOUT = 400

ENGINES = ("ddp", "fsdp", "grouped")
OBJECTIVES = ("tube", "inner", "linear", "jepa", "masked", "adaptive", "adaptive_jepa")
DROPPED = ("dropped", "dropped_jepa")
VARIANTS = (
    "tube-accumulated", "linear-accumulated", "masked-accumulated", "adaptive-accumulated",
    "dropped-accumulated", "linear-adamw", "jepa-adamw", "tube-late", "inner-late",
    "adaptive-late", "tube-swapped",
)  # fmt: skip
BROKEN = ("linear-broken", "adaptive_jepa-broken")
TRAINER = (
    "trainer-none", "trainer-tube", "trainer-linear", "trainer-jepa", "trainer-adaptive",
    "trainer-dropped", "trainer-linear-accumulated", "trainer-adaptive_jepa-accumulated",
    "trainer-linear-resumed", "trainer-adaptive_jepa-resumed",
)  # fmt: skip

LOOPS = [
    f"{engine}-{name}" for engine in ENGINES for name in ("none", *OBJECTIVES, *DROPPED, *VARIANTS)
]
RESUMED = [f"{engine}-{name}" for engine in ENGINES for name in BROKEN]
CHECKPOINTS = [f"{engine}-linear-checkpoint" for engine in ENGINES]
OFF = [f"{engine}-off" for engine in ENGINES]
#: Last, what may fail: an error on one process alone would hold up all that follows.
ALL = [*LOOPS, *RESUMED, "refusals", "mixed", *TRAINER, *CHECKPOINTS, *OFF, "ddp-linear-behind"]

#: Largest difference of any weight (float32, of size 1) and of a step's loss (about 4).
WEIGHT_TOLERANCE, LOSS_TOLERANCE = 2e-6, 2e-6


@dataclass
class Runs:
    one: Path
    two: Path

    def found(self, case: str, *, processes: int) -> list[dict]:
        """What each process reported."""
        folder = self.one if processes == 1 else self.two
        reports = [
            json.loads((folder / f"{case}.{rank}.json").read_text()) for rank in range(processes)
        ]
        for report in reports:
            assert "error" not in report, report["error"]
        return reports

    def weights(self, case: str, *, processes: int) -> list[dict[str, Tensor]]:
        folder = self.one if processes == 1 else self.two
        return [load_file(folder / f"{case}.{rank}.safetensors") for rank in range(processes)]


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> Runs:
    found = Runs(tmp_path_factory.mktemp("one"), tmp_path_factory.mktemp("two"))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    torchrun = ["-m", "torch.distributed.run", "--nproc_per_node", "2", "--master_port", str(port)]
    environment = {name: value for name, value in os.environ.items() if name != "WORLD_SIZE"}
    environment |= {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    started = [
        subprocess.Popen(
            [sys.executable, *launcher, str(PROGRAM), ",".join(ALL), str(folder)],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment,
        )
        for launcher, folder in ((torchrun, found.two), ([], found.one))
    ]  # fmt: skip
    try:
        outputs = [process.communicate(timeout=TIMEOUT)[0] for process in started]
    finally:
        for process in started:
            process.terminate()  # torchrun ends its own processes
    for process, output in zip(started, outputs, strict=True):
        assert process.returncode == 0, output[-4000:]
    (found.two / "output.txt").write_text(outputs[0])
    return found


def furthest(first: dict[str, Tensor], second: dict[str, Tensor]) -> float:
    """Largest difference of any weight; running means of gradients are compared by the weight."""
    assert first.keys() == second.keys()
    names = [name for name in first if ".meter." not in name]
    return max(float((first[name] - second[name]).abs().max()) for name in names)


def same(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[n], second[n]) for n in first)


# --- Losses and weights.


@pytest.mark.parametrize("case", LOOPS)
def test_two_processes_give_the_losses_and_weights_of_one(runs, case):
    [one], two = runs.found(case, processes=1), runs.found(case, processes=2)
    for expected, *parts in zip(one["loss"], *(part["loss"] for part in two), strict=True):
        assert sum(parts) == pytest.approx(expected, abs=LOSS_TOLERANCE)
    [expected], weights = runs.weights(case, processes=1), runs.weights(case, processes=2)
    assert same(*weights)
    assert furthest(expected, weights[0]) < WEIGHT_TOLERANCE


@pytest.mark.parametrize("case", [*TRAINER])
def test_two_processes_of_an_unmodified_trainer_give_the_weights_of_one(runs, case):
    [expected], weights = runs.weights(case, processes=1), runs.weights(case, processes=2)
    assert same(*weights)
    assert furthest(expected, weights[0]) < WEIGHT_TOLERANCE
    [one], two = runs.found(case, processes=1), runs.found(case, processes=2)
    losses = [[line["loss"] for line in run["history"] if "loss" in line] for run in (one, two[0])]
    assert losses[1] == pytest.approx(losses[0], abs=LOSS_TOLERANCE)
    assert len(losses[0]) == 3


@pytest.mark.parametrize("name", [*OBJECTIVES, *DROPPED])
def test_the_term_moves_the_weights_far_more_than_the_tolerance(runs, name):
    # Otherwise the tests above could pass without a term.
    [plain], [found] = (runs.weights(f"ddp-{n}", processes=1) for n in ("none", name))
    assert furthest(plain, {n: found[n] for n in plain}) > 1000 * WEIGHT_TOLERANCE


# --- The weight of the term.


@pytest.mark.parametrize("variant", ["", "-late", "-accumulated"])
@pytest.mark.parametrize("engine", ENGINES)
def test_an_adaptive_weight_is_the_same_on_every_process_and_in_one(runs, engine, variant):
    case = f"{engine}-adaptive{variant}"
    [one], two = runs.found(case, processes=1), runs.found(case, processes=2)
    assert two[0]["weight"] == two[1]["weight"]
    assert two[0]["weight"] == pytest.approx(one["weight"], rel=1e-5)
    assert len(set(one["weight"])) == 4


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", DROPPED)
def test_every_process_skips_the_same_steps(runs, engine, name):
    [one], two = (runs.found(f"{engine}-{name}", processes=n) for n in (1, 2))
    assert one["weight"] == two[0]["weight"] == two[1]["weight"]
    assert [weight > 0 for weight in one["weight"]] == [True, False, True, False]
    assert one["step"] == two[0]["step"] == two[1]["step"] == 4


# --- Draws.


@pytest.mark.parametrize("engine", ENGINES)
def test_a_document_draws_the_same_whichever_process_has_it(runs, engine):
    [one] = runs.found(f"{engine}-tube", processes=1)
    first, second = runs.found(f"{engine}-tube", processes=2)
    assert not first["draws"].keys() & second["draws"].keys()
    assert len(first["draws"]) > 10 < len(second["draws"])
    assert first["draws"] | second["draws"] == one["draws"]
    swapped = runs.found(f"{engine}-tube-swapped", processes=2)
    assert [part["draws"] for part in swapped] == [second["draws"], first["draws"]]
    # And different documents draw differently, so that this says something.
    assert len({json.dumps(draw) for draw in one["draws"].values()}) > len(one["draws"]) / 2


# --- Learnable parts.

PARTS = {
    "tube": [],
    "linear": ["semtube_tube.learned.change"],
    "jepa": ["semtube_llm_jepa.learned.stored_KD"],
    "masked": ["semtube_masked_span.learned.map.change", "semtube_masked_span.learned.stored_KD"],
}


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", PARTS)
def test_learnable_parts_are_trained_and_saved_until_the_detachment(runs, engine, name):
    case = f"{engine}-{name}"
    plain = set(runs.weights(f"{engine}-none", processes=2)[0])
    for report, weights in zip(
        runs.found(case, processes=2), runs.weights(case, processes=2), strict=True
    ):
        assert sorted(weights.keys() - plain) == PARTS[name]
        assert set(report["detached"]) == plain
    again = runs.weights(f"{engine}-dropped", processes=2)[0]
    for part in PARTS[name]:
        assert weights[part].abs().max() > 1e-3
        if part in again:
            assert not torch.equal(weights[part], again[part])


@pytest.mark.parametrize("case", RESUMED)
@pytest.mark.parametrize("processes", [1, 2])
def test_a_resumed_run_ends_bit_for_bit_where_the_unbroken_one_does(runs, case, processes):
    whole = case.removesuffix("-broken")
    for part, other in zip(
        runs.found(case, processes=processes), runs.found(whole, processes=processes), strict=True
    ):
        for name in ("loss", "weight", "draws", "step"):
            assert part[name] == other[name]
    for part, other in zip(
        runs.weights(case, processes=processes),
        runs.weights(whole, processes=processes),
        strict=True,
    ):
        assert same(part, other)


@pytest.mark.parametrize("processes", [1, 2])
def test_a_resumed_trainer_ends_bit_for_bit_where_the_unbroken_one_does(runs, processes):
    for rank in range(processes):
        resumed, whole = (
            runs.weights(f"trainer-linear{end}", processes=processes)[rank]
            for end in ("-resumed", "")
        )
        assert same(resumed, whole)


def test_parts_that_come_after_the_wrapper_are_refused_on_every_process(runs):
    for report in runs.found("refusals", processes=2):
        assert len(report["said"]) == 6
        for said in report["said"].values():
            assert said is not None
            assert "attach before the model is wrapped" in said


def test_parts_of_another_precision_are_told_and_train_in_a_group_of_their_own(runs):
    [one], two = runs.found("mixed", processes=1), runs.found("mixed", processes=2)
    assert one["said"] is None
    for report in two:
        assert "are float32 in a group with parameters of bfloat16" in report["said"]
        assert "call fully_shard(model.semtube_tube.learned) before" in report["said"]
        assert "semtube_tube.learned.change" in report["moved"]
    [expected], weights = runs.weights("mixed", processes=1), runs.weights("mixed", processes=2)
    assert same(*weights)
    name = "semtube_tube.learned.change"
    # The states are bfloat16, so equal to its three digits only.
    assert torch.allclose(weights[0][name], expected[name], rtol=0.05, atol=1e-3)


def test_parts_that_come_behind_the_wrappers_back_are_not_trained_apart(runs):
    # Either refused, or equal on both processes.
    first, second = (
        json.loads((runs.two / f"ddp-linear-behind.{rank}.json").read_text()) for rank in (0, 1)
    )
    if "error" in first:
        assert "attach before the model is wrapped" in first["error"]
        assert "attach before the model is wrapped" in second["error"]
    else:
        assert same(*runs.weights("ddp-linear-behind", processes=2))


@pytest.mark.parametrize("case", CHECKPOINTS)
@pytest.mark.parametrize("processes", [1, 2])
def test_the_checkpoint_tool_of_torch_resumes_exactly(runs, case, processes):
    runs.found(case, processes=processes)
    found = runs.weights(case, processes=processes)
    whole = runs.weights(case.replace("checkpoint", "adamw"), processes=processes)
    assert all(same(*pair) for pair in zip(found, whole, strict=True))


@pytest.mark.parametrize("engine", ENGINES)
def test_with_weight_zero_learnable_parts_stop_nothing(runs, engine):
    runs.found(f"{engine}-off", processes=2)
    plain = runs.weights(f"{engine}-none", processes=2)[0]
    found = runs.weights(f"{engine}-off", processes=2)[0]
    assert same(plain, {name: found[name] for name in plain})


def test_no_engine_warns_of_what_the_hooks_return(runs):
    assert "view tensor" not in (runs.two / "output.txt").read_text()


# --- Logs.


def merged(lines: list[dict]) -> dict[str, float]:
    """The logs of all documents from those of each process's."""
    documents = sum(line["term_documents"] for line in lines)
    total = sum(line.get("term_loss", 0) * line["term_documents"] for line in lines)
    skipped = sum(line["term_skipped"] for line in lines)
    return {
        "term_loss": total / documents,
        "term_documents": documents,
        "term_skipped": skipped,
    }


@pytest.mark.parametrize("engine", ENGINES)
def test_each_process_logs_its_own_documents(runs, engine):
    [one], two = (runs.found(f"{engine}-tube", processes=n) for n in (1, 2))
    assert len(one["logs"]) == 4
    for expected, *lines in zip(one["logs"], *(part["logs"] for part in two), strict=True):
        assert merged(lines) == pytest.approx(expected, rel=1e-5)


def test_the_trainers_log_has_the_term_over_all_processes(runs):
    names = ("term_loss", "term_documents", "term_skipped")
    histories = [
        [[line.get(name) for name in names] for line in found["history"] if "loss" in line]
        for processes in (1, 2)
        for found in runs.found("trainer-tube", processes=processes)
    ]
    for history in histories[1:]:
        for line, expected in zip(history, histories[0], strict=True):
            assert line == pytest.approx(expected, rel=1e-5)


# --- The example.

TORCHRUN = ["-m", "torch.distributed.run", "--nproc_per_node", "2", "--standalone"]
ACCELERATE = [
    # "multi_gpu" is what it calls several processes on one machine, of whatever kind.
    "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2",
    "--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no",
]  # fmt: skip


@pytest.mark.slow
def test_the_example_gives_the_same_weights_in_one_process_and_in_two_under_any_launcher():
    example = Path(__file__).parents[2] / "examples" / "torchrun_ddp.py"
    sums = []
    for launcher in ([], TORCHRUN, ACCELERATE):
        done = subprocess.run(
            [sys.executable, *launcher, str(example)],
            capture_output=True, text=True, timeout=TIMEOUT,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-4000:]
        assert "term_loss" in done.stdout
        lines = [line for line in done.stdout.splitlines() if "weights sum to" in line]
        assert len(lines) == (2 if launcher else 1)
        sums += [line.split()[-1] for line in lines]
    assert len(set(sums)) == 1, sums
