"""The certificates of an embedded cluster: one authority, one serving certificate, one identity per component.

ECDSA P-256 throughout: the whole set takes about 10 ms to make, where RSA keys would take seconds.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

LIFETIME = timedelta(days=365)

# An API server lets this group do everything, before it has read any RBAC rule. The processes that start beside it
# are in it: a scheduler that is refused while the rules load tries again seconds later. KWOK and the simulator stand
# for every kubelet, every node agent and an operator at once, whose rights together leave little out.
_AT_ONCE = ("system:masters",)

# Whom each client certificate speaks for: file name -> (user, groups). The names are those of any other cluster.
IDENTITIES: dict[str, tuple[str, tuple[str, ...]]] = {
    "admin": ("gpu-conformance-admin", _AT_ONCE),
    "controller-manager": ("system:kube-controller-manager", _AT_ONCE),
    "scheduler": ("system:kube-scheduler", _AT_ONCE),
    "apiserver-kubelet-client": ("kube-apiserver-kubelet-client", _AT_ONCE),
    "kwok": ("gpu-conformance-kwok", _AT_ONCE),
    "simulator": ("gpu-conformance-simulator", _AT_ONCE),
}

_SERVING_NAMES = (
    "localhost",
    "kubernetes",
    "kubernetes.default",
    "kubernetes.default.svc",
    "kubernetes.default.svc.cluster.local",
)
_SERVING_ADDRESSES = ("127.0.0.1", "10.96.0.1")


@dataclass(frozen=True)
class Authority:
    """A certificate authority that can sign more identities, such as that of a kubelet that joins."""

    key: EllipticCurvePrivateKey
    certificate: x509.Certificate

    @classmethod
    def made(cls, name: str = "gpu-conformance") -> Authority:
        """A new self-signed authority."""
        from cryptography.hazmat.primitives import hashes

        key = _key()
        certificate = _builder(name, (), name, key).add_extension(_basic(ca=True), critical=True)
        certificate = certificate.add_extension(_usage(signs=True), critical=True)
        return cls(key, certificate.sign(key, hashes.SHA256()))

    @classmethod
    def load(cls, folder: Path) -> Authority:
        """The authority of an existing folder (files ``ca.crt`` and ``ca.key``)."""
        from cryptography import x509
        from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
        from cryptography.hazmat.primitives.serialization import load_pem_private_key

        key = load_pem_private_key((folder / "ca.key").read_bytes(), password=None)
        if not isinstance(key, EllipticCurvePrivateKey):
            raise TypeError(f"{folder / 'ca.key'} is not an ECDSA key")
        return cls(key, x509.load_pem_x509_certificate((folder / "ca.crt").read_bytes()))

    def issue_client(self, folder: Path, name: str, user: str, groups: tuple[str, ...]) -> None:
        """Write ``name.crt`` and ``name.key`` for a user with groups, for authentication as a client."""
        from cryptography.x509.oid import ExtendedKeyUsageOID

        self._issue(folder, name, user, groups, ExtendedKeyUsageOID.CLIENT_AUTH)

    def issue_server(
        self, folder: Path, name: str, host: str, names: tuple[str, ...], addresses: tuple[str, ...]
    ) -> None:
        """Write ``name.crt`` and ``name.key`` of a server that is reached by these DNS names and IP addresses."""
        from cryptography import x509
        from cryptography.x509.oid import ExtendedKeyUsageOID

        alternatives: list[x509.GeneralName] = [x509.DNSName(each) for each in names]
        alternatives += [x509.IPAddress(ipaddress.ip_address(each)) for each in addresses]
        self._issue(folder, name, host, (), ExtendedKeyUsageOID.SERVER_AUTH, x509.SubjectAlternativeName(alternatives))

    def _issue(
        self,
        folder: Path,
        name: str,
        user: str,
        groups: tuple[str, ...],
        purpose: x509.ObjectIdentifier,
        alternatives: x509.SubjectAlternativeName | None = None,
    ) -> None:
        from cryptography import x509
        from cryptography.hazmat.primitives import hashes

        key = _key()
        builder = _builder(user, groups, self._name, key).add_extension(_basic(ca=False), critical=True)
        builder = builder.add_extension(_usage(signs=False), critical=True)
        builder = builder.add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
        if alternatives is not None:
            builder = builder.add_extension(alternatives, critical=False)
        _write_pair(folder, name, key, builder.sign(self.key, hashes.SHA256()))

    @property
    def _name(self) -> str:
        from cryptography.x509.oid import NameOID

        return str(self.certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value)


def write(folder: Path) -> None:
    """Fill ``folder`` with everything that the processes need: ``<name>.crt`` and ``<name>.key`` (mode 0600).

    Names: ``ca``, ``serving``, those of IDENTITIES, and the pair ``service-account`` (``.key`` and ``.pub``).
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    authority = Authority.made()
    _write_pair(folder, "ca", authority.key, authority.certificate)
    authority.issue_server(folder, "serving", "kube-apiserver", _SERVING_NAMES, _SERVING_ADDRESSES)
    for name, (user, groups) in IDENTITIES.items():
        authority.issue_client(folder, name, user, groups)
    _write_signing_key(folder)


def _key() -> EllipticCurvePrivateKey:
    from cryptography.hazmat.primitives.asymmetric import ec

    return ec.generate_private_key(ec.SECP256R1())


def _builder(user: str, groups: tuple[str, ...], issuer: str, key: EllipticCurvePrivateKey) -> x509.CertificateBuilder:
    from cryptography import x509
    from cryptography.x509.oid import NameOID

    # Kubernetes reads the user from CN and the groups from O.
    subject = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, group) for group in groups]
    subject.append(x509.NameAttribute(NameOID.COMMON_NAME, user))
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name(subject))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        # An hour back, so that a clock that was set back after a seed was made does not lock us out.
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + LIFETIME)
    )


def _basic(*, ca: bool) -> x509.BasicConstraints:
    from cryptography import x509

    return x509.BasicConstraints(ca=ca, path_length=None)


def _usage(*, signs: bool) -> x509.KeyUsage:
    from cryptography import x509

    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=not signs,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs,
        crl_sign=signs,
        encipher_only=False,
        decipher_only=False,
    )


def _write_pair(folder: Path, name: str, key: EllipticCurvePrivateKey, certificate: x509.Certificate) -> None:
    from cryptography.hazmat.primitives.serialization import Encoding

    (folder / f"{name}.crt").write_bytes(certificate.public_bytes(Encoding.PEM))
    _write_secret(folder / f"{name}.key", _pem(key))


def _write_signing_key(folder: Path) -> None:
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    key = _key()
    _write_secret(folder / "service-account.key", _pem(key))
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    (folder / "service-account.pub").write_bytes(public)


def _pem(key: EllipticCurvePrivateKey) -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    return key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())


def _write_secret(path: Path, content: bytes) -> None:
    path.touch(mode=0o600)
    path.write_bytes(content)
