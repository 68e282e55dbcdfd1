"""Running a slice encoder within the memory of its device, in the precision that is fast and exact enough."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator

import torch

from ..errors import InputError, WeightsError
from ..runtime.device import Runtime, fast_half_precision, free_memory_bytes, is_out_of_memory, release_memory
from ..runtime.progress import Note
from ..settings import Precision
from .reduction import reduce_jointly
from .slices import Square
from .source import EncoderSource

# Half precision may change the principal components of the tokens by this much, relative to their spread.
PRECISION_TOLERANCE = 0.01

_PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
# Share of the free memory of a GPU that a batch may fill, and the most slices from which it still gains.
_BATCH_SHARE = 0.5
_MOST_SLICES = 32
# Slices at a time on devices whose use of memory cannot be measured.
_SMALL_BATCH = 2


class SliceRunner:
    """Encodes slices in batches that fit the device, and falls back to smaller batches and to the CPU.

    Batches are sized by what one slice takes on CUDA; other devices gain little from batches and get small ones.

    Args:
        source: of the encoder; asked again if the work has to move to the CPU.
        runtime: where to encode.
        precision: the setting; "auto" is float32 until `choose_precision` finds better.
    """

    def __init__(self, source: EncoderSource, runtime: Runtime, precision: Precision) -> None:
        self._source = source
        self._runtime = runtime
        device = runtime.device
        self._automatic = precision == "auto"
        self._batch = 0 if device.type == "cuda" else _SMALL_BATCH
        self.device = device
        self.dtype = _PRECISIONS.get(precision, torch.float32)
        self.encoder = source.on(device)
        self.messages: list[str] = []
        if device.type == "mps" and self.dtype == torch.bfloat16:  # which torch 2.5 would silently not do there
            self.dtype = torch.float16
            self.messages.append(
                Note("Features are computed in float16, as not all versions have bfloat16 on 'mps'.")
            )

    @property
    def precision(self) -> str:
        """The precision in use, by its name."""
        return str(self.dtype).removeprefix("torch.")

    def choose_precision(
        self, image: torch.Tensor, inside: Callable[[tuple[int, int]], torch.Tensor], d: int
    ) -> None:
        """Take half precision if the setting is automatic, the device is fast at it, and one slice says it is exact.

        Args:
            image: the slice (side, side) to try.
            inside: tells which of its (h, w) tokens count.
            d: number of principal components that are compared.
        """
        device = self.device
        half = fast_half_precision(device)
        if not self._automatic or half is None:
            return
        exact = self.one(image)
        if self.device != device:
            return  # the work had to move to the CPU
        self.dtype = half
        error = component_error(exact.float(), self.one(image).float(), inside((exact.shape[1], exact.shape[2])), d)
        if not error <= PRECISION_TOLERANCE:
            self._refuse_half(f"would change them by {100 * error:.1f} %" if math.isfinite(error) else "overflows")

    def one(self, image: torch.Tensor) -> torch.Tensor:
        """Return the tokens (D, h, w) of one square slice (side, side), on the host."""
        return next(self.tokens(image[None], [0], Square(0, 0, len(image))))[0]

    def tokens(self, volume: torch.Tensor, slices: list[int], square: Square) -> Iterator[torch.Tensor]:
        """Give the tokens of slices of a volume batch by batch, (n, D, h, w) on the host.

        Args:
            volume: (Z, H, W) intensities in 0..1.
            slices: which of its slices.
            square: the part of them to encode.

        Raises:
            InputError: there is not enough memory for a single slice on the CPU.
            WeightsError: features are not finite.
        """
        done = 0
        while done < len(slices):
            batch = slices[done : done + max(1, self._batch)]
            found = self._try(square.cut(volume[batch]))
            if found is None:
                self._retreat(len(batch))
                continue
            yield found
            done += len(batch)

    def _try(self, images: torch.Tensor) -> torch.Tensor | None:
        """Return the tokens, None if memory runs out."""
        try:
            if not self._batch:
                return self._encode_and_measure(images)
            return self._encode(images)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
        return None

    def _encode(self, images: torch.Tensor) -> torch.Tensor:
        half = self.dtype != torch.float32
        mixed = torch.autocast(self.device.type, self.dtype) if half else contextlib.nullcontext()
        with torch.inference_mode(), mixed:
            found = self.encoder.encode(images.to(self.device)).cpu()
        if not found.isfinite().all():
            self._overflown(half)
            return self._encode(images)
        return found if found.dtype in (torch.float32, torch.bfloat16, torch.float16) else found.float()

    def _overflown(self, half: bool) -> None:
        """Go back to float32 where that may help, else say what is wrong."""
        if half and self._automatic:
            self._refuse_half("overflows")
            return
        advice = "use --precision float32, or " if half else ""
        msg = (
            f"The features of '{self._source.info.name}' are not finite: its weights are damaged or overflow; "
            f"{advice}get the official weights again."
        )
        raise WeightsError(msg)

    def _encode_and_measure(self, images: torch.Tensor) -> torch.Tensor:
        """Encode one slice and size the batches by the memory it takes (CUDA)."""
        found, taken = self._runtime.taken_by(lambda: self._encode(images))
        self._batch = min(_MOST_SLICES, max(1, int(_BATCH_SHARE * free_memory_bytes(self.device) / taken)))
        return found

    def _refuse_half(self, reason: str) -> None:
        """Go back to float32 and say why."""
        self.messages.append(Note(f"Features are computed in float32: {self.precision} {reason}."))
        self.dtype = torch.float32

    def _retreat(self, slices: int) -> None:
        """Make the batches smaller, or move to the CPU where they cannot be."""
        release_memory(self.device)
        if slices > 1:
            self._batch = slices // 2
            self._say(f"The device ran out of memory; {self._batch} slices at a time are encoded from there on.")
        elif self.device.type != "cpu":
            self.device = torch.device("cpu")
            self._batch = _SMALL_BATCH
            self.dtype = torch.float32 if self._automatic else self.dtype
            self.encoder = self._source.on(self.device)
            self._say("The device ran out of memory for a single slice; slices are encoded on the CPU instead.")
        else:
            msg = "There is not enough memory to encode one slice; choose a smaller --input-size or another encoder."
            raise InputError(msg)

    def _say(self, message: str) -> None:
        self.messages = [kept for kept in self.messages if kept.split(";")[0] != message.split(";")[0]] + [
            Note(message)
        ]


def component_error(exact: torch.Tensor, other: torch.Tensor, inside: torch.Tensor, components: int) -> float:
    """Return how far other tokens of a slice are from the exact ones in the principal components of the exact.

    Args:
        exact: (D, h, w).
        other: (D, h, w).
        inside: (h, w) bool, the tokens that count; all, where they are too few.
        components: how many are compared.

    Returns:
        Root mean square difference over the tokens that count, relative to the spread of the exact ones.
    """
    if int(inside.sum()) <= components:
        inside = torch.ones_like(inside)
    both = torch.stack([exact, other])
    # Fitted to the exact tokens only; the other slice is merely carried along.
    (reduced,), _ = reduce_jointly([both], [torch.stack([inside, torch.zeros_like(inside)])], components)
    first, second = reduced[0][:, inside], reduced[1][:, inside]
    return float((second - first).norm() / first.norm().clamp_min(torch.finfo(torch.float32).tiny))
