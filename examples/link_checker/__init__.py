"""Which links of a site are broken?

Every page of the site is fetched, and everything that it links to, many at a time but not too many. A request that
takes too long is given up; one that fails for a reason that may pass is made again, after a while.

The program knows nothing of the network: it performs ``Fetch``. ``web.py`` answers it with aiohttp, and the tests with
pages that they make up, on a clock that does not sleep. ``site.py`` is a server with broken links, for trying it:

    doeff run link_checker:program

Another site is one key of the environment, see ``SETTINGS``:

    echo 'mine = {"start": "http://localhost:8000/"}' > my_site.py
    doeff run link_checker:program --env my_site:mine
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from html.parser import HTMLParser
from typing import Any
from urllib.parse import urldefrag, urljoin, urlsplit

from doeff import (
    AcquireSemaphore,
    Ask,
    CreateSemaphore,
    Delay,
    EffectBase,
    EffectGenerator,
    Gather,
    Get,
    GetTime,
    Listen,
    Ok,
    Program,
    Put,
    ReleaseSemaphore,
    RuntimeResult,
    Safe,
    Semaphore,
    Tell,
    Timeout,
    async_handlers_preset,
    async_run,
    do,
)

SETTINGS: dict[str, Any] = {
    "at_once": 8,  # requests
    "attempts": 3,  # for each link
    "backoff": 0.1,  # seconds before the second attempt, doubled before each further one
    "give_up_after": 0.5,  # seconds for one request
    "total": 60.0,  # seconds for everything
}
"""What the program asks for beside ``start``, the address of the first page."""

# --- effects and values -----------------------------------------------------------------


@dataclass(frozen=True)
class Fetch(EffectBase):
    """Gives the Page at an address; Unreachable if there was no answer."""

    url: str


@dataclass(frozen=True)
class Page:
    """An answer. url: where redirects led to. html: None if it is something else."""

    url: str
    status: int
    html: str | None = None


class Unreachable(Exception):
    """No answer. passing: trying again may help."""

    def __init__(self, reason: str, *, passing: bool = True) -> None:
        super().__init__(reason)
        self.passing = passing


@dataclass(frozen=True)
class Checked:
    """Finding: what became of a link. problem: None if it works."""

    url: str
    attempts: int
    problem: str | None
    links: tuple[str, ...] = ()


@dataclass(frozen=True)
class Report:
    """What the program returns; its text is what ``doeff run`` prints.

    complete: the time sufficed to follow every link.
    """

    start: str
    checked: list[Checked]
    seconds: float
    complete: bool

    @property
    def broken(self) -> list[Checked]:
        return sorted(
            (item for item in self.checked if item.problem), key=lambda item: item.url
        )

    def found_on(self, url: str) -> list[str]:
        return sorted(item.url for item in self.checked if url in item.links)

    def __str__(self) -> str:
        return "\n".join(lines(self))


# --- the program --------------------------------------------------------------------------


@do
def program() -> EffectGenerator[Report]:
    """Check the site that begins at ``start``."""
    start = yield Ask("start")
    slots = yield CreateSemaphore((yield Ask("at_once")))
    yield Put("seen", {start})
    began: datetime = yield GetTime()
    limit = Timeout((yield Ask("total")), follow(start, slots))
    found = yield Listen(Safe(limit))
    ended: datetime = yield GetTime()
    match found.value:
        case Ok(_):
            complete = True
        case failed if isinstance(failed.error, TimeoutError):
            complete = False
        case failed:
            raise failed.error
    checked = [item for item in found.log if isinstance(item, Checked)]
    return Report(start, checked, (ended - began).total_seconds(), complete)


@do
def follow(url: str, slots: Semaphore) -> EffectGenerator[None]:
    """Check a link, and all links on it that are new."""
    checked = yield check(url, slots)
    yield Tell(checked)
    # Members of a Gather share the store, and change places only where one of them waits.
    seen = yield Get("seen")
    new = [link for link in checked.links if link not in seen]
    yield Put("seen", seen | set(new))
    yield Gather(*(follow(link, slots) for link in new))


@do
def check(url: str, slots: Semaphore) -> EffectGenerator[Checked]:
    """Fetch, again if need be, and say what is wrong, or which links a page of the site has."""
    attempts = yield Ask("attempts")
    wait = yield Ask("backoff")
    start = yield Ask("start")
    for attempt in range(1, attempts + 1):
        match (yield Safe(fetch(url, slots))):
            case Ok(Page(status=status) as page) if status < 400:
                own = urlsplit(page.url).netloc == urlsplit(start).netloc
                links = links_of(page) if own else ()
                return Checked(url, attempt, None, links)
            case Ok(Page(status=status)):
                problem, passing = f"status {status}", status >= 500 or status == 429
            case failed if isinstance(failed.error, Unreachable):
                problem, passing = str(failed.error), failed.error.passing
            case failed:
                raise failed.error
        if not passing:
            break
        if attempt < attempts:
            yield Delay(wait)
            wait *= 2
    return Checked(url, attempt, problem)


@do
def fetch(url: str, slots: Semaphore) -> EffectGenerator[Page]:
    """One request, when there is a slot for it."""
    seconds = yield Ask("give_up_after")
    yield AcquireSemaphore(slots)
    try:
        page: Page = yield Timeout(seconds, Fetch(url))
        return page
    except TimeoutError:
        raise Unreachable(f"no answer within {seconds:g} s") from None
    finally:
        yield ReleaseSemaphore(slots)


class Links(HTMLParser):
    """Collects what a page refers to."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = ("src",) if tag in ("img", "script") else ("href",)
        self.found += [value for name, value in attrs if name in names and value]


def links_of(page: Page) -> tuple[str, ...]:
    """Addresses that a page links to, in order, each once, without their fragments."""
    parser = Links()
    parser.feed(page.html or "")
    urls = (absolute(page.url, link) for link in parser.found)
    return tuple(
        dict.fromkeys(url for url in urls if url.startswith(("http://", "https://")))
    )


def absolute(base: str, link: str) -> str:
    """What a link leads to. One that cannot be read stays as it is: fetching it will tell."""
    try:
        return urldefrag(urljoin(base, link)).url
    except ValueError:
        return link


# --- running it -------------------------------------------------------------------------------


def interpret(
    program: Program[Any],
) -> RuntimeResult[Any]:  # doeff: interpreter, default
    """Run a program against the site of ``site.py``, which is served meanwhile."""
    return asyncio.run(check_own_site(program))


async def check_own_site(program: Program[Any]) -> RuntimeResult[Any]:
    from link_checker.site import serve
    from link_checker.web import open_web

    async with serve() as start, open_web() as web:
        env = {**SETTINGS, "start": start}
        return await async_run(program, [*async_handlers_preset, web], env=env)


def lines(report: Report) -> Iterator[str]:
    broken = report.broken
    requests = sum(item.attempts for item in report.checked)
    yield f"{report.start}: {len(report.checked)} links, {requests} requests, {report.seconds:.1f} s"
    if not report.complete:
        yield "The time was up before every link was followed."
    for count, number in sorted(
        Counter(item.attempts for item in report.checked if not item.problem).items()
    ):
        if count > 1:
            yield f"{number} worked at attempt {count}"
    yield f"{len(broken)} broken"
    for item in broken:
        times = f", {item.attempts} attempts" if item.attempts > 1 else ""
        yield f"  {item.url}: {item.problem}{times}"
        for page in report.found_on(item.url):
            yield f"      on {page}"
