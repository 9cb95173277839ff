"""The paper's tables in their form, its values beside those of a study."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from semtube.report import stp_published as paper
from semtube.report.study_cells import Cell, place_name
from semtube.report.study_comparisons import compare
from semtube.report.study_data import Place, StudyData
from semtube.report.table import Column, Table

OTHER_MODEL = (
    "The paper's values are of Llama-3.2-1B-Instruct, 1.2 billion parameters, whose stop token was "
    "not trained; where this study ran another model or regime the two columns show direction and "
    "size of an effect, not a reproduction."
)
_ARM = [Column("arm", "arm"), Column("paper_name", "in the paper")]


def published_tables(data: StudyData, cells: Sequence[Cell], place: Place | None) -> list[Table]:
    """Every table of the paper for which this study has something to put beside it.

    Args:
        place: where ours are read: the point that decides, or the first.
    """
    if place is None:
        return []
    here = [cell for cell in cells if cell.place == place and cell.mean is not None]
    tables = [
        _accuracy(data, here, place),
        _fractions(data, cells),
        _endings(data, here, place),
        _weights(data),
        _p_values(data, place),
    ]
    return [table for table in tables if table is not None and table.rows]


def _objective(data: StudyData, arm: str) -> str:
    return str(data.study.arms[arm].get("objective", data.study.base.get("objective", "tube")))


def _accuracy(data: StudyData, cells: Sequence[Cell], place: Place) -> Table | None:
    """The main table (Figure 5a) and the ablations."""
    task = str(data.study.base.get("task"))
    published = dict(paper.ACCURACY.get(task, {}))
    if task == "nl-rx-synth":
        published |= paper.ABLATIONS
    if not published:
        return None
    rows = []
    for cell in cells:
        objective = _objective(data, cell.arm)
        mean, deviation = published.get(objective, (None, None))
        rows.append({
            "arm": cell.arm, "paper_name": paper.PAPER_NAMES.get(objective),
            "ours": cell.mean, "our_deviation": cell.deviation, "seeds": len(cell.seeds),
            "paper": None if mean is None else mean / 100,
            "paper_deviation": None if deviation is None else deviation / 100,
        })  # fmt: skip
    if not any(row["paper"] is not None for row in rows):
        return None
    return Table(
        "published_accuracy",
        "Accuracy beside the paper's main table and ablations",
        f"{task}, ours at {place_name(place)}; the paper's at all training rows, five seeds, mean "
        f"and deviation in per cent; of a family with variants, its best. {OTHER_MODEL}",
        [
            *_ARM,
            Column("paper", "paper, %", "percent"),
            Column("paper_deviation", "deviation", "percent"),
            Column("ours", "ours, %", "percent"),
            Column("our_deviation", "deviation", "percent"),
            Column("seeds", "our seeds", "count"),
        ],
        rows,
    )


def _fractions(data: StudyData, cells: Sequence[Cell]) -> Table | None:
    """The printed points of the curve of Figure 1b."""
    if data.study.base.get("task") != "nl-rx-synth":
        return None
    rows = []
    for fraction, values in paper.FRACTIONS.items():
        for objective, accuracy in values.items():
            for cell in cells:
                is_same = dict(cell.place).get("fraction") == fraction
                if is_same and _objective(data, cell.arm) == objective:
                    rows.append({"arm": cell.arm, "paper_name": paper.PAPER_NAMES[objective],
                                 "fraction": fraction, "paper": accuracy / 100,
                                 "ours": cell.mean})  # fmt: skip
    return Table(
        "published_fractions",
        "The two printed points of the paper's Figure 1b",
        "The paper's claim of 16 times less data rests on these two: the tube with a sixteenth of "
        f"the rows beside next-token prediction with all of them. {OTHER_MODEL}",
        [
            *_ARM,
            Column("fraction", "fraction", "setting"),
            Column("paper", "paper, %", "percent"),
            Column("ours", "ours, %", "percent"),
        ],
        rows,
    )


def _endings(data: StudyData, cells: Sequence[Cell], place: Place) -> Table | None:
    """Table 1: accuracy by how the right answer ends."""
    if data.study.base.get("task") != "nl-rx-synth":
        return None
    rows: list[dict[str, Any]] = []
    for cell in cells:
        objective = _objective(data, cell.arm)
        prefix = f"{data.study.primary}, "
        for name, mean in cell.metrics.items():
            if not name.startswith(prefix):
                continue
            ending = name.removeprefix(prefix)
            published = paper.ENDINGS.get(ending, {}).get(objective)
            rows.append({
                "arm": cell.arm, "paper_name": paper.PAPER_NAMES.get(objective), "ending": ending,
                "paper": None if published is None else published / 100, "ours": mean,
            })  # fmt: skip
    return Table(
        "published_endings",
        "Accuracy by ending, the paper's Table 1",
        f"Ours at {place_name(place)}, means over seeds. Only 25 of the 2,000 test answers end in "
        f".*.*, so the paper's 68, 28 and 32 % are 17, 7 and 8 rows. {OTHER_MODEL}",
        [
            *_ARM,
            Column("ending", "right answer"),
            Column("paper", "paper, %", "percent"),
            Column("ours", "ours, %", "percent"),
        ],
        rows,
    )


def _weights(data: StudyData) -> Table | None:
    """Table 2: the best weight of the tube."""
    rows: list[dict[str, Any]] = []
    for arm, choices in data.choices.items():
        for choice in choices:
            weight = (choice.get("chosen") or {}).get("weight")
            if weight is not None and _objective(data, arm) == "tube":
                at = ", ".join(f"{axis} {value}" for axis, value in choice.get("at", {}).items())
                rows.append({"model": f"{data.study.base.get('model', 'tiny-2m')}, {arm}, {at}",
                             "ours": weight})  # fmt: skip
    if not rows:
        return None
    rows += [{"model": name, "paper": weight} for name, weight in paper.BEST_WEIGHTS.items()]
    return Table(
        "published_weights",
        "Best weight of the tube, the paper's Table 2",
        "Ours were chosen on validation rows, from the grid of the study alone; the paper names no "
        "validation split.",
        [
            Column("model", "model"),
            Column("paper", "paper", "setting"),
            Column("ours", "ours", "setting"),
        ],
        rows,
    )


def _p_values(data: StudyData, place: Place) -> Table | None:
    """Tables 4 and 5: one-sided paired tests between families, and between variants."""
    if data.study.base.get("task") != "nl-rx-synth":
        return None
    by_objective: dict[str, list[str]] = {}
    for arm in data.study.arms:
        by_objective.setdefault(_objective(data, arm), []).append(arm)
    arms = {objective: found[0] for objective, found in by_objective.items() if len(found) == 1}
    rows = []
    for table, pairs, names in (
        ("4", paper.FAMILY_P, arms),
        ("5", paper.VARIANT_P, {arm: arm for arm in data.study.arms}),
    ):
        for (better, worse), p in pairs.items():
            if better in names and worse in names:
                ours = compare(data, names[worse], names[better], [place])
                rows.append({"table": table, "better": names[better], "worse": names[worse],
                             "paper": p, "ours": ours.p_one_sided, "seeds": ours.num_seeds,
                             "difference": ours.difference})  # fmt: skip
    return Table(
        "published_p_values",
        "Is one arm better than another? The paper's Tables 4 and 5",
        f"Paired one-sided t-tests over seeds; ours at {place_name(place)}, not corrected for "
        "their number, as the paper's are not. Families are matched by objective, variants by the "
        "name of the arm. The paper found p = 0.037 between curvature and signed curvature, which "
        "its code computes alike: p-values of five seeds can be noise.",
        [
            Column("better", "better?"),
            Column("worse", "than"),
            Column("table", "table"),
            Column("paper", "paper's p", "p"),
            Column("ours", "our p", "p"),
            Column("difference", "our difference, points", "points"),
            Column("seeds", "our seeds", "count"),
        ],
        rows,
    )
