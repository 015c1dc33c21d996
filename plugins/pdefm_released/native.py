"""Fine-tuning as the authors of each family do it, within the suite's number of steps and batch size."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn

from pdebench_fm.errors import SettingError
from pdebench_fm.interfaces import OperatorModel, TransferProtocol
from pdebench_fm.training import Recipe
from pdefm_released.adapter import Adapter
from pdefm_released.model import ReleasedModel

Freeze = Literal["none", "middle", "processor"]
LORA_ATTENTION, LORA_MLP = 16, 12
LEVELS = 4


@dataclass(frozen=True)
class Native:
    """How a family is fine-tuned.

    Args:
        rate: learning rate as published; None if there is none.
        groups: parameters by name in the network, with their multiple of the rate and options of the optimiser.
        optimizer: as for `Recipe`.
        schedule: as for `Recipe`.
        loss: of each example, from normalised prediction and target.
        clip: as for `Recipe`.
        about: what the record says.
        lora: ranks of low-rank updates in attention and MLPs; they are added to the weights after the fit.
    """

    rate: float | None
    groups: Callable[[nn.Module], list[dict[str, Any]]]
    optimizer: Callable[..., torch.optim.Optimizer]
    schedule: Callable[[float, Sequence[float]], float]
    loss: Callable[[Tensor, Tensor], Tensor]
    clip: float | None
    about: str
    lora: tuple[int, int] = (0, 0)

    @contextmanager
    def recipe(self, module: Adapter, seed: int) -> Iterator[Recipe]:
        """Return the recipe for an adapter; parameters without a group are frozen within the block."""
        network = module.network
        if any(self.lora):
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed)
                network.add_lora(*self.lora)
        groups = [group for group in self.groups(network) if group["params"]]
        trained = {id(parameter) for group in groups for parameter in group["params"]}
        frozen = [p for p in module.parameters() if p.requires_grad and id(p) not in trained]
        for parameter in frozen:
            parameter.requires_grad_(False)

        def loss(prediction: Tensor, target: Tensor) -> Tensor:
            mean, std = module.output_mean[:, None, None], module.output_std[:, None, None]
            return self.loss((prediction - mean) / std, (target - mean) / std)

        try:
            yield Recipe(groups, self.optimizer, self.schedule, loss, self.clip)
        finally:
            for parameter in frozen:
                parameter.requires_grad_(True)
            if any(self.lora):
                network.merge_lora()


class NativeFineTune(TransferProtocol):
    """Fine-tune a released model as its authors do: groups of parameters, optimiser, schedule, loss and clipping.

    Args:
        level: of MORPH, 1 to 4: how much is trained, see its page.
        freeze: of MPP: ``middle`` trains what new fields add, ``processor`` also the stem, ``none`` everything.

    Raises:
        SettingError: there is no such level.
    """

    def __init__(self, level: int = 1, freeze: Freeze = "none") -> None:
        if not 1 <= level <= LEVELS:
            raise SettingError("level", f"must be 1 to {LEVELS}, got {level}")
        self.level, self.freeze = level, freeze

    @property
    def starts_from(self) -> Literal["pretrained", "initialised"]:
        """Starts from the released weights."""
        return "pretrained"

    def sizes(self, downstream: Sequence[int]) -> Sequence[int]:
        """Scored at every size of the suite."""
        return downstream

    def refuses(self, model: OperatorModel) -> str | None:
        """Refuse a model that is not a released one."""
        return None if isinstance(model, ReleasedModel) else "only released models have a recipe of their authors"

    def search_space(self, model: OperatorModel, rates: Sequence[float]) -> Sequence[Mapping[str, float]]:
        """Try the published rate, or the suite's if none is published."""
        rate = self._native(model).rate
        return model.search_space(rates if rate is None else [rate])

    def wrap(self, model: OperatorModel) -> OperatorModel:
        """Make the model's fit follow the recipe."""
        assert isinstance(model, ReleasedModel)
        native = self._native(model)
        model.fit_with(native.recipe, native.about)
        return model

    def _native(self, model: OperatorModel) -> Native:
        assert isinstance(model, ReleasedModel)
        return recipe_of(model.adapter.family, self.level, self.freeze)


def recipe_of(family: str, level: int = 1, freeze: Freeze = "none") -> Native:
    """Return how the authors of a family fine-tune."""
    return {
        "Poseidon": lambda: POSEIDON,
        "DPOT": lambda: DPOT,
        "MPP": lambda: mpp(freeze),
        "MORPH": lambda: morph(level),
    }.get(family, lambda: PDE_TRANSFORMER)()


# Schedules ------------------------------------------------------------------------------------------------------------


def cosine(done: float, validated: Sequence[float]) -> float:
    """Decay to zero without a warm-up."""
    return 0.5 * (1 + math.cos(math.pi * done))


def constant(done: float, validated: Sequence[float]) -> float:
    """Keep the rate."""
    return 1.0


def one_cycle(done: float, validated: Sequence[float], warm: float = 0.2, start: float = 25, end: float = 1e4) -> float:
    """Rise from 1/25 within the first fifth, then fall; factors are those of torch's OneCycleLR."""
    low, high, part = (
        (1 / start, 1.0, done / warm) if done < warm else (1 / (start * end), 1.0, (done - warm) / (1 - warm))
    )
    weight = 0.5 * (1 + math.cos(math.pi * part))
    return high + (low - high) * weight if done < warm else low + (high - low) * weight


def plateau(done: float, validated: Sequence[float], factor: float = 0.5, patience: int = 5) -> float:
    """Halve the rate after more than five epochs without a lower validation loss."""
    best, bad, rate = math.inf, 0, 1.0
    for loss in validated:
        if loss < best * (1 - 1e-4):
            best, bad = loss, 0
        else:
            bad += 1
        if bad > patience:
            rate, bad = rate * factor, 0
    return rate


# Losses, of each example, from (batch, outputs, n, n) -----------------------------------------------------------------


def relative_l1(prediction: Tensor, target: Tensor) -> Tensor:
    """Return the L1 error of each channel by the channel's L1 norm, averaged over channels."""
    sizes = (prediction - target).abs().mean((-2, -1)), target.abs().mean((-2, -1))
    return (sizes[0] / (sizes[1] + 1e-10)).mean(1)


def relative_l2(prediction: Tensor, target: Tensor) -> Tensor:
    """Return the relative L2 error of each channel, averaged over channels."""
    return ((prediction - target).flatten(2).norm(dim=2) / target.flatten(2).norm(dim=2).clamp(min=1e-12)).mean(1)


def scaled_square(prediction: Tensor, target: Tensor) -> Tensor:
    """Return the squared error by the mean square of each channel's target, averaged over channels."""
    return ((prediction - target).square().mean((-2, -1)) / (1e-7 + target.square().mean((-2, -1)))).mean(1)


def square(prediction: Tensor, target: Tensor) -> Tensor:
    """Return the mean squared error."""
    return (prediction - target).square().mean((1, 2, 3))


# Families -------------------------------------------------------------------------------------------------------------


def poseidon_groups(network: nn.Module) -> list[dict[str, Any]]:
    """Group Poseidon's parameters as published: new layers and time-conditioned norms learn ten times faster."""
    groups: dict[str, list[nn.Parameter]] = {
        "standard": [],
        "no_weight_decay": [],
        "embeddings": [],
        "time_embedding": [],
    }
    for name, parameter in network.named_parameters():
        if "embeddings" in name or "patch_recovery" in name:
            kind = "embeddings"
        elif "layernorm" in name or ".norm." in name:
            kind = "time_embedding"
        else:
            kind = "no_weight_decay" if "bias" in name else "standard"
        groups[kind].append(parameter)
    factors = {"standard": 1.0, "no_weight_decay": 1.0, "embeddings": 10.0, "time_embedding": 10.0}
    decay = {"standard": 1e-6, "embeddings": 1e-6}
    return [
        {"params": own, "factor": factors[kind], "weight_decay": decay.get(kind, 0.0)} for kind, own in groups.items()
    ]


def all_parameters(network: nn.Module, **options: Any) -> list[dict[str, Any]]:
    """Train everything alike."""
    return [{"params": list(network.parameters()), "factor": 1.0, **options}]


MPP_TRAINED = {
    "none": ("",),
    "middle": ("space_bag.", "debed.out_kernel", "debed.out_bias"),
    "processor": ("space_bag.", "embed.", "debed."),
}


def mpp_groups(network: nn.Module, freeze: Freeze) -> list[dict[str, Any]]:
    """Train what the published freezing leaves; vectors do not decay."""
    trained = [p for name, p in network.named_parameters() if name.startswith(MPP_TRAINED[freeze])]
    return [
        {"params": [p for p in trained if p.ndim > 1], "factor": 1.0, "weight_decay": 1e-3},
        {"params": [p for p in trained if p.ndim <= 1], "factor": 1.0, "weight_decay": 0.0},
    ]


def morph_groups(network: nn.Module, level: int) -> list[dict[str, Any]]:
    """Train what MORPH's levels add: updates, norms and positions; then the stem; then the decoder; or everything."""
    if level == LEVELS:
        return all_parameters(network, weight_decay=0.0)
    updates, norms, others = [], [], []
    for name, parameter in network.named_parameters():
        if name.endswith((".A", ".B")):
            updates.append(parameter)
        elif ".norm" in name or name.startswith("pos_encoding."):
            norms.append(parameter)
        elif (level >= 2 and name.startswith("patch_embedding.")) or (
            level >= 3 and name.startswith("decoder.linear.")
        ):
            others.append(parameter)
    return [
        {"params": updates, "factor": 10.0, "weight_decay": 0.0},
        {"params": norms, "factor": 1.0, "weight_decay": 0.0},
        {"params": others, "factor": 1.0, "weight_decay": 1e-5},
    ]


_BUDGET = "steps and batch size are the suite's"
POSEIDON = Native(
    5e-5,
    poseidon_groups,
    torch.optim.AdamW,
    cosine,
    relative_l1,
    5.0,
    "AdamW, cosine; body 5e-5, embedding, recovery and time-conditioned norms 5e-4; decay 1e-6, none on biases and "
    "norms; L1 of each channel by its norm (theirs: of the batch); gradient norm at most 5; "
    f"{_BUDGET} (theirs: 200 epochs, 40)",
)
DPOT = Native(
    1e-3,
    partial(all_parameters, weight_decay=1e-6),
    partial(torch.optim.Adam, betas=(0.9, 0.9)),
    one_cycle,
    relative_l2,
    1e4,
    "Adam with betas 0.9 and 0.9, decay 1e-6, one cycle with a fifth of warm-up, 1e-3; relative L2 of each channel "
    f"(theirs: summed over the batch); gradient norm at most 10000; {_BUDGET} (theirs: 200 epochs, 32)",
)
PDE_TRANSFORMER = Native(
    4e-5,
    partial(all_parameters, weight_decay=1e-15),
    torch.optim.AdamW,
    constant,
    square,
    None,
    "no recipe is published; that of the pre-training: AdamW, 4e-5, decay 1e-15, squared error; without its average of "
    f"weights, clipping and bfloat16; {_BUDGET}",
)


def mpp(freeze: Freeze) -> Native:
    """Return MPP's recipe."""
    return Native(
        None,
        partial(mpp_groups, freeze=freeze),
        torch.optim.AdamW,
        cosine,
        scaled_square,
        1.0,
        "AdamW, cosine, decay 1e-3 except on vectors, squared error by the target's mean square, gradient norm at most "
        f"1; frozen: {freeze}; the rate is the suite's, since theirs is set by D-Adaptation; {_BUDGET}",
    )


def morph(level: int) -> Native:
    """Return MORPH's recipe."""
    return Native(
        1e-4,
        partial(morph_groups, level=level),
        torch.optim.AdamW,
        plateau,
        square,
        None,
        f"level {level}: AdamW 1e-4, low-rank updates 1e-3 (rank {LORA_ATTENTION} in attention, {LORA_MLP} in MLPs), "
        f"halved after 5 epochs without progress; squared error of normalised fields; {_BUDGET} (theirs: 150 epochs)",
        lora=(0, 0) if level == LEVELS else (LORA_ATTENTION, LORA_MLP),
    )
