"""The HTML that people see: an index of limits and alerts, and one page per alert.

Plain tables without scripts, fonts or anything from elsewhere: they are read in a hurry, over bad lines, and
maybe while half the network is down. Everything is escaped; only http and https addresses become links.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from jinja2 import DictLoader, Environment, StrictUndefined

from engine.deliver.timestamps import rfc3339

if TYPE_CHECKING:
    from collections.abc import Sequence

    from engine.judge.lifecycle import Alert
    from engine.judge.snapshot import LimitStatus

_LAYOUT = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{% block title %}callgauge{% endblock %}</title>
<style>
body { font: 16px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 64rem; padding: 0 1rem; }
table { border-collapse: collapse; margin: .5rem 0 1.5rem; }
th, td { text-align: left; vertical-align: top; padding: .25rem .9rem .25rem 0; }
tr { border-bottom: 1px solid #ddd; }
td.n { text-align: right; font-variant-numeric: tabular-nums; }
.critical, .reached, .firing { color: #b00020; font-weight: 600; }
.warning { color: #8a5a00; font-weight: 600; }
.note { color: #555; }
</style></head><body>
{% block body required %}{% endblock %}
</body></html>"""

_INDEX = """{% extends "layout" %}{% block body %}
<h1>callgauge</h1>
<p class="note">{{ age }}</p>
<h2>Limits</h2>
{% if limits %}<table>
<tr><th>limit</th><th>used</th><th>value</th><th>expected</th><th>probability</th><th>time to limit</th>
<th>declined</th><th>owner</th><th>state</th></tr>
{% for status in limits %}<tr>
<td>{{ status.limit }}{% for name, value in status.split %} {{ name }}={{ value }}{% endfor %}</td>
<td class="n">{{ status.used | figure }}</td><td class="n">{{ status.value | figure }}</td>
<td class="n">{{ status.expected_used | figure }}</td><td class="n">{{ status.probability | figure(2) }}</td>
<td class="n">{{ status.time_to_limit_s | duration }}</td><td class="n">{{ status.declined_total }}</td>
<td>{{ status.owner }}</td><td class="{{ status.state }}">{{ status.state }}</td></tr>
{% endfor %}</table>{% elif is_read %}<p>No limit is in the register.</p>
{% else %}<p>Limits are shown once the first event has been read.</p>{% endif %}
<h2>Alerts</h2>
{% if alerts %}<table><tr><th>alert</th><th>severity</th><th>state</th><th>since</th><th>summary</th></tr>
{% for key, alert in alerts %}<tr><td><a href="alerts/{{ key }}">{{ alert.name }}</a></td>
<td class="{{ alert.severity }}">{{ alert.severity }}</td><td class="{{ alert.state }}">{{ alert.state }}</td>
<td>{{ alert.since }}</td><td>{{ alert.summary }}</td></tr>
{% endfor %}</table>{% else %}<p>No alert is active.</p>{% endif %}
<p class="note"><a href="api/v1/headroom">headroom</a> &middot; <a href="api/v1/alerts">alerts</a> &middot;
<a href="metrics">metrics</a></p>
{% endblock %}"""

_ALERT = """{% extends "layout" %}{% block title %}{{ name }}{% endblock %}{% block body %}
<h1>{{ name }} <span class="{{ alert.state }}">{{ alert.state }}</span></h1>
{% if "summary" in annotations %}<p><strong>{{ annotations["summary"] }}</strong></p>{% endif %}
{% if "description" in annotations %}<p>{{ annotations["description"] }}</p>{% endif %}
{% if "action" in annotations %}<p>What to do: {{ annotations["action"] }}</p>{% endif %}
<h2>Life</h2>
<table>{% for what, when in life %}<tr><th>{{ what }}</th><td>{{ when }}</td></tr>{% endfor %}</table>
{% for status in limits %}<h2>Limit {{ status.limit }}</h2><table>
<tr><th>used</th><td>{{ status.used | figure }} of {{ status.value | figure }}</td></tr>
<tr><th>peak of the last slice</th><td>{{ status.peak | figure }}</td></tr>
<tr><th>expected</th><td>{{ status.expected_used | figure }}</td></tr>
<tr><th>probability</th><td>{{ status.probability | figure(2) }}</td></tr>
<tr><th>time to limit</th><td>{{ status.time_to_limit_s | duration }}
({{ status.time_to_limit_s_low | duration }} to {{ status.time_to_limit_s_high | duration }})</td></tr>
<tr><th>declined so far</th><td>{{ status.declined_total }}</td></tr>
<tr><th>owner</th><td>{{ status.owner }}</td></tr>
<tr><th>state</th><td class="{{ status.state }}">{{ status.state }}</td></tr></table>{% endfor %}
<h2>Labels</h2>
<table>{% for key, value in labels %}<tr><th>{{ key }}</th><td>{{ value }}</td></tr>{% endfor %}</table>
<h2>Annotations</h2><table>{% for key, text in annotations.items() %}<tr><th>{{ key }}</th>
<td>{% if text is web_address %}<a href="{{ text }}" rel="noreferrer">{{ text }}</a>
{% else %}{{ text }}{% endif %}</td></tr>{% endfor %}</table>
<p class="note">{{ age }} <a href="../">All limits and alerts</a></p>
{% endblock %}"""

_UNKNOWN = """{% extends "layout" %}{% block title %}No such alert{% endblock %}{% block body %}
<h1>This alert is not known any more</h1>
<p>Resolved alerts are shown for a short while. The timeline file keeps all of them.</p>
<p><a href="../">All limits and alerts</a></p>
{% endblock %}"""

SECONDS_PER_MINUTE, SECONDS_PER_HOUR = 60, 3600


def figure(value: float, digits: int = 1) -> str:
    """Write a number for people; a dash for what is not known."""
    if not math.isfinite(value):
        return "-"
    return f"{value:.{digits}f}".rstrip("0").rstrip(".") if digits else f"{value:.0f}"


def duration(seconds: float) -> str:
    """Write a time span for people."""
    if math.isnan(seconds):
        return "-"
    if math.isinf(seconds):
        return "not in sight"
    if seconds < SECONDS_PER_MINUTE:
        return f"{seconds:.0f} s"
    if seconds < SECONDS_PER_HOUR:
        return f"{seconds / SECONDS_PER_MINUTE:.0f} min"
    return f"{seconds / SECONDS_PER_HOUR:.1f} h"


def data_age(age_s: float | None) -> str:
    """Say how old the data is."""
    if age_s is None:
        return "No event has been read yet."
    return f"As of {duration(age_s)} ago."


def _is_web_address(text: str) -> bool:
    return text.startswith(("http://", "https://"))


def _environment() -> Environment:
    templates = {"layout": _LAYOUT, "index": _INDEX, "alert": _ALERT, "unknown": _UNKNOWN}
    environment = Environment(autoescape=True, loader=DictLoader(templates), undefined=StrictUndefined)
    environment.filters.update(figure=figure, duration=duration)
    environment.tests["web_address"] = _is_web_address
    return environment


_TEMPLATES = _environment()


def index_page(
    limits: Sequence[LimitStatus], alerts: Sequence[tuple[str, Alert]], age_s: float | None
) -> str:
    """Write the index; `alerts` are (fingerprint, alert)."""
    rows = []
    for key, alert in alerts:
        labels, annotations = dict(alert.labels), dict(alert.annotations)
        about: dict[str, Any] = {
            "name": labels.get("alertname", ""),
            "severity": labels.get("severity", ""),
            "state": alert.state,
            "since": rfc3339(alert.active_ns),
            "summary": annotations.get("summary", ""),
        }
        rows.append((key, about))
    return _TEMPLATES.get_template("index").render(
        limits=limits, alerts=rows, age=data_age(age_s), is_read=age_s is not None
    )


def alert_page(
    alert: Alert,
    labels: Sequence[tuple[str, str]],
    limits: Sequence[LimitStatus],
    age_s: float | None,
) -> str:
    """Write the page of one alert; `labels` are the full set as it was sent, `limits` those it speaks of."""
    moments = (
        ("first seen", alert.active_ns),
        ("fired", alert.fired_ns),
        ("last seen", alert.found_ns),
        ("resolved", alert.resolved_ns),
    )
    return _TEMPLATES.get_template("alert").render(
        name=dict(alert.labels).get("alertname", ""),
        alert=alert,
        labels=labels,
        annotations=dict(alert.annotations),
        limits=limits,
        life=[(what, rfc3339(moment)) for what, moment in moments if moment >= 0],
        age=data_age(age_s),
    )


def unknown_alert_page() -> str:
    """Write the page for an alert that is not there."""
    return _TEMPLATES.get_template("unknown").render()
