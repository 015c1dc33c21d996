"""The channel mixing of a spectral convolution: every kept mode times its own complex matrix, in real arithmetic.

With the cosine and negative sine coefficients of a field along y (C, S) and along x (c, s), its mode +k_y is
(C + iS)(c + is), and its mode −k_y is (C − iS)(c + is). So a *spectrum*, (2m, m, 2, batch, channels), with k_y in FFT
order 0 … m−1, −m … −1, then k_x, then real and imaginary part, is made of sums and differences of the parts of
`pdefm_fno.spectral_convolution`, and what comes out of the product is brought back by the transpose.

The real and the imaginary part lie next to the batch in the spectrum, and next to the output channels in the weight:
one matrix product for each mode gives all four real products, reads the weight once, and so do its two transposes in
the backward pass. With many modes and few examples the weights, not the examples, are what takes time.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

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


def spectrum_of(parts: Tensor) -> Tensor:
    """Return the spectrum: (2m + 2, 2m, batch, channels) → (2m, m, 2, batch, channels)."""
    (cc, cs), (sc, ss) = _quarters(parts)
    m = len(cc) - 1
    spectrum = parts.new_empty(2 * m, m, 2, *parts.shape[2:])
    real, imaginary = spectrum.unbind(2)
    torch.sub(cc[:m], ss[:m], out=real[:m])
    torch.add(cs[:m], sc[:m], out=imaginary[:m])
    real[m:] = (cc[1:] + ss[1:]).flip(0)
    imaginary[m:] = (cs[1:] - sc[1:]).flip(0)
    return spectrum


def parts_of(spectrum: Tensor) -> Tensor:
    """The transpose of `spectrum_of`."""
    return _gather(spectrum[:, :, 0], spectrum[:, :, 1])


def _parts_of_products(products: Tensor) -> Tensor:
    """Parts of the complex product (2m, m, 2, batch, 2, channels), in which the 2 are those of either factor."""
    real = products[:, :, 0, :, 0] - products[:, :, 1, :, 1]
    imaginary = products[:, :, 0, :, 1] + products[:, :, 1, :, 0]
    return _gather(real, imaginary)


def _products_of_parts(parts: Tensor) -> Tensor:
    """The transpose of `_parts_of_products`."""
    spectrum = spectrum_of(parts)
    products = spectrum.new_empty(*spectrum.shape[:4], 2, spectrum.shape[4])
    products[:, :, :, :, 0] = spectrum
    products[:, :, 0, :, 1] = spectrum[:, :, 1]
    products[:, :, 1, :, 0] = spectrum[:, :, 1]
    torch.neg(spectrum[:, :, 0], out=products[:, :, 1, :, 1])
    return products


def _gather(real: Tensor, imaginary: Tensor) -> Tensor:
    """The transpose of `spectrum_of`, of (2m, m, batch, channels) each."""
    m = real.shape[1]
    parts = real.new_empty(2 * m + 2, 2 * m, *real.shape[2:])
    (cc, cs), (sc, ss) = _quarters(parts)
    for quarter, part in ((cc, real), (cs, imaginary)):
        quarter[0], quarter[m] = part[0], part[m]
        torch.add(part[1:m], part[m + 1 :].flip(0), out=quarter[1:m])
    sc[0], sc[m] = imaginary[0], -imaginary[m]
    torch.sub(imaginary[1:m], imaginary[m + 1 :].flip(0), out=sc[1:m])
    ss[0], ss[m] = -real[0], real[m]
    torch.sub(real[m + 1 :].flip(0), real[1:m], out=ss[1:m])
    return parts


def _quarters(parts: Tensor) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Views of the parts by cosine or sine along y, then along x, each (m + 1, m, batch, channels)."""
    rows, columns, *rest = parts.shape
    split = parts.view(2, rows // 2, 2, columns // 2, *rest)
    return (split[0, :, 0], split[0, :, 1]), (split[1, :, 0], split[1, :, 1])


def _linear(x: Tensor, there: Callable[[Tensor], Tensor], back: Callable[[Tensor], Tensor]) -> Tensor:
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
