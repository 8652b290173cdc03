"""The routes of the Open Inference Protocol v2."""

from collections.abc import Awaitable, Callable

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from serving.limits import Handler, observed, predict, read_body
from serving.runtime import Runtime

_LENGTH = "Inference-Header-Content-Length"
_MODEL = ("/v2/models/{model}", "/v2/models/{model}/versions/{version}")


def v2_routes(runtime: Runtime, live: Handler, ready: Handler) -> list[Route]:
    """All routes."""
    name, version = runtime.settings.model_name, runtime.settings.model_version

    def of_model(handle: Callable[[Request], Awaitable[Response]]) -> Handler:
        async def respond(request: Request) -> Response:
            given = request.path_params
            if (given["model"], given.get("version", version)) != (name, version):
                return JSONResponse({"error": "no such model or version"}, 404)
            return await handle(request)

        return respond

    async def server(_: Request) -> Response:
        return JSONResponse({"name": "serving", "version": "1", "extensions": ["binary_tensor_data"]})

    async def metadata(_: Request) -> Response:
        if not runtime.loaded:
            raise HTTPException(503, "the model is still loading")
        tensors = runtime.predictor.described()
        return JSONResponse({"name": name, "versions": [version], **tensors})

    async def infer(request: Request) -> Response:
        from serving.openinference import decode, encode
        from serving.tensors import finite

        given, arrays = decode(await read_body(request, runtime), request.headers.get(_LENGTH))
        outputs = finite(await predict(runtime, runtime.predictor.checked(arrays)))
        body, head = encode(given, outputs, {"model_name": name, "model_version": version})
        if head is None:
            return Response(body, media_type="application/json")
        return Response(body, media_type="application/octet-stream", headers={_LENGTH: str(head)})

    routes = [Route("/v2", server), Route("/v2/health/live", live), Route("/v2/health/ready", ready)]
    for place in _MODEL:
        routes += [Route(place, of_model(metadata)), Route(f"{place}/ready", of_model(ready))]
        routes.append(Route(f"{place}/infer", of_model(observed(runtime, "/v2/infer", infer)), methods=["POST"]))
    return routes
