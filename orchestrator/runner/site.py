"""What the runner found on this machine at its start, and how a box is put together from it."""

import hashlib
import os
import shutil
import socket
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from builder.sandbox import host
from builder.sandbox.arguments import (
    HOME,
    WORK,
    Bind,
    Box,
    Mount,
    Overlay,
    Scratch,
    bubblewrap_arguments,
    encoded,
)
from builder.sandbox.cgroups import find_cgroups
from builder.sandbox.enter import EGRESS, pid1_command
from builder.sandbox.launch import FIRST_BOX_UID, Launch
from builder.sandbox.probe import Probe, probe, seccomp_descriptor
from builder.sandbox.view import make_view
from orchestrator.errors import Invalid, Missing
from orchestrator.ports.runtime import Isolation, ReplicaSpec
from orchestrator.runner.environment import APP_PORT, ENVIRONMENT, app_command, app_environment
from orchestrator.runner.isolation import Findings, describe
from orchestrator.runner.record import BoxRecord
from orchestrator.settings import Settings

_SHARED_MEMORY_BYTES = 256 << 20


class Site:
    """The machine. Made once, before the event loop has threads."""

    def __init__(self, settings: Settings) -> None:
        self.data = settings.data.resolve()
        self.installation = hashlib.sha256(bytes(self.data)).hexdigest()[:10]
        self.bare = settings.sandbox == "none"
        self.root = os.geteuid() == 0
        binary = host.bubblewrap()
        keep = [self.data, Path.cwd(), Path(sys.prefix), host.common_folder(), *host.interpreter_prefixes()]
        self.view, view_problem = make_view([path.resolve() for path in (*keep, *([binary] if binary else []))])
        self.groups, groups_problem = (None, "") if self.bare else find_cgroups(f"dormouse-{self.installation}")
        uid = FIRST_BOX_UID if self.root else None
        self.probe = Probe(works=False) if self.bare else probe(self.view, uid)
        self.isolation: Isolation = describe(
            Findings(
                sandbox=settings.sandbox, egress=settings.egress, root=self.root, probe=self.probe,
                view_problem=view_problem if self.root else "", groups_problem=groups_problem,
                groups_version=self.groups.version if self.groups else 0,
            )
        )  # fmt: skip
        host.compile_common()
        self._binary = binary
        self._system = host.system_mounts()

    @property
    def refusal(self) -> str:
        """Why no app is started here; '' where apps are started."""
        return "" if self.bare or self.probe.works else self.isolation.features["sandbox"]

    def folder(self, image: Mapping[str, Any], key: str) -> Path:
        """A folder that an image names, below the data folder. Raises Invalid or Missing."""
        name = str(image.get(key) or "")
        path = self.data / name
        if not name or Path(name).is_absolute() or ".." in Path(name).parts:
            raise Invalid(f"The image names no usable {key} folder ({name!r}).")
        if not path.is_dir():
            raise Missing(f"The {key} folder of this image is gone; rebuild the Space.", "other")
        return path

    def launch(
        self, spec: ReplicaSpec, record: BoxRecord, *, folder: Path, options: dict[str, object], status_fd: int
    ) -> tuple[Launch, int]:
        """How to start this box, and the port its app is given. `options` are PID 1's descriptors."""
        # The name in the command line is how a runner that lost its memory finds boxes that nobody knows.
        options = {"box": f"{self.installation}/{record.name}", **options}
        options["limits"] = f"NPROC:{spec.processes_max},NOFILE:{spec.files_max},CORE:0"
        if self.bare:
            return self._bare(spec, folder=folder, options=options)
        return self._boxed(spec, record, options=options, status_fd=status_fd), record.port

    # --- with bubblewrap --------------------------------------------------------------------------------------
    def _boxed(
        self, spec: ReplicaSpec, record: BoxRecord, *, options: dict[str, object], status_fd: int
    ) -> Launch:  # fmt: skip
        assert self._binary
        environment = app_environment(spec.environment, port=record.port, egress=spec.egress)
        python = f"{ENVIRONMENT}/bin/python" if spec.image.get("environment") else str(host.own_interpreter())
        command = app_command(_command(spec), python=python, port=record.port, own_port=record.port)
        if spec.egress == "proxy":
            options["egress"] = f"{EGRESS}/egress.sock"
        # All that can fail comes before the filter, whose descriptor would be lost.
        mounts, program = [*self._system, *self._mounts(spec, record)], self.view.expose_bubblewrap(self._binary)
        join: Sequence[Path] = ()
        if self.groups:
            join = self.groups.create(record.name, memory_bytes=spec.memory_mb << 20, processes=spec.processes_max)
        filter_fd = seccomp_descriptor()
        box = Box(
            mounts=mounts, environment=environment, workdir=WORK, share_network=spec.egress == "host",
            seccomp_fd=filter_fd, status_fd=status_fd,
        )  # fmt: skip
        return Launch(
            program=program, arguments=encoded(bubblewrap_arguments(box)),
            command=pid1_command(options, command), uid=record.uid, join=join,
            descriptors=[] if filter_fd is None else [filter_fd],
        )  # fmt: skip

    def _mounts(self, spec: ReplicaSpec, record: BoxRecord) -> list[Mount]:
        common = self.view.expose(host.common_folder())
        size = spec.disk_mb << 20
        mounts: list[Mount] = [
            *host.etc_mounts(common, share_network=spec.egress == "host"), Bind(common, host.COMMON),
            Scratch("/tmp", size, "1777"), Scratch(HOME, size, "0700"),  # noqa: S108 - inside the box
            Scratch("/dev/shm", min(size, _SHARED_MEMORY_BYTES), "1777"),  # noqa: S108
        ]  # fmt: skip
        environment = self.folder(spec.image, "environment") if spec.image.get("environment") else None
        mounts += [Bind(self.view.expose(prefix), str(prefix)) for prefix in host.interpreter_prefixes(environment)]
        if environment:
            # The folder above is what is exposed: one mount for all, that no rebuilt environment makes stale.
            place = environment.resolve()
            mounts.append(Bind(f"{self.view.expose(place.parent)}/{place.name}", ENVIRONMENT))
        if spec.egress == "proxy":
            mounts.append(Bind(self.view.expose(Path.cwd() / "egress"), EGRESS))
        return [*mounts, self._working_folder(spec, record)]

    def _working_folder(self, spec: ReplicaSpec, record: BoxRecord) -> Mount:
        snapshot = self.folder(spec.image, "snapshot")
        owned = self.view.expose_owned(snapshot, record.uid, record.name)
        if owned and self.probe.overlay:
            return Overlay(owned, WORK)
        return Bind(owned or self.view.expose(snapshot), WORK)

    # --- without ----------------------------------------------------------------------------------------------
    def _bare(self, spec: ReplicaSpec, *, folder: Path, options: dict[str, object]) -> tuple[Launch, int]:
        """A plain process in a copy of the snapshot. The port is one that is free, since all share the machine's."""
        work, home = folder / "work", folder / "home"
        shutil.copytree(self.folder(spec.image, "snapshot"), work, symlinks=True)
        (home / "tmp").mkdir(parents=True)
        environment = self.folder(spec.image, "environment") if spec.image.get("environment") else None
        port = _free_port()
        # The limit on processes would count all of this user's, so it is left out.
        options |= {"bare": 1, "port": port, "limits": f"NOFILE:{spec.files_max},CORE:0"}
        common = host.common_folder()
        interpreter = environment / "bin" / "python" if environment else host.own_interpreter()
        command = app_command(
            _command(spec), python=str(interpreter), port=int(spec.image.get("port") or APP_PORT), own_port=port
        )
        program, *rest = pid1_command(options, command, common=str(common))
        variables = app_environment(
            spec.environment, port=port, egress="host", environment=str(environment or sys.prefix), home=str(home),
            hook=str(common / "boot"), temporary=str(home / "tmp"),
        )  # fmt: skip
        launch = Launch(program=program, arguments=b"", command=rest, workdir=work, environment=variables)
        return launch, port


def _command(spec: ReplicaSpec) -> list[str]:
    command = [str(part) for part in spec.image.get("command") or ()]
    if not command:
        raise Invalid("The image has no start command; rebuild the Space.")
    return command


def _free_port() -> int:
    with socket.socket() as probe_socket:
        probe_socket.bind(("127.0.0.1", 0))
        port: int = probe_socket.getsockname()[1]
        return port
