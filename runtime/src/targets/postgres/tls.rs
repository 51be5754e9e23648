//! TLS to a database, in the modes that its users know from other clients.

use std::sync::Arc;

use rustls::ClientConfig;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, DigitallySignedStruct, SignatureScheme};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::Options;
use crate::targets::Unusable;
use crate::targets::http::{Tls, transport};

/// Whether connections have TLS, and what is checked. There is no mode that ends without TLS by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// No TLS. The default on loopback.
    Disable,
    /// TLS, but whoever answers is taken for the server; with `ca` as [`Mode::VerifyCa`], as other
    /// clients do it.
    Require,
    /// The certificate comes from an authority, whatever name it has.
    VerifyCa,
    /// The certificate comes from an authority and has the name of the host. The default off loopback.
    VerifyFull,
}

impl Mode {
    /// The words of a configuration, and of `sslmode` in a URL.
    pub const ALL: [(&'static str, Mode); 4] = [
        ("disable", Mode::Disable),
        ("require", Mode::Require),
        ("verify-ca", Mode::VerifyCa),
        ("verify-full", Mode::VerifyFull),
    ];
}

/// Prepares TLS; `None` for connections without it.
///
/// # Errors
/// Certificates that cannot be used, or a system without root certificates.
pub(super) fn open(options: &Options) -> Result<Option<MakeRustlsConnect>, Unusable> {
    let (mode, tls) = (options.mode, &options.tls);
    let mode = match mode {
        Mode::Require if tls.ca.is_some() => Mode::VerifyCa,
        mode => mode,
    };
    if mode == Mode::Disable {
        return Ok(None);
    }
    let config = config(mode, tls, &options.server.hosts_text())?;
    Ok(Some(MakeRustlsConnect::new(config)))
}

fn config(mode: Mode, tls: &Tls, whom: &str) -> Result<ClientConfig, Unusable> {
    let unusable = |error: String| Unusable(format!("TLS cannot be used: {error}"));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|error| unusable(error.to_string()))?;
    let builder = match mode {
        Mode::VerifyFull => builder.with_root_certificates(transport::roots(tls, whom)?),
        Mode::Disable | Mode::Require | Mode::VerifyCa => {
            let chain = match mode {
                Mode::VerifyCa => {
                    let roots = Arc::new(transport::roots(tls, whom)?);
                    let verifier =
                        WebPkiServerVerifier::builder_with_provider(roots, provider.clone());
                    Some(
                        verifier
                            .build()
                            .map_err(|error| unusable(error.to_string()))?,
                    )
                }
                _ => None,
            };
            builder
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(Lenient { chain, provider }))
        }
    };
    transport::identified(builder, tls)
}

/// Checks less than the usual verifier: the authority alone, or nothing.
#[derive(Debug)]
struct Lenient {
    /// Checks the authority; `None` if nobody does.
    chain: Option<Arc<WebPkiServerVerifier>>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Lenient {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let Some(chain) = &self.chain else {
            return Ok(ServerCertVerified::assertion());
        };
        let verified =
            chain.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now);
        match verified {
            // The name is looked at last, when all else was right.
            Err(rustls::Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => Ok(ServerCertVerified::assertion()),
            verified => verified,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, cert, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, cert, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        let algorithms = &self.provider.signature_verification_algorithms;
        algorithms.supported_schemes()
    }
}
