"""Builds the internal API."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

from fastapi import FastAPI

from orchestrator.web.context import Context
from orchestrator.web.errors import install_error_handlers
from orchestrator.web.internal import builds, gateways, local
from orchestrator.web.internal.announcer import Announcer


def create_internal_app(context: Context) -> FastAPI:
    """The internal API over the same context as the public one."""
    announcer = Announcer(context.signals)

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        task = asyncio.create_task(announcer.run())
        yield
        task.cancel()

    app = FastAPI(title="Dormouse internal API", lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None)
    app.state.context, app.state.announcer = context, announcer
    install_error_handlers(app)
    for module in (gateways, builds, local):
        app.include_router(module.router)
    app.add_api_route("/healthz", local.healthz)
    return app
