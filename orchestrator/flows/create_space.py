"""A name -> a Space with a repository, and nothing running."""

import time
from collections.abc import Sequence

from builder.domain.card_keys import SDKS
from orchestrator.domain.lifecycle import Stage
from orchestrator.domain.names import SpaceName
from orchestrator.domain.space import Space, User, Variable
from orchestrator.errors import Invalid, NotAllowed, Unavailable
from orchestrator.flows import life
from orchestrator.flows.context import Tools
from orchestrator.ports import signals

FREE_WAIT_S = 15.0

_ATTRIBUTES = """\
*.bin filter=lfs diff=lfs merge=lfs -text
*.ckpt filter=lfs diff=lfs merge=lfs -text
*.gguf filter=lfs diff=lfs merge=lfs -text
*.h5 filter=lfs diff=lfs merge=lfs -text
*.msgpack filter=lfs diff=lfs merge=lfs -text
*.npy filter=lfs diff=lfs merge=lfs -text
*.npz filter=lfs diff=lfs merge=lfs -text
*.onnx filter=lfs diff=lfs merge=lfs -text
*.parquet filter=lfs diff=lfs merge=lfs -text
*.pt filter=lfs diff=lfs merge=lfs -text
*.pth filter=lfs diff=lfs merge=lfs -text
*.safetensors filter=lfs diff=lfs merge=lfs -text
*.tflite filter=lfs diff=lfs merge=lfs -text
*.zip filter=lfs diff=lfs merge=lfs -text
"""


def create_space(
    tools: Tools,
    user: User,
    name: SpaceName,
    *,
    sdk: str,
    visibility: str = "public",
    sleep_time_s: int | None = None,
    secrets: Sequence[Variable] = (),
    variables: Sequence[Variable] = (),
    now: float,
) -> Space:
    """Register a Space and give it a repository with a first commit.

    The first commit has no app, so the stage stays NO_APP_FILE. Raises Conflict (with the Space's URL) if the name is
    taken, NotAllowed for another's namespace, Invalid for an unknown SDK or visibility and for what cannot be set.
    """
    if name.owner.lower() != user.name.lower() and not user.is_admin:
        raise NotAllowed(f"You may create Spaces under {user.name!r} only, not under {name.owner!r}.")
    if sdk not in SDKS:
        raise Invalid(f"{sdk[:50]!r} is no SDK that Dormouse knows: write one of {', '.join(SDKS)}.")
    if visibility not in ("public", "private"):
        raise Invalid(f"{visibility[:50]!r} is no visibility that Dormouse has: write public or private.")
    if sleep_time_s is not None:
        life.check_sleep_time(sleep_time_s)
    for item in (*secrets, *variables):
        life.check_variable(item)
    _wait_until_free(tools, name)
    space = tools.store.create_space(
        name,
        sdk=sdk,
        domain=tools.settings.spaces_domain,
        created_by=user.id,
        visibility=visibility,
        sleep_time_s=sleep_time_s,
        now=now,
    )
    try:
        sha = tools.repositories.create(space.id, _first_files(name, sdk), author=user.name, now=now)
        for secret, items in ((True, secrets), (False, variables)):
            for item in items:
                life.set_variable(tools, space, item, secret=secret, now=now)
        return tools.store.update_space(space.id, sha=sha, card={"title": name.name, "sdk": sdk})
    except Exception:
        life.delete(tools, space, now=now)  # Half a Space must not keep the name.
        raise


def _wait_until_free(tools: Tools, name: SpaceName) -> None:
    """A Space that was deleted a moment ago still has its name until its replica has ended. Blocks for seconds."""
    end = time.monotonic() + FREE_WAIT_S
    while (old := tools.store.find_space(name)) is not None and old.stage is Stage.DELETING:
        if time.monotonic() > end:
            raise Unavailable(f"{name} is being deleted at this moment. Try again in a few seconds.", retry_after_s=5)
        tools.signals.send_soon(signals.CONTROLLER, old.id)
        time.sleep(0.1)


def _first_files(name: SpaceName, sdk: str) -> dict[str, bytes]:
    readme = f"---\ntitle: {name.name}\nsdk: {sdk}\n---\n\nPush an app to this repository to start it.\n"
    return {".gitattributes": _ATTRIBUTES.encode(), "README.md": readme.encode()}
