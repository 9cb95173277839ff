"""Probe checkpoints: the same rows through each, every measure beside its nulls, in one folder."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from transformers.utils import logging as transformers_logging

from semtube.config import ProbeOptions
from semtube.data.examples import Example
from semtube.data.fractions import fingerprint
from semtube.data.rendering import Rendered, Renderer
from semtube.data.tokens import TokenRows, tokenize_rows
from semtube.errors import UserError
from semtube.evaluation.held_out import measure_held_out
from semtube.geometry.measures import PROBE_FORMAT
from semtube.models.decoder import causal_lm_of
from semtube.models.layer_states import layer_names
from semtube.models.loading import LoadedModel
from semtube.objectives.trajectories import CONTENT_ROLES, PROMPT
from semtube.run_folder import RunFolder, write_json
from semtube.study.checkpoint_probe import CheckpointProbe, check_probed
from semtube.study.environment import describe_environment
from semtube.study.evaluate import max_tokens_of, read_asked, renderer_of, with_task
from semtube.study.phrases import repeated_phrases
from semtube.study.probe_checkpoints import Checkpoint, list_checkpoints
from semtube.study.probe_cone import ConeProbe
from semtube.study.probe_nulls import ProbeNulls
from semtube.study.probe_pictures import ProbePictures
from semtube.study.probe_sets import cheap_sets, dear_sets, drifts
from semtube.study.probe_table import Row, TableWriter, writing_table


def probe_models(
    models: Sequence[str],
    options: ProbeOptions,
    *,
    draw: Callable[[Path], object] = lambda folder: None,
    say: Callable[[str], None] = lambda sentence: None,
    on_progress: Callable[[str, int, int], None] = lambda checkpoint, num_done, num_rows: None,
) -> Path:
    """Measure every model on the same rows; returns the folder.

    It holds table.csv (see `probe_table`), pictures.json (what pictures are drawn from) and
    probe.json (settings, what was left out and why, environment); it appears whole or not at all.

    Args:
        models: folders of runs, or models by name; others are compared with the first, or a run
            with its own start, if starts are probed.
        draw: called with the folder before it gets its name, to put pictures into it.
        on_progress: told checkpoint, rows done and rows.

    Raises:
        UserError: bad model, data, layer or output, or states that are not finite.
    """
    options.check()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    checkpoints = list_checkpoints(models, options)
    options = with_task(options, checkpoints[0].config)
    folder = _free_folder(models, options)
    _, examples = read_asked(options)
    part = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    try:
        with writing_table(part / "table.csv") as table:
            probing = Probing(options, examples, table, say, on_progress)
            for checkpoint in checkpoints[1:]:
                probing.open(checkpoint)
            for checkpoint in checkpoints:
                probing.measure(checkpoint, probing.open(checkpoint))
            if len(checkpoints) == 1 and options.measures == "all":
                why = "it needs a second checkpoint to compare with"
                probing.told[0]["not_measured"]["drift"] = why
        probing.pictures.write(part / "pictures.json")
        settings = {"models": list(models), **asdict(options), "fingerprint": fingerprint(examples)}
        write_json(
            part / "probe.json",
            {
                "format": PROBE_FORMAT,
                "settings": settings,
                "checkpoints": probing.told,
                "environment": describe_environment(),
            },
        )
        draw(part)
        part.rename(folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return folder


@dataclass(frozen=True)
class Opened:
    """A checkpoint ready to be measured: its model, layers and rows."""

    loaded: LoadedModel
    layers: list[str]
    renderer: Renderer
    tokens: TokenRows


class Probing:
    """Measures one checkpoint after another, and keeps the one that others are compared with."""

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
        self._nulls = ProbeNulls(options)
        self._reference: CheckpointProbe | None = None

    def open(self, checkpoint: Checkpoint) -> Opened:
        """The model, its layers and its rows.

        Cheap, so that what is wrong with a later checkpoint is told before the first is measured.

        Raises:
            UserError: a model that cannot be probed, a layer it lacks, or rows it cannot read.
        """
        options, config = self.options, checkpoint.config
        loaded = checkpoint.load()
        check_probed(loaded.model)
        layers = layer_names(loaded.model, options.asked_layers())
        renderer = renderer_of(loaded, options, config)
        tokens = tokenize_rows(
            self.examples,
            renderer,
            max_tokens_of(options, config, loaded.model),
            content_roles=CONTENT_ROLES[options.content],
            max_rows=options.limit,
        )
        return Opened(loaded, layers, renderer, tokens)

    def measure(self, checkpoint: Checkpoint, opened: Opened) -> None:
        """Measure one checkpoint and write what it gives.

        The cheap measures are those of `GeometryCallback` and the spectral tail, from one forward
        pass over the rows. The dear ones take more: one with logits, one over prompts and answers
        apart, and what is written for the cone.
        """
        loaded, layers, tokens = opened.loaded, opened.layers, opened.tokens
        stop_ids, is_dear = opened.renderer.stop_ids, self.options.measures == "all"
        self._say_notes(checkpoint.name, tokens)
        loaded.model.to("cuda" if torch.cuda.is_available() else "cpu")
        name, pad_id = checkpoint.name, loaded.tokenizer.pad_token_id
        phrases = repeated_phrases(tokens.rows, seed=self.options.seed) if is_dear else []
        probe = CheckpointProbe(
            name, loaded.model, tokens.rows, layers, phrases, pad_id, self.options
        )
        reasons: dict[str, str] = {}
        documents = probe.documents(lambda done: self.on_progress(name, done, len(tokens.rows)))
        self.table.add(documents, reasons)
        if is_dear:  # which takes longer than the rows where these are few
            self.say(f"{name}: all rows measured; next their states as sets, the cone, the nulls")
            self.table.add(self._predictions(probe, stop_ids), reasons)
            probe.read_views()
        self._write_sets(probe, reasons)
        cones = self._write_cone(probe, stop_ids, reasons) if is_dear else []
        self.table.add(self._nulls.rows(probe), reasons)
        self.pictures.add(probe, loaded.tokenizer)
        reference = self._reference
        same_tokens = reference is None or reference.has_tokens_of(probe)
        if checkpoint.compared_with is None:
            self._reference, same_tokens = probe, True
        left_out = [
            {"layer": layer, "measure": measure, "length": length, "num_examples": number}
            for (layer, measure, length), number in probe.left_out.items()
        ]
        self.told.append(
            {
                "name": name,
                "compared_with": checkpoint.compared_with,
                "same_tokens": same_tokens,
                "layers": layers,
                "num_examples": len(tokens.rows),
                "num_too_long": len(tokens.too_long),
                "num_without_views": probe.num_without_views if is_dear else 0,
                "num_positions": len(probe.positions),
                "left_out": left_out,
                "not_measured": reasons,
                "cones": cones,
            }
        )
        # Weights are not needed any more; the states to compare with are.
        probe.model = None

    def _say_notes(self, name: str, tokens: TokenRows) -> None:
        for note in tokens.notes():
            self.say(f"{name}: {note}")
        if self.options.content == "answer" and (number := _num_without_prompt(tokens.rows)):
            self.say(
                f"{name}: {number} of {len(tokens.rows)} rows have no prompt: all of their text "
                "counts as the answer"
            )

    def _predictions(self, probe: CheckpointProbe, stop_ids: frozenset[int]) -> list[Row]:
        """Loss and stopping, beside those of a model that finds all tokens alike.

        Raises:
            UserError: predictions that are not a number.
        """
        held_out = measure_held_out(
            probe.model, probe.rows, pad_id=probe.pad_id, stop_ids=stop_ids,
            batch_tokens=self.options.batch_tokens,
        )  # fmt: skip
        name, loss = probe.name, held_out.metrics["loss"]["mean"]
        stops = held_out.stop_log_probabilities
        bad = [row.source for row, value in zip(probe.rows, stops, strict=True)
               if value is not None and math.isnan(value)]  # fmt: skip
        if bad or (loss is not None and not math.isfinite(loss)):
            where = f", example {bad[0]}" if bad else ""
            raise UserError(
                f"{name}{where}: the model's predictions are not a number; "
                "probe a checkpoint whose weights are finite"
            )
        alike = math.log(causal_lm_of(probe.model).config.get_text_config().vocab_size)
        rows = [
            Row(name, "", row.source, "stop_log_probability", value)
            for row, value in zip(probe.rows, stops, strict=True)
            if value is not None
        ]
        if rows:
            rows.append(Row(name, "", "", "stop_log_probability", -alike, null="all tokens alike"))
        if loss is not None:
            rows.append(Row(name, "", "", "loss", loss))
            rows.append(Row(name, "", "", "loss", alike, null="all tokens alike"))
        return rows

    def _write_sets(self, probe: CheckpointProbe, reasons: dict[str, str]) -> None:
        rows, curves = cheap_sets(probe, reasons)
        self.table.add(rows, reasons)
        self.pictures.curves += curves
        if self.options.measures == "all":
            self.table.add(dear_sets(probe, reasons), reasons)
            if self._reference is not None:
                self.table.add(drifts(self._reference, probe, reasons), reasons)

    def _write_cone(
        self, probe: CheckpointProbe, stop_ids: frozenset[int], reasons: dict[str, str]
    ) -> list[dict[str, Any]]:
        if not self.options.cone_prompts:
            return []
        cone = ConeProbe(probe, stop_ids)
        rows, curves = cone.measure(reasons)
        self.table.add(rows, reasons)
        self.pictures.cones += curves
        return cone.fits


def _num_without_prompt(rows: Sequence[Rendered]) -> int:
    return sum(PROMPT not in row.roles for row in rows)


def _free_folder(models: Sequence[str], options: ProbeOptions) -> Path:
    is_run = len(models) == 1 and RunFolder(models[0]).identity.is_file()
    if options.output is None and not is_run:
        raise UserError("--output is needed where several checkpoints, or no run, are probed")
    folder = Path(options.output or Path(models[0]) / "probe")
    if folder.exists():
        raise UserError(f"output {str(folder)!r} exists: choose another with --output")
    above = next(parent for parent in folder.absolute().parents if parent.exists())
    if not above.is_dir():
        raise UserError(f"output {str(folder)!r} would stand in {str(above)!r}, which is a file")
    return folder
