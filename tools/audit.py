"""`python -m tools.audit`: locked packages with known vulnerabilities, where a database answers.

Without one, pip-audit says "No known vulnerabilities found" all the same: a package that the index
says nothing about counts as skipped. So each database is first asked about a version that it must
know to be vulnerable, and only one that does is believed.
"""

import itertools
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

DATABASES = ("pypi", "osv")
KNOWN = "jinja2==2.10"
"""PYSEC-2019-217, since 2019."""
LOCKS = ("requirements/dev.txt", "requirements/worker.txt", "requirements/api.txt")
"""The first holds all that the others do; they are read too, lest that changes."""
TIMEOUT_SECONDS = 5
LONGEST_SECONDS = 300
SKIPPED = (
    "audit skipped: no vulnerability database answers (neither the package index's JSON API nor "
    "OSV), so nothing is known of the locked packages."
)

Audit = Callable[[str, Sequence[str], bool], "list[dict[str, Any]] | None"]


def pip_audit(database: str, files: Sequence[str], hashed: bool) -> list[dict[str, Any]] | None:
    """Packages as pip-audit tells of them; None where it came to no answer."""
    command = [
        *(sys.executable, "-m", "pip_audit", "--disable-pip", "--progress-spinner", "off"),
        *("--format", "json", "--timeout", str(TIMEOUT_SECONDS), "--vulnerability-service"),
        *(database, "--require-hashes" if hashed else "--no-deps"),
        *(part for file in files for part in ("--requirement", file)),
    ]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=LONGEST_SECONDS, check=False
        )
        found: list[dict[str, Any]] = json.loads(done.stdout)["dependencies"]
    except (subprocess.TimeoutExpired, ValueError, KeyError):
        return None
    return found


def answers(database: str, audit: Audit) -> bool:
    """Whether a database knows what everybody knows."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "known.txt")
        file.write_text(f"{KNOWN}\n")
        found = audit(database, [str(file)], False)
    return any(package.get("vulns") for package in found or ())


def run(audit: Audit = pip_audit) -> int:
    """Say what was found; the exit status."""
    with ThreadPoolExecutor() as pool:
        believed = list(pool.map(lambda database: answers(database, audit), DATABASES))
    for database in itertools.compress(DATABASES, believed):
        found = audit(database, LOCKS, True)
        if found is None:
            continue
        vulnerable = [package for package in found if package.get("vulns")]
        for package in vulnerable:
            for each in package["vulns"]:
                fixed = ", ".join(each.get("fix_versions", ())) or "none"
                print(f"{package['name']} {package['version']}: {each['id']}; fixed in: {fixed}")
        asked = sum("vulns" in package for package in found)
        print(
            f"audit ({database}): {len(vulnerable)} of {asked} packages have known vulnerabilities"
            + (f"; {len(found) - asked} are unknown there" if asked < len(found) else "")
        )
        return 1 if vulnerable else 0
    print(SKIPPED)
    return 0


if __name__ == "__main__":
    sys.exit(run())
