"""Refinement by composed small steps: it aligns fine structure of any contrast, keeps volumes and never folds."""

import pytest
import torch
from fields import CPU, random_smooth
from stages import Silent

from FoundationRegistrationLib.convex_adam.fluid_refinement import FluidRefinement
from FoundationRegistrationLib.convex_adam.squared_correlation import squared_correlation
from FoundationRegistrationLib.convex_adam.velocity import VelocityKernel
