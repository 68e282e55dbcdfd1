"""`python -m FoundationRegistrationLib` is the command line `foundation-registration`."""

from __future__ import annotations

from .cli.main import run

if __name__ == "__main__":
    run()
