"""The channel mixing of a spectral convolution: every kept mode times its own complex matrix, in real arithmetic.

With the cosine and negative sine coefficients of a field along y (C, S) and along x (c, s), its mode +k_y is
(C + iS)(c + is), and its mode −k_y is (C − iS)(c + is). So sums and differences of the parts of
`pdefm_fno.spectral_convolution` give a *spectrum*, (2m, m, 2, batch, channels): k_y in FFT order 0 … m−1, −m … −1, then
k_x, then real and imaginary part. The transpose leads back.

Real and imaginary parts are next to the batch in the spectrum, and next to the output channels in the weight. So one
matrix product for each mode gives all four real products and reads the weight once, as do its transposes in the
backward pass. With many modes and few examples most time goes into reading weights.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor

from pdefm_fno.spectral_convolution import working


def mix(parts: Tensor, weight: Tensor) -> Tensor:
    """Multiply every mode by its matrix.

    Args:
        parts: (2m + 2, 2m, batch, in), as `pdefm_fno.spectral_convolution.analyse` returns them.
        weight: (2m, m, in, 2, out).

    Returns:
        (2m + 2, 2m, batch, out), as `pdefm_fno.spectral_convolution.synthesise` takes them.
    """
    parts, weight = working(parts, weight)
    spectrum = _linear(parts, spectrum_of, parts_of)
    batch, channels = spectrum.shape[3:]
    products = torch.bmm(spectrum.view(-1, 2 * batch, channels), weight.flatten(3).flatten(0, 1))
    return _linear(products.view(*spectrum.shape[:4], 2, -1), _parts_of_products, _products_of_parts)


def add_constant(parts: Tensor, coefficient: Tensor) -> Tensor:
    """Add a plane that is constant in space to a field, given by its parts, in place.

    Args:
        parts: (2m + 2, 2m, batch, channels); the caller's only use of them.
        coefficient: (batch, channels) or (channels,), of the mode k = 0: n c for a plane of value c.

    Returns:
        the same parts.
    """
    if not torch.is_grad_enabled():
        parts[0, 0].add_(coefficient)
        return parts
    result: Tensor = _Raised.apply(parts, coefficient)  # type: ignore[no-untyped-call]
    return result


def spectrum_of(parts: Tensor) -> Tensor:
    """Return the spectrum: (2m + 2, 2m, batch, channels) → (2m, m, 2, batch, channels)."""
    m = parts.shape[1] // 2
    to_spectrum, _ = _pairings(m, parts.dtype, parts.device)
    return _paired(parts.flatten(0, 1), to_spectrum, parts.new_empty(2 * m, m, 2, *parts.shape[2:]))


def parts_of(spectrum: Tensor) -> Tensor:
    """The transpose of `spectrum_of`."""
    m = spectrum.shape[1]
    _, to_parts = _pairings(m, spectrum.dtype, spectrum.device)
    return _paired(spectrum.flatten(0, 2), to_parts, spectrum.new_empty(2 * m + 2, 2 * m, *spectrum.shape[3:]))


def _parts_of_products(products: Tensor) -> Tensor:
    """Parts of the complex product (2m, m, 2, batch, 2, channels), in which the 2 are those of either factor."""
    spectrum = products.new_empty(*products.shape[:4], products.shape[5])
    (rr, ri), (ir, ii) = (half.unbind(3) for half in products.unbind(2))
    real, imaginary = spectrum.unbind(2)
    torch.sub(rr, ii, out=real)
    torch.add(ri, ir, out=imaginary)
    return parts_of(spectrum)


def _products_of_parts(parts: Tensor) -> Tensor:
    """The transpose of `_parts_of_products`."""
    spectrum = spectrum_of(parts)
    products = spectrum.new_empty(*spectrum.shape[:4], 2, spectrum.shape[4])
    by_real, by_imaginary = products.unbind(4)
    real, imaginary = spectrum.unbind(2)
    by_real.copy_(spectrum)
    ri, ii = by_imaginary.unbind(2)
    ri.copy_(imaginary)
    torch.neg(real, out=ii)
    return products


class _Pairing(NamedTuple):
    """A map that makes every row from two: row r is ``first[r]`` + ``factor[r]`` · ``second[r]``."""

    first: Tensor
    second: Tensor
    factor: Tensor


def _paired(rows: Tensor, pairing: _Pairing, out: Tensor) -> Tensor:
    """Apply a pairing to (rows, batch, channels), and return ``out``, contiguous and of the result's size."""
    result = out.view(-1, *rows.shape[1:])
    torch.index_select(rows, 0, pairing.first, out=result)
    result.addcmul_(rows.index_select(0, pairing.second), pairing.factor)
    return out


@lru_cache(maxsize=64)
def _pairings(m: int, dtype: torch.dtype, device: torch.device) -> tuple[_Pairing, _Pairing]:
    """Return the map from parts to the spectrum, and its transpose."""
    part = torch.arange((2 * m + 2) * 2 * m).view(2, m + 1, 2, m)  # cosine or sine along y, k_y, the same along x, k_x
    made_of: list[dict[int, int]] = []  # of each row of the spectrum: part → coefficient
    for k_y in (*range(m), *range(-m, 0)):
        sign = 1 if k_y >= 0 else -1
        (cc, cs), (sc, ss) = part[:, abs(k_y)].tolist()
        for k_x in range(m):
            made_of += [{cc[k_x]: 1, ss[k_x]: -sign}, {cs[k_x]: 1, sc[k_x]: sign}]
    goes_to: list[dict[int, int]] = [{} for _ in range(part.numel())]
    for row, parts in enumerate(made_of):
        for source, coefficient in parts.items():
            goes_to[source][row] = coefficient
    return _pairing(made_of, dtype, device), _pairing(goes_to, dtype, device)


def _pairing(rows: list[dict[int, int]], dtype: torch.dtype, device: torch.device) -> _Pairing:
    """The pairing whose rows are ±1 times one row, or the sum of two of which one has the coefficient 1."""
    chosen = []
    for row in rows:
        (first, one), *rest = sorted(row.items(), key=lambda item: -item[1])
        second, other = rest[0] if rest else (first, one - 1)
        chosen.append((first, second, other))
    with torch.inference_mode(False):  # made during inference, a table must still serve training afterwards
        first, second, factor = torch.tensor(chosen, device=device).unbind(1)
        return _Pairing(first.contiguous(), second.contiguous(), factor.to(dtype)[:, None, None])


def _linear(x: Tensor, there: Callable[[Tensor], Tensor], back: Callable[[Tensor], Tensor]) -> Tensor:
    if not torch.is_grad_enabled():
        return there(x)
    result: Tensor = _Linear.apply(x, there, back)  # type: ignore[no-untyped-call]
    return result


class _Linear(torch.autograd.Function):
    """A linear map whose transpose is given; autograd's own would build the same from zero-filled pieces."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, there: Callable[[Tensor], Tensor], back: Callable[[Tensor], Tensor]) -> Tensor:
        ctx.maps = there, back
        return there(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        there, back = ctx.maps
        return _linear(gradients[0].contiguous(), back, there), None, None


class _Raised(torch.autograd.Function):
    """Autograd would copy the whole gradient to cut one mode out of it."""

    @staticmethod
    def forward(ctx: Any, parts: Tensor, coefficient: Tensor) -> Tensor:
        ctx.mark_dirty(parts)
        ctx.shape = coefficient.shape
        parts[0, 0].add_(coefficient)
        return parts

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        return gradients[0], gradients[0][0, 0].sum_to_size(ctx.shape)
