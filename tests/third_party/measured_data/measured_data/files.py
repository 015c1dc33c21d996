"""The files of the suite: what a laboratory would hand over."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from pdebench_fm.data.hdf5 import export
from pdebench_fm.problem import Channel, Fields, Grid, Problem

PROBLEM = Problem((Channel("heating"), Channel("thickness"), Channel("ambient", "constant")), (Channel("temperature"),),
                  Grid(16))  # fmt: skip
COUNTS = {"brass_pretraining": 24, "brass_validation": 8, "brass_test": 8,
          "steel_train": 8, "steel_validation": 8, "steel_test": 8}  # fmt: skip


def write(folder: Path) -> None:
    """Write every file of the suite into ``folder``."""
    for number, (name, count) in enumerate(COUNTS.items()):
        spread = 1.0 if name.startswith("brass") else 2.0
        examples = measure(np.random.default_rng(number), count, spread)
        export(folder / f"{name}.h5", PROBLEM, iter([examples]), count, {"laboratory": "made up", "plate": name})


def measure(random: np.random.Generator, count: int, spread: float) -> tuple[Fields, Fields]:
    """Make ``count`` examples: heat spreads, thin places become hotter, the room adds its own."""
    n = PROBLEM.grid.size
    heating = _smooth(random.standard_normal((count, n, n)), 1.0)
    thickness = 1 + 0.2 * np.tanh(_smooth(random.standard_normal((count, n, n)), 1.0))
    ambient = random.uniform(0.5, 1.5, count)
    temperature = _smooth(heating, spread) / thickness + ambient[:, None, None]
    inputs = {"heating": heating, "thickness": thickness, "ambient": ambient}
    tensors = {name: torch.from_numpy(values.astype(np.float32)) for name, values in inputs.items()}
    return tensors, {"temperature": torch.from_numpy(temperature.astype(np.float32))}


def _smooth(values: np.ndarray, spread: float) -> np.ndarray:
    n = values.shape[-1]
    ky, kx = np.fft.fftfreq(n, 1 / n), np.fft.rfftfreq(n, 1 / n)
    smooth: np.ndarray = np.fft.irfft2(
        np.fft.rfft2(values) * np.exp(-spread * np.hypot(ky[:, None], kx) / 4), s=values.shape[-2:]
    )
    return smooth
