"""The application: the endpoints and the middleware around them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TextIO

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from shared.errors import UserError
from shared.text import one_line
from trainer.serve.access import Access
from trainer.serve.chat import chat_completions
from trainer.serve.completions import completions
from trainer.serve.embeddings import embeddings
from trainer.serve.engine import QueueFullError
from trainer.serve.errors import SERVER, ApiError, as_api_error
from trainer.serve.jobs import check_model
from trainer.serve.limits import LIMITS, Limits
from trainer.serve.log_lines import LogLines
from trainer.serve.metrics import CONTENT_TYPE, Metrics
from trainer.serve.page import page
from trainer.serve.paths import PlainPaths, likely_endpoint
from trainer.serve.request_log import RequestLog
from trainer.serve.served import Served
from trainer.serve.streaming import Deadlines, json_response
from trainer.serve.tokens import detokenize, tokenize


async def _health(request: Request) -> Response:
    served: Served = request.app.state.served
    load = served.engine.load()
    facts = {"running": load.running, "waiting": load.waiting, "capacity": load.capacity}
    failing = request.app.state.metrics.failing
    status = "failing" if failing else "ok"
    return json_response({"status": status, "model": served.name, **facts}, 503 if failing else 200)


async def _metrics(request: Request) -> Response:
    metrics: Metrics = request.app.state.metrics
    text = metrics.text(request.app.state.served.engine.load())
    return Response(text, headers={"Content-Type": CONTENT_TYPE})


async def _models(request: Request) -> Response:
    served: Served = request.app.state.served
    return json_response({"object": "list", "data": [served.card(name) for name in served.names]})


async def _model(request: Request) -> Response:
    served: Served = request.app.state.served
    name = request.path_params["name"]
    check_model(name, served)
    return json_response(served.card(name))


ROUTES = (
    Route("/", page),
    Route("/health", _health),
    Route("/metrics", _metrics),
    Route("/v1/models", _models),
    Route("/v1/models/{name:path}", _model),
    Route("/v1/completions", completions, methods=["POST"]),
    Route("/v1/chat/completions", chat_completions, methods=["POST"]),
    Route("/v1/embeddings", embeddings, methods=["POST"]),
    Route("/tokenize", tokenize, methods=["POST"]),
    Route("/detokenize", detokenize, methods=["POST"]),
)
ENDPOINTS = frozenset(route.path for route in ROUTES)


@dataclass(frozen=True)
class Settings:
    """How the API is offered. `timeout` is the longest an answer may take, in seconds."""

    key: str | None = None
    origins: Sequence[str] = ()
    local: bool = True
    timeout: float = 600.0
    limits: Limits = LIMITS


def build_app(
    served: Served, settings: Settings = Settings(), log: TextIO | None = None
) -> Starlette:
    """The ASGI application for one model, whose engine must be running.

    The request log goes to `log`, by default to standard output.
    """
    metrics = Metrics(served.name, served.load_seconds)
    middleware = [
        Middleware(PlainPaths),
        Middleware(RequestLog, metrics, ENDPOINTS, LogLines(log)),
    ]
    if settings.origins:
        middleware.append(
            Middleware(
                CORSMiddleware,
                allow_origins=settings.origins,
                allow_methods=["GET", "POST"],
                allow_headers=["*"],
            )
        )
    middleware.append(Middleware(Access, settings.key, settings.origins, local=settings.local))
    handlers = {
        HTTPException: _http_error,
        Exception: _unforeseen,
        **dict.fromkeys((ApiError, QueueFullError, TimeoutError, UserError), _foreseen),
    }
    app = Starlette(routes=ROUTES, middleware=middleware, exception_handlers=handlers)
    app.state.served = served
    app.state.limits = settings.limits
    app.state.metrics = metrics
    app.state.deadlines = Deadlines(settings.timeout)
    return app


async def _foreseen(_request: Request, error: Exception) -> Response:
    told = as_api_error(error)
    assert told is not None
    return told.response()


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    path = one_line(request.url.path, 80)
    meant = likely_endpoint(path, ENDPOINTS)
    hint = f" Use {one_line(meant, 80)}; a client's base URL ends in /v1." if meant else ""
    messages = {
        404: f"There is nothing at {path}.{hint}",
        405: f"{path} does not take {one_line(request.method, 10)}.",
    }
    message = messages.get(error.status_code, str(error.detail))
    return ApiError(error.status_code, message, headers=error.headers).response()


async def _unforeseen(_request: Request, _error: Exception) -> Response:
    return ApiError(500, "The server failed; see its log.", kind=SERVER).response()
