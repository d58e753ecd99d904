"""Measures of reconstructions and samples."""

from .anomaly import Region, error_maps, worst_region
from .classifier import Classifier, class_agreement, classifier_fid, classifier_for
from .comparison import Comparison, LeftOut
from .distances import frechet_distance, kernel_distance
from .evaluation import evaluate
from .inception import INCEPTION_URL, Inception, inception_features, inception_weights
from .measures import MEASURES, Measure, stages_of
from .reconstruction import psnr, reconstruction_error, ssim

__all__ = [
    "INCEPTION_URL",
    "MEASURES",
    "Classifier",
    "Comparison",
    "Inception",
    "LeftOut",
    "Measure",
    "Region",
    "class_agreement",
    "classifier_fid",
    "classifier_for",
    "error_maps",
    "evaluate",
    "frechet_distance",
    "inception_features",
    "inception_weights",
    "kernel_distance",
    "psnr",
    "reconstruction_error",
    "ssim",
    "stages_of",
    "worst_region",
]
