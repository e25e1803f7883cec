"""The Hub API as the command line uses it: synchronous, one method per endpoint, errors as sentences.

It speaks to an installation at any address. Texts of errors come from the server, so the same sentence is seen on a
page, in git's output and here; what the server says is cut and freed of control characters before it is shown.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Self
from urllib.parse import quote, urlsplit

import httpx

from orchestrator.errors import Conflict, DormouseError, Invalid, Missing, NotAllowed, Unauthenticated, Unavailable

TIMEOUT_S = 30.0
SILENCE_S = 1.5
"""A log that is replayed and says nothing for so long has come to its present end."""
_MESSAGE_MAX = 2000
_CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]")
_KINDS: Mapping[int, type[DormouseError]] = {
    400: Invalid,
    401: Unauthenticated,
    403: NotAllowed,
    404: Missing,
    409: Conflict,
    422: Invalid,
}
_LOOPBACK = ("localhost", "127.0.0.1", "[::1]", "::1")


class NotReachable(Unavailable):
    """Nothing answers at the address."""


class Hub:
    """One installation and one caller.

    `public_url` is its address as people know it, where `url` is another way to it. `renew` makes another token when
    the server no longer takes this one.
    """

    def __init__(
        self,
        url: str,
        token: str = "",
        *,
        public_url: str = "",
        renew: Callable[[], str] | None = None,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self.url = url.rstrip("/")
        self.token = token
        self._public_url = public_url
        self._renew = renew
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise Invalid(f"{url!r} is no address of Dormouse: write for instance http://localhost:7878.")
        local = parts.hostname in _LOOPBACK or parts.hostname.endswith(".localhost")
        self._client = httpx.Client(
            base_url=self.url,
            transport=transport,
            timeout=TIMEOUT_S,
            headers={"authorization": f"Bearer {token}"} if token else {},
            # A proxy of the environment must not get to see what never leaves this machine.
            trust_env=not local,
            follow_redirects=True,
        )
        self._name: str | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self._client.close()

    # --- people -----------------------------------------------------------------------------------------------
    @property
    def user(self) -> str:
        """Name of the caller; asked once."""
        if self._name is None:
            self._name = str(self.call("GET", "/api/whoami-v2")["name"])
        return self._name

    def users(self) -> list[dict[str, Any]]:
        return list(self.call("GET", "/api/dormouse/users"))

    def add_user(self, name: str, *, full_name: str = "", admin: bool = False) -> str:
        """Add a user; their first token."""
        body = {"name": name, "fullname": full_name, "isAdmin": admin}
        return str(self.call("POST", "/api/dormouse/users", json=body)["token"])

    def remove_user(self, name: str) -> None:
        self.call("DELETE", f"/api/dormouse/users/{quote(name, safe='')}")

    def add_token(self, name: str, *, label: str, role: str) -> str:
        body = {"label": label, "role": role}
        return str(self.call("POST", f"/api/dormouse/users/{quote(name, safe='')}/tokens", json=body)["token"])

    # --- Spaces -----------------------------------------------------------------------------------------------
    def full_name(self, name: str) -> str:
        """`owner/name`; without an owner it is the caller's own."""
        return name if "/" in name else f"{self.user}/{name}"

    def create(self, name: str, *, sdk: str, private: bool = False) -> bool:
        """Create the Space; False if it exists already."""
        owner, _, short = name.partition("/")
        body = {"type": "space", "name": short, "organization": owner, "sdk": sdk, "private": private}
        try:
            self.call("POST", "/api/repos/create", json=body)
        except Conflict:
            return False
        return True

    def spaces(self) -> Iterator[dict[str, Any]]:
        """All Spaces that the caller may see, page by page."""
        path = "/api/spaces?full=true&limit=100"
        for _ in range(10_000):
            response = self._send("GET", path)
            yield from response.json()
            path = response.links.get("next", {}).get("url", "")
            if not path:
                return

    def space(self, name: str) -> dict[str, Any]:
        return dict(self.call("GET", _path(name)))

    def exists(self, name: str) -> bool:
        try:
            self.space(name)
        except Missing:
            return False
        return True

    def runtime(self, name: str) -> dict[str, Any]:
        return dict(self.call("GET", f"{_path(name)}/runtime"))

    def order(self, name: str, verb: str) -> str:
        """Have it sleep, wake, pause or restart; the stage after the order."""
        return str(self.call("POST", f"{_path(name)}/{verb}")["stage"])

    def restart(self, name: str, *, factory: bool) -> None:
        self.order(name, "restart?factory=true" if factory else "restart")

    def delete(self, name: str) -> None:
        owner, _, short = name.partition("/")
        self.call("DELETE", "/api/repos/delete", json={"type": "space", "name": short, "organization": owner})

    def status(self, name: str) -> dict[str, Any]:
        """Stage, phase, since when, and what ends the wait."""
        found = dict(self.call("GET", f"{_path(name)}/status"))
        return found | {"page": f"{self._public_url}/spaces/{name}"} if self._public_url else found

    def variables(self, name: str, kind: str) -> dict[str, dict[str, Any]]:
        """By key. `kind` is variables or secrets; secrets come without their values."""
        return dict(self.call("GET", f"{_path(name)}/{kind}"))

    def set_variable(self, name: str, kind: str, key: str, value: str) -> None:
        self.call("POST", f"{_path(name)}/{kind}", json={"key": key, "value": value})

    def delete_variable(self, name: str, kind: str, key: str) -> None:
        self.call("DELETE", f"{_path(name)}/{kind}", json={"key": key})

    @contextmanager
    def logs(self, name: str, kind: str, *, follow: bool) -> Iterator[Iterator[str]]:
        """Lines of the build's or the app's log; without `follow` it ends where the log ends now."""
        timeout = httpx.Timeout(TIMEOUT_S, read=120.0 if follow else SILENCE_S)
        request = self._client.build_request("GET", f"{_path(name)}/logs/{kind}", timeout=timeout)
        response = self._opened(request)
        try:
            yield _events(response, follow=follow)
        finally:
            response.close()

    # --- the wire ---------------------------------------------------------------------------------------------
    def call(self, method: str, path: str, **options: Any) -> Any:
        """The JSON of an answer; raises the error tree's kind for the status, NotReachable if nothing answers."""
        response = self._send(method, path, **options)
        if not response.content:
            return {}
        try:
            return response.json()
        except ValueError:
            raise Unavailable(f"{self.url} does not answer like Dormouse: check the address.") from None

    def _send(self, method: str, path: str, **options: Any) -> httpx.Response:
        response = self._opened(self._client.build_request(method, path, **options))
        response.read()
        return response

    def _opened(self, request: httpx.Request) -> httpx.Response:
        response = self._tried(request)
        if response.status_code == 401 and self._renew is not None:
            self.token, self._renew = self._renew(), None
            request.headers["authorization"] = self._client.headers["authorization"] = f"Bearer {self.token}"
            response = self._tried(request)
        if response.is_error:
            raise _error(response)
        return response

    def _tried(self, request: httpx.Request) -> httpx.Response:
        try:
            response = self._client.send(request, stream=True)
            if response.is_error:
                response.read()
        except httpx.TransportError as error:
            reason = "no answer in time" if isinstance(error, httpx.TimeoutException) else "nothing answers there"
            raise NotReachable(
                f"Dormouse cannot be reached at {self.url} ({reason}): start it with `dormouse up`, or give its "
                f"address with --url or DORMOUSE_URL."
            ) from error
        return response


def _path(name: str) -> str:
    owner, slash, short = name.partition("/")
    if not slash or not owner or not short or "/" in short:
        raise Invalid(f"{name!r} is no Space: write NAME or OWNER/NAME.")
    return f"/api/spaces/{quote(owner, safe='')}/{quote(short, safe='')}"


def _error(response: httpx.Response) -> DormouseError:
    """The error of ours for an answer that is one, in the server's words."""
    text = response.headers.get("x-error-message", "")
    try:
        body = response.json()
    except ValueError:
        body = {}
    if isinstance(body, dict):
        text = str(body.get("error") or body.get("detail") or text)
    text = _CONTROL.sub(" ", text)[:_MESSAGE_MAX] or f"The server answered {response.status_code}."
    if response.status_code == 401:
        text = f"{text} Give a valid token with --token or DORMOUSE_TOKEN."
    return _KINDS.get(response.status_code, Unavailable)(text)


def _events(response: httpx.Response, *, follow: bool) -> Iterator[str]:
    """Texts of a stream of server-sent events. Without `follow`, silence means that the log has been replayed."""
    try:
        for line in response.iter_lines():
            if line.startswith("data: {"):
                record = json.loads(line.removeprefix("data: "))
                yield str(record.get("data", "")).rstrip("\n")
    except httpx.ReadTimeout:
        if follow:
            raise NotReachable("The log went silent: the connection was lost. Run the command again.") from None
    except httpx.TransportError as error:
        raise NotReachable("The connection to Dormouse was lost while reading the log.") from error
