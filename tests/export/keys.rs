//! Certificates for tests: an authority, and certificates that it signs.

use std::fs;
use std::path::{Path, PathBuf};

use controller::telemetry::otlp_endpoint::ClientIdentity;
use libtest_mimic::Failed;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};

/// The PEM files.
pub(crate) struct Keys {
    /// The certificate authority.
    pub(crate) authority: PathBuf,
    /// The certificate of a server on 127.0.0.1.
    pub(crate) server: ClientIdentity,
    /// The certificate of a client.
    pub(crate) client: ClientIdentity,
    _folder: tempfile::TempDir,
}

impl Keys {
    /// Generates new ones.
    pub(crate) fn new() -> Result<Self, Failed> {
        let folder = tempfile::tempdir()?;
        let mut params = CertificateParams::new(Vec::new())?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        (params.distinguished_name).push(DnType::CommonName, "authority of a test");
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
        let authority = folder.path().join("authority.pem");
        fs::write(&authority, issuer.pem())?;
        Ok(Self {
            authority,
            server: signed(&issuer, folder.path(), "127.0.0.1")?,
            client: signed(&issuer, folder.path(), "client")?,
            _folder: folder,
        })
    }
}

fn signed(
    issuer: &CertifiedIssuer<'_, KeyPair>,
    folder: &Path,
    name: &str,
) -> Result<ClientIdentity, Failed> {
    let own = KeyPair::generate()?;
    let certificate = CertificateParams::new(vec![name.to_owned()])?.signed_by(&own, issuer)?;
    let identity = ClientIdentity {
        certificate: folder.join(format!("{name}.pem")),
        key: folder.join(format!("{name}.key")),
    };
    fs::write(&identity.certificate, certificate.pem())?;
    fs::write(&identity.key, own.serialize_pem())?;
    Ok(identity)
}
