"""A certificate authority that is made for one gateway and thrown away with it."""

from __future__ import annotations

import os
import ssl
import tempfile


class Authority:
    """Signs the certificate of a gateway on this machine; nothing of it is installed anywhere.

    Raises:
        ImportError: trustme is not installed.
    """

    def __init__(self) -> None:
        try:
            import trustme
        except ImportError:
            raise ImportError(
                "Gateway(tls=True) makes its certificate with trustme, which is not installed: "
                "pip install 'penstock[testing]'"
            ) from None
        self._authority = trustme.CA()
        self._certificate = self._authority.issue_cert("127.0.0.1", "localhost")
        self._path: str | None = None

    def server_context(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._certificate.configure_cert(context)
        return context

    def client_context(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self._authority.configure_trust(context)
        return context

    def file(self) -> str:
        """Path of the authority's certificate in PEM; written when it is first asked for."""
        if self._path is None:
            handle, self._path = tempfile.mkstemp(prefix="penstock-ca-", suffix=".pem")
            with os.fdopen(handle, "wb") as file:
                file.write(self._authority.cert_pem.bytes())
        return self._path

    def remove_file(self) -> None:
        """Remove it; harmless when there is none."""
        path, self._path = self._path, None
        if path is not None and os.path.exists(path):
            os.remove(path)
