//! Pinned identities: each side knows the certificates of the others, so there is no authority.

use std::{collections::HashSet, error::Error, path::Path};

use entwined::tls::{
    Acceptor, ClientCertificates, Connector, Identity, Roots, TlsStream,
    rustls::pki_types::{CertificateDer, pem::PemObject},
};

pub struct Trust {
    identity: Identity,
    others: Vec<(String, CertificateDer<'static>)>,
}

impl Trust {
    pub fn load(
        certificate: &Path,
        key: &Path,
        others: &[impl AsRef<Path>],
    ) -> Result<Trust, Box<dyn Error>> {
        let read = |path: &Path| {
            let name = path
                .file_stem()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            let certificate = CertificateDer::from_pem_file(path)
                .map_err(|error| format!("{}: {error}", path.display()))?;
            Ok::<_, String>((name, certificate))
        };
        Ok(Trust {
            identity: Identity::from_pem_files(certificate, key)?,
            others: others
                .iter()
                .map(|path| read(path.as_ref()))
                .collect::<Result<_, _>>()?,
        })
    }

    fn roots(&self) -> Roots {
        let others: Vec<_> = self.others.iter().map(|(_, other)| other.clone()).collect();
        Roots::only(&others)
    }

    pub fn acceptor(&self) -> Result<Acceptor, entwined::tls::Error> {
        Acceptor::builder(self.identity.clone())
            .client_certificates(ClientCertificates::Required(self.roots()))
            .build()
    }

    pub fn connector(&self) -> Result<Connector, entwined::tls::Error> {
        Connector::builder()
            .roots(self.roots())
            .identity(self.identity.clone())
            .build()
    }

    /// Returns the certificates of the others with their names, which are different.
    pub fn others(&self) -> Result<Vec<(String, CertificateDer<'static>)>, String> {
        let mut names = HashSet::new();
        match self.others.iter().find(|(name, _)| !names.insert(name)) {
            Some((name, _)) => Err(format!("two certificates have the name {name:?}")),
            None => Ok(self.others.clone()),
        }
    }
}

/// Returns whose certificate the other side has shown.
pub fn name<'a>(
    others: &'a [(String, CertificateDer<'static>)],
    stream: &TlsStream,
) -> Option<&'a str> {
    let shown = stream.peer_certificates()?.first()?;
    let (name, _) = others
        .iter()
        .find(|(_, certificate)| certificate == shown)?;
    Some(name)
}
