"""The suites that ship with the benchmark: the study of arXiv 2306.00258, and others."""

from pathlib import Path

from pdebench_fm.hookspecs import SuiteEntry, hookimpl

_INSTALLED = Path(__file__).with_name("suites")
_CHECKOUT = Path(__file__).parents[2] / "suites"

_SUMMARIES = {
    "smoke": "every system and a mixed pre-training at 32², in two minutes",
    "ood_sys1": "Poisson: SYS-1(1,5) to eigenvalues ever further out of range (paper, Table 1 and Fig. 5)",
    "ood_sys2": "advection-diffusion: SYS-2(0.2,1) to ratios ever further out of range (paper, Table 1 and A.2)",
    "ood_sys2_exact": "the same with the ratio of every example realised exactly (not in the paper)",
    "ood_sys3": "Helmholtz: SYS-3(1,10) to wavenumbers in and out of range (paper, Fig. 6 and B.2)",
    "mixed": "one pre-training on all three systems beside each system's own (paper, Fig. 6 and B.2)",
    "scaling": "a family of models over its sizes, on the medium shifts (paper, Fig. 4)",
    "released": "released foundation models on SYS-1, SYS-2 and SYS-3, adapted in every way (not in the paper)",
    "seeds": "five seeds on the medium shifts (paper, B.3)",
    "adaptation": "Poisson: fine-tuning beside head-only, LoRA, ridge regression and in-context prediction",
    "resolution": "Poisson and Helmholtz: trained on one grid, scored on two others too",
    "unlabelled": "Poisson: pre-training on sources without solutions (after arXiv 2402.15734)",
}


@hookimpl
def pdefm_suites() -> list[SuiteEntry]:
    """Register the shipped suites."""
    folder = _INSTALLED if _INSTALLED.is_dir() else _CHECKOUT
    return [SuiteEntry(name, folder / f"{name}.yaml", summary) for name, summary in _SUMMARIES.items()]
