"""The command that serves a folder's answers."""

import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from rom_haystack.cli.app import DEFAULT_MODEL, EPILOG, JsonOption, ModelOption, app, mistakes_explained
from rom_haystack.cli.documents import (
    SAMPLE_CORPUS,
    IndexOption,
    KeywordWeightOption,
    open_library,
    report_fields,
    require_passages,
    updated,
)
from rom_haystack.cli.output import errors, print_json, print_rows, printable
from rom_haystack.cli.quiet import importing, preparation_announced, quiet
from rom_haystack.serving.environment import check_packages, isolate
from rom_haystack.serving.limits import MAX_BODY_SIZE, MAX_PASSAGES, MAX_QUESTION_LENGTH, MAX_TOP_K, Limits

if TYPE_CHECKING:
    import socket

    from starlette.types import ASGIApp

    from rom_haystack.library import UpdateReport
    from rom_haystack.serving.service import QuestionService

_LOOPBACK = "127.0.0.1"


@app.command(epilog=EPILOG)
def serve(
    docs: Annotated[Path, typer.Option("--docs", help="Folder of documents. Default: a sample.")] = SAMPLE_CORPUS,
    index: IndexOption = None,
    model: ModelOption = DEFAULT_MODEL,
    host: Annotated[str, typer.Option("--host", help="Address to serve at. There is no authentication.")] = _LOOPBACK,
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="Port of REST and chat; 0: any free.")] = 1416,
    allow_host: Annotated[
        list[str] | None,
        typer.Option("--allow-host", help="A further name by which clients call it, such as a proxy's; repeatable."),
    ] = None,
    mcp: Annotated[bool, typer.Option("--mcp/--no-mcp", help="Serve MCP, too.")] = True,
    mcp_port: Annotated[int, typer.Option("--mcp-port", min=0, max=65535, help="Port of MCP; 0: any free.")] = 1417,
    top_k: Annotated[
        int, typer.Option("--top-k", min=1, max=MAX_TOP_K, help="Most answers, unless a request says.")
    ] = 5,
    passages: Annotated[
        int, typer.Option("--passages", min=1, max=MAX_PASSAGES, help="Most passages to read, unless a request says.")
    ] = 10,
    keyword_weight: KeywordWeightOption = None,
    max_question_length: Annotated[
        int, typer.Option("--max-question-length", min=1, help="Most characters of a question.")
    ] = MAX_QUESTION_LENGTH,
    max_body_size: Annotated[
        int, typer.Option("--max-body-size", min=1, help="Most bytes of a request.")
    ] = MAX_BODY_SIZE,
    as_json: JsonOption = False,
) -> None:
    """Serve a folder's answers: REST, OpenAI-compatible chat, MCP.

    The folder is indexed first. Ctrl-C ends it.
    """
    with mistakes_explained(as_json), preparation_announced(), ExitStack() as stack:
        check_packages(mcp=mcp)
        quiet(model)
        isolate()
        from rom_haystack.serving.server import Servers, is_local, known_names, listener  # noqa: PLC0415

        # Addresses first: whether they are to be had should not be learnt after minutes of indexing.
        rest = stack.enter_context(listener(host, port, "--port"))
        tools = stack.enter_context(listener(host, mcp_port, "--mcp-port")) if mcp else None
        hosts = known_names(rest, allow_host or [])
        library = stack.enter_context(open_library(docs, index, model))
        report = updated(lambda progress: library.update(progress, required=False), as_json)
        require_passages(report, docs, as_json)
        with importing():
            from rom_haystack.serving.app import mcp_app, rest_app  # noqa: PLC0415
            from rom_haystack.serving.service import QuestionService  # noqa: PLC0415

        service = QuestionService(library, Limits(top_k, passages, max_question_length), keyword_weight)
        stack.callback(service.close)
        service.warm_up()
        if reached_by := [*([] if is_local(rest) else [host]), *(allow_host or [])]:
            _warn(f"Whoever reaches {' or '.join(reached_by)} can ask these documents: there is no authentication.")
        apps: dict[socket.socket, ASGIApp] = {rest: rest_app(service, hosts=hosts, max_body_size=max_body_size)}
        if tools is not None:
            apps[tools] = mcp_app(service, hosts=hosts, max_body_size=max_body_size)
        Servers(apps, lambda: _announce(service, rest, tools, report, as_json)).run()


def _announce(
    service: "QuestionService",
    rest: "socket.socket",
    tools: "socket.socket | None",
    report: "UpdateReport",
    as_json: bool,
) -> None:
    """Say, once all is there, where it is."""
    from rom_haystack.serving.server import url_of  # noqa: PLC0415

    library = service.library
    url, mcp_url = url_of(rest), f"{url_of(tools)}/mcp/" if tools is not None else None
    if as_json:
        print_json(
            {
                "url": url,
                "mcp_url": mcp_url,
                **service.health(),
                "index": {"folder": str(library.folder), "path": str(library.index), **report_fields(report)},
            }
        )
    else:
        rows = {
            "Ready": library.folder,
            "Passages": f"{report.passages:,}",
            "Model": f"{library.model}, on {service.backend}",
            "REST": f"{url}/qa/run",
            "Chat": f"{url}/v1 (OpenAI's base URL; the model is qa)",
            "MCP": mcp_url or "not served",
            "Health": f"{url}/health",
        }
        print_rows(rows)
    sys.stdout.flush()  # who waits for this may read from a pipe


def _warn(message: str) -> None:
    errors().print(Text(printable(message)), soft_wrap=True)
