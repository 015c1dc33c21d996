"""Adam (Kingma and Ba, arXiv 1412.6980) with torch's defaults, by torch's own kernels.

`torch.optim.Adam` takes the same steps, to the bit. But the first optimiser of a process imports torch's compiler, some
800 modules in two seconds, which nothing here uses; and every process that trains has a first optimiser. The function
beneath it, `torch.optim.adam.adam`, needs none of that.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor
from torch.optim.adam import adam

Moments = tuple[Tensor, Tensor, Tensor]
"""Of one parameter: running means of its gradient and of the gradient's square, and the number of its steps."""


class Adam:
    """Takes steps of Adam on those parameters that have gradients.

    Args:
        parameters: what is trained.
        fused: whether one kernel takes the whole step; for real weights, on devices that have one.
    """

    def __init__(self, parameters: Iterable[Tensor], fused: bool) -> None:
        self._parameters = list(parameters)
        self._fused = fused
        self._moments: dict[int, Moments] = {}

    @torch.no_grad()
    def step(self, learning_rate: float) -> None:
        """Move the parameters, in place."""
        moved = [(number, p, p.grad) for number, p in enumerate(self._parameters) if p.grad is not None]
        for number, parameter, _ in moved:
            if number not in self._moments:
                self._moments[number] = self._at_rest(parameter)
        moments = [self._moments[number] for number, _, _ in moved]
        adam(
            [parameter for _, parameter, _ in moved],
            [gradient for _, _, gradient in moved],
            [mean for mean, _, _ in moments],
            [square for _, square, _ in moments],
            [],
            [steps for _, _, steps in moments],
            fused=self._fused,
            has_complex=any(parameter.is_complex() for _, parameter, _ in moved),
            amsgrad=False,
            beta1=0.9,
            beta2=0.999,
            lr=learning_rate,
            weight_decay=0.0,
            eps=1e-8,
            maximize=False,
        )

    def state(self) -> dict[int, Moments]:
        """Return what `restore` needs: the moments of each parameter that was moved, by its position."""
        return self._moments

    def restore(self, state: Mapping[int, Moments]) -> None:
        """Go on from what `state` returned, on whatever device."""
        self._moments = {}
        for number, given in state.items():
            own = self._at_rest(self._parameters[number])
            for tensor, value in zip(own, given, strict=True):
                tensor.copy_(value)
            self._moments[number] = own

    def _at_rest(self, parameter: Tensor) -> Moments:
        if self._fused:  # counts its steps on the device, in float32
            steps = torch.zeros((), dtype=torch.float32, device=parameter.device)
        else:  # a count on the CPU spares a GPU a launch
            steps = torch.zeros(())
        return torch.zeros_like(parameter), torch.zeros_like(parameter), steps
