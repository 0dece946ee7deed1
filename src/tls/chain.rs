//! What is looked at of the certificates that a peer sends along with its own.

use std::sync::Arc;

use rustls::{
    DigitallySignedStruct, DistinguishedName, Error, RootCertStore, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    pki_types::{CertificateDer, ServerName, TrustAnchor, UnixTime},
    server::danger::{ClientCertVerified, ClientCertVerifier},
};

/// How many certificates of issuers are looked at. Real chains have up to four.
const ISSUERS: usize = 10;

/// How many of them may have the subject of a root, or of one before them.
const ALTERNATIVES: usize = 1;

/// Verifies with another verifier, which sees only some certificates of issuers.
///
/// webpki tries every way from the peer's certificate to a root, up to 200,000 steps and 100
/// signatures, in one call. A signature can take a millisecond.
#[derive(Debug)]
pub(super) struct Bounded<V: ?Sized> {
    pub verifier: Arc<V>,
    pub roots: Arc<RootCertStore>,
}

impl<V: ?Sized> Bounded<V> {
    /// The first certificates, without repetitions. Few have the same subject, so there are few
    /// ways to try, and few of them lead to a root.
    fn some<'a>(&self, issuers: &[CertificateDer<'a>]) -> Vec<CertificateDer<'a>> {
        let (mut some, mut alternatives) = (Vec::new(), 0);
        let mut read = RootCertStore::empty();
        for issuer in issuers {
            if some.len() == ISSUERS {
                break;
            }
            // What cannot be read cannot be an issuer either.
            if some.contains(issuer) || read.add(issuer.clone().into_owned()).is_err() {
                continue;
            }
            let this = read.roots.pop().expect("it was added");
            let is_same = |other: &&TrustAnchor<'_>| other.subject == this.subject;
            let mut roots = self.roots.roots.iter().filter(is_same).peekable();
            if roots.peek().is_some() || read.roots.iter().any(|other| is_same(&other)) {
                let key = &this.subject_public_key_info;
                let is_root = roots.any(|root| root.subject_public_key_info == *key);
                if is_root || alternatives == ALTERNATIVES {
                    continue;
                }
                alternatives += 1;
            }
            read.roots.push(this);
            some.push(issuer.clone());
        }
        some
    }
}

impl ServerCertVerifier for Bounded<dyn ServerCertVerifier> {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let some = self.some(intermediates);
        self.verifier
            .verify_server_cert(end_entity, &some, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verifier.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verifier.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.verifier.supported_verify_schemes()
    }

    fn requires_raw_public_keys(&self) -> bool {
        self.verifier.requires_raw_public_keys()
    }

    fn root_hint_subjects(&self) -> Option<&[DistinguishedName]> {
        self.verifier.root_hint_subjects()
    }
}

impl ClientCertVerifier for Bounded<dyn ClientCertVerifier> {
    fn offer_client_auth(&self) -> bool {
        self.verifier.offer_client_auth()
    }

    fn client_auth_mandatory(&self) -> bool {
        self.verifier.client_auth_mandatory()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.verifier.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let some = self.some(intermediates);
        self.verifier.verify_client_cert(end_entity, &some, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verifier.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verifier.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.verifier.supported_verify_schemes()
    }

    fn requires_raw_public_keys(&self) -> bool {
        self.verifier.requires_raw_public_keys()
    }
}
