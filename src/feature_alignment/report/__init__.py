"""Pictures, charts and pages of a model's results."""

from .pictures import interpolation_picture, one_of_each, reconstruction_picture, sample_picture, save_image
from .provenance import commit
from .run_report import write_report

__all__ = [
    "commit",
    "interpolation_picture",
    "one_of_each",
    "reconstruction_picture",
    "sample_picture",
    "save_image",
    "write_report",
]
