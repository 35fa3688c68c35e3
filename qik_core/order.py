"""In which order a worker looks at its queues."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from qik_core.sources import Order


def orders(
    queues: Sequence[tuple[str, int]], order: Order, dice: Callable[[], float]
) -> Callable[[], list[str]]:
    """Return what gives the order for one fetch.

    Strict: as listed. Weighted: drawn without replacement by weight (Efraimidis and Spirakis: sort by dice^(1/weight)).
    Random: the same with equal weights.
    """
    names = [name for name, _ in queues]
    if order is Order.STRICT or len(names) == 1:
        return lambda: names
    weights = [weight if order is Order.WEIGHTED else 1 for _, weight in queues]

    def draw() -> list[str]:
        drawn = sorted(
            zip((dice() ** (1 / weight) for weight in weights), names, strict=True), reverse=True
        )
        return [name for _, name in drawn]

    return draw
