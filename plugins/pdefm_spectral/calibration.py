"""Mean Ψ of the SYS-2 population against the speed s, from which `calibrated` mode takes its speeds.

The table was made by ``python -m pdefm_spectral.calibration`` (half a minute on one core). It holds means over 65,536
examples at 61 speeds, ten a decade from 1e-3 to 1e3. Sources are those of the data sets, with four sparsities in turn;
e ~ U(1, 5) and θ, φ ~ U(0, 2π). The authors' code has a table of 59 means for the same purpose.
"""

from __future__ import annotations

import numpy as np

SPEEDS = 10.0 ** (np.arange(61) / 10 - 3)
# fmt: off
RATIOS = np.array(
    [
        4.160569e-03, 5.237747e-03, 6.593736e-03, 8.300630e-03, 1.044909e-02, 1.315307e-02, 1.655562e-02,
        2.083610e-02, 2.621876e-02, 3.298297e-02, 4.147452e-02, 5.211736e-02, 6.542335e-02, 8.199596e-02,
        1.025210e-01, 1.277351e-01, 1.583655e-01, 1.950464e-01, 2.382410e-01, 2.882214e-01, 3.451366e-01,
        4.091488e-01, 4.805740e-01, 5.599828e-01, 6.482594e-01, 7.466322e-01, 8.566850e-01, 9.803620e-01,
        1.119979e+00, 1.278257e+00, 1.458368e+00, 1.664007e+00, 1.899444e+00, 2.169570e+00, 2.479945e+00,
        2.836864e+00, 3.247497e+00, 3.720129e+00, 4.264536e+00, 4.892499e+00, 5.618467e+00, 6.460398e+00,
        7.440795e+00, 8.587958e+00, 9.937480e+00, 1.153410e+01, 1.343401e+01, 1.570786e+01, 1.844458e+01,
        2.175617e+01, 2.578381e+01, 3.070545e+01, 3.674527e+01, 4.418558e+01, 5.338155e+01, 6.477983e+01,
        7.894203e+01, 9.657476e+01, 1.185680e+02, 1.460439e+02, 1.804188e+02,
    ]
)
# fmt: on


def speed(ratio: np.ndarray) -> np.ndarray:
    """Return s at which the mean Ψ is ``ratio``: linear in log s against log Ψ. Any shape."""
    found: np.ndarray = np.exp(np.interp(np.log(ratio), np.log(RATIOS), np.log(SPEEDS)))
    return found


def measure(examples: int) -> np.ndarray:
    """Return mean Ψ at every speed of the table, (61,), over that many examples."""
    from pdebench_fm.streams import Stream
    from pdefm_spectral import chunks, diffusion, sources
    from pdefm_spectral.ratio import AdvectionRatio

    stream = Stream({"calibration": "advection-diffusion", "version": "1"}, sources.WORDS + 3)
    total = np.zeros(len(SPEEDS))
    everyone = np.arange(examples)
    for part in chunks.of_rows(everyone):
        ids = everyone[part]
        uniform = stream.uniform(ids.tolist())
        weights = sources.weights(uniform, sources.sparsity(ids))
        eigenvalue = diffusion.between((1.0, 5.0), uniform[:, sources.WORDS])
        theta, phi = 2 * np.pi * uniform[:, sources.WORDS + 1 :].T
        directed = AdvectionRatio(weights, diffusion.tensor(eigenvalue, theta)).along(phi)
        total += [directed.at(np.full(len(ids), value)).sum() for value in SPEEDS]
    return total / examples


if __name__ == "__main__":
    for row in measure(65_536).reshape(-1, 1):
        print(f"{row[0]:.6e},")
