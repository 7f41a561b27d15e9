"""Everything about TLS that is not bytes: the context we verify with, and what its errors mean.

Owns which certificates are trusted and in which order of precedence, and the translation of an
`ssl` error into a cause and a hint. Knows no connection. Errors are told apart by code and symbol
(`verify_code`, `reason`), never by their text, which changes with the OpenSSL version.
"""

from __future__ import annotations

import importlib
import os
import ssl

from mcp_stdio import config
from mcp_stdio.errors import Distrusted, TlsFailure, UsageFailure, quote

# RFC 5280 verdicts as OpenSSL numbers them (X509_V_ERR_*); the `ssl` module gives them no names.
_NOT_YET_VALID = 9
_EXPIRED = 10
_UNKNOWN_ISSUER = frozenset({2, 18, 19, 20, 21})
_OTHER_NAME = frozenset({62, 64})

_NO_TLS = frozenset(
    {"WRONG_VERSION_NUMBER", "HTTP_REQUEST", "UNKNOWN_PROTOCOL", "PACKET_LENGTH_TOO_LONG"}
)
"""What OpenSSL finds when the other side answers a handshake in plain text."""

_CLIENT_CERTIFICATE_ALERTS = frozenset(
    {
        "TLSV13_ALERT_CERTIFICATE_REQUIRED",
        "SSLV3_ALERT_BAD_CERTIFICATE",
        "SSLV3_ALERT_UNSUPPORTED_CERTIFICATE",
        "SSLV3_ALERT_CERTIFICATE_REVOKED",
        "SSLV3_ALERT_CERTIFICATE_EXPIRED",
        "SSLV3_ALERT_CERTIFICATE_UNKNOWN",
        "TLSV1_ALERT_UNKNOWN_CA",
        "TLSV1_ALERT_ACCESS_DENIED",
    }
)
"""The alerts by which a server refuses our side's certificate, or its absence (RFC 8446 6.2)."""


def context(tls: config.Tls) -> ssl.SSLContext:
    """What connections verify with and identify themselves by.

    Trust comes from the platform (`SSL_CERT_FILE` and `SSL_CERT_DIR` override it), from certifi
    where the platform has nothing, and from `--cacert` in addition. Takes 20 to 40 ms of CPU: build
    it once. Raises UsageFailure for a file that cannot be used.
    """
    result = _unverified() if tls.insecure else _platform_trust()
    result.set_alpn_protocols(["http/1.1"])
    if tls.cacert is not None:
        _add_authorities(result, tls.cacert)
    if tls.cert is not None:
        _add_identity(result, tls.cert, tls.key)
    return result


def handshake_failure(error: BaseException | None, authority: str) -> TlsFailure:
    """What a handshake that ended in `error` means for the server at `authority`."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return _distrust(error, authority)
    refusal = client_certificate_refusal(error, authority)
    if refusal is not None:
        return refusal
    if _symbol(error) in _NO_TLS:
        return TlsFailure(
            f"`{authority}` does not speak TLS",
            hint="if the server is meant to be used without encryption, write `http://`",
        )
    if not isinstance(error, ssl.SSLEOFError) and (words := reason(error)):
        return TlsFailure(
            f"the TLS handshake with `{authority}` failed: {words}",
            hint="client and server share no TLS version or cipher, or the server wants a client "
            "certificate (`--cert`)",
        )
    return TlsFailure(
        f"`{authority}` closed the connection during the TLS handshake",
        is_passing=True,
        hint="check that the port speaks TLS and that no firewall or proxy stands in between",
    )


def client_certificate_refusal(error: BaseException | None, authority: str) -> TlsFailure | None:
    """The failure when `error` is the server's verdict on our certificate, otherwise None.

    In TLS 1.3 it arrives after our side of the handshake is over (RFC 8446 4.4.2.4), so possibly
    after a request was written, which the server then never saw.
    """
    if _symbol(error) not in _CLIENT_CERTIFICATE_ALERTS:
        return None
    return TlsFailure(
        f"`{authority}` wants a client certificate, or another one",
        hint="name a certificate and key that the server accepts with `--cert` and `--key`",
    )


def reason(error: BaseException | None) -> str:
    """OpenSSL's name for what went wrong, as words; empty when `error` carries none."""
    return quote(_symbol(error).lower().replace("_", " "))


def _symbol(error: BaseException | None) -> str:
    return str(error.reason or "") if isinstance(error, ssl.SSLError) else ""


def _platform_trust() -> ssl.SSLContext:
    result = _truststore()
    if result is None:
        result = ssl.create_default_context()
        if not _has_authorities(result):
            certifi = importlib.import_module("certifi")
            result.load_verify_locations(certifi.where())
    # What Python 3.13 turned on by default, undone and added respectively on every version alike:
    # the strict flag refuses private authorities whose certificates omit RFC 5280 formalities, as
    # those of company networks do; a partial chain lets `--cacert` name an intermediate one.
    result.verify_flags &= ~ssl.VERIFY_X509_STRICT
    result.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    return result


def _truststore() -> ssl.SSLContext | None:
    # The extra of that name: the keychain of macOS and Windows' own verification. It knows nothing
    # of these two variables, which somebody set on purpose.
    if os.environ.get("SSL_CERT_FILE") or os.environ.get("SSL_CERT_DIR"):
        return None
    try:
        truststore = importlib.import_module("truststore")
    except ImportError:
        return None
    result: ssl.SSLContext = truststore.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    return result


def _unverified() -> ssl.SSLContext:
    result = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    result.check_hostname = False
    result.verify_mode = ssl.CERT_NONE
    return result


def _has_authorities(result: ssl.SSLContext) -> bool:
    if result.cert_store_stats()["x509_ca"]:
        return True
    # OpenSSL looks into a directory only while verifying, so the statistics cannot tell.
    directory = ssl.get_default_verify_paths().capath
    try:
        return bool(directory) and bool(os.listdir(directory))
    except OSError:
        return False


def _add_authorities(result: ssl.SSLContext, path: str) -> None:
    try:
        if os.path.isdir(path):
            result.load_verify_locations(capath=path)
        else:
            _check_readable("--cacert", path)
            result.load_verify_locations(cafile=path)
    except ssl.SSLError:
        raise UsageFailure(
            f"`--cacert {path}` holds no certificate in PEM format",
            hint="it should contain `-----BEGIN CERTIFICATE-----`",
        ) from None


def _add_identity(result: ssl.SSLContext, cert: str, key: str | None) -> None:
    _check_readable("--cert", cert)
    if key is not None:
        _check_readable("--key", key)
    option = f"--cert {cert}" if key is None else f"--key {key}"

    def no_passphrase() -> str:
        # Otherwise OpenSSL would ask on the terminal, and standard input belongs to the client.
        raise UsageFailure(
            f"the private key in `{option}` is protected by a passphrase",
            hint="give a copy without one, made by `openssl pkey`, that only you can read",
        )

    try:
        result.load_cert_chain(cert, key, password=no_passphrase)
    except ssl.SSLError as exc:
        if exc.reason == "KEY_VALUES_MISMATCH":
            raise UsageFailure(
                f"the private key in `{option}` does not belong to the certificate in "
                f"`--cert {cert}`",
                hint="give the two files that were made together",
            ) from None
        raise UsageFailure(
            f"`--cert {cert}`"
            + (f" with `{option}`" if key is not None else "")
            + " holds no certificate and private key in PEM format",
            hint="the key may stand in the certificate's file or in one of its own (`--key`)",
        ) from None


def _check_readable(option: str, path: str) -> None:
    # `ssl` reports a file it cannot open without saying which one.
    try:
        with open(path, "rb"):
            pass
    except OSError as exc:
        raise UsageFailure(
            f"`{option} {path}` cannot be read: {exc.strerror}",
            hint="give the path of a readable file in PEM format",
        ) from None


def _distrust(error: ssl.SSLCertVerificationError, authority: str) -> Distrusted:
    code = getattr(error, "verify_code", 0)
    words = quote(getattr(error, "verify_message", "") or "it could not be verified")
    if code == _EXPIRED:
        hint = "its owner has to renew it, or this machine's clock is wrong"
    elif code == _NOT_YET_VALID:
        hint = "check this machine's clock"
    elif code in _UNKNOWN_ISSUER:
        hint = "if you trust its issuer, name the issuer's certificate with `--cacert FILE`"
    elif code in _OTHER_NAME:
        hint = "use the host name that the certificate was issued for"
    else:
        hint = "if you trust the server, name its authority with `--cacert FILE`"
    return Distrusted(
        f"the certificate of `{authority}` is not accepted: {words}",
        hint=f"{hint}; `--insecure` goes without any check, for tests only",
    )
