"""Who is told by an Alertmanager: a receiver of its notifications, and the configuration that names it."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Notified:
    """Where Alertmanager sends its notifications: `heard` are (status, alertname, severity), in order."""

    def __init__(self) -> None:
        """Listen on a free port."""
        heard: list[tuple[str, str, str]] = []

        class Receiver(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                said = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                heard.extend(
                    (one["status"], one["labels"]["alertname"], one["labels"]["severity"])
                    for one in said["alerts"]
                )
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self.heard = heard
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
        self.url = f"http://127.0.0.1:{self._server.server_port}/"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()

    def of(self, alertname: str, severity: str) -> list[str]:
        """Give what was heard of an alert."""
        return [status for status, *which in self.heard if which == [alertname, severity]]


def telling(notified: Notified, group_interval_s: int = 1) -> dict[str, object]:
    """Give a configuration of Alertmanager that notifies of each alert by itself, at once and once."""
    route = {
        "receiver": "told", "group_by": ["..."], "group_wait": "0s", "group_interval": f"{group_interval_s}s",
        "repeat_interval": "1h",
    }  # fmt: skip
    told = {"name": "told", "webhook_configs": [{"url": notified.url, "send_resolved": True}]}
    return {"route": route, "receivers": [told]}
