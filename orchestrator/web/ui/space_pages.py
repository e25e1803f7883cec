"""Pages of one Space: the app, its state, its logs, its builds, its settings. They show; the API acts."""

from urllib.parse import quote

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, PlainTextResponse

from orchestrator.domain.lifecycle import Stage
from orchestrator.domain.names import BuildId, CommitSha
from orchestrator.domain.space import Build, Space
from orchestrator.errors import Missing
from orchestrator.flows.status import status
from orchestrator.ports.logs import LogLine
from orchestrator.web.auth import current_user
from orchestrator.web.context import Context, context_of
from orchestrator.web.ui import present, present_admin, present_builds, text
from orchestrator.web.ui.present import Viewer
from orchestrator.web.ui.rendering import find_space, render, shell
from orchestrator.web.ui.view_models import (
    AppPage,
    BuildPage,
    BuildsPage,
    Header,
    LogsPage,
    SettingsPage,
    StatusFragment,
)
from orchestrator.web.visitors import signed_token

LINES_WITHOUT_SCRIPT = 200
DOWNLOAD_LINES_MAX = 100_000
router = APIRouter(prefix="/spaces/{owner}/{name}", include_in_schema=False)


def header(request: Request, space: Space, viewer: Viewer, tab: str) -> Header:
    """The head of the page: what the Space is and how it fares."""
    tools, moment = context_of(request), context_of(request).clock()
    newest = next(iter(tools.store.builds(space.id, limit=1)), None)
    state, user = status(tools, space, now=moment), current_user(request)
    signature = signed_token(tools, space, user) if user and space.visibility != "public" else ""
    return present.header(tools.settings, space, state, newest, viewer=viewer, tab=tab, now=moment, signature=signature)


@router.get("")
def app_page(request: Request, owner: str, name: str) -> HTMLResponse:
    space, viewer = find_space(request, owner, name)
    page = AppPage(
        shell=shell(request, f"{space.title} · {space.full_name}", "store"),
        space=header(request, space, viewer, "app"),
        is_new=space.stage is Stage.NO_APP_FILE and space.revision_id is None,
        help=present.publish_help(viewer.base, space.owner, space.name),
    )
    return render(request, "app.html", page)


@router.get("/status")
def status_part(request: Request, owner: str, name: str) -> HTMLResponse:
    """The changing part alone, for pages that are open already."""
    space, viewer = find_space(request, owner, name)
    return render(request, "status.html", StatusFragment(space=header(request, space, viewer, "")))


@router.get("/logs")
def logs_page(request: Request, owner: str, name: str, kind: str = "run") -> HTMLResponse:
    space, viewer = find_space(request, owner, name, write=True)
    kind, moment, head = (
        "build" if kind == "build" else "run",
        context_of(request).clock(),
        header(request, space, viewer, "logs"),
    )
    tools = context_of(request)
    newest = next(iter(tools.store.builds(space.id, limit=1)), None) if kind == "build" else None
    failed = present_builds.last_failure(tools.store.history(space.id)) if kind == "run" else None
    page = LogsPage(
        shell=shell(request, f"Logs · {space.full_name}", "store"),
        space=head,
        kind=kind,
        lines=_newest_lines(tools, space, newest) if newest or kind == "run" else (),
        failure=text.tidy(failed.text or failed.kind, 400) if failed else "",
        failed=text.moment(failed.at, moment) if failed else None,
        stream=f"{head.api}/logs/{kind}",
        build_api=f"{head.api}/builds/{quote(newest.id, safe='')}" if newest else "",
        download=f"{head.path}/logs/{kind}.txt",
    )
    return render(request, "logs.html", page)


def _newest_lines(tools: Context, space: Space, build: Build | None) -> tuple[str, ...]:
    lines = _build_lines(tools, build) if build else tools.logs.tail_run(space.id, LINES_WITHOUT_SCRIPT)
    return present_builds.plain_lines(lines, LINES_WITHOUT_SCRIPT)


def _build_lines(tools: Context, build: Build) -> list[LogLine]:
    found: list[LogLine] = []
    while len(found) < DOWNLOAD_LINES_MAX:
        batch = tools.logs.read_build(build.id, start=len(found), limit=5000)
        if not batch:
            break
        found.extend(batch)
    return found


def _run_lines(tools: Context, space: Space) -> list[LogLine]:
    found: list[LogLine] = []
    cursor = ""
    while len(found) < DOWNLOAD_LINES_MAX:
        batch, cursor = tools.logs.read_run(space.id, cursor, limit=5000)
        if not batch:
            break
        found.extend(batch)
    return found


def _download(lines: list[LogLine], file_name: str) -> PlainTextResponse:
    body = "".join(f"{text.moment(line.at, 0).iso} {text.log_line(line.text)}\n" for line in lines)
    headers = {
        "Content-Disposition": f'attachment; filename="{file_name}"',
        "X-Content-Type-Options": "nosniff",
        "Cache-Control": "no-store",
    }
    return PlainTextResponse(body, headers=headers)


@router.get("/logs/{kind}.txt")
def logs_download(request: Request, owner: str, name: str, kind: str) -> PlainTextResponse:
    space, _ = find_space(request, owner, name, write=True)
    tools = context_of(request)
    newest = next(iter(tools.store.builds(space.id, limit=1)), None)
    lines = (_build_lines(tools, newest) if newest else []) if kind == "build" else _run_lines(tools, space)
    return _download(lines, f"{space.name}-{'build' if kind == 'build' else 'run'}.log")


@router.get("/builds")
def builds_page(request: Request, owner: str, name: str) -> HTMLResponse:
    space, viewer = find_space(request, owner, name)
    tools, moment = context_of(request), context_of(request).clock()
    revisions = tools.store.revisions(space.id)
    titles = {revision.sha: revision.title for revision in revisions} | _commit_titles(tools, space)
    builds = tools.store.builds(space.id)
    events = tools.store.history(space.id) if viewer.may_write else ()
    page = BuildsPage(
        shell=shell(request, f"Builds · {space.full_name}", "store"),
        space=header(request, space, viewer, "builds"),
        builds=tuple(present_builds.build_row(space, build, titles, now=moment) for build in builds),
        revisions=present_builds.revision_rows(space, revisions, now=moment),
        events=present_builds.event_rows(events, now=moment),
    )
    return render(request, "builds.html", page)


def _commit_titles(tools: Context, space: Space) -> dict[CommitSha, str]:
    try:
        return {commit.sha: commit.title for commit in tools.repositories.commits(space.id, "main", limit=50)}
    except Missing:
        return {}


def _find_build(tools: Context, space: Space, build_id: str) -> Build:
    build = tools.store.build(BuildId(build_id))
    if build is None or build.space_id != space.id:
        raise Missing(f"There is no such build of {space.full_name}.", kind="other")
    return build


@router.get("/builds/{build_id}")
def build_page(request: Request, owner: str, name: str, build_id: str) -> HTMLResponse:
    return render(request, "build.html", _build_page(request, owner, name, build_id, with_log=True))


@router.get("/builds/{build_id}/state")
def build_part(request: Request, owner: str, name: str, build_id: str) -> HTMLResponse:
    """The changing part alone, for pages that are open already."""
    return render(request, "build_state.html", _build_page(request, owner, name, build_id, with_log=False))


def _build_page(request: Request, owner: str, name: str, build_id: str, *, with_log: bool) -> BuildPage:
    space, viewer = find_space(request, owner, name)
    tools, moment = context_of(request), context_of(request).clock()
    build, head = _find_build(tools, space, build_id), header(request, space, viewer, "builds")
    row = present_builds.build_row(space, build, _commit_titles(tools, space) if with_log else {}, now=moment)
    live = build.status in present_builds.LIVE
    ahead = sum(1 for other in tools.store.unfinished_builds() if other.created_at < build.created_at) if live else 0
    lines = _build_lines(tools, build) if viewer.may_write and with_log else []
    return BuildPage(
        shell=shell(request, f"Build of {row.sha} · {space.full_name}", "store"),
        space=head,
        build=row,
        is_live=live,
        waits=present_builds.waits(build, ahead),
        phases=present_builds.phase_rows(build, now=moment),
        problem=None if build.problem == space.problem else present.problem_view(build.problem, head.path, build.sha),
        lines=present_builds.plain_lines(lines, LINES_WITHOUT_SCRIPT),
        stream=f"{head.api}/logs/build?build={quote(build.id, safe='')}",
        build_api=f"{head.api}/builds/{quote(build.id, safe='')}",
        download=f"{row.path}/log.txt" if viewer.may_write else "",
    )


@router.get("/builds/{build_id}/log.txt")
def build_download(request: Request, owner: str, name: str, build_id: str) -> PlainTextResponse:
    space, _ = find_space(request, owner, name, write=True)
    build = _find_build(context_of(request), space, build_id)
    return _download(_build_lines(context_of(request), build), f"{space.name}-build-{build.sha[:7]}.log")


@router.get("/settings")
def settings_page(request: Request, owner: str, name: str) -> HTMLResponse:
    space, viewer = find_space(request, owner, name, write=True)
    tools, moment = context_of(request), context_of(request).clock()
    head = header(request, space, viewer, "settings")
    page = SettingsPage(
        shell=shell(request, f"Settings · {space.full_name}", "store"),
        space=head,
        sleep_choices=present_admin.sleep_choices(space),
        sleep_custom=present_admin.sleep_custom(space),
        sleep_default=present_admin.sleep_default(tools.settings),
        sleep_is_default=space.sleep_time_s is None,
        variables=present_admin.variable_rows(tools.store.variables(space.id), secret=False, now=moment),
        secrets=present_admin.variable_rows(tools.store.secrets(space.id), secret=True, now=moment),
        **present_admin.allowed_actions(space, serving=status(tools, space, now=moment).serving),
        is_static=space.sdk == "static",
        visibility=space.visibility,
        host=space.host,
        help=present.publish_help(viewer.base, space.owner, space.name),
    )
    return render(request, "settings.html", page)
