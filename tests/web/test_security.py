"""Who gets in: origins, rebound names, tokens, certificates, paths and headers."""

import asyncio
import base64
import re
import shutil
import ssl
import stat
import subprocess
from urllib.parse import urljoin

import aiohttp
import pytest
from cryptography import x509
from cryptography.x509 import verification
from hypothesis import given, settings
from hypothesis import strategies as st

from app.web import security
from app.web import server as web_server
from app.web.certificates import tls
from app.web.certificates.authority import general_name, sign
from app.web.certificates.option import parse_option
from app.web.certificates.self_made import self_made, still_good
from app.web.certificates.tls import LOOPBACK
from app.web.protocol import Kind
from app.web.security import Guard
from moshi_mlx.errors import MoshiError
from tests.support.fakes.web_fakes import close_of, receive, running

HEADERS = ("Host", "Origin", "Sec-Fetch-Site")


def guard(loopback: bool = True, **options) -> Guard:
    return Guard(token=None if loopback else "s3cret", loopback=loopback, **options)


@pytest.mark.parametrize(
    ("headers", "allowed"),
    [
        ({"Host": "localhost:8998"}, True),  # Python and Rust clients
        ({"Host": "localhost:8998", "Origin": "http://localhost:8998"}, True),
        ({"Host": "127.0.0.1:8998", "Origin": "http://127.0.0.1:8998"}, True),
        ({"Host": "[::1]:8998", "Origin": "http://[::1]:8998"}, True),
        ({"Host": "localhost:8998", "Origin": "https://friend.example"}, True),
        ({"Host": "localhost:8998", "Origin": "http://localhost:3000"}, False),
        ({"Host": "localhost:8998", "Origin": "https://localhost:8998"}, False),
        ({"Host": "localhost:8998", "Origin": "http://evil.example"}, False),
        ({"Host": "localhost:8998", "Origin": "null"}, False),
        ({"Host": "localhost:8998", "Origin": "http://localhost:99999"}, False),
        ({"Host": "localhost:8998", "Sec-Fetch-Site": "cross-site"}, False),
        ({"Host": "evil.example:8998", "Origin": "http://evil.example:8998"}, False),  # rebinding
        ({"Host": "127.0.0.1.evil.example"}, False),
        ({"Host": "[::1"}, False),
        ({}, False),
    ],
)
def test_origins_and_names(headers, allowed):
    rules = guard(allowed_origins=frozenset({security.normal_origin("https://friend.example")}))
    assert (rules.refusal(headers) is None) is allowed


def test_away_from_loopback_the_token_decides():
    rules = guard(loopback=False, scheme="https")
    page = {"Host": "192.168.1.5:8998", "Origin": "https://192.168.1.5:8998"}
    assert rules.refusal(page, ["", "s3cret"]) is None
    assert rules.refusal(page, ["", "wrong", "é"]) is not None
    assert rules.refusal(page) is not None
    assert rules.refusal({**page, "Origin": "https://evil.example"}, ["s3cret"]) is not None
    assert len(Guard.make("0.0.0.0").token or "") >= 24
    assert Guard.make("127.0.0.1").token is None
    assert Guard.make("0.0.0.0").token != Guard.make("0.0.0.0").token


@pytest.mark.parametrize(
    "origin", ["evil.example", "ftp://a.b", "http://", "http://a.b/path", "x:y"]
)
def test_an_allowed_origin_must_be_an_origin(origin):
    with pytest.raises(MoshiError, match="isn't an origin"):
        Guard.make("localhost", [origin])


async def test_another_sites_page_gets_neither_socket_nor_status():
    async with running() as site:
        for path in ("/api/chat", "/api/status"):
            answer = await site.http.get(site.url + path, headers={"Origin": "http://evil.example"})
            assert answer.status == 403
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await site.chat(headers={"Origin": "http://evil.example"})
        assert refused.value.status == 403
        rebound = await site.http.get(site.url, headers={"Host": "evil.example"})
        assert rebound.status == 403
        async with site.chat(headers={"Origin": site.url}) as socket:
            await receive(socket, Kind.HANDSHAKE)


async def test_token_by_address_then_cookie_or_by_password():
    async with running(guard=guard(loopback=False)) as site:
        assert (await site.http.get(f"{site.url}/api/status")).status == 403
        assert (await site.http.get(f"{site.url}/?token=wrong")).status == 403
        basic = base64.b64encode(b"moshi:s3cret").decode()
        for options in (
            {"params": {"token": "s3cret"}},
            {"headers": {"Authorization": f"Basic {basic}"}},
        ):
            assert (await site.http.get(f"{site.url}/api/status", **options)).status == 200  # type: ignore
        answer = await site.http.get(f"{site.url}/?token=s3cret", allow_redirects=False)
        assert (answer.status, answer.headers["Location"]) == (303, "/")
        cookie = answer.headers["Set-Cookie"]
        assert "HttpOnly" in cookie
        assert "SameSite=Strict" in cookie
        jar = {"Cookie": cookie.partition(";")[0]}
        assert (await site.http.get(f"{site.url}/api/status", headers=jar)).status == 200
        async with site.chat(headers=jar) as socket:
            await receive(socket, Kind.HANDSHAKE)


async def test_every_answer_carries_the_safety_headers():
    async with running() as site:
        for path in ("/", "/nothing", "/api/status", "/api/chat"):
            headers = (await site.http.get(site.url + path)).headers
            assert "default-src 'none'" in headers["Content-Security-Policy"], path
            assert "unsafe" not in headers["Content-Security-Policy"]
            assert headers["X-Content-Type-Options"] == "nosniff"
            assert headers["X-Frame-Options"] == "DENY"
            assert "Access-Control-Allow-Origin" not in headers


TRAVERSALS = [
    "/../secret.txt",
    "/..%2fsecret.txt",
    "/%2e%2e/secret.txt",
    "/assets/../../secret.txt",
    "/assets/%2e%2e%2f%2e%2e%2fsecret.txt",
    "//etc/passwd",
    "/%00",
    "/link.txt",
    "/" + "a" * 5000,
    "/web_server.py",
    "/../web_server.py",
]


@pytest.mark.parametrize("static", [False, True])
async def test_no_path_leads_out_of_the_page(tmp_path, static):
    (tmp_path / "secret.txt").write_text("secret")
    folder = tmp_path / "dist"
    (folder / "assets").mkdir(parents=True)
    (folder / "index.html").write_text("<p>another page</p>")
    (folder / "assets" / "a.js").write_text("1")
    (folder / "link.txt").symlink_to(tmp_path / "secret.txt")

    def serve_folder(server):
        server.static = folder if static else None

    async with running(change=serve_folder) as site:
        for path in TRAVERSALS:
            url = aiohttp.client.URL(site.url + path, encoded=True)
            answer = await site.http.get(url)
            assert answer.status in (400, 404), path
            assert "secret" not in await answer.text()
        if static:
            assert "another page" in await (await site.http.get(site.url)).text()
            script = await site.http.get(f"{site.url}/assets/a.js")
            assert "javascript" in script.headers["Content-Type"]
            async with site.chat(headers={"Origin": site.url}) as socket:
                await receive(socket, Kind.HANDSHAKE)


async def test_a_folder_without_a_page_is_refused(tmp_path):
    with pytest.raises(MoshiError, match=r"no index\.html"):
        async with running(change=lambda server: setattr(server, "static", tmp_path)):
            pass


async def test_self_made_certificate_is_kept_private_and_names_the_host(tmp_path):
    cert, key, authority = self_made(tmp_path / "tls", "192.168.7.9")
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    before = cert.read_bytes()
    assert self_made(tmp_path / "tls", "192.168.7.9")[0].read_bytes() == before
    text = ssl._ssl._test_decode_cert(str(cert))  # type: ignore[attr-defined]
    assert ("IP Address", "192.168.7.9") in text["subjectAltName"]
    assert ("DNS", "localhost") in text["subjectAltName"]
    assert self_made(tmp_path / "tls", "10.0.0.1")[0].read_bytes() != before
    key.write_text("damaged")
    cert, key, authority = self_made(tmp_path / "tls", "10.0.0.1")
    assert still_good(cert, key, [*LOOPBACK, "10.0.0.1"], authority)
    assert sorted(path.name for path in (tmp_path / "tls").iterdir()) == [
        "authority-key.pem",
        "authority.pem",
        "self-made-key.pem",
        "self-made.pem",
    ]
    for path in (tmp_path / "tls").iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path


def verified(folder, host):
    """The server's certificate, checked by openssl and by cryptography against the authority."""
    cert, _, authority = self_made(folder, host)
    leaf = x509.load_pem_x509_certificate(cert.read_bytes())
    store = verification.Store([authority.certificate])
    for name in LOOPBACK[:1] + ((host,) if host not in LOOPBACK else ()):
        wanted = general_name(name)
        checker = verification.PolicyBuilder().store(store).build_server_verifier(wanted)  # type: ignore
        checker.verify(leaf, [])
    if shutil.which("openssl"):
        command = ["openssl", "verify", "-CAfile", str(folder / "authority.pem"), str(cert)]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
    return leaf, authority


@pytest.mark.parametrize("host", ["127.0.0.1", "192.168.7.9", "studio.local", "0.0.0.0"])
def test_the_certificate_is_signed_by_an_authority_that_openssl_and_cryptography_accept(
    tmp_path, host
):
    folder = tmp_path / "tls"
    if host == "0.0.0.0":
        _, _, authority = self_made(folder, host)
        names = authority.certificate.extensions.get_extension_for_class(x509.NameConstraints)
        assert x509.DNSName(tls.bonjour_name()) in (names.value.permitted_subtrees or [])
        return
    leaf, authority = verified(folder, host)
    usage = leaf.extensions.get_extension_for_class(x509.BasicConstraints).value
    assert usage.ca is False and leaf.issuer == authority.certificate.subject


def test_the_authority_stays_and_can_sign_for_no_other_name(tmp_path):
    _, _, first = self_made(tmp_path, "studio.local")
    (tmp_path / "self-made.pem").unlink()
    _, _, again = self_made(tmp_path, "studio.local")
    assert first.der == again.der, "a phone is told once"
    assert not first.may_sign(["example.com"]) and not first.may_sign(["8.8.8.8"])
    chain, _ = sign(first, ["example.com"])
    (tmp_path / "evil.pem").write_bytes(chain)
    if shutil.which("openssl"):
        command = ["openssl", "verify", "-CAfile", str(tmp_path / "authority.pem")]
        done = subprocess.run([*command, str(tmp_path / "evil.pem")], capture_output=True)
        assert done.returncode != 0, "what it may sign is limited"


async def test_the_authority_is_given_to_phones_without_a_token(tmp_path):
    made = parse_option("self", "127.0.0.1", tmp_path)
    change = lambda server: setattr(server, "authority", made.authority)  # noqa: E731
    async with running(guard=Guard(token="secret" * 8), change=change) as site:
        answer = await site.http.get(f"{site.url}/moshi-ca.crt")
        assert answer.status == 200
        assert answer.headers["Content-Type"] == "application/x-x509-ca-cert"
        x509.load_der_x509_certificate(await answer.read())
    async with running() as site:
        assert (await site.http.get(f"{site.url}/moshi-ca.crt")).status == 404


async def test_a_conversation_over_tls(tmp_path):
    context = parse_option("self", "127.0.0.1", tmp_path).context
    trust = ssl.create_default_context(cafile=str(tmp_path / "authority.pem"))
    async with running(guard=Guard(scheme="https"), tls=context) as site:
        url = f"https://127.0.0.1:{site.port}"
        headers = {"Origin": url}
        async with site.http.ws_connect(f"{url}/api/chat", ssl=trust, headers=headers) as socket:
            await receive(socket, Kind.HANDSHAKE)


@pytest.mark.parametrize(
    "option", ["cert.pem", "a,", ",b", "missing.pem,missing.key", "damaged,damaged"]
)
def test_certificates_that_cannot_be_used_are_one_line(tmp_path, monkeypatch, option):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "damaged").write_text("-----BEGIN CERTIFICATE-----\nnonsense")
    with pytest.raises(MoshiError) as problem:
        parse_option(option, "localhost", tmp_path)
    assert "\n" not in str(problem.value)


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(MoshiError, match="can't keep a certificate"):
        self_made(tmp_path / "file" / "tls", "localhost")


async def test_the_page_is_small_and_whole():
    page = web_server.read_page()
    assert sum(len(body) for address, (body, _) in page.items() if address != "/") < 150_000


async def test_a_plain_request_to_the_socket_is_not_an_accident():
    async with running() as site:
        assert (await site.http.get(f"{site.url}/api/chat")).status == 400
        async with site.chat() as socket, site.chat() as second:
            await close_of(second)
            await receive(socket, Kind.HANDSHAKE)


@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": "Basic é"},
        {"Authorization": "Basic \udcff\udcfe"},
        {"Authorization": "Basic " + base64.b64encode(b"\xff:\xfe").decode()},
        {"Authorization": "Basic"},
        {"Authorization": "Basic ===="},
        {"Cookie": "a=b; =;;; \x7f[]={}"},
        {"Cookie": "moshi-token-1=\udcff"},
        {"Cookie": '"' * 200},
        {"Origin": "http://[::1"},
        {"Origin": "http://\udcff:99999999"},
        {"Origin": "http://a\udcbd"},
        {"Sec-Fetch-Site": "\udcff"},
    ],
    ids=repr,
)
async def test_credentials_that_cannot_be_read_are_wrong_ones(headers):
    async with running(guard=guard(loopback=False)) as site:
        lines = [f"{name}: {value}" for name, value in headers.items()]
        answer = await asked(site, "GET /api/status HTTP/1.1", "Host: 192.168.1.5", *lines)
        assert answer.split()[1] in (b"403", b"400"), answer


async def asked(site, *lines, body=b""):
    """The first line of the answer to bytes on the wire that no honest client sends."""
    reader, writer = await asyncio.open_connection("127.0.0.1", site.port)
    request = "\r\n".join(lines).encode(errors="surrogateescape")
    writer.write(request + b"\r\n\r\n" + body)
    answer = await asyncio.wait_for(reader.readline(), 60)
    writer.close()
    return answer


UPGRADE = ("GET /api/chat HTTP/1.1", "Connection: Upgrade", "Upgrade: websocket")


@pytest.mark.parametrize(
    ("status", "lines", "body"),
    [
        (b"400", (*UPGRADE, "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: \udcff\udcff"), b""),
        (b"400", (*UPGRADE, "Sec-WebSocket-Version: 13"), b""),
        (b"404", ("GET /x HTTP/1.1", "Content-Encoding: gzip", "Content-Length: 2"), b"no"),
        (b"404", ("GET /x HTTP/1.1", "Content-Encoding: deflate", "Content-Length: 2"), b"no"),
    ],
)
async def test_a_request_that_is_none_is_no_traceback(status, lines, body, caplog):
    async with running() as site:
        answer = await asked(site, lines[0], "Host: localhost", *lines[1:], body=body)
        assert answer.split()[1] == status
    assert not caplog.records


@settings(max_examples=100, deadline=None)
@given(st.dictionaries(st.sampled_from(HEADERS), st.text(), max_size=4), st.text(), st.text())
def test_no_header_and_no_token_breaks_the_rules(headers, token, password):
    basic = security.basic_password(f"Basic {password}")
    rules = guard(loopback=False)
    refused = rules.refusal(headers, [token, basic, security.basic_password(password)])
    assert refused is not None and "\n" not in refused


ELSEWHERE = [
    *("//evil.com/", "///evil.com", "/\\evil.com", "/\\/evil.com", "//evil.com/%2e%2e", "/a//b"),
    *("/%5cevil.com", "/%2fevil.com", "/%2f%2fevil.com", "/%252f%252fevil.com", "/%09/evil.com"),
    *("/\t/evil.com", "/.//evil.com", "/%2e%2e//evil.com", "/%20//evil.com", "/%00//evil.com"),
    *("http://evil.com/", "http://evil.com//evil.com", "https://evil.com", "//evil.com@localhost/"),
    *("/@evil.com", "//@evil.com", "//[::1]/", "/%0d%0aLocation:%20//evil.com", "*", "evil.com"),
]


async def test_the_token_is_moved_into_a_cookie_at_this_server_only():
    """Where a browser would go: it takes a backslash for a slash and leaves out tabs."""
    places = 0
    async with running() as site:
        for path in ELSEWHERE:
            reader, writer = await asyncio.open_connection("127.0.0.1", site.port)
            request = f"GET {path}?token=x HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
            writer.write(request.encode())
            head = (await asyncio.wait_for(reader.read(), 60)).decode()
            writer.close()
            assert head.split()[1] in ("303", "400", "403", "404"), path
            for place in re.findall(r"(?im)^location: *(.*?)\r$", head):
                read = re.sub(r"[\t\r\n]", "", place.strip()).replace("\\", "/")
                goes_to = urljoin("http://localhost/", read)
                assert place.startswith("/") and goes_to.startswith("http://localhost/"), path
                places += 1
    assert places > 15, "they are led somewhere"
