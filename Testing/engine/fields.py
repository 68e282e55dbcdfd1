"""Made-up volumes and displacements on small grids, the same in every run."""

import numpy as np
import torch
from scipy import ndimage

from FoundationRegistrationLib.runtime.progress import Progress
from FoundationRegistrationLib.spatial.sampling import identity_positions

CPU = torch.device("cpu")
QUIET = Progress({"test": 1.0})


def random_smooth(seed, shape, sigma, channels=1):
    """(C, z, y, x) noise of unit variance, smooth over `sigma` voxels, the same for the same seed."""
    rng = np.random.default_rng(seed)
    volume = ndimage.gaussian_filter(rng.standard_normal((channels, *shape)), (0, *[sigma] * 3), mode="wrap")
    return torch.from_numpy(volume / volume.std()).float()


def ramps(shape, dtype=torch.float32):
    """Three linear functions of the voxel index with no symmetry between the axes, (3, z, y, x)."""
    matrix = torch.tensor([[0.3, -0.2, 0.05], [0.1, 0.25, -0.15], [-0.05, 0.12, 0.2]], dtype=dtype)
    return torch.einsum("ij,jzyx->izyx", matrix, identity_positions(shape, CPU).to(dtype)) + 1.5


def constant(vector, shape):
    return torch.tensor(vector).view(3, 1, 1, 1).expand(3, *shape).clone()
