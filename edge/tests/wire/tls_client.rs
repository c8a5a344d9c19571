//! Certificates for a test, and a client that takes any of them and tells which it was shown.

use std::fs;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use pinstone_edge::{CertificateSources, Certificates};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::version::{TLS12, TLS13};
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, Error, SignatureScheme, StreamOwned,
    SupportedProtocolVersion,
};

use crate::world::{Connection, World};

/// A folder of certificates.
pub(crate) struct Folder(pub(crate) tempfile::TempDir);

impl Folder {
    /// A folder with a certificate for each of these; each `(file, names)`.
    pub(crate) fn with(pairs: &[(&str, &[&str])]) -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        for (file, names) in pairs {
            folder.write(file, names);
        }
        folder
    }

    /// Writes `file.crt` and `file.key`, new ones, and answers the certificate.
    pub(crate) fn write(&self, file: &str, names: &[&str]) -> CertificateDer<'static> {
        let (certificate, chain, key) = made(names);
        fs::write(self.path(&format!("{file}.crt")), chain).unwrap();
        fs::write(self.path(&format!("{file}.key")), key).unwrap();
        certificate
    }

    pub(crate) fn path(&self, name: &str) -> std::path::PathBuf {
        self.0.path().join(name)
    }

    pub(crate) fn sources(&self) -> CertificateSources {
        CertificateSources { pair: None, folder: Some(self.0.path().to_owned()) }
    }

    pub(crate) fn open(&self) -> Arc<Certificates> {
        Arc::new(Certificates::open(self.sources()).unwrap())
    }
}

/// A certificate for these names: as such, as PEM, and its key.
pub(crate) fn made(names: &[&str]) -> (CertificateDer<'static>, String, String) {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let made = rcgen::generate_simple_self_signed(names).unwrap();
    (made.cert.der().clone(), made.cert.pem(), made.signing_key.serialize_pem())
}

/// Takes every certificate whose signatures are of these kinds.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>, Vec<SignatureScheme>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.1.clone()
    }
}

/// What a client does that speaks this version, and these protocols.
pub(crate) fn config(version: &'static SupportedProtocolVersion, protocols: &[&str]) -> Arc<ClientConfig> {
    let schemes = rustls::crypto::aws_lc_rs::default_provider().signature_verification_algorithms.supported_schemes();
    let mut config = with_schemes(version, schemes);
    config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
    Arc::new(config)
}

/// A client that knows of no signatures but those of RSA.
pub(crate) fn rsa_alone() -> Arc<ClientConfig> {
    Arc::new(with_schemes(&TLS12, vec![SignatureScheme::RSA_PSS_SHA256, SignatureScheme::RSA_PKCS1_SHA256]))
}

fn with_schemes(version: &'static SupportedProtocolVersion, schemes: Vec<SignatureScheme>) -> ClientConfig {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[version])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anybody(provider, schemes)))
        .with_no_client_auth()
}

pub(crate) fn tls12() -> Arc<ClientConfig> {
    config(&TLS12, &[])
}

pub(crate) fn tls13() -> Arc<ClientConfig> {
    config(&TLS13, &[])
}

pub(crate) type TlsStream = StreamOwned<ClientConnection, TcpStream>;

/// Shakes hands for `name`; for an address, without naming a host.
pub(crate) fn shake(address: SocketAddr, config: Arc<ClientConfig>, name: &str) -> std::io::Result<TlsStream> {
    let socket = TcpStream::connect(address)?;
    socket.set_read_timeout(Some(Duration::from_secs(10)))?;
    let name = match name.parse::<IpAddr>() {
        Ok(address) => ServerName::from(address),
        Err(_) => ServerName::try_from(name.to_owned()).unwrap(),
    };
    let mut stream = StreamOwned::new(ClientConnection::new(config, name).unwrap(), socket);
    while stream.conn.is_handshaking() {
        stream.conn.complete_io(&mut stream.sock)?;
    }
    Ok(stream)
}

impl World {
    /// A connection with TLS 1.3 that asks for `name`.
    pub(crate) fn connect_tls(&self, name: &str) -> Connection<TlsStream> {
        Connection::over(shake(self.tls_address.unwrap(), tls13(), name).unwrap())
    }
}

/// Replaces a file as a careful program does.
pub(crate) fn replace(path: &Path, content: &str) {
    let new = path.with_extension("new");
    fs::write(&new, content).unwrap();
    fs::rename(new, path).unwrap();
}
