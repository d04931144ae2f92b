"""A slow reference interpreter and the program generator of the property tests.

A generated program is a tree of the small classes below. The tree has two
readings: ``build`` makes a real doeff program of it, and ``Oracle`` walks it
with plain recursion over dicts and lists. A property compares the two.

The oracle keeps one chain of scopes (handlers and intercepts), innermost first,
as a linked list ``(scope, rest)``. An effect carries the chain and the
environment of the place where it was first performed, which is all that the
scoping rules need.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from hypothesis import strategies as st

import doeff
from doeff import (
    IO,
    Annotate,
    Ask,
    CaptureGraph,
    Get,
    Intercept,
    Listen,
    Local,
    Modify,
    Pure,
    Put,
    ResumeK,
    Safe,
    Snapshot,
    Step,
    Tell,
    WithHandler,
    do,
    sync_handlers_preset,
    sync_run,
)
from doeff.types import EffectBase

# --- vocabulary -----------------------------------------------------------


class Boom(Exception):
    """The error that generated programs raise."""


class Missing(Exception):
    """Oracle twin of MissingEnvKeyError."""


class Circular(Exception):
    """Oracle twin of CircularAskError."""


class Invariant(Exception):
    """Oracle twin of InterpreterInvariantError."""


class Unhandled(Exception):
    """Oracle twin of UnhandledEffectError."""


@dataclass(frozen=True)
class Custom(EffectBase):
    """An effect that only generated handlers answer."""

    tag: str


# --- the tree -------------------------------------------------------------
# eq=False: a node is an identity, as a program object is (lazy bindings rely on it).


@dataclass(frozen=True, eq=False)
class Node:
    pass


@dataclass(frozen=True, eq=False)
class NPure(Node):
    value: Any


@dataclass(frozen=True, eq=False)
class NGet(Node):
    key: str


@dataclass(frozen=True, eq=False)
class NPut(Node):
    key: str
    value: Any


@dataclass(frozen=True, eq=False)
class NModify(Node):
    key: str
    op: str


@dataclass(frozen=True, eq=False)
class NTell(Node):
    message: Any


@dataclass(frozen=True, eq=False)
class NAsk(Node):
    key: str


@dataclass(frozen=True, eq=False)
class NLocal(Node):
    bindings: tuple[tuple[str, Any], ...]
    body: Node


@dataclass(frozen=True, eq=False)
class NStep(Node):
    value: Any
    meta: tuple[tuple[str, Any], ...]


@dataclass(frozen=True, eq=False)
class NAnnotate(Node):
    meta: tuple[tuple[str, Any], ...]


@dataclass(frozen=True, eq=False)
class NSnapshot(Node):
    pass


@dataclass(frozen=True, eq=False)
class NCapture(Node):
    body: Node


@dataclass(frozen=True, eq=False)
class NSafe(Node):
    body: Node


@dataclass(frozen=True, eq=False)
class NListen(Node):
    body: Node


@dataclass(frozen=True, eq=False)
class NIO(Node):
    value: Any
    fails: bool


@dataclass(frozen=True, eq=False)
class NCustom(Node):
    tag: str


@dataclass(frozen=True, eq=False)
class NRaise(Node):
    tag: str


@dataclass(frozen=True, eq=False)
class NSeq(Node):
    """A @do function that performs its parts in order and returns the list."""

    parts: tuple[Node, ...]


@dataclass(frozen=True, eq=False)
class NCall(Node):
    """A @do call whose argument is the program: unwrapped, then used."""

    body: Node


@dataclass(frozen=True, eq=False)
class NMap(Node):
    body: Node


@dataclass(frozen=True, eq=False)
class NBind(Node):
    """``body.flat_map(lambda v: then.map(pair with v))``."""

    body: Node
    then: Node


@dataclass(frozen=True, eq=False)
class NYieldFrom(Node):
    body: Node


@dataclass(frozen=True, eq=False)
class NTry(Node):
    """``try: body; except Exception: handler; finally: Tell``."""

    body: Node
    handler: Node | None
    final_message: str | None


@dataclass(frozen=True, eq=False)
class NIntercept(Node):
    body: Node
    transforms: tuple[Transform, ...]


@dataclass(frozen=True, eq=False)
class NHandle(Node):
    body: Node
    handler: HandlerSpec


@dataclass(frozen=True, eq=False)
class Lazy:
    """A lazy environment binding: one program object for one Lazy."""

    body: Node


@dataclass(frozen=True, eq=False)
class Transform:
    """What one intercept function answers for effects of one kind."""

    name: str
    kind: str  # a kind of LEAF_KINDS, or "*" (any leaf)
    action: str
    payload: Any = None


@dataclass(frozen=True, eq=False)
class HandlerSpec:
    """What one handler does with effects of one kind; the others it forwards."""

    name: str
    kind: str
    action: str
    payload: Any = None


LEAF_KINDS = ("Get", "Put", "Modify", "Tell", "Ask", "Step", "Annotate", "Custom", "IO")
KIND_OF_CLASS = {
    "StateGetEffect": "Get",
    "StatePutEffect": "Put",
    "StateModifyEffect": "Modify",
    "WriterTellEffect": "Tell",
    "AskEffect": "Ask",
    "LocalEffect": "Local",
    "GraphStepEffect": "Step",
    "GraphAnnotateEffect": "Annotate",
    "GraphSnapshotEffect": "Snapshot",
    "GraphCaptureEffect": "Capture",
    "ResultSafeEffect": "Safe",
    "WriterListenEffect": "Listen",
    "InterceptEffect": "Intercept",
    "IOPerformEffect": "IO",
    "Custom": "Custom",
}

OPS: dict[str, Callable[[Any], Any]] = {
    "count": lambda v: 1 if not isinstance(v, int) else v + 1,
    "wrap": lambda v: ("wrapped", v),
    "none": lambda v: None,
}


def _boom_op(_value: Any) -> Any:
    raise Boom("modify")


OPS["boom"] = _boom_op


def tagged(value: Any) -> Any:
    """The function that NMap applies."""
    return ("mapped", value)


def kind_of(effect: Any) -> str:
    return KIND_OF_CLASS[type(effect).__name__]


# --- the real program -----------------------------------------------------


class Builder:
    """Makes doeff programs of trees and records what user callbacks saw."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, str]] = []
        self._lazies: dict[int, Any] = {}
        self._keep: list[Any] = []
        self.io_calls = 0

    def binding(self, value: Any) -> Any:
        if not isinstance(value, Lazy):
            return value
        if id(value) not in self._lazies:
            self._keep.append(value)
            self._lazies[id(value)] = self.build(value.body)
        return self._lazies[id(value)]

    def env(self, bindings: tuple[tuple[str, Any], ...]) -> dict[str, Any]:
        return {key: self.binding(value) for key, value in bindings}

    def build(self, node: Node) -> Any:
        method = getattr(self, "build_" + type(node).__name__)
        return method(node)

    def build_NPure(self, n: NPure) -> Any:
        return Pure(n.value)

    def build_NGet(self, n: NGet) -> Any:
        return Get(n.key)

    def build_NPut(self, n: NPut) -> Any:
        return Put(n.key, n.value)

    def build_NModify(self, n: NModify) -> Any:
        return Modify(n.key, OPS[n.op])

    def build_NTell(self, n: NTell) -> Any:
        return Tell(n.message)

    def build_NAsk(self, n: NAsk) -> Any:
        return Ask(n.key)

    def build_NLocal(self, n: NLocal) -> Any:
        return Local(self.env(n.bindings), self.build(n.body))

    def build_NStep(self, n: NStep) -> Any:
        return Step(n.value, dict(n.meta))

    def build_NAnnotate(self, n: NAnnotate) -> Any:
        return Annotate(dict(n.meta))

    def build_NSnapshot(self, n: NSnapshot) -> Any:
        return Snapshot()

    def build_NCapture(self, n: NCapture) -> Any:
        return CaptureGraph(self.build(n.body))

    def build_NSafe(self, n: NSafe) -> Any:
        return Safe(self.build(n.body))

    def build_NListen(self, n: NListen) -> Any:
        return Listen(self.build(n.body))

    def build_NIO(self, n: NIO) -> Any:
        def action() -> Any:
            self.io_calls += 1
            if n.fails:
                raise Boom("io")
            return n.value

        return IO(action)

    def build_NCustom(self, n: NCustom) -> Any:
        return Custom(n.tag)

    def build_NRaise(self, n: NRaise) -> Any:
        @do
        def raiser() -> Any:
            raise Boom(n.tag)
            yield

        return raiser()

    def build_NSeq(self, n: NSeq) -> Any:
        parts = [self.build(p) for p in n.parts]

        @do
        def seq() -> Any:
            values = []
            for part in parts:
                values.append((yield part))
            return values

        return seq()

    def build_NCall(self, n: NCall) -> Any:
        @do
        def call(x: Any, plain: int = 0) -> Any:
            return ("called", x)
            yield

        return call(self.build(n.body))

    def build_NMap(self, n: NMap) -> Any:
        return self.build(n.body).map(tagged)

    def build_NBind(self, n: NBind) -> Any:
        then = self.build(n.then)
        return self.build(n.body).flat_map(lambda v: then.map(lambda w: (v, w)))

    def build_NYieldFrom(self, n: NYieldFrom) -> Any:
        body = self.build(n.body)

        def helper() -> Any:
            return (yield body)

        @do
        def outer() -> Any:
            return (yield from helper())

        return outer()

    def build_NTry(self, n: NTry) -> Any:
        body = self.build(n.body)
        handler = None if n.handler is None else self.build(n.handler)
        final = None if n.final_message is None else Tell(n.final_message)

        @do
        def guarded() -> Any:
            try:
                if handler is None:
                    return (yield body)
                try:
                    return (yield body)
                except Exception as error:
                    return ("caught", describe_error(error), (yield handler))
            finally:
                if final is not None:
                    yield final

        return guarded()

    def build_NIntercept(self, n: NIntercept) -> Any:
        return Intercept(self.build(n.body), *[self.transform(t) for t in n.transforms])

    def transform(self, t: Transform) -> Callable[[Any], Any]:
        def transform(effect: Any) -> Any:
            kind = kind_of(effect)
            self.seen.append((t.name, kind))
            if not applies(t, kind):
                return None
            if t.action == "same":
                return effect
            if t.action == "none":
                return None
            if t.action == "put":
                return Put("x", t.payload)
            if t.action == "reyield":
                return log_then(t.name, effect)
            if t.action == "pure":
                return Pure(t.payload)
            if t.action == "boom":
                raise Boom(t.name)
            assert t.action == "junk"
            return 5

        return transform

    def build_NHandle(self, n: NHandle) -> Any:
        return WithHandler(self.handler(n.handler), self.build(n.body))

    def handler(self, spec: HandlerSpec) -> Any:
        seen = self.seen

        @do
        def handler(effect: EffectBase, ctx: Any) -> Any:
            kind = kind_of(effect)
            seen.append((spec.name, kind))
            if not wants(spec.kind, kind):
                return (yield effect)
            action = spec.action
            if action == "answer":
                return spec.payload
            if action == "forward":
                return (yield effect)
            if action == "change":
                value = yield effect
                return ("changed", spec.name, value)
            if action == "own":
                yield Tell("own-" + spec.name)
                got = yield Safe(Get("x"))
                yield Put("y", spec.name)
                value = yield effect
                return (value, "x" if got.is_ok() else "no x")
            if action == "ask":
                asked = yield Safe(Ask("e1"))
                return (yield effect) if asked.is_err() else asked.value
            if action == "twin":
                return (yield Tell("twin-" + spec.name))
            if action == "guard":
                try:
                    return (yield effect)
                except Exception as error:
                    return ("guarded", describe_error(error))
            if action == "boom":
                raise Boom(spec.name)
            if action == "late":
                yield effect
                raise Boom("late-" + spec.name)
            assert action == "abandon"
            return ResumeK(k=ctx.outer_k, value=("abandoned", spec.name))

        return handler


@do
def log_then(name: str, effect: EffectBase) -> Any:
    yield Tell("re-" + name)
    return (yield effect)


def wants(pattern: str, kind: str) -> bool:
    return kind in LEAF_KINDS if pattern == "*" else pattern == kind


def applies(t: Transform, kind: str) -> bool:
    # Where the body of a re-yielded lazy Ask runs is left open by the contract.
    return wants(t.kind, kind) and not (t.action == "reyield" and kind == "Ask")


# --- the oracle -----------------------------------------------------------


@dataclass
class OOk:
    value: Any


@dataclass
class OErr:
    error: BaseException


@dataclass
class OListen:
    value: Any
    log: list[Any]


class Abandon(BaseException):
    """A jump to the end of a handler's scope."""

    def __init__(self, target: Any, outside: Any, value: Any) -> None:
        self.target, self.outside, self.value = target, outside, value
        self.error: Exception | None = None  # of a finally block on the way


@dataclass
class _Eff:
    """An effect under way; identity is the object."""

    kind: str
    node: Any


@dataclass
class Oracle:
    store: dict[str, Any] = field(default_factory=dict)
    log: list[Any] = field(default_factory=list)
    graph: list[dict[str, Any]] = field(default_factory=list)
    seen: list[tuple[str, str]] = field(default_factory=list)
    io_calls: int = 0
    _lazy: dict[str, tuple[Any, Any]] = field(default_factory=dict)
    _running: list[tuple[str, int]] = field(default_factory=list)

    def run(self, node: Any, env: Mapping[str, Any], chain: Any) -> Any:
        match node:
            case NPure(value=value):
                return value
            case NRaise(tag=tag):
                raise Boom(tag)
            case NSeq(parts=parts):
                return [self.run(p, env, chain) for p in parts]
            case NCall(body=body):
                return ("called", self.run(body, env, chain))
            case NMap(body=body):
                return tagged(self.run(body, env, chain))
            case NBind(body=body, then=then):
                first = self.run(body, env, chain)
                return (first, self.run(then, env, chain))
            case NYieldFrom(body=body):
                return self.run(body, env, chain)
            case NTry():
                return self.guarded(node, env, chain)
            case NHandle(body=body):
                scope = [node.handler]  # a fresh identity for each installation
                try:
                    return self.run(body, env, ((scope, node.handler), chain))
                except Abandon as jump:
                    if jump.target is not scope:
                        raise
                    if jump.error is not None:
                        raise jump.error from None
                    return jump.value
            case _:
                kind = type(node).__name__[1:]
                return self.dispatch(_Eff(kind, node), env, chain, chain)

    def guarded(self, n: NTry, env: Any, chain: Any) -> Any:
        def finish(outside: Any) -> None:
            if n.final_message is not None:
                tell = _Eff("Tell", NTell(n.final_message))
                self.dispatch(tell, env, outside, outside)

        try:
            try:
                value = self.run(n.body, env, chain)
            except Exception as error:
                if n.handler is None:
                    raise
                value = (
                    "caught",
                    describe_error(error),
                    self.run(n.handler, env, chain),
                )
        except Abandon as jump:
            try:
                finish(jump.outside)
            except Exception as error:
                jump.error = error
            raise
        except BaseException:
            finish(chain)
            raise
        finish(chain)
        return value

    def dispatch(self, eff: _Eff, env: Any, origin: Any, pos: Any) -> Any:
        while pos is not None:
            scope, rest = pos
            if isinstance(scope, NIntercept):
                for t in scope.transforms:
                    self.seen.append((t.name, eff.kind))
                    if not applies(t, eff.kind) or t.action in ("none", "same"):
                        continue
                    return self.transformed(t, eff, env, origin, rest)
            else:
                identity, spec = scope
                return self.handled(identity, spec, eff, env, origin, rest)
            pos = rest
        return self.core(eff, env, origin)

    def transformed(
        self, t: Transform, eff: _Eff, env: Any, origin: Any, rest: Any
    ) -> Any:
        match t.action:
            case "put":
                return self.dispatch(_Eff("Put", NPut("x", t.payload)), env, rest, rest)
            case "reyield":
                self.dispatch(_Eff("Tell", NTell("re-" + t.name)), env, rest, rest)
                return self.dispatch(eff, env, origin, rest)
            case "pure":
                return t.payload
            case "boom":
                raise Boom(t.name)
            case _:
                raise Invariant

    def handled(
        self,
        identity: Any,
        spec: HandlerSpec,
        eff: _Eff,
        env: Any,
        origin: Any,
        rest: Any,
    ) -> Any:
        def forward() -> Any:
            return self.dispatch(eff, env, origin, rest)

        def own(kind: str, node: Any) -> Any:
            return self.dispatch(_Eff(kind, node), env, rest, rest)

        self.seen.append((spec.name, eff.kind))
        if not wants(spec.kind, eff.kind):
            return forward()
        match spec.action:
            case "answer":
                return spec.payload
            case "forward":
                return forward()
            case "change":
                return ("changed", spec.name, forward())
            case "own":
                own("Tell", NTell("own-" + spec.name))
                got = own("Safe", NSafe(NGet("x")))
                own("Put", NPut("y", spec.name))
                value = forward()
                return (value, "x" if isinstance(got, OOk) else "no x")
            case "ask":
                asked = own("Safe", NSafe(NAsk("e1")))
                return forward() if isinstance(asked, OErr) else asked.value
            case "twin":
                return own("Tell", NTell("twin-" + spec.name))
            case "guard":
                try:
                    return forward()
                except Exception as error:
                    return ("guarded", describe_error(error))
            case "boom":
                raise Boom(spec.name)
            case "late":
                forward()
                raise Boom("late-" + spec.name)
            case _:
                raise Abandon(identity, rest, ("abandoned", spec.name))

    def core(self, eff: _Eff, env: Any, origin: Any) -> Any:
        n = eff.node
        match eff.kind:
            case "Get":
                return self.store[n.key]
            case "Put":
                self.store[n.key] = n.value
                return None
            case "Modify":
                self.store[n.key] = OPS[n.op](self.store.get(n.key))
                return self.store[n.key]
            case "Tell":
                many = isinstance(n.message, (list, tuple))
                self.log.extend(n.message if many else [n.message])
                return None
            case "Ask":
                return self.ask(n.key, env, origin)
            case "Local":
                return self.run(n.body, {**env, **dict(n.bindings)}, origin)
            case "Step":
                self.graph.append({"value": n.value, "meta": dict(n.meta)})
                return n.value
            case "Annotate":
                if self.graph:
                    last = self.graph[-1]
                    last["meta"] = {**last["meta"], **dict(n.meta)}
                return None
            case "Snapshot":
                return copy_nodes(self.graph)
            case "Capture":
                start = len(self.graph)
                value = self.run(n.body, env, origin)
                return (value, copy_nodes(self.graph[start:]))
            case "Safe":
                try:
                    return OOk(self.run(n.body, env, origin))
                except Exception as error:
                    return OErr(error)
            case "Listen":
                start = len(self.log)
                value = self.run(n.body, env, origin)
                return OListen(value, self.log[start:])
            case "Intercept":
                return self.run(n.body, env, (n, origin))
            case "IO":
                self.io_calls += 1
                if n.fails:
                    raise Boom("io")
                return n.value
            case _:
                raise Unhandled

    def ask(self, key: str, env: Any, origin: Any) -> Any:
        if key not in env:
            raise Missing(key)
        binding = env[key]
        if not isinstance(binding, Lazy):
            return binding
        entry = self._lazy.get(key)
        if entry is not None and entry[0] is binding:
            return entry[1]
        mark = (key, id(binding))
        if mark in self._running:
            raise Circular(key)
        self._running.append(mark)
        try:
            value = self.run(binding.body, env, origin)
        finally:
            self._running.remove(mark)
        self._lazy[key] = (binding, value)
        return value


def copy_nodes(nodes: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{"value": n["value"], "meta": dict(n["meta"])} for n in nodes]


# --- comparing ------------------------------------------------------------


def describe_error(error: BaseException) -> Any:
    """A comparable form of an error, the same for both interpreters."""
    if isinstance(error, (Missing, doeff.MissingEnvKeyError)):
        return ("missing", error.key if hasattr(error, "key") else error.args[0])
    if isinstance(error, (Circular, doeff.CircularAskError)):
        return ("circular", error.key if hasattr(error, "key") else error.args[0])
    if isinstance(error, (Unhandled, doeff.UnhandledEffectError)):
        return ("unhandled",)
    if isinstance(error, (Invariant, doeff.InterpreterInvariantError)):
        return ("invariant",)
    return (type(error).__name__, error.args)


def plain(value: Any) -> Any:
    """Replace result objects of either side by comparable tuples."""
    if isinstance(value, (OOk, doeff.Ok)):
        return ("Ok", plain(value.value))
    if isinstance(value, (OErr, doeff.Err)):
        return ("Err", describe_error(value.error))
    if isinstance(value, (OListen, doeff.ListenResult)):
        return ("Listen", plain(value.value), [plain(m) for m in value.log])
    if isinstance(value, list):
        return [plain(v) for v in value]
    if isinstance(value, tuple):
        return tuple(plain(v) for v in value)
    if isinstance(value, dict):
        return {k: plain(v) for k, v in value.items()}
    return value


@dataclass
class Outcome:
    """Everything of one run that a law may look at."""

    end: Any
    store: dict[str, Any]
    log: list[Any]
    graph: list[Any]
    seen: list[tuple[str, str]]
    io_calls: int = 0

    @property
    def effects(self) -> tuple[Any, Any, Any]:
        return (self.store, self.log, self.graph)


RESERVED = ("__log__", "__graph__", "__ask_lazy_cache__", "__cache_storage__")


def run_real(
    program: Any,
    env: dict[str, Any] | None = None,
    store: dict[str, Any] | None = None,
    *,
    handlers: list[Any] | None = None,
    builder: Builder | None = None,
) -> Outcome:
    """Run a real program under the preset."""
    chosen = list(sync_handlers_preset) if handlers is None else handlers
    seen = builder.seen if builder is not None else []
    del seen[:]
    if builder is not None:
        builder.io_calls = 0
    try:
        result = sync_run(program, chosen, env=env or {}, store=store or {})
    except doeff.UnhandledEffectError as error:
        # The run raises it; what the store held then is not told.
        return Outcome(("err", describe_error(error)), {}, [], [], list(seen))
    raw = result.raw_store
    end = (
        ("ok", plain(result.value))
        if result.is_ok()
        else ("err", describe_error(result.error))
    )
    return Outcome(
        end,
        {k: plain(v) for k, v in raw.items() if k not in RESERVED},
        plain(list(raw.get("__log__", []))),
        plain(list(raw.get("__graph__", []))),
        list(seen),
        builder.io_calls if builder is not None else 0,
    )


def run_tree(
    node: Node, env: tuple[tuple[str, Any], ...] = (), store: Any = None
) -> Outcome:
    """Build a tree and run it for real."""
    builder = Builder()
    program = builder.build(node)
    return run_real(program, builder.env(env), dict(store or {}), builder=builder)


def run_oracle(
    node: Node, env: tuple[tuple[str, Any], ...] = (), store: Any = None
) -> Outcome:
    """Walk the tree with the oracle."""
    oracle = Oracle(store=dict(store or {}))
    try:
        end = ("ok", plain(oracle.run(node, dict(env), None)))
    except Unhandled:
        return Outcome(("err", ("unhandled",)), {}, [], [], oracle.seen)
    except Exception as error:
        end = ("err", describe_error(error))
    return Outcome(
        end,
        {k: plain(v) for k, v in oracle.store.items()},
        plain(oracle.log),
        plain(oracle.graph),
        oracle.seen,
        oracle.io_calls,
    )


def assert_same(
    node: Node, env: tuple[tuple[str, Any], ...] = (), store: Any = None
) -> Outcome:
    """The whole comparison; returns the real outcome."""
    real, expected = run_tree(node, env, store), run_oracle(node, env, store)
    assert real == expected
    return real


# --- strategies -----------------------------------------------------------

KEYS = st.sampled_from(["x", "y", "z"])
ENV_KEYS = st.sampled_from(["e1", "e2", "e3"])
VALUES = st.one_of(
    st.integers(-3, 3), st.none(), st.sampled_from(["a", "b", ""]), st.just((1, 2))
)
MESSAGES = st.one_of(
    st.sampled_from(["m1", "m2", "m3"]),
    st.none(),
    st.lists(st.sampled_from(["l1", "l2"]), max_size=2),
    st.tuples(st.just("t1"), st.lists(st.just("inner"), max_size=1)),
    st.just({"k": 1}),
)
METAS = st.lists(
    st.tuples(st.sampled_from(["a", "b"]), st.integers(0, 3)), max_size=2
).map(tuple)
TAGS = st.sampled_from(["b1", "b2"])


def leaves(*, custom: bool = False, fails: bool = True) -> st.SearchStrategy[Node]:
    options: list[st.SearchStrategy[Node]] = [
        st.builds(NPure, VALUES),
        st.builds(NGet, KEYS),
        st.builds(NPut, KEYS, VALUES),
        st.builds(
            NModify, KEYS, st.sampled_from(sorted(OPS) if fails else ["count", "wrap"])
        ),
        st.builds(NTell, MESSAGES),
        st.builds(NAsk, ENV_KEYS),
        st.builds(NStep, VALUES, METAS),
        st.builds(NAnnotate, METAS),
        st.builds(NSnapshot),
        st.builds(NIO, VALUES, st.booleans() if fails else st.just(False)),
    ]
    if fails:
        options.append(st.builds(NRaise, TAGS))
    if custom:
        options.append(st.builds(NCustom, TAGS))
    return st.one_of(options)


NAMES = st.sampled_from(["t1", "t2", "t3"])
# Only leaf effects are replaced: where a replaced container's body runs is not
# what these properties are about.
TRANSFORMS = st.builds(
    Transform,
    NAMES,
    st.sampled_from([*LEAF_KINDS, "*"]),
    st.sampled_from(["none", "same", "put", "reyield", "pure", "boom", "junk"]),
    st.integers(10, 12),
)
HANDLERS = st.builds(
    HandlerSpec,
    st.sampled_from(["h1", "h2", "h3"]),
    st.sampled_from([*LEAF_KINDS, "*", "Custom"]),
    st.sampled_from(
        [
            "answer",
            "forward",
            "change",
            "own",
            "ask",
            "twin",
            "guard",
            "boom",
            "late",
            "abandon",
        ]
    ),
    st.integers(20, 22),
)


def bindings(inner: st.SearchStrategy[Node]) -> st.SearchStrategy[Any]:
    value = st.one_of(VALUES, st.builds(Lazy, inner))
    return st.dictionaries(ENV_KEYS, value, max_size=2).map(lambda d: tuple(d.items()))


def _extend(
    inner: st.SearchStrategy[Node], *, intercepts: bool, handlers: bool
) -> st.SearchStrategy[Node]:
    options: list[st.SearchStrategy[Node]] = [
        st.builds(NSeq, st.lists(inner, max_size=4).map(tuple)),
        st.builds(NSeq, st.lists(inner, min_size=2, max_size=4).map(tuple)),
        st.builds(NLocal, bindings(inner), inner),
        st.builds(NCapture, inner),
        st.builds(NSafe, inner),
        st.builds(NListen, inner),
        st.builds(NCall, inner),
        st.builds(NMap, inner),
        st.builds(NBind, inner, inner),
        st.builds(NYieldFrom, inner),
        st.builds(
            NTry,
            inner,
            st.one_of(st.none(), inner),
            st.one_of(st.none(), st.just("final")),
        ),
    ]
    if intercepts:
        options.append(
            st.builds(
                NIntercept,
                inner,
                st.lists(TRANSFORMS, min_size=1, max_size=3).map(tuple),
            )
        )
    if handlers:
        options.append(st.builds(NHandle, inner, HANDLERS))
    return st.one_of(options)


def trees(
    *,
    intercepts: bool = False,
    handlers: bool = False,
    custom: bool = False,
    fails: bool = True,
    max_leaves: int = 12,
) -> st.SearchStrategy[Node]:
    """Generated programs: a few trees in sequence, under a few scopes."""
    tree = st.recursive(
        leaves(custom=custom or handlers, fails=fails),
        lambda inner: _extend(inner, intercepts=intercepts, handlers=handlers),
        max_leaves=max_leaves,
    )
    several = st.lists(tree, min_size=2, max_size=4).map(lambda ts: NSeq(tuple(ts)))
    guarded = st.lists(tree, min_size=2, max_size=4).map(
        lambda ts: NSeq(tuple(NSafe(t) for t in ts))
    )
    scoped = _extend(several, intercepts=intercepts, handlers=handlers)
    twice = _extend(scoped, intercepts=intercepts, handlers=handlers)
    return st.one_of(tree, several, guarded, scoped, twice)


# Half of the programs find what they look for, so that they get far enough.
_FULL_ENV = st.tuples(VALUES, st.builds(Lazy, trees(max_leaves=4)), VALUES).map(
    lambda vs: tuple(zip(("e1", "e2", "e3"), vs, strict=True))
)
ENVS = st.one_of(bindings(trees(max_leaves=4)), _FULL_ENV)
PLAIN_ENVS = st.dictionaries(ENV_KEYS, VALUES, max_size=3).map(
    lambda d: tuple(d.items())
)
STORES = st.one_of(
    st.dictionaries(KEYS, VALUES, max_size=3),
    st.fixed_dictionaries({key: VALUES for key in ("x", "y", "z")}),
)
PROGRAMS = trees()
