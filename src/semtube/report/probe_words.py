"""Measures of a probe in words: what a number is, and how it is read."""

from __future__ import annotations

#: Nulls that have a column, and a line in figures; the nearest is told of all.
SHOWN_NULLS = ("straight line", "independent increments", "memoryless points")
#: Where steps of the cone are counted from -> as it is shown.
SINCE = {"divergence": "the first other token", "prompt": "the prompt's end"}

#: Measure -> title and how to read it; unit and range are in `geometry.measures`.
WORDS: dict[str, tuple[str, str]] = {
    "tube_loss": ("tube loss, triplets", "1 - cos of what follows and what went before"),
    "span_loss": ("tube loss, spans", "1 - cos of a span and the rest of the text"),
    "turning_angle": ("turning angle, rad", "between one step and the next"),
    "step_length": ("step, state", "mean length of a step: the scale of what has a unit"),
    "curvature": ("curvature, 1 / state", "1 / radius of the circle through three neighbours"),
    "chord_over_path": ("chord over path", "1 on a straight line; falls with the length"),
    "tube_loss_by_width": ("tube loss by width", "all triplets of one width"),
    "span_loss_by_length": ("span loss by length", "all spans of one length"),
    "tube_radius": ("tube radius, state", "largest deviation from a chord (Definition 3.1)"),
    "tube_radius_relative": ("largest deviation over chord", "large where a chord is short"),
    "tube_deviation_relative": ("mean deviation over chord", "0 on a straight line"),
    "parallel": ("signal, state", "root mean square part along the chord"),
    "perpendicular": ("noise, state", "root mean square part across the chord"),
    "noise_to_signal": ("noise over signal", "0 on a straight line"),
    "lemma_largest_ratio": ("Lemma 3.2: largest ratio", "deviation over its bound, at most 1"),
    "lemma_mean_ratio": ("Lemma 3.2: mean ratio", "far below 1 where the bound says little"),
    "lemma_num_violations": ("Lemma 3.2: violations", "deviations above their bound: none may be"),
    "effective_rank": ("effective rank", "directions that the states fill"),
    "first_share": ("share of the first direction", "near 1 where one direction is all"),
    "anisotropy": ("anisotropy", "mean cosine of two states"),
    "spectral_tail": ("spectral tail", "slope of log singular value over log rank"),
    "spectral_tail_r_squared": ("spectral tail: R^2", "below .99 there is no power law"),
    "views_mean_singular_value": (
        "views: mean singular value",
        "of prompt minus answer, the largest hundred",
    ),
    "views_residual": (
        "views: residual",
        "of the best linear map from prompts' states to answers'",
    ),
    "views_residual_share": (
        "views: residual share",
        "what no linear map of prompts' states explains of answers'",
    ),
    "concept_within": ("concept: same phrase", "mean cosine of its directions in two contexts"),
    "concept_across": ("concept: other phrases", "mean cosine of two phrases' directions"),
    "capacity": ("manifold capacity", "classes of states a hyperplane can tell, per dimension"),
    "capacity_dimension": ("capacity: dimension", "of a class, as a hyperplane feels it"),
    "capacity_radius": ("capacity: radius", "of a class, relative to its centre"),
    "capacity_utility": ("capacity: utility", "of the classes' shape"),
    "feature_stability": ("feature stability", "two halves of the features, rotated"),
    "feature_stability_raw": ("feature stability, raw", "the same, not rotated"),
    "transport": ("transport, rad", "next-token distribution, from the layer before"),
    "transport_tenth": ("transport, rad, a tenth is below", "of the positions"),
    "transport_median": ("transport, rad, median", "of the positions"),
    "transport_nine_tenths": ("transport, rad, nine tenths are below", "of the positions"),
    "drift": ("drift", "of pairwise distances from the checkpoint compared with"),
    "stop_log_probability": ("stopping, nats", "ln p(stop) behind the right answer"),
    "loss": ("next-token loss, nats", "of the rows"),
    "cone_exponent_greedy_since_prompt": (
        "cone exponent, greedy, behind the prompt",
        "growth of the distance from the right answer's states, and of how many have left them",
    ),
    "cone_exponent_sampled_since_prompt": (
        "cone exponent, sampled, behind the prompt",
        "the same at temperature 1",
    ),
    "cone_exponent_greedy_since_divergence": (
        "cone exponent, greedy, behind the first other token",
        "of the distance alone, counted from there; 1/2 for a Brownian motion",
    ),
    "cone_exponent_sampled_since_divergence": (
        "cone exponent, sampled, behind the first other token",
        "the same at temperature 1",
    ),
    "nearest_other_gold": (
        "nearest other text, right answers",
        "distance to another prompt's trajectory, in own median steps",
    ),
    "nearest_other_greedy": ("nearest other text, greedy", "the same of what is written"),
    "nearest_other_sampled": ("nearest other text, sampled", "the same at temperature 1"),
    "near_collision_share_greedy": (
        "near collisions, greedy",
        "texts nearer to another than all but 5 % of right answers",
    ),
    "near_collision_share_sampled": ("near collisions, sampled", "the same at temperature 1"),
    "cell_margin": ("margin, state", "of right answers' tokens to another's cell"),
}


def title(measure: str) -> str:
    """As a table or an axis names it."""
    return WORDS[measure][0] if measure in WORDS else measure.replace("_", " ")
