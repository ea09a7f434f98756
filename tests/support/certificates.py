"""Real certificates for tests: an authority, and what it issues, as files."""

import ssl
from pathlib import Path

import trustme


class Authority:
    """A certificate authority with a folder of its own."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        self.folder = folder
        self.file = folder / "ca.pem"
        """Its own certificate."""
        self._ca = trustme.CA()
        self._ca.cert_pem.write_to_path(self.file)

    def issue(self, *names: str, file: str = "server.pem") -> Path:
        """Issue a certificate for host names and addresses; return the file with the key and the chain in it."""
        path = self.folder / file
        fresh = path.with_suffix(".fresh")
        self._ca.issue_cert(*names).private_key_and_cert_chain_pem.write_to_path(fresh)
        fresh.replace(path)  # as whoever renews certificates does
        return path

    def client_context(self, certificate: Path | None = None) -> ssl.SSLContext:
        """Return what a client that trusts this authority connects with."""
        context = ssl.create_default_context(cafile=self.file)
        if certificate is not None:
            context.load_cert_chain(certificate)
        return context
