"""What all commands share: the application, its options and exit codes, and how mistakes are explained."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from rich.text import Text

from rom_haystack.cli.output import errors, print_json, printable

# Everything heavy is imported inside the commands, so that `rom --help` is there at once.

ANSWERED = 0
NO_ANSWER = 1
MISTAKE = 2
NOTHING_INDEXED = 3
INTERRUPTED = 130

PACKAGE = Path(__file__).parents[1]
DEFAULT_MODEL = "rom-minilm-l6"

EPILOG = (
    "Exit codes: 0 answered (or done), 1 no answer found, 2 a mistake in what was asked (a path, a model, an option, "
    "an empty question), 3 nothing could be indexed, 130 interrupted."
)

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    epilog=EPILOG,
    help="Ask your own documents. Answers are quotes, and nothing leaves this machine.",
)

ModelOption = Annotated[
    str, typer.Option("--model", help="Bundled name, folder or Hugging Face id of a ROM checkpoint.", metavar="M")
]
ModelArgument = Annotated[str, typer.Argument(help="Bundled name, folder or Hugging Face id.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document for machines.")]


def _print_version(value: bool) -> None:
    if value:
        from rom_haystack import __version__  # noqa: PLC0415

        typer.echo(f"rom-haystack {__version__}")
        raise typer.Exit


@app.callback()
def rom(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Ask your own documents. Answers are quotes, and nothing leaves this machine."""


@contextmanager
def mistakes_explained(as_json: bool) -> Iterator[None]:
    """Turn a user's mistake into one line and exit code 2, and Ctrl-C into exit code 130."""
    try:
        yield
    except ValueError as error:  # CheckpointError and LibraryError are such too
        fail(str(error), MISTAKE, as_json)
    except BrokenPipeError:  # the reader of the output has left; typer ends quietly
        raise
    except OSError as error:
        place = f"'{error.filename}': " if error.filename else ""
        fail(f"{place}{error.strerror or error}. Check the path and its permissions.", MISTAKE, as_json)
    except KeyboardInterrupt:
        fail("Interrupted.", INTERRUPTED, as_json)
    except ModuleNotFoundError:  # a broken installation
        raise
    except ImportError as error:  # an engine that isn't installed; the message says how to get it
        fail(str(error), MISTAKE, as_json)
    except Exception as error:
        from haystack.core.errors import PipelineRuntimeError  # noqa: PLC0415

        if not isinstance(error, PipelineRuntimeError):
            raise
        fail(f"'{error.component_name}' failed: {error.__cause__ or error}", MISTAKE, as_json)


def fail(message: str, code: int, as_json: bool, **fields: Any) -> NoReturn:
    """Say what is wrong, to people on stderr and to machines as JSON too, and exit."""
    if as_json:
        print_json({"error": message, **fields})
    errors().print(Text(printable(message)), soft_wrap=True)
    raise typer.Exit(code)
