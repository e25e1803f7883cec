"""Calls uv. The only place that knows its command line.

Outside of the sandbox it runs without ever building anything (`--no-build`): it downloads wheels and links their files,
which executes no line of theirs. It starts in `/`, so that no project file beside the data folder is picked up.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from builder.adapters.control import Control
from builder.adapters.process import Finished, OnLine, run
from builder.failures import broken

_PASSED = (
    *("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "XDG_CONFIG_HOME", "SSL_CERT_FILE", "SSL_CERT_DIR", "NETRC"),
    *("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "all_proxy", "no_proxy"),
)
_OURS = frozenset(
    (
        *("UV_CACHE_DIR", "UV_LINK_MODE", "UV_NO_BUILD", "UV_PYTHON", "UV_PROJECT_ENVIRONMENT", "UV_OFFLINE"),
        *("UV_PYTHON_INSTALL_DIR", "UV_PYTHON_DOWNLOADS", "UV_COMPILE_BYTECODE", "UV_NO_CACHE", "UV_TOOL_DIR"),
    )
)
BOX_INDEXES = ("UV_DEFAULT_INDEX", "UV_INDEX", "UV_INDEX_URL", "UV_EXTRA_INDEX_URL")
QUIET_VENV = ("venv", "--quiet", "--relocatable", "--no-project", "--no-python-downloads")


def find_binary() -> Path:
    """uv of our own installation. Raises FileNotFoundError."""
    from uv import find_uv_bin

    return Path(find_uv_bin())


def compile_arguments(python: Path, *, places: Sequence[tuple[str, str]], prereleases: bool, build: bool) -> list[str]:
    """`uv pip compile` of standard input. Without annotations, so that equal resolutions are equal texts."""
    argv = ["pip", "compile", "--no-header", "--no-annotate", "--generate-hashes", "--no-python-downloads"]
    argv += ["--python", str(python)]
    argv += [] if build else ["--no-build"]
    argv += ["--prerelease", "allow"] if prereleases else []
    for option, address in places:
        argv += [option, address]
    return argv


def sync_arguments(python: Path, lock: Path, *, places: Sequence[tuple[str, str]], build: bool) -> list[str]:
    """`uv pip sync` of a lock into an empty environment."""
    argv = ["pip", "sync", "--python", str(python), "--link-mode", "hardlink", "--no-python-downloads"]
    argv += [] if build else ["--no-build", "--require-hashes"]
    for option, address in places:
        argv += [option, address]
    return [*argv, str(lock)]


class Uv:
    """uv outside of the sandbox."""

    def __init__(self, binary: Path, environ: Mapping[str, str], *, wheels: str = "") -> None:
        self._binary, self._wheels = binary, wheels
        passed = {name: value for name, value in environ.items() if name.startswith("UV_") and name not in _OURS}
        self._env = {name: environ[name] for name in _PASSED if name in environ} | passed
        self._env |= {"UV_NO_PROGRESS": "1", "NO_COLOR": "1", "LC_ALL": "C.UTF-8"}

    @property
    def binary(self) -> Path:
        return self._binary

    @property
    def places(self) -> tuple[tuple[str, str], ...]:
        """The installation's own folder of wheels."""
        return (("--find-links", self._wheels),) if self._wheels else ()

    def key(self) -> str:
        """What of the installation decides a resolution: the indexes it is configured with."""
        indexes = [f"{name}={value}" for name, value in sorted(self._env.items()) if "INDEX" in name]
        return "\n".join([*indexes, self._wheels])

    def box_environment(self) -> dict[str, str]:
        """What a box may know: indexes without a password in their address, and where certificates are."""
        indexes = {name: self._env[name] for name in BOX_INDEXES if "@" not in self._env.get(name, "@")}
        certificates = self._env.get("SSL_CERT_FILE", "")
        return indexes | ({"SSL_CERT_FILE": certificates} if certificates.startswith("/etc/ssl/certs/") else {})

    def run(
        self,
        argv: Sequence[str],
        *,
        control: Control,
        cache: Path | None = None,
        text: str = "",
        more: Mapping[str, str] | None = None,
        on_line: OnLine | None = None,
        timeout_s: float = 0.0,
    ) -> Finished:
        """Run it; with `timeout_s` it is ended early and reported as failed, without stopping the build."""
        env = self._env | ({"UV_CACHE_DIR": str(cache)} if cache else {}) | dict(more or {})
        command = [str(self._binary), *argv]
        try:
            return run(command, control=control, env=env, text=text.encode(), on_line=on_line, timeout_s=timeout_s)
        except FileNotFoundError as error:
            raise broken("uv is missing from this installation; its administrator has to install it again.") from error
