"""The paper's tables in their form, its values beside those of a study."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from semtube.config import RunConfig
from semtube.report import stp_published as paper
from semtube.report.study_cells import Cell, place_name, shown_settings
from semtube.report.study_comparisons import compare
from semtube.report.study_data import Place, StudyData
from semtube.report.table import Column, Table

OTHER_MODEL = (
    "The paper's values are of Llama-3.2-1B-Instruct, 1.2 billion parameters, where no other model "
    "is named, and its stop token was not trained; where this study ran another model or regime "
    "the two columns show direction and size of an effect, not a reproduction."
)
SYNTH = "nl-rx-synth"
#: What an arm may set and still be one of the paper's; whatever else it sets makes it another.
OF_THE_PAPER = {"objective", "options", "weight", "weight_schedule", "learning_rate"}
#: Methods of their own wherever they are set.
OTHER_METHODS = ("weight_dropout", "neftune", "attention_dropout")
_ARM = [Column("arm", "arm"), Column("paper_name", "in the paper")]


def published_tables(data: StudyData, cells: Sequence[Cell], first: Place | None) -> list[Table]:
    """Every table of the paper for which this study has something to put beside it.

    Args:
        first: the point that decides, or the first one. Of every task and model ours are read at
            the point most like it among those with the most training rows.
    """
    scored = [cell for cell in cells if cell.mean is not None]
    points = _points(data, scored, first or ())
    tables = [_accuracy(data, scored, points), _weights(data)]
    if synth := [place for place in points if _task(data, place) == SYNTH]:
        point = max(synth, key=lambda place: _likeness(place, first or ()))
        here = [cell for cell in scored if cell.place == point]
        tables[1:1] = [_fractions(data, scored, point), _endings(data, here, point)]
        tables.append(_p_values(data, here, point))
    return [table for table in tables if table is not None and table.rows]


def _points(data: StudyData, cells: Sequence[Cell], first: Place) -> list[Place]:
    found: dict[tuple[str, str], list[Place]] = {}
    for place in dict.fromkeys(cell.place for cell in cells):
        found.setdefault((_task(data, place), _model(data, place)), []).append(place)
    return [
        max(places, key=lambda place: (_fraction(data, place), _likeness(place, first)))
        for places in found.values()
    ]


def _likeness(place: Place, other: Place) -> int:
    return len(set(place) & set(other))


def _at(data: StudyData, place: Place) -> Mapping[str, Any]:
    """What all arms share at a point."""
    return {**data.study.base, **dict(place)}


def _task(data: StudyData, place: Place) -> str:
    return str(_at(data, place).get("task", RunConfig.task))


def _model(data: StudyData, place: Place) -> str:
    return str(_at(data, place).get("model", RunConfig.model))


def _fraction(data: StudyData, place: Place) -> float:
    return float(_at(data, place).get("fraction", RunConfig.fraction))


def _method(data: StudyData, cell: Cell) -> paper.Setting | None:
    """How the paper's tables look up what a cell ran; None for what they cannot have."""
    planned = data.final(cell.arm, cell.place)[0]
    arm = data.study.arms[cell.arm]
    settings = {**data.study.base, **arm, **planned.point, **planned.tried}
    if set(arm) - OF_THE_PAPER or any(settings.get(name) for name in OTHER_METHODS):
        return None
    return paper.setting(
        settings.get("objective", RunConfig.objective),
        settings.get("options"),
        settings.get("weight_schedule", RunConfig.weight_schedule),
    )


def _fewer_rows(data: StudyData, places: Sequence[Place]) -> str:
    """A sentence where ours have seen fewer training rows than the paper's."""
    fractions = sorted({_fraction(data, place) for place in places})
    if fractions == [1.0]:
        return ""
    shares = " or ".join(
        "all" if share == 1 else f"1/{1 / share:.0f}" if (1 / share) % 1 == 0 else f"{share:g}"
        for share in fractions
    )
    return f"Ours with {shares} of the training rows, the paper's with all of them. "


def _share(percent: float | None) -> float | None:
    return None if percent is None else round(percent / 100, 6)


def _accuracy(data: StudyData, cells: Sequence[Cell], points: Sequence[Place]) -> Table | None:
    """The main table (Figure 5a), other models (5b) and the ablations (8)."""
    rows, used = [], []
    for place in points:
        task, model = _task(data, place), _model(data, place)
        named = paper.paper_model(model)
        printed = paper.ACCURACY.get((task, named), {})
        read_off = paper.ESTIMATES.get((task, named), {})
        here = []
        for cell in (cell for cell in cells if cell.place == place):
            method = _method(data, cell)
            values = (printed | read_off).get(method) if method else None
            mean, deviation = values or (None, None)
            here.append({
                "task": task, "model": model, "point": place_name(place), "arm": cell.arm,
                "paper_name": paper.NAMES.get(method) if method else None, "paper_model": named,
                "ours": cell.mean, "our_deviation": cell.deviation, "seeds": len(cell.seeds),
                "paper": _share(mean), "paper_deviation": _share(deviation),
                "note": "read off the image by others" if method in read_off else "",
            })  # fmt: skip
        if any(row["paper"] is not None for row in here):
            rows += here
            used.append(place)
    if not rows:
        return None
    usual = {"paper_model": paper.MAIN_MODEL, "note": ""}
    told = {name for name, value in usual.items() if any(row[name] != value for row in rows)}
    columns = [
        Column("point", "at"),
        *_ARM,
        Column("paper_model", "the paper's model"),
        Column("paper", "paper, %", "percent"),
        Column("paper_deviation", "deviation", "percent"),
        Column("ours", "ours, %", "percent"),
        Column("our_deviation", "deviation", "percent"),
        Column("seeds", "our seeds", "count"),
        Column("note", "note"),
    ]
    return Table(
        "published_accuracy",
        "Accuracy beside the paper's main table and ablations",
        f"{', '.join(dict.fromkeys(row['task'] for row in rows))}: means over seeds and deviations "
        "between them; the paper's over five seeds, at the best weight that it tried. "
        f"{_fewer_rows(data, used)}An arm that the paper does not have stands alone. {OTHER_MODEL}",
        [column for column in columns if column.name not in usual or column.name in told],
        rows,
    )


def _fractions(data: StudyData, cells: Sequence[Cell], point: Place) -> Table:
    """The printed points of the curve of Figure 1b."""
    others = [pair for pair in point if pair[0] != "fraction"]
    rows = [
        {"arm": cell.arm, "paper_name": paper.NAMES[method], "fraction": fraction,
         "paper": values[method] / 100, "ours": cell.mean}
        for fraction, values in paper.FRACTIONS.items()
        for cell in cells
        if set(others) <= set(cell.place)
        and _fraction(data, cell.place) == fraction
        and (method := _method(data, cell)) in values
    ]  # fmt: skip
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


def _endings(data: StudyData, cells: Sequence[Cell], point: Place) -> Table:
    """Table 1: accuracy by how the right answer ends."""
    rows: list[dict[str, Any]] = []
    prefix = f"{data.study.primary}, "
    for cell in cells:
        method = _method(data, cell)
        for name, mean in cell.metrics.items():
            if not name.startswith(prefix):
                continue
            ending = name.removeprefix(prefix)
            published = paper.ENDINGS.get(ending, {}).get(method) if method else None
            rows.append({
                "arm": cell.arm, "paper_name": paper.NAMES.get(method) if method else None,
                "ending": ending, "paper": _share(published), "ours": mean,
            })  # fmt: skip
    return Table(
        "published_endings",
        "Accuracy by ending, the paper's Table 1",
        f"Ours at {place_name(point)}, means over seeds. {_fewer_rows(data, [point])}Only 25 of "
        "the 2,000 test answers end in .*.*, so the paper's 68, 28 and 32 % are 17, 7 and 8 rows. "
        f"{OTHER_MODEL}",
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
    # What the tuning does not name, it tunes at its first value.
    usual = {axis: values[0] for axis, values in data.study.axes.items() if axis != "seed"}
    rows: list[dict[str, Any]] = []
    tuned: list[Place] = []
    for arm, options in data.study.arms.items():
        settings = {**data.study.base, **options}
        if settings.get("objective", RunConfig.objective) != "tube":
            continue
        for choice in data.choices.get(arm, ()):
            at = usual | choice.get("at", {})
            place = tuple(at.items())
            weight = (choice.get("chosen") or {}).get("weight")
            if weight is None or _task(data, place) not in paper.BEST_WEIGHTS:
                continue
            others = {axis: at[axis] for axis in at if axis not in ("task", "model")}
            tuned.append(place)
            rows.append({"task": _task(data, place), "model": _model(data, place), "arm": arm,
                         "point": shown_settings(others), "ours": weight})  # fmt: skip
    for task in dict.fromkeys(row["task"] for row in rows):
        rows += [
            {"task": task, "model": model, "arm": "STP", "paper": weight}
            for model, weight in paper.BEST_WEIGHTS[task].items()
        ]
    return Table(
        "published_weights",
        "Best weight of the tube, the paper's Table 2",
        "Ours were chosen on validation rows, from the grid of the study alone; the paper names no "
        f"validation split. {_fewer_rows(data, tuned) if tuned else ''}",
        [
            Column("task", "task"),
            Column("model", "model"),
            Column("arm", "arm"),
            Column("point", "at"),
            Column("paper", "paper", "setting"),
            Column("ours", "ours", "setting"),
        ],
        rows,
    )


def _p_values(data: StudyData, cells: Sequence[Cell], point: Place) -> Table:
    """Tables 4 and 5: one-sided paired tests between families, and between variants."""
    arms: dict[paper.Setting, str] = {}
    for cell in cells:
        if method := _method(data, cell):
            arms.setdefault(method, cell.arm)
    rows, absent = [], []
    for table, pairs in paper.P_VALUES.items():
        for pair, p in pairs.items():
            absent += [paper.NAMES[method] for method in pair if method not in arms]
            if set(pair) <= set(arms):
                better, worse = (arms[method] for method in pair)
                ours = compare(data, worse, better, [point])
                rows.append({"table": table, "better": better, "worse": worse, "paper": p,
                             "ours": ours.p_one_sided, "seeds": ours.num_seeds,
                             "difference": ours.difference})  # fmt: skip
    lacks = ""
    if absent:
        lacks = f"This study has no scored arm for {', '.join(dict.fromkeys(absent))}. "
    return Table(
        "published_p_values",
        "Is one arm better than another? The paper's Tables 4 and 5",
        f"Paired one-sided t-tests over seeds; ours at {place_name(point)}, not corrected for "
        f"their number, as the paper's are not. {_fewer_rows(data, [point])}{lacks}Table 4 "
        "compares families, here by their arms without options; table 5 variants of one. The paper "
        "found p = 0.037 between curvature and signed curvature, which its code computes alike: "
        "p-values of five seeds can be noise.",
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
