"""The addresses that the server has, and what each does."""
import asyncio
import concurrent.futures
import importlib.resources
import os
import tempfile
import time
from typing import Any, NamedTuple

import fastapi
from starlette.exceptions import HTTPException
from starlette.responses import Response

from adapter_bert.errors import InputError
from adapter_bert.packs import index
from adapter_bert.serve import (
    bearer_tokens,
    middleware,
    origin,
    requests,
    rest,
    stages,
    strict_json,
)
from adapter_bert.serve.batcher import Failed
from adapter_bert.serve.refusal import Refusal, busy

PAGE = {"": ("index.html", "text/html"), "page.css": ("page.css", "text/css"),
        "page.js": ("page.js", "text/javascript"), "icon.svg": ("icon.svg", "image/svg+xml")}
READ = ["GET", "HEAD"]
MOST_LISTED = 500   # packs in an answer


class Parts(NamedTuple):
    """What the addresses work with.

    models: requests.Models.
    catalogue: registry.Catalogue.
    batcher: batcher.Batcher.
    metrics: metrics.Metrics.
    settings: settings.Settings.
    admin_token: str that lets its bearer change packs, or None.
    client_token: str without which requests are refused; None where everybody is served.
    is_ending: () -> whether the server shuts down.
    """

    models: Any
    catalogue: Any
    batcher: Any
    metrics: Any
    settings: Any
    admin_token: str | None
    client_token: str | None
    is_ending: Any


def make_app(parts):
    """The ASGI application."""
    # No generated pages: they take their scripts from elsewhere.
    app = fastapi.FastAPI(openapi_url=None, redirect_slashes=False)
    app.add_exception_handler(InputError, _on_input_error)
    app.add_exception_handler(HTTPException, _on_http_error)
    app.add_exception_handler(Failed, _on_failed)
    app.add_exception_handler(Exception, _on_bug)
    _add_models(app, parts)
    _add_packs(app, parts)
    _add_health(app, parts)
    _add_page(app)
    settings = parts.settings
    hosts = origin.allowed_hosts(settings.host, settings.allowed_hosts)
    return middleware.Watch(app, parts.metrics.request, settings.max_requests, hosts,
                      None if parts.client_token is None else
                      (parts.client_token, parts.admin_token))


async def _on_input_error(request, error):
    known = isinstance(error, Refusal)
    return middleware.refused(error if known else Refusal(" ".join(str(error).split())))


async def _on_http_error(request, error):
    words = {404: "no such address", 405: "not with this method"}.get(error.status_code)
    return middleware.answer(
        {"error": words or str(error.detail)}, error.status_code, error.headers
    )


async def _on_failed(request, error):
    return middleware.answer({"error": str(error)}, 500)


async def _on_bug(request, error):
    return middleware.answer({"error": "the server failed; its log says why"}, 500)


def _add_models(app, parts):
    # Answers of long contexts take time too, and must not keep other requests from being read.
    pools = [concurrent.futures.ThreadPoolExecutor(parts.settings.encode_threads, name)
             for name in ("encode", "answer")]

    @app.api_route("/v1/models/{path:path}", methods=READ)
    async def describe(path: str, request: fastapi.Request):
        asked = _address(path, request, parts)
        if asked.verb in rest.VERBS:
            raise Refusal(f"send :{asked.verb} with POST", 405, {"Allow": "POST"})
        return middleware.answer(parts.models.describe(asked))

    @app.post("/v1/models/{path:path}")
    async def ask(path: str, request: fastapi.Request):
        asked = _address(path, request, parts)
        if asked.verb not in rest.VERBS:
            raise Refusal("send this with GET", 405, {"Allow": "GET, HEAD"})
        middleware.check_json_type(request)
        return await _ask(request, asked, parts, *pools)


def _address(path, request, parts):
    """The Address of a request, which is told to the metrics."""
    asked = requests.address(path)
    names = parts.catalogue.names()
    is_task = asked.name in names or asked.name == parts.settings.model_name
    request.state.asked = asked.name if is_task else "", asked.verb
    return asked


async def _ask(request, asked, parts, encoding, answering):
    """Body, word pieces, batch, answer; each step within the request's time and its bounds."""
    deadline = time.monotonic() + parts.settings.request_timeout
    if parts.is_ending():
        raise busy("the server is shutting down")
    parts.batcher.check_room()
    body = b"".join([piece async for piece in middleware.pieces(
        request, parts.settings.max_body_bytes, deadline)])
    computing = stages.Stages(
        lambda: encoding.submit(parts.models.take, asked, body, deadline),
        lambda taken: parts.batcher.submit(taken.rows),
        lambda taken, values: answering.submit(parts.models.answer, taken, values))
    try:
        return middleware.answer(await asyncio.wait_for(
            asyncio.wrap_future(computing.outcome), max(0, deadline - time.monotonic())))
    except asyncio.TimeoutError as error:
        raise busy(f"no answer in {parts.settings.request_timeout:g} seconds") from error


def _add_packs(app, parts):
    gate = middleware.Gate(1, "another pack is being loaded; try again in a second")

    @app.api_route("/v1/packs", methods=READ)
    async def listing(q: str = "", offset: str = "0", limit: str = "100"):
        first, most = _count(offset, "offset"), _count(limit, "limit")
        return middleware.answer(await asyncio.to_thread(
            parts.catalogue.listing, q[:200].split(), first, min(most, MOST_LISTED)))

    @app.post("/v1/packs/{name}")
    async def add(name: str, request: fastapi.Request):
        _check_admin(request, parts.admin_token)
        with gate:
            loaded = await _add_pack(request, name, parts)
        return middleware.answer(
            {"name": name, "version": loaded.version, "task": loaded.manifest.task}
        )

    @app.delete("/v1/packs/{name}")
    async def remove(name: str, request: fastapi.Request):
        _check_admin(request, parts.admin_token)
        try:
            await asyncio.to_thread(parts.catalogue.remove, name)
        except KeyError as error:
            raise Refusal(f"no pack {name[:100]!r} is loaded", 404) from error
        return middleware.answer({"name": name, "removed": True})


async def _add_pack(request, name, parts):
    """Loads the pack that a request holds or names."""
    index.check_name(name)
    most, deadline = parts.settings.max_pack_bytes, time.monotonic() + 600
    kind = request.headers.get("content-type", "").split(";")[0].strip().lower()
    if kind == "application/json":
        body = b"".join([piece async for piece in middleware.pieces(request, 1000, deadline)])
        if strict_json.loads(body) != {"from_hub": True}:
            raise Refusal("the body is not {\"from_hub\": true}, nor the .zip of a pack")
        return await asyncio.to_thread(parts.catalogue.add_from_hub, name)
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, f"{name}.zip")
        with open(path, "wb") as file:
            async for piece in middleware.pieces(request, most, deadline):
                file.write(piece)
        try:
            return await asyncio.to_thread(parts.catalogue.add, name, path)
        except InputError as error:
            raise Refusal(str(error).replace(path, name)) from error


def _check_admin(request, token):
    """Refusal of a request that may not change packs."""
    if not token:
        raise Refusal("packs cannot be changed: the server was started without an admin token", 403)
    bearer_tokens.check(request.headers, token, name="admin")


def _count(text, name):
    if not text.isascii() or not text.isdigit() or len(text) > 9:
        raise Refusal(f"{name} is no whole number")
    return int(text)


def _add_health(app, parts):
    @app.api_route("/healthz", methods=READ)
    async def healthz():
        return middleware.answer({"status": "alive"})

    @app.api_route("/readyz", methods=READ)
    async def readyz():
        if parts.is_ending():
            raise busy("the server is shutting down")
        if not parts.catalogue.names():
            raise busy("no pack is loaded")
        return middleware.answer({"status": "ready"})

    @app.api_route("/metrics", methods=READ)
    async def metrics():
        return Response(parts.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")


def _add_page(app):
    folder = importlib.resources.files("adapter_bert.serve") / "page"
    held = {path: ((folder / file).read_bytes(), kind) for path, (file, kind) in PAGE.items()}

    @app.api_route("/", methods=READ)
    @app.api_route("/page/{path}", methods=READ)
    async def page(path: str = ""):
        if path not in held:
            raise HTTPException(404)
        content, kind = held[path]
        return Response(content, headers={"Cache-Control": "no-cache"}, media_type=kind)
