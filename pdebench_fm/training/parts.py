"""Which layers of a network read the inputs, and which make the outputs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import torch
from torch import nn

from pdebench_fm.problem import Channel, Problem
from pdebench_fm.training.calling import without_memory


def find_parts(build: Callable[[Problem], nn.Module], problem: Problem, network: nn.Module) -> dict[str, list[str]]:
    """Find the embedding and the head of a network: the modules whose weights depend on the number of channels.

    Nothing is found in a network that cannot be built on torch's meta device, or only for some numbers of channels.

    Args:
        problem: what ``network`` was built for.

    Returns:
        names of modules in the order of the network, for those of ``embedding`` and ``head`` that were found.
    """
    shapes = {name: weight.shape for name, weight in network.named_parameters()}
    owners = list(dict.fromkeys(map(_owner, shapes)))
    field, constant = Channel("one_more_field"), Channel("one_more_constant", "constant")
    wider = {
        "embedding": [replace(problem, inputs=(*problem.inputs, channel)) for channel in (field, constant)],
        "head": [replace(problem, outputs=(*problem.outputs, field))],
    }
    found = {part: set().union(*(_changed(build, other, shapes) for other in others)) for part, others in wider.items()}
    return {part: [name for name in owners if name in own] for part, own in found.items() if own}


def _changed(build: Callable[[Problem], nn.Module], problem: Problem, shapes: Mapping[str, torch.Size]) -> set[str]:
    """Return the modules that have weights of other shapes when built for another problem."""
    try:
        weights = dict(without_memory(build, problem).named_parameters())
        return {_owner(name) for name in shapes.keys() & weights.keys() if weights[name].shape != shapes[name]}
    except Exception:  # some networks take only some problems, or need data
        return set()


def _owner(name: str) -> str:
    """Return the module of a weight; the weight itself if that is the whole network."""
    module, parametrised, _ = name.partition(".parametrizations.")
    return module if parametrised else module.rpartition(".")[0] or name
