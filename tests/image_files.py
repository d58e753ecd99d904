"""Images in files, in the formats that data sets come in."""

from __future__ import annotations

import gzip
import io
import struct

import datasets
import numpy as np
from PIL import Image


def write_image(path, colour, size=(20, 20), mode="RGB"):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, colour).save(path)


def write_idx(path, array):
    content = struct.pack(">BBBB", 0, 0, 8, array.ndim) + struct.pack(f">{array.ndim}I", *array.shape)
    content += array.astype(np.uint8).tobytes()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)


def png(colour, size=(6, 6), mode="RGB"):
    content = io.BytesIO()
    Image.new(mode, size, colour).save(content, "png")
    return content.getvalue()


def hub_rows(values, labels=None, names=("a", "b"), size=(28, 28), mode="L"):
    """Rows as the Hub has them, an image of one grey value each."""
    columns = {"image": [Image.new(mode, size, value) for value in values]}
    features = {"image": datasets.Image()}
    if labels is not None:
        columns["label"], features["label"] = labels, datasets.ClassLabel(names=list(names))
    return datasets.Dataset.from_dict(columns, features=datasets.Features(features))
