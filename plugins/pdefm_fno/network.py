"""The Fourier neural operator of the paper (section 3, appendix A), laid out for speed.

    lift 1×1  →  depth × [spectral convolution + 1×1 convolution; GELU after all but the last]  →  1×1, d → 2d
    →  GELU  →  1×1, 2d → outputs

`pdefm_fno.reference` defines the same network plainly. Three things differ here, none of them in exact arithmetic. The
spectral convolutions are matrix products (`pdefm_fno.spectral_convolution`, `pdefm_fno.mixing`). Activations are
(n, n, batch, channels). The lifted field never exists: the lift is linear and the constants do not vary in space, so
the first layer transforms only the input fields, and the constants enter as one bias per example.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from pdefm_fno.activation import activate, project
from pdefm_fno.mixing import add_constant, mix
from pdefm_fno.spectral_convolution import analyse, synthesise

CHUNK = 2**20
"""Activation elements of a chunk of the batch on a CPU with one or two threads; half as many more for each further
thread. A chunk should stay in cache between operations, but products of few columns are slow."""


class SpectralWeight(nn.Module):
    """The complex weights of one spectral convolution: one width × width matrix for each of the 2m × m kept modes.

    Real and imaginary parts are drawn uniformly from [0, 1/width²), as in the paper's code.

    The parameter is (2m, m, in, 2, out), as the matrix products need it. In the state dict ``weight`` is
    (in, out, 2m, m, 2) with k_y in FFT order, 0 … m−1, −m … −1. That is the usual layout of FNO checkpoints, with their
    two blocks of k_y (``weights1``, ``weights2``) joined along the third axis. The state dict has a copy: writing to it
    does not change the network.
    """

    def __init__(self, width: int, modes: int) -> None:
        super().__init__()
        # Drawn in the common layout, so the numbers of a seed do not depend on the layout.
        drawn = torch.rand(width, width, 2 * modes, modes, 2) / width**2
        self.weight = nn.Parameter(_from_common(drawn))

    def forward(self, spectrum: Tensor) -> Tensor:
        """Mix the channels of every mode; see `pdefm_fno.mixing.mix`."""
        return mix(spectrum, self.weight)

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        weight = self.weight if keep_vars else self.weight.detach()
        destination[prefix + "weight"] = _to_common(weight)

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *arguments: Any) -> None:
        name = prefix + "weight"
        given = state_dict.get(name)
        if isinstance(given, Tensor) and given.ndim == 5:
            # A copy of the mapping: the caller's own tensors stay in the common layout.
            state_dict = {**state_dict, name: _from_common(given)}
        super()._load_from_state_dict(state_dict, prefix, *arguments)


class FourierLayer(nn.Module):
    """The weights of one Fourier layer: spectral ones, and a 1×1 convolution with bias."""

    def __init__(self, width: int, modes: int) -> None:
        super().__init__()
        self.spectral = SpectralWeight(width, modes)
        self.pointwise = nn.Linear(width, width)


class FourierNetwork(nn.Module):
    """The FNO. Its weights fit any grid with n ≥ 2 · modes.

    Args:
        fields: input channels that vary in space, F ≥ 1.
        constants: inputs that are one number per example, K ≥ 0.
        outputs: output channels.
        width: channels d of the hidden fields.
        modes: m; kept are k_y = −m … m−1 and k_x = 0 … m−1.
        depth: number of Fourier layers.
    """

    def __init__(self, fields: int, constants: int, outputs: int, width: int, modes: int, depth: int = 4) -> None:
        super().__init__()
        self.fields, self.constants, self.outputs = fields, constants, outputs
        self.width, self.modes, self.depth = width, modes, depth
        self.lift = nn.Linear(fields + constants, width)
        self.layers = nn.ModuleList(FourierLayer(width, modes) for _ in range(depth))
        self.expand = nn.Linear(width, 2 * width)
        self.project = nn.Linear(2 * width, outputs)

    def forward(self, fields: Tensor, constants: Tensor) -> Tensor:
        """Map fields (batch, F, n, n) and constants (batch, K) to (batch, outputs, n, n)."""
        batch, _, n, _ = fields.shape
        size = max(1, batch)
        if fields.device.type == "cpu":
            room = CHUNK * max(2, torch.get_num_threads()) // 2
            size = max(1, room // (n * n * self.width))
        lift_fields, lift_constants = torch.split(self.lift.weight, [self.fields, self.constants], dim=1)
        offset = functional.linear(constants, lift_constants, self.lift.bias)

        # The lifted field is source · lift_fields + offset. Whatever is constant in space, here and in the biases
        # below, is added to the mode k = 0, where a plane of value c is n c: no pass over the grid.
        sources = [chunk.permute(2, 3, 0, 1).contiguous() for chunk in torch.split(fields, size)]
        spectrum = functional.linear(_join([analyse(source, self.modes) for source in sources]), lift_fields)
        spectrum = add_constant(spectrum, n * offset)
        layers = cast("list[FourierLayer]", list(self.layers))
        pointwise = layers[0].pointwise
        weight = pointwise.weight @ lift_fields
        offset = functional.linear(offset, pointwise.weight, pointwise.bias)
        hidden = sources
        for layer, following in zip(layers, [*layers[1:], None], strict=True):
            mixed = add_constant(layer.spectral(spectrum), n * offset)
            results, spectra = [], []
            for part, h in zip(torch.split(mixed, size, dim=2), hidden, strict=True):
                # From here to its next transform a chunk stays in cache.
                z = synthesise(part, h, weight)
                if following is None:
                    results.append(project(z, self.expand, self.project))
                else:
                    active, parts = activate(z, self.modes)
                    spectra.append(parts)
                    results.append(active)
            hidden = results
            if following is not None:
                spectrum, weight, offset = _join(spectra), following.pointwise.weight, following.pointwise.bias
        planes = [h.permute(2, 3, 0, 1) for h in hidden]
        return torch.cat(planes) if len(planes) > 1 else planes[0].contiguous()


def _join(spectra: list[Tensor]) -> Tensor:
    """Join the spectra of chunks along the batch."""
    return spectra[0] if len(spectra) == 1 else torch.cat(spectra, dim=2)


def _to_common(weight: Tensor) -> Tensor:
    """(2m, m, in, 2, out) → (in, out, 2m, m, 2)."""
    return weight.permute(2, 4, 0, 1, 3).contiguous()


def _from_common(weight: Tensor) -> Tensor:
    """(in, out, 2m, m, 2) → (2m, m, in, 2, out)."""
    return weight.permute(2, 3, 0, 4, 1).contiguous()
