"""Released PDE foundation models: their networks, read from the published files of weights."""

from __future__ import annotations

from pdebench_fm.hookspecs import ModelEntry, ProtocolEntry, hookimpl


@hookimpl
def pdefm_models() -> list[ModelEntry]:
    """Register one model for each family; each needs a checkpoint."""
    return [
        ModelEntry("poseidon", "1", "pdefm_released.poseidon:Poseidon", "Poseidon (scOT); set checkpoint=FOLDER"),
        ModelEntry("dpot", "1", "pdefm_released.dpot:DPOTModel", "DPOT; set checkpoint=FILE"),
        ModelEntry("mpp", "1", "pdefm_released.mpp:MPP", "MPP (AViT); set checkpoint=FILE"),
        ModelEntry("morph", "1", "pdefm_released.morph:MORPHModel", "MORPH; set checkpoint=FILE"),
        ModelEntry(
            "pde-transformer",
            "1",
            "pdefm_released.pde_transformer:PDETransformerModel",
            "PDE-Transformer, mixed channels; set checkpoint=FOLDER",
        ),
        ModelEntry(
            "pde-transformer-sc",
            "1",
            "pdefm_released.pde_transformer_sc:PDETransformerSCModel",
            "PDE-Transformer, separate channels; set checkpoint=FOLDER",
        ),
    ]


@hookimpl
def pdefm_protocols() -> list[ProtocolEntry]:
    """Register fine-tuning as the authors do it."""
    return [
        ProtocolEntry(
            "fine-tune-native",
            "1",
            "pdefm_released.native:NativeFineTune",
            "a released model by the recipe of its authors; set level (MORPH) and freeze (MPP)",
        )
    ]
