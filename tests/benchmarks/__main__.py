# SPDX-License-Identifier: Apache-2.0
"""All benchmarks in one command: tables with medians and ratios, and a results file.

    python -m tests.benchmarks                    # everything that this machine can run
    python -m tests.benchmarks --quick            # tiny scenes: does it run, not how fast
    python -m tests.benchmarks --only rasterizer,growth
    python -m tests.benchmarks --device cuda      # what runs on the GPU, nothing of the CPU
    python -m tests.benchmarks --markdown tables.md

    python -m tests.benchmarks --only commands --other ../before    # two checkouts, taking turns

Rows that are compared take turns in one process. Ratios are over processor time on a CPU and over
time between CUDA events on a GPU; "x" columns say how many times the cost of the first row a row
has. How large such a ratio is depends on the machine: above each table stands what it can do at
best, measured just before. Goals are judged only in the scenes that they are about. For the
comparisons install tests/benchmarks/requirements.txt (with --no-deps).

Section `commands` starts whole programs. With --other PATH it starts those of another checkout in
turns with its own, on the same scene, each on a run that it has trained itself; the ratios are
medians over the pairs. The other checkout's Python is PATH/.venv/bin/python where there is one,
else the one that runs here, which then brings its installed rasterizer.

Results go to tests/benchmarks/results/, into one file a machine, named after its processor and
GPU, with the newest figures of each section; --quick and --other write none unless --output names a
file.
Run it on an idle machine: the load average before each section is recorded, and how many
processors other processes kept busy meanwhile.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from tests.benchmarks.options import Options, choose_meters
from tests.benchmarks.peak import peak_of
from tests.benchmarks.records import (
    Neighbours,
    describe_run,
    machine_name,
    results_path,
    write_section,
)
from tests.benchmarks.sections import SECTIONS
from tests.benchmarks.tables import Table

REPEATS, QUICK_REPEATS = 15, 2
DISTURBING = 0.1  # processors that others used: from here on wall times are worth little


def section_names(text: str) -> list[str]:
    """Names from --only, in the order of the sections."""
    wanted = {name.strip() for name in text.split(",") if name.strip()}
    unknown = sorted(wanted - set(SECTIONS))
    if unknown or not wanted:
        raise argparse.ArgumentTypeError(
            f"no section {', '.join(unknown) or 'named'}; there are {', '.join(SECTIONS)}"
        )
    return [name for name in SECTIONS if name in wanted]


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    assert __doc__ is not None
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--quick", action="store_true", help="tiny scenes, in a few minutes")
    parser.add_argument(
        "--only",
        type=section_names,
        default=list(SECTIONS),
        metavar="SECTION[,SECTION]",
        help=f"of {', '.join(SECTIONS)}",
    )
    parser.add_argument(
        "--repeats", type=int, help=f"of fast rows; {REPEATS}, quick {QUICK_REPEATS}"
    )
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument(
        "--other", type=Path, metavar="PATH", help="another checkout, beside which `commands` runs"
    )
    parser.add_argument("--output", type=Path, help="results file, instead of the machine's")
    parser.add_argument("--markdown", type=Path, help="also write the tables as Markdown")
    parsed = parser.parse_args(arguments)
    if parsed.repeats is not None and parsed.repeats < 1:
        parser.error(f"--repeats must be at least 1, got {parsed.repeats}")
    if parsed.other is not None and not (parsed.other / "train.py").is_file():
        parser.error(f"--other {parsed.other} holds no train.py: name the root of a checkout")
    return parsed


def print_tables(title: str, tables: Sequence[Table], others: float | None) -> None:
    """A section on the terminal."""
    print(f"\n== {title}")
    for table in tables:
        print(f"\n{table.as_text()}", flush=True)
    if not tables:
        print("nothing that this machine can run")
    elif others is not None and others > DISTURBING:
        print(
            f"\nnote: other processes used {others:.1f} processors meanwhile; trust processor "
            "times and their ratios, not wall times and gains of threads"
        )


def run_section(name: str, options: Options, output: Path | None) -> list[Table]:
    """Run one section, print it, and keep its figures. A failure is a table that says so."""
    section, run = SECTIONS[name], describe_run()
    peaks = [peak_of(meter, options.quick) for meter in options.meters]
    run["peaks"] = [peak.as_record() for peak in peaks]
    neighbours = Neighbours()
    try:
        tables = list(section.run(options))
    except (RuntimeError, OSError, MemoryError) as error:
        tables = [Table(f"FAILED: {type(error).__name__}: {error}", [])]
    tables = [replace(table, machine=[str(peak) for peak in peaks]) for table in tables]
    run["processors_used_by_others"] = neighbours.processors()
    print_tables(section.title, tables, run["processors_used_by_others"])
    if output is not None and tables:
        write_section(output, name, {**run, "repeats": options.repeats}, tables)
    return tables


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what was asked; 1 if a section failed, 2 if --device asks for what is not there."""
    parsed = parse(arguments)
    try:
        meters = choose_meters(parsed.device)
    except RuntimeError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    repeats = parsed.repeats or (QUICK_REPEATS if parsed.quick else REPEATS)
    options = Options(parsed.quick, repeats, meters, parsed.other)
    machine = machine_name()
    passing = parsed.quick or parsed.other is not None  # nothing that a machine is known by
    output = parsed.output or (None if passing else results_path(machine))
    print(machine)
    pages, failed = [f"{machine}\n"], False
    for name in parsed.only:
        tables = run_section(name, options, output)
        failed = failed or any(table.title.startswith("FAILED") for table in tables)
        if tables:
            pages += [f"### {SECTIONS[name].title}\n", *(table.as_markdown() for table in tables)]
    if parsed.markdown:
        parsed.markdown.write_text("\n".join(pages), encoding="utf-8")
    if output is not None:
        print(f"\nwritten to {output}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
