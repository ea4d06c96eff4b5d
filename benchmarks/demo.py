"""The demo's speed: `python -m benchmarks.demo run | check`; see benchmarks/README.md."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks.command import add_check, console, mistakes_explained, work_folder, write_results
from benchmarks.environment import environment

app = typer.Typer(add_completion=False, no_args_is_help=True, help="Measure the demo, most of it as its users see it.")

EXPECTATIONS = Path(__file__).with_suffix(".yaml")


@app.command()
def run(
    output: Annotated[Path, typer.Option(help="JSON file for the results.")],
    work: Annotated[Path | None, typer.Option(help="Folder for the demo's home, empty; default: temporary.")] = None,
    users: Annotated[int, typer.Option(min=1, help="Users who ask at once.")] = 16,
    each: Annotated[int, typer.Option(min=1, help="Questions that each of them asks.")] = 6,
    rounds: Annotated[int, typer.Option(min=1, help="How often each question of the sample is asked.")] = 3,
    pages: Annotated[int, typer.Option(min=1, help="Pages of the PDF file that is indexed.")] = 100,
    words: Annotated[int, typer.Option(min=1, help="Words on each of its pages.")] = 450,
) -> None:
    """Start it in an empty home, ask alone and with others, and index a long file."""
    with mistakes_explained(), work_folder(work) as home:
        if any(home.iterdir()):
            raise ValueError(f"{home} is not empty; the demo is to start as on a new machine.")
        _set_environment(home)
        from benchmarks.visiting import parts  # noqa: PLC0415 (libraries look at the environment)

        settings = {"users": users, "each": each, "rounds": rounds, "pages": pages, "words": words}
        results: dict[str, Any] = {"environment": environment(), "settings": settings}
        console.print("Starting in an empty home, and asking while engines are measured")
        results["start"] = parts.start_figures(home)
        console.print(f"{users} users at once")
        results["users"] = parts.user_figures(home, users, each)
        console.print("One question after the other")
        results["answers"] = parts.answer_figures(home / "demo", rounds)
        console.print(f"A PDF file of {pages} pages")
        results["indexing"] = parts.indexing_figures(pages, words)
        write_results(results, output)


def _set_environment(home: Path) -> None:
    """Let what is measured in this process share the home and the choice of engine with the servers."""
    from demo.core.environment import set_environment  # noqa: PLC0415

    os.environ.pop("ROM_BACKEND", None)
    os.environ["ROM_HOME"] = str(home / "rom")
    set_environment()


add_check(app, EXPECTATIONS)

if __name__ == "__main__":
    app()
