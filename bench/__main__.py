"""`python -m bench`: all measurements in one run.

Every response, every record in Kafka and every sample of every scrape is checked. A wrong one ends
the run with status 1 and without figures.
"""

import logging
import os
import sys
import tempfile
from pathlib import Path

import click
import structlog
import uvloop

from bench import machine, report
from bench.errors import WrongResultError
from bench.goals import missing, reached
from bench.plans import QUICK, SMALLEST, WHOLE
from bench.run import SUBJECTS, measure
from tobogganing.devstack.run_config import CHECKOUT
from tobogganing.errors import LocalError

PAGE = CHECKOUT / "docs" / "performance.md"
RESULTS = CHECKOUT / "build" / "bench"


@click.command()
@click.option("--quick", is_flag=True, help="Small fleets, under 3 minutes.")
@click.option("--smallest", is_flag=True, help="Only check that everything works.")
@click.option("--publish", is_flag=True, help="Write the tables into docs/performance.md.")
@click.option(
    "--only", multiple=True, type=click.Choice(list(SUBJECTS)), help="One subject; repeatable."
)
@click.option("--results", default=RESULTS, type=Path, help="Folder for figures and tables.")
def main(quick: bool, smallest: bool, publish: bool, only: tuple[str, ...], results: Path) -> None:
    """Run the benchmarks and print tables."""
    if publish and (only or quick or smallest):
        raise click.UsageError("--publish needs a whole run: leave out the other options")
    logging.basicConfig(level=logging.ERROR)
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    plan = SMALLEST if smallest else QUICK if quick else WHOLE
    busy = os.getloadavg()[0]
    try:
        about = machine.describe(with_peers=plan.peers)
        with tempfile.TemporaryDirectory(prefix="bench-") as folder:
            figures = uvloop.run(measure(plan, Path(folder), only or tuple(SUBJECTS)))
        if plan is WHOLE and not only and (absent := missing(figures)):
            raise WrongResultError(f"nothing was measured of {'; '.join(absent)}")
    except (WrongResultError, LocalError) as error:
        print(f"NO FIGURES: {error}", *getattr(error, "__notes__", ()), sep="\n", file=sys.stderr)
        raise SystemExit(1) from None
    about.append(("Load before the run", f"{busy:.1f} processes of other work on average"))
    print(report.write(results, about, figures))
    missed = [each.text for each in reached(figures) if not each.met]
    if missed and plan is WHOLE:
        print(f"Not reached: {'; '.join(missed)}", file=sys.stderr)
    if publish:
        report.publish(PAGE, report.sections(about, figures))


if __name__ == "__main__":
    main()
