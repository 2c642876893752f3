"""`python -m bench`: everything that is measured, in one run.

Nothing is taken for a figure that was not checked: every answer, every record in Kafka, every
sample of every scrape. What is wrong ends the run with status 1 and without figures.
"""

import sys
import tempfile
from pathlib import Path

import click
import uvloop

from bench import machine, report
from bench.errors import WrongResultError
from bench.goals import missing, reached
from bench.logs import quiet
from bench.plans import QUICK, SMALLEST, WHOLE
from bench.run import SUBJECTS, measure
from tobogganing.devstack.run_config import CHECKOUT
from tobogganing.errors import LocalError

DOCS = CHECKOUT / "docs"
RESULTS = CHECKOUT / "build" / "bench"


@click.command()
@click.option("--quick", is_flag=True, help="Under 3 minutes, of small fleets.")
@click.option("--smallest", is_flag=True, help="Only see whether everything works.")
@click.option("--publish", is_flag=True, help="Show the figures in docs/performance.md.")
@click.option(
    "--only", multiple=True, type=click.Choice(list(SUBJECTS)), help="Measure this; repeatable."
)
@click.option("--results", default=RESULTS, type=Path, help="Folder for figures, tables, plots.")
def main(quick: bool, smallest: bool, publish: bool, only: tuple[str, ...], results: Path) -> None:
    """Measure everything; print tables."""
    if publish and (only or quick or smallest):
        raise click.UsageError("--publish shows one whole run: leave out what makes it smaller")
    quiet()
    plan = SMALLEST if smallest else QUICK if quick else WHOLE
    busy = machine.load()
    try:
        about = machine.describe(with_peers=plan.peers)
        with tempfile.TemporaryDirectory(prefix="bench-") as folder:
            figures = uvloop.run(measure(plan, Path(folder), only or tuple(SUBJECTS)))
        if plan is WHOLE and not only and (absent := missing(figures)):
            raise WrongResultError(f"nothing was measured of {'; '.join(absent)}")
    except (WrongResultError, LocalError) as error:
        print(f"NO FIGURES: {error}", *getattr(error, "__notes__", ()), sep="\n", file=sys.stderr)
        raise SystemExit(1) from None
    about.append(("Load before it", f"{busy:.1f} processes on average, of others"))
    print(report.write(results, about, figures).read_text(encoding="utf-8"))
    missed = [each.text for each in reached(figures) if not each.met]
    if missed and plan is WHOLE:
        print(f"Not reached: {'; '.join(missed)}", file=sys.stderr)
    if publish:
        report.publish(DOCS / "performance.md", report.sections(about, figures))
        for name, text in report.plots(figures).items():
            (DOCS / f"{name}.svg").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
