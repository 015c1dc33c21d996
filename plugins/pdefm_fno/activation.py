"""The pieces of the network between two transforms, with backward passes that save planes and passes over them.

A backward pass that is itself differentiated (``create_graph``) writes nothing in place.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from pdefm_fno.spectral_convolution import Tables, tables, transform, transposed, working

gelu_backward = torch.ops.aten.gelu_backward
gelu_in_place = torch.ops.aten.gelu_

KEPT_WIDTH = 16
"""Largest width at which the two hidden planes of the projection are kept for the backward pass. Above it they are
computed again, which costs a few percent of the step and saves a third of the activations."""


def activate(field: Tensor, m: int) -> tuple[Tensor, Tensor]:
    """Return GELU(field), and its parts as `pdefm_fno.spectral_convolution.analyse` gives them.

    The field and the first result must have one use only. Without gradients the field is overwritten. With gradients
    the one that arrives for the result is.
    """
    forward, _ = tables(len(field), m, field.dtype, field.device)
    if not torch.is_grad_enabled():
        active = gelu_in_place(field)
        return active, transform(active, forward)
    active, parts = _Activation.apply(field, forward)  # type: ignore[no-untyped-call]
    return active, parts


def project(field: Tensor, expand: torch.nn.Linear, contract: torch.nn.Linear) -> Tensor:
    """Apply contract(GELU(expand(field))) at every point: (…, d) → (…, outputs)."""
    arguments = working(field.flatten(0, -2), expand.weight, expand.bias, contract.weight, contract.bias)
    if not torch.is_grad_enabled():
        flat, weight, bias, few, few_bias = arguments
        hidden = gelu_in_place(torch.addmm(bias, flat, weight.t()))
        return (_few(hidden, few) + few_bias).view(*field.shape[:-1], -1)
    result: Tensor = _Projection.apply(*arguments)  # type: ignore[no-untyped-call]
    return result.view(*field.shape[:-1], -1)


class _Activation(torch.autograd.Function):
    """Saves only the field, and adds up its gradient in the buffer of one that arrives."""

    @staticmethod
    def forward(ctx: Any, field: Tensor, tables: Tables) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(field)
        ctx.tables = tables
        active = functional.gelu(field)
        return active, transform(active, tables)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (field,) = ctx.saved_tensors
        to_active, to_parts = gradients
        if torch.is_grad_enabled():
            return gelu_backward(to_active + transposed(to_parts, ctx.tables), field), None
        total = transposed(to_parts, ctx.tables, onto=to_active.contiguous())
        return gelu_backward.grad_input(total, field, grad_input=total), None


class _Projection(torch.autograd.Function):
    """Contracts with matrix-vector products in both directions, and overwrites the hidden gradient."""

    @staticmethod
    def forward(
        ctx: Any, field: Tensor, weight: Tensor, bias: Tensor, contract: Tensor, contract_bias: Tensor
    ) -> Tensor:
        before = torch.addmm(bias, field, weight.t())
        hidden = functional.gelu(before)
        kept = (before, hidden) if weight.shape[1] <= KEPT_WIDTH else ()
        ctx.save_for_backward(field, weight, bias, contract, *kept)
        return _few(hidden, contract) + contract_bias

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        field, weight, bias, contract, *kept = ctx.saved_tensors
        (gradient,) = gradients
        differentiable = torch.is_grad_enabled()
        if kept and not differentiable:
            before, hidden = kept
        else:
            before = torch.addmm(bias, field, weight.t())
            hidden = functional.gelu(before)
        to_contract = _few(hidden.t(), gradient.t()).t()
        to_before = gradient * contract if len(contract) == 1 else torch.mm(gradient, contract)
        if differentiable:
            to_before = gelu_backward(to_before, before)
        else:
            gelu_backward.grad_input(to_before, before, grad_input=to_before)
        to_weight = torch.mm(to_before.t(), field)
        return torch.mm(to_before, weight), to_weight, to_before.sum(0), to_contract, gradient.sum(0)


def _few(rows: Tensor, columns: Tensor) -> Tensor:
    """rows @ columns.T for few columns: by matrix-vector products, which are several times faster here."""
    return torch.stack([torch.mv(rows, column) for column in columns], dim=-1)
