"""Builds the public web application: Hub API, git over HTTP, pages.

The order of the routers is the order of matching: exact addresses of ours first, then the API with a clear answer for
every address below `/api/` that it does not have, then git, then pages.
"""

from fastapi import Depends, FastAPI, Request
from starlette.responses import Response

from orchestrator.errors import Missing
from orchestrator.web import auth, errors, git_http, git_lanes, sessions, space_host
from orchestrator.web.api import (
    admin,
    builds,
    content,
    identity,
    logs,
    people,
    repos,
    resolve,
    runtime,
    spaces,
    variables,
)
from orchestrator.web.context import Context
from orchestrator.web.guard import Guard
from orchestrator.web.ui import pages

_METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"]
_OTHER_REPOSITORIES = ("/api/models/", "/api/datasets/", "/api/buckets/")


def create_app(context: Context) -> FastAPI:
    """The application over `context`."""
    app = FastAPI(
        title="Dormouse",
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        redirect_slashes=False,
        dependencies=[Depends(auth.refuse_forged)],
    )
    app.state.context = context
    app.state.tries = sessions.Tries()
    app.state.log_followers = logs.followers()
    app.state.downloads = resolve.downloads()
    app.state.git_lanes = git_lanes.GitLanes()
    app.state.error_page = pages.render_error
    app.state.login_page = pages.render_login
    errors.install_error_handlers(app)
    for module in (admin, space_host, sessions, identity):
        app.include_router(module.router)
    app.include_router(people.own)
    for prefix in ("/api", "/api/dormouse"):
        app.include_router(people.users, prefix=prefix)
    for module in (repos, runtime, spaces, variables, content, logs, builds, resolve):
        app.include_router(module.router)
    app.add_api_route("/api/{path:path}", _no_such_api, methods=_METHODS)
    app.include_router(git_http.router)
    app.include_router(pages.router)
    app.add_middleware(Guard, apps_domain=context.settings.spaces_domain)
    return app


def _no_such_api(request: Request, path: str) -> Response:
    """Said in the form that clients read. Models and datasets do not exist here, in the words for a repository."""
    kind = "repo" if request.scope["path"].startswith(_OTHER_REPOSITORIES) else "other"
    if kind == "repo":
        auth.identify(request)
    raise Missing(f"Dormouse has no {request.method} /api/{path[:200]}.", kind)
