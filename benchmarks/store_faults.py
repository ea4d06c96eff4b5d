"""Kill a process that works on a store, again and again: `python -m benchmarks.store_faults --rounds 100 --seed 13`."""

from __future__ import annotations

import tempfile
from collections import Counter
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import track
from rich.table import Table

from benchmarks.faults.checks import ViolationError
from benchmarks.faults.rounds import FaultTest, Round

app = typer.Typer(add_completion=False, help="Kill a process that works on a store, and check what it leaves.")
console = Console()


@app.command()
def run(
    rounds: Annotated[int, typer.Option(min=1, help="Processes to kill.")] = 100,
    seed: Annotated[int, typer.Option(help="Seed of everything that is drawn.")] = 13,
    documents: Annotated[int, typer.Option(min=100, help="About so many documents at most.")] = 2000,
    samples: Annotated[int, typer.Option(min=1, help="Documents searched for one by one after each kill.")] = 25,
    work: Annotated[
        Path | None, typer.Option(help="Folder in which a new one is made for the store; default: temporary.")
    ] = None,
) -> None:
    """Kill a process with SIGKILL in every round, and check the store it leaves; ends with 1 on a violation.

    A store that violates what it promises is kept, and its place printed.
    """
    folder = Path(tempfile.mkdtemp(prefix="store-faults-", dir=work))
    test = FaultTest(folder, seed, documents, samples)
    done: list[Round] = []
    for number in track(range(rounds), "Killing", console=Console(stderr=True)):
        current = test.begin(number)
        try:
            test.run(current)
        except ViolationError as violation:
            _report_violation(violation, current, test)
            raise typer.Exit(1) from violation
        done.append(current)
    console.print(_summary(done))
    test.remove()


def _report_violation(violation: ViolationError, current: Round, test: FaultTest) -> None:
    cut_off = current.operations[current.acknowledged : current.acknowledged + 1]
    console.print(f"[red]Violation[/red] in round {current.number} with --seed {test.seed}:", escape(str(violation)))
    console.print(escape(f"{current.kill}; {current.acknowledged} operations were done, then {str(cut_off)[:500]}"))
    console.print(escape(f"The store is kept in {test.store_folder}; again: --rounds {current.number + 1}"))


def _summary(done: list[Round]) -> Table:
    """Lay out what happened, per place where processes died."""
    table = Table("killed in", "kills", "operations cut off", "of which done all the same", title=_totals(done))
    for place, kills in Counter(current.place for current in done).most_common():
        here = [current for current in done if current.place == place]
        cut_off = Counter(type(current.cut_off).__name__ for current in here if current.cut_off is not None)
        kinds = ", ".join(f"{name} {count}" for name, count in cut_off.most_common())
        table.add_row(place, str(kills), kinds, str(sum(current.done for current in here)))
    return table


def _totals(done: list[Round]) -> str:
    return (
        f"{len(done)} rounds, no violation: {sum(current.acknowledged for current in done):,} operations acknowledged, "
        f"{sum(current.compared for current in done):,} documents compared, "
        f"{sum(current.searched for current in done):,} searched for; "
        f"at most {max(current.documents for current in done):,} documents and "
        f"{max(len(current.strays) for current in done)} stray files"
    )


if __name__ == "__main__":
    app()
