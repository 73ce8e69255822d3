"""Make ``julia/share/normal_quantile.txt``, the table behind every normal draw.

Segment ``8 * octave + eighth`` covers ``v`` in ``[2^octave * (1 + eighth / 8), ... + 1 / 8)``; its row is the
polynomial of degree 5 (highest power first) through the normal quantile at tail probability ``v / 2^33``,
interpolated at Chebyshev points of ``t`` in [0, 1]. One line per coefficient: the bits of a Float64 in hex.
The committed file is the definition; a re-run on another machine may differ in last bits and must not replace it.
"""

from __future__ import annotations

from pathlib import Path
from statistics import NormalDist

import numpy as np

OCTAVES, EIGHTHS, DEGREE = 32, 8, 5


def rows() -> np.ndarray:
    """``(256, 6)`` Float64 coefficients."""
    quantile = NormalDist().inv_cdf
    nodes = (1 - np.cos(np.pi * (np.arange(DEGREE + 1) + 0.5) / (DEGREE + 1))) / 2
    table = []
    for octave in range(OCTAVES):
        for eighth in range(EIGHTHS):
            tail = 2.0**octave * (1 + (eighth + nodes) / EIGHTHS) / 2.0**33
            values = np.array([-quantile(p) for p in tail])
            table.append(np.linalg.solve(np.vander(nodes), values))
    return np.array(table)


if __name__ == "__main__":
    target = Path(__file__).parents[1] / "julia" / "share" / "normal_quantile.txt"
    target.write_text("".join(f"{bits:016x}\n" for bits in rows().reshape(-1).view(np.uint64).tolist()))
    print(f"wrote {target}")
