"""The bytes of a WebSocket handshake, with the key from the example in RFC 6455 section 1.3."""

from __future__ import annotations

from typing import Final

KEY: Final = "dGhlIHNhbXBsZSBub25jZQ=="
ASK: Final = (
    *("Connection: Upgrade", "Upgrade: websocket"),
    *("Sec-WebSocket-Version: 13", f"Sec-WebSocket-Key: {KEY}"),
)
ACCEPT: Final = b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
SWITCH: Final = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Accept: " + ACCEPT + b"\r\n\r\n"
)
