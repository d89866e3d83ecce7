"""A certificate authority for tests: real certificates, made when they are wanted."""

from __future__ import annotations

import datetime
import pathlib
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import grpc
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

_DAY = datetime.timedelta(days=1)


class Certified(NamedTuple):
    """A certificate with its key, as PEM."""

    certificate: bytes
    key: bytes

    def write(self, certificate: pathlib.Path, key: pathlib.Path) -> None:
        certificate.write_bytes(self.certificate)
        key.write_bytes(self.key)


class Authority:
    """Signs certificates.

    Attributes:
      certificate: its own, as PEM.
    """

    def __init__(self, name: str = "test authority") -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _name(name)
        self.certificate = _pem(
            _builder(self._name, self._name, self._key)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .sign(self._key, hashes.SHA256())
        )

    def server(self, host: str = "localhost") -> Certified:
        """Returns the certificate of a server."""
        return self._sign(host, [x509.DNSName(host)])

    def client(self, name: str = "", uris: Sequence[str] = (), *, age_days: float = 0) -> Certified:
        """Returns the certificate of a caller; of none that is older than a day it is valid."""
        return self._sign(
            name, [x509.UniformResourceIdentifier(uri) for uri in uris], age_days=age_days
        )

    def _sign(
        self, name: str, names: Iterable[x509.GeneralName], *, age_days: float = 0
    ) -> Certified:
        key = ec.generate_private_key(ec.SECP256R1())
        builder = _builder(_name(name), self._name, key, age_days)
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        encoded = key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        return Certified(_pem(builder.sign(self._key, hashes.SHA256())), encoded)


def channel_credentials(
    authority: Authority, own: Certified | None = None
) -> grpc.ChannelCredentials:
    """Returns what a channel needs to trust an authority, and to show a certificate."""
    return grpc.ssl_channel_credentials(
        authority.certificate, own and own.key, own and own.certificate
    )


def encrypted(certified: Certified, password: bytes) -> Certified:
    """Returns a certificate whose key wants a password."""
    key = serialization.load_pem_private_key(certified.key, None)
    encoded = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(password),
    )
    return certified._replace(key=encoded)


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, age_days: float = 0
) -> x509.CertificateBuilder:
    begin = datetime.datetime.now(datetime.UTC) - _DAY / 24 - age_days * _DAY
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(begin + _DAY)
    )


def _name(text: str) -> x509.Name:
    parts = [x509.NameAttribute(NameOID.COMMON_NAME, text)] if text else []
    return x509.Name(parts)


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)
