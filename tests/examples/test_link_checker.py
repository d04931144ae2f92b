"""The link checker on sites from memory, on a clock that does not sleep, and once on its own server."""

from __future__ import annotations

import asyncio
import re

import pytest

import link_checker as demo
from doeff import (
    Delay,
    Local,
    WithHandler,
    async_handlers_preset,
    async_run,
    do,
    sync_handlers_preset,
    sync_run,
)
from doeff.testing import virtual_time

START = "http://site.example/"
SETTINGS = {**demo.SETTINGS, "start": START, "backoff": 1.0, "give_up_after": 5.0}


class Web:
    """Canned answers by path: a list of links, a status, an error, or several of these, one for each request.

    seconds: how long each answer takes.
    """

    def __init__(self, site, seconds=0.0):
        self.site = site
        self.seconds = seconds
        self.asked = []
        self.open = self.most_open = 0

    def answer(self, url):
        self.asked.append(url)
        answer = self.site.get(url.removeprefix(START), 404)
        if isinstance(answer, tuple):
            answer = answer[min(self.asked.count(url), len(answer)) - 1]
        return answer

    def handler(self):
        @do
        def web(effect: demo.Fetch, ctx):
            answer = self.answer(effect.url)
            self.open += 1
            self.most_open = max(self.open, self.most_open)
            try:
                yield Delay(1000 if answer == "never" else self.seconds)
            finally:
                self.open -= 1
            match answer:
                case Exception():
                    raise answer
                case int(status):
                    return demo.Page(effect.url, status)
            html = "".join(f'<a href="{link}">x</a>' for link in answer)
            return demo.Page(effect.url, 200, html)

        return web


def check(site, seconds=0.0, **settings):
    web = Web(site, seconds)
    program = virtual_time(WithHandler(web.handler(), demo.program()))
    result = sync_run(program, sync_handlers_preset, env={**SETTINGS, **settings})
    assert web.open == 0
    return result.value, web


def problems(report):
    return {item.url.removeprefix(START): item.problem for item in report.broken}


def test_each_link_is_followed_once():
    report, web = check({"": ["a", "b#x", "a"], "a": ["b", "/"], "b": ["a#y", "b"]})
    assert sorted(web.asked) == [START, START + "a", START + "b"]
    assert report.broken == []
    assert report.complete
    assert report.seconds == 0


def test_broken_links_and_the_pages_that_have_them():
    report, _ = check({"": ["a", "gone"], "a": ["gone"]})
    assert problems(report) == {"gone": "status 404"}
    assert report.found_on(START + "gone") == [START, START + "a"]
    text = str(report).splitlines()
    assert text[0] == f"{START}: 3 links, 3 requests, 0.0 s"
    assert text[1:] == [
        "1 broken",
        f"  {START}gone: status 404",
        f"      on {START}",
        f"      on {START}a",
    ]


def test_other_sites_are_asked_and_not_followed():
    other = "http://other.example/"
    report, web = check({"": [other], other: ["far"]})
    assert web.asked == [START, other]
    assert report.broken == []


def test_what_may_pass_is_tried_again_after_a_while():
    report, web = check({"": (503, demo.Unreachable("reset"), [])})
    assert len(web.asked) == 3
    assert report.broken == []
    assert report.checked[0].attempts == 3
    assert report.seconds == 1 + 2
    assert "1 worked at attempt 3" in str(report)


def test_attempts_come_to_an_end():
    report, web = check({"": (503,)})
    assert problems(report) == {"": "status 503"}
    assert len(web.asked) == 3
    assert report.seconds == 1 + 2


@pytest.mark.parametrize("answer", [404, demo.Unreachable("circle", passing=False)])
def test_what_will_not_pass_is_not_tried_again(answer):
    report, web = check({"": (answer,)})
    assert len(report.broken) == len(web.asked) == 1
    assert report.seconds == 0


def test_a_request_is_given_up_after_its_time():
    report, _ = check({"": ["stuck"], "stuck": "never"})
    assert problems(report) == {"stuck": "no answer within 5 s"}
    assert report.seconds == 3 * 5 + 1 + 2


@pytest.mark.parametrize("at_once", [1, 3, 8])
def test_so_many_requests_at_once(at_once):
    site = {"": [str(n) for n in range(24)], **{str(n): [] for n in range(24)}}
    report, web = check(site, seconds=1.0, at_once=at_once)
    assert web.most_open == at_once
    assert report.seconds == 1 + 24 / at_once


def test_while_one_waits_to_try_again_its_slot_is_free():
    site = {"": ["busy", "a"], "busy": (503, []), "a": []}
    report, web = check(site, at_once=1)
    assert [url.removeprefix(START) for url in web.asked] == ["", "busy", "a", "busy"]
    assert report.broken == []


def test_the_time_is_up():
    report, _ = check({"": ["a", "stuck"], "a": [], "stuck": "never"}, total=3.0)
    assert not report.complete
    assert [item.url for item in report.checked] == [START, START + "a"]
    assert report.seconds == 3
    assert "time was up" in str(report)


def test_an_error_of_the_handler_is_the_error_of_the_run():
    web = Web({"": KeyError("a bug")})
    result = sync_run(
        WithHandler(web.handler(), demo.program()), sync_handlers_preset, SETTINGS
    )
    assert isinstance(result.error, KeyError)
    assert web.open == 0


def test_what_counts_as_a_link():
    page = demo.Page(
        "http://site.example/a/",
        200,
        """<a href=b>1</a><A HREF='../c?d=e#f'>2</A><a href="mailto:x@y">3</a><a name=z>4</a>
        <img src="/i.png" href="no"><a href="b">5</a><link href="//cdn.example/s.css"><a href>6</a>""",
    )
    assert demo.links_of(page) == (
        "http://site.example/a/b",
        "http://site.example/c?d=e",
        "http://site.example/i.png",
        "http://cdn.example/s.css",
    )


def test_links_that_cannot_be_read():
    """They are fetched as they are, so that they are found broken."""
    page = demo.Page(START, 200, "<a href='http://[x'>1</a><a href='y'>2</a>")
    assert demo.links_of(page) == ("http://[x", START + "y")


@pytest.mark.parametrize(
    "url", ["http://[x", "http://a:99999/", f"http://{'a' * 70}.example/"]
)
def test_what_is_not_an_address(url):
    from link_checker.web import open_web

    async def main():
        async with open_web() as web:
            env = {**SETTINGS, "start": url, "give_up_after": 30.0}
            return await async_run(
                demo.program(), [*async_handlers_preset, web], env=env
            )

    (checked,) = asyncio.run(main()).value.broken
    assert (checked.problem, checked.attempts) == ("not an address", 1)


@pytest.mark.once
def test_its_own_site_over_the_network():
    for limit in (0.5, 5):  # the second one on a machine that takes its time
        program = Local({"give_up_after": limit}, demo.program())
        report = demo.interpret(program).value
        late = [item for item in report.broken if "no answer" in str(item.problem)]
        if report.complete and len(late) == 1:
            break
    assert report.complete
    assert len(report.checked) == 15
    found = {
        re.sub(r"http://127.0.0.1:\d+", "", item.url): (item.problem, item.attempts)
        for item in report.broken
    }
    refused, hung_up = found.pop("/elsewhere"), found.pop("/hangs-up")
    assert (refused[1], hung_up[1]) == (3, 3)
    assert found == {
        "/guide/third.html": ("status 404", 1),
        "/loop": ("redirects without end", 1),
        "/never": (f"no answer within {limit} s", 3),
        "/overloaded": ("status 500", 3),
    }
    busy = next(item for item in report.checked if item.url.endswith("/busy"))
    assert (busy.problem, busy.attempts) == (None, 3)
