"""Cases of test_distributed.py, in one process or, under torchrun, in two gloo processes.

    python distributed_program.py CASE,CASE,... OUT
    python -m torch.distributed.run --nproc_per_node 2 distributed_program.py CASE,CASE,... OUT

Every process writes OUT/CASE.RANK.json (what it found, or the error) and OUT/CASE.RANK.safetensors
(the full weights). A case means the same training however many processes share it.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors.torch import save_file
from torch import Tensor, distributed, nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_state_dict,
    set_state_dict,
)
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel

import semtube
from semtube import Adaptive, Dropped, LLMJepa, MaskedSpan, SemanticTube, UserError
from semtube.objectives import tube as tube_module

VOCABULARY, WIDTH, LAYERS = 61, 16, 3
SEED = 4

OBJECTIVES: dict[str, semtube.Objective] = {
    "tube": SemanticTube(weight=0.7, draws=2),
    "inner": SemanticTube(weight=0.7, layer=(1, 2)),
    "linear": SemanticTube(weight=0.7, predictor="linear", predictor_rate=2),
    "jepa": LLMJepa(weight=0.5, predictor_tokens=2, predictor_rate=2),
    "masked": MaskedSpan(weight=0.5, predictor="linear", predictor_rate=2),
    "adaptive": SemanticTube(weight=Adaptive(fraction=0.5, smoothing=0.5)),
    "adaptive_jepa": LLMJepa(weight=Adaptive(fraction=0.5, smoothing=0.5), predictor_rate=2),
    # With SEED, steps 0 and 3 have the term and 1 and 2 skip it.
    "dropped": SemanticTube(weight=Dropped(0.7, 0.5), predictor="linear", predictor_rate=2),
    "dropped_jepa": LLMJepa(weight=Dropped(0.5, 0.5), predictor_rate=2),
    "off": SemanticTube(weight=0.0, predictor="linear"),
}


# --- Model and documents.


def tiny() -> nn.Module:
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY, hidden_size=WIDTH, num_hidden_layers=LAYERS, intermediate_size=24,
        num_attention_heads=2, num_key_value_heads=1, max_position_embeddings=64,
        bos_token_id=1, eos_token_id=2, initializer_range=0.2,
    )  # fmt: skip
    return LlamaForCausalLM(config).train()


Example = tuple[list[int], int]

#: Lengths of the documents of each step, for two processes: other numbers of rows and tokens; in
#: the third step the second process has no document that is long enough for a triplet.
LENGTHS = [
    ([9, 4, 12, 2, 7], [15, 5, 10]),
    ([3, 18], [6, 3, 8, 9, 11, 20]),
    ([4, 6, 13, 7], [2, 2]),
    ([5, 16, 9, 3], [14, 8, 4, 6]),
]


def examples(lengths: list[int], *, seed: int) -> list[Example]:
    """Token ids of each document and how many of its first tokens are not supervised."""
    generator = torch.Generator().manual_seed(seed)
    result = []
    for length in lengths:
        ids = torch.randint(3, VOCABULARY, (length,), generator=generator).tolist()
        result.append((ids, int(torch.randint(1, length // 2 + 1, (1,), generator=generator))))
    return result


def padded(batch: list[Example]) -> dict[str, Tensor]:
    width = max(len(ids) for ids, _ in batch)
    input_BT = torch.full((len(batch), width), 2)
    mask_BT = torch.zeros(len(batch), width, dtype=torch.long)
    labels_BT = torch.full((len(batch), width), -100)
    for row, (ids, prompt) in enumerate(batch):
        input_BT[row, : len(ids)], mask_BT[row, : len(ids)] = torch.tensor(ids), 1
        labels_BT[row, prompt : len(ids)] = torch.tensor(ids[prompt:])
    return {"input_ids": input_BT, "attention_mask": mask_BT, "labels": labels_BT}


def shares(step: int) -> list[list[Example]]:
    """The documents of a step, for each of two processes."""
    return [examples(part, seed=10 * step + n) for n, part in enumerate(LENGTHS[step])]


# --- A loop of one's own.


@dataclass(frozen=True)
class Loop:
    """Four steps.

    Args:
        objective: its name; `none` for next token alone.
        engine: what shares the work between two processes: `ddp`; `fsdp`, layers and root;
            `grouped`, embedding, layers, norm with head and root, as accelerate's FSDP2 does it.
        late: attach after wrapping; `behind` the wrapper's back, to the model in it.
        micro_batches: per step and process; all but the last without synchronisation.
        swapped: each process takes the documents of the other.
        broken: after two steps everything is made anew from what was saved, in plain files or by
            torch.distributed.checkpoint.
    """

    objective: str
    engine: str = "ddp"
    optimizer: str = "sgd"
    late: Literal["no", "yes", "behind"] = "no"
    micro_batches: int = 1
    swapped: bool = False
    broken: Literal["no", "files", "torch"] = "no"

    def __call__(self, rank: int, world: int, folder: Path) -> tuple[dict, dict[str, Tensor]]:
        found: dict[str, Any] = {"loss": [], "weight": [], "logs": [], "draws": {}}
        host, model, optimizer, handle = self.make(world)
        with recorded_draws(found["draws"]):
            for step in range(len(LENGTHS)):
                if self.broken != "no" and step == 2:
                    by_torch = self.broken == "torch"
                    saved = saved_state(host, optimizer, by_torch), handle.step
                    handle.detach()
                    host, model, optimizer, handle = self.make(world)
                    load_state(host, optimizer, saved[0], by_torch)
                    handle.step = saved[1]
                if handle is not None:
                    found["weight"].append(float(handle.weight))
                found["loss"].append(self.train(host, optimizer, step, rank, world))
                if handle is not None:
                    with warnings.catch_warnings():
                        warnings.simplefilter("ignore")  # no document is long enough here
                        found["logs"].append(handle.pop_logs())
        if handle is not None:
            found["step"] = handle.step
        weights = full_weights(model)
        if handle is not None:
            handle.detach()
            found["detached"] = list(model.state_dict())
        return found, weights

    def make(self, world: int) -> tuple[nn.Module, nn.Module, Any, Any]:
        model = tiny()
        host, handle = model, None
        if self.late != "no":
            host = wrapped(model, self.engine, world)
        if self.objective != "none":
            target = model if self.late == "behind" else host
            handle = semtube.attach(target, OBJECTIVES[self.objective], seed=SEED)
        if self.late == "no":
            host = wrapped(model, self.engine, world)
        if self.optimizer == "sgd":
            optimizer: Any = torch.optim.SGD(host.parameters(), lr=0.1, momentum=0.5)
        else:
            # Adam divides a gradient by its own size: with its usual eps of 1e-8 the rounding of
            # one that vanishes would become a whole step.
            optimizer = torch.optim.AdamW(host.parameters(), lr=0.01, eps=1e-3)
        return host, model, optimizer, handle

    def train(self, host: nn.Module, optimizer: Any, step: int, rank: int, world: int) -> float:
        parts = shares(step)
        num_items = torch.tensor(sum(len(ids) - prompt for part in parts for ids, prompt in part))
        mine = [row for part in parts for row in part] if world == 1 else parts[rank ^ self.swapped]
        size = -(-len(mine) // self.micro_batches)
        total = 0.0
        for number in range(self.micro_batches):
            micro = mine[number * size : (number + 1) * size]
            with synchronised(host, number == self.micro_batches - 1):
                loss = host(**padded(micro), num_items_in_batch=num_items).loss
                # Both engines average over the processes.
                (loss * world).backward()
            total += loss.item()
        optimizer.step()
        optimizer.zero_grad()
        return total


def wrapped(model: nn.Module, engine: str, world: int) -> nn.Module:
    if world == 1:
        return model
    if engine == "ddp":
        return DistributedDataParallel(model)
    for layer in model.model.layers:
        fully_shard(layer)
    if engine == "grouped":
        fully_shard(model.model.embed_tokens)
        fully_shard([model.model.norm, model.lm_head], reshard_after_forward=False)
    return fully_shard(model)


@contextlib.contextmanager
def synchronised(host: nn.Module, sync: bool) -> Iterator[None]:
    if isinstance(host, DistributedDataParallel) and not sync:
        with host.no_sync():
            yield
        return
    if hasattr(host, "set_requires_gradient_sync"):
        host.set_requires_gradient_sync(sync)
    yield


@contextlib.contextmanager
def recorded_draws(found: dict[str, list]) -> Iterator[None]:
    """The triplets of every document, under its key for this step."""
    real = tube_module.draw_triplets

    def draw(size_N: Tensor, key_N: Tensor, *args: Any, **options: Any) -> tuple[Tensor, Tensor]:
        triplets_NK3, valid_N = real(size_N, key_N, *args, **options)
        for key, triplets, valid in zip(key_N, triplets_NK3, valid_N, strict=True):
            if valid:
                found[str(int(key))] = triplets.tolist()
        return triplets_NK3, valid_N

    tube_module.draw_triplets = draw
    try:
        yield
    finally:
        tube_module.draw_triplets = real


def saved_state(host: nn.Module, optimizer: Any, by_torch: bool) -> bytes:
    """A checkpoint as a loop writes it: whole by the tool of torch, else one per process."""
    inner = getattr(host, "module", host)
    file = io.BytesIO()
    if by_torch:
        options = StateDictOptions(full_state_dict=True)
        torch.save(get_state_dict(inner, optimizer, options=options), file)
    else:
        torch.save((inner.state_dict(), optimizer.state_dict()), file)
    return file.getvalue()


def load_state(host: nn.Module, optimizer: Any, saved: bytes, by_torch: bool) -> None:
    inner = getattr(host, "module", host)
    of_model, of_optimizer = torch.load(io.BytesIO(saved), weights_only=False)
    if by_torch:
        set_state_dict(
            inner,
            optimizer,
            model_state_dict=of_model,
            optim_state_dict=of_optimizer,
            options=StateDictOptions(full_state_dict=True, broadcast_from_rank0=False),
        )
    else:
        inner.load_state_dict(of_model)
        optimizer.load_state_dict(of_optimizer)


def full_weights(model: nn.Module) -> dict[str, Tensor]:
    return {
        name: getattr(value, "full_tensor", lambda value=value: value)().detach().clone()
        for name, value in model.state_dict().items()
    }


# --- The Hugging Face Trainer.


@dataclass(frozen=True)
class Trainer:
    """Three steps of a Trainer that knows nothing of the term; the last step is a smaller one.

    accelerate shards on accelerators alone: on CPU it takes DistributedDataParallel, whatever
    `fsdp` says, so that its FSDP2 layout is a `Loop` here.

    Args:
        resumed: stop after two steps, and go on in a new Trainer.
    """

    objective: str
    micro_batches: int = 1
    resumed: bool = False

    def __call__(self, rank: int, world: int, folder: Path) -> tuple[dict, dict[str, Tensor]]:
        model, trainer, handle = self.make(world, folder)
        if self.resumed:
            trainer.train()
            handle.detach()
            model, trainer, handle = self.make(world, folder)
        trainer.train(resume_from_checkpoint=self.resumed or None)
        found = {
            "history": trainer.state.log_history,
            "weight": [] if handle is None else [float(handle.weight)],
        }
        weights = full_weights(model)
        if handle is not None:
            handle.detach()
        return found, weights

    def make(self, world: int, folder: Path) -> tuple[nn.Module, Any, Any]:
        import transformers

        from semtube.training.callback import TermCallback

        first = self.resumed and not (folder / "checkpoint-2").exists()
        arguments = transformers.TrainingArguments(
            output_dir=str(folder),
            per_device_train_batch_size=8 // world // self.micro_batches,
            gradient_accumulation_steps=self.micro_batches,
            max_steps=3,
            optim="sgd",
            learning_rate=0.3,
            lr_scheduler_type="constant",
            max_grad_norm=0,
            train_sampling_strategy="sequential",
            accelerator_config={"even_batches": False},
            logging_steps=1,
            logging_strategy="steps",
            save_strategy="steps" if self.resumed else "no",
            save_steps=2,
            report_to="none",
            disable_tqdm=True,
            use_cpu=True,
            dataloader_pin_memory=False,
            remove_unused_columns=False,
        )
        model = tiny()
        rows = examples([n for two in LENGTHS[:3] for part in two for n in part], seed=1)
        trainer = transformers.Trainer(
            model=model, args=arguments, train_dataset=rows, data_collator=padded
        )
        handle = None
        if self.objective != "none":
            handle = semtube.attach(trainer.model, OBJECTIVES[self.objective], seed=SEED)
            TermCallback(handle).add_to(trainer)
        if first:
            trainer.add_callback(stop_at(2))
        return model, trainer, handle


def stop_at(step: int) -> Any:
    from transformers import TrainerCallback

    class Stop(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            control.should_training_stop |= state.global_step >= step

    return Stop()


# --- What is refused.


def refusals(rank: int, world: int, folder: Path) -> tuple[dict, dict[str, Tensor]]:
    """What is said about parts that come too late to be synchronised."""
    said = {}
    for engine in ("ddp", "fsdp"):
        for name in ("linear", "jepa", "masked"):
            host = wrapped(tiny(), engine, world)
            try:
                semtube.attach(host, OBJECTIVES[name])
                said[f"{engine} {name}"] = None
            except UserError as error:
                said[f"{engine} {name}"] = str(error)
    return {"said": said}, {}


def mixed(rank: int, world: int, folder: Path) -> tuple[dict, dict[str, Tensor]]:
    """A bfloat16 model whose learned parts are float32: said; in a group of their own, trained."""
    said, loop = None, Loop("linear", "fsdp")
    handle = semtube.attach(model := tiny().to(torch.bfloat16), OBJECTIVES["linear"], seed=SEED)
    host = wrapped(model, "fsdp", world)
    optimizer = torch.optim.SGD(host.parameters(), lr=0.1)
    try:
        loop.train(host, optimizer, 0, rank, world)
    except UserError as error:
        said = str(error)

    handle = semtube.attach(model := tiny().to(torch.bfloat16), OBJECTIVES["linear"], seed=SEED)
    before = full_weights(model)
    if world > 1:
        fully_shard(model.semtube_tube.learned)
    host = wrapped(model, "fsdp", world)
    loop.train(host, torch.optim.SGD(host.parameters(), lr=0.1), 0, rank, world)
    weights = full_weights(model)
    moved = [name for name, value in weights.items() if not torch.equal(value, before[name])]
    handle.detach()
    return {"said": said, "moved": moved}, weights


CASES: dict[str, Callable[[int, int, Path], tuple[dict, dict[str, Tensor]]]] = {
    "refusals": refusals,
    "mixed": mixed,
}
for _engine in ("ddp", "fsdp", "grouped"):
    for _name in ("none", *OBJECTIVES):
        CASES[f"{_engine}-{_name}"] = Loop(_name, _engine)
    for _name in ("linear", "jepa"):
        CASES[f"{_engine}-{_name}-adamw"] = Loop(_name, _engine, "adamw")
    for _name in ("tube", "linear", "masked", "adaptive", "dropped"):
        CASES[f"{_engine}-{_name}-accumulated"] = Loop(_name, _engine, micro_batches=2)
    for _name in ("tube", "inner", "adaptive"):
        CASES[f"{_engine}-{_name}-late"] = Loop(_name, _engine, late="yes")
    for _name in ("linear", "adaptive_jepa"):
        CASES[f"{_engine}-{_name}-broken"] = Loop(_name, _engine, broken="files")
    CASES[f"{_engine}-linear-checkpoint"] = Loop("linear", _engine, "adamw", broken="torch")
    CASES[f"{_engine}-tube-swapped"] = Loop("tube", _engine, swapped=True)
CASES["ddp-linear-behind"] = Loop("linear", "ddp", late="behind")
for _name in ("none", "tube", "linear", "jepa", "adaptive", "dropped"):
    CASES[f"trainer-{_name}"] = Trainer(_name)
for _name in ("linear", "adaptive_jepa"):
    CASES[f"trainer-{_name}-accumulated"] = Trainer(_name, micro_batches=2)
    CASES[f"trainer-{_name}-resumed"] = Trainer(_name, resumed=True)


def run(names: list[str], out: Path, rank: int = 0, world: int = 1) -> None:
    for name in names:
        folder = out / "runs" / name
        try:
            found, weights = CASES[name](rank, world, folder)
        except Exception:
            found, weights = {"error": traceback.format_exc()}, {}
        (out / f"{name}.{rank}.json").write_text(json.dumps(found))
        save_file(weights, out / f"{name}.{rank}.safetensors")


def main() -> None:
    torch.set_num_threads(1)
    names, out = sys.argv[1].split(","), Path(sys.argv[2])
    rank, world = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    if world > 1:
        distributed.init_process_group("gloo", timeout=timedelta(seconds=60))
    run(names, out, rank, world)
    if world > 1:
        distributed.barrier()  # as in examples/torchrun_ddp.py
        distributed.destroy_process_group()


if __name__ == "__main__":
    main()
