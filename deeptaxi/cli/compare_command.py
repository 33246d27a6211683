"""``deeptaxi compare``."""

from __future__ import annotations

from pathlib import Path

import click

from deeptaxi.cli import options


@click.command("compare")
@click.argument("paths", type=options.PATH, nargs=-1, required=True, metavar="PATH...")
@click.option(
    "--by",
    multiple=True,
    metavar="KEY",
    help="Setting to group runs by, e.g. learning_rate; or env, network, preset, folder (repeatable).  "
    "[default: those in which the runs differ]",
)
@click.option("--out", "-o", type=options.PATH, metavar="FILE", help="Write an HTML page as well.")
@options.force_option
@options.trust_option
@options.json_option
@options.shared_options
def command(
    paths: tuple[Path, ...], by: tuple[str, ...], out: Path | None, force: bool, trust_env: bool, as_json: bool
) -> None:
    """Compare groups of runs: which setting solves more seeds, how surely, and how fast.

    PATH is a run folder, or a folder that holds some at any depth, such as that of a sweep. Runs that differ only in
    their seed are a group. No model is loaded: model cards and logs say it all.
    """
    from deeptaxi.api.compare import compare
    from deeptaxi.display import console, group_tables
    from deeptaxi.io.atomic import check_free

    if out is not None:
        check_free(out, force, replaceable=out.is_file())
    found = compare(list(paths), by)
    made = None if out is None else found.report(out, force=force, trust_env=trust_env)
    for name, why in found.left_out.items():
        console.err().print(f"Left out: {name}: {why}", soft_wrap=True)
    for remark in found.remarks:
        console.err().print(f"Note: {remark}", soft_wrap=True)
    if as_json:
        options.print_json(found.to_dict())
        return
    console.print_wide(group_tables.comparison_page(found.to_dict()))
    if made is not None:
        console.out().print(f"Wrote {made.report} ({made.bytes / 1000:.0f} KB)", soft_wrap=True)
