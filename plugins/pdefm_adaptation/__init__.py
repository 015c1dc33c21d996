"""Ways of adapting a pre-trained model that train less than all of it, or nothing at all."""

from pdebench_fm.hookspecs import ProtocolEntry, hookimpl


@hookimpl
def pdefm_protocols() -> list[ProtocolEntry]:
    """Register the protocols."""
    return [
        ProtocolEntry("head-only", "1", "pdefm_adaptation.frozen:HeadOnly", "train only the last layers"),
        ProtocolEntry(
            "frozen-body", "1", "pdefm_adaptation.frozen:FrozenBody", "train only the first layers and the last ones"
        ),
        ProtocolEntry("lora", "1", "pdefm_adaptation.lora:LoRA", "train low-rank updates of the weights; set rank"),
        ProtocolEntry(
            "last-layer-ridge", "1", "pdefm_adaptation.ridge:LastLayerRidge", "solve for the last layer in closed form"
        ),
        ProtocolEntry(
            "in-context", "1", "pdefm_adaptation.in_context:InContext", "correct by the nearest examples, train nothing"
        ),
    ]
