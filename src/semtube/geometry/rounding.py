"""When are states one and the same but for rounding?

Shape letters: N states, D hidden size.
"""

from __future__ import annotations

from torch import Tensor

from semtube.objectives.directions import MIN_LENGTH

#: A difference of at most this part of the states' length says nothing. Ours: where all tokens have
#: one embedding, states of the presets differ by 3e-7 to 1e-6 of it, the deeper the more.
ROUNDING = 1e-5


def shortest_displacement(length: Tensor) -> Tensor:
    """Up to here a displacement between states of this length has no direction.

    At least MIN_LENGTH, as in training.
    """
    return (ROUNDING * length).clamp_min(MIN_LENGTH)


def is_one_point(spread: float, size: float) -> bool:
    """Whether states are equal but for rounding.

    Args:
        spread: sum of squares of the states, centred.
        size: the same, not centred.
    """
    return spread <= ROUNDING**2 * size


def refuse_one_point(states_ND: Tensor) -> None:
    """Refuse states among which there is nothing to tell apart.

    Raises:
        ArithmeticError: they are equal but for rounding.
    """
    states_ND = states_ND.detach().double()
    spread = (states_ND - states_ND.mean(0)).square().sum()
    if is_one_point(float(spread), float(states_ND.square().sum())):
        raise ArithmeticError("the states are equal but for rounding")
