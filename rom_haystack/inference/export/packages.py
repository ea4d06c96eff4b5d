"""Which packages an export needs."""

from importlib.util import find_spec

from rom_haystack.inference.export.folder import GraphBackend

_NEEDED: dict[GraphBackend, tuple[str, ...]] = {
    "onnx": ("onnx", "onnxscript", "onnxruntime"),
    "openvino": ("onnx", "onnxscript", "openvino"),
}


def check_packages(backend: GraphBackend, *, int8: bool) -> None:
    """Check, without importing them, that the packages which an export for an engine needs are installed.

    Raises:
        ImportError: Some are not; the message says how to install them.
    """
    quantised = int8 and backend == "openvino"
    missing = [name for name in (*_NEEDED[backend], *(["nncf"] if quantised else [])) if not _is_installed(name)]
    if missing:
        extras = f"{backend},int8" if quantised else backend
        raise ImportError(
            f"Exporting for backend '{backend}' needs {', '.join(missing)}. Install: pip install "
            f"'rom-haystack[{extras}]'."
        )


def _is_installed(name: str) -> bool:
    try:
        return find_spec(name) is not None
    except ValueError:  # marked as not to be imported
        return False
