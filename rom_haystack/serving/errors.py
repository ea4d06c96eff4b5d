"""Errors as responses that both Hayhooks' clients and OpenAI's can read."""

from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException


def error_response(status: int, message: str, headers: Mapping[str, str] | None = None) -> JSONResponse:
    """Say what is wrong, in `detail`, and again where OpenAI's clients look for it."""
    kind = "invalid_request_error" if status < 500 else "server_error"
    error = {"message": message, "type": kind, "param": None, "code": None}
    return JSONResponse({"detail": message, "error": error}, status, headers)


def explain_errors(app: FastAPI) -> None:
    """Let an application's errors be responses of this kind."""
    app.add_exception_handler(HTTPException, _explain)
    app.add_exception_handler(RequestValidationError, _explain_invalid)


async def _explain(_: Request, error: Any) -> JSONResponse:
    return error_response(error.status_code, str(error.detail), error.headers)


async def _explain_invalid(_: Request, error: Any) -> JSONResponse:
    """Explain a request that is not as it must be, without repeating it: it may be huge, or what JSON can't hold."""
    return error_response(422, "; ".join(map(_problem, error.errors())))


def _problem(problem: Mapping[str, Any]) -> str:
    if problem["type"] == "json_invalid":
        return f"The request is no JSON: {problem['ctx']['error']} (character {problem['loc'][1] + 1})"
    return f"{'.'.join(map(str, problem['loc'][1:])) or 'The request'}: {problem['msg']}"
