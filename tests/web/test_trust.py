"""`moshi web --tls self` in a browser that trusts its authority, and in one that does not."""

import os
import shutil
import ssl
import subprocess
import urllib.parse
import urllib.request

import pytest

from tests.support.processes import browser
from tests.support.processes.web_process import moshi_web

pytestmark = [
    pytest.mark.skipif(bool(browser.missing()), reason=browser.missing()),
    pytest.mark.skipif(shutil.which("certutil") is None, reason="no certutil (libnss3-tools)"),
]


@pytest.mark.timeout(400)
@pytest.mark.parametrize("installed", [True, False])
def test_a_browser_that_trusts_the_authority_talks_and_any_other_refuses_the_page(
    installed, tmp_path, monkeypatch
):
    """No certificate error is ignored: what Chromium itself says of the authority's signature."""
    home = tmp_path / "browser"
    trusted = home / ".pki" / "nssdb"
    trusted.mkdir(parents=True)
    certutil = ["certutil", "-d", f"sql:{trusted}"]
    subprocess.run([*certutil, "-N", "--empty-password"], check=True, timeout=60)
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path), "HOME": str(tmp_path)}
    with moshi_web("--tls", "self", env=environment) as server:
        url = urllib.parse.urlsplit(server.url)
        unverified = ssl.create_default_context()
        unverified.check_hostname, unverified.verify_mode = False, ssl.CERT_NONE
        link = url._replace(path="/moshi-ca.crt").geturl()
        with urllib.request.urlopen(link, context=unverified, timeout=60) as answer:
            (tmp_path / "ca.crt").write_bytes(answer.read())
        if installed:
            add = [*certutil, "-A", "-n", "moshi", "-t", "C,,", "-i", str(tmp_path / "ca.crt")]
            subprocess.run(add, check=True, timeout=60)
        monkeypatch.setenv("HOME", str(home))
        flags = ["--use-fake-ui-for-media-stream", "--use-fake-device-for-media-stream"]
        with browser.chromium(*flags) as running:
            page = running.new_page()
            if not installed:
                with pytest.raises(Exception, match="ERR_CERT_AUTHORITY_INVALID"):
                    page.goto(url._replace(netloc=f"localhost:{url.port}").geturl())
                return
            page.goto(url._replace(netloc=f"localhost:{url.port}").geturl())
            page.get_by_role("button", name="Talk", exact=True).click()
            page.wait_for_selector("body[data-state=talking]", timeout=browser.PATIENCE_MS)
