"""The three arms of the paper: zero-shot, fine-tuning, and training from scratch."""

from pdebench_fm.hookspecs import ProtocolEntry, hookimpl


@hookimpl
def pdefm_protocols() -> list[ProtocolEntry]:
    """Register the protocols."""
    return [
        ProtocolEntry("zero-shot", "1", "pdefm_transfer.protocols:ZeroShot", "the pre-trained model as it is"),
        ProtocolEntry("fine-tune", "1", "pdefm_transfer.protocols:FineTune", "all weights, from the pre-trained model"),
        ProtocolEntry("scratch", "1", "pdefm_transfer.protocols:Scratch", "the same budget without pre-training"),
    ]
