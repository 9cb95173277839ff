"""What a computation that may explode is allowed to spend."""

from __future__ import annotations

import math
import time


class OutOfBudgetError(Exception):
    """More work or time was needed than allowed; the message says which."""


class Budget:
    """What may be spent: seconds, and from `limit_size` on a size.

    The size counts what is made, so that it is the same on every machine; what it is the size of is
    the spender's to say. Seconds are CPU time of the thread, looked at now and then only.
    """

    _SIZE_BETWEEN_LOOKS = 500

    def __init__(self, max_seconds: float) -> None:
        self._max_seconds = max_seconds
        self._end = time.thread_time() + max_seconds
        self._max_size = math.inf
        self._size = 0
        self._next_look = self._SIZE_BETWEEN_LOOKS

    def limit_size(self, max_size: int) -> None:
        """Allow `max_size` from now on."""
        self._max_size = max_size
        self._size = 0
        self._next_look = self._SIZE_BETWEEN_LOOKS

    def spend(self, size: int) -> None:
        """Count `size` more.

        Raises:
            OutOfBudgetError: that is too much, or the time is over.
        """
        self._size += size
        if self._size > self._max_size:
            raise OutOfBudgetError(f"more than {self._max_size} states")
        if self._size >= self._next_look:
            self._next_look = self._size + self._SIZE_BETWEEN_LOOKS
            if time.thread_time() > self._end:
                raise OutOfBudgetError(f"more than {self._max_seconds} seconds")
