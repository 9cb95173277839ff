"""What a run, an evaluation and a probe are: every setting in typed records. Needs no torch."""

from __future__ import annotations

import difflib
import functools
import hashlib
import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from semtube.errors import UserError

#: Models that are made here and trained from nothing.
PRESET_NAMES = ("tiny-0.3m", "tiny-2m", "tiny-10m")
#: Settings of a run that change no number: places, logging, and how a step is split. What lies at
#: the places is told by the data's fingerprints.
CHANGES_NO_NUMBER = (
    "data", "data_folder", "validation", "test", "output", "log_every", "checkpoint_every",
    "report_to", "micro_batch_size", "threads", "trust_remote_code", "decode_test",
    "geometry_every",
)  # fmt: skip
#: Prompt and answer tokens of the rows that are decoded together.
BATCH_TOKENS = 16_384


@dataclass(frozen=True)
class LoraOptions:
    """Low-rank adapters instead of full fine-tuning.

    Args:
        rank: 0 trains all weights; 8 to 64 are usual.
        alpha: Scale of the adapters; unset for twice the rank.
        dropout: Dropout before the adapters.
    """

    rank: int = 0
    alpha: int | None = None
    dropout: float = 0.0


@dataclass(frozen=True)
class RunConfig:
    """One training run.

    Args:
        output: Folder of the run; it must not exist, or be empty.
        task: How answers are judged: a task of `semtube data list`, which brings its data; or, for
            rows of your own, `exact`, `pattern` (the row's key "pattern"), `choice` (its key
            "choices"), or module:function, called with prediction, right answer and the row's other
            keys, which returns True, False or None.
        task_options: Options of the task: `schema`, `seconds` and `databases` of spider, `pattern`
            of pattern, `choices` of choice; as `--task_options.schema true`.
        data: JSONL file of training rows (messages, prompt and completion, or text); with a task,
            the name of a split, unset for its train.
        data_folder: Folder with the task's files, or hf://datasets/OWNER/NAME; unset, they are
            looked for in $SEMTUBE_DATA and the cache, then fetched from their source.
        chat_form: Put chat rows by the model's chat `template`, or as `plain` text, every turn with
            a blank line behind it, for models that have no template.
        model: A preset (tiny-0.3m, tiny-2m, tiny-10m), a folder, a .gguf file, or a hub name.
        objective: What is added to next-token prediction; `ntp` adds nothing. `semtube objectives`
            lists them.
        weight: Factor of the objective (lambda in the papers); unset for its default. With the
            adaptive schedule, the fraction of the next-token gradient. No `ntp` run reads it.
        weight_schedule: `constant`; `linear` or `cosine`, rising over the whole run; `adaptive`,
            set at every step so that the gradients keep a ratio.
        weight_dropout: Share of steps that leave the objective out, in [0, 1).
        options: Options of the objective, as `--options.form span`; `semtube objectives NAME`
            lists them.
        neftune: Noise on the embeddings (NEFTune's alpha, usually 5); 0 for none.
        attention_dropout: Dropout of attention weights in training, in [0, 1).
        validation: JSONL file (or split) whose loss is measured during training.
        validation_rows: Rows taken out of the training rows instead, the same for every seed.
        test: JSONL file (or split) decoded and scored once, after training.
        decode_test: Whether to decode the test rows after training. Off, they are only kept apart
            from the training rows, as a study does until its settings are chosen.
        max_new_tokens: No test answer is longer; unset for twice the longest right answer.
        drop_overlap: Leave out training rows that stand in validation or test: the whole `row`, its
            `question`, its `answer`, or one `near` to it.
        fraction: Share of the training rows, in (0, 1]; smaller ones are nested in larger ones.
        labels: Train on the `answer` (and its stop token) or on the `full` text.
        train_stop: Whether stop tokens are targets. Off only to reproduce the paper's regime.
        max_tokens: Rows with more tokens are left out and counted; none is cut.
        steps: Optimizer steps; unset to train for `epochs`.
        epochs: Passes over the data; read when `steps` is unset.
        batch_size: Rows per optimizer step.
        micro_batch_size: Rows per forward pass; unset for the whole batch. Changes no result but
            the last bits.
        learning_rate: Highest learning rate of AdamW; unset for 1e-3 with a preset, 2e-4 with
            adapters, 2e-5 for fine-tuning all weights.
        weight_decay: Decoupled weight decay.
        schedule: Shape of the learning rate after the warm-up.
        warmup_fraction: Share of the steps in which the learning rate rises.
        max_grad_norm: Gradients are clipped to this norm.
        lora: Low-rank adapters.
        seed: Names every random stream: initial weights, data order, triplets, fraction.
        precision: `fp32`, or `bf16` autocast over float32 weights; `auto` takes bf16 on a GPU.
        threads: CPU threads; unset for torch's choice.
        geometry_every: Steps between measurements of trajectories (the cheap ones, of 64 validation
            rows, or of training rows where there are none), in metrics.jsonl as
            geometry/LAYER/MEASURE; with an objective also norms and cosine of both gradients at
            the states, at every step. 0 for none.
        log_every: Steps between shown lines; metrics.jsonl has every step.
        checkpoint_every: Steps between checkpoints; unset for ten in the run.
        report_to: List of trackers of the Hugging Face Trainer, such as [tensorboard, wandb].
        trust_remote_code: Run code that comes with the model. Off unless you trust its author.
    """

    output: str
    task: str = "exact"
    task_options: dict[str, Any] = field(default_factory=dict)
    data: str | None = None
    data_folder: str | None = None
    chat_form: Literal["template", "plain"] = "template"
    model: str = "tiny-2m"
    objective: Literal[
        "ntp", "tube", "two_view", "masked_span", "curvature", "llm_jepa", "r_drop", "next_latent"
    ] = "tube"
    weight: float | None = None
    weight_schedule: Literal["constant", "linear", "cosine", "adaptive"] = "constant"
    weight_dropout: float = 0.0
    options: dict[str, Any] = field(default_factory=dict)
    neftune: float = 0.0
    attention_dropout: float = 0.0
    validation: str | None = None
    validation_rows: int = 0
    test: str | None = None
    decode_test: bool = True
    max_new_tokens: int | None = None
    drop_overlap: Literal["row", "question", "answer", "near"] | None = None
    fraction: float = 1.0
    labels: Literal["answer", "full"] = "answer"
    train_stop: bool = True
    max_tokens: int = 512
    steps: int | None = None
    epochs: float = 4.0
    batch_size: int = 32
    micro_batch_size: int | None = None
    learning_rate: float | None = None
    weight_decay: float = 0.0
    schedule: Literal["linear", "cosine", "constant"] = "linear"
    warmup_fraction: float = 0.05
    max_grad_norm: float = 1.0
    lora: LoraOptions = field(default_factory=LoraOptions)
    seed: int = 0
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    threads: int | None = None
    geometry_every: int = 0
    log_every: int = 10
    checkpoint_every: int | None = None
    report_to: list[str] = field(default_factory=list)
    trust_remote_code: bool = False

    def check(self) -> None:
        """Refuse values that cannot be meant.

        Raises:
            UserError: naming the option, its value and what it may be.
        """
        _need(self.geometry_every >= 0, "geometry_every", self.geometry_every, "0 or more")
        for name in ("batch_size", "max_tokens", "log_every"):
            _need(getattr(self, name) >= 1, name, getattr(self, name), "at least 1")
        for name in (
            "steps", "checkpoint_every", "micro_batch_size", "threads", "max_new_tokens",
        ):  # fmt: skip
            value = getattr(self, name)
            _need(value is None or value >= 1, name, value, "at least 1, or unset")
        for name in ("max_grad_norm", "epochs"):
            _need(0 < getattr(self, name) < float("inf"), name, getattr(self, name), "above 0")
        rate = self.learning_rate
        _need(rate is None or 0 < rate < float("inf"), "learning_rate", rate, "above 0, or unset")
        for name in ("weight_decay", "neftune"):
            _need(0 <= getattr(self, name) < float("inf"), name, getattr(self, name), "at least 0")
        weight = self.weight
        _need(
            weight is None or 0 <= weight < float("inf"), "weight", weight, "at least 0, or unset"
        )
        for name in ("weight_dropout", "attention_dropout"):
            _need(0 <= getattr(self, name) < 1, name, getattr(self, name), "in [0, 1)")
        adaptive_at_zero = self.weight_schedule == "adaptive" and weight == 0
        wanted = "above 0 with the adaptive weight_schedule, or unset"
        _need(not adaptive_at_zero, "weight", weight, wanted)
        rows = self.validation_rows
        _need(rows >= 0, "validation_rows", rows, "at least 0")
        _need(not (rows and self.validation), "validation_rows", rows, "0 where validation is set")
        others = self.validation or rows or self.test
        _need(
            self.drop_overlap is None or bool(others),
            "drop_overlap",
            self.drop_overlap,
            "unset without validation or test rows",
        )
        unread = self.objective == "ntp" and self.options
        _need(not unread, "options", self.options, "unset with objective 'ntp'")
        _need(
            self.weight_dropout == 0 or self.weight_schedule == "constant",
            "weight_dropout",
            self.weight_dropout,
            f"0 with the {self.weight_schedule} weight_schedule",
        )
        _need(0 < self.fraction <= 1, "fraction", self.fraction, "above 0 and at most 1")
        _need(0 <= self.warmup_fraction < 1, "warmup_fraction", self.warmup_fraction, "in [0, 1)")
        rank, alpha, dropout = self.lora.rank, self.lora.alpha, self.lora.dropout
        _need(rank >= 0, "lora.rank", rank, "at least 0")
        _need(alpha is None or alpha >= 1, "lora.alpha", alpha, "at least 1, or unset")
        _need(0 <= dropout < 1, "lora.dropout", dropout, "in [0, 1)")
        is_preset = self.model in PRESET_NAMES
        wanted = "0 with a preset, whose weights are random and must all be trained"
        _need(not (rank and is_preset), "lora.rank", rank, wanted)
        micro = self.micro_batch_size or self.batch_size
        _need(
            self.batch_size % micro == 0,
            "micro_batch_size",
            micro,
            f"a divisor of batch_size ({self.batch_size})",
        )

    def resolved(self) -> RunConfig:
        """With the learning rate that fits the kind of training, where none is set."""
        if self.learning_rate is not None:
            return self
        rate = 2e-4 if self.lora.rank else 1e-3 if self.model in PRESET_NAMES else 2e-5
        return replace(self, learning_rate=rate)

    @property
    def accumulation_steps(self) -> int:
        """Forward passes per optimizer step."""
        return self.batch_size // (self.micro_batch_size or self.batch_size)

    def identity(self, fingerprints: dict[str, str]) -> str:
        """Hash of what can change a number: the settings and the data's fingerprints.

        Paths, logging and the way a step is split are left out.
        """
        fields = asdict(self)
        for name in CHANGES_NO_NUMBER:
            del fields[name]
        # The path of other databases; their contents have a fingerprint.
        fields["task_options"].pop("databases", None)
        if self.objective == "ntp":
            for name in ("weight", "weight_schedule", "weight_dropout", "options"):
                del fields[name]
        if self.steps is not None:
            del fields["epochs"]
        text = json.dumps([_as_floats(fields), fingerprints], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> RunConfig:
        """From plain values, as `asdict` gives them.

        Raises:
            UserError: an unknown or missing field, or a value of another type.
        """
        fields = dict(fields)
        unknown = sorted(set(fields) - set(cls.__dataclass_fields__))
        if unknown:
            raise UserError(f"a run has no option {unknown[0]!r}")
        try:
            check_types(cls, fields)
            fields["lora"] = LoraOptions(**fields.get("lora", {}))
            check_types(LoraOptions, vars(fields["lora"]), "lora.")
            return cls(**fields)
        except TypeError as error:
            raise UserError(f"a run's settings do not fit: {error}") from error


@dataclass(frozen=True)
class EvaluationOptions:
    """What a model is evaluated on, and how.

    Args:
        data: JSONL file of rows; with a task, the name of a split, unset for its test.
        task: A task of `semtube data list`; for rows of your own exact, pattern, choice, or
            module:function. Unset for the run's own, or exact.
        task_options: Options of the task; unset for the run's own, where the task is its own.
        data_folder: Folder with the task's files, or hf://datasets/OWNER/NAME; unset, they are
            looked for in $SEMTUBE_DATA and the cache, then fetched from their source.
        chat_form: Put chat rows by the model's chat `template`, or as `plain` text, every turn with
            a blank line behind it; unset for the run's own, or `template`.
        output: New folder for examples.jsonl and metrics.json; for a run, unset is
            RUN/evaluation-NAME after data and task.
        max_tokens: Longer rows are left out; unset for the run's own limit, or 512.
        batch_tokens: Prompt and answer tokens decoded together; less needs less memory.
        limit: Only the first so many rows.
        max_new_tokens: No answer is longer; unset for twice the longest right answer of the rows.
        engine: What decodes: `transformers`, or the URL of an OpenAI-compatible server of the same
            model, such as vLLM's. Engines differ in the last bit: compare models under one only.
        trust_remote_code: Run code that comes with the model. Off unless you trust its author.
    """

    data: str | None = None
    task: str | None = None
    task_options: dict[str, Any] | None = None
    data_folder: str | None = None
    chat_form: Literal["template", "plain"] | None = None
    output: str | None = None
    max_tokens: int | None = None
    batch_tokens: int = BATCH_TOKENS
    limit: int | None = None
    max_new_tokens: int | None = None
    engine: str = "transformers"
    trust_remote_code: bool = False

    def check(self) -> None:
        """Refuse values that cannot be meant.

        Raises:
            UserError: naming the option, its value and what it may be.
        """
        for name in ("max_tokens", "batch_tokens", "limit", "max_new_tokens"):
            value = getattr(self, name)
            _need(value is None or value >= 1, name, value, "at least 1")
        is_known = self.engine == "transformers" or "://" in self.engine
        _need(is_known, "engine", self.engine, "transformers, or the URL of a server")


@dataclass(frozen=True)
class ProbeOptions:
    """On which rows trajectories are measured, and what of them.

    Args:
        data: JSONL file of rows; with a task, the name of a split, unset for its test.
        task: A task of `semtube data list`; unset for the first run's own, or rows of your own.
        task_options: Options of the task; unset for the first run's own.
        data_folder: Folder with the task's files, or hf://datasets/OWNER/NAME; unset, they are
            looked for in $SEMTUBE_DATA and the cache, then fetched from their source.
        chat_form: Put chat rows by the model's chat `template`, or as `plain` text; unset for the
            run's own, or `template`.
        output: New folder for the table, pictures and page; for one run, unset is RUN/probe.
        start: Also probe the model that each run began with, in front of it, and compare the run
            with it.
        layers: Which ones, with commas between, as 1,3,before_norm,last: numbers from 1,
            before_norm (what the last norm is given) and last (behind it); unset or all for all.
        content: Tokens of a trajectory: `text` (prompt and answer), `instruction` (the system
            prompt too), `answer`, or `all`.
        measures: `all`, or `cheap` for those that a log can afford.
        limit: Only the first so many rows.
        cone_prompts: How many of these rows' prompts are continued, greedily and sampled, to
            measure the cone; 0 for none.
        drawn_examples: How many trajectories are drawn, the first rows.
        max_tokens: Longer rows are left out; unset for the run's own limit, or 512.
        batch_tokens: Tokens of a batch, padding included; less needs less memory.
        seed: Of all that is drawn at random, nulls included.
        trust_remote_code: Run code that comes with the model. Off unless you trust its author.
    """

    data: str | None = None
    task: str | None = None
    task_options: dict[str, Any] | None = None
    data_folder: str | None = None
    chat_form: Literal["template", "plain"] | None = None
    output: str | None = None
    start: bool = False
    layers: str | None = None
    content: Literal["text", "instruction", "answer", "all"] = "text"
    measures: Literal["all", "cheap"] = "all"
    limit: int = 200
    cone_prompts: int = 200
    drawn_examples: int = 3
    max_tokens: int | None = None
    batch_tokens: int = 4096
    seed: int = 0
    trust_remote_code: bool = False

    def check(self) -> None:
        """Refuse values that cannot be meant.

        Raises:
            UserError: naming the option, its value and what it may be.
        """
        for name in ("max_tokens", "batch_tokens", "limit", "drawn_examples"):
            value = getattr(self, name)
            _need(value is None or value >= 1, name, value, "at least 1")
        _need(self.cone_prompts >= 0, "cone_prompts", self.cone_prompts, "0 or more")
        wanted = "layers with commas between, as 1,before_norm,last, or all"
        _need(self.asked_layers() != [], "layers", repr(self.layers), wanted)

    def asked_layers(self) -> list[str] | None:
        """The layers' names as they were written, for `models.layer_states`; None for all."""
        if self.layers is None or self.layers == "all":
            return None
        return re.findall(r"[^\s,\[\]'\"]+", self.layers)


#: How a type is called, and what is of it.
_KINDS: dict[Any, tuple[str, Callable[[Any], bool]]] = {
    str: ("a text", lambda value: isinstance(value, str)),
    bool: ("true or false", lambda value: isinstance(value, bool)),
    int: ("a whole number", lambda value: isinstance(value, int) and not isinstance(value, bool)),
    float: (
        "a number",
        lambda value: isinstance(value, int | float) and not isinstance(value, bool),
    ),
    list: ("a list", lambda value: isinstance(value, list | tuple)),
    dict: ("a mapping", lambda value: isinstance(value, Mapping)),
    Mapping: ("a mapping", lambda value: isinstance(value, Mapping)),
    LoraOptions: ("a mapping", lambda value: isinstance(value, Mapping)),
    type(None): ("unset", lambda value: value is None),
}


_hints = functools.cache(get_type_hints)


def check_types(kind: type, values: Mapping[str, Any], prefix: str = "") -> None:
    """Refuse a value that is not of its field's type; fields of other types are not looked at.

    Args:
        kind: a dataclass.
        values: of some of its fields, by name.
        prefix: of their names in errors.

    Raises:
        UserError: naming the field, its value and what it may be.
    """
    for name, value in values.items():
        hint = _hints(kind)[name]
        hints = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
        choices = [c for h in hints if get_origin(h) is Literal for c in get_args(h)]
        kinds = [get_origin(h) or h for h in hints]
        if choices and (value is not None or type(None) not in kinds):
            check_one_of(f"{prefix}{name}", value, choices)
        elif all(k in _KINDS for k in kinds) and not any(_KINDS[k][1](value) for k in kinds):
            wanted = ", or ".join(_KINDS[k][0] for k in kinds)
            raise UserError(f"{prefix}{name} is {value!r}: it must be {wanted}")


def check_one_of(name: str, value: Any, known: Iterable[Any]) -> None:
    """Refuse a value that is not among the known ones.

    Raises:
        UserError: with the nearest right one, where one is near.
    """
    names = [str(other) for other in known]
    if value not in list(known):
        near = difflib.get_close_matches(str(value), names, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"it must be one of {', '.join(names)}"
        raise UserError(f"{name} is {value!r}: {hint}")


def _as_floats(value: Any) -> Any:
    """4 and 4.0 are one setting."""
    if isinstance(value, dict):
        return {name: _as_floats(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_as_floats(inner) for inner in value]
    return float(value) if type(value) is int else value


def _need(holds: bool, name: str, value: object, wanted: str) -> None:
    if not holds:
        raise UserError(f"{name} is {value}: it must be {wanted}")
