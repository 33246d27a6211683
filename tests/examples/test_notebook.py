"""The notebook of examples/, executed from top to bottom by this Python."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import nbclient
import nbformat
import pytest
from ipykernel.kernelspec import write_kernel_spec

NOTEBOOK = Path(__file__).parents[2] / "examples" / "taxi.ipynb"


@pytest.fixture
def kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a kernel that runs this very Python, wherever other kernels are installed."""
    write_kernel_spec(tmp_path / "jupyter" / "kernels" / "this-python")
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "jupyter"))
    return "this-python"


def outputs(notebook: Any) -> list[Any]:
    return [output for cell in notebook.cells for output in cell.get("outputs", [])]


@pytest.mark.slow
def test_the_notebook_runs_from_top_to_bottom(tmp_path: Path, kernel: str) -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    client = nbclient.NotebookClient(
        notebook, timeout=120, kernel_name=kernel, resources={"metadata": {"path": str(tmp_path)}}
    )
    start = time.monotonic()
    client.execute()
    assert time.monotonic() - start < 120
    found = outputs(notebook)
    printed = "".join(output.text for output in found if output.output_type == "stream")
    assert not [output for output in found if output.output_type == "stream" and output.name == "stderr"]
    assert "optimal from 300 of 300 starts" in printed
    assert "Compute the td_target" in printed
    shown = [output.data for output in found if "data" in output]
    assert sum("image/png" in data for data in shown) == 3
    pages = [data["text/html"] for data in shown if "text/html" in data]
    assert "300 of 300 start states are played optimally" in pages[0]
    assert "discount-too-small" in pages[1]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["jupyter"]


def test_the_notebook_is_committed_without_outputs() -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    assert not outputs(notebook)
    assert all(cell.get("execution_count") is None for cell in notebook.cells)
    assert notebook.metadata.kernelspec.name == "python3"
