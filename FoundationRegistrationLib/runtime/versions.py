"""The versions of the software that a result depends on, without importing it."""

from __future__ import annotations

import platform
from importlib import metadata

_PACKAGES = ("torch", "numpy", "SimpleITK", "scikit-learn", "timm")


def versions(own: str) -> dict[str, str]:
    """Return the versions of this package, which the caller knows, of Python and of the packages used, by name."""
    found = {"FoundationRegistration": own, "python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = "not installed"
    return found
