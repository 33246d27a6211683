from __future__ import annotations

import sys

import pytest

from deeptaxi.errors import UsageError
from deeptaxi.storage.formats import FORMATS, check_available


def test_an_unknown_format_is_answered_with_the_known_ones() -> None:
    with pytest.raises(UsageError, match="unknown format 'excel': expected one of keras, plain, savedmodel, onnx"):
        check_available("excel")


@pytest.mark.parametrize(
    ("name", "package", "extra"),
    [("onnx", "onnxruntime", "onnx"), ("onnx", "tf2onnx", "onnx"), ("litert", "ai_edge_litert", "litert")],
)
def test_a_missing_runtime_is_named_with_how_to_install_it(
    name: str, package: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    check_available(name)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(
        UsageError, match=rf"cannot write {name}: it needs {package}: pip install 'deeptaxi\[{extra}\]'"
    ):
        check_available(name)


def test_every_format_has_its_own_file_name_and_ending() -> None:
    assert len({form.file for form in FORMATS.values()}) == len(FORMATS)
    assert len({form.ending for form in FORMATS.values()}) == len(FORMATS)
