//! TLS, the same for all: one certificate, one version, one cipher suite, one group.
//!
//! What a server lets its operator choose differs (Caddy: nothing of TLS 1.3), so the choice is the client's. Every client
//! here offers TLS 1.3, `TLS_AES_128_GCM_SHA256` (the suite that every browser and server has) and X25519, and nothing
//! else: the harness's own by rustls, `wrk` and `h2load` by a configuration of OpenSSL, which [`check_offer`] sees
//! them follow.

use std::fs;
use std::io::Write as _;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256 as SUITE;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::crypto::aws_lc_rs::kx_group::X25519 as GROUP;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::Acceptor;
use rustls::{
    CertificateError, CipherSuite, ClientConfig, CommonState, DigitallySignedStruct, HandshakeKind, NamedGroup,
    ProtocolVersion, SignatureScheme, version,
};

use crate::http;
use crate::servers::HOST;

/// What OpenSSL calls what every client offers.
pub(crate) const SUITE_NAME: &str = "TLS_AES_128_GCM_SHA256";
pub(crate) const GROUP_NAME: &str = "X25519";

/// How long a program may take to connect.
const PATIENCE: Duration = Duration::from_secs(20);

/// The certificate of a run, its key, and what clients need to agree on the rest.
#[derive(Debug)]
pub(crate) struct Identity {
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
    /// OpenSSL's configuration.
    openssl: PathBuf,
    der: CertificateDer<'static>,
}

impl Identity {
    /// Makes a certificate that signs itself (ECDSA on P-256), and writes it into a folder with its key.
    pub(crate) fn create(folder: &Path) -> Result<Self> {
        let names = [HOST, "localhost", "127.0.0.1"].map(str::to_owned);
        let made = rcgen::generate_simple_self_signed(names).context("cannot make a certificate")?;
        let identity = Self {
            certificate: folder.join("certificate.pem"),
            key: folder.join("key.pem"),
            openssl: folder.join("openssl.cnf"),
            der: made.cert.der().clone(),
        };
        fs::write(&identity.certificate, made.cert.pem())?;
        fs::write(&identity.openssl, openssl())?;
        let mut key = fs::File::options().write(true).create_new(true).mode(0o600).open(&identity.key)?;
        key.write_all(made.signing_key.serialize_pem().as_bytes())?;
        Ok(identity)
    }

    /// A client's settings: no session is ever resumed, and only this certificate is accepted.
    pub(crate) fn client(&self, protocols: &[&str]) -> Result<Arc<ClientConfig>> {
        let provider = CryptoProvider { cipher_suites: vec![SUITE], kx_groups: vec![GROUP], ..default_provider() };
        let mut config = ClientConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(&[&version::TLS13])
            .context("TLS 1.3 has its suite")?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(OnlyThis { der: self.der.clone() }))
            .with_no_client_auth();
        config.resumption = rustls::client::Resumption::disabled();
        config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        Ok(Arc::new(config))
    }

    /// Has a program that uses OpenSSL offer what every client offers.
    pub(crate) fn configure(&self, command: &mut Command) {
        command.env("OPENSSL_CONF", &self.openssl);
    }
}

/// Looks at the hello of a program that `start` gives a URL, which gets no answer.
///
/// # Errors
///
/// Where it offers something else than every client does.
pub(crate) fn check_offer(start: impl FnOnce(String) -> Result<Child>) -> Result<()> {
    let listener = TcpListener::bind(http::local(0))?;
    listener.set_nonblocking(true)?;
    let mut child = start(format!("https://127.0.0.1:{}/", listener.local_addr()?.port()))?;
    let offer = first_hello(&listener);
    child.kill()?;
    child.wait()?;
    let (mut suites, groups) = offer?;
    // A signal, not a suite.
    suites.retain(|suite| *suite != CipherSuite::TLS_EMPTY_RENEGOTIATION_INFO_SCSV);
    let same = suites == [SUITE.suite()] && groups == [GROUP.name()];
    ensure!(same, "it offers {suites:?} and {groups:?}, and not just {SUITE_NAME} and {GROUP_NAME}");
    Ok(())
}

/// All of it, for the report.
pub(crate) fn description() -> String {
    format!("TLS 1.3, {SUITE_NAME}, {GROUP_NAME}, ECDSA on P-256")
}

/// The same for a program that uses OpenSSL, which reads the file that `OPENSSL_CONF` names.
fn openssl() -> String {
    format!(
        "openssl_conf = load\n[load]\nssl_conf = tls\n[tls]\nsystem_default = client\n[client]\n\
         MinProtocol = TLSv1.3\nCiphersuites = {SUITE_NAME}\nGroups = {GROUP_NAME}\n"
    )
}

/// The name that clients ask for.
pub(crate) fn server_name() -> ServerName<'static> {
    ServerName::try_from(HOST).expect("the host is a name")
}

/// Makes sure that a handshake was what it should be, and a full one.
pub(crate) fn check(connection: &CommonState) -> Result<()> {
    let (version, suite) = (connection.protocol_version(), connection.negotiated_cipher_suite());
    ensure!(version == Some(ProtocolVersion::TLSv1_3), "the version is {version:?}");
    ensure!(suite.is_some_and(|suite| suite.suite() == SUITE.suite()), "the cipher suite is {suite:?}");
    let kind = connection.handshake_kind();
    ensure!(kind == Some(HandshakeKind::Full), "the handshake is {kind:?}");
    Ok(())
}

/// The cipher suites and groups that a client offers.
type Offer = (Vec<CipherSuite>, Vec<NamedGroup>);

/// What the first client offers that says anything: wrk connects once just to see whether somebody listens.
fn first_hello(listener: &TcpListener) -> Result<Offer> {
    let began = Instant::now();
    loop {
        match listener.accept() {
            Ok((stream, _)) => {
                if let Some(offer) = hello(stream)? {
                    return Ok(offer);
                }
            }
            Err(error) if began.elapsed() > PATIENCE => return Err(error).context("it does not connect"),
            Err(_) => std::thread::sleep(Duration::from_millis(2)),
        }
    }
}

/// What a client offers, if it does not leave at once.
fn hello(mut stream: TcpStream) -> Result<Option<Offer>> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut acceptor = Acceptor::default();
    loop {
        if acceptor.read_tls(&mut stream).context("it sends no hello")? == 0 {
            return Ok(None);
        }
        match acceptor.accept() {
            Ok(Some(accepted)) => {
                let hello = accepted.client_hello();
                let groups = hello.named_groups().unwrap_or_default();
                return Ok(Some((hello.cipher_suites().to_vec(), groups.to_vec())));
            }
            Ok(None) => {}
            Err((error, _)) => return Err(error).context("it sends no hello"),
        }
    }
}

/// Accepts the run's certificate, byte for byte. That the server has its key is not verified: it would cost the client
/// more than all else in a handshake, and make it the limit before a fast server is.
#[derive(Debug)]
struct OnlyThis {
    der: CertificateDer<'static>,
}

impl ServerCertVerifier for OnlyThis {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if *certificate == self.der {
            Ok(ServerCertVerified::assertion())
        } else {
            Err(CertificateError::UnknownIssuer.into())
        }
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("TLS 1.2 is not offered".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ECDSA_NISTP256_SHA256]
    }
}

#[cfg(test)]
mod tests {
    use rustls::ClientConnection;

    use super::*;
    use crate::http::Connection;
    use crate::stand_in;

    #[test]
    fn each_handshake_is_full() {
        let folder = tempfile::tempdir().unwrap();
        let identity = Identity::create(folder.path()).unwrap();
        let (port, client) = (stand_in::serve(&identity, "http/1.1"), identity.client(&["http/1.1"]).unwrap());
        for _ in 0..3 {
            // Opening checks version, suite, and that nothing was resumed; an answer comes after the tickets.
            let answer = Connection::open(port, Some(&client)).unwrap().get(HOST, "/", &[]).unwrap();
            assert_eq!((answer.status, answer.body.as_slice()), (200, stand_in::BODY));
        }
    }

    #[test]
    fn another_certificate_is_refused() {
        let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        let [one, other] = folders.each_ref().map(|folder| Identity::create(folder.path()).unwrap());
        let port = stand_in::serve(&one, "http/1.1");
        assert!(Connection::open(port, Some(&other.client(&["http/1.1"]).unwrap())).is_err());
        assert!(Connection::open(port, Some(&one.client(&["http/1.1"]).unwrap())).is_ok());
    }

    #[test]
    fn a_hello_tells_what_is_offered() {
        let folder = tempfile::tempdir().unwrap();
        let client = Identity::create(folder.path()).unwrap().client(&[]).unwrap();
        let listener = TcpListener::bind(http::local(0)).unwrap();
        drop(TcpStream::connect(listener.local_addr().unwrap()).unwrap());
        let mut stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        ClientConnection::new(client, server_name()).unwrap().write_tls(&mut stream).unwrap();
        assert_eq!(first_hello(&listener).unwrap(), (vec![SUITE.suite()], vec![GROUP.name()]));
    }

    #[test]
    fn openssl_is_told_the_same() {
        let text = openssl();
        for line in ["MinProtocol = TLSv1.3", "Ciphersuites = TLS_AES_128_GCM_SHA256", "Groups = X25519"] {
            assert!(text.lines().any(|found| found == line), "{line} in {text}");
        }
    }
}
