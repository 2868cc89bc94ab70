"""Links inside the docs lead somewhere, and no page names a machine."""

from __future__ import annotations

import re
import unicodedata
from pathlib import Path

import pytest

from .pages import DOCS, ROOT, name, pages, prose

_LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)(?:\s[^)]*)?\)|<img[^>]*\ssrc=\"([^\"]+)\"")
_ABSOLUTE = re.compile(r"(?<![\w.~])/(?:work|root|tmp|home|Users|mnt|opt/\w+)/")
_HOST = re.compile(r"https?://([\w.-]+)")
HOSTS = {"arxiv.org", "doi.org", "www.apache.org", "keepachangelog.com", "semver.org"}
HOSTS |= {"citation-file-format.github.io", "github.com", "127.0.0.1", "www.w3.org"}
every_page = pytest.mark.parametrize("page", pages(), ids=name)


def anchors(page: Path) -> set[str]:
    """The ids that headings get, as mkdocs and GitHub make them."""
    heads = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.M)
    return {_slug(head) for head in heads}


def _slug(heading: str) -> str:
    plain = unicodedata.normalize("NFKD", heading).encode("ascii", "ignore").decode()
    return re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", plain).strip().lower())


@every_page
def test_internal_links(page: Path):
    for match in _LINK.finditer(prose(page)):
        target = match[1] or match[2]
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), f"{name(page)}: {target}"
        assert ROOT in file.parents, f"{target} leaves the project"
        if anchor:
            assert anchor in anchors(file), f"{name(page)}: {target}"


@every_page
def test_docs_link_within_the_site(page: Path):
    if DOCS not in page.parents:
        return
    for match in _LINK.finditer(prose(page)):
        target = match[1] or match[2]
        inside = re.match(r"[a-z]+:|#", target) or DOCS in (page.parent / target).resolve().parents
        assert inside, f"{name(page)}: {target} is not part of the site"


def written() -> list[Path]:
    """All text that people read: pages, scripts, settings of the docs."""
    more = [*DOCS.rglob("*.py"), *DOCS.rglob("*.svg"), ROOT / "mkdocs.yml", ROOT / "CITATION.cff"]
    return [*pages(), *more]


@pytest.mark.parametrize("file", written(), ids=name)
def test_no_paths_or_hosts_of_a_machine(file: Path):
    text = file.read_text(encoding="utf-8")
    assert not _ABSOLUTE.search(text), _ABSOLUTE.search(text)
    if file.suffix != ".svg":
        unknown = {host for host in _HOST.findall(text) if host not in HOSTS}
        assert not unknown, unknown


def test_every_page_is_in_the_navigation():
    settings = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    listed = set(re.findall(r"([\w/-]+\.md)\s*$", settings, re.M))
    assert listed == {page.relative_to(DOCS).as_posix() for page in DOCS.rglob("*.md")}


def test_the_site_loads_nothing_from_the_network():
    settings = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    assert re.search(r"^\s*font: false\b", settings, re.M)
    assert not re.search(r"extra_(javascript|css)", settings)
