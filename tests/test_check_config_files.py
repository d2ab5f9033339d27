"""Files that settings name: those that a start reads, and those that a run writes."""

import os
from pathlib import Path

import pytest

from engine.check_config import check

NAMED_FILES = {
    "headroom.learned_file": "headroom: {learned_file: FILE}",
    "engine.call_key_file": "engine: {call_key_file: FILE}",
    "engine.label_key_file": "engine: {label_key_file: FILE}",
    "engine.learned_limits_file": "engine: {learned_limits_file: FILE}",
    "kafka.sasl_password_file": "kafka: {security_protocol: SASL_SSL, sasl_mechanism: PLAIN, "
    "sasl_username: me, sasl_password_file: FILE}",
    "kafka.ca_file": "kafka: {security_protocol: SSL, ca_file: FILE}",
    "alertmanager.password_file": "alertmanager: {urls: ['https://a:1'], username: me, password_file: FILE}",
    "alertmanager.ca_file": "alertmanager: {urls: ['https://a:1'], ca_file: FILE}",
    "web.token_file": "web: {token_file: FILE}",
    "web.config_file": "web: {config_file: FILE}",
}
WRITTEN_FILES = (
    "timeline: {path: FILE}", "quarantine: {path: FILE}", "engine: {learned_limits_file: FILE}",
)  # fmt: skip


@pytest.mark.parametrize("setting", NAMED_FILES)
def test_a_file_that_a_setting_names_is_read_as_a_start_would(tmp_path: Path, setting: str) -> None:
    """Empty: no key, no password, no certificate, nothing learned."""
    config, named = tmp_path / "engine.yaml", tmp_path / "named"
    config.write_text(NAMED_FILES[setting].replace("FILE", str(named)))
    named.write_text("")

    report = check(config, environment={})

    (problem,) = report.problems
    assert str(named) in problem
    assert report.exit_code == 2


@pytest.mark.parametrize(
    "settings",
    [
        NAMED_FILES["kafka.sasl_password_file"].replace("FILE", "B, ca_file: A"),
        "alertmanager: {urls: ['https://a:1'], username: me, ca_file: A, password_file: B}",
        "web: {config_file: A, token_file: B}",
        "web: {admin_listen: '127.0.0.1:0', admin_config_file: A, admin_token_file: B}",
    ],
)
def test_two_files_that_are_not_there_are_both_told(tmp_path: Path, settings: str) -> None:
    """One that hid the other would cost a second round."""
    config, one, other = tmp_path / "engine.yaml", tmp_path / "one", tmp_path / "other"
    config.write_text(settings.replace(": A", f": {one}").replace(": B", f": {other}"))

    first, second = sorted(
        check(config, environment={}).problems, key=lambda problem: str(one) not in problem
    )

    assert str(one) in first
    assert str(other) in second


@pytest.mark.parametrize("below", ["", "/of/checkpoints"])
def test_a_folder_of_checkpoints_that_cannot_be_one_is_a_problem(tmp_path: Path, below: str) -> None:
    """A run would go on without, and read back for hours after a restart."""
    config, file = tmp_path / "engine.yaml", tmp_path / "state"
    config.write_text(f"state: {{folder: {file}{below}}}")
    file.write_text("")

    (problem,) = check(config, environment={}).problems

    assert f"{file} is not a folder" in problem


def test_a_folder_of_checkpoints_may_be_made_by_the_run(tmp_path: Path) -> None:
    """Made by the check, it would belong to whoever checks."""
    config, folder = tmp_path / "engine.yaml", tmp_path / "state" / "of" / "checkpoints"
    config.write_text(f"state: {{folder: {folder}}}")

    assert check(config, environment={}).problems == ()
    assert not folder.parent.parent.exists()


@pytest.mark.parametrize("setting", WRITTEN_FILES)
def test_a_file_that_no_run_can_write_is_a_problem(tmp_path: Path, setting: str) -> None:
    """No run makes the folder: what belongs into the file would be lost, line by line."""
    config, folder = tmp_path / "engine.yaml", tmp_path / "of" / "files"
    state = f"state: {{folder: {folder}}}\n"
    setting = setting.replace("FILE", f"{folder}/a.json")

    config.write_text(setting)
    (problem,) = check(config, environment={}).problems
    assert f"there is no {folder}" in problem

    config.write_text(state + setting)  # Which a run makes.
    assert check(config, environment={}).problems == ()

    folder.mkdir(parents=True)
    config.write_text(setting)
    assert check(config, environment={}).problems == ()


def test_a_folder_is_no_file_to_write(tmp_path: Path) -> None:
    config = tmp_path / "engine.yaml"
    config.write_text(f"timeline: {{path: {tmp_path}}}")

    (problem,) = check(config, environment={}).problems

    assert f"{tmp_path} is a folder" in problem


@pytest.mark.skipif(os.getuid() == 0, reason="root may write anywhere")
def test_a_folder_of_checkpoints_that_belongs_to_others_is_a_problem(tmp_path: Path) -> None:
    config = tmp_path / "engine.yaml"
    config.write_text(f"state: {{folder: {tmp_path / 'state'}}}")
    (tmp_path / "state").mkdir(mode=0o500)

    (problem,) = check(config, environment={}).problems

    assert "this user may not write to" in problem


@pytest.mark.parametrize("setting", WRITTEN_FILES[:2])
@pytest.mark.parametrize("kind", ["pipe", "link"])
def test_lines_go_into_regular_files_alone(tmp_path: Path, setting: str, kind: str) -> None:
    """A run would lose each line: where a pipe or a link leads, others may read."""
    config, path = tmp_path / "engine.yaml", tmp_path / "lines"
    if kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to(tmp_path / "elsewhere")
    config.write_text(setting.replace("FILE", str(path)))

    (problem,) = check(config, environment={}).problems

    assert f"{path} is not a regular file" in problem


def test_problems_of_all_files_are_told_at_once(tmp_path: Path) -> None:
    config = tmp_path / "engine.yaml"
    config.write_text(
        "engine: {call_key_file: /no-key, label_key_file: /no-label}\nweb: {token_file: /no-token}"
    )

    assert len(check(config, environment={}).problems) == 3


def test_the_inferred_limits_are_there_only_after_a_run(tmp_path: Path) -> None:
    config = tmp_path / "engine.yaml"
    config.write_text(f"engine: {{learned_limits_file: {tmp_path / 'later.json'}}}")

    assert check(config, environment={}).problems == ()
