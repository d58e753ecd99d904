"""Pictures and pages of what a model does."""

from .pictures import interpolation_picture, one_of_each, reconstruction_picture, sample_picture
from .provenance import commit
from .run_report import write_report
from .sheets import save_image

__all__ = [
    "commit",
    "interpolation_picture",
    "one_of_each",
    "reconstruction_picture",
    "sample_picture",
    "save_image",
    "write_report",
]
