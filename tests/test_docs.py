"""The documents against the program: what it can say is explained, what they name exists, and their examples run.

Blocks marked `sh` are commands: in quickstart.md and clients.md they are run from top to bottom in one shell, and a `json` or
`text` block after one shows its output. Commands anywhere else are looked up, with their options.
"""

from __future__ import annotations

import ast
import json
import re
import shlex
import shutil
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import fields
from functools import cache
from pathlib import Path
from typing import Any

import click
import pytest

from api.app import routes
from api.errors import _HTTP_CODES
from api.metrics import Metrics
from cli.embedded.claim import make_private_dir, write_private
from cli.home import Home
from cli.main import cli
from schema.settings import Settings
from schema.tables import TABLES
from tests.markdown import Block, Document, differences_of_json, is_text_as_shown
from tests.servers import Database, Stack, clean_environ

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("schema", "cdc", "api", "cli")
DOCUMENTS = {
    str(path.relative_to(ROOT)): Document(path)
    for path in (ROOT / "README.md", ROOT / "ARCHITECTURE.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md")))
}
CLIENTS, OPERATORS = DOCUMENTS["docs/clients.md"], DOCUMENTS["docs/operators.md"]

TOLD_TO_CLIENTS = {"SyncError": 1, "Refused": 0, "Breach": 0, "_conflict": 2}
TOLD_TO_OPERATORS = {
    "Halt": 0,
    "StartError": 0,
    "Retry": 0,
    "Standby": 0,
    "LeaseLost": 0,
    "fatal": 0,
    "warning": 0,
    "_halt": 0,
    "Finding": 1,
    "_finding": 1,
}
"""What makes an error or a finding, and which of its arguments is the code."""
LEVELS = ("debug", "info", "warning", "error")


@cache
def calls(*packages: str) -> tuple[tuple[str, ast.Call], ...]:
    """Every call in the sources: the name or attribute that is called, and the call."""
    trees = [ast.parse(path.read_text()) for package in packages for path in sorted((ROOT / package).rglob("*.py"))]
    found = [node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Call)]
    return tuple((name_of(node.func), node) for node in found)


def name_of(node: ast.expr) -> str:
    """`name` or `name.attribute`; nothing for what is more than that."""
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
        return f"{node.value.id}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def texts(node: ast.expr) -> list[str]:
    """The texts that an argument may be: a constant, or one of a conditional's. A name or an f-string is not known here."""
    if isinstance(node, ast.IfExp):
        return [*texts(node.body), *texts(node.orelse)]
    return [node.value] if isinstance(node, ast.Constant) and isinstance(node.value, str) else []


def codes(places: Mapping[str, int], *packages: str) -> set[str]:
    """The codes given to these calls."""
    found: set[str] = set()
    for name, call in calls(*packages):
        if name in places and len(call.args) > places[name]:
            found |= set(texts(call.args[places[name]]))
    return found


def log_events() -> set[str]:
    """The first argument of every `log.info(…)` and the like."""
    return {
        text
        for name, call in calls(*PACKAGES)
        if name in {f"log.{level}" for level in LEVELS} and call.args
        for text in texts(call.args[0])
    }


def named_in(document: Document) -> set[str]:
    """What stands alone in backticks."""
    return set(document.inline_code())


def commands_of(group: click.Group, *words: str) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Every command that does something, with the words that lead to it."""
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        if isinstance(command, click.Group):
            yield from commands_of(command, *words, name)
        else:
            yield (*words, name), command


COMMANDS = dict(commands_of(cli))


def test_every_code_a_client_can_be_told_is_explained() -> None:
    told = codes(TOLD_TO_CLIENTS, "api", "schema") | set(_HTTP_CODES.values()) | {"http_error"}
    assert {"malformed", "reset_required", "changed", "group_refused", "not_found"} <= told
    assert sorted(told - named_in(CLIENTS)) == []


def test_every_code_an_operator_can_be_told_is_explained() -> None:
    told = codes(TOLD_TO_OPERATORS, *PACKAGES)
    assert {"binlog_purged", "transactions_lost", "schema_differs", "partial_json", "tailer_running"} <= told
    assert sorted(told - named_in(OPERATORS)) == []


def test_the_sections_that_hints_name_exist() -> None:
    for path in (path for package in PACKAGES for path in (ROOT / package).rglob("*.py")):
        for page, title in re.findall(r"see (docs/\w+\.md), “([^”]+)”", path.read_text()):
            assert re.search(rf"^#+ {re.escape(title)}$", DOCUMENTS[page].text, re.MULTILINE), f"{path.name}: {title}"


def test_every_setting_is_explained_with_its_default() -> None:
    rows = [re.findall(r"`([^`]*)`", line) for line in OPERATORS.text.splitlines() if line.startswith("| `")]
    shown = {row[0]: row[1] if len(row) > 1 else None for row in rows}
    for field in fields(Settings):
        assert field.name in shown, f"{field.name} is not explained"
        assert shown[field.name] == (str(field.default) or "empty"), f"{field.name}: default {field.default!r}"


def test_every_setting_that_is_explained_exists() -> None:
    section = OPERATORS.text.partition("\n## Settings\n")[2].partition("\n## ")[0]
    explained = re.findall(r"^\| `(\w+)`", section, re.MULTILINE)
    assert explained and not set(explained) - {field.name for field in fields(Settings)}


def test_every_command_is_explained() -> None:
    for words, command in COMMANDS.items():
        assert f"matrix-sync {' '.join(words)}" in OPERATORS.text
        for parameter in command.params:
            if isinstance(parameter, click.Option) and "--help" not in parameter.opts:
                assert parameter.opts[0] in OPERATORS.text, f"{' '.join(words)} {parameter.opts[0]}"


def test_every_log_event_is_explained() -> None:
    events = log_events()
    assert {"running", "halted", "appended", "request"} <= events
    assert sorted(events - named_in(OPERATORS)) == []


def test_every_metric_is_explained() -> None:
    for family in Metrics(0).registry.collect():
        assert family.name in OPERATORS.text


def test_every_route_is_explained() -> None:
    of_tables = {f"/api/{name}" for name in TABLES} | {f"/api/{name}/{{id}}" for name in TABLES}
    for route in routes():
        path = re.sub(rf"^/api/({'|'.join(TABLES)})(?=/|$)", "/api/{table}", route.path) if route.path in of_tables else route.path
        assert f"{route.method} {path}" in CLIENTS.text or f"{route.method} {path}" in OPERATORS.text, f"{route.method} {path}"


def test_every_table_and_its_policy_stand_in_the_clients_page() -> None:
    for table in TABLES.values():
        assert re.search(rf"^\| `{table.name}` .*\| {table.policy.value} \|$", CLIENTS.text, re.MULTILINE), table.name


@pytest.mark.parametrize("name", DOCUMENTS)
def test_links_lead_somewhere(name: str) -> None:
    document = DOCUMENTS[name]
    for target in document.links():
        if target.startswith(("http://", "https://")):
            continue
        file, _, section = target.partition("#")
        path = (document.path.parent / file).resolve() if file else document.path
        assert path.exists(), target
        if section:
            assert section in Document(path).anchors(), target


@pytest.mark.parametrize("name", DOCUMENTS)
def test_files_that_are_named_exist(name: str) -> None:
    for code in DOCUMENTS[name].inline_code():
        if re.fullmatch(r"(sql|schema|cdc|api|cli|tests|docs|scripts)/[\w.*/-]*", code):
            assert list(ROOT.glob(code)), code


@pytest.mark.parametrize("name", DOCUMENTS)
def test_commands_that_are_named_exist_with_their_options(name: str) -> None:
    document = DOCUMENTS[name]
    lines = [line for block in document.blocks("sh", "console") for line in block.text.splitlines()]
    for text in [*document.inline_code(), *lines]:
        check_command(text)


@pytest.mark.parametrize("package", PACKAGES)
def test_commands_that_hints_name_exist(package: str) -> None:
    for path in sorted((ROOT / package).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.keyword) and node.arg == "hint":
                for text in re.findall(r"`(matrix-sync [^`]*)`|(?:^|: )(matrix-sync .*)", " ".join(texts(node.value))):
                    check_command("".join(text))


def check_command(text: str) -> None:
    """Where a text is a command line of ours, or of make, it must be one that exists."""
    words = text.removeprefix("$ ").split()
    while words and re.fullmatch(r"[A-Z_]+=\S*", words[0]):
        words = words[1:]
    if words[:1] == ["make"] and len(words) > 1:
        phony = re.search(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
        assert phony and words[1] in phony[1].split(), text
    if words[:1] not in (["matrix-sync"], [".venv/bin/matrix-sync"]) or len(words) < 2:
        return
    if words[1].startswith("-"):
        return
    found = next((known for known in COMMANDS if tuple(words[1 : 1 + len(known)]) == known), None)
    groups = {known[0] for known in COMMANDS if len(known) > 1}
    assert found or (len(words) == 2 and words[1] in groups), f"no such command: {text}"
    if found:
        known_options = {option for parameter in COMMANDS[found].params for option in parameter.opts} | {"--help"}
        for option in re.findall(r"(?<!\S)--[a-z-]+", text):
            assert option in known_options, f"no such option: {option} in {text}"


def test_the_changelog_has_this_version() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert re.search(rf"^## \[{re.escape(version)}\] - \d{{4}}-\d\d-\d\d$", DOCUMENTS["CHANGELOG.md"].text, re.MULTILINE)


MARK = "=== block"


@pytest.fixture
def installation(stack: Stack, database: Database, tailer: Any, tmp_path: Path) -> dict[str, str]:
    """A directory as `make up` leaves it, with tailer and API running; returns the environment of a shell in it."""
    serve = stack.spawn("serve", "--port", "0", environ=database.environ)
    url = wait_for_url(serve)
    home = Home(tmp_path / ".matrix-sync")
    make_private_dir(home.path / "mysql")
    write_private(home.settings, Path(database.environ["SYNC_CONFIG"]).read_text())
    write_private(home.run, json.dumps({"api_url": url, "demo": {"email": "demo@example.com", "password": "not-a-secret"}}))
    write_sql_client(stack, database, home)
    python = tmp_path / ".venv" / "bin" / "matrix-sync"
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\nPYTHONPATH={shlex.quote(str(ROOT))} exec {sys.executable} -P -m cli.main "$@"\n')
    python.chmod(0o700)
    return {**clean_environ(), "API": url}


def wait_for_url(serve: Any) -> str:
    """The URL of a `serve` once it listens."""
    deadline = time.monotonic() + 30
    while not (found := re.search(r"listening on (\S+)", serve.output())):
        assert serve.is_running and time.monotonic() < deadline, serve.output()
        time.sleep(0.05)
    return found[1]


def write_sql_client(stack: Stack, database: Database, home: Home) -> None:
    """`bin/mysql`: MySQL's own where the server is ours and has one, else a few lines that print rows as it does."""
    if stack.mysql is not None and home.write_mysql_client(stack.mysql, database.name) is not None:
        return
    client = home.path / "bin" / "mysql"
    client.parent.mkdir()
    client.write_text(f"#!{sys.executable}\n{_SQL_CLIENT.format(root=str(ROOT), config=database.environ['SYNC_CONFIG'])}")
    client.chmod(0o700)


_SQL_CLIENT = """
import sys
sys.path.insert(0, {root!r})
from pathlib import Path
from schema.connect import open_connection
from schema.settings import Settings
with open_connection(Settings.load(Path({config!r}), env={{}}).admin()) as connection, connection.cursor() as cursor:
    cursor.execute(sys.argv[sys.argv.index("-e") + 1])
    if cursor.description:
        print("\\t".join(column[0] for column in cursor.description))
        for row in cursor.fetchall():
            print("\\t".join(str(value) for value in row))
    connection.commit()
"""


def register_demo(installation: Mapping[str, str]) -> None:
    """The login of `make up`: company 1, user 1, versions 2 and 3."""
    body = json.dumps({"name": "Demo", "company_name": "Demo Company", "email": "demo@example.com", "password": "not-a-secret"})
    command = ["curl", "-sSf", f"{installation['API']}/api/auth/register", "-H", "Content-Type: application/json", "-d", body]
    subprocess.run(command, check=True, capture_output=True)


@pytest.mark.skipif(not (shutil.which("bash") and shutil.which("curl")), reason="no bash or no curl here")
@pytest.mark.parametrize("name", ["docs/quickstart.md", "docs/clients.md"])
def test_examples_run_and_answer_as_shown(name: str, installation: dict[str, str], tmp_path: Path) -> None:
    if name == "docs/quickstart.md":
        register_demo(installation)
    document = DOCUMENTS[name]
    examples = [(block, shown) for block, shown in pairs(document) if block.language == "sh"]
    script = "set -euo pipefail\n" + "".join(f"{block.text}\necho '{MARK}'\n" for block, _ in examples)
    done = subprocess.run(
        ["bash", "-c", script], cwd=tmp_path, env=installation, capture_output=True, text=True, timeout=120, check=False
    )
    outputs = done.stdout.split(f"{MARK}\n")
    assert done.returncode == 0, f"after {len(outputs) - 1} blocks: {done.stderr}\n{outputs[-1]}"
    for (block, shown), output in zip(examples, outputs, strict=False):
        if shown is not None:
            check_output(f"{name}:{block.line}", shown, output)


def pairs(document: Document) -> Iterator[tuple[Block, Block | None]]:
    """Each block with the one that shows its output, where the next one does."""
    blocks = document.blocks()
    for block, following in zip(blocks, [*blocks[1:], None], strict=True):
        yield block, following if following is not None and following.language in ("json", "text") else None


def check_output(where: str, shown: Block, output: str) -> None:
    if shown.language == "json":
        found = list(differences_of_json(json.loads(shown.text), json.loads(output)))
        assert not found, f"{where}: {found}\n{output}"
    else:
        assert is_text_as_shown(shown.text, output), f"{where}:\n{output}"
