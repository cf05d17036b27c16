"""A certificate for a SuperLink on this machine, and keys for its SuperNodes."""

import datetime
import ipaddress
from pathlib import Path
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

_HOST, _ADDRESS = "localhost", "127.0.0.1"
_VALID = datetime.timedelta(days=1)
_PLAIN = serialization.NoEncryption()


class Secrets(NamedTuple):
    """Files of a network that is encrypted and knows its nodes.

    Attributes:
      certificate: of the SuperLink; it is its own authority.
      private_key: of the SuperLink.
      node_keys: private key of every SuperNode; the public one is beside it, ``.pub``.
    """

    certificate: Path
    private_key: Path
    node_keys: list[Path]


def make_secrets(folder: Path, num_nodes: int) -> Secrets:
    """Write a certificate for this machine, and keys for so many nodes."""
    folder.mkdir(parents=True)
    private = ec.generate_private_key(ec.SECP384R1())
    secrets = Secrets(
        folder / "server.crt",
        folder / "server.key",
        [folder / f"node-{number}" for number in range(num_nodes)],
    )
    certificate = _sign_own(private).public_bytes(serialization.Encoding.PEM)
    secrets.certificate.write_bytes(certificate)
    secrets.private_key.write_bytes(
        private.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, _PLAIN
        )
    )
    for path in secrets.node_keys:
        _write_node_key(path)
    return secrets


def _sign_own(private: ec.EllipticCurvePrivateKey) -> x509.Certificate:
    """Return a certificate for this machine that its own key has signed."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, _HOST)])
    names = [x509.DNSName(_HOST), x509.IPAddress(ipaddress.ip_address(_ADDRESS))]
    now = datetime.datetime.now(datetime.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(private.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _VALID)
        .not_valid_after(now + _VALID)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    )
    return builder.sign(private, hashes.SHA384())


def _write_node_key(path: Path) -> None:
    private = ec.generate_private_key(ec.SECP384R1())
    path.write_bytes(
        private.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, _PLAIN
        )
    )
    path.chmod(0o600)
    path.with_suffix(".pub").write_bytes(
        private.public_key().public_bytes(
            serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH
        )
    )
