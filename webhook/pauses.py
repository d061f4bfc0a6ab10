"""How long to wait after a failure, where one comes after another."""

import random


def pause(between: tuple[float, float], failures: int) -> float:
    """Seconds to wait after `failures` in a row before this one: doubling from the first bound to
    the second, and at random between half of it and all of it, so that those who fail together
    don't come back together."""
    first, last = between
    longest = min(last, first * 2 ** min(failures, 10))
    return random.uniform(longest / 2, longest)  # noqa: S311  no secret
