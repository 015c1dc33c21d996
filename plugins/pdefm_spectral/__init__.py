"""The paper's three systems with constant coefficients, solved spectrally, and their distributions."""

from __future__ import annotations

from pdebench_fm.hookspecs import SamplerEntry, SystemEntry, hookimpl
from pdefm_spectral import versions


@hookimpl
def pdefm_systems() -> list[SystemEntry]:
    """Return Poisson, advection-diffusion and Helmholtz."""
    return [
        SystemEntry(
            "poisson",
            versions.POISSON,
            "pdefm_spectral.poisson:Poisson",
            "SYS-1: −div(K∇u) = f",
            sampler="poisson",
        ),
        SystemEntry(
            "advection-diffusion",
            versions.ADVECTION_DIFFUSION,
            "pdefm_spectral.advection_diffusion:AdvectionDiffusion",
            "SYS-2: −div(K∇u) + v·∇u = f",
            sampler="advection-diffusion",
        ),
        SystemEntry(
            "helmholtz",
            versions.HELMHOLTZ,
            "pdefm_spectral.helmholtz:Helmholtz",
            "SYS-3: −div(K∇u) − ωu = f",
            sampler="helmholtz",
        ),
    ]


@hookimpl
def pdefm_samplers() -> list[SamplerEntry]:
    """Return the distributions of the same three systems."""
    return [
        SamplerEntry(
            "poisson",
            versions.POISSON,
            "pdefm_spectral.poisson:PoissonSampler",
            "Gaussian sources; anisotropy e ~ U(eigenvalue)",
        ),
        SamplerEntry(
            "advection-diffusion",
            versions.ADVECTION_DIFFUSION,
            "pdefm_spectral.advection_diffusion:AdvectionDiffusionSampler",
            "Gaussian sources; Ψ = ‖v·∇u‖ / ‖div K∇u‖ ~ U(ratio), calibrated or exact",
        ),
        SamplerEntry(
            "helmholtz",
            versions.HELMHOLTZ,
            "pdefm_spectral.helmholtz:HelmholtzSampler",
            "Gaussian sources; integer ω uniform in wavenumber, redrawn until max|u| ≤ amplitude_cap",
        ),
    ]
