"""The open lines of `smoke.request`, for the user to complete."""

from mlship.init.found import Routes


def request_lines(routes: Routes) -> tuple[str, ...]:
    """Lines of `smoke.request`, for the user to complete; none if a JSON file is the whole request."""
    handler = routes.handler
    if handler is None or not any(handler.reads(part) for part in ("form", "files", "query")):
        return ()
    parts = {
        "form": dict.fromkeys(handler.form or (("FIELD",) if "form" in handler.whole else ()), "VALUE"),
        "files": dict.fromkeys(handler.files, "FILE"),
        "query": dict.fromkeys(handler.query, "VALUE"),
    }
    body = ("body: FILE",) if handler.reads("json") and not (parts["form"] or parts["files"]) else ()
    lines = [
        f"{name}: {{{', '.join(f'{key}: {value}' for key, value in of.items())}}}" for name, of in parts.items() if of
    ]
    return (f"method: {'POST' if routes.posts else 'GET'}", f"path: {routes.predict}", *lines, *body)
