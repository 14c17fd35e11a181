"""A service that answers questions with a model behind a gateway.

GET /answer?question=...   the whole answer, as JSON
GET /stream?question=...   its text as server-sent events; the last is `done` or `error`
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse

from penstock import ChatStream, ModelEngine, errors


def create_app(engine: ModelEngine) -> FastAPI:
    """The service, with the engine that it asks. The engine runs as long as the service."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with engine:
            yield

    app = FastAPI(lifespan=lifespan)

    @app.get("/answer")
    async def answer(question: str) -> dict[str, str | None]:
        return {"answer": (await engine.chat_completion(question)).content}

    @app.get("/stream")
    async def stream(question: str) -> Response:
        chat = engine.stream_call(question)
        events = text_events(chat)
        first = await anext(events)  # what fails before the first text is still an error status
        return StreamingResponse(rest(first, events, chat), media_type="text/event-stream")

    app.add_exception_handler(errors.ModelEngineError, failed)
    return app


async def text_events(chat: ChatStream) -> AsyncIterator[str]:
    async for text in chat.text():
        yield f"data: {json.dumps(text)}\n\n"
    yield "event: done\ndata: {}\n\n"


async def rest(first: str, events: AsyncIterator[str], chat: ChatStream) -> AsyncIterator[str]:
    """All events; a break after the first text becomes an event, so that the client can tell it from the end."""
    async with aclosing(chat):
        yield first
        try:
            async for event in events:
                yield event
        except errors.ModelEngineError as error:
            yield f"event: error\ndata: {json.dumps({'error': type(error).__name__})}\n\n"


async def failed(request: Request, error: Exception) -> Response:
    headers = {}
    status = 502
    if isinstance(error, errors.RateLimitError):
        status = 503
        if error.retry_after is not None:
            headers["Retry-After"] = f"{error.retry_after:.0f}"
    elif isinstance(error, errors.ClockError):
        status = 504
    return JSONResponse({"error": type(error).__name__}, status, headers)
