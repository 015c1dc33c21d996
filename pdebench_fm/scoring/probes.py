"""What else is asked of a scored model: whether it uses its coefficients, and what its predictions look like."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from pdebench_fm._util.files import replacing
from pdebench_fm._util.text import named, quoted
from pdebench_fm.data.combine import Subset
from pdebench_fm.data.open import OpenSet
from pdebench_fm.errors import PLUGIN_ERRORS
from pdebench_fm.interfaces import Metric, OperatorModel
from pdebench_fm.problem import Fields
from pdebench_fm.scoring.point import predict
from pdebench_fm.streams import Stream

SAMPLES = "samples.npz"
RANKS = ("best", "median", "worst")


def coefficient_rise(model: OperatorModel, sets: Sequence[OpenSet], metric: Metric, values: np.ndarray) -> float | None:
    """Return by how much the error rises when every test example gets the coefficients of another one.

    The source stays, and so does the true solution; all constants of an example are exchanged together, by a fixed
    permutation that leaves none in its place. A model that does not look at its coefficients keeps its error.

    Args:
        values: the score of each example with its own coefficients, (examples,).

    Returns:
        (error with exchanged coefficients − error) / error; None where there is nothing to exchange or the rise is not
        finite.
    """
    exchanged, differ = [], False
    for opened in sets:
        examples, problem = opened.examples, opened.examples.problem
        if not problem.constants or len(examples) < 2:
            return None
        donors = Subset(examples, _donors(len(examples)))
        for (inputs, target), (others, _) in zip(examples.batches(), donors.batches(), strict=True):
            given = {name: others[name] for name in problem.constants}
            differ = differ or _differ(inputs, given)
            changed = {**inputs, **given}
            prediction = predict(model, problem, changed, target)
            scores = metric.per_sample(problem, inputs, prediction, target, opened.system)
            exchanged.append(scores.detach().double().cpu().numpy())
    if not differ:  # every example has the same ones
        return None
    own = float(metric.summarise(values))
    with np.errstate(all="ignore"):
        rise = float(metric.summarise(np.concatenate(exchanged)) - own) / own if own > 0 else math.inf
    return rise if math.isfinite(rise) else None


def keep_samples(model: OperatorModel, sets: Sequence[OpenSet], values: np.ndarray, folder: Path) -> None:
    """Write the best, the median and the worst test case to ``folder/samples.npz``, for figures.

    The file holds ``examples`` (3,), the position of each in the test set, ``errors`` (3,), and float32 ``source``,
    ``truth`` and ``prediction`` (3, n, n): the first input field and the first output of the problem, whose names are
    ``channels`` (2,).
    """
    order = np.argsort(values, kind="stable")
    chosen = order[[0, (len(order) - 1) // 2, -1]]
    starts = np.cumsum([0, *(len(opened.examples) for opened in sets)])
    fields: dict[str, list[np.ndarray]] = {"source": [], "truth": [], "prediction": []}
    for example in chosen:
        number = int(np.searchsorted(starts, example, side="right")) - 1
        examples = sets[number].examples
        problem = examples.problem
        inputs, target = examples.batch([int(example - starts[number])])
        prediction = predict(model, problem, inputs, target)
        output = problem.output_names[0]
        for name, field in (
            ("source", inputs[problem.input_fields[0]]),
            ("truth", target[output]),
            ("prediction", prediction[output]),
        ):
            fields[name].append(field[0].detach().float().cpu().numpy())
    source, truth, predicted = (np.stack(fields[name]) for name in ("source", "truth", "prediction"))
    problem = sets[0].examples.problem
    arrays = {
        "examples": chosen,
        "errors": values[chosen],
        "source": source,
        "truth": truth,
        "prediction": predicted,
        "channels": np.array([problem.input_fields[0], problem.output_names[0]]),
    }
    with replacing(folder / SAMPLES) as temporary, temporary.open("wb") as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]  # its stub takes the names for its own parameters


def _differ(inputs: Fields, given: Fields) -> bool:
    """Whether constants change by more than rounding, that of one of them or, near zero, of the largest."""
    sizes = {name: float(inputs[name].abs().max()) for name in given}
    changes = {name: float((value - inputs[name]).abs().max()) for name, value in given.items()}
    return any(changes[name] > max(1e-5 * sizes[name], 1e-9 * max(sizes.values())) for name in given)


def _donors(count: int) -> np.ndarray:
    """Which example each takes its coefficients from, (count,): the next in a random cycle, so never itself."""
    keys = Stream({"exchanged coefficients": count}, 1).uniform(range(count))[:, 0]
    cycle = np.argsort(keys, kind="stable")
    donors = np.empty(count, dtype=np.int64)
    donors[cycle] = np.roll(cycle, -1)
    return donors


def probe(
    model: OperatorModel, sets: Sequence[OpenSet], metric: Metric, errors: np.ndarray, folder: Path
) -> tuple[float | None, dict[str, str]]:
    """Keep sample predictions in ``folder``, and exchange coefficients, see `pdebench_fm.scoring.probes`.

    Returns:
        by how much the error rises with exchanged coefficients, and a note where something went wrong: what is asked
        beyond the score must not cost it.
    """
    try:
        keep_samples(model, sets, errors, folder)
        return coefficient_rise(model, sets, metric, errors), {}
    except PLUGIN_ERRORS as error:
        return None, {"probes": quoted(f"not taken: {named(error)}")}
