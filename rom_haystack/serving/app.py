"""The applications: Hayhooks' own, with one pipeline and nothing that changes what is served."""

import sys
import types
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI, HTTPException
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse
from hayhooks import create_app
from hayhooks.server.logger import log
from hayhooks.server.pipelines.models import create_pipeline_metadata
from hayhooks.server.pipelines.registry import ImmutablePipelineRegistry, PipelineRegistration, registry
from hayhooks.server.utils.deploy_utils import commit_prepared_pipeline
from hayhooks.server.utils.models import PreparedPipeline
from hayhooks.server.utils.module_loader import create_pipeline_wrapper_instance
from hayhooks.settings import AppSettings, settings

from rom_haystack.serving.errors import explain_errors
from rom_haystack.serving.gate import Gate, StreamEnd
from rom_haystack.serving.limits import MAX_BODY_SIZE
from rom_haystack.serving.service import QuestionService
from rom_haystack.serving.wrapper import QAPipelineWrapper

if TYPE_CHECKING:
    from starlette.applications import Starlette

#: The pipeline's name: part of the REST path, and the chat's model.
PIPELINE = "qa"
#: The name of the MCP tool.
TOOL = "ask_documents"

_CHAT = ("/v1/chat/completions", "/chat/completions")
#: All that can be reached of Hayhooks.
PATHS = frozenset(
    {
        "/health",
        "/openapi.json",
        "/status",
        f"/status/{PIPELINE}",
        f"/{PIPELINE}/run",
        "/v1/models",
        "/models",
        "/v1/responses",
        "/responses",
        *_CHAT,
    }
)
# MCP's older transport is left out: in Hayhooks 2.1 it fails whenever a client leaves.
_MCP_PATHS = frozenset({"/mcp", "/mcp/", "/status"})


def rest_app(
    service: QuestionService, *, hosts: Sequence[str] | None = None, max_body_size: int = MAX_BODY_SIZE
) -> FastAPI:
    """Build the application for REST and OpenAI's clients. A process has one; a second takes its place.

    Args:
        service: Who answers.
        hosts: Names by which clients may call this server. None for any.
        max_body_size: Most bytes of a request.
    """
    _configure()
    app: FastAPI = create_app()
    app.title, app.description = "rom serve", "Answers as exact quotes from your own documents, with sources."
    registry.remove(PIPELINE)
    commit_prepared_pipeline(PreparedPipeline(name=PIPELINE, wrapper=_wrapper(service)), app=app)

    async def health() -> JSONResponse:
        """Say whether questions can be answered: model, engine, and number of passages; 503 where they can't."""
        found = await run_in_threadpool(service.health)
        return JSONResponse(found, 200 if found["ready"] else 503)

    app.add_api_route("/health", health, methods=["GET"], tags=["status"])
    explain_errors(app)
    schema = app.openapi()  # kept by the application
    schema["paths"] = {path: what for path, what in schema["paths"].items() if path in PATHS}
    app.add_middleware(StreamEnd, paths=_CHAT)
    app.add_middleware(Gate, paths=PATHS, max_body_size=max_body_size, hosts=hosts)
    return app


def mcp_app(
    service: QuestionService, *, hosts: Sequence[str] | None = None, max_body_size: int = MAX_BODY_SIZE
) -> "Starlette":
    """Build the application for MCP clients, at `/mcp` (Streamable HTTP). Arguments are as in `rest_app`.

    Raises:
        ImportError: The package `mcp` is not installed.
    """
    from hayhooks.server.utils.mcp_utils import create_mcp_server, create_starlette_app  # noqa: PLC0415

    _configure()
    wrapper = _wrapper(service)
    # Of a registry that can't be changed Hayhooks offers no tools that deploy code.
    tools = ImmutablePipelineRegistry([PipelineRegistration(TOOL, wrapper, create_pipeline_metadata(TOOL, wrapper))])
    app: Starlette = create_starlette_app(create_mcp_server("rom-haystack", tools))
    app.add_middleware(Gate, paths=_MCP_PATHS, max_body_size=max_body_size, hosts=hosts)
    return app


def _wrapper(service: QuestionService) -> QAPipelineWrapper:
    """Make a wrapper the way Hayhooks makes those that it finds in files: it looks at what they implement."""
    module = types.ModuleType("rom_haystack.serving.deployed")
    vars(module)["PipelineWrapper"] = partial(QAPipelineWrapper, service)
    wrapper: QAPipelineWrapper = create_pipeline_wrapper_instance(module)
    return wrapper


def _configure() -> None:
    """Set Hayhooks up by its defaults, whatever the environment says, less all that isn't needed to serve."""
    for name, field in AppSettings.model_fields.items():
        setattr(settings, name, field.get_default(call_default_factory=True))
    settings.pipelines_dir = ""  # no code is taken from a folder
    settings.cors_allow_origins = []  # no page of another site may ask
    settings.tracing_enabled = settings.monitoring_enabled = False
    log.remove()
    # Without diagnosis, which would show the values of variables: questions and documents.
    log.add(_to_stderr, level="WARNING", format="{level}: {message}", filter=_is_ours, backtrace=False, diagnose=False)


def _to_stderr(message: str) -> None:
    sys.stderr.write(message)


def _is_ours(record: Mapping[str, Any]) -> bool:
    """Tell whether a log record is more than a client's mistake, which the client hears of."""
    error = record["exception"] and record["exception"].value
    while error is not None:
        if isinstance(error, HTTPException) and error.status_code < 500:
            return False
        error = error.__cause__
    return True
