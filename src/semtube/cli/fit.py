"""`semtube fit`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from semtube.cli.parser import Parser
from semtube.errors import UserError

if TYPE_CHECKING:
    import numpy as np

    from semtube.scaling.data_multiplier import Multiplier
    from semtube.scaling.score_file import Scores

FIT_HEADERS = (
    "arm", "sizes", "seeds", "scale a", "exponent b", "floor c", "floor known",
    "gradient norm", "starts that agree", "regions, smallest size first",
)  # fmt: skip


def build_parser() -> Parser:
    """A table of runs and what its score means."""
    parser = Parser(
        "fit",
        usage="RESULTS.csv --baseline ARM --higher_is_better true|false",
        description="Learning curves of several arms, a m^(-b) + c of the error over m training "
        "examples, and how many times fewer examples each arm needs for the baseline's score: by "
        "interpolation between measured sizes and by the curves, never beyond the sizes that were "
        "run. The file has one line a run, with the columns arm, num_examples, seed and a score; "
        "one seed of all arms is a pair.",
        example="semtube fit results.csv --baseline ntp --higher_is_better true",
    )
    parser.add_argument("results", type=str, help="CSV file, one line a run.")
    parser.add_argument("--baseline", type=str, required=True, help="The arm to compare against.")
    parser.add_argument("--score", type=str, default="score", help="The score's column.")
    parser.add_argument(
        "--higher_is_better",
        type=bool,
        required=True,
        help="true for a rate in [0, 1], whose error is 1 - rate; false for a loss.",
    )
    parser.add_argument("--confidence", type=float, default=0.95, help="Of the intervals.")
    parser.add_argument("--seed", type=int, default=0, help="Of the bootstrap.")
    return parser


def run(argv: list[str]) -> int:
    """Parse, fit, and print both tables as Markdown."""
    options = build_parser().parse_args(argv)
    from semtube.scaling.score_file import read_scores

    if not 0 < options.confidence < 1:
        raise UserError(f"--confidence must lie between 0 and 1, got {options.confidence}")
    arms = read_scores(options.results, options.score)
    if options.baseline not in arms:
        raise UserError(
            f"--baseline: {options.results} has no arm {options.baseline!r}, only {', '.join(arms)}"
        )
    if options.higher_is_better:
        _check_rates(arms, options.results)
    settings = options.higher_is_better, options.confidence, options.seed
    print(_table(FIT_HEADERS, [_fit_row(arm, scores, *settings) for arm, scores in arms.items()]))
    print(_interval_note(options.confidence, options.seed))
    for arm in arms:
        if arm != options.baseline:
            print(_multipliers(arms, options.baseline, arm, *settings))
    return 0


def _check_rates(arms: Mapping[str, Scores], path: str) -> None:
    for arm, scores in arms.items():
        for (size, seed), score in scores.items():
            if not 0 <= score <= 1:
                raise UserError(
                    f"{path}: arm {arm!r} with {size} examples and seed {seed} has the score "
                    f"{score:g}: where higher is better, wanted a rate between 0 and 1"
                )


def _interval_note(confidence: float, seed: int) -> str:
    return (
        f"\nError(m) = a m^(-b) + c. In brackets: {100 * confidence:g} % bootstrap intervals over "
        f"seeds, stretched for few of them (seed {seed}). A floor is known where its interval "
        "spans at most half of the lowest error."
    )


def _fit_row(
    arm: str, scores: Scores, higher_is_better: bool, confidence: float, seed: int
) -> tuple[str, ...]:
    from semtube.scaling.fitted_curve import fit_with_intervals, region_labels
    from semtube.scaling.learning_curve import why_unfitted
    from semtube.scaling.score_file import full_grid

    grid = full_grid({arm: scores})
    errors_FS = 1 - grid.scores_AFS[0] if higher_is_better else grid.scores_AFS[0]
    counts = arm, f"{len(grid.sizes_F)}", f"{len(grid.seeds)}"
    if why := why_unfitted(grid.sizes_F, errors_FS):
        return (*counts, f"no fit: {why}", *[""] * 6)
    fitted = fit_with_intervals(
        grid.sizes_F, errors_FS, confidence=confidence, generator=_generator(seed)
    )
    curve = fitted.curve
    regions = region_labels(curve, grid.sizes_F, list(errors_FS.mean(axis=1)))
    known = {True: "yes", False: "no", None: "one seed"}[fitted.is_floor_identified]
    return (
        *counts,
        _with_interval(curve.scale, fitted.scale),
        _with_interval(curve.exponent, fitted.exponent),
        _with_interval(curve.floor, fitted.floor),
        known,
        f"{curve.gradient_norm:.1g}",
        f"{curve.share_of_starts:.0%}",
        ", ".join(_runs_of(regions)),
    )


def _generator(seed: int) -> np.random.Generator:
    import numpy as np

    from semtube.seeding import stream_seed

    return np.random.default_rng(stream_seed(seed, "bootstrap"))


def _with_interval(value: float, limits: tuple[float, float] | None) -> str:
    return f"{value:.3g}" + (f" [{limits[0]:.3g}, {limits[1]:.3g}]" if limits else "")


def _runs_of(labels: Sequence[str]) -> list[str]:
    """`3 power law, 2 irreducible`."""
    return [f"{labels.count(label)} {label}" for label in dict.fromkeys(labels)]


def _multipliers(
    arms: Mapping[str, Scores],
    baseline: str,
    arm: str,
    higher_is_better: bool,
    confidence: float,
    seed: int,
) -> str:
    from semtube.scaling.data_multiplier import data_multipliers
    from semtube.scaling.score_file import full_grid

    grid = full_grid({baseline: arms[baseline], arm: arms[arm]})
    found = data_multipliers(
        grid.sizes_F,
        *grid.scores_AFS,
        higher_is_better=higher_is_better,
        confidence=confidence,
        generator=_generator(seed),
    )
    half = len(grid.sizes_F)
    rows = [
        (f"{m.num_examples:.0f}", f"{m.level:.4g}", _multiplier(m), _multiplier(fit))
        for m, fit in zip(found[:half], found[half:], strict=True)
    ]
    headers = (f"{baseline}: examples", "its score", "by interpolation", "by fit")
    title = f"How many times fewer examples {arm} needs for the score of {baseline}"
    notes = [f"{title}, over {len(grid.seeds)} paired seed{'s' if len(grid.seeds) > 1 else ''}:"]
    notes += grid.left_out
    errors_AFS = 1 - grid.scores_AFS if higher_is_better else grid.scores_AFS
    exponents = _exponents(grid.sizes_F, errors_AFS, confidence, seed)
    title = f"Exponent b of {arm} less that of {baseline}: {exponents}"
    return "\n" + "\n".join(notes) + "\n\n" + _table(headers, rows) + "\n\n" + title


def _exponents(sizes_F: np.ndarray, errors_AFS: np.ndarray, confidence: float, seed: int) -> str:
    """Other than 0, what the arm saves grows with the data or shrinks."""
    from semtube.scaling.exponent_difference import exponent_difference
    from semtube.scaling.learning_curve import why_unfitted

    if why := why_unfitted(sizes_F, errors_AFS):
        return f"no fit: {why}"
    found = exponent_difference(
        sizes_F, *errors_AFS, confidence=confidence, generator=_generator(seed)
    )
    if found.low is None or found.high is None:
        return f"{found.value:+.3g} (no interval: one seed)"
    return f"{found.value:+.3g} [{found.low:+.3g}, {found.high:+.3g}]"


def _multiplier(found: Multiplier) -> str:
    """A value with its interval; a bound where the arm's sizes end; why there is neither."""
    if found.value is None and found.bound is None:
        return found.note
    interval = _multiplier_interval(found.low, found.high)
    if found.value is not None:
        return f"{found.value:.3g}x {interval}"
    # An interval that the bound ends as well tells nothing more.
    if found.low == found.limit or found.high == found.limit:
        interval = ""
    sign = ">=" if found.bound == "at least" else "<="
    return f"{sign} {found.limit:.3g}x, outside the sizes run {interval}".rstrip()


def _multiplier_interval(low: float | None, high: float | None) -> str:
    if low is None or high is None:
        return "no interval: one seed"
    start = f"{low:.3g}" if low > 0 else "below the sizes run"
    end = f"{high:.3g}" if high < float("inf") else "beyond the sizes run"
    return f"[{start}, {end}]"


def _table(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    from semtube.evaluation.compare import markdown_cell

    lines = [list(map(markdown_cell, line)) for line in (headers, ["---"] * len(headers), *rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
