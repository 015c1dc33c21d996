"""What people do with networks: it works, or is refused before the first step with the way out."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from pdebench_fm.errors import RunError
from pdebench_fm.hookspecs import ModelEntry
from pdebench_fm.interfaces import Budget, FitContext, TrialSettings
from pdebench_fm.problem import Channel, Grid, Problem
from pdebench_fm.registry import registry
from pdebench_fm.testing import SmoothExamples, checks_of_model
from pdebench_fm.training import NetworkModel, fit_network

PROBLEM = Problem((Channel("source"), Channel("k11", "constant")), (Channel("solution"),), Grid(8))
DATA = SmoothExamples(PROBLEM, 5)
TRIAL = TrialSettings({"learning_rate": 1e-2}, 0)


class Network(nn.Module):
    """A convolution between what `before` and `after` do."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Conv2d(1, 1, 3, padding=1)

    def forward(self, fields: Tensor, constants: Tensor) -> Any:
        return self.inner(fields * constants[:, :, None, None])


class Dropout(Network):
    def forward(self, fields: Tensor, constants: Tensor) -> Tensor:
        return nn.functional.dropout(super().forward(fields, constants), 0.1, self.training)


class BatchNorm(Network):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(1)

    def forward(self, fields: Tensor, constants: Tensor) -> Tensor:
        return self.norm(super().forward(fields, constants))


class Lazy(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner, self.last = nn.LazyConv2d(4, 3, padding=1), nn.LazyLinear(1)

    def forward(self, fields: Tensor, constants: Tensor) -> Tensor:
        return self.last(self.inner(fields).movedim(1, -1)).movedim(-1, 1)


class LateBuffer(Network):
    """Makes a buffer when it first sees a grid."""

    def forward(self, fields: Tensor, constants: Tensor) -> Tensor:
        if not hasattr(self, "mask"):
            self.register_buffer("mask", torch.linspace(0, 1, fields.shape[-1]))
        return super().forward(fields, constants) * self.mask


class Double(Network):
    """Float64 throughout."""

    def __init__(self) -> None:
        super().__init__()
        self.double()


class DoubleInside(Network):
    """One layer in float64, with its own conversions."""

    def __init__(self) -> None:
        super().__init__()
        self.register_parameter("scale", nn.Parameter(torch.ones(())))
        self.inner.double()
        self._parameters.move_to_end("scale", last=False) if isinstance(self._parameters, OrderedDict) else None

    def forward(self, fields: Tensor, constants: Tensor) -> Tensor:
        return self.scale * super().forward(fields.double(), constants.double()).float()


class DoubleOut(Network):
    def forward(self, fields: Tensor, constants: Tensor) -> Tensor:
        return super().forward(fields, constants).double()


class Metadata(Network):
    """Puts its arguments into the state dict, as neuraloperator's models do."""

    def state_dict(self, *arguments: Any, **named: Any) -> Any:
        state = super().state_dict(*arguments, **named)
        state["_metadata"] = {"width": 4, "activation": nn.functional.gelu}
        return state


class PlainExtra(Network):
    count = 3

    def get_extra_state(self) -> Any:
        return {"count": self.count}

    def set_extra_state(self, state: Any) -> None:
        self.count = state["count"]


class TensorExtra(PlainExtra):
    def get_extra_state(self) -> Any:
        return torch.tensor(self.count)

    def set_extra_state(self, state: Any) -> None:
        self.count = int(state)


class ChannelsLast(Network):
    """In torch's memory format of that name."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Conv2d(1, 1, 3, padding=1).to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, fields: Tensor, constants: Tensor) -> Tensor:
        return super().forward(fields.contiguous(memory_format=torch.channels_last), constants)


class ComplexWeights(Network):
    """Multiplies a Fourier transform."""

    def __init__(self) -> None:
        super().__init__()
        self.spectrum = nn.Parameter(torch.randn(8, 5, dtype=torch.complex64))

    def forward(self, fields: Tensor, constants: Tensor) -> Tensor:
        return torch.fft.irfft2(torch.fft.rfft2(super().forward(fields, constants)) * self.spectrum, s=(8, 8))


class Tied(Network):
    """One weight under two names."""

    def __init__(self) -> None:
        super().__init__()
        self.again = nn.Conv2d(1, 1, 3, padding=1)
        self.again.weight = self.inner.weight

    def forward(self, fields: Tensor, constants: Tensor) -> Tensor:
        return self.again(super().forward(fields, constants))


class Buffers(Network):
    """A buffer that is saved, one that is not, and one that every step of training changes."""

    seen: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("window", torch.hann_window(8))
        self.register_buffer("once", torch.ones(8), persistent=False)
        self.register_buffer("seen", torch.zeros((), dtype=torch.int64))

    def forward(self, fields: Tensor, constants: Tensor) -> Tensor:
        if self.training:
            self.seen += 1
        return super().forward(fields, constants) * self.window * self.once


class Tokens(Network):
    """A fixed number of tokens, each with its own position."""

    def __init__(self, size: int = 8) -> None:
        super().__init__()
        self.position = nn.Parameter(torch.randn(size * size))

    def forward(self, fields: Tensor, constants: Tensor) -> Tensor:
        tokens = super().forward(fields, constants).flatten(2) + self.position  # one grid only
        return tokens.unflatten(2, fields.shape[-2:])


class WeightNorm(Network):
    def __init__(self) -> None:
        super().__init__()
        nn.utils.parametrizations.weight_norm(self.inner)


class Potential(Network):
    """The derivative of a scalar: needs gradients in evaluation too, and says so."""

    def forward(self, fields: Tensor, constants: Tensor) -> Tensor:
        with torch.enable_grad():
            fields = fields.clone().requires_grad_()
            energy = super().forward(fields, constants).square().sum()
            return torch.autograd.grad(energy, fields, create_graph=self.training)[0]


class OwnEval(Network):
    """Has a mode of its own, and methods that return nothing."""

    def eval(self) -> Any:
        super().eval()

    def train(self, mode: bool = True) -> Any:
        self.sampling = mode
        return super().train(mode)


def model_of(network: Callable[[], nn.Module]) -> NetworkModel:
    class Model(NetworkModel):
        def build(self, problem: Problem) -> nn.Module:
            return network()

    return Model()


@pytest.mark.parametrize("network", [
    Network, Dropout, BatchNorm, Lazy, LateBuffer, Double, DoubleInside, DoubleOut, Metadata, PlainExtra, TensorExtra,
    ChannelsLast, WeightNorm, Potential, OwnEval, ComplexWeights, Tied, Buffers, Tokens,
])  # fmt: skip
def test_it_is_fitted_saved_and_loaded(network: type[nn.Module], tmp_path: Path) -> None:
    model = model_of(network)
    model.initialise(PROBLEM, DATA, 0)
    report = model.fit(DATA, DATA, Budget(2, None, 4), TRIAL, FitContext(tmp_path))
    assert report.status == "ok"
    inputs, _ = DATA.batch(range(3))
    before = model.predict(PROBLEM, inputs)["solution"]
    assert before.dtype == torch.float32
    assert not before.requires_grad
    model.save(tmp_path)
    again = model_of(network)
    again.load(tmp_path)
    assert again.predict(PROBLEM, inputs)["solution"].equal(before)
    assert again.parameters == model.parameters
    more = again.fit(DATA, DATA, Budget(None, 2, 4), TRIAL, FitContext(tmp_path))
    assert more.status == "ok"


def test_extra_state_that_a_fit_changes_is_kept(tmp_path: Path) -> None:
    model = model_of(PlainExtra)
    model.initialise(PROBLEM, DATA, 0)
    model.network.count = 7  # type: ignore[assignment]
    model.save(tmp_path)
    again = model_of(PlainExtra)
    again.load(tmp_path)
    assert again.network.count == 7


def test_lazy_modules_are_seeded() -> None:
    one, same, other = (model_of(Lazy) for _ in range(3))
    for model, seed in ((one, 0), (same, 0), (other, 1)):
        model.initialise(PROBLEM, DATA, seed)
    weights = [model.network.state_dict()["inner.weight"] for model in (one, same, other)]
    assert weights[0].equal(weights[1])
    assert not weights[0].equal(weights[2])


class Tuple(Network):
    def forward(self, fields: Tensor, constants: Tensor) -> Any:
        return super().forward(fields, constants), torch.zeros(())


class Dict(Network):
    def forward(self, fields: Tensor, constants: Tensor) -> Any:
        return {"solution": super().forward(fields, constants)}


@dataclass
class Output:
    prediction: Tensor


class DataClass(Network):
    def forward(self, fields: Tensor, constants: Tensor) -> Any:
        return Output(super().forward(fields, constants))


class ChannelLast(Network):
    def forward(self, fields: Tensor, constants: Tensor) -> Any:
        return super().forward(fields, constants).movedim(1, -1)


class NoChannel(Network):
    def forward(self, fields: Tensor, constants: Tensor) -> Any:
        return super().forward(fields, constants)[:, 0]


class ComplexOut(Network):
    def forward(self, fields: Tensor, constants: Tensor) -> Any:
        return torch.fft.fft2(super().forward(fields, constants))


class Half(Network):
    def __init__(self) -> None:
        super().__init__()
        self.bfloat16()


class NeedsGradients(Network):
    def forward(self, fields: Tensor, constants: Tensor) -> Any:
        energy = super().forward(fields.requires_grad_(), constants).square().sum()
        return torch.autograd.grad(energy, fields, create_graph=self.training)[0]


class OddExtra(Network):
    def get_extra_state(self) -> Any:
        return {"activation": nn.functional.gelu}

    def set_extra_state(self, state: Any) -> None:
        pass


class Quantised(Network):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("levels", torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8))


class DoubleComplex(Network):
    def __init__(self) -> None:
        super().__init__()
        self.spectrum = nn.ParameterList([torch.ones(2, dtype=torch.complex128)])


class Undecided(Network):
    """Another size every time."""

    sizes = iter(range(1, 100))

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("table", torch.zeros(next(self.sizes)))


class DynamicallyQuantised(Network):
    """Keeps its packed weights, which are no tensors, in the state dict."""

    def __init__(self) -> None:
        super().__init__()
        self.last = torch.ao.quantization.quantize_dynamic(nn.Sequential(nn.Linear(8, 8)))

    def forward(self, fields: Tensor, constants: Tensor) -> Any:
        return self.last(super().forward(fields, constants))


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning")
@pytest.mark.parametrize(("network", "line"), [
    (Tuple, r"must return a tensor \(1, 1, 8, 8\), got a tuple of 2: return only the tensor"),
    (Dict, "got a dict of 1: return only the tensor"),
    (DataClass, "got a Output: return only the tensor"),
    (ChannelLast, r"got \(1, 8, 8, 1\): channels come second, use permute\(0, 3, 1, 2\)"),
    (NoChannel, r"got \(1, 8, 8\): use unsqueeze\(1\)"),
    (ComplexOut, "real numbers, got torch.complex64"),
    (Half, "float32 or float64, got torch.bfloat16; --precision bfloat16"),
    (NeedsGradients, r"with torch.enable_grad\(\)"),
    (OddExtra, "_extra_state must be a tensor or plain data"),
    (Quantised, r"levels is a tensor that safetensors cannot hold \(quantized\)"),
    (DynamicallyQuantised, "could not be loaded again"),
    (DoubleComplex, r"spectrum.0 .*cannot hold \(torch.complex128\): use float32 or complex64"),
    (Undecided, "could not be loaded again: the weights do not fit"),
])  # fmt: skip
def test_it_is_refused_before_the_first_step(network: type[nn.Module], line: str) -> None:
    with pytest.raises(RunError, match=line) as refused:
        model_of(network).initialise(PROBLEM, DATA, 0)
    assert len(str(refused.value).splitlines()) == 1


class OneGrid(NetworkModel):
    def build(self, problem: Problem) -> nn.Module:
        return Tokens()


class ItsOwnGrid(OneGrid):
    """The two ways out: built for the grid, and refusing others."""

    def build(self, problem: Problem) -> nn.Module:
        return Tokens(problem.grid.size)


class Refuses(OneGrid):
    def supports(self, problem: Problem) -> str | None:
        return None if problem.grid.size == 8 else "8 points a side"


def test_a_network_of_fixed_tokens_is_refused_by_the_gate_with_the_way_out() -> None:
    line = (
        r"^the network takes fields of 8², not of 16²: build it for problem.grid.size, or let supports refuse other "
        r"grids \(RuntimeError: .*\(test_networks.py:\d+\)\)$"
    )
    with pytest.raises(RunError, match=line):
        predicts_every_output(OneGrid)
    predicts_every_output(ItsOwnGrid)
    predicts_every_output(Refuses)


def predicts_every_output(model: type[NetworkModel]) -> None:
    """Run one check of the gate; it begins with grids of 16 points, or of 8 if the model asks for them."""
    found = registry().with_model(ModelEntry("tokens", "1", model, "of a test"))
    dict(checks_of_model("tokens", found, problem=PROBLEM))["predicts_every_output"]()


class Renamed(NetworkModel):
    def __init__(self, width: int = 4) -> None:
        self.breadth = width

    def build(self, problem: Problem) -> nn.Module:
        return Network()


def test_an_argument_that_is_not_kept_is_named() -> None:
    with pytest.raises(RunError, match=r"Renamed takes 'width' and does not keep it: set self.width in __init__"):
        Renamed().initialise(PROBLEM, DATA, 0)


@pytest.mark.parametrize(("network", "line"), [(Tuple, "got a tuple of 2"), (ChannelLast, "channels come second")])
def test_a_loop_of_ones_own_is_told_too(network: Callable[[], nn.Module], line: str, tmp_path: Path) -> None:
    def encode(_: Any, inputs: Any) -> tuple[Tensor, Tensor]:
        return inputs["source"][:, None], inputs["k11"][:, None]

    with pytest.raises(RunError, match=line):
        fit_network(network(), encode, ("solution",), DATA, DATA, Budget(1, None, 4), TRIAL, FitContext(tmp_path))


def test_a_network_that_nothing_trains_is_told_so(tmp_path: Path) -> None:
    model = model_of(Network)
    model.initialise(PROBLEM, DATA, 0)
    model.network.requires_grad_(False)
    with pytest.raises(RunError, match="depends on no trained weight: all are frozen, or the forward pass detaches"):
        model.fit(DATA, DATA, Budget(1, None, 4), TRIAL, FitContext(tmp_path))
