"""The hooks a plugin may implement, and the entries they return.

A plugin is a module named in the entry-point group ``pdebench_fm``; it marks its hooks with `hookimpl`. Each hook
returns entries: a name, a version, and where to find the factory. The version is part of every job's identity; bump it
whenever a score could change. The factory is written ``"module:attribute"``, so that listing imports nothing heavy.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pluggy

PROJECT = "pdebench_fm"

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@dataclass(frozen=True)
class Entry:
    """One registered thing.

    Args:
        name: what users write; lower-case letters, digits, ``-``, ``_`` and ``.``.
        version: bumped whenever a score could change.
        factory: ``"module:attribute"`` of the class or function that makes it, or the callable itself. Worker processes
            need one that can be pickled: no lambda, no class defined in a function.
        summary: one line for ``pdefm list``.
    """

    name: str
    version: str
    factory: str | Callable[..., Any]
    summary: str

    def load(self, field: str = "factory") -> Callable[..., Any]:
        """Import the factory, or what another field names. Whatever the import raises passes through."""
        where: str | Callable[..., Any] = getattr(self, field)
        loaded = pkgutil.resolve_name(where) if isinstance(where, str) else where
        if not callable(loaded):
            raise TypeError(f"the {field} of {self.name!r} must be callable, got {loaded!r}")
        return loaded


@dataclass(frozen=True)
class SystemEntry(Entry):
    """A PDE system; ``factory(grid)`` returns a `PDESystem`.

    Args:
        sampler: name of the sampler used where a distribution names none.
    """

    sampler: str = ""


@dataclass(frozen=True)
class SamplerEntry(Entry):
    """A sampler; ``factory(data_seed=…, split=…, **settings)`` returns a `Sampler`."""


@dataclass(frozen=True)
class ModelEntry(Entry):
    """An operator model; ``factory(**arguments)`` returns an `OperatorModel`.

    Args:
        arguments: arguments this name stands for, e.g. ``{"width": 16}``; users override them with ``--set``.
        family: the name of the architecture. Two names of one family with equal arguments are the same model, with the
            same job ids, and are to be made by one factory; the model's own name where empty.
        needs: modules of optional libraries, and what to ask pip for: ``{"monai": "monai>=1.5"}``. Without them the
            model is listed, but cannot be used.
    """

    arguments: Mapping[str, Any] = field(default_factory=dict)
    family: str = ""
    needs: Mapping[str, str] = field(default_factory=dict)

    @property
    def missing(self) -> str:
        """The first module that is needed and not installed; empty if all are there."""
        return next((module for module in self.needs if find_spec(module) is None), "")


@dataclass(frozen=True)
class ProtocolEntry(Entry):
    """A transfer protocol; ``factory(**arguments)`` returns a `TransferProtocol`.

    Args:
        arguments: arguments this name stands for, e.g. ``{"rank": 8}``; a suite may override them.
    """

    arguments: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class ObjectiveEntry(Entry):
    """An objective of unsupervised pre-training; ``factory(**arguments)`` returns an `Objective`."""


@dataclass(frozen=True)
class MetricEntry(Entry):
    """A metric; ``factory()`` returns a `Metric`."""


@dataclass(frozen=True)
class SolverEntry(Entry):
    """A numerical solver, shown beside the models of a leaderboard.

    ``factory(system, **arguments)`` gets the `PDESystem` of the examples and returns a function from their inputs to
    their outputs, both as `PDESystem.solve` has them. It raises `UnsupportedError` if it cannot solve that system.

    Args:
        arguments: arguments this name stands for, e.g. ``{"coarsen": 2}``.
    """

    arguments: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class ExecutorEntry(Entry):
    """Where jobs run; ``factory(**settings)`` returns a `concurrent.futures.Executor`.

    The factory may take ``workers`` (how many jobs to run side by side), ``device`` and ``output`` (the folder of
    results), which the run command fills in; users give all other parameters by ``--executor-set``. Jobs are submitted
    once everything they need is done, as a function and arguments that can be pickled. If the process of a job dies,
    its future should raise `pdebench_fm.errors.WorkerDiedError`: the job has then failed, and the run goes on. If a run
    is broken off, ``shutdown(wait=False, cancel_futures=True)`` is called. An executor of a cluster is best also a
    `pdebench_fm.interfaces.Schedules`.

    Args:
        elsewhere: whether jobs run on other machines, so that the device is not looked for on this one. With ``--device
            auto`` they then run on GPUs if the user gives a setting ``gpus``.
        queue: ``"module:attribute"`` of a `pdebench_fm.interfaces.Queue`, or the function itself: it tells ``pdefm
            status`` which jobs of a folder of results were submitted, and what became of them. Empty if jobs end with
            the run.
    """

    elsewhere: bool = False
    queue: str | Callable[..., Any] = ""


@dataclass(frozen=True)
class SuiteEntry:
    """A suite file that can be run by name.

    Args:
        name: what users write instead of a path.
        path: the YAML file.
        summary: one line for ``pdefm list suites``.
    """

    name: str
    path: Path
    summary: str


class Hooks:
    """Hook specifications. Implement any of them in the module your entry point names."""

    @hookspec
    def pdefm_systems(self) -> Iterable[SystemEntry]:  # type: ignore[empty-body]
        """Return PDE systems.

        >>> @hookimpl
        ... def pdefm_systems():
        ...     return [SystemEntry("darcy", "1", "my_package.darcy:Darcy", "−div(a∇u) = f", sampler="darcy")]
        """

    @hookspec
    def pdefm_samplers(self) -> Iterable[SamplerEntry]:  # type: ignore[empty-body]
        """Return samplers of sources and coefficients.

        >>> @hookimpl
        ... def pdefm_samplers():
        ...     return [SamplerEntry("darcy", "1", "my_package.darcy:DarcySampler", "log-normal permeability")]
        """

    @hookspec
    def pdefm_models(self) -> Iterable[ModelEntry]:  # type: ignore[empty-body]
        """Return operator models.

        >>> @hookimpl
        ... def pdefm_models():
        ...     return [ModelEntry("mlp", "1", "my_package.mlp:MLP", "a pointwise network", arguments={"width": 64})]
        """

    @hookspec
    def pdefm_protocols(self) -> Iterable[ProtocolEntry]:  # type: ignore[empty-body]
        """Return transfer protocols.

        >>> @hookimpl
        ... def pdefm_protocols():
        ...     return [ProtocolEntry("head-only", "1", "my_package.head:HeadOnly", "fit the last layer only")]
        """

    @hookspec
    def pdefm_objectives(self) -> Iterable[ObjectiveEntry]:  # type: ignore[empty-body]
        """Return objectives of unsupervised pre-training.

        >>> @hookimpl
        ... def pdefm_objectives():
        ...     return [ObjectiveEntry("denoising", "1", "my_package.noise:Denoising", "remove noise")]
        """

    @hookspec
    def pdefm_metrics(self) -> Iterable[MetricEntry]:  # type: ignore[empty-body]
        """Return metrics; every registered metric is computed for every point.

        >>> @hookimpl
        ... def pdefm_metrics():
        ...     return [MetricEntry("mass_error", "1", "my_package.mass:MassError", "error of the solution's mean")]
        """

    @hookspec
    def pdefm_solvers(self) -> Iterable[SolverEntry]:  # type: ignore[empty-body]
        """Return numerical solvers to compare models with.

        >>> @hookimpl
        ... def pdefm_solvers():
        ...     return [SolverEntry("multigrid", "1", "my_package.multigrid:Multigrid", "one V-cycle")]
        """

    @hookspec
    def pdefm_executors(self) -> Iterable[ExecutorEntry]:  # type: ignore[empty-body]
        """Return executors.

        >>> @hookimpl
        ... def pdefm_executors():
        ...     return [ExecutorEntry("threads", "1", "my_package.threads:make_pool", "a pool of threads")]
        """

    @hookspec
    def pdefm_suites(self) -> Iterable[SuiteEntry]:  # type: ignore[empty-body]
        """Return suites that ship with the plugin.

        >>> @hookimpl
        ... def pdefm_suites():
        ...     return [SuiteEntry("darcy", Path(__file__).with_name("darcy.yaml"), "transfer between permeabilities")]
        """
