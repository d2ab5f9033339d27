"""A tool that a test needs is there, or the test says so; in CI it fails."""

import pytest

from tests.integration.servers import ServerMissing, tool, without

MISSING = ServerMissing("no promtool on the PATH")


def test_without_a_tool_a_test_is_skipped_and_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    """On somebody's own machine a missing tool is no error of the code."""
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match="promtool"):
        without(MISSING)


def test_without_a_tool_a_test_fails_in_ci(monkeypatch: pytest.MonkeyPatch) -> None:
    """A check that is skipped silently would stay skipped for ever."""
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="promtool"):
        without(MISSING)


def test_a_tool_that_is_there_is_given_by_its_path() -> None:
    """Whichever of its names it has."""
    assert tool("no-such-shell", "sh", package="dash").endswith("/sh")
