"""Tokens of a volume, kept in memory up to a budget and in a temporary file beyond it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from tempfile import SpooledTemporaryFile

import torch

from ..errors import OutputError

# Memory limit for the tokens of both volumes; beyond it they go to a temporary file.
TOKEN_BUDGET_BYTES = 1_000_000_000


class TokenSpool(AbstractContextManager["TokenSpool"]):
    """Slices of tokens (D, h, w), written in sequence and read in that order any number of times.

    They are stored in their precision and returned as float32, without loss.

    Args:
        budget_bytes: memory limit, beyond which they move to a temporary file.
    """

    def __init__(self, budget_bytes: int) -> None:
        self._file = SpooledTemporaryFile(max_size=budget_bytes)  # noqa: SIM115 - closed by __exit__
        self._written: list[bool] = []
        self._shape: tuple[int, ...] = ()
        self._types: list[torch.dtype] = []
        self.empty: torch.Tensor | None = None

    def __exit__(self, *exception: object) -> None:
        """Free the memory or remove the temporary file."""
        self._file.close()

    def __len__(self) -> int:
        """Return the number of slices."""
        return len(self._written)

    @property
    def tokens(self) -> tuple[int, int]:
        """Rows and columns of tokens."""
        shape = self._shape or (() if self.empty is None else self.empty.shape)
        return shape[-2], shape[-1]

    def append(self, tokens: torch.Tensor) -> None:
        """Add slices of tokens (N, D, h, w), on the host.

        Raises:
            OutputError: the temporary file cannot be written.
        """
        self._shape = tuple(tokens.shape[1:])
        self._written += [True] * len(tokens)
        self._types += [tokens.dtype] * len(tokens)
        try:
            self._file.write(tokens.contiguous().view(torch.uint8).numpy().data)
        except OSError as error:
            msg = (
                f"The temporary folder cannot hold the features ({error.strerror or error}); free some space there, "
                "or set the environment variable TMPDIR to another folder."
            )
            raise OutputError(msg) from error

    def append_empty(self) -> None:
        """Add a slice whose tokens are `empty`."""
        self._written.append(False)

    def __iter__(self) -> Iterator[torch.Tensor]:
        """Yield the tokens (D, h, w) of each slice as float32."""
        self._file.seek(0)
        types = iter(self._types)
        for written in self._written:
            if written:
                kind = next(types)
                size = kind.itemsize * torch.Size(self._shape).numel()
                yield torch.frombuffer(bytearray(self._file.read(size)), dtype=kind).view(self._shape).float()
            else:
                assert self.empty is not None
                yield self.empty
