"""Digits against scikit-learn's own; MNIST and CIFAR-10 from a small copy of OpenML on disk."""

import gzip
import hashlib
import json
import sys
import urllib.error

import pytest
import torch
from sklearn.datasets import load_digits

from sbm_lite import data


def test_digits_are_those_of_scikit_learn_from_zero_to_one():
    x = data.digits()
    assert x.shape == (1797, 64) and x.dtype == torch.float32
    assert torch.equal(16 * x.double(), torch.as_tensor(load_digits().data))
    assert x.min() == 0 and x.max() == 1


def test_digits_lie_row_by_row():
    picture = torch.as_tensor(load_digits().images[7])
    assert torch.equal(16 * data.digits()[7].double().reshape(8, 8), picture)


def test_digits_are_fresh_on_every_call():
    data.digits().zero_()
    assert data.digits().max() == 1


def test_labels_belong_to_the_digits():
    """The mean image of a label is nearer to its own images than to those of any other label."""
    x, labels = data.digits(), data.digit_labels()
    means = torch.stack([x[labels == k].mean(0) for k in range(10)])
    assert (torch.cdist(x, means).argmin(1) == labels).float().mean() > 0.85


LOADERS = {"mnist": (data.mnist, 554), "cifar10": (data.cifar10, 40927)}
TITLES = {"mnist": "MNIST", "cifar10": "CIFAR-10"}


def openml_copy(folder, number: int, pixels: torch.Tensor):
    """What scikit-learn keeps of OpenML's data set `number`, with these pixels (n, d)."""
    n, d = pixels.shape
    names = [f"pixel{i}" for i in range(d)]
    rows = [",".join(map(str, [*row.tolist(), i % 3])) for i, row in enumerate(pixels)]
    header = [f"@ATTRIBUTE {name} NUMERIC" for name in names] + ["@ATTRIBUTE class {0,1,2}"]
    arff = "\n".join(["@RELATION small", *header, "@DATA", *rows, ""]).encode()
    ask = {"is_target": "false", "is_ignore": "false", "is_row_identifier": "false"}
    ask["number_of_missing_values"] = "0"
    told = [{"index": str(i), "name": m, "data_type": "numeric"} | ask for i, m in enumerate(names)]
    label = {"index": str(d), "name": "class", "data_type": "nominal", **ask, "is_target": "true"}
    answers = {
        f"api/v1/json/data/{number}": {"data_set_description": {
            "name": "small", "description": "", "version": "1", "status": "active",
            "format": "ARFF",
            "url": "https://www.openml.org/data/v1/download/1/small.arff",
            "md5_checksum": hashlib.md5(arff).hexdigest(),
        }},
        f"api/v1/json/data/features/{number}": {"data_features": {"feature": [*told, label]}},
        f"api/v1/json/data/qualities/{number}": {
            "data_qualities": {"quality": [{"name": "NumberOfInstances", "value": str(n)}]}
        },
    }  # fmt: skip
    files = {path: json.dumps(answer).encode() for path, answer in answers.items()}
    for path, content in (files | {"data/v1/download/1/small.arff": arff}).items():
        file = folder / "openml" / "openml.org" / f"{path}.gz"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(gzip.compress(content))


@pytest.mark.parametrize("name", LOADERS)
def test_pixels_from_openml_are_the_stored_ones_from_zero_to_one(tmp_path, name):
    loader, number = LOADERS[name]
    channels, height, width = data.SHAPES[name]
    d = channels * height * width
    pixels = torch.randint(256, (5, d), generator=torch.Generator().manual_seed(0))
    pixels[0, 0], pixels[0, 1] = 0, 255
    openml_copy(tmp_path, number, pixels)
    x = loader(tmp_path)
    assert x.dtype == torch.float32 and x.min() == 0 and x.max() == 1
    assert torch.equal((255 * x).round().long(), pixels)


@pytest.mark.parametrize("name", LOADERS)
def test_no_network_is_one_clear_line(tmp_path, monkeypatch, name):
    asked = []

    def refuse(*args, **kwargs):
        asked.append(args)
        raise urllib.error.URLError("name resolution failed")

    monkeypatch.setattr("sklearn.datasets._openml.urlopen", refuse)
    words = f"^{TITLES[name]} could not be fetched from openml.org: .*resolution"
    folder = tmp_path / "not yet" / "there"
    with pytest.raises(ConnectionError, match=words):
        LOADERS[name][0](folder)
    assert folder.is_dir() and len(asked) <= 4  # a reader who is offline does not wait long


def test_no_pandas_is_one_clear_line(tmp_path, monkeypatch):
    openml_copy(tmp_path, 554, torch.zeros(3, 784, dtype=torch.long))
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ImportError, match=r"MNIST needs pandas: pip install 'sbm-lite\[images\]'"):
        data.mnist(tmp_path)
