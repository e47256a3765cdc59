"""Debian's packages without root: downloaded by a private apt, unpacked in a cache directory, never installed.

That is how a stable Debian runs a server which only Debian unstable has (MySQL). The archive is the one that the
machine's own apt uses, the signature is checked against the machine's Debian keyring, and the packages bring every
library they need, glibc included; programs run through the unpacked loader. Nothing on the machine changes.
Source: apt.conf(5), sources.list(5), ld.so(8).
"""

from __future__ import annotations

import fcntl
import os
import platform
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from cli.embedded.process import tethered
from schema.errors import StartError

SUITE = "sid"
_KEYRINGS = tuple(Path("/usr/share/keyrings", f"debian-archive-keyring.{kind}") for kind in ("gpg", "pgp"))
_TOOLS = ("apt-get", "apt-config", "dpkg", "dpkg-deb")
_HINT = "install mysql-server (8.0 or newer, not MariaDB) and redis-server, or set MYSQL_URL and REDIS_URL"

# The machine's Acquire settings (proxies, certificates) stand before these; nothing else of its settings is read:
# its hooks must not run, its pins may exclude the suite, its other architectures would cost lists.
# "check-valid-until" alone is off: it fails behind a mirror that is refreshed seldom. Signatures are always checked.
_APT_CONF = """\
Dir::Etc::main "/dev/null";
Dir::Etc::parts "/dev/null";
Dir::Etc::sourcelist "{apt}/sources.list";
Dir::Etc::sourceparts "/dev/null";
Dir::Etc::preferences "/dev/null";
Dir::Etc::preferencesparts "/dev/null";
Dir::State "{apt}";
Dir::State::status "{apt}/status";
Dir::Cache "{apt}";
APT::Architecture "{architecture}";
APT::Architectures "{architecture}";
APT::Install-Recommends "false";
APT::Sandbox::User "";
Acquire::Languages "none";
Acquire::Retries "3";
"""
_SOURCES = "deb [signed-by={keyring} check-valid-until=no] {archive} {suite} main\n"


def cache_dir() -> Path:
    """Where downloaded programs are kept, as the XDG Base Directory Specification has it."""
    base = os.environ.get("XDG_CACHE_HOME")
    return Path(base if base else Path.home() / ".cache", "matrix-sync", f"debian-{SUITE}")


class DebianPackages:
    """Bundles of Debian unstable's packages below `cache`, each unpacked with all it depends on in a root of its own.

    A bundle is a name of ours and the packages in it; its root is whole or absent.
    """

    def __init__(self, cache: Path, archive: str | None = None) -> None:
        """`archive` is the URI of a Debian archive; None for the one that the machine's own apt uses."""
        self._cache = cache
        self._archive = archive

    def fetch(self, bundles: Mapping[str, Sequence[str]], say: Callable[[str], None] = lambda _: None) -> None:
        """Download and unpack those that are not there yet; other processes wait for us and find them done.

        Raises StartError where it can't be done: not a Debian, no network, no space.
        """
        if not self._missing(bundles):
            return
        try:
            self._cache.mkdir(parents=True, exist_ok=True)
            with (self._cache / "lock").open("w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                missing = self._missing(bundles)
                if missing:
                    say(f"fetching {' and '.join(missing)} from Debian (once, about 100 MB)")
                    self._fetch(missing)
        except OSError as problem:
            hint = "free some space, or set XDG_CACHE_HOME to a directory that this user may write"
            raise StartError("packages_unavailable", f"{self._cache}: {problem}", hint=hint) from problem

    def root(self, bundle: str) -> Path:
        """The directory that stands for `/` of an unpacked bundle."""
        return self._cache / bundle

    def command(self, bundle: str, program: str) -> tuple[str, ...] | None:
        """The words that start `program` (a path such as `usr/sbin/mysqld`), None if the bundle has none."""
        root = self.root(bundle)
        if not (root / program).exists():
            return None
        libraries = next(root.glob("usr/lib/*/libc.so.6")).parent
        loader = next(libraries.glob("ld-linux*.so.*"))
        # Without --inhibit-cache the machine's ld.so.cache could mix in libraries of its own.
        return (str(loader), "--inhibit-cache", "--library-path", str(libraries), str(root / program))

    def _missing(self, bundles: Mapping[str, Sequence[str]]) -> dict[str, Sequence[str]]:
        return {bundle: packages for bundle, packages in bundles.items() if not self.root(bundle).exists()}

    def _fetch(self, bundles: Mapping[str, Sequence[str]]) -> None:
        apt = self._cache / "apt"
        shutil.rmtree(apt, ignore_errors=True)  # of a download cut short
        config = _configure(apt, self._archive)
        _run("apt-get", "-qq", "update", config=config)
        for bundle, packages in bundles.items():
            archives = apt / bundle
            (archives / "partial").mkdir(parents=True)
            options = ("-o", f"Dir::Cache::archives={archives}")
            _run("apt-get", "-qq", "--yes", "--download-only", *options, "install", *packages, config=config)
            self._unpack(bundle, sorted(archives.glob("*.deb")))
        shutil.rmtree(apt)

    def _unpack(self, bundle: str, debs: Sequence[Path]) -> None:
        unfinished = self._cache / f"{bundle}.unfinished"
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir()
        for deb in debs:
            _run("dpkg-deb", "--extract", str(deb), str(unfinished))
        unfinished.rename(self.root(bundle))


def _configure(apt: Path, archive: str | None) -> Path:
    """Write the settings of an apt that thinks nothing is installed, and return their file."""
    missing = [tool for tool in _TOOLS if not shutil.which(tool)]
    if missing:
        raise StartError("packages_unavailable", f"this machine has no {', '.join(missing)}", hint=_HINT)
    keyring = next((keyring for keyring in _KEYRINGS if keyring.exists()), None)
    if keyring is None:
        message = "this machine has no Debian keyring (package debian-archive-keyring)"
        raise StartError("packages_unavailable", message, hint=_HINT)
    (apt / "lists" / "partial").mkdir(parents=True)
    (apt / "status").touch()
    sources = _SOURCES.format(keyring=keyring, archive=archive or _machine_archive(), suite=SUITE)
    (apt / "sources.list").write_text(sources)
    architecture = _run("dpkg", "--print-architecture").strip()
    config = apt / "apt.conf"
    config.write_text(_run("apt-config", "dump", "Acquire") + _APT_CONF.format(apt=apt, architecture=architecture))
    return config


def _machine_archive() -> str:
    """The Debian archive in this machine's apt sources: its main suite, not a security or update one.

    Whose an archive is stands in its lists. A machine that never ran `apt-get update` has none: there the suite decides,
    and of two the one that looks like a mirror of Debian; if it is not one, its signature will not do.
    """
    known = [uri for origin, _, uri in _main_targets() if origin == "Debian"]
    guessed = [uri for _, suite, uri in _main_targets("--no-release-info") if suite in _own_suites()] if not known else []
    found = [*known, *sorted(guessed, key=lambda uri: not uri.rstrip("/").endswith("/debian"))]
    if not found:
        raise StartError("packages_unavailable", "there is no Debian archive in this machine's apt sources", hint=_HINT)
    return found[0]


def _main_targets(*options: str) -> list[tuple[str, str, str]]:
    """Origin, suite and URI of each archive that has a component main, without security and update suites."""
    said = _run("apt-get", *options, "indextargets", "--format", "$(ORIGIN)|$(RELEASE)|$(COMPONENT)|$(REPO_URI)")
    targets = [line.split("|") for line in said.splitlines() if line.count("|") == 3]
    return [
        (origin, suite, uri)
        for origin, suite, component, uri in targets
        if component == "main" and not {"-", "/"} & set(suite) and "security" not in uri
    ]


def _own_suites() -> set[str]:
    """What this machine's suite may be called in its sources."""
    codename = platform.freedesktop_os_release().get("VERSION_CODENAME", "")
    return {codename, "oldstable", "stable", "testing", "unstable", SUITE}


def _run(*command: str, config: Path | None = None) -> str:
    """Run to the end and return its output. Raises StartError with what it printed."""
    env = os.environ | {"LC_ALL": "C"} | ({"APT_CONFIG": str(config)} if config else {})
    done = subprocess.run(tethered(command), text=True, capture_output=True, check=False, env=env, stdin=subprocess.DEVNULL)
    if done.returncode != 0:
        raise StartError("packages_unavailable", f"{command[0]} failed: {done.stderr.strip()}", hint=_HINT)
    return done.stdout
