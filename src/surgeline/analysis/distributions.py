"""The few probability distributions that intervals and verdicts are read from.

Normal, Student's t and binomial, in plain Python: loading SciPy would cost more time than a whole summary. Each is
checked against SciPy in the tests.
"""

import math
from functools import lru_cache
from statistics import NormalDist

_NORMAL = NormalDist()
_TINY = 1e-300


def normal_quantile(p: float) -> float:
    """The z below which a standard normal falls with probability p, 0 < p < 1."""
    return _NORMAL.inv_cdf(p)


def incomplete_beta(a: float, b: float, x: float) -> float:
    """The regularised incomplete beta function I_x(a, b), a, b > 0, x clipped to 0..1.

    By Lentz's continued fraction (Press et al., Numerical Recipes, 6.4), on the side where it converges fast.
    """
    if x <= 0.0:
        return 0.0
    if x >= 1.0:
        return 1.0
    if x > (a + 1.0) / (a + b + 2.0):
        return 1.0 - incomplete_beta(b, a, 1.0 - x)
    front = math.exp(math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x))
    c, d = 1.0, 1.0 / (1.0 - (a + b) * x / (a + 1.0) or _TINY)
    total = d
    for m in range(1, 10_000):
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        for part in (even, odd):
            d = 1.0 / (1.0 + part * d or _TINY)
            c = 1.0 + part / c or _TINY
            total *= c * d
        if abs(c * d - 1.0) < 1e-13:
            break
    return front * total / a


def t_tail(t: float, df: float) -> float:
    """The probability that Student's t with `df` > 0 degrees of freedom exceeds `t`."""
    half = 0.5 * incomplete_beta(df / 2.0, 0.5, df / (df + t * t))
    return half if t >= 0 else 1.0 - half


@lru_cache(maxsize=4096)
def t_quantile(p: float, df: float) -> float:
    """The value below which Student's t with `df` > 0 degrees of freedom falls with probability p, 0 < p < 1."""
    if p < 0.5:
        return -t_quantile(1.0 - p, df)
    low, high = 0.0, 2.0
    while t_tail(high, df) > 1.0 - p:
        high *= 2.0
    for _ in range(80):
        middle = (low + high) / 2.0
        low, high = (middle, high) if t_tail(middle, df) > 1.0 - p else (low, middle)
    return (low + high) / 2.0


def binomial_at_least(k: float, n: float, p: float) -> float:
    """The probability of at least k successes in n tries of probability p; fractional k and n are interpolated."""
    if k <= 0:
        return 1.0
    if k > n:
        return 0.0
    return incomplete_beta(k, n - k + 1.0, p)


def wilson(share: float, n: float, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson's interval of a share observed in n tries, n > 0; within 0..1."""
    z = normal_quantile(0.5 + confidence / 2.0)
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return max(0.0, centre - half), min(1.0, centre + half)


def fewest_for_quantile(q: float, confidence: float = 0.95) -> int:
    """How many independent samples a finite interval of quantile q needs on both of its sides.

    The greatest of n samples lies above the quantile with probability 1 - q^n, which has to reach 97.5 %; p50 needs 6,
    p95 72, p99 368.
    """
    alpha = (1.0 - confidence) / 2.0
    return math.ceil(math.log(alpha) / math.log(max(q, 1.0 - q)))
