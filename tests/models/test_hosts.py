"""Attach in the hosts that people use: the update is that of the loss plus the term, or an error.

The oracle: documents one after another, alone and unpadded, next-token loss summed by hand, plus
weight * (supervised tokens) * mean cost of the document, divided by the supervised tokens of the
step. `test_attach.py` holds the cost itself against a plain loop.

Shape letters: B rows, T tokens, D hidden size, N documents, V vocabulary.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from semtube import (
    LLMJepa,
    MaskedSpan,
    NextLatent,
    Objective,
    RDrop,
    SemanticTube,
    TwoView,
    UserError,
    attach,
)
from semtube.objectives.trajectories import Trajectories

transformers = pytest.importorskip("transformers")
# PEFT and TRL still use names that transformers 5.23 calls deprecated.
pytestmark = pytest.mark.filterwarnings("ignore:.*will be removed in v6:FutureWarning")

VOCABULARY, WIDTH, RATE = 61, 16, 0.3
TUBE = SemanticTube(weight=0.7, draws=2)
PRED = SemanticTube(weight=0.7, draws=2, predictor="linear")
TOLERANCE = 2e-5

Document = tuple[list[int], list[int]]  # token ids, labels


def tiny(*, layers: int = 2, attention_dropout: float = 0.0) -> nn.Module:
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=VOCABULARY, hidden_size=WIDTH, intermediate_size=24, num_hidden_layers=layers,
        num_attention_heads=2, num_key_value_heads=1, max_position_embeddings=64, bos_token_id=1,
        eos_token_id=2, initializer_range=0.2, attention_dropout=attention_dropout,
    )  # fmt: skip
    return transformers.LlamaForCausalLM(config).train()


def documents(lengths: list[int]) -> list[Document]:
    """Random ids; the first third of each document, and at least one token, has no label."""
    generator = torch.Generator().manual_seed(0)
    result = []
    for length in lengths:
        ids = torch.randint(3, VOCABULARY, (length,), generator=generator).tolist()
        first = max(length // 3, 1)
        result.append((ids, [-100] * first + ids[first:]))
    return result


SIXTEEN = [9, 4, 12, 3, 7, 15, 5, 10, 3, 8, 18, 6, 8, 9, 11, 16]


def padded(batch: list[Document]) -> dict[str, Tensor]:
    width = max(len(ids) for ids, _ in batch)
    rows = [
        (ids + [2] * (gap := width - len(ids)), [1] * len(ids) + [0] * gap, labels + [-100] * gap)
        for ids, labels in batch
    ]
    names = ("input_ids", "attention_mask", "labels")
    return {
        name: torch.tensor(value)
        for name, value in zip(names, zip(*rows, strict=True), strict=True)
    }


def reference_loss(
    model: nn.Module,
    objective: Objective | None,
    batch: list[Document],
    *,
    key: int = 0,
    parts: nn.Module | None = None,
    loss_type: str = "nll",
) -> Tensor:
    """No padding, no packing, no hook, no fused head."""
    total, items = torch.zeros(()), 0
    for ids, labels in batch:
        ids_1T = torch.tensor([ids])
        output = model(input_ids=ids_1T, output_hidden_states=True, use_cache=False)
        target_P = torch.tensor(labels[1:])
        log_probs_T = -F.cross_entropy(output.logits[0, :-1].float(), target_P, reduction="none")
        weight_T = (target_P != -100).float()
        items += int(weight_T.sum())
        if loss_type == "dft":
            weight_T = weight_T * log_probs_T.detach().exp()
        total = total - (weight_T * log_probs_T).sum()
        if objective is not None:
            attended_1T = torch.ones_like(ids_1T).bool()
            trajectories = Trajectories.build(
                attended_BT=attended_1T, content_BT=attended_1T, input_ids_BT=ids_1T
            )
            term = objective(output.hidden_states[-1], trajectories, key, parts=parts)
            total = total + objective.weight * weight_T.sum() * term.mean_N[0]
    return total / items


def weights(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


def gradients(model: nn.Module) -> dict[str, Tensor]:
    return {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


def distance(first: dict[str, Tensor], second: dict[str, Tensor]) -> float:
    """Norm of the difference relative to the norm of the first."""
    assert first.keys() == second.keys()
    apart = sum((first[name] - second[name]).square().sum() for name in first)
    return float((apart / sum(value.square().sum() for value in first.values())).sqrt())


def moved(first: dict[str, Tensor], second: dict[str, Tensor]) -> float:
    """Difference of two runs relative to how far the first moved from `tiny()`."""
    start = weights(tiny())
    changes = ({name: run[name] - start[name] for name in start} for run in (first, second))
    return distance(*changes)


def reference_weights(
    steps: list[list[Document]], objective: Objective | None, **options: Any
) -> dict[str, Tensor]:
    model = tiny()
    optimizer = torch.optim.SGD(model.parameters(), lr=RATE)
    for step, batch in enumerate(steps):
        optimizer.zero_grad()
        reference_loss(model, objective, batch, key=step, **options).backward()
        optimizer.step()
    return weights(model)


def trainer_options(folder: Path, **options: Any) -> dict[str, Any]:
    plain = {
        "output_dir": str(folder), "max_steps": 2, "optim": "sgd", "learning_rate": RATE,
        "lr_scheduler_type": "constant", "max_grad_norm": 0, "report_to": "none",
        "train_sampling_strategy": "sequential", "save_strategy": "no", "logging_strategy": "no",
        "disable_tqdm": True, "use_cpu": True, "dataloader_pin_memory": False,
    }  # fmt: skip
    return {**plain, **options}


def hf_trainer(
    folder: Path, model: nn.Module, *, compute_loss_func: Any = None, **options: Any
) -> Any:
    """An unmodified Trainer, four documents a step."""
    options = {"per_device_train_batch_size": 4, "remove_unused_columns": False, **options}
    return transformers.Trainer(
        model=model,
        args=transformers.TrainingArguments(**trainer_options(folder, **options)),
        train_dataset=documents(SIXTEEN),
        data_collator=padded,
        compute_loss_func=compute_loss_func,
    )


# --- TRL.


CHAT_TEMPLATE = (
    "{% for message in messages %}w3 {% if message['role'] == 'assistant' %}"
    "{% generation %}{{ message['content'] }} w2 {% endgeneration %}"
    "{% else %}{{ message['content'] }} {% endif %}{% endfor %}"
)


def word_tokenizer() -> Any:
    """w0 to w60, a space between them; chats mark what the assistant generates."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = {f"w{number}": number for number in range(VOCABULARY)}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="w0"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="w2", eos_token="w2", bos_token="w1", unk_token="w0",
        chat_template=CHAT_TEMPLATE,
    )  # fmt: skip


def text(ids: list[int]) -> str:
    return " ".join(f"w{number}" for number in ids)


def data_of_kind(kind: str) -> list[dict[str, Any]]:
    rows = []
    for ids, _ in documents(SIXTEEN):
        middle = max(len(ids) // 3, 1)
        prompt, answer = text(ids[:middle]), text(ids[middle:])
        if kind == "language_modeling":
            rows.append({"text": text(ids)})
        elif kind == "completion_only":
            rows.append({"prompt": prompt, "completion": " " + answer})
        else:
            turns = [
                ("user", prompt),
                ("assistant", answer),
                ("user", prompt),
                ("assistant", prompt),
            ]
            rows.append({"messages": [{"role": r, "content": c} for r, c in turns]})
    return rows


def sft_trainer(folder: Path, kind: str, model: nn.Module, **options: Any) -> Any:
    trl, datasets = pytest.importorskip("trl"), pytest.importorskip("datasets")
    more = {
        name: options.pop(name) for name in ("peft_config", "compute_loss_func") if name in options
    }
    options = {
        "bf16": False, "per_device_train_batch_size": 2, "gradient_accumulation_steps": 2,
        "max_length": None, "assistant_only_loss": kind == "assistant_only", **options,
    }  # fmt: skip
    return trl.SFTTrainer(
        model=model,
        args=trl.SFTConfig(**trainer_options(folder, **options)),
        train_dataset=datasets.Dataset.from_list(data_of_kind(kind)),
        processing_class=word_tokenizer(),
        **more,
    )


def steps_of(trainer: Any) -> list[list[Document]]:
    """The documents of each step, as TRL prepared them."""
    per_step = trainer.args.per_device_train_batch_size * trainer.args.gradient_accumulation_steps
    steps = []
    for step in range(trainer.args.max_steps):
        rows = trainer.train_dataset[step * per_step : (step + 1) * per_step]
        found = []
        for number, (ids, labels) in enumerate(zip(rows["input_ids"], rows["labels"], strict=True)):
            lengths = rows["seq_lengths"][number] if "seq_lengths" in rows else [len(ids)]
            for length in lengths:
                found.append((ids[:length], [-100, *labels[1:length]]))
                ids, labels = ids[length:], labels[length:]
        steps.append(found)
    return steps


LAYOUTS = {
    "padded": {},
    "padding_free": {"padding_free": True},
    "packed": {"packing": True, "max_length": 60, "per_device_train_batch_size": 1},
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("kind", ["language_modeling", "completion_only", "assistant_only"])
def test_sft_gives_the_update_of_the_loss_plus_the_term(kind, layout, tmp_path):
    trainer = sft_trainer(tmp_path, kind, tiny(), **LAYOUTS[layout])
    steps = steps_of(trainer)
    unsupervised = sum(labels.count(-100) for step in steps for _, labels in step)
    num_documents = sum(map(len, steps))
    assert num_documents >= 6
    assert (unsupervised == num_documents) == (kind == "language_modeling")
    with attach(trainer.model, TUBE) as handle:
        trainer.train()
        assert handle.pop_logs()["term_documents"] == num_documents
    expected = reference_weights(steps, TUBE)
    assert moved(expected, reference_weights(steps, None)) > 0.02
    assert moved(expected, weights(trainer.model)) < TOLERANCE


def test_sft_with_the_dft_loss_weighs_a_document_as_that_loss_does(tmp_path):
    trainer = sft_trainer(tmp_path, "completion_only", tiny(), loss_type="dft")
    steps = steps_of(trainer)
    with attach(trainer.model, TUBE):
        trainer.train()
    expected = reference_weights(steps, TUBE, loss_type="dft")
    assert moved(expected, reference_weights(steps, None, loss_type="dft")) > 0.02
    assert moved(expected, weights(trainer.model)) < TOLERANCE


def test_sft_that_cuts_rows_anywhere_makes_a_document_of_each_row(tmp_path):
    # "wrapped" packing tells nobody where a text ends: to the model too, a row is one text.
    wrapped = {"packing": True, "packing_strategy": "wrapped", "max_length": 24}
    trainer = sft_trainer(tmp_path, "language_modeling", tiny(), **wrapped, max_steps=1)
    steps = steps_of(trainer)
    assert [len(ids) for ids, _ in steps[0]] == [24] * 4
    with attach(trainer.model, TUBE) as handle:
        trainer.train()
        assert handle.pop_logs()["term_documents"] == 4
    assert moved(reference_weights(steps, TUBE), weights(trainer.model)) < TOLERANCE


def mean_loss(output: Any, labels: Tensor, num_items_in_batch: Any = None) -> Tensor:
    return F.cross_entropy(output.logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten())


OUTSIDE = {
    "label_smoothing": {"label_smoothing_factor": 0.1},
    "compute_loss_func": {"compute_loss_func": mean_loss},
}


@pytest.mark.filterwarnings("ignore:.*deprecated.*will be removed in v2:FutureWarning")
@pytest.mark.parametrize("outside", OUTSIDE)
@pytest.mark.parametrize("host", ["trainer", "sft"])
def test_a_trainer_that_computes_the_loss_itself_is_told_about_loss_scale(host, outside, tmp_path):
    options = {"max_steps": 1, **OUTSIDE[outside]}
    if host == "trainer":
        trainer = hf_trainer(tmp_path, tiny(), **options)
    else:
        trainer = sft_trainer(tmp_path, "completion_only", tiny(), **options)
    before = weights(trainer.model)
    with pytest.raises(UserError, match="loss_scale"), attach(trainer.model, TUBE):
        trainer.train()
    assert all(torch.equal(before[name], value) for name, value in weights(trainer.model).items())


@pytest.mark.filterwarnings("ignore:.*deprecated.*will be removed in v2:FutureWarning")
@pytest.mark.parametrize("host", ["trainer", "sft"])
def test_with_loss_scale_a_loss_of_ones_own_gets_the_mean_over_documents(host, tmp_path):
    options = {"max_steps": 1, "per_device_train_batch_size": 4, "compute_loss_func": mean_loss}
    if host == "trainer":
        trainer = hf_trainer(tmp_path, tiny(), **options)
        batch = documents(SIXTEEN)[:4]
    else:
        more = {"gradient_accumulation_steps": 1}
        trainer = sft_trainer(tmp_path, "completion_only", tiny(), **options, **more)
        [batch] = steps_of(trainer)
    with attach(trainer.model, TUBE, loss_scale=1.0):
        trainer.train()
    model = tiny()
    loss = reference_loss(model, None, batch)
    for document in batch:
        alone = [reference_loss(model, one, [document]) for one in (TUBE, None)]
        loss = loss + (alone[0] - alone[1]) / len(batch)
    loss.backward()
    torch.optim.SGD(model.parameters(), lr=RATE).step()
    assert moved(weights(model), weights(trainer.model)) < 1e-4


# --- PEFT.


def lora() -> Any:
    peft = pytest.importorskip("peft")
    return peft.LoraConfig(r=4, target_modules=["q_proj", "v_proj"])


@pytest.mark.parametrize("host", ["trainer", "sft"])
def test_lora_trains_learnable_parts_and_leaves_none_behind(host, tmp_path):
    peft = pytest.importorskip("peft")
    if host == "trainer":
        model = peft.get_peft_model(tiny(), lora())
        trainer = hf_trainer(tmp_path, model, optim="adamw_torch")
    else:
        options = {"peft_config": lora(), "optim": "adamw_torch"}
        trainer = sft_trainer(tmp_path, "completion_only", tiny(), **options)
    model = trainer.model
    before = weights(model)
    with attach(model, PRED):
        names = set(weights(model)) - set(before)
        trainer.train()
        [part] = (model.get_parameter(name) for name in names)
        held = [p for group in trainer.optimizer.param_groups for p in group["params"]]
        assert any(one is part for one in held)
        assert part.abs().max() > 0  # it starts at zero
        # A checkpoint in the middle of training is a plain adapter too.
        assert all("lora_" in name for name in peft.get_peft_model_state_dict(model))
    after = weights(model)
    assert after.keys() == before.keys()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {name for name in before if "lora_" in name}


def test_lora_gets_the_gradient_of_the_loss_plus_the_term_with_learnable_parts():
    peft = pytest.importorskip("peft")
    config = lora()
    config.init_lora_weights = False
    torch.manual_seed(1)
    model = peft.get_peft_model(tiny(), config).train()
    batch = documents(SIXTEEN[:5])
    with attach(model, PRED) as handle:
        learned = handle.objective.build_parts(WIDTH)
        model(**padded(batch)).loss.backward()
        found = gradients(model)
    model.zero_grad()
    reference_loss(model, PRED, batch, parts=learned).backward()
    expected = gradients(model)
    parts = {name: found.pop(name) for name in found.keys() - expected.keys()}
    assert distance(expected, found) < TOLERANCE
    [part] = parts.values()
    assert distance({"": learned.change.grad}, {"": part}) < TOLERANCE


# --- Gradient checkpointing.


ENCODING = [
    LLMJepa(weight=0.7, predictor="linear"),
    MaskedSpan(weight=0.7),
    MaskedSpan(weight=0.7, target="span", predictor="linear"),
    RDrop(weight=0.7),
    PRED,
    TwoView(weight=0.7),
    NextLatent(weight=0.7),
]


def checkpointed_gradients(
    objective: Objective, checkpointing: str | None, *, adapters: bool = False
) -> dict[str, Tensor]:
    model = tiny(attention_dropout=0.2 if isinstance(objective, RDrop) else 0.0)
    model.config.use_cache = False
    if adapters:
        config = lora()
        config.init_lora_weights = False
        torch.manual_seed(1)
        model = pytest.importorskip("peft").get_peft_model(model, config).train()
        model.enable_input_require_grads()
    inner = model.get_base_model() if adapters else model
    if checkpointing:
        inner.activation_checkpointing_enable({"use_reentrant": checkpointing == "reentrant"})
    runs = []
    inner.model.layers[0].self_attn.register_forward_hook(lambda *_: runs.append(1))
    batch = padded(documents(SIXTEEN[:5]))
    with attach(model, objective) as handle:
        torch.manual_seed(7)  # of the host's own dropout
        loss = model(**batch).loss
        after = torch.rand(())
        in_forward = len(runs)
        loss.backward()
        assert (len(runs) > in_forward) == (checkpointing is not None)
        found = gradients(model)
        handle.detach()
        # The extra pass drew nothing from the host's generator.
        torch.manual_seed(7)
        model(**batch)
        assert torch.equal(torch.rand(()), after)
    return found


@pytest.mark.parametrize("adapters", [False, True], ids=["full", "lora"])
@pytest.mark.parametrize("checkpointing", ["reentrant", "non_reentrant"])
@pytest.mark.parametrize("objective", ENCODING, ids=lambda one: repr(one).split("(")[0])
def test_checkpointing_changes_no_gradient(objective, checkpointing, adapters):
    expected = checkpointed_gradients(objective, None, adapters=adapters)
    found = checkpointed_gradients(objective, checkpointing, adapters=adapters)
    # The parts' gradients are larger by their rate and would hide the model's.
    for of_parts in (False, True):
        first, second = (
            {name: value for name, value in run.items() if ("semtube_" in name) == of_parts}
            for run in (expected, found)
        )
        assert len(first) > 0 or (of_parts and objective.build_parts(WIDTH) is None)
        assert not first or distance(first, second) < 1e-6


# --- torch.compile.


#: Dynamo looks at `.grad` of every tensor that crosses a break in its graph.
COMPILES = pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")


@pytest.fixture
def fresh_compiler():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def gradients_of_step(model: nn.Module, call: Any) -> dict[str, Tensor]:
    model.zero_grad()
    call(**padded(documents(SIXTEEN)[:4]), use_cache=False).loss.backward()
    return gradients(model)


@COMPILES
@pytest.mark.usefixtures("fresh_compiler")
def test_compiled_the_gradient_is_the_eager_one_and_the_hook_fires_once():
    plain, eager, model = (tiny(layers=1) for _ in range(3))
    before = gradients_of_step(plain, plain)
    with attach(eager, TUBE), attach(model, TUBE) as handle:
        compiled = torch.compile(model, backend="aot_eager")
        expected = gradients_of_step(eager, eager)
        assert distance(expected, before) > 0.02
        assert distance(expected, gradients_of_step(model, compiled)) < 1e-6
        assert handle.pop_logs()["term_documents"] == 4
        # Again, with the code that is compiled already.
        assert distance(expected, gradients_of_step(model, compiled)) < 1e-6
        assert handle.pop_logs()["term_documents"] == 4
        model.eval()
        assert distance(before, gradients_of_step(model, compiled)) < 1e-6
        model.train()
    # The compiled code still calls the hooks that are gone: they do nothing.
    assert distance(before, gradients_of_step(model, compiled)) < 1e-6


@COMPILES
@pytest.mark.usefixtures("fresh_compiler")
def test_the_decoder_is_compiled_whole_and_never_again():
    graphs = []

    def count(graph: Any, _: Any) -> Any:
        graphs.append(len(graph.graph.nodes))
        return graph.forward

    model = tiny(layers=1)
    with attach(model, TUBE) as handle:
        compiled = torch.compile(model, backend=count)
        optimizer = torch.optim.SGD(compiled.parameters(), lr=0.1)
        for _ in range(4):
            gradients_of_step(model, compiled)
            optimizer.step()
        assert handle.step == 4
    attached = sum(graphs), len(graphs)
    torch._dynamo.reset()
    graphs.clear()
    model = tiny(layers=1)
    gradients_of_step(model, torch.compile(model, backend=count))
    [whole] = graphs
    # One graph before the hook and one behind it, and nothing is left out of them.
    assert attached[1] == 2
    assert attached[0] >= whole


@COMPILES
@pytest.mark.usefixtures("fresh_compiler")
@pytest.mark.parametrize(
    ("how", "has_run"),
    [("compile(model)", False), ("compile(model)", True), ("model.compile()", True)],
)
def test_attached_after_compiling_it_works_or_stops_at_the_first_step(how, has_run):
    eager, model = tiny(layers=1), tiny(layers=1)
    if how == "model.compile()":
        model.compile(backend="eager")
        compiled = model
    else:
        compiled = torch.compile(model, backend="eager")
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    if has_run:
        gradients_of_step(model, compiled)
    handle = attach(compiled, TUBE)
    found = gradients_of_step(model, compiled)
    if has_run:
        with pytest.raises(UserError, match=r"compiled it before attach\(\)"):
            optimizer.step()
        with pytest.raises(UserError, match="reached no gradient"):
            handle.detach()
    else:
        optimizer.step()
        handle.detach()
        with attach(eager, TUBE):
            assert distance(gradients_of_step(eager, eager), found) < 1e-6


@COMPILES
@pytest.mark.usefixtures("fresh_compiler")
@pytest.mark.parametrize("objective", [LLMJepa(weight=0.7), SemanticTube(weight=0.7, layer=1)])
def test_compiled_extra_passes_and_inner_layers_get_the_eager_gradient(objective):
    eager, model = tiny(), tiny()
    with attach(eager, objective), attach(model, objective):
        expected = gradients_of_step(eager, eager)
        found = gradients_of_step(model, torch.compile(model, backend="eager"))
    assert distance(expected, found) < 1e-6


@COMPILES
@pytest.mark.usefixtures("fresh_compiler")
def test_a_trainer_that_compiles_the_model_itself_trains_the_term(tmp_path):
    compiling = {"torch_compile": True, "torch_compile_backend": "eager"}
    results = []
    for number, options in enumerate(({}, compiling)):
        trainer = hf_trainer(tmp_path / str(number), tiny(), max_steps=1, **options)
        with attach(trainer.model, TUBE) as handle:
            trainer.train()
            assert handle.step == 1
        results.append(weights(trainer.model))
    assert moved(*results) < 1e-6


# --- Lightning.


#: It uses a name of torch's that torch 2.13 calls deprecated, and advises more data workers.
LIGHTNING = pytest.mark.filterwarnings(
    "ignore:.*LeafSpec.*deprecated:FutureWarning",
    "ignore:.*does not have many workers:UserWarning",
    "ignore:Found .* module.* in eval mode:UserWarning",
)


def lightning_fit(model: nn.Module, batches: list[dict[str, Tensor]], **options: Any) -> None:
    lightning = pytest.importorskip("lightning", reason="lightning is not installed")

    class Module(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def training_step(self, batch: Any, number: int) -> Tensor:
            return self.model(**batch).loss

        def validation_step(self, batch: Any, number: int) -> None:
            self.model(**batch)

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), lr=RATE)

    trainer = lightning.Trainer(
        max_epochs=1, accelerator="cpu", logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, **options,
    )  # fmt: skip
    loaders = (torch.utils.data.DataLoader(b, batch_size=None) for b in (batches, batches[:1]))
    trainer.fit(Module(), *loaders)


@LIGHTNING
@pytest.mark.parametrize("accumulate", [1, 2])
def test_lightning_gives_the_update_of_the_loss_plus_the_term(accumulate):
    data = documents(SIXTEEN)
    groups = [data[first : first + 4] for first in range(0, 16, 4)]
    found = tiny()
    with attach(found, TUBE) as handle:
        lightning_fit(found, [padded(g) for g in groups], accumulate_grad_batches=accumulate)
        assert handle.step == 4 // accumulate
        assert handle.pop_logs()["term_documents"] == 16  # the validation is not among them
    expected = []
    for objective in (TUBE, None):
        model = tiny()
        optimizer = torch.optim.SGD(model.parameters(), lr=RATE)
        for number, group in enumerate(groups):
            step = number // accumulate
            (reference_loss(model, objective, group, key=step) / accumulate).backward()
            if (number + 1) % accumulate == 0:
                optimizer.step()
                optimizer.zero_grad()
        expected.append(weights(model))
    assert moved(*expected) > 0.02
    assert moved(expected[0], weights(found)) < TOLERANCE


@LIGHTNING
def test_lightning_trains_learnable_parts_and_leaves_none_behind():
    model = tiny()
    before = weights(model).keys()
    with attach(model, PRED):
        [name] = weights(model).keys() - before
        lightning_fit(model, [padded(documents(SIXTEEN))] * 3)
        assert model.get_parameter(name).abs().max() > 0
    assert weights(model).keys() == before


@LIGHTNING
def test_lightning_keeps_eval_mode_and_that_is_an_error():
    # from_pretrained returns a model in eval mode, and Lightning does not change it.
    model = tiny().eval()
    with pytest.raises(UserError, match="trains in eval mode"), attach(model, TUBE):
        lightning_fit(model, [padded(documents(SIXTEEN))])
