"""What an operator maps to what: channels on a grid, and how one problem sits inside a larger one.

Every system of the benchmark, every model input and every file is described by a `Problem`. Values travel as `Fields`:
a mapping from channel name to tensor, of shape (batch, n, n) for a channel that varies in space and (batch,) for one
number per example. Arrays are indexed (…, y, x); the grid point with index i is at i/n of the length.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

from pdebench_fm._util.plain import Strict, read_plain
from pdebench_fm.errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor

Role = Literal["field", "constant"]
Fields = Mapping[str, "Tensor"]

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,31}")


@dataclass(frozen=True)
class Grid:
    """A uniform grid on a square.

    Args:
        size: points along each side, n ≥ 2.
        length: side of the square.
        periodic: whether the first point follows the last.
    """

    size: int
    length: float = 1.0
    periodic: bool = True

    def __post_init__(self) -> None:
        if self.size < 2:
            raise UsageError(f"a grid needs at least 2 points a side, got {self.size}")
        if not self.length > 0:
            raise UsageError(f"the length of a grid must be positive, got {self.length}")

    def __str__(self) -> str:
        ends = "periodic" if self.periodic else "not periodic"
        return f"{self.size} × {self.size}, length {self.length:g}, {ends}"

    @property
    def spacing(self) -> float:
        """Distance of neighbouring points, length/n, periodic or not: the point with index i is at i/n."""
        return self.length / self.size


@dataclass(frozen=True)
class Channel:
    """One named quantity: a ``field`` varies in space, a ``constant`` is one number per example."""

    name: str
    role: Role = "field"

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise UsageError(f"a channel name is a letter, then up to 31 letters, digits or _, got {self.name!r}")
        if self.role not in get_args(Role):
            raise UsageError(f"channel {self.name!r}: role must be 'field' or 'constant', got {self.role!r}")


@dataclass(frozen=True)
class Problem:
    """The map an operator model learns.

    Args:
        inputs: channels given; at least one of them a field.
        outputs: channels asked for; all fields.
        grid: where the fields are sampled.
        homogeneous: the equation is linear in its inputs taken together: multiplying every input by one number leaves
            the solution as it is, so that (f, K) and (10 f, 10 K) are one problem (paper, A.5).
    """

    inputs: tuple[Channel, ...]
    outputs: tuple[Channel, ...]
    grid: Grid
    homogeneous: bool = False

    def __post_init__(self) -> None:
        names = [channel.name for channel in (*self.inputs, *self.outputs)]
        if len(set(names)) != len(names):
            raise UsageError(f"a problem names each channel once, got {', '.join(names)}")
        if not any(channel.role == "field" for channel in self.inputs):
            raise UsageError("a problem needs at least one input field")
        if not self.outputs or any(channel.role != "field" for channel in self.outputs):
            raise UsageError("a problem needs at least one output, and all its outputs are fields")

    @property
    def input_names(self) -> tuple[str, ...]:
        """Names of the input channels, in order."""
        return tuple(channel.name for channel in self.inputs)

    @property
    def output_names(self) -> tuple[str, ...]:
        """Names of the output channels, in order."""
        return tuple(channel.name for channel in self.outputs)

    @property
    def input_fields(self) -> tuple[str, ...]:
        """Names of the input channels that vary in space."""
        return tuple(channel.name for channel in self.inputs if channel.role == "field")

    @property
    def constants(self) -> tuple[str, ...]:
        """Names of the input channels that are one number per example."""
        return tuple(channel.name for channel in self.inputs if channel.role == "constant")

    def on(self, grid: Grid) -> Problem:
        """Return the same problem on another grid."""
        return Problem(self.inputs, self.outputs, grid, self.homogeneous)

    def missing(self, other: Problem) -> tuple[str, ...]:
        """Names of the channels of ``other`` that this problem lacks; empty where ``other`` can be embedded."""
        mine = {*self.inputs, *self.outputs}
        return tuple(channel.name for channel in (*other.inputs, *other.outputs) if channel not in mine)

    def embed(self, fields: Fields) -> dict[str, Tensor]:
        """Put the inputs of a smaller problem into this one; channels it lacks are zero (paper, section 4).

        Args:
            fields: inputs of a problem contained in this one, at least one of them a field (batch, n, n).

        Returns:
            every input channel of this problem, in order, on the device and dtype of ``fields``.
        """
        unknown = [name for name in fields if name not in self.input_names]
        if unknown:
            raise UsageError(f"the problem has no input {', '.join(unknown)}; it has {', '.join(self.input_names)}")
        like = next(value for value in fields.values() if value.ndim == 3)
        absent = {"field": like.new_zeros(like.shape), "constant": like.new_zeros(like.shape[0])}
        return {c.name: fields[c.name] if c.name in fields else absent[c.role] for c in self.inputs}

    def describe(self) -> dict[str, Any]:
        """Return the problem as plain data, which `Problem.parse` reads back."""
        return {
            "inputs": [[channel.name, channel.role] for channel in self.inputs],
            "outputs": [channel.name for channel in self.outputs],
            "grid": {"size": self.grid.size, "length": self.grid.length, "periodic": self.grid.periodic},
            "homogeneous": self.homogeneous,
        }

    @classmethod
    def parse(cls, description: Any) -> Problem:
        """Build a problem from what `describe` returned.

        Raises:
            UsageError: a key is missing, unknown, or holds a value of another type, or it is no problem.
        """
        stated = read_plain(_Stated, description)
        return cls(
            inputs=tuple(Channel(name, role) for name, role in stated.inputs),
            outputs=tuple(map(Channel, stated.outputs)),
            grid=Grid(stated.grid.size, stated.grid.length, stated.grid.periodic),
            homogeneous=stated.homogeneous,
        )

    @classmethod
    def union(cls, problems: Iterable[Problem]) -> Problem:
        """Return the smallest problem that contains all of them: channels in order of first appearance.

        Raises:
            UsageError: the problems live on different grids, or give one channel different roles.
        """
        inputs: dict[str, Channel] = {}
        outputs: dict[str, Channel] = {}
        grids: set[Grid] = set()
        homogeneous = True
        for problem in problems:
            grids.add(problem.grid)
            homogeneous = homogeneous and problem.homogeneous
            for known, channels in ((inputs, problem.inputs), (outputs, problem.outputs)):
                for channel in channels:
                    if known.setdefault(channel.name, channel) != channel:
                        raise UsageError(
                            f"channel {channel.name!r} is a field in one problem and a constant in another"
                        )
        if len(grids) != 1:
            found = "; ".join(sorted(map(str, grids)))
            raise UsageError(f"problems to be mixed must share one grid, got {found}")
        return cls(tuple(inputs.values()), tuple(outputs.values()), grids.pop(), homogeneous)


class _StatedGrid(Strict):
    size: int
    length: float = 1.0
    periodic: bool = True


class _Stated(Strict):
    """What `Problem.describe` returns."""

    inputs: list[tuple[str, Role]]
    outputs: list[str]
    grid: _StatedGrid
    homogeneous: bool
