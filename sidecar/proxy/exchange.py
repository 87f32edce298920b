"""One request and its answer, from the parsed head to the last byte.

Owns the decision and what follows from it: forwarding, an answer of the sidecar's own, or breaking
off. The way to the upstream and back is its `UpstreamLeg`'s, the figures are its `Accounting`'s. It
is one module because an exchange is one state machine: any event may lead to any ending.
"""

from __future__ import annotations

from time import monotonic, time
from typing import TYPE_CHECKING, Final

from sidecar.auth import method_override, preflight
from sidecar.auth.credentials import is_without_bearer
from sidecar.auth.decision import Allow, Deny, NeedKeys, StaleCookie
from sidecar.auth.need_session import NeedSession
from sidecar.auth.reason import Reason
from sidecar.errors import PeerError, UpstreamBusy, UpstreamTimeout
from sidecar.proxy import accounting, late_decision, refusal_log, refusals, verify
from sidecar.proxy.accounting import Accountable, Accounting
from sidecar.proxy.admission import UNFINISHED
from sidecar.proxy.clearing_leg import CookieClearingLeg
from sidecar.proxy.contracts import ForwardedExchange, RequestInProgress
from sidecar.proxy.control_leg import ControlLeg
from sidecar.proxy.flow import NO_PEER, PEER_FULL
from sidecar.proxy.gathering import Gathering
from sidecar.proxy.upstream_leg import UpstreamLeg
from sidecar.sessions import outage
from sidecar.wire.hops import decrement_max_forwards
from sidecar.wire.replies import RETRY_AFTER, bare, options, problem, redirect

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from sidecar.auth.decision import Forbidden
    from sidecar.auth.routes import Route
    from sidecar.errors import Malformed, UpstreamError
    from sidecar.proxy.context import DataPlaneContext
    from sidecar.proxy.contracts import LegClient, WatchedTunnel
    from sidecar.proxy.session_watch import WatchedStream
    from sidecar.proxy.staging import StagedBody
    from sidecar.proxy.verify import Dialect
    from sidecar.wire.framing import Body
    from sidecar.wire.head import RequestHead

_OPTIONS: Final = b"OPTIONS"
_SMALL_HEAD: Final = 1024  # octets, which count as part of the connection
_COPIES: Final = 3  # of a head that waits with its body: read, as it is sent, and in between
_UNANSWERED: Final = 499  # nginx's word for it; only counted, never sent
_NO_UPGRADE: Final[frozenset[bytes]] = frozenset()


class Exchange(RequestInProgress, ForwardedExchange, Accountable):
    """The state of one request; its connection calls `start` once the head and `body` are set.

    Defaults are class attributes, so that a request pays only for what it sets (0.07 µs of 0.31).
    `__init__` sets those that every request reads: reading a class attribute through an instance
    costs five times as much as setting an attribute.
    """

    # What is known of the request
    route: Route
    allow: Allow | None = None
    dialect: Dialect | None = None  # of a subrequest
    forbidden: Forbidden | None = None  # the rule that a known caller does not meet
    named: tuple[str, str, str] | None = None  # the caller, as the control plane says
    staged: StagedBody | None = None  # what is kept of the body; None when it has none
    _caller = ""
    # What is under way
    _gathering: Gathering | None = None  # of a body that must be complete to be forwarded
    _lookup: asyncio.Task[None] | None = None  # or the wait for keys
    # What became of the client's side
    continued = False  # it was sent 100 (Continue)
    keep_alive = False  # its connection serves another request
    over = False

    def __init__(self, context: DataPlaneContext, downstream: LegClient, head: RequestHead) -> None:
        self.context = context
        self.downstream = downstream
        self.head = head
        # What is decided on, where that is not `head`: the original request that a subrequest is
        # about, or the request with its overridden method
        self.asked: RequestHead | None = None
        self.body: Body | None = None  # None when it has none
        self._leg: UpstreamLeg | None = None
        self._stream: WatchedStream | None = None  # while body or answer continue
        self.request_id = head.request_id or next(context.request_ids)
        accounts = self.accounting = Accounting()
        accounts.began, accounts.reason = monotonic(), None
        context.metrics.in_flight += 1

    def __repr__(self) -> str:
        return f"<Exchange {self.head!r} status={self.accounting.status} over={self.over}>"

    # Decision

    def start(self) -> None:
        """Decide, and act on the decision at once if the session is known in this process."""
        context = self.context
        head = self.head
        overloaded = context.metrics.in_flight > context.limits.requests
        if head.method == _OPTIONS and not overloaded and self._pass_preflight():
            return
        route = self.route = context.routes.match(head.method, head.host, head.path)
        if overloaded or head.overrides:
            unusual = self._start_unusual(overloaded=overloaded)
            if unusual is None:
                return
            route, head = self.route, unusual
        if route.target == "verify":
            dialect = self.dialect = context.verify.find_dialect(head)
            if dialect is None:
                self._problem(404)
                return
            forwarding = self.downstream.forwarding
            subject = verify.read_subject(dialect, head, context.routes, forwarding)
            if not isinstance(subject, tuple):  # a Deny; an exact type is found faster
                self._deny(subject)
                return
            route, self.asked = subject
            if route.unasked:
                self._count_preflight()
            head = self.asked or head
        now = time()
        decision = context.gate.decide(route, head, now)
        if isinstance(decision, NeedSession):
            revocable = decision.revocable
            session = (
                context.store.peek(decision.token_id)
                if revocable is None
                else context.store.revocations.peek(revocable)
            )
            if session is not None:
                decision = context.gate.resume(route, decision, session, now)
            elif context.store.degraded:
                decision = outage.decide(context.gate, context.store, route, decision, now)
            else:
                self._begin_look_up(route, decision)
                return
        elif not isinstance(decision, Allow) and self._begin_wait_for_keys(route, decision):
            return
        self._act_on(decision)

    def _start_unusual(self, *, overloaded: bool) -> RequestHead | None:
        """Deny for overload, or set route and head where a header may override the method.

        Returns the request that the decision is about, or None if the request was denied.
        """
        context, head, route = self.context, self.head, self.route
        if overloaded:
            if route.target == "verify":
                self.dialect = context.verify.find_dialect(head)
            self._deny(context.gate.deny(Reason.OVERLOADED))
            return None
        if not route.method_override:
            return head  # the parser has removed these headers
        method = method_override.method_of(head, route.method_override)
        if method is None:
            self._deny(context.gate.deny(Reason.METHOD_OVERRIDE))
            return None
        self.head = method_override.forwarded(head)
        decided = self.asked = method_override.decided_on(head, method)
        self.route = context.routes.match(method, head.host, head.path)
        return decided

    def _pass_preflight(self) -> bool:
        """Forward a CORS preflight undecided and without credentials, if a route allows that."""
        context = self.context
        route = preflight.find_route(context.routes, self.head, self.head.path)
        if route is None:
            return False
        self.route = route
        self.head = preflight.without_credentials(self.head)
        self._count_preflight()
        self._act_on(context.gate.anonymous)
        return True

    def _count_preflight(self) -> None:
        self.accounting.fault = accounting.PREFLIGHT
        self.context.metrics.preflights += 1

    def _begin_look_up(self, route: Route, need: NeedSession) -> None:
        if self._suspend():
            work = late_decision.look_up_session(self, route, need)
            self._lookup = self.context.tasks.spawn(work, name="session look-up")

    def _begin_wait_for_keys(self, route: Route, deny: Deny) -> bool:
        """Wait for the token's key, and decide again; False if that is not what is lacking.

        Also if no fetch can be waited for.
        """
        keys = self.context.keys
        if keys is None or not isinstance(deny, NeedKeys):
            return False
        fetched = keys.request(deny.issuer)
        if fetched is None:
            return False
        if self._suspend():
            work = late_decision.wait_for_keys(self, route, keys, fetched)
            self._lookup = self.context.tasks.spawn(work, name="wait for keys")
        return True

    def _suspend(self) -> bool:
        """Stop until the decision is made. False if the request was denied for lack of room."""
        if self.body is not None:
            self.downstream.flow.hold(NO_PEER)
            if not self.keep_unsent():
                self._deny(self.context.gate.deny(Reason.OVERLOADED))
                return False
        # The deadline so far was for the request's head to arrive.
        self.downstream.expect(self.accounting.began, self.context.limits.upstream_timeout)
        return True

    def on_decided(self, decision: Allow | Deny) -> None:
        """The decision that this request waited for."""
        self._lookup = None
        if not self.over:
            self._act_on(decision)

    def _act_on(self, decision: Allow | Deny, clears: bytes = b"") -> None:
        """Do what was decided. `clears` is the header line of an answer that deletes the cookie."""
        context = self.context
        if not isinstance(decision, Allow):  # the type that it has is found faster than another
            if isinstance(decision, StaleCookie) and self._can_be_anonymous():
                self.accounting.fault = accounting.STALE_COOKIE
                self._act_on(context.gate.anonymous, context.clear_cookie)
            else:
                self._deny(decision)
            return
        route = self.route
        target = route.target
        if target == "verify" and self.asked is not None and self.asked.overrides:
            self._deny(context.gate.deny(Reason.METHOD_OVERRIDE))
            return
        self.allow = decision
        context.metrics.allowed += 1
        if target == "upstream":
            if self.head.method == _OPTIONS and not self._spend_hop():
                return
            head = self.head
            lines = head.lines
            # A request with a token and no cookie pays for these two checks alone.
            if route.hides_token:
                if head.cookie is not None or head.authorization is not None:
                    lines = context.credentials.visible(head, token=False)
            elif head.cookie is not None and route.hides_cookie:
                lines = context.credentials.visible(head, token=True)
        elif target == "verify":
            self.accounting.status = 200
            head = self.head
            if head.keep_alive and head.minor and self.body is None and not context.draining:
                close, self.keep_alive = False, True  # `_may_keep`, without the call
            else:
                close = not self._may_keep()
            answer = verify.allowed(decision, self.request_id, clears, close=close)
            self.downstream.transport.write(answer)
            self.finish(monotonic())
            return
        elif self.body is not None and not self.body.done and self.staged is not None:
            gathering = self._gathering = Gathering(self, self.body, self.staged)
            gathering.begin()
            return
        else:
            self._ask_control_plane(decision)
            return
        leg = self._leg = CookieClearingLeg() if clears else UpstreamLeg()
        leg.forward(self, context.upstreams[target], lines, decision.identity, route.upgrades)

    def _can_be_anonymous(self) -> bool:
        """Whether a request with a stale cookie may continue as if it had none.

        One that has a bearer token as well would then be denied for that token.
        """
        asked = self.asked or self.head
        route = self.context.routes.match(asked.method, asked.host, asked.path)
        return is_without_bearer(asked, route.credentials)

    def _deny(self, deny: Deny) -> None:
        context = self.context
        reason = self.accounting.reason = deny.reason
        context.metrics.denied[reason.label] += 1
        if deny.forbidden is not None:
            self.forbidden = deny.forbidden
            forwarding = self.downstream.forwarding
            refusal_log.note_forbidden(
                context, forwarding, self.head, deny.forbidden, self.request_id
            )
        self._answer_denied(deny)

    def _answer_denied(self, deny: Deny) -> None:
        context = self.context
        status, headers = refusals.answer_to(
            deny,
            self.head if self.dialect is None else self.asked,
            self.dialect,
            self.downstream.forwarding,
            login_url=context.login_url,
            routes=context.routes,
            limit=context.limits.head.size,
        )
        if status == 302:
            close = not self._may_keep()
            headers += context.cors.lines(self.head)
            self._reply(302, redirect(self.request_id, headers=headers, close=close))
        else:
            self._problem(status, headers)

    # Forwarding

    def _spend_hop(self) -> bool:
        """Whether an OPTIONS request may be forwarded (RFC 9110 section 7.6.2); else answer it."""
        try:
            head = decrement_max_forwards(self.head)
        except PeerError as error:
            self._refuse_malformed(error)
            return False
        if head is None:
            self._reply(200, options(self.request_id, close=not self._may_keep()))
            return False
        self.head = head
        return True

    def _ask_control_plane(self, allow: Allow) -> None:
        leg = self._leg = ControlLeg()
        pool = self.context.upstreams["api"]
        leg.forward(self, pool, self.head.lines, allow.identity, _NO_UPGRADE)

    def give_up(self) -> None:
        """Refuse this request, because others need what it keeps: memory, or a connection."""
        if self.over:
            return
        self.context.admission.refused(UNFINISHED, self.caller)
        self.accounting.fault = accounting.CROWDED_OUT
        if self.accounting.status:
            self.abandon()
        else:
            self._drop()
            self._problem(503, RETRY_AFTER)

    def give_way(self) -> None:
        """Break off: the upstream connection waits for the client, and others need it."""
        if self.body is not None and not self.body.done:
            self.give_up()
        else:
            self.on_slow_reader()

    def on_request_body(self, data: bytes) -> None:
        """Take more of the request's body: for the upstream, or until there is a leg to send it."""
        if self.over or not data:
            return
        if self._leg is not None:
            self._leg.send_body(data)
            return
        if self.staged is not None:
            self.staged.add(data)
        if self._gathering is not None:
            self._gathering.on_more()

    def on_gathered(self) -> None:
        """The body for the control plane is complete: forward the request."""
        self._gathering = None
        if self.allow is not None:
            self._ask_control_plane(self.allow)

    def on_too_large(self) -> None:
        """The body is larger than one for the control plane may be."""
        self._problem(413)

    def keep_unsent(self) -> bool:
        """Count what is kept in the buffer of all bodies; False if its caller has no room there.

        Call it before anything that another request's end may set going.
        """
        if self.staged is None:
            return True
        beside = _COPIES * max(0, len(self.head.lines) - _SMALL_HEAD)
        return self.staged.count_if_fair(self.context.staged, self, self.caller, beside)

    @property
    def caller(self) -> str:
        """The client's address, as far as limits are concerned."""
        if not self._caller:
            self._caller = self.downstream.forwarding.caller(self.head)
        return self._caller

    @property
    def client(self) -> str:
        """The client's address, as logs have it."""
        return self.downstream.forwarding.client(self.head)

    def on_upload(self) -> None:
        """The request's body is unfinished: it continues no longer than the session."""
        self._stream = self._watch(self._on_session_over)

    def on_uploaded(self) -> None:
        """The upstream has been sent the whole request: only an answer ends with the session."""
        stream = self._stream
        if stream is not None and not self.accounting.status:
            self._stream = None
            stream.release()

    def on_stream(self) -> None:
        """The answer has begun and continues: no longer than the session."""
        if self._stream is None:
            self._stream = self._watch(self._on_session_over)

    def on_upgraded(self, tunnel: WatchedTunnel, now: float) -> None:
        """The connections have become a tunnel, which lasts no longer than the session."""
        self.over = True
        self._leg = None
        self.accounting.close(self, now)
        tunnel.watched = self._watch(tunnel.end)

    def _watch(self, end: Callable[[], None]) -> WatchedStream | None:
        watcher, allow = self.context.session_watcher, self.allow
        if watcher is None or allow is None or self.route.target != "upstream":
            return None
        began = self.accounting.began
        return watcher.watch(self.route, self.asked or self.head, allow, end, began=began)

    def _on_session_over(self) -> None:
        self.accounting.fault = accounting.SESSION_ENDED
        deny = None if self._stream is None else self._stream.deny
        if deny is None or self.accounting.status:
            self.abandon()
        else:  # an upload: the upstream must not take it for complete
            self._drop()
            self._answer_denied(deny)

    # Answers of the sidecar's own

    def _may_keep(self) -> bool:
        """Whether the client's connection can serve another request after a reply of our own."""
        head = self.head
        keep = head.keep_alive and head.minor == 1 and not self.context.draining
        if self.body is not None and not self.body.done:
            keep = False  # what is left of the body would be read as the next request
        self.keep_alive = keep
        return keep

    def _problem(
        self, status: int, headers: bytes = b"", malformed: Malformed | None = None
    ) -> None:
        """Answer with a problem, as a page or a document; `malformed` says what is wrong."""
        context, asked, dialect = self.context, self.asked or self.head, self.dialect
        headers += context.cors.lines(self.head)
        close, body = not self._may_keep(), self.head.method != b"HEAD"
        if dialect is not None and dialect.skips_content:
            self._reply(status, bare(status, self.request_id, headers=headers, close=close))
            return
        forwarding = self.downstream.forwarding
        forms = refusals.forms_for(asked, context.pages, forwarding, status, malformed)
        reply = problem(status, self.request_id, forms, headers=headers, close=close, body=body)
        self._reply(status, reply)

    def _refuse_malformed(self, error: PeerError) -> None:
        """Note what is malformed, and answer it, or break off an answer that has begun."""
        reason = self.accounting.reason = error.reason
        refusal_log.note_malformed(self.context, error.status, reason, self.request_id, self.client)
        if self.accounting.status:
            self.abandon()
        else:
            self._problem(error.status, malformed=reason)

    def _reply(self, status: int, reply: bytes) -> None:
        self.accounting.status = status
        self.downstream.transport.write(reply)
        self.finish(monotonic())

    def fail(self, error: UpstreamError) -> None:
        """The upstream cannot answer: say so if nothing was said yet, else break off visibly."""
        self.accounting.fault = error.word
        extra = {"fault": error.word, "request_id": self.request_id.decode("latin-1")}
        self.context.log.warning("%s", error, extra=extra)
        if self.accounting.status:
            self.abandon()
        else:
            self._problem(error.status, RETRY_AFTER if error.status == 503 else b"")

    # From the client's side

    def on_downstream_full(self, *, full: bool) -> None:
        """The client has stopped reading the answer, or reads it again."""
        if self._leg is not None:
            self._leg.on_downstream_full(full=full)

    def on_bad_body(self, error: PeerError) -> None:
        """The request's body breaks the protocol: the upstream must not take it for complete."""
        self._drop()
        self._refuse_malformed(error)

    def on_refused(self) -> None:
        """The body was malformed before the exchange started; its connection has answered."""
        self.over = True
        self.context.metrics.in_flight -= 1

    def on_client_gone(self) -> None:
        """The client has disconnected."""
        if not self.over:
            self._break_off(accounting.CLIENT_GONE)

    def on_slow_reader(self) -> None:
        """The client reads the answer more slowly than the limits allow."""
        self.abandon(accounting.SLOW_READER)

    def on_deadline(self) -> None:
        """What the exchange waited for did not happen in time."""
        if self.over:
            return
        if self.accounting.status:  # an answer has begun, and its request does not end
            self.abandon(accounting.SLOW_REQUEST)
            return
        queued = self._leg is None or self._leg.connection is None
        unfinished = self.body is not None and not self.body.done
        self._drop()
        if unfinished and not self.downstream.flow.held:  # it is the client that is waited for
            self.accounting.fault = accounting.SLOW_REQUEST
            self._problem(408)
        elif queued:
            self.fail(UpstreamBusy("no upstream connection came free in time"))
        else:
            self.fail(UpstreamTimeout("no response head in time"))

    # The end

    def abandon(self, fault: str = "") -> None:
        """Break off: neither side may take what it has received for the whole.

        `fault` is a word of `accounting` for why, if that is not noted yet.
        """
        if not self.over:
            self._break_off(fault)
            self.downstream.on_aborted()

    def _break_off(self, fault: str) -> None:
        self._drop()
        self.accounting.fault = fault or self.accounting.fault
        if not self.accounting.status:
            self.accounting.status = _UNANSWERED
            self.accounting.fault = self.accounting.fault or accounting.CLIENT_GONE
        self._end(monotonic())

    def _drop(self) -> None:
        """Give up what is under way: the look-up, and the upstream leg."""
        if self._lookup is not None:
            self._lookup.cancel()
            self._lookup = None
        leg, self._leg = self._leg, None
        if leg is not None:
            leg.drop()

    def _end(self, now: float) -> None:
        self.over = True
        if self._stream is not None:
            self._stream.release()
        self._end_body()
        self.accounting.close(self, now)

    def _end_body(self) -> None:
        """Keep nothing more of the request's body."""
        self._gathering = None  # the two do not keep each other alive
        if self.staged is not None:
            self.staged.free()

    def finish(self, now: float) -> None:
        """The answer is written: count it, and return the connections."""
        self.over = True  # as `_end`, without the call that each request would pay for
        if self._stream is not None:
            self._stream.release()
        self.accounting.close(self, now)
        leg, self._leg = self._leg, None
        if leg is not None:
            leg.release(now)
        if self.body is not None:
            staged = self.staged
            if staged is not None and staged.room is not None:
                self._end_body()
            if not self.body.done:
                self.keep_alive = False  # what is left of the body is no request
            self.downstream.flow.release(NO_PEER | PEER_FULL)
        self.downstream.on_answered(now)
