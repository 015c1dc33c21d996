from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path

import numpy as np
import pytest
import torch
from pdefm_spectral.poisson import PoissonSampler

from pdebench_fm.data.hdf5 import export
from pdebench_fm.data.open import Pair, SetSpec
from pdebench_fm.hookspecs import SamplerEntry, hookimpl
from pdebench_fm.interfaces import SPLITS, Parameters, Split
from pdebench_fm.plan.sets import comparable_pairs, specify
from pdebench_fm.problem import Channel, Grid, Problem
from pdebench_fm.records.record import Record
from pdebench_fm.registry.discovery import Registry, registry
from pdebench_fm.scoring.shift import Distributions, RealisedShift, Shift, overlap
from pdebench_fm.suite.reading import find_suite, load_suite
from pdebench_fm.suite.schema import Distribution
from tests.support.records import make_pretraining, make_record, read, with_job

LEADERBOARD = Path(__file__).parents[2] / "leaderboard" / "records"


def spec(system: str, split: str = "test", **settings: object) -> SetSpec:
    return specify(Distribution(system=system, settings=settings), registry(), split, 16, 32, 0)  # type: ignore[arg-type]


def test_whole_numbers_are_compared_value_by_value() -> None:
    first, second = np.array([1.0, 2, 3, 4] * 10), np.array([3.0, 4, 5, 6] * 5)
    assert overlap(first, second) == pytest.approx(0.5)
    assert overlap(first, first[::2] * 0 + 9) == 0.0
    assert overlap(first, np.repeat(first, 3)) == pytest.approx(1.0)


def test_a_part_in_common_is_found() -> None:
    generator = np.random.default_rng(0)
    first, second = generator.uniform(0, 2, 20_000), generator.uniform(1, 3, 20_000)
    assert overlap(first, second) == pytest.approx(0.5, abs=0.03)
    assert overlap(first, first + 5) == 0.0
    assert overlap(first, generator.uniform(0, 2, 20_000)) > 0.96
    assert overlap(first[:100], generator.uniform(0, 2, 100)) > 0.8  # in 20 bins chance would make it 0.76


def test_the_shifts_of_the_papers_first_system() -> None:
    shifts = RealisedShift(registry())
    source = [spec("poisson", "pretraining", eigenvalue=[1, 5])]
    found = [
        shifts.overlap(source, [spec("poisson", eigenvalue=ends)]) for ends in ([1, 2.5], [2.5, 7.5], [5, 10], [10, 20])
    ]
    # Uniform on (1, 5): densities are 1/4, and 1/1.5, 1/5, 1/5, 1/10.
    assert found == [pytest.approx(1.5 / 4, abs=0.05), pytest.approx(2.5 / 5, abs=0.05), 0.0, 0.0]


def test_the_calibrated_ratio_overlaps_where_its_nominal_ranges_do_not() -> None:
    shifts = RealisedShift(registry())
    found = shifts.overlap(
        [spec("advection-diffusion", "pretraining", ratio=[0.2, 1])], [spec("advection-diffusion", ratio=[1, 2])]
    )
    assert found is not None
    assert 0.05 < found < 0.4


def test_files_are_compared_by_the_constant_that_the_suite_names(tmp_path: Path) -> None:
    problem = Problem((Channel("source"), Channel("speed", "constant")), (Channel("solution"),), Grid(8))
    sizes = {"pretraining": 2000, "near": 2000, "far": 2000, "sorted": 8192}
    for name, low in (("pretraining", 0.0), ("near", 1000.0), ("far", 4000.0), ("sorted", 0.0)):
        plane, speeds = torch.rand(sizes[name], 8, 8), torch.arange(low, low + sizes[name])
        fields = ({"source": plane, "speed": speeds}, {"solution": plane})
        export(tmp_path / f"{name}.h5", problem, iter([fields]), sizes[name], {})

    def of(name: str, physics: str | None = "speed", count: int | None = None) -> list[SetSpec]:
        files = dict.fromkeys(SPLITS, tmp_path / f"{name}.h5")
        return [specify(Distribution(files=files, physics=physics), registry(), "test", count or sizes[name], 8, 0)]

    shifts = RealisedShift(registry())
    assert shifts.overlap(of("pretraining"), of("near")) == pytest.approx(0.5)
    assert shifts.overlap(of("pretraining"), of("far")) == 0.0
    assert shifts.overlap(of("pretraining", count=1000), of("near")) < 0.05  # its first half is below near
    assert shifts.overlap(of("pretraining"), of("near", None)) is None
    assert of("near")[0].description == of("near", None)[0].description  # no part of a job's identity
    assert shifts.overlap(of("sorted"), of("sorted", count=4096)) == pytest.approx(0.5, abs=0.02)  # spread over all


def test_of_a_mixture_only_the_same_system_counts() -> None:
    shifts = RealisedShift(registry())
    poisson = spec("poisson", "pretraining", eigenvalue=[1, 5])
    helmholtz = spec("helmholtz", "pretraining", wavenumber=[5, 9])
    target = [spec("poisson", eigenvalue=[1, 2.5])]
    assert shifts.overlap([poisson, helmholtz], target) == shifts.overlap([poisson], target)
    assert shifts.overlap([helmholtz], target) is None


def test_of_examples_from_files_nothing_is_known() -> None:
    file = SetSpec({"file": "0" * 64, "split": "test", "count": 4})
    poisson = spec("poisson", eigenvalue=[1, 5])
    assert RealisedShift(registry()).overlap([poisson], [file]) is None
    assert RealisedShift(registry()).overlap([file], [poisson]) is None


def shift(pretraining: object, downstream: object) -> Shift:
    return Shift("k", np.array(pretraining, dtype=np.float64), np.array(downstream, dtype=np.float64))


def test_whole_numbers_have_a_bin_each() -> None:
    found = shift([1, 1, 2, 4], [4, 4, 6, 6]).histograms()
    assert found == Distributions(
        parameter="k",
        edges=(0.5, 1.5, 2.5, 3.5, 4.5, 5.5, 6.5),
        ends=(1.0, 6.0),
        pretraining=(0.5, 0.25, 0.0, 0.25, 0.0, 0.0),
        downstream=(0.0, 0.0, 0.0, 0.5, 0.0, 0.5),
    )


def test_other_numbers_have_bins_of_one_width_that_end_where_the_ranges_do() -> None:
    found = shift(np.linspace(1, 5, 1000, endpoint=False), np.linspace(5, 10, 1000)).histograms()
    assert found.ends == (1.0, 10.0)
    assert len(found.pretraining) == len(found.downstream) == len(found.edges) - 1
    assert np.diff(found.edges) == pytest.approx(9 / len(found.pretraining))
    assert (sum(found.pretraining), sum(found.downstream)) == (pytest.approx(1), pytest.approx(1))
    # 4/9 of the width is an edge of 27 or 36 bins: otherwise the bin at 5 would hold some of either.
    assert len(found.pretraining) in (27, 36)
    assert sum(map(min, found.pretraining, found.downstream)) == pytest.approx(0, abs=0.002)


def test_many_whole_numbers_and_one_alone_can_be_looked_at_too() -> None:
    many = shift(range(1000), range(500, 1500)).histograms()
    assert len(many.edges) <= 41
    assert many.ends == (0.0, 1499.0)
    alone = shift([2.5] * 4, [2.5] * 8).histograms()
    assert alone.ends == (2.0, 3.0)
    assert sum(alone.pretraining) == 1.0
    assert alone.pretraining == alone.downstream


@pytest.mark.parametrize("drawn", [[1.5, float("nan")], [1.5, float("inf")], [[1.5, 2.5]]])
def test_what_is_not_one_finite_number_an_example_cannot_be_looked_at(drawn: object) -> None:
    with pytest.raises(ValueError, match="k must be one finite number an example"):
        shift(drawn, drawn).histograms()


@pytest.mark.parametrize("value", [1e17, 1e20, 2.0**53])
def test_numbers_too_close_for_bins_are_an_error_and_no_empty_histogram(value: float) -> None:
    assert shift([value, 2 * value], [value] * 2).histograms().ends == (value, 2 * value)
    with pytest.raises(ValueError, match=r"too close together for bins|Too many bins"):
        shift([value] * 2, [value] * 2).histograms()


def committed(suite: str) -> tuple[list[Record], dict[str, Pair]]:
    """Records of the leaderboard, and what their suite says of its tasks."""
    found = read(LEADERBOARD / suite / "lite" / "fno-64k.jsonl")
    older = [load_suite(file) for file in sorted((LEADERBOARD.parent / "suites").glob("*.yaml"))]
    installed = find_suite(suite, found[0].suite_version, registry(), older)
    assert installed is not None
    return found, comparable_pairs(installed, "lite", registry())


@pytest.mark.parametrize(
    ("suite", "tasks"), [("ood_sys1", 4), ("ood_sys2", 4), ("ood_sys3", 2), ("mixed", 12), ("resolution", 6)]
)
def test_what_is_drawn_again_is_what_records_were_measured_on(suite: str, tasks: int) -> None:
    found, pairs = committed(suite)
    shifts = RealisedShift(registry())
    measured = {record.task: record.overlap for record in found if record.kind == "point"}
    assert len(measured) == tasks
    for task, value in measured.items():
        drawn = shifts.between(pairs[task].source, pairs[task].target)
        assert drawn is not None
        assert value is not None
        assert drawn.overlap == pytest.approx(value, abs=0.0005)  # two of 4,096 draws
    assert shifts.redrawn(found, pairs).keys() == measured.keys()


def test_drawn_again_are_the_ranges_of_the_paper() -> None:
    found = RealisedShift(registry()).redrawn(*committed("ood_sys1"))
    assert {task: (round(d.ends[0], 1), round(d.ends[1], 1)) for task, d in found.items()} == {
        "SYS-1(1,2.5)": (1.0, 5.0),
        "SYS-1(2.5,7.5)": (1.0, 7.5),
        "SYS-1(5,10)": (1.0, 10.0),
        "SYS-1(10,20)": (1.0, 20.0),
    }
    assert {d.parameter for d in found.values()} == {"eigenvalue"}
    far = found["SYS-1(10,20)"]
    middles = [(low + high) / 2 for low, high in zip(far.edges[:-1], far.edges[1:], strict=True)]
    assert {place < 5.1 for place, part in zip(middles, far.pretraining, strict=True) if part > 0} == {True}
    assert {place > 9.9 for place, part in zip(middles, far.downstream, strict=True) if part > 0} == {True}


def test_of_a_mixture_the_same_part_is_drawn() -> None:
    found = RealisedShift(registry()).redrawn(*committed("mixed"))
    for task in ("SYS-1(5,10)", "SYS-2(1,2)", "SYS-3(1,5)"):
        assert found[f"{task} from mixed"] == found[task]


PAIR = Pair((spec("poisson", "pretraining", eigenvalue=[1, 5]),), (spec("poisson", eigenvalue=[2.5, 7.5]),))


def measured(target: SetSpec = PAIR.target[0], **changes: object) -> Record:
    """A record of the task ``t``, tested on ``target``, with the overlap that `PAIR` has (0.5) if not another."""
    given: dict[str, object] = {"task": "t", "overlap": RealisedShift(registry()).overlap(PAIR.source, PAIR.target)}
    return with_job(make_record(**{**given, **changes}), test={"sets": [dict(target.description)]})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "made",
    [
        lambda: [],
        lambda: [measured(task="another")],
        lambda: [make_pretraining(source="t", overlap=0.5)],
        lambda: [make_record(task="t", overlap=0.5)],  # of examples that its job does not name
        lambda: [measured(), measured(spec("poisson", eigenvalue=[2.5, 7.6]), examples=64)],
        lambda: [measured(overlap=None)],  # from weights of the user's own
        lambda: [measured(), measured(overlap=0.4, examples=64)],
    ],
    ids=["none", "task", "pre-training", "no examples", "other examples", "no overlap", "another overlap"],
)
def test_where_records_were_measured_on_something_else_nothing_is_drawn(made: Callable[[], list[Record]]) -> None:
    shifts = RealisedShift(registry())
    assert shifts.redrawn([measured()], {"t": PAIR}).keys() == {"t"}
    assert shifts.redrawn(made(), {"t": PAIR}) == {}


DRAWN: dict[str, Callable[[Parameters], Parameters]] = {
    "sound": lambda drawn: drawn,
    "raises": lambda _: 1 / 0,  # type: ignore[dict-item,return-value]
    "exits": lambda _: (_ for _ in ()).throw(SystemExit(1)),
    "lacks it": lambda _: {},
    "not finite": lambda _: {"eigenvalue": np.full(8, np.nan)},
    "none": lambda _: {"eigenvalue": np.zeros(0)},
    "no number": lambda _: {"eigenvalue": np.array("five")},
}


class Drawing(PoissonSampler):
    """Draws what one of `DRAWN` makes of sound parameters."""

    def __init__(self, what: str, eigenvalue: tuple[float, float], *, data_seed: int, split: Split) -> None:
        super().__init__(eigenvalue, data_seed=data_seed, split=split)
        self._what = what

    def draw(self, ids: Sequence[int]) -> Parameters:
        return DRAWN[self._what](super().draw(ids))


@hookimpl
def pdefm_samplers() -> list[SamplerEntry]:
    return [SamplerEntry("drawing", "1", Drawing, "poisson, drawn otherwise")]


@pytest.mark.parametrize("what", DRAWN)
def test_a_sampler_that_fails_leaves_its_task_out(what: str) -> None:
    found = Registry([*entry_points(group="pdebench_fm"), EntryPoint("drawing", __name__, "pdebench_fm")])
    (target,) = PAIR.target
    settings = {**target.description["settings"], "what": what}
    drawn = SetSpec({**target.description, "sampler": {"name": "drawing", "version": "1"}, "settings": settings})
    shifts = RealisedShift(found).redrawn([measured(drawn)], {"t": Pair(PAIR.source, (drawn,))})
    assert shifts.keys() == ({"t"} if what == "sound" else set())


def test_what_is_not_one_number_an_example_has_no_overlap() -> None:
    with pytest.raises(ValueError, match="not one number per example"):
        overlap(np.zeros((4, 2)), np.ones((4, 2)))
