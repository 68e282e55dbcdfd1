"""elastix (Klein et al. 2010) from the itk-elastix package, with the parameters Par0032 of the elastix Model Zoo.

Par0032 (Gubern-Merida et al. 2015) is the Model Zoo's one for the breast: motion in contrast-enhanced MR, a rigid
stage and then B-splines. The start takes the place of the rigid stage. Its volumes are cut to whole numbers; here
they stay as they are, since those of others may lie between 0 and 1. itk loads torch wherever it is installed, though
elastix does not need it; the peak memory includes it.
"""

from __future__ import annotations

import itk
import numpy as np
import SimpleITK as sitk

from .methods import Found, Task

_PAR0032_BSPLINES = {
    "Registration": ["MultiResolutionRegistration"],
    "Transform": ["BSplineTransform"],
    "FinalGridSpacingInPhysicalUnits": ["40"],
    "HowToCombineTransforms": ["Compose"],
    "Metric": ["AdvancedMattesMutualInformation"],
    "NumberOfHistogramBins": ["32"],
    "ErodeMask": ["false"],
    "NumberOfResolutions": ["3"],
    "FixedImagePyramid": ["FixedRecursiveImagePyramid"],
    "MovingImagePyramid": ["MovingRecursiveImagePyramid"],
    "ImagePyramidSchedule": ["4", "4", "4", "2", "2", "2", "1", "1", "1"],
    "Optimizer": ["AdaptiveStochasticGradientDescent"],
    "MaximumNumberOfIterations": ["500"],
    "ImageSampler": ["Random"],
    "NumberOfSpatialSamples": ["5000"],
    "NewSamplesEveryIteration": ["true"],
    "Interpolator": ["BSplineInterpolator"],
    "BSplineInterpolationOrder": ["1"],
    "ResampleInterpolator": ["FinalBSplineInterpolator"],
    "FinalBSplineInterpolationOrder": ["1"],
    "Resampler": ["DefaultResampler"],
    "DefaultPixelValue": ["0"],
    "WriteResultImage": ["false"],
}


def par0032(task: Task) -> Found:
    """Register with B-splines 40 mm apart at last and mutual information, the start given as initial transform."""
    kind = itk.Image[itk.F, 3]
    parameters = itk.ParameterObject.New()
    parameters.AddParameterMap(_PAR0032_BSPLINES)
    registration = itk.ElastixRegistrationMethod[kind, kind].New()
    registration.SetFixedImage(_as_itk(task.fixed, itk.F))
    registration.SetMovingImage(_as_itk(task.moving, itk.F))
    registration.SetFixedMask(_as_itk(task.fixed_mask, itk.UC))
    registration.SetExternalInitialTransform(_affine_as_itk(task.start))
    registration.SetParameterObject(parameters)
    registration.SetNumberOfThreads(task.threads)
    registration.SetLogToConsole(False)
    registration.Update()
    path = task.folder / "bsplines.h5"
    itk.transformwrite(registration.ConvertToItkTransform(registration.GetNthTransform(0)), str(path))
    return Found(sitk.CompositeTransform([sitk.ReadTransform(str(path)), task.start]))


def _as_itk(image: sitk.Image, kind: object) -> itk.Image:
    array = sitk.GetArrayFromImage(image)
    result = itk.image_from_array(array.astype(np.float32 if kind is itk.F else np.uint8))
    result.SetOrigin(image.GetOrigin())
    result.SetSpacing(image.GetSpacing())
    result.SetDirection(np.reshape(image.GetDirection(), (3, 3)))
    return result


def _affine_as_itk(start: sitk.AffineTransform) -> itk.AffineTransform:
    affine = itk.AffineTransform[itk.D, 3].New()
    affine.SetFixedParameters(itk.OptimizerParameters[itk.D](list(start.GetFixedParameters())))
    affine.SetParameters(itk.OptimizerParameters[itk.D](list(start.GetParameters())))
    return affine
