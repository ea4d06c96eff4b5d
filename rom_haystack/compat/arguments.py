"""What became of 1.x's arguments: warnings for those without a meaning now, and today's form of devices and tokens."""

import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from haystack import logging
from haystack.utils import ComponentDevice, Secret

from rom_haystack.components._encoder_user import HUB_TOKEN

logger = logging.getLogger(__name__)

_warned: set[tuple[str, str]] = set()
_lock = threading.Lock()


class Unused(NamedTuple):
    """An argument that changes nothing any more.

    Attributes:
        default: Its default in 1.x; whoever asks for just that gets it, or loses nothing.
        instead: What to do now, as a sentence.
    """

    default: Any
    instead: str


#: Arguments that several classes and methods have.
HEADERS = {"headers": Unused(None, "These stores are in this process; no request is sent.")}
_CONTINUED = "A training that was interrupted goes on where it was, when it is called again."
#: Arguments that training a retriever and training a reader have in common.
TRAINING = {
    "use_amp": Unused(None, "It is used where the machine has bfloat16."),
    "checkpoint_root_dir": Unused(Path("model_checkpoints"), _CONTINUED),
    "checkpoint_every": Unused(None, _CONTINUED),
    "checkpoints_to_keep": Unused(3, _CONTINUED),
    "early_stopping": Unused(None, "Train for fewer epochs."),
}
_ONE_DEVICE = "One model runs on one device: name one, and start a process for each further one."


def warn_of_unused(owner: str, unused: Mapping[str, Unused], given: Mapping[str, Any]) -> None:
    """Warn, once per process and argument, of arguments that were given without effect.

    Args:
        owner: The class or method, as users call it.
        unused: Its arguments without effect.
        given: Values by name; others than those of `unused` are passed over.
    """
    for name, argument in unused.items():
        value = given[name]
        if value is argument.default or (type(value) is type(argument.default) and value == argument.default):
            continue
        warn_once(owner, name, f"{name}={value!r}", argument.instead)


def warn_once(owner: str, name: str, given: str, instead: str) -> None:
    """Warn that something has no effect, once per process and name.

    Args:
        owner: The class or method, as users call it.
        name: The argument, or the method.
        given: How to show it, with its value.
        instead: What to do now, as a sentence.
    """
    with _lock:
        if (owner, name) in _warned:
            return
        _warned.add((owner, name))
    logger.warning("{owner}: {given} has no effect any more. {instead}", owner=owner, given=given, instead=instead)


def device_of(owner: str, use_gpu: bool | None, devices: Sequence[Any] | None) -> ComponentDevice | None:
    """Turn 1.x's choice of devices into today's: the CPU, the first one named, or None for the machine's default.

    Args:
        owner: The class, for a warning where several devices are named.
        use_gpu: False for the CPU, whatever `devices` says, as in 1.x.
        devices: Names or torch devices.
    """
    if use_gpu is False:
        return ComponentDevice.from_str("cpu")
    if not devices:
        return None
    if len(devices) > 1:
        warn_once(owner, "devices", f"devices={list(map(str, devices))}", _ONE_DEVICE)
    return ComponentDevice.from_str(str(devices[0]))


def token_of(use_auth_token: str | bool | None) -> Secret | None:
    """Turn 1.x's token into today's: a text is the token, False is none, else the environment has it."""
    if isinstance(use_auth_token, str):
        return Secret.from_token(use_auth_token)
    return None if use_auth_token is False else HUB_TOKEN
