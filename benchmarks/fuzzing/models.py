"""Whole models, checkpoints and configurations, and changes to them, malicious ones among them."""

from __future__ import annotations

import hashlib
import io
import json
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from safetensors.torch import save

from feature_alignment.models import FA, VAE, VFAGAN, Model

from .mutations import change_bytes, change_tree

#: A pickle that is executed writes this file.
MARK = "executed"

#: Aliases of aliases: nine times as many values with every line.
LAUGHS = b"".join(b"%c: &%c [%s]\n" % (c, c, b",".join([b"*%c" % (c - 1)] * 9)) for c in range(99, 123))

#: Whole texts that parsers of JSON and YAML get wrong.
TEXTS = (
    b"", b"null", b"[]", b"{}", b"1", b'"text"', b"\xff\xfe{}", b"\xef\xbb\xbf{}", b"9" * 5000, b"NaN", b"\0" * 100,
    b"[" * 10**5, b'{"a":' * 10**5, b"{" * 3000, b"- " * 10**4, b"a: " * 1000, b"\t", b"a: b: c",
    b"!!python/object/apply:os.system [touch executed]", b"%YAML 9.9\n---\na", b"--- a\n--- b",
    b"a: &a [x]\nb: &b [*a, *a]\n" + LAUGHS, b"data:\n  a: &b [x]\n  " + LAUGHS.replace(b"\n", b"\n  "),
    b"data: {batch_size: 2001-99-99}", b"training: {steps: 0x}", b"training: {steps: 0b}",
    b"training: {steps: " + b"1" * 5000 + b"}", b"training: {seed: !!int x}", b"training: {seed: !!float x}",
    b"training: {seed: 1:99:99}", b"data: {name: !!timestamp x}", b"data: !!set {a}", b"data: !!binary =",
    b"? {a: b}\n: c", b"? [a]\n: c", b"data: &a {b: *a}", b"training: &a [*a]", b"data: {1: 2}", b"1: {}", b"data: []",
    b"training:", b"out: {a: 1}\nmodel: {class_path: FA}", b"out: 3\nmodel: {class_path: FA}",
    b"model: {class_path: [VFA]}", b"model: {class_path: 3}", b"model: {class_path: null}",
    b"model: {class_path: VFA, init_args: 3}", b"model: {class_path: VFA, init_args: [latent]}",
    b"model: {class_path: VFA, init_args: {channels: {a: 1}}}",
)  # fmt: skip

#: Values that options of a configuration do not have.
CLASS_PATHS = (
    "os.system",
    "feature_alignment.models.Model",
    "torch.nn.Linear",
    "a..b",
    ".",
    "FA.",
    "vfa_gan",
    "os:system",
    "VFA\n",
)


def whole_models(folder: Path) -> list[dict[str, bytes]]:
    """Return the files of small models."""
    torch.manual_seed(0)
    kinds: list[tuple[type[Model], dict[str, Any]]] = [
        (FA, {}),
        (VFAGAN, {"classes": 3, "start": "layers", "squash": "every", "refiner_filters": 4, "discriminator_width": 8}),
        (VAE, {}),
    ]
    found = []
    for kind, options in kinds:
        model = kind((1, 8, 8), latent=3, channels=(4,), width=8, **options)
        if kind is FA:
            model.fit_samplers(torch.randint(256, (40, 1, 8, 8), dtype=torch.uint8), None)
        model.save_pretrained(folder / kind.__name__)
        found.append({path.name: path.read_bytes() for path in (folder / kind.__name__).iterdir()})
    return found


def change_text(rng: np.random.Generator, content: bytes, other: bytes, *, as_yaml: bool) -> bytes:
    """Change JSON or YAML: keys and values, bytes, or all of it."""
    if (chance := rng.random()) < 0.1:
        return TEXTS[int(rng.integers(len(TEXTS)))]
    if chance < 0.2:
        return change_bytes(rng, content, other, 2)
    tree = change_tree(rng, yaml.safe_load(content) if as_yaml else json.loads(content))
    if as_yaml and isinstance(tree, dict) and isinstance(tree.get("model"), dict) and rng.random() < 0.1:
        tree["model"]["class_path"] = CLASS_PATHS[int(rng.integers(len(CLASS_PATHS)))]
    return (yaml.safe_dump(tree, sort_keys=False) if as_yaml else json.dumps(tree)).encode()


def change_weights(rng: np.random.Generator, content: bytes, other: bytes) -> bytes:
    """Change a safetensors file: its header as a tree or as bytes, the length of it, or the weights."""
    length = int.from_bytes(content[:8], "little")
    head, body = content[8 : 8 + length], content[8 + length :]
    chance = rng.random()
    if chance < 0.55:
        tree = change_tree(rng, json.loads(head))
        if rng.random() < 0.2:
            tree = {
                "__metadata__": {"format": "pt"},
                "w": {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 2**42]},
            }
        head = json.dumps(tree).encode()
    elif chance < 0.6:
        head = TEXTS[int(rng.integers(len(TEXTS)))]
    elif chance < 0.7:
        size = int(rng.choice(np.array([0, 1, 2**20, 2**27, 2**40, 2**63], np.uint64)))
        return size.to_bytes(8, "little") + head + body
    elif chance < 0.8:
        body = change_bytes(rng, body, other, 0)
    elif chance < 0.85:  # a whole file of other tensors
        weights = {name: torch.zeros(3, dtype=torch.int8) for name in json.loads(head) if name != "__metadata__"}
        return bytes(save(weights))
    else:
        return change_bytes(rng, content, other, 8)
    return len(head).to_bytes(8, "little") + head + body


def sealed(content: bytes) -> bytes:
    """Return a checkpoint of PyTorch's with the checksum that ours have at the end."""
    content = content[:-2] + (39).to_bytes(2, "little")
    return content + b"sha256:" + hashlib.sha256(content).digest()


def change_checkpoint(rng: np.random.Generator, content: bytes, other: bytes) -> bytes:
    """Change a checkpoint: what it holds, its records, or its bytes; most often with the right checksum."""
    chance = rng.random()
    if chance < 0.45:
        state = torch.load(io.BytesIO(content), weights_only=True)
        return _saved(change_tree(rng, state, (*STRANGE, None, -1, 0, 10**30, "x", [], {}, float("nan"))))
    if chance < 0.6:
        return sealed(_malicious(rng, content))
    if chance < 0.85:
        return sealed(_changed_records(rng, content[:-39]))
    return change_bytes(rng, content, other, 100)


#: Tensors that do not belong into a checkpoint.
STRANGE = (
    torch.zeros(0), torch.zeros(3), torch.full((8,), torch.nan), torch.zeros(3, dtype=torch.complex64),
    torch.ones(2, 2, 2),
    torch.zeros(1).expand(10**12), torch.zeros(4, dtype=torch.bool), torch.zeros(2).to_sparse(),
)  # fmt: skip


def _saved(state: Any) -> bytes:
    content = io.BytesIO()
    torch.save(state, content)
    return sealed(content.getvalue())


class _Call:
    """What is pickled as a call of a function."""

    def __init__(self, function: str, *arguments: Any) -> None:
        self.function, self.arguments = function, arguments

    def __reduce__(self) -> tuple[Any, ...]:
        import pkgutil

        return pkgutil.resolve_name(self.function), self.arguments


def _malicious(rng: np.random.Generator, content: bytes) -> bytes:
    """Return a checkpoint whose pickle would execute something, or ask for much memory."""
    shell = f"touch {MARK}"
    calls = (
        ("os:system", shell), ("builtins:exec", f"open({MARK!r}, 'w')"), ("builtins:eval", f"open({MARK!r}, 'w')"),
        ("subprocess:check_call", ["touch", MARK]), ("pathlib:Path.touch", Path(MARK)), ("builtins:bytearray", 2**36),
        ("torch:load", MARK), ("torch:zeros", 2**36), ("torch:device", "nowhere"),
        ("builtins:getattr", dict, "__subclasses__"), ("collections:OrderedDict", [("a", _Call("os:system", shell))]),
    )  # fmt: skip
    function, *arguments = calls[int(rng.integers(len(calls)))]
    data = pickle.dumps({"updates": 1, "model": _Call(str(function), *arguments)}, int(rng.integers(1, 5)))
    if rng.random() < 0.2:
        return data  # not even an archive
    return _records(content, lambda name, old: data if name.endswith("data.pkl") else old)


def _changed_records(rng: np.random.Generator, content: bytes) -> bytes:
    """Change one of the records of the archive, most often the pickle."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        names = archive.namelist()
    pickled = next(name for name in names if name.endswith("data.pkl"))
    chosen = names[int(rng.integers(len(names)))] if rng.random() < 0.4 else pickled
    if rng.random() < 0.1:
        return _records(content, lambda name, old: None if name == chosen else old)
    return _records(content, lambda name, old: change_bytes(rng, old, b"", 2) if name == chosen and old else old)


def _records(content: bytes, change: Any) -> bytes:
    """Return the archive with records replaced, or left out where there is none."""
    found = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as archive, zipfile.ZipFile(found, "w") as written:
        for info in archive.infolist():
            if (new := change(info.filename, archive.read(info))) is not None:
                written.writestr(zipfile.ZipInfo(info.filename), new)
    return found.getvalue()
