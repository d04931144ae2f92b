"""A small site on the loopback address, with everything that a link checker may meet."""

from __future__ import annotations

import asyncio
import socket
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web

PAGES = {
    "/": """<a href="/guide/">guide</a> <a href="/news?page=1">news</a>
            <img src="logo.png"> <a href="mailto:us@site.example">write to us</a>""",
    "/guide/": """<a href="first.html#start">first</a> <a href="second.html">second</a>
                  <a href="/old-guide">the old one</a> <a href="../">home</a>""",
    "/guide/first.html": """<a href="second.html">next</a> <a href="third.html">later</a>""",
    "/guide/second.html": """<a href="first.html">back</a> <a href="/busy">busy</a>
                             <a href="/overloaded">overloaded</a>""",
    "/news": """<a href="/news?page=2">older</a> <a href="/loop">again</a>
                <a href="/never">slow</a> <a href="/hangs-up">curt</a>
                <a href="http://{closed}/elsewhere">a friend</a>""",
}
"""HTML by path; ``{closed}`` is an address where nobody listens."""


@asynccontextmanager
async def serve() -> AsyncIterator[str]:
    """The site, for as long as the block lasts; gives the address of its first page."""
    asked: Counter[str] = Counter()
    with socket.socket() as closed:  # bound, so that nobody takes it, and silent
        closed.bind(("127.0.0.1", 0))
        address = "{}:{}".format(*closed.getsockname())

        async def page(request: web.Request) -> web.StreamResponse:
            text = PAGES.get(request.path)
            if text is None:
                raise web.HTTPNotFound
            return web.Response(
                text=text.replace("{closed}", address), content_type="text/html"
            )

        async def logo(request: web.Request) -> web.StreamResponse:
            return web.Response(body=b"\x89PNG", content_type="image/png")

        async def moved(request: web.Request) -> web.StreamResponse:
            raise web.HTTPMovedPermanently("/guide/")

        async def loop(request: web.Request) -> web.StreamResponse:
            raise web.HTTPFound("/loop")

        async def busy(request: web.Request) -> web.StreamResponse:
            asked["busy"] += 1
            if asked["busy"] < 3:
                raise web.HTTPServiceUnavailable
            return web.Response(text="at last")

        async def overloaded(request: web.Request) -> web.StreamResponse:
            raise web.HTTPInternalServerError

        async def never(request: web.Request) -> web.StreamResponse:
            return await asyncio.get_running_loop().create_future()

        async def hangs_up(request: web.Request) -> web.StreamResponse:
            assert request.transport is not None
            request.transport.abort()
            return web.Response()

        app = web.Application()
        for path, answer in {
            "/logo.png": logo,
            "/old-guide": moved,
            "/loop": loop,
            "/busy": busy,
            "/overloaded": overloaded,
            "/never": never,
            "/hangs-up": hangs_up,
            "/{path:.*}": page,
        }.items():
            app.router.add_get(path, answer)
        # A request whose client has left is not served any further.
        runner = web.AppRunner(
            app, access_log=None, handler_cancellation=True, shutdown_timeout=1
        )
        await runner.setup()
        try:
            site = web.TCPSite(runner, "127.0.0.1", 0)
            await site.start()
            host, port = runner.addresses[0][:2]
            yield f"http://{host}:{port}/"
        finally:
            await runner.cleanup()
