"""A study's report on disk: one page that needs nothing else, Markdown, CSV, figures, numbers."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from math import isfinite
from pathlib import Path
from typing import Any

from semtube.report.escaping import markdown_text
from semtube.report.marks import Figure
from semtube.report.offline_page import page, write_parts
from semtube.report.study_answer import Answer, answer
from semtube.report.study_cells import matching, shown_settings, study_cells
from semtube.report.study_changes import changes, first_hypothesis
from semtube.report.study_checks import fairness, missing, states
from semtube.report.study_comparisons import deciding, family
from semtube.report.study_curves import learning_curves, multipliers
from semtube.report.study_data import StudyData
from semtube.report.study_figures import arm_figure, difference_figure, fraction_figure
from semtube.report.study_published import published_tables
from semtube.report.study_reading import read_study
from semtube.report.study_row_figures import agreement_figure, ending_figure
from semtube.report.study_run_figures import (
    cost_figure,
    landscape_figure,
    trace_figure,
    weight_figure,
)
from semtube.report.study_run_tables import (
    environment_table,
    example_table,
    run_settings,
    run_table,
    setting_table,
    shared_settings,
    tuning_table,
)
from semtube.report.study_tables import (
    cell_table,
    comparison_table,
    curve_table,
    multiplier_table,
)
from semtube.report.table import Table
from semtube.run_folder import write_json, write_text


@dataclass(frozen=True)
class Report:
    """All that a report says, before it is written in any form."""

    data: StudyData
    answer: Answer
    tables: Sequence[Table]
    figures: Sequence[Figure]
    not_drawn: Sequence[str]
    examples: Table
    runs: Table
    environments: Table


def write_report(folder: Path) -> Path:
    """Read FOLDER's study and write FOLDER/report; returns the page, FOLDER/report/index.html.

    index.html is self-contained; beside it stand report.md, csv/, figures/ (png and svg) and
    summary.json, which holds the tables' numbers.

    Raises:
        UserError: no study, written by a newer version, or its runs were not scored on the same
            rows.
    """
    report = build_report(read_study(folder))
    target = folder / "report"
    settings = setting_table(run_settings(report.data))
    tables = [*report.tables, report.examples, report.runs, settings, report.environments]
    write_parts(target, tables, report.figures)
    write_json(target / "summary.json", summary(report))
    write_text(target / "report.md", markdown(report))
    write_text(target / "index.html", _page(report))
    return target / "index.html"


def build_report(data: StudyData) -> Report:
    """Every number, table and figure of a study."""
    cells = study_cells(data)
    comparisons = family(data)
    decides = deciding(data)
    saved, curves = multipliers(data, cells), learning_curves(data, cells)
    places = matching(data, data.study.deciding.get("at", {})) or data.places()
    first = places[0] if places else None
    figures, not_drawn = [], []
    for found in (
        fraction_figure(data, cells),
        difference_figure(data, comparisons),
        arm_figure(data, cells, first),
        weight_figure(data),
        landscape_figure(data),
        ending_figure(data, cells, first),
        agreement_figure(data, comparisons),
        trace_figure(data, cells, "loss", first),
        trace_figure(data, cells, "term_loss", first),
        cost_figure(data),
    ):
        if isinstance(found, Figure):
            figures.append(found)
        else:
            not_drawn.append(found)
    tables = [cell_table(data, cells), comparison_table(data, comparisons)]
    tables += [multiplier_table(data, saved)] if saved else []
    tables += [curve_table(data, curves)] if curves else []
    tables += [tuning_table(data)] if data.study.tuning else []
    tables += published_tables(data, cells, first)
    return Report(
        data=data,
        answer=answer(data, decides, saved, curves),
        tables=tables,
        figures=figures,
        not_drawn=not_drawn,
        examples=example_table(data, decides),
        runs=run_table(data),
        environments=environment_table(data),
    )


def _page(report: Report) -> str:
    return page(
        "study.html.jinja",
        figures=report.figures,
        study=report.data.study,
        answer=report.answer,
        contents=_contents(report),
        problems=missing(report.data),
        design=_design(report.data),
        fairness=fairness(report.data),
        not_drawn=report.not_drawn,
        tables=report.tables,
        examples=report.examples,
        runs=report.runs,
        environments=report.environments,
        configs={
            run: json.dumps(values, sort_keys=True, ensure_ascii=False)
            for run, values in run_settings(report.data).items()
        },
        commands=_commands(report.data),
    )


def _contents(report: Report) -> list[tuple[str, str]]:
    ids = {"design": "Design", "fairness": "Fairness", "figures": "Figures", "tables": "Tables"}
    ids |= {"examples": "Answers"} if report.examples.rows else {}
    return list((ids | {"runs": "Every run", "reproduce": "Reproduce"}).items())


def _design(data: StudyData) -> list[tuple[str, str]]:
    study = data.study
    at = shown_settings(study.deciding.get("at", {}))
    lines = [
        ("Question", study.question),
        ("Hypothesis, written before", first_hypothesis(study)),
        *(("Changed", sentence) for sentence in changes(study)),
        ("Primary score", f"{study.primary}; equivalent within {100 * study.margin:g} points"),
        ("Baseline", study.baseline),
        ("Comparison that decides", f"{study.deciding['arm']} against {study.baseline}, at: {at}"),
        ("Regime", f"{study.regime}, {study.updates}"),
        *((f"Arm {arm}", shown_settings(options)) for arm, options in study.arms.items()),
        *((f"Axis {axis}", ", ".join(map(str, values))) for axis, values in study.axes.items()),
        ("Settings of all runs", shown_settings(study.base)),
        ("Runs", f"{len(data.runs):,} planned: {states(list(data.runs.values()))}"),
    ]
    return lines


def _commands(data: StudyData) -> str:
    return (
        f"{data.study.command}    # does what is missing, then this report\n"
        f"semtube report FOLDER    # this report alone, from the study's folder"
    )


def summary(report: Report) -> dict[str, Any]:
    """The answer and the tables' numbers as plain values; not finite ones as None."""
    study = report.data.study
    return {
        "format": 1,
        "study": study.name,
        "question": study.question,
        "answer": asdict(report.answer),
        "states": states(list(report.data.runs.values())),
        "missing": missing(report.data),
        "tables": {t.name: [_plain(row) for row in t.rows] for t in report.tables},
        "figures": [figure.name for figure in report.figures],
        "settings": shared_settings(report.data),
        "environments": [_plain(row) for row in report.environments.rows],
    }


def _plain(row: Any) -> dict[str, Any]:
    return {
        name: None if isinstance(value, float) and not isfinite(value) else value
        for name, value in row.items()
    }


def markdown(report: Report) -> str:
    """The same report as Markdown, the figures as links to their files."""
    data = report.data
    parts = [
        f"# {markdown_text(report.answer.sentence)}",
        f"**{markdown_text(report.answer.headline)}.** Study {markdown_text(data.study.name)}.",
        *(markdown_text(note) for note in report.answer.notes),
    ]
    if problems := missing(data):
        parts += ["## What is missing", "\n".join(f"- {markdown_text(p)}" for p in problems)]
    parts += ["## Design", "\n".join(
        f"- {markdown_text(name)}: {markdown_text(value)}" for name, value in _design(data)
    )]  # fmt: skip
    parts += ["## Fairness", "\n".join(
        f"- **{check.state_word}** {markdown_text(check.sentence)}" for check in fairness(data)
    )]  # fmt: skip
    parts.append("## Figures")
    for figure in report.figures:
        title, caption = markdown_text(figure.title), markdown_text(figure.caption)
        links = f"[CSV](csv/figure_{figure.name}.csv), [SVG](figures/{figure.name}.svg)"
        parts += [f"### {title}", f"![{title}](figures/{figure.name}.png)", f"{caption} {links}"]
    parts.append("## Tables")
    parts += [table.markdown().strip() for table in report.tables]
    if report.examples.rows:
        parts += ["## Rows that tell the arms apart", report.examples.markdown().strip()]
    parts += ["## Every run", report.runs.markdown().strip()]
    parts.append(
        "The settings of every run: [CSV](csv/settings.csv), and in summary.json under settings."
    )
    parts += ["## Environment and commands", textwrap.indent(_commands(data), "    ")]
    parts.append(report.environments.markdown().strip())
    return "\n\n".join(parts) + "\n"
