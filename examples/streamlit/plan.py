"""Growth of a savings plan, month by month."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Year:
    year: int
    paid_in: float
    value: float
    real_value: float
    """In today's money."""


def grow(monthly: float, years: int, rate: float, inflation: float) -> list[Year]:
    """The end of each year. `rate` and `inflation` are per year, in percent; interest is added monthly."""
    month = (1 + rate / 100) ** (1 / 12)
    value, course = 0.0, [Year(0, 0.0, 0.0, 0.0)]
    for year in range(1, years + 1):
        for _ in range(12):
            value = (value + monthly) * month
        real = value / (1 + inflation / 100) ** year
        course.append(Year(year, monthly * 12 * year, value, real))
    return course
