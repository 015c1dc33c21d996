"""Solutions of drawn examples without a forward transform: the Fourier series of the source is known.

A source is a separable sum of Gaussians, f = G P Gᵀ, and so are its discrete Fourier coefficients on any grid. Modes
from 28 on hold less than 1e-12 of its energy, and the solution falls off faster still. So 56 × 56 coefficients are made
from P by small matrix products, divided by the symbol, and summed up on the grid by two larger ones. At 128² that takes
two thirds of the time of a pair of FFTs, which work on all 128 × 128 modes (`python benchmarks/data.py`).

Real arithmetic: cc, cs, sc and ss are the coefficients of cos(ky y) cos(kx x), cos(ky y) sin(kx x) and so on. The
complex coefficient at (kx, ±ky) is proportional to (cc ∓ ss) − i (cs ± sc), and there L̂ = D± + i A±.

The solution is that of the sampled source's interpolant, as `ConstantCoefficientOperator.solve` gives it, but for modes
from 28 on. The symbol is computed in float64: near a resonance of SYS-3 this loses less than float32 fields do.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from pdebench_fm.interfaces.pde_system import PDESystem
from pdebench_fm.interfaces.sampler import Parameters
from pdebench_fm.problem import Fields
from pdefm_spectral import chunks, sources

MODES = 28
"""Modes 0 … 27 along each axis; an even number: as many even as odd ones."""
SMALLEST_GRID = 80
"""Below, the FFTs are as fast (64²), or the grid does not resolve the Gaussians (32²)."""
LARGEST_OMEGA = 100.0
"""Beyond, resonances come near the modes that are left out; up to it those are damped by 0.01·4π²·28² − 100 > 200."""

_EXAMPLES = 32
"""Spectra worked on at a time."""
_HALF = MODES // 2


def solve(
    system: PDESystem, kind: type[PDESystem], parameters: Parameters, constants: Sequence[str], inputs: Fields
) -> Fields:
    """Solve realised examples: from their series if that is faster and as accurate, else by ``system``.

    The series is for float32 on a CPU and grids of 80² and more: in float64 the modes left out would show, and on a GPU
    nothing has been measured.

    Args:
        system: the system to solve.
        kind: the class whose equation this module solves; its subclasses solve for themselves.
        parameters: ``weights``, ``scale`` and the coefficients of L. A mode on which L̂ vanishes must be none but the
            mean; the amplitude cap of SYS-3 sees to that.
        constants: which coefficients L has: k11, k22, k12, then v1, v2 or omega.
        inputs: what the sampler realised from ``parameters``.
    """
    source, grid = inputs["source"], system.problem.grid
    fast = (
        type(system) is kind
        and grid.length == 1.0
        and grid.size >= SMALLEST_GRID
        and source.device.type == "cpu"
        and source.dtype == torch.float32
        and not np.any(np.abs(parameters.get("omega", 0.0)) > LARGEST_OMEGA)
    )
    return {"solution": _solution(parameters, constants, source)} if fast else system.solve(inputs)


def _solution(parameters: Parameters, constants: Sequence[str], like: Tensor) -> Tensor:
    """Return u, of the shape of ``like``: (batch, n, n). Without omega the mean of f is ignored."""
    n = like.shape[-1]
    tables = _tables(n)
    weights = torch.as_tensor(parameters["weights"] * parameters["scale"][:, None]).to(torch.float32)
    coefficients = {name: torch.as_tensor(parameters[name]) for name in constants}
    diffusion = torch.stack([coefficients[name] for name in ("k11", "k22", "k12")], dim=1)
    velocity = torch.stack([coefficients["v1"], coefficients["v2"]], dim=1) if "v1" in coefficients else None
    omega = coefficients.get("omega")
    solution = torch.empty_like(like)
    for part in chunks.of_length(len(weights), _EXAMPLES):
        cosine, sine = _analyse(weights[part], tables)
        even = diffusion[part] @ tables.diffusion
        if omega is None:
            cosine[:, 0, 0] = 0.0
        else:
            even[:, [0, MODES**2]] = 0.0
            even -= omega[part, None]
        if velocity is None:
            cosine, sine = _divide(cosine, sine, even)
        else:
            cosine, sine = _divide_complex(cosine, sine, even, velocity[part] @ tables.velocity)
        waves = torch.mm(cosine.view(-1, MODES), tables.cosine).addmm_(sine.view(-1, MODES), tables.sine)
        _synthesise(waves.view(-1, 2 * MODES, n), tables, solution[part])
    return solution


class _Tables(NamedTuple):
    """What depends only on the grid. Along y: even modes' cosines and sines, then the odd modes'. float32 but for L̂.

    ``analyse``: (56, 12), along y, with the ½ of `_divide`; ``analyse_cosine``, ``analyse_sine``: (12, 28), along x.
    ``cosine``, ``sine``: (28, n), along x. ``even``, ``odd``: (n/2, 28), 2 × the even and −1 × the odd modes, along y;
    for odd n ``whole``, (n, 56).
    ``diffusion``, ``velocity``: (3, 1568) and (2, 1568), float64: what D and A have for k11, k22, k12 and for v1, v2,
    at (kx, ky), then at (kx, −ky); D is k11 where k = 0.
    """

    analyse: Tensor
    analyse_cosine: Tensor
    analyse_sine: Tensor
    cosine: Tensor
    sine: Tensor
    even: Tensor
    odd: Tensor
    whole: Tensor
    diffusion: Tensor
    velocity: Tensor


@lru_cache(maxsize=8)
def _tables(n: int) -> _Tables:
    order = np.concatenate([np.arange(0, MODES, 2), np.arange(1, MODES, 2)])
    phase = 2 * np.pi * (np.outer(order, np.arange(n)) % n) / n
    cosine, sine = np.cos(phase), np.sin(phase)
    along_y = _by_parity(cosine, sine)
    # A mode and its complex conjugate are one real wave, of twice the amplitude.
    factor = np.where(order == 0, 1.0, 2.0)[:, None] / n
    basis = sources.basis(n)
    kx, ky = (k.ravel() for k in np.meshgrid(2 * np.pi * order, 2 * np.pi * order))
    xx, xy = kx**2, 2 * kx * ky
    xx[0] = 1.0  # the mean, so that nothing is divided by zero
    split = np.split(along_y, 2)
    return _Tables(
        analyse=_float32(0.5 * _by_parity(factor, factor) * (along_y @ basis)),
        analyse_cosine=_float32((factor * (cosine @ basis)).T),
        analyse_sine=_float32((factor * (sine @ basis)).T),
        cosine=_float32(cosine),
        sine=_float32(sine),
        even=_float32(2 * split[0][:, : n // 2].T),
        odd=_float32(-split[1][:, : n // 2].T),
        whole=_float32(along_y.T),
        diffusion=torch.tensor(np.stack([np.tile(xx, 2), np.tile(ky**2, 2), np.concatenate([xy, -xy])])),
        velocity=torch.tensor(np.stack([np.tile(kx, 2), np.concatenate([ky, -ky])])),
    )


def _analyse(weights: Tensor, tables: _Tables) -> tuple[Tensor, Tensor]:
    """Return half the coefficients of the waves with cos(kx x) and with sin(kx x), each (batch, 56, 28)."""
    rows = weights.view(-1, sources.SIDE)
    shape = (-1, sources.SIDE, MODES)
    return (
        torch.matmul(tables.analyse, torch.mm(rows, tables.analyse_cosine).view(shape)),
        torch.matmul(tables.analyse, torch.mm(rows, tables.analyse_sine).view(shape)),
    )


def _divide(cosine: Tensor, sine: Tensor, even: Tensor) -> tuple[Tensor, Tensor]:
    """Divide by a real symbol D±, (batch, 1568), and multiply by 2."""
    inverse = even.to(torch.float32).reciprocal_().view(len(even), 2, 2, -1)
    plain, crossed = inverse[:, 0] + inverse[:, 1], inverse[:, 1] - inverse[:, 0]
    (cc, sc), (cs, ss) = _blocks(cosine), _blocks(sine)
    divided = torch.empty_like(cosine), torch.empty_like(sine)
    (to_cc, to_sc), (to_cs, to_ss) = _blocks(divided[0]), _blocks(divided[1])
    torch.mul(plain, cc, out=to_cc).addcmul_(crossed, ss)
    torch.mul(plain, ss, out=to_ss).addcmul_(crossed, cc)
    torch.mul(plain, cs, out=to_cs).addcmul_(crossed, sc, value=-1)
    torch.mul(plain, sc, out=to_sc).addcmul_(crossed, cs, value=-1)
    return divided


def _divide_complex(cosine: Tensor, sine: Tensor, even: Tensor, odd: Tensor) -> tuple[Tensor, Tensor]:
    """Divide by a complex symbol D± + i A±, both (batch, 1568), and multiply by 2."""
    even, odd = even.to(torch.float32), odd.to(torch.float32)
    square = (even * even).addcmul_(odd, odd)
    d, a = even.div_(square).view(len(even), 2, 2, -1), odd.div_(square).view(len(odd), 2, 2, -1)
    (cc, sc), (cs, ss) = _blocks(cosine), _blocks(sine)
    real, imaginary = cc - ss, cs + sc  # of f̂ at (kx, ky), the latter negative
    plus = (real * d[:, 0]).addcmul_(imaginary, a[:, 0], value=-1), (imaginary * d[:, 0]).addcmul_(real, a[:, 0])
    real, imaginary = cc + ss, cs - sc  # at (kx, −ky)
    minus = (real * d[:, 1]).addcmul_(imaginary, a[:, 1], value=-1), (imaginary * d[:, 1]).addcmul_(real, a[:, 1])
    torch.add(plus[0], minus[0], out=cc)
    torch.sub(minus[0], plus[0], out=ss)
    torch.add(plus[1], minus[1], out=cs)
    torch.sub(plus[1], minus[1], out=sc)
    return cosine, sine


def _synthesise(waves: Tensor, tables: _Tables, out: Tensor) -> None:
    """Sum the waves (batch, 56, n) along y into ``out``, (batch, n, n).

    Half a period further on even modes are what they were and odd modes are negative: half the points are enough.
    """
    n = out.shape[-1]
    if n % 2:
        torch.matmul(tables.whole, waves, out=out)
        return
    for part in chunks.of_fields(out):
        batch = len(waves[part])
        first, second = out[part, : n // 2], out[part, n // 2 :]
        torch.bmm(tables.even.expand(batch, -1, -1), waves[part, :MODES], out=first)
        torch.bmm(tables.odd.expand(batch, -1, -1), waves[part, MODES:], out=second)
        # In place, with 2a and −b in the halves: a − b = −b + 2a/2, then a + b = 2a − (a − b).
        second.add_(first, alpha=0.5)
        first.sub_(second)


def _blocks(series: Tensor) -> tuple[Tensor, Tensor]:
    """View (batch, 56, 28) as its cosines and its sines along y, each (batch, parity, 392)."""
    blocks = series.view(len(series), 2, 2, _HALF * MODES)
    return blocks[:, :, 0], blocks[:, :, 1]


def _by_parity(cosine: np.ndarray, sine: np.ndarray) -> np.ndarray:
    """Stack tables (28, …) of modes in the order even, odd: even cosines and sines, then the odd ones, (56, …)."""
    return np.concatenate([cosine[:_HALF], sine[:_HALF], cosine[_HALF:], sine[_HALF:]])


def _float32(table: np.ndarray) -> Tensor:
    return torch.tensor(np.ascontiguousarray(table), dtype=torch.float32)
