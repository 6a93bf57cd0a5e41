"""What every request and every answer goes through: bounds, headers, counts."""
import asyncio
import contextlib
import time

from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect
from starlette.responses import Response

from adapter_bert.serve import bearer_tokens, origin, requests_log, strict_json
from adapter_bert.serve.refusal import Refusal, busy

JSON_TYPES = ("", "application/json", "application/x-www-form-urlencoded", "text/plain")
HEALTH = ("/healthz", "/readyz")
ALWAYS = (*HEALTH, "/metrics")   # answered however many requests are under way
# The page takes nothing from elsewhere, and nothing elsewhere shows the page.
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
                               "img-src 'self'; connect-src 'self'; base-uri 'none'; "
                               "form-action 'none'; frame-ancestors 'none'; "
                               "require-trusted-types-for 'script'; trusted-types 'none'",
    "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin"}


def answer(value, status=200, headers=None):
    """A Response with a value as JSON; bytes are JSON already."""
    content = value if isinstance(value, bytes) else strict_json.dumps(value)
    return Response(content, status, {**(headers or {}), "Cache-Control": "no-store"},
                    media_type="application/json")


def refused(refusal):
    """The Response of a Refusal: {"error": one sentence}."""
    return answer({"error": str(refusal)}, refusal.status, refusal.headers)


def check_json_type(request):
    """Refusal where a body says that it is no JSON.

    What `curl -d` sends is taken, as TensorFlow Serving takes it.
    """
    kind, *parameters = request.headers.get("content-type", "").lower().split(";")
    charsets = [text.split("=")[-1].strip(' "') for text in parameters if "charset" in text]
    if kind.strip() not in JSON_TYPES or any(name not in ("utf-8", "utf8") for name in charsets):
        raise Refusal("the Content-Type is another than application/json in UTF-8", 415)
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise Refusal("the Content-Encoding is another than identity; send the body as it is", 415)


async def pieces(request, most, deadline):
    """The body of a request, piece by piece.

    Args:
      request: starlette Request.
      most: bytes.
      deadline: of time.monotonic(), by which it must have come.

    Raises:
      Refusal: it is longer, or does not come.
    """
    too_long = Refusal(f"the body has more than {most} bytes", 413, {"Connection": "close"})
    length = request.headers.get("content-length", "0")
    if len(length) > 15 or int(length) > most:
        raise too_long
    stream, received = request.stream().__aiter__(), 0
    while True:
        try:
            piece = await asyncio.wait_for(anext(stream), max(0, deadline - time.monotonic()))
        except StopAsyncIteration:
            return
        except asyncio.TimeoutError as error:
            raise Refusal("the body did not come in time", 408, {"Connection": "close"}) from error
        except ClientDisconnect as error:
            raise Refusal("the body broke off") from error
        received += len(piece)
        if received > most:
            raise too_long
        yield piece


class Gate:
    """At most so many requests at once: `with gate:`, which refuses the others."""

    def __init__(self, most, message):
        self._left, self._message = most, message

    def __enter__(self):
        if not self._left:
            raise busy(self._message)
        self._left -= 1

    def __exit__(self, *_):
        self._left += 1


class Watch:
    """An ASGI application around another: adds HEADERS, counts, and logs what failed.

    The inner one says in request.state.asked what it took the request for, (task, verb).

    Args:
      inner: ASGI application.
      count: (task, verb, status, seconds) -> None.
      most: requests that may be under way, from their head to the last byte of the answer.
      hosts: names by which the server may be called, see origin.allowed_hosts.
      tokens: one of which a request must bear; None where everybody is served.
    """

    def __init__(self, inner, count, most, hosts=None, tokens=None):
        self._inner, self._count, self._hosts, self._tokens = inner, count, hosts, tokens
        self._gate = Gate(most, "too many requests are under way; try again in a second")

    async def __call__(self, scope, receive, send):
        """Answers one request."""
        if scope["type"] != "http":
            await self._inner(scope, receive, send)
            return
        start, sent = time.monotonic(), []

        async def watched(message):
            if message["type"] == "http.response.start":
                sent.append(message["status"])
                message["headers"] = [*message["headers"], *(
                    (name.lower().encode(), value.encode()) for name, value in HEADERS.items())]
            await send(message)
        try:
            self._check(scope["path"], Headers(scope=scope))
            with contextlib.nullcontext() if scope["path"] in ALWAYS else self._gate:
                await self._inner(scope, receive, watched)
        except Refusal as refusal:
            await refused(refusal)(scope, receive, watched)
        except Exception:
            requests_log.log.exception("a request failed")   # the application answered it
        task, verb = scope.get("state", {}).get("asked", ("", "other"))
        self._count(task, verb, sent[0] if sent else 499, time.monotonic() - start)

    def _check(self, path, headers):
        """Refusal of a request that is not for this server, or bears no token."""
        if "content-length" in headers and "transfer-encoding" in headers:
            # A proxy that reads the one where this server reads the other sees other requests.
            raise Refusal("the request has both Content-Length and Transfer-Encoding", 400,
                          {"Connection": "close"})
        if path in HEALTH:   # load balancers call these by any name
            return
        origin.check(headers, self._hosts)
        is_page = path == "/" or path.startswith("/page/")   # which has nothing to hide
        if self._tokens is not None and not is_page:
            bearer_tokens.check(headers, *self._tokens, name="client")
