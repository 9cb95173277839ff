"""A table of a report: its cells as numbers and texts, written as HTML, Markdown and CSV."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from semtube.report.escaping import csv_text, markdown_text

Kind = Literal["text", "count", "number", "percent", "points", "p", "factor", "setting", "range"]


@dataclass(frozen=True)
class Column:
    """One column.

    Args:
        name: its key in CSV and JSON.
        header: its head; units stand there.
        kind: how its values are shown. percent and points: shares, shown times 100; p: a p-value;
            factor: a ratio; setting: a number as it was set; range: a text from number to number.
    """

    name: str
    header: str
    kind: Kind = "text"

    def show(self, value: Any) -> str:
        """A value as a reader sees it; a dash for none; a text as it is, also among numbers."""
        if value is None:
            return "-"
        if isinstance(value, str | bool) or self.kind == "text":
            return str(value)
        if not math.isfinite(value):
            return "no end" if math.isinf(value) else "-"
        match self.kind:
            case "count":
                return f"{value:,.0f}"
            case "percent":
                return f"{100 * value:.1f}"
            case "points":
                return f"{100 * value:+.1f}"
            case "p":
                return "< 0.0001" if value < 1e-4 else f"{value:.4f}"
            case "factor":
                return f"{value:.2f}"
            case _:
                return f"{value:.4g}"


@dataclass(frozen=True)
class Table:
    """Rows of values under columns.

    Args:
        name: of its CSV file, without suffix.
        caption: how to read it.
        rows: column name -> value; a missing one is none.
    """

    name: str
    title: str
    caption: str
    columns: Sequence[Column]
    rows: Sequence[Mapping[str, Any]]

    def shown(self) -> list[list[str]]:
        """The rows as texts."""
        return [[c.show(row.get(c.name)) for c in self.columns] for row in self.rows]

    def markdown(self) -> str:
        """Heading, table and caption."""
        lines = [
            [markdown_text(column.header) for column in self.columns],
            [":---" if column.kind == "text" else "---:" for column in self.columns],
            *[[markdown_text(cell) for cell in row] for row in self.shown()],
        ]
        table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
        return f"### {markdown_text(self.title)}\n\n{table}\n\n{markdown_text(self.caption)}\n"

    def csv(self) -> str:
        """Full numbers, empty where there is none."""
        return as_csv([column.name for column in self.columns], self.rows)


def as_csv(names: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows as CSV, texts safe to open in a spreadsheet."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(names)
    for row in rows:
        writer.writerow([_csv_cell(row.get(name)) for name in names])
    return text.getvalue()


def _csv_cell(value: Any) -> Any:
    if value is None:
        return ""
    return csv_text(value) if isinstance(value, str) else value
