"""A small world for the pages: facts in memory behind the ports, and the app that shows them. No I/O."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from fastapi import FastAPI

from orchestrator.domain.lifecycle import ERRORS, Stage
from orchestrator.domain.names import BuildId, CommitSha, ReplicaId, SpaceName, UserId
from orchestrator.domain.space import (
    Build,
    BuildStatus,
    Gateway,
    PhaseTime,
    Problem,
    Replica,
    ReplicaState,
    Revision,
    Route,
    RouteMode,
    Space,
    SpaceEvent,
    Token,
    User,
    Variable,
)
from orchestrator.errors import Missing
from orchestrator.flows.dispatch_build import token_hash
from orchestrator.ports.logs import LogLine
from orchestrator.ports.repositories import Commit, TreeEntry
from orchestrator.ports.runtime import Isolation
from orchestrator.settings import Settings
from orchestrator.web import auth, errors
from orchestrator.web.context import Context
from orchestrator.web.guard import Guard
from orchestrator.web.sessions import Tries
from orchestrator.web.ui import pages

NOW = 1_760_000_000.0
SHA = CommitSha("a3f9c1d2" * 5)
ADMIN = User(id=UserId("u-admin"), name="admin", is_admin=True, created_at=NOW - 90 * 86400)
MIRA = User(id=UserId("u-mira"), name="mira", full_name="Mira Okafor", created_at=NOW - 9 * 86400)
TOKENS = {"hf_admin": ADMIN, "hf_mira": MIRA}
SERVING = frozenset((Stage.RUNNING, Stage.RUNNING_BUILDING, Stage.RUNNING_APP_STARTING))
PROBLEMS = {
    Stage.NO_APP_FILE: Problem("no-app-file", "There is no app.py. Add one, or name your file in `app_file`."),
    Stage.CONFIG_ERROR: Problem(
        "bad-front-matter", "`sdk: gradioo` is unknown. Write one of gradio, streamlit, static.", "README.md", 4
    ),
    Stage.BUILD_ERROR: Problem(
        "no-such-package", "numpyy==1.0 does not exist. Did you mean numpy?", "requirements.txt", 3
    ),
    Stage.RUNTIME_ERROR: Problem("exited", "The app ended with status 1: ModuleNotFoundError: No module named 'cv2'."),
}


def make_space(stage: Stage = Stage.RUNNING, **fields: Any) -> Space:
    """A Space of mira's in `stage`."""
    base = Space(
        id="s1", owner="mira", name="whisper-notes", host="mira-whisper-notes.localhost", stage=stage,
        stage_since=NOW - 42, sdk="gradio", sha=SHA, revision_id="r1", created_by=MIRA.id,
        created_at=NOW - 86400, updated_at=NOW - 300, problem=PROBLEMS.get(stage),
        card={
            "title": "Whisper notes", "emoji": "🎙️", "colorFrom": "indigo", "colorTo": "pink",
            "short_description": "Speak, and read what you said.",
        },
    )  # fmt: skip
    return replace(base, **fields)


def make_build(status: BuildStatus = BuildStatus.SUCCEEDED, **fields: Any) -> Build:
    """The newest build of that Space."""
    live = status in (BuildStatus.QUEUED, BuildStatus.RUNNING)
    names = ("fetch", "detect", "plan", "install") if live else ("fetch", "detect", "plan", "install", "snapshot")
    starts = (30.0, 29.4, 29.1, 26.0, 4.0)
    ends = (29.4, 29.1, 26.0, 4.0, 2.0)
    phases = tuple(
        PhaseTime(name=name, started_at=NOW - start, ended_at=NOW - end, detail="")
        for name, start, end in zip(names, starts, ends, strict=False)
    )
    if status is BuildStatus.RUNNING:
        phases = (*phases[:3], PhaseTime(name="install", started_at=NOW - 26, detail="41 packages, 38 in the cache"))
    base = Build(
        id=BuildId("b1"), space_id="s1", sha=SHA, status=status, created_at=NOW - 31, started_at=NOW - 30,
        finished_at=None if live else NOW - 2, phases=() if status is BuildStatus.QUEUED else phases,
        problem=PROBLEMS[Stage.BUILD_ERROR] if status is BuildStatus.FAILED else None,
    )  # fmt: skip
    return replace(base, **fields)


FULL = Isolation(name="bubblewrap", level="full", features={"network namespace": "on"})


@dataclass
class World:
    """Facts that a test sets, and the methods of the ports that pages call."""

    spaces: list[Space] = field(default_factory=list)
    all_builds: list[Build] = field(default_factory=list)
    serving: set[str] = field(default_factory=set)
    """Ids of Spaces of which a replica serves."""
    files: dict[str, bytes] = field(default_factory=dict)
    kinds: dict[str, str] = field(default_factory=dict)
    run_lines: list[str] = field(default_factory=list)
    build_lines: list[str] = field(default_factory=list)
    events: list[SpaceEvent] = field(default_factory=list)
    set_variables: list[Variable] = field(default_factory=list)
    set_secrets: list[Variable] = field(default_factory=list)
    extra_tokens: dict[str, User] = field(default_factory=dict)
    worker_count: int = 1
    isolation_answer: Isolation = FULL

    def sign(self, message: bytes) -> bytes:
        return hashlib.sha256(message).digest()

    # --- people -------------------------------------------------------------------------------------------------
    def find_token(self, hashed: str, now: float) -> tuple[Token, User] | None:
        for text, user in {**TOKENS, **self.extra_tokens}.items():
            if token_hash(text) == hashed:
                parent = "t1" if text.startswith("session") else None
                label = auth.SESSION_LABEL if parent else "laptop"
                fields = {"label": label, "role": "write", "created_at": NOW, "parent_id": parent}
                return Token(id=f"t-{text}", user_id=user.id, **fields), user  # type: ignore[arg-type]
        return None

    def add_token(self, user_id: UserId, *, token_hash: str, label: str, role: str, now: float, **_: Any) -> Token:
        return Token(id="t-new", user_id=user_id, label=label, role=role, created_at=now)

    def list_tokens(self, user_id: UserId) -> Sequence[Token]:
        return [
            Token(id="t1", user_id=user_id, label="laptop", role="write", created_at=NOW - 9e5, last_used_at=NOW - 90),
            Token(
                id="t-session",
                user_id=user_id,
                label="session",
                role="write",
                created_at=NOW - 60,
                expires_at=NOW + 1e6,
                parent_id="t1",
            ),
        ]

    def list_users(self) -> Sequence[User]:
        return [ADMIN, MIRA]

    def find_user(self, name: str) -> User | None:
        return next((user for user in (ADMIN, MIRA) if user.name == name), None)

    # --- Spaces -------------------------------------------------------------------------------------------------
    def find_space(self, name: SpaceName) -> Space | None:
        return next((space for space in self.spaces if space.space_name == name), None)

    def space(self, space_id: str) -> Space | None:
        return next((space for space in self.spaces if space.id == space_id), None)

    def list_spaces(
        self, *, owner: str | None = None, search: str | None = None, limit: int = 100,
        after: tuple[float, str] | None = None, visible_to: UserId | None = None, everything: bool = False,
    ) -> Sequence[Space]:  # fmt: skip
        found = [
            space for space in sorted(self.spaces, key=lambda space: (-space.updated_at, space.id))
            if (owner is None or space.owner == owner) and (search is None or search.lower() in space.title.lower())
            and (everything or space.visibility == "public" or space.created_by == visible_to)
        ]  # fmt: skip
        rest = [space for space in found if after is None or (-space.updated_at, space.id) > (-after[0], after[1])]
        return rest[:limit]

    def spaces_in(self, stages: Sequence[Stage]) -> Sequence[Space]:
        return [space for space in self.spaces if space.stage in stages]

    def count_by_stage(self) -> Mapping[Stage, int]:
        return {stage: len(self.spaces_in([stage])) for stage in Stage}

    def history(self, space_id: str, limit: int = 50) -> Sequence[SpaceEvent]:
        return self.events[:limit]

    def variables(self, space_id: str) -> Sequence[Variable]:
        return self.set_variables

    def secrets(self, space_id: str) -> Sequence[Variable]:
        return self.set_secrets

    def route(self, host: str) -> Route | None:
        space = next((space for space in self.spaces if space.host == host), None)
        if space is None or space.id not in self.serving:
            return None
        return Route(
            host=host,
            space_id=space.id,
            mode=RouteMode.SERVE,
            address="unix:apps/x.sock",
            replica_id=None,
            generation=3,
        )

    def replicas(self, space_id: str | None = None) -> Sequence[Replica]:
        starting = [space for space in self.spaces if space.stage in (Stage.APP_STARTING, Stage.RUNNING_APP_STARTING)]
        return [
            Replica(
                id=ReplicaId("p1"), space_id=space.id, revision_id="r1", state=ReplicaState.STARTING, started_at=NOW - 2
            )
            for space in starting
            if space_id in (None, space.id)
        ]

    def recent_wakes(self, space_id: str, limit: int = 10) -> Sequence[float]:
        return [2.1, 2.4, 2.0]

    def gateways(self, alive_after: float) -> Sequence[Gateway]:
        return [Gateway(id="gateway-1", acked=12, seen_at=NOW - 1)]

    # --- builds -------------------------------------------------------------------------------------------------
    def builds(self, space_id: str, limit: int = 20) -> Sequence[Build]:
        return [build for build in self.all_builds if build.space_id == space_id][:limit]

    def build(self, build_id: BuildId) -> Build | None:
        return next((build for build in self.all_builds if build.id == build_id), None)

    def unfinished_builds(self) -> Sequence[Build]:
        return [build for build in self.all_builds if build.status in (BuildStatus.QUEUED, BuildStatus.RUNNING)]

    def revisions(self, space_id: str, limit: int = 20) -> Sequence[Revision]:
        return [
            Revision(
                id="r1", space_id=space_id, sha=SHA, title="Read the notes aloud", created_at=NOW - 300,
                build_id=BuildId("b1"), image={},
            )
        ]  # fmt: skip

    def workers(self) -> int:
        return self.worker_count

    async def isolation(self) -> Isolation:
        return self.isolation_answer

    # --- logs ---------------------------------------------------------------------------------------------------
    def read_build(self, build_id: str, start: int = 0, limit: int = 1000) -> Sequence[LogLine]:
        return [LogLine(NOW - 20, line) for line in self.build_lines[start : start + limit]]

    def read_run(self, space_id: str, cursor: str = "", limit: int = 1000) -> tuple[Sequence[LogLine], str]:
        start = int(cursor or 0)
        lines = [LogLine(NOW - 10, line) for line in self.run_lines[start : start + limit]]
        return lines, str(start + len(lines))

    def tail_run(self, space_id: str, lines: int = 20, *, since: float | None = None) -> Sequence[LogLine]:
        return [LogLine(NOW - 10, line) for line in self.run_lines[-lines:]]

    # --- repositories -------------------------------------------------------------------------------------------
    def resolve(self, space_id: str, revision: str) -> CommitSha | None:
        return SHA if revision in ("main", "refs/pr/1", SHA) and self.files else None

    def commit(self, space_id: str, sha: CommitSha) -> Commit:
        return Commit(sha=sha, title="Read the notes aloud", message="", author="Mira Okafor", at=NOW - 300)

    def commits(self, space_id: str, revision: str, *, limit: int = 50, skip: int = 0) -> Sequence[Commit]:
        return [self.commit(space_id, SHA)]

    def tree(self, space_id: str, revision: str, path: str = "", *, recursive: bool = False) -> Sequence[TreeEntry]:
        prefix = f"{path}/" if path else ""
        inside = [name[len(prefix) :] for name in self.files if name.startswith(prefix)]
        if not inside:
            raise Missing(f"There is no folder {path!r}.", kind="entry")
        heads = dict.fromkeys(name.partition("/")[0] for name in inside)
        found = [self.entry(space_id, revision, prefix + head) for head in heads]
        return [entry for entry in found if entry]

    def entry(self, space_id: str, revision: str, path: str) -> TreeEntry | None:
        if path in self.files:
            return TreeEntry(path=path, kind=self.kinds.get(path, "file"), oid=path, size=len(self.files[path]))
        is_folder = any(name.startswith(f"{path}/") for name in self.files)
        return TreeEntry(path=path, kind="directory", oid="0") if is_folder else None

    def read(self, space_id: str, oid: str, *, limit: int) -> bytes:
        return self.files[oid][:limit]

    # --- assembly -----------------------------------------------------------------------------------------------
    def put(self, space: Space, *, serving: bool | None = None) -> Space:
        """Add a Space; `serving` follows from its stage unless it is said."""
        self.spaces.append(space)
        if serving if serving is not None else space.stage in SERVING:
            self.serving.add(space.id)
        return space


def stage_world(stage: Stage, *, serving: bool | None = None) -> World:
    """A world with one Space in `stage` and what belongs to that stage."""
    world = World()
    lifted = serving or (serving is None and stage in SERVING)
    space = make_space(stage)
    if stage is Stage.NO_APP_FILE and not lifted:
        space = replace(space, revision_id=None)
    world.put(space, serving=lifted)
    status = {
        Stage.BUILDING: BuildStatus.RUNNING,
        Stage.RUNNING_BUILDING: BuildStatus.RUNNING,
        Stage.BUILD_ERROR: BuildStatus.FAILED,
    }.get(stage, BuildStatus.SUCCEEDED)
    if stage not in (Stage.NO_APP_FILE, Stage.CONFIG_ERROR):
        world.all_builds.append(make_build(status))
    world.files = {
        "README.md": b"---\ntitle: Whisper notes\nsdk: gradio\n---\n",
        "app.py": b"import gradio as gr\n\n\ndef read(text: str) -> str:\n\treturn text\n",
        "assets/logo.bin": b"\x89PNG\0\0",
    }
    world.build_lines = ["Resolved 41 packages in 212ms", "\x1b[32m + gradio==6.31.0\x1b[0m", "Installed 41 packages"]
    world.run_lines = ["* Running on local URL", "\x1b[31mTraceback\x1b[0m (most recent call last):"]
    world.events = [
        SpaceEvent(at=NOW - 30, kind="replica lost", text="The app ended with status 1."),
        SpaceEvent(at=NOW - 900, kind="commit accepted", text="Commit a3f9c1d by mira."),
    ]
    world.set_variables = [Variable(key="MODEL", value="whisper-small", description="Which model", updated_at=NOW - 50)]
    world.set_secrets = [Variable(key="API_KEY", value="gAAAA-sealed", updated_at=NOW - 5000)]
    assert stage in ERRORS or space.problem is None
    return world


def make_context(world: World, **fields: Any) -> Context:
    """Everything of the context is played by the world."""
    names = ("store", "repositories", "logs", "signals", "vault", "build_queue", "runtime")
    parts: dict[str, Any] = dict.fromkeys(names, world)
    parts |= {"settings": Settings(), "clock": lambda: NOW}
    return Context(**(parts | fields))


def make_app(context: Context) -> FastAPI:
    """The pages alone, with the errors and the guard that belong to them."""
    app = FastAPI()
    app.state.context = context
    app.state.tries = Tries()
    app.state.error_page = pages.render_error
    errors.install_error_handlers(app)
    app.include_router(pages.router)
    app.add_middleware(Guard, apps_domain=context.settings.spaces_domain)
    return app
