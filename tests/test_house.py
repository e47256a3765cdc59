"""Rules of the house that a linter cannot say. What import-linter can is in pyproject.toml."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import fields
from functools import cache
from pathlib import Path

import pytest

from schema.settings import Settings

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("schema", "cdc", "api", "cli")
MODULE_LINES_MAX = 400
FUNCTION_LINES_MAX = 60
SETTINGS_LINES_MAX = 200
ENVIRONMENT_READERS = ("schema/settings.py", "cli/")
OURS = ("README.md", "ARCHITECTURE.md", "CHANGELOG.md", "Makefile", "Dockerfile", "docker-compose.yml", "pyproject.toml")
DIRECTORIES = (*PACKAGES, "sql", "docs", "scripts", "tests", ".ci")
TEXT_FILES = {"", ".md", ".py", ".sql", ".toml", ".yml"}


@cache
def sources() -> dict[str, ast.Module]:
    """Every module of the program by its path from the root."""
    paths = [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]
    return {str(path.relative_to(ROOT)): ast.parse(path.read_text()) for path in paths}


def lines_of(module: str) -> int:
    return len((ROOT / module).read_text().splitlines())


def nodes(module: str, *types: type[ast.AST]) -> Iterator[ast.AST]:
    return (node for node in ast.walk(sources()[module]) if isinstance(node, types))


def text_files() -> Iterator[Path]:
    """Every text file of the project."""
    yield from (ROOT / name for name in OURS)
    for directory in DIRECTORIES:
        yield from (path for path in (ROOT / directory).rglob("*") if path.is_file() and path.suffix in TEXT_FILES)


@pytest.mark.parametrize("module", sources())
def test_a_module_has_one_job_that_its_docstring_says(module: str) -> None:
    limit = SETTINGS_LINES_MAX if module == "schema/settings.py" else MODULE_LINES_MAX
    assert lines_of(module) <= limit
    assert lines_of(module) == 0 or ast.get_docstring(sources()[module]), "no docstring"


@pytest.mark.parametrize("module", sources())
def test_a_function_fits_a_screen(module: str) -> None:
    for node in nodes(module, ast.FunctionDef, ast.AsyncFunctionDef):
        assert isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        lines = (node.end_lineno or 0) - node.lineno + 1
        assert lines <= FUNCTION_LINES_MAX, f"{node.name} has {lines} lines"


@pytest.mark.parametrize("module", [module for module in sources() if not module.startswith(ENVIRONMENT_READERS)])
def test_only_the_settings_and_the_commands_read_the_environment(module: str) -> None:
    read = [node for node in nodes(module, ast.Attribute) if ast.unparse(node) in ("os.environ", "os.getenv", "os.environb")]
    assert not read


@pytest.mark.parametrize("module", [module for module in sources() if not module.startswith("cli/")])
def test_only_commands_write_to_stdout_or_end_the_process(module: str) -> None:
    called = {ast.unparse(node.func) for node in nodes(module, ast.Call) if isinstance(node, ast.Call)}
    assert not called & {"print", "sys.exit", "exit", "sys.stdout.write"}


def test_every_setting_has_an_effect() -> None:
    read = {
        node.attr
        for module in sources()
        if module != "schema/settings.py"
        for node in nodes(module, ast.Attribute)
        if isinstance(node, ast.Attribute)
    }
    by_name = {field.name for field in fields(Settings)} - read
    by_method = {
        "mysql_url",
        "mysql_api_url",
        "mysql_tailer_url",
        "mysql_operator_url",
        "mysql_socket",
    }  # Settings.admin() and so on
    assert by_name <= by_method


def test_no_file_knows_the_machine_it_was_written_on() -> None:
    here = re.compile(rf"{re.escape(str(ROOT))}\b|/home/\w+/|/Users/\w+/")
    for path in text_files():
        found = here.search(path.read_text(errors="replace"))
        assert not found or path == Path(__file__), f"{path.relative_to(ROOT)}: {found[0] if found else ''}"


def test_nothing_is_left_for_later_in_a_comment() -> None:
    later = re.compile(r"\b(TODO|FIXME|XXX|HACK)\b")
    for path in text_files():
        if path != Path(__file__):
            assert not later.search(path.read_text(errors="replace")), path.relative_to(ROOT)


def test_every_module_has_its_place_in_the_tree_of_the_architecture() -> None:
    named = re.findall(r"`((?:schema|cdc|api)/[\w*]+\.py)`", (ROOT / "ARCHITECTURE.md").read_text())
    placed = {str(path.relative_to(ROOT)) for pattern in named for path in ROOT.glob(pattern)}
    modules = {module for module in sources() if module.startswith(("schema/", "cdc/", "api/")) and lines_of(module) > 0}
    assert sorted(modules - placed) == []
