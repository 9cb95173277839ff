"""How many strings the theory asks for.

Letters as in the paper: v symbols, m rules for each, s children, L levels, P strings,
f = m / v^(s-1). These are scaling laws: the paper leaves their constants open, so each function
states the one it takes. Unless said otherwise it is 1.

Source: arXiv 2605.27734, sections 2 to 4.
"""

from __future__ import annotations

import math


def latent_threshold(num_features: int, num_synonyms: int) -> float:
    """v m^3: strings to learn any level, and all of them, from one's own latents."""
    return float(num_features * num_synonyms**3)


def token_threshold(num_features: int, num_synonyms: int, level: int) -> float:
    """v m^(l+2): strings to learn the latents of a level >= 1 by predicting tokens.

    The whole tree below the root needs its last level, l = L - 1: v m^(L+1).
    """
    if level < 1:
        raise ValueError(f"level must be at least 1, got {level}")
    return float(num_features * num_synonyms ** (level + 2))


def root_threshold(num_features: int, num_synonyms: int, depth: int, level: int = 1) -> float:
    """v m^(L-l+1): labelled strings to learn the latents of a level >= 1 from the root's label.

    The first level is the hardest and rules the whole: v m^L.
    """
    if not 1 <= level <= depth:
        raise ValueError(f"level must be 1 to depth {depth}, got {level}")
    return float(num_features * num_synonyms ** (depth - level + 1))


def threshold(target: str, num_features: int, num_synonyms: int, depth: int) -> float:
    """Strings to learn all levels below the root with a target of `LatentClustering`.

    latent: v m^3; token: v m^(L+1); root: v m^L. With L = 2 there is one level below the root and
    tokens are its latents' leaves: token and latent agree.
    """
    if target == "latent":
        return latent_threshold(num_features, num_synonyms)
    if target == "token":
        return token_threshold(num_features, num_synonyms, depth - 1)
    if target == "root":
        return root_threshold(num_features, num_synonyms, depth)
    raise ValueError(f"target must be latent, token or root, got {target!r}")


def exponent(target: str, depth: int) -> int:
    """The power of m in `threshold`."""
    return {"latent": 3, "token": depth + 1, "root": depth}[target]


def label_threshold(num_features: int, num_synonyms: int) -> float:
    """v m: labelled strings to learn the root once the level below it is known."""
    return float(num_features * num_synonyms)


def recovery_bound(
    num_features: int,
    num_synonyms: int,
    branching: int,
    depth: int,
    *,
    failure_probability: float,
    constant: float = 1.0,
) -> float:
    """C [v m log(L v m / delta) + v m^3 / (1 - f) log(L v m / delta)]: the theorem for ILC.

    With that many strings all levels below the root are recovered exactly with probability
    1 - delta. C is not known; it depends on s and on how even the grammar is. Infinite at f = 1.
    """
    if not 0 < failure_probability < 1:
        raise ValueError(f"failure_probability must be in (0, 1), got {failure_probability}")
    fraction = num_synonyms / num_features ** (branching - 1)
    if fraction >= 1:
        return math.inf
    logarithm = math.log(depth * num_features * num_synonyms / failure_probability)
    vm, vm3 = num_features * num_synonyms, num_features * num_synonyms**3
    return constant * logarithm * (vm + vm3 / (1 - fraction))


def signal_to_noise(
    num_features: int, num_synonyms: int, branching: int, num_strings: float
) -> float:
    """2 (1 - f) P / (v m^3): squared distance of two parents' contexts over the noise of one.

    The contexts of two parents lie about sqrt(2 (1 - f)) / m apart; that of a tuple seen
    P / (v m) times has a total variance of about v m / P. One context symbol, one position.

    Source: the scales are those of the paper's appendix on separation; the factor 2 is ours.
    """
    fraction = num_synonyms / num_features ** (branching - 1)
    return 2 * (1 - fraction) * num_strings / latent_threshold(num_features, num_synonyms)
