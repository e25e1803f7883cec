"""What the agent counts. Names and labels are read by dashboards: changing one is a change of the product."""

from prometheus_client import Counter, Gauge, Histogram

HELD = Gauge("dormouse_gateway_held_requests", "Requests held at the moment.", multiprocess_mode="livesum")
HOLD_SECONDS = Histogram(
    "dormouse_gateway_hold_seconds",
    "How long requests were held, by what became of them.",
    ["outcome"],
    buckets=(0.005, 0.02, 0.1, 0.3, 0.6, 1, 1.5, 2, 3, 5, 10, 20, 60, 120, 300),
)
PUSHES = Counter("dormouse_gateway_pushes_total", "Discovery answers sent to Envoy.")
ACKS = Counter("dormouse_gateway_acks_total", "Discovery answers that Envoy has taken over.")
NACKS = Counter("dormouse_gateway_nacks_total", "Discovery answers that Envoy has refused.")
ROUTES = Gauge("dormouse_gateway_routes", "Spaces with a route in this gateway.", multiprocess_mode="livesum")
ENVOYS = Gauge("dormouse_gateway_envoys", "Envoys connected to the agent.", multiprocess_mode="livesum")
REQUESTS = Counter("dormouse_space_requests_total", "Requests to awake Spaces, from Envoy's load reports.", ["host"])
IN_PROGRESS = Gauge(
    "dormouse_space_requests_in_progress",
    "Requests and streams in progress, from Envoy's load reports.",
    ["host"],
    multiprocess_mode="livesum",
)
