"""How many threads of the CPU the libraries use."""

from __future__ import annotations

import os

_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS")


def limit_threads(count: int) -> None:
    """Let PyTorch, ITK and numerical libraries use so many threads in this process and its children.

    Args:
        count: 1 or more.
    """
    os.environ.update(dict.fromkeys(_VARIABLES, str(count)))
    import SimpleITK as sitk
    import torch

    torch.set_num_threads(count)
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(count)
