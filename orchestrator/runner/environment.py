"""The variables of an app's process. Pure.

What the Space and the platform give (`spec.environment`) comes first; what makes the box work comes on top, so that no
variable of an author can undo it. Where an author may have reason to choose, only a default is given.
"""

from collections.abc import Mapping

from builder.sandbox.arguments import HOME
from builder.sandbox.enter import proxy_variables

ENVIRONMENT = "/opt/env"
"""Where an app's virtual environment is inside a box: a place that says nothing about the machine."""
APP_PORT = 7860
"""Where an app listens whose image names no port."""
_HOOK = "/opt/dormouse/boot"

_DEFAULTS = {
    "LANG": "C.UTF-8",
    "TZ": "UTC",
    "OPENBLAS_NUM_THREADS": "1",
    "GRADIO_ANALYTICS_ENABLED": "False",
    "GRADIO_SSR_MODE": "False",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "STREAMLIT_BROWSER_GATHER_USAGE_STATS": "false",
    "STREAMLIT_SERVER_FILE_WATCHER_TYPE": "none",
    "STREAMLIT_SERVER_RUN_ON_SAVE": "false",
}

# Streamlit's checks of origin and forgery stay on, as they are by default: behind the gateway it knows the name it is
# asked under, lets the Space's own page in and refuses the sockets of foreign pages.
_STREAMLIT = {"STREAMLIT_SERVER_HEADLESS": "true", "STREAMLIT_SERVER_ADDRESS": "127.0.0.1"}


def _python(given: Mapping[str, str], hook: str) -> dict[str, str]:
    path = given.get("PYTHONPATH", "")
    return {
        "PYTHONPATH": f"{hook}:{path}" if path else hook,
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONUNBUFFERED": "1",
    }


def _ports(port: int) -> dict[str, str]:
    return {
        "PORT": str(port),
        "GRADIO_SERVER_NAME": "127.0.0.1",
        "GRADIO_SERVER_PORT": str(port),
        "STREAMLIT_SERVER_PORT": str(port),
        "FORWARDED_ALLOW_IPS": "*",  # Only the gateway reaches the socket; without it uvicorn hides the visitor.
    }


def app_environment(
    given: Mapping[str, str],
    *,
    port: int,
    egress: str,
    environment: str = ENVIRONMENT,
    home: str = HOME,
    hook: str = _HOOK,
    temporary: str = "/tmp",  # noqa: S108 - inside the box
) -> dict[str, str]:
    """Everything that the app's process gets. `egress` is proxy, none or host."""
    kept = {name: value for name, value in given.items() if _usable(name, value)}
    variables = {
        **_DEFAULTS,
        "GRADIO_TEMP_DIR": f"{temporary}/gradio",
        "HF_HOME": f"{home}/.cache/huggingface",
        "MPLCONFIGDIR": f"{temporary}/matplotlib",
        **kept,
        "PATH": f"{environment}/bin:/usr/local/bin:/usr/bin:/bin",
        "VIRTUAL_ENV": environment,
        "HOME": home,
        "USER": "user",
        "TMPDIR": temporary,
        **_python(given, hook),
        **_ports(port),
        **_STREAMLIT,
        **(proxy_variables() if egress == "proxy" else {}),
    }
    # Gradio's own idea of its address is right behind the gateway; a fixed one breaks other names of the Space.
    variables.pop("GRADIO_ROOT_PATH", None)
    return variables


def _usable(name: str, value: str) -> bool:
    """Whether a process can have this variable, and it is not one of ours."""
    return bool(name) and "=" not in name and "\0" not in name + value and not name.startswith("DORMOUSE_")


def app_command(command: "tuple[str, ...] | list[str]", *, python: str, port: int, own_port: int) -> list[str]:
    """The start command with `{python}` filled in; the image's port becomes `own_port` where that is another."""
    filled = [part.replace("{python}", python) for part in command]
    return filled if port == own_port else [str(own_port) if part == str(port) else part for part in filled]
