"""Write exports; each is read back in a new process and compared with the network before it is put in place."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np

from deeptaxi.errors import DeepTaxiError, UsageError, one_line
from deeptaxi.evaluation.exact import allowed_actions
from deeptaxi.exports import q_tables
from deeptaxi.exports.destination import check_place
from deeptaxi.exports.q_tables import Labels, check_size, number_labels
from deeptaxi.exports.read_back import Comparison, compare, readings
from deeptaxi.exports.writers import WRITERS, Source
from deeptaxi.io.atomic import of_the_disk, write_atomic
from deeptaxi.mdp.table import Ints
from deeptaxi.network.tabulate import BLOCK, block_size, tabulate
from deeptaxi.storage.formats import FORMATS, check_available
from deeptaxi.storage.model_card import write_card


@dataclass(frozen=True)
class Export:
    """The result of an export: what was written, or why it was not.

    Attributes:
        format: name of the format.
        path: path of the export; None if it was not written.
        states: number of states, S.
        max_difference: largest difference of its Q values from the network's, over all states.
        differing_actions: number of states in which it breaks a tie between actions differently.
        outside: answer to a state outside 0 … S−1.
        skipped: why the format was skipped, and what to do.
        failed: why it failed, if other formats succeeded.
    """

    format: str
    path: str | None
    states: int
    max_difference: float | None = None
    differing_actions: int | None = None
    outside: str | None = None
    skipped: str | None = None
    failed: str | None = None


def export(
    network: keras.Model | Ints, name: str, path: Path, labels: Labels | None = None, force: bool = False
) -> Export:
    """Write `network` to `path` in the format `name`.

    Args:
        network: maps states `[B]` to Q values `[B, A]`; or a policy `[S]`, which only tables can hold.
        name: a key of `FORMATS`.
        path: a file, or for ``savedmodel`` a folder.
        labels: names of states and actions, for formats that store them.
        force: whether to overwrite an existing export of the same kind.

    Raises:
        UsageError: the path is taken, or the format is unavailable or cannot hold that many states.
        DeepTaxiError: the network returns NaN, writing fails, or the export read back differs; no file is left then.
    """
    check_available(name)
    check_place(name, path, force)
    source = source_of(network, labels)
    states, actions = source.q_values.shape
    check_size(states, actions, name)
    check_holds(name, source)
    with write_atomic(path, force) as aside:
        found = write_and_compare(source, {name: aside})[name]
        if isinstance(found, DeepTaxiError):
            raise found
    return export_facts(source, name, path, found)


def export_all(
    network: keras.Model | Ints,
    folder: Path,
    labels: Labels | None = None,
    force: bool = False,
    card: Mapping[str, Any] | None = None,
) -> list[Export]:
    """Write `network` to `folder` in every available format; report why others are skipped.

    `card` is the card of the model's run (`storage.model_card`); it is written beside the exports and lists them.

    Raises:
        UsageError: the path is taken.
        DeepTaxiError: as in `export`, if every format fails.
    """
    check_place(None, folder, force)
    source = source_of(network, labels)
    skipped = {name: reason for name in FORMATS if (reason := unwritable(name, source)) is not None}
    with write_atomic(folder, force) as aside:
        aside.mkdir()
        found = write_and_compare(
            source, {name: aside / form.file for name, form in FORMATS.items() if name not in skipped}
        )
        kept = {name: one for name, one in found.items() if not isinstance(one, DeepTaxiError)}
        failed = {name: one for name, one in found.items() if isinstance(one, DeepTaxiError)}
        if not kept:
            raise next(iter(failed.values()))
        for name in failed:
            remove(aside / FORMATS[name].file)
        done = [export_facts(source, name, folder / FORMATS[name].file, one) for name, one in kept.items()]
        if card is not None:
            write_card(aside, {**card, "exports": [entry(one) for one in done]})
    done += [Export(name, None, source.states, skipped=reason) for name, reason in skipped.items()]
    done += [Export(name, None, source.states, failed=str(error)) for name, error in failed.items()]
    return sorted(done, key=lambda one: list(FORMATS).index(one.format))


def source_of(network: keras.Model | Ints, labels: Labels | None) -> Source:
    """Validate the network, or policy, and return the source of an export.

    Raises:
        DeepTaxiError: a weight is NaN or infinite, or a Q value is NaN or +∞.
    """
    if isinstance(network, np.ndarray):
        none = np.empty((len(network), 0), np.float32)
        return Source(None, none, labels or number_labels(int(network.max()) + 1), network)
    check_weights(network)
    q_values = tabulate(network)
    allowed_actions(q_values, None)
    return Source(network, q_values, labels or number_labels(q_values.shape[1]))


def check_weights(network: keras.Model) -> None:
    """Reject NaN or infinite weights.

    Raises:
        DeepTaxiError: there are such weights; the message says where.
    """
    for layer in network.layers:
        for weight, values in zip(layer.weights, layer.get_weights(), strict=True):
            broken = int((~np.isfinite(values)).sum())
            if broken:
                raise DeepTaxiError(
                    f"{broken:,} of {values.size:,} weights in {layer.name}/{weight.name} are NaN or infinite, so "
                    "nothing was exported: the training diverged; train again with a lower --learning-rate"
                )


def unwritable(name: str, source: Source) -> str | None:
    """Return why a network cannot be written in a format; None if it can."""
    try:
        states, actions = source.q_values.shape
        check_size(states, actions, name)
        check_holds(name, source)
    except UsageError as error:
        return str(error)
    return FORMATS[name].missing()


def check_holds(name: str, source: Source) -> None:
    """Reject a policy without Q values in a format that computes them.

    Raises:
        UsageError: it is one.
    """
    if source.policy is not None and name not in q_tables.WRITERS:
        tables = ", ".join(q_tables.WRITERS)
        raise UsageError(f"a policy has no Q values, which {name} computes: write one of {tables}")


def write_and_compare(source: Source, places: Mapping[str, Path]) -> dict[str, Comparison | DeepTaxiError]:
    """Write each format, read it back in a new process meanwhile, and compare.

    Returns the comparison of each format, or its error.
    """
    found: dict[str, Any] = {}
    block = BLOCK if source.network is None else block_size(source.network, source.states)
    with readings() as reading:
        for name, path in places.items():
            with failures(name, found):
                write(source, name, path)
                reading.start(name, path, source.states, block)
        for name in places:
            if name not in found:
                with failures(name, found):
                    found[name] = compare(FORMATS[name], reading.answers(name), source.q_values, source.policy)
    return {name: found[name] for name in places}


@contextmanager
def failures(name: str, found: dict[str, Any]) -> Iterator[None]:
    """Store a `DeepTaxiError` of the block as the result of the format."""
    try:
        yield
    except DeepTaxiError as error:
        found[name] = error


def write(source: Source, name: str, path: Path) -> None:
    """Write the network in one format.

    Raises:
        DeepTaxiError: a package that writes the format fails.
        OSError: the disk cannot be written to.
    """
    try:
        WRITERS[name](source, path)
    except (DeepTaxiError, OSError):
        raise
    except Exception as error:
        refused = of_the_disk(error)
        if refused is not None:
            raise refused from error
        reason = one_line(f"{type(error).__name__}: {error}", 300)
        raise DeepTaxiError(f"cannot write the {name} export: {reason}") from error


def remove(path: Path) -> None:
    """Remove a file or folder if it exists."""
    if path.is_dir():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)


def export_facts(source: Source, name: str, path: Path, found: Comparison) -> Export:
    """Return the result of a successful export."""
    return Export(name, str(path), source.states, *found, FORMATS[name].outside)


def entry(one: Export) -> dict[str, Any]:
    """Return the entry of an export in a card."""
    facts = asdict(one)
    return {
        "file": Path(one.path or "").name,
        **{key: facts[key] for key in ("format", *Comparison._fields, "outside")},
    }
