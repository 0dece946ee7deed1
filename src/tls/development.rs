//! Self-signed certificates for development and tests (feature `tls-development`).

use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::{Error, Identity};

/// Creates a self-signed identity for these names (DNS names or IP addresses). Only peers that are
/// [configured to](super::Roots::only) trust it.
///
/// ```
/// let identity = entwined::tls::development::identity(["localhost", "127.0.0.1", "::1"])?;
/// # Ok::<(), entwined::tls::Error>(())
/// ```
///
/// # Errors
/// Fails if a name cannot be in a certificate.
pub fn identity<N: Into<String>>(names: impl IntoIterator<Item = N>) -> Result<Identity, Error> {
    let (chain, key) = certificate(names)?;
    Identity::new(chain, key)
}

/// Creates a certificate and its key, for custom configurations. See [`identity`].
///
/// # Errors
/// Fails if a name cannot be in a certificate.
pub fn certificate<N: Into<String>>(
    names: impl IntoIterator<Item = N>,
) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), Error> {
    let names: Vec<String> = names.into_iter().map(Into::into).collect();
    let made = rcgen::generate_simple_self_signed(names)
        .map_err(|error| Error::Making(error.to_string()))?;
    let key = PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into());
    Ok((vec![made.cert.der().clone()], key))
}
