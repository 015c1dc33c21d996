"""The metrics every point is scored with; relative_l2 is the score of the paper (A.3)."""

from pdebench_fm.hookspecs import MetricEntry, hookimpl


@hookimpl
def pdefm_metrics() -> list[MetricEntry]:
    """Register the metrics."""
    return [
        MetricEntry(
            "relative_l2", "1", "pdefm_metrics.errors:RelativeL2", "mean of ‖u − u_ref‖₂ / ‖u_ref‖₂: the score"
        ),
        MetricEntry(
            "relative_l1_median", "1", "pdefm_metrics.errors:RelativeL1Median", "median of ‖u − u_ref‖₁ / ‖u_ref‖₁"
        ),
        MetricEntry("relative_h1", "1", "pdefm_metrics.errors:RelativeH1", "relative error with first derivatives"),
        MetricEntry("max_error", "1", "pdefm_metrics.errors:MaxError", "mean of max|u − u_ref| / max|u_ref|"),
        MetricEntry(
            "pde_residual", "1", "pdefm_metrics.residual:PDEResidual", "mean of ‖Lu − f‖₂ / ‖f‖₂ of the prediction"
        ),
    ]
