"""Which routes of a server say that it lives and is ready, and which one predicts; None if that is unclear."""

from collections.abc import Sequence

from mlship.init.found import Routes
from mlship.init.known import init_table
from mlship.init.routers import DOCS, Route

_HEALTH = ("/healthz", "/health", "/healthcheck", "/health_check", "/health-check", "/ping", "/heartbeat")
_LIVE = ("/health/live", "/livez", "/live", "/v2/health/live", "/liveness", *_HEALTH)
_READY = ("/health/ready", "/readyz", "/ready", "/v2/health/ready", "/readiness", *_HEALTH)
PREDICT = ("/predict", "/predictions", "/invocations", "/infer", "/inference", "/embed", "/classify", "/score")
_PREDICTS, _OTHER = init_table().patterns["predicts"], init_table().patterns["other_routes"]


def find_routes(routes: Sequence[Route], *, at_once: bool = False) -> Routes:
    """Choose the liveness, readiness and prediction routes.

    Args:
        at_once: the server starts no tasks that could load the model later, so a server that answers is ready.
    """
    get = [route.path for route in routes if "GET" in route.methods]
    live = _first_named(_LIVE, get) or next((path for path in ("/", DOCS) if path in get), None)
    ready = _first_named(_READY, get) or (live if at_once else None)
    plain = [route for route in routes if route.path.startswith("/") and not {*"{<"} & {*route.path}]
    posts, other = ({one.path for one in of if "POST" in one.methods} for of in (plain, routes))
    return Routes(live=live, ready=ready, predict=_predict(plain), posts_to=tuple(sorted(posts or other)))


def _predict(routes: Sequence[Route]) -> str | None:
    """The route named after predictions; without one, the only POST route that can be one."""
    post = [route for route in routes if "POST" in route.methods]
    exact = [route.path for name in PREDICT for route in post if route.path.rstrip("/") == name]
    alike = [route.path for route in (*post, *routes) if any(word.strip("/") in route.path for word in PREDICT)]
    if exact or alike:
        return (*exact, *alike)[0]
    able = [route for route in post if not any(map(_OTHER.fullmatch, route.path.lower().split("/")))]
    acting = [route for route in able if any(map(_PREDICTS.fullmatch, route.handler.calls))]
    return next((few[0].path for few in (able, acting) if len({route.path for route in few}) == 1), None)


def _first_named(names: Sequence[str], paths: Sequence[str]) -> str | None:
    """The first path that has one of the names, or ends with one: `/api/health`."""
    below = (path for name in names for path in paths if path.endswith(name))
    return next((name for name in names if name in paths), None) or next(below, None)
