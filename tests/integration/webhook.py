"""A receiver of Alertmanager's webhooks that keeps what people would have been told."""

import contextlib
import json
import threading
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Told = tuple[str, tuple[tuple[str, str], ...]]  # (firing | resolved, labels)


class Webhook:
    """What came, each notification once; `config` makes a real Alertmanager send every alert on its own."""

    def __init__(self) -> None:
        """Listen on a free port; `receiving` serves."""
        self.told: list[Told] = []
        webhook = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                """Take a notification."""
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                for alert in body["alerts"]:
                    webhook.told.append((alert["status"], tuple(sorted(alert["labels"].items()))))
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)

    @property
    def config(self) -> dict[str, Any]:
        """Give a configuration of Alertmanager."""
        url = f"http://127.0.0.1:{self.server.server_address[1]}/"
        receiver = {"name": "webhook", "webhook_configs": [{"url": url, "send_resolved": True}]}
        route = {
            "receiver": "webhook", "group_by": ["..."], "group_wait": "0s", "group_interval": "1s",
            "repeat_interval": "24h",
        }  # fmt: skip
        return {"route": route, "receivers": [receiver]}

    def counted(self) -> Counter[Told]:
        """Count what people were told."""
        return Counter(self.told)


@contextlib.contextmanager
def receiving() -> Iterator[Webhook]:
    """Give a receiver that is gone in the end."""
    webhook = Webhook()
    thread = threading.Thread(target=webhook.server.serve_forever, daemon=True)
    thread.start()
    try:
        yield webhook
    finally:
        webhook.server.shutdown()
        webhook.server.server_close()
        thread.join()
