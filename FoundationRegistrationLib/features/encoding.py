"""Running a slice encoder within the memory of its device, in the fastest precision that is accurate enough."""

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

# Largest accepted change of the tokens' principal components in half precision, relative to their spread.
PRECISION_TOLERANCE = 0.01

_PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
# Fraction of a GPU's free memory for a batch, and the largest batch that still gains speed.
_BATCH_SHARE = 0.5
_MOST_SLICES = 32
# Batch size on devices whose memory use cannot be measured.
_SMALL_BATCH = 2


class SliceRunner:
    """Encodes slices in batches that fit the device, and falls back to smaller batches and to the CPU.

    On CUDA the batch size follows from the memory of one slice; other devices gain little and use small batches.

    Args:
        source: source of the encoder; used again if the work moves to the CPU.
        runtime: where to encode.
        precision: the setting; "auto" is float32 until `choose_precision` finds a faster one.
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
        if device.type == "mps" and self.dtype == torch.bfloat16:  # silently ignored by torch 2.5
            self.dtype = torch.float16
            self.messages.append(
                Note("Features are computed in float16, since not all versions support bfloat16 on 'mps'.")
            )

    @property
    def precision(self) -> str:
        """The name of the precision in use."""
        return str(self.dtype).removeprefix("torch.")

    def choose_precision(
        self, image: torch.Tensor, inside: Callable[[tuple[int, int]], torch.Tensor], d: int
    ) -> None:
        """Use half precision if the setting is automatic, it is faster on the device, and accurate on one slice.

        Args:
            image: test slice (side, side).
            inside: mask of its (h, w) tokens to compare.
            d: number of principal components to compare.
        """
        device = self.device
        half = fast_half_precision(device)
        if not self._automatic or half is None:
            return
        exact = self.one(image)
        if self.device != device:
            return  # the work moved to the CPU
        self.dtype = half
        error = component_error(exact.float(), self.one(image).float(), inside((exact.shape[1], exact.shape[2])), d)
        if not error <= PRECISION_TOLERANCE:
            self._refuse_half(f"would change them by {100 * error:.1f} %" if math.isfinite(error) else "overflows")

    def one(self, image: torch.Tensor) -> torch.Tensor:
        """Return the tokens (D, h, w) of one square slice (side, side), on the host."""
        return next(self.tokens(image[None], [0], Square(0, 0, len(image))))[0]

    def tokens(self, volume: torch.Tensor, slices: list[int], square: Square) -> Iterator[torch.Tensor]:
        """Yield the tokens of slices of a volume in batches, (n, D, h, w) on the host.

        Args:
            volume: (Z, H, W) intensities in 0..1.
            slices: indices of the slices to encode.
            square: the part of each slice to encode.

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
        """Fall back to float32 if that may help, else raise the error."""
        if half and self._automatic:
            self._refuse_half("overflows")
            return
        advice = "use --precision float32, or " if half else ""
        msg = (
            f"The features of '{self._source.info.name}' are not finite: its weights are damaged or the values "
            "overflow; "
            f"{advice}get the official weights again."
        )
        raise WeightsError(msg)

    def _encode_and_measure(self, images: torch.Tensor) -> torch.Tensor:
        """Encode one slice and set the batch size by its memory (CUDA)."""
        found, taken = self._runtime.taken_by(lambda: self._encode(images))
        self._batch = min(_MOST_SLICES, max(1, int(_BATCH_SHARE * free_memory_bytes(self.device) / taken)))
        return found

    def _refuse_half(self, reason: str) -> None:
        """Fall back to float32 and report why."""
        self.messages.append(Note(f"Features are computed in float32: {self.precision} {reason}."))
        self.dtype = torch.float32

    def _retreat(self, slices: int) -> None:
        """Reduce the batch size, or move to the CPU if it is 1."""
        release_memory(self.device)
        if slices > 1:
            self._batch = slices // 2
            self._say(f"The device ran out of memory; the batch size was reduced to {self._batch} slices.")
        elif self.device.type != "cpu":
            self.device = torch.device("cpu")
            self._batch = _SMALL_BATCH
            self.dtype = torch.float32 if self._automatic else self.dtype
            self.encoder = self._source.on(self.device)
            self._say("The device ran out of memory for a single slice; encoding continues on the CPU.")
        else:
            msg = "There is not enough memory to encode one slice; choose a smaller --input-size or another encoder."
            raise InputError(msg)

    def _say(self, message: str) -> None:
        self.messages = [kept for kept in self.messages if kept.split(";")[0] != message.split(";")[0]] + [
            Note(message)
        ]


def component_error(exact: torch.Tensor, other: torch.Tensor, inside: torch.Tensor, components: int) -> float:
    """Return the error of the tokens of a slice in the principal components of the exact tokens.

    Args:
        exact: (D, h, w).
        other: (D, h, w).
        inside: (h, w) bool, the tokens to compare; all if these are too few.
        components: number of components to compare.

    Returns:
        Root mean square difference over the compared tokens, relative to the spread of the exact ones.
    """
    if int(inside.sum()) <= components:
        inside = torch.ones_like(inside)
    both = torch.stack([exact, other])
    # Fitted to the exact tokens only; the other slice is only projected.
    (reduced,), _ = reduce_jointly([both], [torch.stack([inside, torch.zeros_like(inside)])], components)
    first, second = reduced[0][:, inside], reduced[1][:, inside]
    return float((second - first).norm() / first.norm().clamp_min(torch.finfo(torch.float32).tiny))
