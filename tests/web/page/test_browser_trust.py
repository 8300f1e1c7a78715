"""`moshi web --tls self` in a browser that trusts its authority, and in one that does not."""

import os
import shutil
import ssl
import subprocess
import urllib.parse
import urllib.request

import pytest

from tests.support.processes import browser
from tests.support.processes.browser import OUT, PATIENCE_MS
from tests.support.processes.web_process import moshi_web

pytestmark = pytest.mark.skipif(bool(browser.missing()), reason=browser.missing())
REFUSE = """window.WebSocket = class {
    constructor() { setTimeout(() => this.onclose({ code: 1006, reason: "" }), 50); }
    send() {}
    close() {}
};"""  # what Safari does with a certificate that its user only clicked away


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    """Of a server with a certificate of its own, by this machine's name."""
    place = str(tmp_path_factory.mktemp("tls"))
    environment = {**os.environ, "XDG_CACHE_HOME": place, "HOME": place}
    with moshi_web("--tls", "self", env=environment) as server:
        parts = urllib.parse.urlsplit(server.url)
        yield parts._replace(netloc=f"localhost:{parts.port}")


@pytest.mark.timeout(400)
@pytest.mark.skipif(shutil.which("certutil") is None, reason="no certutil (libnss3-tools)")
def test_a_browser_that_trusts_the_authority_talks(url, chromium, tmp_path):
    """No certificate error is ignored: what Chromium itself says of the authority's signature."""
    trusted = tmp_path / ".pki" / "nssdb"
    trusted.mkdir(parents=True)
    unverified = ssl.create_default_context()
    unverified.check_hostname, unverified.verify_mode = False, ssl.CERT_NONE
    link = url._replace(path="/moshi-ca.crt").geturl()
    with urllib.request.urlopen(link, context=unverified, timeout=60) as answer:
        (tmp_path / "ca.crt").write_bytes(answer.read())
    certutil = ["certutil", "-d", f"sql:{trusted}"]
    add = ["-A", "-n", "moshi", "-t", "C,,", "-i", str(tmp_path / "ca.crt")]
    for action in (["-N", "--empty-password"], add):
        subprocess.run([*certutil, *action], check=True, timeout=60)
    flag = "--use-fake-device-for-media-stream"
    with chromium.beside(flag, HOME=str(tmp_path)) as running:
        page = running.new_page(reduced_motion="reduce")
        page.goto(url.geturl())
        page.get_by_role("button", name="Talk", exact=True).click()
        page.wait_for_selector("body[data-state=talking]", timeout=PATIENCE_MS)


@pytest.mark.timeout(400)
def test_any_other_refuses_the_page(url, chromium):
    page = chromium.new_page()
    with pytest.raises(Exception, match="ERR_CERT_AUTHORITY_INVALID"):
        page.goto(url.geturl())
    page.close()


@pytest.mark.timeout(400)
def test_a_refused_socket_is_explained_with_what_to_do(url, chromium):
    context = chromium.new_context(ignore_https_errors=True, viewport=browser.PHONE)
    page = context.new_page()
    page.add_init_script(REFUSE)
    page.goto(url.geturl())
    page.get_by_role("button", name="Talk", exact=True).click()
    page.wait_for_selector("#trust:not([hidden])", timeout=PATIENCE_MS)
    said = page.locator("#trust").inner_text()
    assert "Certificate Trust Settings" in said and page.locator("#alert").is_hidden()
    link = page.get_by_role("link", name="Get this machine's certificate")
    assert link.get_attribute("href") == "/moshi-ca.crt"
    OUT.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=OUT / "phone-trust.png", full_page=True)
    with page.expect_navigation():
        page.get_by_role("button", name="Load this page again").click()
    context.close()
