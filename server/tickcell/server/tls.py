"""TLS: the server's certificate and key, and the authority that signs its clients' certificates."""

from __future__ import annotations

import contextlib
import os
import pathlib
import ssl
from collections.abc import Iterable, Iterator, Mapping

import grpc

from tickcell.server import owners
from tickcell.server.errors import caller_unknown
from tickcell.server.files import FileError, Files


class Tls:
    """Encrypts connections; each is made with what the files hold at that time.

    Those that are open stay as they are. A change is taken once certificate and key belong
    together, so the files may be written one after the other.
    """

    def __init__(
        self, certificate: pathlib.Path, key: pathlib.Path, client_ca: pathlib.Path | None
    ) -> None:
        """Reads the files.

        Args:
          certificate: the server's, with those between it and its authority; PEM.
          key: of the certificate, not encrypted; PEM.
          client_ca: the authorities of client certificates, of which each connection must
            then show one; PEM.

        Raises:
          FileError: they cannot be read, or are not that.
        """
        self._asks_certificates = client_ca is not None
        self._files = (
            Files("--tls-certificate and --tls-key", (certificate, key), _configuration)
            if client_ca is None
            else Files(
                "--tls-certificate, --tls-key and --tls-client-ca",
                (certificate, key, client_ca),
                _configuration,
            )
        )

    def look(self) -> bool:
        """Reads the files if they changed; says whether there is something new."""
        return self._files.look()

    def server_credentials(self) -> grpc.ServerCredentials:
        """Returns what gRPC makes connections with; it asks for each of them anew."""
        return grpc.dynamic_ssl_server_credentials(
            self._files.value, lambda: self._files.value, self._asks_certificates
        )


def certificate_name(found: Mapping[str, Iterable[bytes]]) -> str:
    """Returns the name in a client's certificate: its URI, else its subject as RFC 2253 has it.

    Args:
      found: what gRPC knows of the connection.

    Raises:
      CallerUnknown: there is none, or it cannot be told which.
    """
    names = [*(found.get("peer_uri") or found.get("x509_subject") or ())]
    if len(names) > 1:
        raise caller_unknown("its certificate has several URIs, expected one.")
    try:
        name = b"".join(names).decode()
    except UnicodeDecodeError as error:
        raise caller_unknown("the name in its certificate is not UTF-8.") from error
    if not name or not owners.is_owner(f"cert:{name}"):
        raise caller_unknown(
            "its certificate has no name that can be used, expected one URI, or a subject, of at "
            "most 250 bytes."
        )
    return name


def _configuration(
    certificate: bytes, key: bytes, client_ca: bytes | None = None
) -> grpc.ServerCertificateConfiguration:
    # Python's own library tells what is wrong; gRPC would only fail each connection.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        with _path_of(certificate) as certificate_path, _path_of(key) as key_path:
            context.load_cert_chain(certificate_path, key_path, password=_no_password)
    except (ssl.SSLError, ValueError) as error:
        raise FileError(
            f"are not a certificate and its key, unencrypted, as PEM ({_said(error)})"
        ) from error
    if client_ca is not None:
        try:
            context.load_verify_locations(cadata=client_ca.decode())
        except (ssl.SSLError, ValueError) as error:
            raise FileError(f"the last of them has no certificates as PEM ({_said(error)})") from (
                error
            )
    return grpc.ssl_server_certificate_configuration([(key, certificate)], client_ca)


def _said(error: Exception) -> str:
    reason = getattr(error, "reason", None)
    return str(reason or error).lower().replace("_", " ")


def _no_password() -> str:
    # Without it, the terminal would be asked.
    raise ValueError("the key is encrypted")


@contextlib.contextmanager
def _path_of(content: bytes) -> Iterator[str]:
    """Gives a path to what was read, as the library wants one; it lies in memory alone."""
    number = os.memfd_create("pem")
    try:
        with open(number, "wb", closefd=False) as file:
            file.write(content)
        yield f"/proc/self/fd/{number}"
    finally:
        os.close(number)
