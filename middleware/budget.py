"""Bounds the requests that are sent again, over all calls that share it, so that trouble does not become a storm."""

from __future__ import annotations

import math

from penstock.engine.errors import ConfigurationError, ModelEngineError

from .policy import is_throttled


class RetryBudget:
    """A bucket of tokens that repetitions are paid from: botocore's retry quota, with its numbers.

    A repetition takes `cost` tokens, or `throttled_cost` after a throttle; what the server itself asked for, with a
    time to wait, takes none. An answer gives back what the call's last repetition took, and `refund` when there was no
    repetition. With the bucket empty a failure is raised at once. When all fails, the defaults let 35 requests be sent
    again, 100 after throttles; then one for every 14 that succeed.

    May be shared by any number of engines. Not for several threads.

    Args:
        capacity: Tokens when full, as it is at the start. `math.inf` turns the budget off.
        cost: Tokens for a repetition.
        throttled_cost: Tokens for a repetition after 429, 503, 529 and the like.
        refund: Tokens for an answer at the first attempt.

    Raises:
        ConfigurationError: One of them is not a number from 0.
    """

    def __init__(
        self, capacity: float = 500, *, cost: float = 14, throttled_cost: float = 5, refund: float = 1
    ) -> None:
        numbers = {"capacity": capacity, "cost": cost, "throttled_cost": throttled_cost, "refund": refund}
        for name, number in numbers.items():
            is_number = isinstance(number, (int, float)) and not isinstance(number, bool) and number >= 0
            if not is_number or (name != "capacity" and number == math.inf):
                raise ConfigurationError(f"RetryBudget({name}=...) is a number from 0, not {number!r}")
        self.capacity = capacity
        self.left: float = capacity
        """Tokens that are left."""
        self._cost = cost
        self._throttled_cost = throttled_cost
        self._refund = refund

    def __repr__(self) -> str:
        return f"<RetryBudget {self.left:g} of {self.capacity:g}>"

    def price(self, error: ModelEngineError) -> float:
        """What sending again after this failure takes."""
        if error.retry_after:
            return 0
        return self._throttled_cost if is_throttled(error) else self._cost

    def take(self, tokens: float) -> None:
        """Pay for a repetition."""
        self.left = max(0.0, self.left - tokens)

    def give_back(self, tokens: float | None) -> None:
        """An answer came. `tokens` is what the call's last repetition took, `None` when there was no repetition."""
        self.left = min(self.capacity, self.left + (self._refund if tokens is None else tokens))
