"""For callers on this machine that run as the same user: git's hooks and the command line."""

import time
from typing import Any

from fastapi import APIRouter, Request
from pydantic import BaseModel, Field

from orchestrator.errors import Missing
from orchestrator.flows.receive_commit import receive_commit
from orchestrator.web.auth import issue_token
from orchestrator.web.context import Context

router = APIRouter(prefix="/internal")
LOCAL_TOKEN_S = 3600.0


class Update(BaseModel):
    ref: str = Field(max_length=500)
    old: str = Field(max_length=64)
    new: str = Field(max_length=64)


class Received(BaseModel):
    """A push that git has stored."""

    space_id: str
    user_id: str = ""
    updates: list[Update]


@router.post("/git/received")
def received(request: Request, body: Received) -> dict[str, list[str]]:
    context: Context = request.app.state.context
    space = context.store.space(body.space_id)
    if space is None:
        raise Missing("This Space is gone.")
    if not any(update.ref == "refs/heads/main" for update in body.updates):
        return {"lines": ["Dormouse builds the branch main; this push did not change it."]}
    return {"lines": receive_commit(context, space, now=time.time()).lines}


@router.post("/local/token")
def local_token(request: Request) -> dict[str, Any]:
    """A token of the admin for an hour, for the command line of whoever runs this installation."""
    context: Context = request.app.state.context
    admin = next((user for user in context.store.list_users() if user.is_admin), None)
    if admin is None:
        raise Missing("There is no admin yet.", kind="other")
    ends = context.clock() + LOCAL_TOKEN_S
    _, token = issue_token(context, admin, label="local", role="write", expires_at=ends)
    return {"token": token, "user": admin.name}


@router.get("/healthz")
def healthz() -> dict[str, str]:
    return {"status": "ok"}
