"""Certificates for a test: an authority, and what it signs."""

import subprocess

KEY = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]


def openssl(folder, *words):
    subprocess.run(["openssl", *words], check=True, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def authority(folder, name):
    """`name`.crt and `name`.key."""
    openssl(folder, "req", "-x509", *KEY, "-keyout", f"{name}.key", "-out", f"{name}.crt", "-subj", f"/CN={name}")


def signed(folder, ca, name, alternative):
    """`name`.crt and `name`.key, by this authority, for this subject alternative name: `DNS:…` or `URI:…`."""
    openssl(folder, "req", *KEY, "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}")
    (folder / f"{name}.names").write_text(f"subjectAltName={alternative}\n")
    by = ["-CA", f"{ca}.crt", "-CAkey", f"{ca}.key", "-CAcreateserial", "-extfile", f"{name}.names"]
    openssl(folder, "x509", "-req", "-in", f"{name}.csr", *by, "-out", f"{name}.crt")


def mutual(side, folder, identity, **more):
    """A transport socket of Envoy with proxy.crt of the authority `ca`: both sides show `identity`, a URI. More: fields of common_tls_context."""
    context = f"type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.{side}TlsContext"
    own = {"certificate_chain": {"filename": str(folder / "proxy.crt")}, "private_key": {"filename": str(folder / "proxy.key")}}
    names = [{"san_type": "URI", "matcher": {"exact": identity}}]
    trusted = {"trusted_ca": {"filename": str(folder / "ca.crt")}, "match_typed_subject_alt_names": names}
    typed = {"@type": context, "common_tls_context": {"tls_certificates": [own], "validation_context": trusted, **more}}
    if side == "Downstream":
        typed["require_client_certificate"] = True
    return {"name": "envoy.transport_sockets.tls", "typed_config": typed}
