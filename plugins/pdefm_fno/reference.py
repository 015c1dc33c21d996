"""The plain definition of the FNO, by FFT: what the fast network computes, and what its tests hold it to.

For one Fourier layer with kept modes k_y = −m … m−1 and k_x = 0 … m−1, and orthonormal transforms,

    y = irfft2(W · rfft2(x) on the kept modes, zero elsewhere) + P x + b.

No symmetry is tied for k_x = 0: `torch.fft.irfft2` transforms over y first and then keeps the real part of the k_x = 0
column. Nothing here is meant to be fast.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from pdefm_fno.network import FourierNetwork


def spectral_convolution(x: Tensor, weight: Tensor) -> Tensor:
    """Convolve by FFT.

    Args:
        x: (batch, in, n, n), indexed (…, y, x).
        weight: (in, out, 2m, m, 2): k_y in the order 0 … m−1, −m … −1, then k_x, then real and imaginary part.

    Returns:
        (batch, out, n, n).
    """
    m = weight.shape[3]
    spectrum = torch.fft.rfft2(x, norm="ortho")
    kept = torch.cat([spectrum[:, :, :m, :m], spectrum[:, :, -m:, :m]], dim=2)
    # As four real products, which is faster than one complex product with many channels.
    (rr, ri), (ir, ii) = torch.einsum("bcyxp,coyxq->pqboyx", torch.view_as_real(kept), weight)
    mixed = torch.complex(rr - ii, ri + ir)
    filled = spectrum.new_zeros(x.shape[0], weight.shape[1], *spectrum.shape[2:])
    filled[:, :, :m, :m] = mixed[:, :, :m]
    filled[:, :, -m:, :m] = mixed[:, :, m:]
    y: Tensor = torch.fft.irfft2(filled, s=x.shape[-2:], norm="ortho")
    return y


class ReferenceNetwork(nn.Module):
    """The whole FNO by FFT and 1×1 convolutions on planes; reads the state dict of `FourierNetwork`."""

    def __init__(self, inputs: int, outputs: int, width: int, modes: int, layers: int = 4) -> None:
        super().__init__()
        self.lift = nn.Conv2d(inputs, width, 1)
        self.spectral = nn.ParameterList(
            torch.rand(width, width, 2 * modes, modes, 2) / width**2 for _ in range(layers)
        )
        self.pointwise = nn.ModuleList(nn.Conv2d(width, width, 1) for _ in range(layers))
        self.expand = nn.Conv2d(width, 2 * width, 1)
        self.project = nn.Conv2d(2 * width, outputs, 1)

    @classmethod
    def of(cls, network: FourierNetwork) -> ReferenceNetwork:
        """Return the plain network with the weights of ``network``, in its dtype."""
        state = network.state_dict()
        own = cls(network.fields + network.constants, network.outputs, network.width, network.modes, network.depth)
        renamed = {
            _plain_name(name): value if value.ndim != 2 else value[:, :, None, None] for name, value in state.items()
        }
        own = own.to(state["lift.weight"].dtype)
        own.load_state_dict(renamed)
        return own

    def forward(self, fields: Tensor, constants: Tensor) -> Tensor:
        """Map fields (batch, F, n, n) and constants (batch, K) to (batch, outputs, n, n)."""
        h = torch.cat([fields, constants[:, :, None, None].expand(-1, -1, *fields.shape[2:])], dim=1)
        h = self.lift(h)
        for i, (weight, pointwise) in enumerate(zip(self.spectral, self.pointwise, strict=True)):
            h = spectral_convolution(h, weight) + pointwise(h)
            if i < len(self.pointwise) - 1:
                h = functional.gelu(h)
        projected: Tensor = self.project(functional.gelu(self.expand(h)))
        return projected


def _plain_name(name: str) -> str:
    """Return the name `ReferenceNetwork` uses: ``layers.2.pointwise.bias`` is its ``pointwise.2.bias``."""
    parts = name.split(".")
    if parts[0] != "layers":
        return name
    _, index, kind, leaf = parts
    return f"spectral.{index}" if kind == "spectral" else f"{kind}.{index}.{leaf}"
