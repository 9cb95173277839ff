"""Probe checkpoints: the same rows through each, every measure beside its nulls, in one folder."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

import torch
from transformers.utils import logging as transformers_logging

from semtube.config import ProbeOptions, RunConfig
from semtube.data.examples import Example
from semtube.data.fractions import fingerprint
from semtube.data.rendering import Renderer
from semtube.data.tokens import tokenize_rows
from semtube.errors import UserError
from semtube.evaluation.held_out import measure_held_out
from semtube.geometry.measures import MEASURES, null_values
from semtube.geometry.nulls import NULLS
from semtube.models.layer_states import layer_names
from semtube.models.loading import LoadedModel, load_model
from semtube.objectives.trajectories import CONTENT_ROLES
from semtube.run_folder import RunFolder, write_json
from semtube.study.checkpoint_probe import CheckpointProbe, check_probed
from semtube.study.environment import describe_environment
from semtube.study.evaluate import find_model, max_tokens_of, with_task
from semtube.study.phrases import repeated_phrases
from semtube.study.probe_cone import ConeProbe
from semtube.study.probe_pictures import ProbePictures
from semtube.study.probe_sets import cheap_sets, dear_sets, drifts, null_sets
from semtube.study.probe_table import NULL, Row, TableWriter, writing_table
from semtube.study.run import RunListener, prepare
from semtube.study.splits import read_rows
from semtube.tasks.catalogue import build_scorer
from semtube.tasks.task import Task

#: Paths of each null that are simulated. Ours.
NULL_PATHS = 16


@dataclass(frozen=True)
class Checkpoint:
    """One model to probe.

    Args:
        name: in the table.
        load: gives the model; only one is in memory at a time.
        config: of its run, if it is one.
    """

    name: str
    load: Callable[[], LoadedModel]
    config: RunConfig | None


def probe_models(
    models: Sequence[str],
    options: ProbeOptions,
    *,
    say: Callable[[str], None] = lambda sentence: None,
    on_progress: Callable[[str, int, int], None] = lambda checkpoint, num_done, num_rows: None,
) -> Path:
    """Measure every model on the same rows; returns the folder.

    It holds table.csv (see `probe_table`), pictures.json (what pictures are drawn from) and
    probe.json (settings, what was left out and why, environment); it appears whole or not at all.

    Args:
        models: folders of runs, or models by name; the first is what others are compared with.
        on_progress: told checkpoint, rows done and rows.

    Raises:
        UserError: bad model, data, layer or output, or states that are not finite.
    """
    options.check()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    checkpoints = _checkpoints(models, options)
    options = with_task(options, checkpoints[0].config)
    folder = _free_folder(models, options)
    examples = _examples(options)
    part = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    try:
        with writing_table(part / "table.csv") as table:
            probing = _Probing(options, examples, table, say, on_progress)
            for checkpoint in checkpoints:
                probing.probe(checkpoint)
        probing.pictures.write(part / "pictures.json")
        settings = {"models": list(models), **asdict(options), "fingerprint": fingerprint(examples)}
        write_json(
            part / "probe.json",
            {
                "format": 1,
                "settings": settings,
                "checkpoints": probing.told,
                "environment": describe_environment(),
            },
        )
        part.rename(folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return folder


class _Probing:
    """What is kept from checkpoint to checkpoint: the first one, to compare with."""

    def __init__(
        self,
        options: ProbeOptions,
        examples: Sequence[Example],
        table: TableWriter,
        say: Callable[[str], None],
        on_progress: Callable[[str, int, int], None],
    ) -> None:
        self.options = options
        self.examples = examples
        self.table = table
        self.say = say
        self.on_progress = on_progress
        self.pictures = ProbePictures()
        self.told: list[dict[str, Any]] = []
        self._first: CheckpointProbe | None = None
        self._nulls: set[tuple[int, int]] = set()

    def probe(self, checkpoint: Checkpoint) -> None:
        """Measure one checkpoint and write what it gives."""
        loaded = checkpoint.load()
        check_probed(loaded.model)
        loaded.model.to("cuda" if torch.cuda.is_available() else "cpu")
        asked = self.options.layers
        layers = layer_names(loaded.model, None if asked is None else [str(name) for name in asked])
        config = checkpoint.config
        renderer = Renderer(
            loaded.tokenizer,
            loaded.stop_ids,
            labels=config.labels if config else "answer",
            train_stop=config.train_stop if config else True,
            chat_form=self.options.chat_form or "template",
        )
        tokens = tokenize_rows(
            self.examples,
            renderer,
            max_tokens_of(self.options, config, loaded.model),
            content_roles=CONTENT_ROLES[self.options.content],
            max_rows=self.options.limit,
        )
        for note in tokens.notes():
            self.say(f"{checkpoint.name}: {note}")
        pad_id = loaded.tokenizer.pad_token_id
        name = checkpoint.name
        probe = CheckpointProbe(
            name, loaded.model, tokens.rows, layers, repeated_phrases(tokens.rows), pad_id,
            self.options,
        )  # fmt: skip
        self.table.add(probe.documents(lambda done: self.on_progress(name, done, len(tokens.rows))))
        held_out = measure_held_out(
            loaded.model, tokens.rows, pad_id=pad_id, stop_ids=renderer.stop_ids,
            batch_tokens=self.options.batch_tokens,
        )  # fmt: skip
        loss = held_out.metrics["loss"]["mean"]
        if loss is not None:
            self.table.add([Row(name, "", "", "loss", loss)])
        for row, value in zip(tokens.rows, held_out.stop_log_probabilities, strict=True):
            if value is not None and math.isnan(value):
                raise UserError(
                    f"{name}, example {row.source}: the model's predictions are not a number; "
                    "probe a checkpoint whose weights are finite"
                )
        self.table.add(
            Row(name, "", row.source, "stop_log_probability", value)
            for row, value in zip(tokens.rows, held_out.stop_log_probabilities, strict=True)
            if value is not None
        )
        probe.read_views()
        reasons: dict[str, str] = {}
        self._write_sets(probe, reasons)
        cones = self._write_cone(probe, renderer.stop_ids, reasons)
        self._write_nulls(probe)
        self.pictures.add(probe, loaded.tokenizer)
        left_out = [
            {"layer": layer, "measure": measure, "length": length, "num_examples": number}
            for (layer, measure, length), number in probe.left_out.items()
        ]
        self.told.append(
            {
                "name": name,
                "layers": layers,
                "num_examples": len(tokens.rows),
                "num_too_long": len(tokens.too_long),
                "num_without_views": probe.num_without_views,
                "num_positions": len(probe.positions),
                "left_out": left_out,
                "not_measured": reasons,
                "cones": cones,
            }
        )
        # Weights are not needed any more; the states to compare with are.
        probe.model = None
        self._first = self._first or probe

    def _write_sets(self, probe: CheckpointProbe, reasons: dict[str, str]) -> None:
        rows, curves = cheap_sets(probe)
        self.table.add(rows)
        self.pictures.curves += curves
        if self.options.measures == "all":
            self.table.add(dear_sets(probe, reasons))
            if self._first is not None:
                self.table.add(drifts(self._first, probe, reasons))

    def _write_cone(
        self, probe: CheckpointProbe, stop_ids: frozenset[int], reasons: dict[str, str]
    ) -> list[dict[str, Any]]:
        if not self.options.cone_prompts or self.options.measures != "all":
            return []
        cone = ConeProbe(probe, stop_ids)
        rows, curves = cone.measure(reasons)
        self.table.add(rows)
        self.pictures.curves += curves
        return cone.fits

    def _write_nulls(self, probe: CheckpointProbe) -> None:
        """At the median length and the width of this checkpoint, unless they stand there."""
        roles = CONTENT_ROLES[self.options.content]
        num_tokens = round(median(row.num_tokens_of(roles) for row in probe.rows))
        width = probe.sums[probe.layers[0]].spectrum.width
        if (num_tokens, width) in self._nulls or num_tokens < 3:
            return
        of_size = f" ({num_tokens} tokens, width {width})" if self._nulls else ""
        self._nulls.add((num_tokens, width))
        dear = self.options.measures == "all"
        for null in NULLS:
            found = null_values(
                null, num_tokens=num_tokens, width=width, dear=dear, num_paths=NULL_PATHS,
                seed=self.options.seed,
            )  # fmt: skip
            for measure, value in found.items():
                lengths: tuple[int | None, ...] = MEASURES[measure].lengths or (None,)
                means = value.mean.reshape(-1).tolist()
                defined = value.defined.reshape(-1).tolist()
                self.table.add(
                    Row(f"{NULL}{null}{of_size}", "", "", measure, mean, length)
                    for length, mean, is_defined in zip(lengths, means, defined, strict=True)
                    if is_defined
                )
        self.table.add(
            replace(row, checkpoint=row.checkpoint + of_size) for row in null_sets(probe)
        )


def _checkpoints(models: Sequence[str], options: ProbeOptions) -> list[Checkpoint]:
    """Every model under a name of its own; before a run, if asked for, what it began with."""
    if len(set(models)) < len(models):
        twice = next(model for model in models if models.count(model) > 1)
        raise UserError(f"{twice!r} is given twice: name each checkpoint once")
    names = _short_names(models)
    found = []
    for model, name in zip(models, names, strict=True):
        where, config = find_model(model)
        if options.start:
            if config is None:
                raise UserError(
                    f"{model!r} is no run, so what it began with is unknown: no --start"
                )
            found.append(Checkpoint(f"{name} at start", _starting(config), config))
        found.append(Checkpoint(name, _loading(where, options), config))
    return found


def _loading(where: str, options: ProbeOptions) -> Callable[[], LoadedModel]:
    return lambda: load_model(where, trust_remote_code=options.trust_remote_code)


def _starting(config: RunConfig) -> Callable[[], LoadedModel]:
    return lambda: prepare(config, RunListener()).loaded


def _short_names(models: Sequence[str]) -> list[str]:
    """The last part of each path, or as many as tell them apart."""
    # As they were given: a link's own name says more than that of the folder behind it.
    parts = [Path(model).absolute().parts if Path(model).exists() else (model,) for model in models]
    for number in range(1, max(map(len, parts)) + 1):
        names = ["/".join(part[-number:]) for part in parts]
        if len(set(names)) == len(names):
            return names
    raise UserError(f"{models[0]!r} and another are the same folder: name each checkpoint once")


def _free_folder(models: Sequence[str], options: ProbeOptions) -> Path:
    is_run = len(models) == 1 and RunFolder(models[0]).identity.is_file()
    if options.output is None and not is_run:
        raise UserError("--output is needed where several checkpoints, or no run, are probed")
    folder = Path(options.output or Path(models[0]) / "probe")
    if folder.exists():
        raise UserError(f"output {str(folder)!r} exists: choose another with --output")
    return folder


def _examples(options: ProbeOptions) -> list[Example]:
    scorer = build_scorer(str(options.task), options.task_options or {})
    split = options.data or ("test" if isinstance(scorer, Task) else None)
    if split is None:
        raise UserError(f"data is unset: task {options.task!r} needs a JSONL file of rows")
    return read_rows(scorer, split, options.data_folder)
