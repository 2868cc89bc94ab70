"""Whoever is not a tab of this studio on this machine gets nothing."""

from __future__ import annotations

import pytest

PATHS = ("", "look", "run?run=one", "report?run=one", "progress?run=one", "compare", "repair")
HERE = {"origin": "http://127.0.0.1:8877"}


@pytest.mark.parametrize("path", [*PATHS, "static/studio.js", "style/page.css", "nowhere"])
@pytest.mark.parametrize("token", ["", "wrong/", "{0}x/", "x{0}/"])
def test_no_path_answers_without_the_token(client, studio, path, token):
    answer = client.get(f"/{token.format(studio.token)}{path}")
    assert answer.status_code == 403
    assert studio.token not in answer.text


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8877", "127.0.0.1", "127.0.0.1:1", "localhost.evil:8877"]
)
def test_another_host_name_is_refused_even_with_the_token(client, studio, host):
    answer = client.get(f"{studio.base}/", headers={"host": host})
    assert answer.status_code == 421 and "Runs in" not in answer.text


@pytest.mark.parametrize("host", ["127.0.0.1:8877", "localhost:8877", "[::1]:8877"])
def test_the_own_names_are_served(client, studio, host):
    assert client.get(f"{studio.base}/", headers={"host": host}).status_code == 200


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_a_page_elsewhere_cannot_ask(client, studio, site):
    assert client.get(f"{studio.base}/", headers={"sec-fetch-site": site}).status_code == 403


@pytest.mark.parametrize("path", ["repair", "stop", "resume"])
@pytest.mark.parametrize(
    "headers",
    [{}, {"origin": "null"}, {"origin": "http://evil.example"}, {"origin": "http://127.0.0.1:1"}],
)
def test_only_the_studios_own_pages_change_something(client, studio, path, headers):
    answer = client.post(f"{studio.base}/{path}", data={"run": "one"}, headers=headers)
    assert answer.status_code == 403


def test_long_bodies_and_other_methods_are_refused(client, studio):
    long = client.post(f"{studio.base}/stop", data={"run": "x" * 70_000}, headers=HERE)
    assert long.status_code == 413
    assert client.put(f"{studio.base}/stop", headers=HERE).status_code == 405
    assert client.options(f"{studio.base}/", headers=HERE).status_code == 405


@pytest.mark.parametrize("path", PATHS)
def test_every_answer_says_what_a_browser_may_do_with_it(client, studio, path):
    headers = client.get(f"{studio.base}/{path}").headers
    assert "default-src 'none'" in headers["content-security-policy"]
    assert "frame-ancestors 'none'" in headers["content-security-policy"]
    assert headers["referrer-policy"] == "same-origin"
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["cache-control"] == "no-store"
    assert not [name for name in headers if name.startswith("access-control")]
    assert "set-cookie" not in headers


def test_a_report_runs_no_script_and_has_an_origin_of_its_own(client, studio):
    policy = client.get(f"{studio.base}/report?run=one").headers["content-security-policy"]
    assert policy.startswith("sandbox allow-downloads;") and "script" not in policy


@pytest.mark.parametrize("path", ["static/../app.py", "static/%2e%2e/app.py", "static//etc/passwd"])
def test_only_the_two_static_files_are_served(client, studio, path):
    assert client.get(f"{studio.base}/{path}").status_code == 404
