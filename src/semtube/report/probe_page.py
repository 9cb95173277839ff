"""A probe's page: its pictures, its tables, and what was left out."""

from __future__ import annotations

import json
import shlex
from dataclasses import fields
from pathlib import Path

from semtube.config import ProbeOptions
from semtube.geometry.measures import MEASURES
from semtube.report.offline_page import page, write_parts
from semtube.report.probe_data import ProbeData, read_probe
from semtube.report.probe_figures import curve_figure, layer_figure, length_figure
from semtube.report.probe_path_figures import cone_figure, path_figures
from semtube.report.probe_tables import (
    checkpoint_table,
    cone_table,
    left_out,
    row_table,
    sentences,
    set_table,
)
from semtube.report.probe_words import WORDS
from semtube.run_folder import write_text

#: Tokens of the windows that have a table; the others stand in a figure and in table.csv.
WINDOW = 8


def write_probe_page(folder: Path) -> Path:
    """FOLDER/index.html from what `semtube probe` stored there, with csv/ and figures/ beside it.

    Raises:
        UserError: no probe, or one of a newer version.
    """
    data = read_probe(folder)
    paths = path_figures(data)
    found = (
        layer_figure(data, of_sets=False),
        length_figure(data),
        layer_figure(data, of_sets=True),
        cone_figure(data),
        curve_figure(data),
    )
    others = [figure for figure in found if figure is not None]
    last_two = data.layers[:-3:-1]
    tables = [
        checkpoint_table(data),
        *(row_table(data, layer) for layer in last_two),
        *(row_table(data, layer, length=WINDOW) for layer in last_two),
        set_table(data),
        cone_table(data),
    ]
    tables = [table for table in tables if table.rows]
    write_parts(folder, tables, [*paths, *others])
    text = page(
        "probe.html.jinja",
        figures=[*paths, *others],
        names=data.names,
        sentences=sentences(data),
        left_out=left_out(data),
        paths=paths,
        others=others,
        tables=tables,
        words=[WORDS[name] for name in MEASURES if name in WORDS],
        command=_command(data),
        settings=_settings(data),
        contents=[
            *([("trajectories", "Trajectories")] if paths else []),
            ("figures", "Figures"),
            ("tables", "Tables"),
            ("reproduce", "Settings"),
        ],
    )
    write_text(folder / "index.html", text)
    return folder / "index.html"


def _command(data: ProbeData) -> str:
    """What gives this probe again; settings that are what they are anyway are left out."""
    words = ["semtube", "probe", *data.settings["models"]]
    for option in fields(ProbeOptions):
        value = data.settings.get(option.name)
        if option.name != "output" and value != option.default:
            shown = value if isinstance(value, str) else json.dumps(value)
            words += [f"--{option.name}", shown]
    return shlex.join([*words, "--output", "FOLDER"])


def _settings(data: ProbeData) -> list[tuple[str, str]]:
    shown = {**data.settings, **data.environment}
    return [(name, str(value)) for name, value in shown.items() if value not in (None, {}, [])]
