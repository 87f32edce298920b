"""One request and its answer, from the parsed head to the last byte.

Owns the decision and what follows from it: forwarding, an answer of our own, or breaking off; and
what is counted and logged. The way to the upstream and back is `Relay`'s.
"""

from __future__ import annotations

from time import monotonic, time
from typing import TYPE_CHECKING

from sidecar.auth.gate import Allow, Deny, NeedSession
from sidecar.auth.reason import Reason
from sidecar.errors import StoreUnavailable, UpstreamBusy, UpstreamTimeout
from sidecar.proxy import verify
from sidecar.proxy.flow import NO_PEER, PEER_FULL
from sidecar.proxy.lasting import Lasting
from sidecar.sessions import outage
from sidecar.sessions.check import look_up
from sidecar.wire.replies import DOCUMENTS, RETRY_AFTER, problem, redirect

if TYPE_CHECKING:
    import asyncio

    from sidecar.auth.routes import Route
    from sidecar.errors import PeerError, UpstreamError
    from sidecar.proxy.context import DataPlaneContext
    from sidecar.proxy.downstream import Downstream
    from sidecar.proxy.verify import Dialect
    from sidecar.telemetry.access_log import AccessLog
    from sidecar.wire.framing import Body
    from sidecar.wire.head import RequestHead


class Exchange(Lasting):
    """The state of one request."""

    reason: Reason | None = None  # it was denied for
    task: asyncio.Task[None] | None = None  # the session look-up
    dialect: Dialect | None = None  # of a subrequest
    asked: RequestHead | None = None  # the original request, where a subrequest tells it
    _wanted: Body | None = None  # the request's, which is gathered before it goes on
    _gathered = 0  # octets of it

    def __init__(
        self, context: DataPlaneContext, downstream: Downstream, head: RequestHead
    ) -> None:
        self.context = context
        self.downstream = downstream
        self.head = head
        self.began = monotonic()
        self.request_id = head.request_id or next(context.request_ids)
        context.metrics.in_flight += 1

    def __repr__(self) -> str:
        return f"<Exchange {self.head!r} status={self.status} over={self.over}>"

    # Decision

    def start(self) -> None:
        """Decide, and act on it at once if the session is known here."""
        context = self.context
        head = self.head
        route = self.route = context.routes.match(head.method, head.host, head.path)
        if context.metrics.in_flight > context.limits.requests:
            self.dialect = verify.find_dialect(head) if route.target == "verify" else None
            self._deny(context.gate.deny(Reason.OVERLOADED))  # before anything is decided or read
            return
        if route.target == "verify":
            dialect = self.dialect = verify.find_dialect(head)
            if dialect is None:
                self._problem(404)
                return
            forwarding = self.downstream.forwarding
            subject = verify.read_subject(dialect, head, context.routes, forwarding)
            if isinstance(subject, Deny):
                self._deny(subject)
                return
            route, self.asked = subject
            if route.unasked:
                self.on_preflight()
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
                if self.body is not None:
                    self.downstream.flow.hold(NO_PEER)
                self.task = context.tasks.spawn(
                    self._look_up(route, decision), name="session look-up"
                )
                return
        self._decided(decision)

    async def _look_up(self, route: Route, need: NeedSession) -> None:
        """Ask the store, then go on; cancelled when the client leaves."""
        context = self.context
        try:
            session = await look_up(context.store, need)
        except StoreUnavailable:
            decision = outage.decide(context.gate, context.store, route, need, time())
        else:
            decision = context.gate.resume(route, need, session, time())
        self.task = None
        if not self.over:
            self._decided(decision)

    def _decided(self, decision: Allow | Deny) -> None:
        if isinstance(decision, Deny):
            self._deny(decision)
            return
        self.allow = decision
        context = self.context
        context.metrics.allowed += 1
        route = self.route
        target = route.target
        if target == "verify":
            self.status = 200
            close = not self._may_keep()
            answer = verify.allowed(decision.identity, self.request_id, close=close)
            self.downstream.transport.write(answer)
            self.finish(monotonic())
        elif target == "api" and self.body is not None and not self.body.done:
            # Its few connections are not for clients that send an octet a second.
            self._wanted = self.body
            self._gathered = sum(map(len, self.unsent or ()))
            self.downstream.expect(self.began, context.limits.form_timeout)
            if self.head.expect_continue and self.head.minor:
                self.continued = True
                self.downstream.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        else:
            self.forward(context.upstreams[target], decision.identity, route.upgrades)

    def on_request_body(self, data: bytes) -> None:
        """More of the body: gathered for the control plane, else for the relay."""
        if self._wanted is None or self.allow is None:
            super().on_request_body(data)
            return
        if self.unsent is None:
            self.unsent = []
        self.unsent.append(data)
        self._gathered += len(data)
        if self._gathered > self.context.limits.form_size:
            self._problem(413)
        elif self._wanted.done:
            self._wanted = None
            self.forward(self.context.upstreams["api"], self.allow.identity, frozenset())

    def _deny(self, deny: Deny) -> None:
        context = self.context
        reason = self.reason = deny.reason
        context.metrics.denied[reason.label] += 1
        if reason is Reason.KEY_UNKNOWN and context.on_unknown_key is not None:
            context.on_unknown_key()
        status = reason.status
        headers = b"WWW-Authenticate: %b\r\n" % deny.challenge if deny.challenge else b""
        dialect = self.dialect
        if dialect is not None:
            status = dialect.statuses.get(status, status)
        asked = self.head if dialect is None else self.asked
        if status == 401 and context.login_url and asked is not None:
            if dialect is not None and not dialect.redirects:
                headers += verify.login_location(context.login_url, asked.target)
            elif verify.is_navigation(asked):
                origin = verify.origin_for(dialect, asked, self.downstream.forwarding)
                headers += verify.login_location(context.login_url, asked.target, origin)
                close = not self._may_keep()
                self._reply(302, redirect(self.request_id, headers=headers, close=close))
                return
        self._problem(status, headers + (RETRY_AFTER if status == 503 else b""))

    # Answers of our own

    def _may_keep(self) -> bool:
        """Whether the client's connection can serve another request after a reply of our own."""
        head = self.head
        keep = head.keep_alive and head.minor == 1 and not self.context.draining
        if self.body is not None and not self.body.done:
            keep = False  # what is left of the body would be read as the next request
        self.keep_alive = keep
        return keep

    def _problem(self, status: int, headers: bytes = b"") -> None:
        forms = self.context.pages if verify.shows_page(self.asked or self.head) else DOCUMENTS
        close, body = not self._may_keep(), not self.to_head
        reply = problem(status, self.request_id, forms, headers=headers, close=close, body=body)
        self._reply(status, reply)

    def _reply(self, status: int, reply: bytes) -> None:
        self.status = status
        self.downstream.transport.write(reply)
        self.finish(monotonic())

    def fail(self, error: UpstreamError) -> None:
        """The upstream cannot answer: say so if nothing was said yet, else break off visibly."""
        self.fault = error.word
        extra = {"fault": error.word, "request_id": self.request_id.decode("latin-1")}
        self.context.log.warning("%s", error, extra=extra)
        if self.status:
            self.abandon()
        else:
            self._problem(error.status, RETRY_AFTER if error.status == 503 else b"")

    def abandon(self) -> None:
        """Break off: neither side may take what it has seen for the whole."""
        if self.over:
            return
        self._drop()
        self.over = True
        now = monotonic()
        self.count(now)
        self.downstream.on_exchange_over(self, now, aborted=True)

    # From the client's side

    def on_bad_body(self, error: PeerError) -> None:
        """The request's body breaks the rules: nothing of it may look complete to the upstream."""
        self._drop()
        self.fault = "bad_body"
        if self.status:
            self.abandon()
        else:
            self._problem(error.status)

    def on_refused(self) -> None:
        """The body was malformed before anything had begun; its connection has answered it."""
        self.over = True
        self.context.metrics.in_flight -= 1

    def on_client_gone(self) -> None:
        """Nobody waits for the answer any more."""
        if self.over:
            return
        self._drop()
        self.fault = "client_gone"
        self.status = self.status or 499  # nginx's word for it; only counted, never sent
        self.over = True
        self.count(monotonic())

    def on_deadline(self) -> None:
        """Something did not happen in time."""
        if self.over:
            return
        if self.status:  # an answer has begun, and its request does not end
            self.fault = "slow_request"
            self.abandon()
            return
        in_line = self.connection is None
        unfinished = self.body is not None and not self.body.done
        self._drop()
        if self._wanted is not None:
            self.fault = "slow_request"
            self._problem(408)
        elif in_line:
            self.fail(UpstreamBusy("no upstream connection came free in time"))
        elif unfinished and not self.downstream.flow.held:
            self.fault = "slow_request"
            self._problem(408)
        else:
            self.fail(UpstreamTimeout("no response head in time"))

    # The end

    def _drop(self) -> None:
        if self.task is not None:
            self.task.cancel()
            self.task = None
        self.drop_upstream()

    def finish(self, now: float) -> None:
        """The answer is written: count it, give the connections back."""
        self.over = True
        self.count(now)
        if self.connection is not None:
            self.release_upstream(now)
        if self.body is not None:
            if not self.body.done:
                self.keep_alive = False  # what is left of the body is no request
            self.downstream.flow.release(NO_PEER | PEER_FULL)
        self.downstream.on_exchange_over(self, now, aborted=False)

    def count(self, now: float) -> None:
        """Count the request, and write it down where that is wanted."""
        context = self.context
        if self.watched is not None:
            self.watched.release()
        context.metrics.in_flight -= 1
        counted = context.route_metrics[self.route.name]
        counted.codes[self.status] += 1
        counted.duration.observe(now - self.began)
        if self.upstream_time:
            counted.upstream.observe(self.upstream_time)
        if context.access_log is not None and (context.log_all or self.reason is not None):
            self._log(context.access_log, now)

    def _log(self, log: AccessLog, now: float) -> None:
        head = self.head
        allow = self.allow
        log.record(
            time(),
            self.request_id,
            self.downstream.forwarding.client(head),
            head.method,
            head.path,
            self.route.name,
            self.status,
            self.reason.label if self.reason is not None else self.fault,
            now - self.began,
            self.upstream_time or None,
            allow.subject if allow is not None else "",
            allow.session_id if allow is not None else "",
        )
