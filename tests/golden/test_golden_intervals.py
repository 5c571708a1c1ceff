"""Published intervals."""

import numpy as np
import pytest

from hepar.evaluate.intervals import mean_of_proportions, newcombe_auroc, wilson


@pytest.mark.parametrize(
    ("x", "n", "low", "high"),
    [
        (110, 111, 95.1, 99.8),
        (22, 22, 85.1, 100.0),
        (3, 3, 43.9, 100.0),
        (81, 263, 25.5, 36.6),  # Newcombe 1998, Stat Med 17:857, table I, method 3
        (15, 148, 6.24, 16.05),  # the same: .0624 to .1605
        (0, 20, 0.0, 16.1),  # the same: .0000 to .1611
        (1, 29, 0.6, 17.2),  # the same: .0061 to .1718
    ],
)
def test_wilson_is_as_published(x, n, low, high):
    assert [100 * end for end in wilson(x, n)] == pytest.approx([low, high], abs=0.06)


def test_newcombe_solves_its_own_equation():
    """|value - a| = z sqrt(V(a)), V of Newcombe 2006 (Stat Med 25:559) method 5, at both ends."""
    m, n, value, z = 30, 20, 0.83, 1.959963984540054
    for a in newcombe_auroc(value, m, n):
        extra = (m + n) / 2 - 1
        variance = a * (1 - a) * (1 + extra * (1 - a) / (2 - a) + extra * a / (1 + a)) / (m * n)
        assert abs(value - a) == pytest.approx(z * np.sqrt(variance), rel=1e-6)


def test_two_perfect_sensitivities_of_22_give_a_mean_above_two_wilson_limits():
    """By hand: 1 - sqrt(2) * (1 - .8513) / 2 = .8949."""
    low, high = mean_of_proportions(np.array([22.0, 22.0]), np.array([22.0, 22.0]))
    assert low == pytest.approx(0.8949, abs=2e-4)
    assert high == 1
