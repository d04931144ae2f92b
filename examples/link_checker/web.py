"""``Fetch``, answered with aiohttp."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp

from doeff import Await, EffectGenerator, HandlerContext, do
from link_checker import Fetch, Page, Unreachable


@asynccontextmanager
async def open_web() -> AsyncIterator[Any]:
    """A handler that shares one session; the session is closed at the end."""
    # The limits are the program's own.
    no_limit = aiohttp.ClientTimeout(total=None, sock_connect=None)
    async with aiohttp.ClientSession(
        timeout=no_limit, connector=aiohttp.TCPConnector(limit=0)
    ) as session:

        @do
        def web(effect: Fetch, ctx: HandlerContext) -> EffectGenerator[Page]:
            page: Page = yield Await(get(session, effect.url))
            return page

        yield web


async def get(session: aiohttp.ClientSession, url: str) -> Page:
    try:
        async with session.get(url) as answer:
            html = await answer.text() if answer.content_type == "text/html" else None
            return Page(str(answer.url), answer.status, html)
    except aiohttp.TooManyRedirects:
        raise Unreachable("redirects without end", passing=False) from None
    except aiohttp.ClientConnectorError as error:
        reason = error.os_error.strerror or "no connection"
        raise Unreachable(reason) from error
    except UnicodeDecodeError as error:
        raise Unreachable(f"its text is not {error.encoding}", passing=False) from error
    except ValueError as error:  # InvalidURL, or a name that no resolver takes
        raise Unreachable("not an address", passing=False) from error
    except (aiohttp.ClientError, OSError) as error:
        raise Unreachable(
            " ".join(str(error).split()) or type(error).__name__
        ) from error
