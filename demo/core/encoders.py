"""The model in memory, shared with everything that answers questions."""

from collections.abc import Iterator
from contextlib import contextmanager

from haystack.utils import ComponentDevice

from rom_haystack.inference import REGISTRY, EncoderSpec, ROMEncoder


def spec_of(model: str) -> EncoderSpec:
    """Return what components that are given nothing but a model ask for: its device, and the engine left open.

    Args:
        model: Bundled name or folder of a checkpoint.
    """
    device = ComponentDevice.resolve_device(None).to_torch_str()
    return EncoderSpec.create(model, device="cuda:0" if device == "cuda" else device)


@contextmanager
def encoder_at_work(model: str) -> Iterator[ROMEncoder]:
    """Lend a model: the one in memory where it is in use already, else it is loaded, and freed afterwards.

    Args:
        model: Bundled name or folder of a checkpoint.
    """
    spec = spec_of(model).resolved()
    encoder = REGISTRY.acquire(spec)
    try:
        yield encoder
    finally:
        REGISTRY.release(spec)
