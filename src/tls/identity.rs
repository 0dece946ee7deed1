//! An identity: certificates and their private key.

use std::{fmt, fs, path::Path, sync::Arc};

use rustls::{
    pki_types::{
        CertificateDer, PrivateKeyDer,
        pem::{self, PemObject},
    },
    sign::CertifiedKey,
};

use super::{Error, provider};

/// A certificate, its chain to an authority, and its private key.
///
/// ```no_run
/// use entwined::tls::Identity;
///
/// let identity = Identity::from_pem_files(
///     "/etc/ssl/example.pem",
///     "/etc/ssl/private/example.key",
/// )?;
/// # Ok::<(), entwined::tls::Error>(())
/// ```
#[derive(Clone)]
pub struct Identity {
    pub(super) key: Arc<CertifiedKey>,
    pub(super) secret: Arc<PrivateKeyDer<'static>>,
}

impl Identity {
    /// Reads the certificates, the end-entity certificate first, and the key (PKCS #8, PKCS #1 or
    /// SEC 1, without a password). Blocks while it reads the files.
    ///
    /// # Errors
    /// Fails if a file cannot be read, lacks a certificate or key, or the key belongs to another
    /// certificate.
    pub fn from_pem_files(
        certificates: impl AsRef<Path>,
        key: impl AsRef<Path>,
    ) -> Result<Self, Error> {
        let (certificates, key) = (certificates.as_ref(), key.as_ref());
        let chain = in_file(certificates, read(certificates).and_then(|pem| chain(&pem)))?;
        let secret = in_file(key, read(key).and_then(|pem| secret(&pem)))?;
        in_file(key, Self::new(chain, secret))
    }

    /// Like [`from_pem_files`](Identity::from_pem_files), from memory. Both arguments may be the
    /// same text.
    ///
    /// # Errors
    /// Fails if a certificate or key is missing, the text is not PEM, or the key belongs to another
    /// certificate.
    pub fn from_pem(certificates: &[u8], key: &[u8]) -> Result<Self, Error> {
        Self::new(chain(certificates)?, secret(key)?)
    }

    /// Creates an identity from parsed certificates and their key.
    ///
    /// # Errors
    /// Fails if the key does not belong to the first certificate.
    pub fn new(
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
    ) -> Result<Self, Error> {
        if chain.is_empty() {
            return Err(Error::NoCertificate);
        }
        let secret = Arc::new(key.clone_key());
        let key = CertifiedKey::from_der(chain, key, &provider()).map_err(|error| match error {
            rustls::Error::InconsistentKeys(_) => Error::KeyMismatch(error),
            error => Error::Configuration(error),
        })?;
        Ok(Identity {
            key: Arc::new(key),
            secret,
        })
    }

    /// The certificates, the end-entity certificate first.
    pub fn certificates(&self) -> &[CertificateDer<'static>] {
        &self.key.cert
    }
}

/// Shows the number of certificates, never the key.
impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity")
            .field("certificates", &self.certificates().len())
            .finish_non_exhaustive()
    }
}

pub(super) fn in_file<T>(path: &Path, result: Result<T, Error>) -> Result<T, Error> {
    result.map_err(|source| Error::File {
        path: path.to_owned(),
        source: Box::new(source),
    })
}

pub(super) fn read(path: &Path) -> Result<Vec<u8>, Error> {
    fs::read(path).map_err(Error::Read)
}

pub(super) fn chain(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, Error> {
    let chain: Vec<_> = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<_, _>>()
        .map_err(Error::Pem)?;
    if chain.is_empty() {
        Err(Error::NoCertificate)
    } else {
        Ok(chain)
    }
}

fn secret(pem: &[u8]) -> Result<PrivateKeyDer<'static>, Error> {
    PrivateKeyDer::from_pem_slice(pem).map_err(|error| match error {
        pem::Error::NoItemsFound => Error::NoKey,
        error => Error::Pem(error),
    })
}
