"""The versions that what is found depends on."""

from __future__ import annotations

import platform
from importlib.metadata import version


def package_version() -> str:
    from emulator import __version__

    return __version__


def versions_here() -> dict[str, str]:
    """With that of this package."""
    return {"emulator": package_version(), **library_versions()}


def library_versions() -> dict[str, str]:
    libraries = ("numpy", "numba", "onnxruntime", "pyarrow", "scikit-learn")
    return {"python": platform.python_version(), **{name: version(name) for name in libraries}}
