"""Which pages may connect: the application's own, those that are listed, and what is no browser; nobody else."""

import logging
import string
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hubbub.errors import Denied
from hubbub.hub.origin import OriginPolicy

UNTIMED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # whatever else the machine does

Header = str | bytes | None


def let_in(origin: Header, host: Header, *, scheme: str = "ws", allowed: Sequence[str] = ()) -> bool:
    """Return whether a handshake with these headers passes; `None` means that there is no such header."""
    headers = [(b"user-agent", b"test"), *header(b"host", host), *header(b"origin", origin)]
    try:
        OriginPolicy(allowed).check(scheme, headers)
    except Denied:
        return False
    return True


def header(name: bytes, value: Header) -> list[tuple[bytes, bytes]]:
    if value is None:
        return []
    return [(name, value if isinstance(value, bytes) else value.encode())]


# Without a list: the application's own pages


@pytest.mark.parametrize(
    ("origin", "host"),
    [
        ("http://example.com", "example.com"),
        ("http://example.com", "example.com:80"),
        ("http://example.com:80", "example.com"),
        ("http://example.com:8000", "example.com:8000"),
        ("https://example.com", "example.com"),
        ("https://example.com", "example.com:443"),
        ("https://example.com:443", "example.com"),
        ("https://example.com:8443", "example.com:8443"),
        ("HTTP://EXAMPLE.COM", "example.com"),
        ("http://example.com", "EXAMPLE.com"),
        ("http://xn--bcher-kva.example", "xn--bcher-kva.example"),
        ("http://XN--BCHER-KVA.example", "xn--bcher-kva.example:80"),
        ("http://192.0.2.7:8000", "192.0.2.7:8000"),
        ("http://[2001:db8::1]:8000", "[2001:db8::1]:8000"),
        ("http://[2001:DB8::1]", "[2001:db8::1]"),
        (" http://example.com ", "example.com"),
    ],
)
def test_a_page_of_the_same_host_and_port_is_let_in(origin: str, host: str) -> None:
    assert let_in(origin, host)


@pytest.mark.parametrize(
    "origin",
    [
        "http://evil.com",
        "http://evil-example.com",
        "http://evilexample.com",
        "http://example.com.evil.com",
        "http://example.comevil.com",
        "http://sub.example.com",
        "http://com",
        "http://example.co",
        "http://example.com.",
        "http://.example.com",
        "http://example.com@evil.com",
        "http://example.com:80@evil.com",
        "http://evil.com@example.com",
        "http://@example.com",
        "http://evil.com#example.com",
        "http://evil.com?example.com",
        "http://evil.com/example.com",
        "http://evil.com\\example.com",
        "http://example.com\\.evil.com",
        "http://example.com%00.evil.com",
        "http://example%2ecom",
        "http://ex\u0430mple.com",  # a Cyrillic letter
        "http://xn--exmple-4nf.com",
    ],
)
def test_a_host_that_only_looks_alike_is_foreign(origin: str) -> None:
    assert not let_in(origin, "example.com")


@pytest.mark.parametrize("port", ["8001", "80", "443", "8", "80000", "-8000", "+8000", "8_000", "٨٠٠٠", "8000x", "x"])
def test_another_port_is_foreign(port: str) -> None:
    assert let_in("http://example.com:8000", "example.com:8000")
    assert not let_in(f"http://example.com:{port}", "example.com:8000")


@pytest.mark.parametrize(("port", "expected"), [(1, True), (65_535, True), (65_536, False), (99_999, False)])
def test_a_port_is_at_most_65535(port: int, expected: bool) -> None:
    assert let_in(f"http://example.com:{port}", f"example.com:{port}") is expected


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_port_0_is_not_the_default_port(scheme: str) -> None:
    assert not let_in(f"{scheme}://example.com:0", "example.com")
    assert not let_in(f"{scheme}://example.com", "example.com:0")


@pytest.mark.parametrize(
    ("origin", "host"),
    [
        ("https://example.com", "example.com:80"),
        ("http://example.com", "example.com:443"),
        ("https://example.com", "example.com:8000"),
    ],
)
def test_a_host_without_a_port_has_the_default_port_of_the_origins_scheme(origin: str, host: str) -> None:
    assert let_in(origin, "example.com")
    assert not let_in(origin, host)


@pytest.mark.parametrize(
    ("page", "socket", "expected"),
    [("http", "ws", True), ("https", "wss", True), ("https", "ws", True), ("http", "wss", False)],
)
def test_tls_may_end_at_a_proxy_but_an_insecure_page_is_no_page_of_a_secure_host(
    page: str, socket: str, expected: bool
) -> None:
    assert let_in(f"{page}://example.com:9000", "example.com:9000", scheme=socket) is expected
    assert let_in(f"{page}://localhost:9000", "127.0.0.1:9000", scheme=socket) is expected


@pytest.mark.parametrize("scheme", ["ws", "wss", "ftp", "file", "chrome-extension", "javascript", "httpx"])
def test_only_http_and_https_pages_can_be_the_applications_own(scheme: str) -> None:
    assert not let_in(f"{scheme}://example.com", "example.com")
    assert not let_in(f"{scheme}://example.com:80", "example.com:80")


@pytest.mark.parametrize("host", ["example.com", "localhost", None])
def test_without_an_origin_it_is_no_browser_and_let_in(host: str | None) -> None:
    assert let_in(None, host)
    assert let_in(None, host, allowed=("https://other.example",))


@pytest.mark.parametrize("origin", ["null", " null ", "NULL", "", " ", "*", "example.com", "//example.com", "http:"])
def test_null_and_what_is_no_origin_is_foreign(origin: str) -> None:
    assert not let_in(origin, "example.com")


@pytest.mark.parametrize("host", [None, "", " ", ":80", "example.com/", "user@example.com", "example.com:x", "[::1"])
def test_without_a_proper_host_no_page_is_the_applications_own(host: str | None) -> None:
    assert not let_in("http://example.com", host)
    assert not let_in("http://", host)


def test_two_origin_headers_or_two_host_headers_are_refused() -> None:
    own, host = (b"origin", b"http://example.com"), (b"host", b"example.com")
    OriginPolicy().check("ws", [own, host])
    for headers in ([own, own, host], [own, (b"origin", b"http://evil.com"), host], [own, host, host]):
        with pytest.raises(Denied):
            OriginPolicy(("http://example.com",)).check("ws", headers)


@pytest.mark.parametrize(
    "origin",
    ["http://example.com, http://evil.com", "http://example.com http://evil.com", "http://evil.com,http://example.com"],
)
def test_a_list_of_origins_in_one_header_is_refused(origin: str) -> None:
    assert not let_in(origin, "example.com")


@pytest.mark.parametrize(
    "origin",
    [
        "http://example.com/",
        "http://example.com/path",
        "http://example.com?",
        "http://example.com#",
        "http://example.com:",
        "http://exam\tple.com",
        "\x01http://example.com",
        "ht\ntp://example.com",
    ],
)
def test_what_is_almost_an_origin_is_none(origin: str) -> None:
    assert not let_in(origin, "example.com")


# One machine


LOOPBACK = ["localhost", "LocalHost", "127.0.0.1", "127.0.0.2", "127.255.255.254", "[::1]", "[0:0:0:0:0:0:0:1]"]


@pytest.mark.parametrize("origin", LOOPBACK)
@pytest.mark.parametrize("host", LOOPBACK)
def test_the_names_of_this_machine_are_one_host(origin: str, host: str) -> None:
    assert let_in(f"http://{origin}:8000", f"{host}:8000")
    assert not let_in(f"http://{origin}:3000", f"{host}:8000")


@pytest.mark.parametrize(
    "foreign",
    [
        "127.0.0.1.evil.com",
        "localhost.evil.com",
        "evil.localhost",
        "evil-localhost",
        "localhost.",
        "128.0.0.1",
        "126.255.255.255",
        "0.0.0.0",
        "127.1",
        "127.0.0.01",
        "2130706433",
        "[::]",
        "[::2]",
        "[::ffff:127.0.0.1]",
        "[::1%25eth0]",
        "example.com",
    ],
)
def test_nothing_else_is_this_machine(foreign: str) -> None:
    assert not let_in(f"http://{foreign}:8000", "localhost:8000")
    assert not let_in("http://localhost:8000", f"{foreign}:8000")


# The list


@pytest.mark.parametrize(
    ("entry", "origin", "expected"),
    [
        ("https://app.example.com", "https://app.example.com", True),
        ("https://app.example.com", "https://app.example.com:443", True),
        ("https://app.example.com:443", "https://app.example.com", True),
        ("HTTPS://App.Example.COM", "https://app.example.com", True),
        ("https://app.example.com", "http://app.example.com", False),
        ("https://app.example.com", "https://app.example.com:8443", False),
        ("https://app.example.com", "https://evil-app.example.com", False),
        ("https://app.example.com", "https://app.example.com.evil.com", False),
        ("https://app.example.com", "https://x.app.example.com", False),
        ("https://app.example.com", "null", False),
        ("https://bücher.example", "https://xn--bcher-kva.example", True),
        ("https://BÜCHER.example", "https://xn--bcher-kva.example", True),
        ("https://xn--bcher-kva.example", "https://xn--bcher-kva.example", True),
        ("http://[2001:db8::1]:3000", "http://[2001:db8::1]:3000", True),
        ("http://localhost:3000", "http://localhost:3000", True),
        ("http://localhost:3000", "http://localhost:3001", False),
        ("chrome-extension://abcdef", "chrome-extension://abcdef", True),
        ("chrome-extension://abcdef", "chrome-extension://abcdeg", False),
        ("capacitor://localhost", "capacitor://localhost", True),
    ],
)
def test_a_listed_origin_is_let_in_whatever_the_host(entry: str, origin: str, expected: bool) -> None:
    assert let_in(origin, "api.example.org", allowed=(entry,)) is expected
    assert let_in(origin, None, allowed=(entry,)) is expected


@pytest.mark.parametrize(
    ("entry", "browsers_send", "somebody_elses"),
    [
        ("https://faß.example", "https://xn--fa-hia.example", "https://fass.example"),
        ("https://βόλος.example", "https://xn--nxasmm1c.example", "https://xn--nxasmq6b.example"),
    ],
)
def test_a_listed_name_is_the_domain_that_browsers_mean_by_it(
    entry: str, browsers_send: str, somebody_elses: str
) -> None:
    # IDNA 2008 and UTS 46, non-transitional, as browsers do it; IDNA 2003 made other domains of these names.
    assert not let_in(somebody_elses, "api.example.org", allowed=(entry,))
    assert let_in(browsers_send, "api.example.org", allowed=(entry,))


def test_listed_origins_come_beside_the_applications_own() -> None:
    assert let_in("http://example.com", "example.com", allowed=("https://other.example",))


@pytest.mark.parametrize("allowed", [("https://a.example", "https://b.example"), ["https://b.example"]])
def test_the_list_may_be_any_sequence(allowed: Sequence[str]) -> None:
    assert let_in("https://b.example", "example.com", allowed=allowed)


@pytest.mark.parametrize("origin", ["http://evil.com", "null", "", "garbage", b"\xff\x00", None])
def test_a_star_lets_everyone_in(origin: Header) -> None:
    assert let_in(origin, "example.com", allowed=("*",))
    assert let_in(origin, None, allowed=("https://a.example", "*"))


@pytest.mark.parametrize(("origin", "expected"), [("null", True), ("http://evil.com", False), ("", False)])
def test_null_can_be_listed(origin: str, expected: bool) -> None:
    assert let_in(origin, "example.com", allowed=("null",)) is expected


@pytest.mark.parametrize("text", ["*", "https://app.example.com", ""])
def test_a_single_string_is_a_type_error_that_shows_the_tuple(text: str) -> None:
    with pytest.raises(TypeError, match="give a tuple of origins") as refused:
        OriginPolicy(text)
    assert f"({text!r},)" in str(refused.value)


@pytest.mark.parametrize(
    "entry",
    [
        "",
        "example.com",
        "localhost:3000",
        "//example.com",
        "https://",
        "https://example.com/",
        "https://example.com/app",
        "https://example.com?x",
        "https://example.com#x",
        "https://user@example.com",
        "https://example.com:port",
        "https://example.com:99999",
        "https://[::1",
        "https://" + "ü" * 64 + ".example",
    ],
)
def test_an_entry_that_is_no_origin_is_refused_by_name(entry: str) -> None:
    with pytest.raises(ValueError, match="is not an origin") as refused:
        OriginPolicy(("https://good.example", entry))
    assert repr(entry) in str(refused.value)


@pytest.mark.parametrize(
    "entry", ["https://*.example.com", "https://*", "https://exa mple.com", "https://example.com?"]
)
def test_an_entry_that_no_browser_could_ever_send_is_refused(entry: str) -> None:
    with pytest.raises(ValueError, match="is not an origin"):
        OriginPolicy((entry,))


# Garbage


@UNTIMED
@given(st.binary(max_size=40), st.binary(max_size=40))
def test_any_bytes_are_let_in_or_denied(origin: bytes, host: bytes) -> None:
    let_in(origin, host)
    assert not let_in(b"\xff" + origin, b"example.com")


@UNTIMED
@given(st.text(string.printable, max_size=20), st.sampled_from(["example.com", "localhost:8000"]))
def test_no_text_in_front_of_the_own_host_is_let_in(text: str, host: str) -> None:
    assert not let_in(f"http://x{text}{host}", host)


@UNTIMED
@given(st.text(string.printable, max_size=20))
def test_no_longer_name_that_begins_like_the_own_host_is_let_in(text: str) -> None:
    assert not let_in(f"http://example.com.x{text}", "example.com")


@pytest.mark.parametrize("name", ["origin", "host"])
def test_a_long_name_in_a_header_is_not_given_to_a_codec_that_takes_quadratic_time(name: str) -> None:
    # Punycode in pure Python is quadratic: 16,000 characters, which fit into the headers of one handshake, stop the
    # event loop for 20 seconds. A label has at most 63 octets (RFC 1035 section 2.3.4), and browsers send no other than
    # ASCII (RFC 6454 section 6.1), so whatever is longer need not be encoded.
    long = "http://" + "".join(map(chr, range(0x4E00, 0x4E00 + 200))) + ".example"
    headers = {"origin": "http://example.com", "host": "example.com", name: long if name == "origin" else long[7:]}
    with punycode_lengths() as lengths:
        assert not let_in(headers["origin"], headers["host"])
    assert max(lengths, default=0) <= 63


@contextmanager
def punycode_lengths() -> Iterator[list[int]]:
    """Collect the lengths of the texts that are encoded as punycode meanwhile."""
    lengths: list[int] = []

    def profile(frame: FrameType, event: str, argument: Any) -> None:
        if event == "call" and frame.f_code.co_name == "punycode_encode":
            lengths.append(len(frame.f_locals["text"]))

    before = sys.getprofile()
    sys.setprofile(profile)
    try:
        yield lengths
    finally:
        sys.setprofile(before)


def test_the_watch_on_punycode_sees_what_is_encoded() -> None:
    with punycode_lengths() as lengths:
        "bücher.example".encode("idna")
    assert lengths == [6]


# The log


def refusal_logged(caplog: pytest.LogCaptureFixture, origin: bytes, host: bytes) -> str:
    caplog.clear()
    with caplog.at_level(logging.WARNING, "hubbub"):
        assert not let_in(origin, host)
    (record,) = caplog.records
    assert (record.name, record.levelno) == ("hubbub", logging.WARNING)
    return record.getMessage()


def test_the_log_names_both_values_and_both_remedies(caplog: pytest.LogCaptureFixture) -> None:
    line = refusal_logged(caplog, b"https://app.example.com", b"10.0.0.5:8000")
    for part in ("'https://app.example.com'", "'10.0.0.5:8000'", "allowed_origins", "proxy", "Host header"):
        assert part in line


def test_the_log_of_a_handshake_that_passes_is_empty(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, "hubbub"):
        assert let_in("http://example.com", "example.com")
        assert let_in(None, "example.com")
        assert let_in("http://evil.com", "example.com", allowed=("*",))
    assert not caplog.records


def test_all_values_of_a_header_that_came_twice_are_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    headers = [(b"origin", b"http://one.example"), (b"origin", b"http://two.example"), (b"host", b"example.com")]
    with caplog.at_level(logging.WARNING, "hubbub"), pytest.raises(Denied):
        OriginPolicy().check("ws", headers)
    assert "'http://one.example, http://two.example'" in caplog.messages[0]


@pytest.mark.parametrize(
    "nasty",
    [
        "\u2028forged",
        "\u2029forged",
        "\x85forged",
        "\x1b[2Jforged",
        "\x0bforged",
        "\x0cforged",
        "\x1cforged",
        "\u202eforged",
        "\r\nforged",
        "%s %d %",
        "{0}",
        "'quote\"",
        "\x00",
        "\x7f",
    ],
    ids=ascii,
)
def test_a_header_cannot_forge_a_log_line(caplog: pytest.LogCaptureFixture, nasty: str) -> None:
    for origin, host in [(f"http://evil.com{nasty}", "example.com"), ("http://evil.com", f"example.com{nasty}")]:
        line = refusal_logged(caplog, origin.encode(), host.encode())
        assert line.splitlines() == [line]
        assert line.isprintable()


@UNTIMED
@given(value=st.binary(min_size=1, max_size=60))
def test_no_bytes_make_more_than_one_printable_line(value: bytes) -> None:
    records: list[logging.LogRecord] = []
    handler = logging.Handler()
    handler.emit = records.append  # type: ignore[method-assign]
    logger = logging.getLogger("hubbub")
    logger.addHandler(handler)
    try:
        let_in(b"http://evil.com" + value, value)
    finally:
        logger.removeHandler(handler)
    assert [record.getMessage().isprintable() for record in records] == [True]


def test_a_refusal_is_a_403_that_names_the_limit_and_neither_value() -> None:
    with pytest.raises(Denied) as refused:
        OriginPolicy().check("ws", [(b"origin", b"http://evil.com"), (b"host", b"secret.internal")])
    assert (refused.value.status, refused.value.limit) == (403, "allowed_origins")
    assert "evil.com" not in refused.value.reason
    assert "secret.internal" not in refused.value.reason


@pytest.mark.parametrize("entry", ["ws://example.com", "wss://example.com"])
def test_the_address_of_a_socket_is_no_origin(entry: str) -> None:
    with pytest.raises(ValueError, match="is not an origin"):
        OriginPolicy((entry,))


def test_a_long_header_makes_no_long_line_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(Denied):
        OriginPolicy().check("ws", [(b"host", b"h" * 60_000), (b"origin", b"https://" + b"o" * 60_000)])
    assert len(caplog.messages[0]) < 1_000
