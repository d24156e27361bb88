"""Which mirrors are asked for source packages: the system's own, in whatever format it names them.

Laws: no network; the files are made here, the hosts are those that RFC 2606 keeps for examples.
"""

from __future__ import annotations

import platform
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from tests.conformance.harness import Missing
from tests.conformance.regress import apt, sources

if TYPE_CHECKING:
    from tests.conformance.harness import Checks

LINES = """\
# deb http://commented.example/debian {release} main
deb [arch=amd64,arm64 signed-by=/keys/a.gpg] http://one.example/debian {release} main # ours
deb-src http://one.example/debian {release} main
deb http://one.example/security {release}-security main
"""
STANZAS = """\
Types: deb
# http://snapshot.example/
URIs: http://two.example/debian
Suites: {release} {release}-updates
Components: main
Signed-By:
 -----BEGIN PGP PUBLIC KEY BLOCK-----
 .
 -----END PGP PUBLIC KEY BLOCK-----

Types: deb
URIs: http://disabled.example/debian
Suites: {release}
Components: main
Enabled: no

Types: deb
URIs: http://flat.example/
Suites: ./
"""


def run(checks: Checks) -> None:
    """Claims about both formats, one at a time, and about a system without sources."""
    system = platform.freedesktop_os_release()
    release, newest = system.get("VERSION_CODENAME", ""), sources.NEWEST.get(system["ID"], "")
    text = LINES.format(release=release)
    _claim(
        checks,
        "one-line",
        _asked("sources.list", text),
        ["one.example/debian", "one.example/security"],
        f"URIs: http://one.example/debian\nSuites: {newest}\nComponents: main\n"
        "Architectures: amd64 arm64\nSigned-By: /keys/a.gpg\n",
    )
    text = STANZAS.format(release=release)
    _claim(
        checks,
        "deb822",
        _asked("sources.list.d/debian.sources", text),
        ["two.example/debian", "flat.example/"],
        f"URIs: http://two.example/debian\nSuites: {newest}\nComponents: main\n"
        "Signed-By: \n -----BEGIN PGP PUBLIC KEY BLOCK-----\n",
    )
    said = [_asked("sources.list", ""), _asked("sources.list", "deb http://flat.example/ ./\n")]
    plain = "apt has no package sources" in said[0] and "add the distribution's own" in said[1]
    checks.claim(plain, "no sources, or none of the distribution, is said so", said[1])


def _asked(name: str, text: str) -> str:
    """What apt is given where that file is all that the system has, or why there is nothing."""
    with tempfile.TemporaryDirectory() as etc:
        file = Path(etc) / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(text)
        try:
            return apt.system_sources(Path(etc), newest=True)
        except Missing as missing:
            return str(missing).replace(etc, "/etc/apt")


def _claim(checks: Checks, form: str, asked: str, hosts: list[str], newest: str) -> None:
    stanzas = asked.split("\n\n")
    both = [stanza for stanza in stanzas if stanza.startswith("Types: deb deb-src\n")]
    alone = [stanza for stanza in stanzas if stanza.startswith("Types: deb-src\n")]
    held = len(both) == len(hosts) and len(alone) == 1 and newest in alone[0] + "\n"
    held = held and all(
        f"URIs: http://{host}\n" in stanza for host, stanza in zip(hosts, both, strict=False)
    )
    what = f"mirrors of the system's {form} sources are asked for source packages, new ones, too"
    if not checks.claim(held, what, f"{len(both)} entries, {len(alone)} for the newest"):
        checks.note(asked)
