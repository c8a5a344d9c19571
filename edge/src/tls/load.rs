//! From two files to a certificate, or to why there is none. Whatever is wrong is found here, not in a handshake.

use std::fs::File;
use std::io::{self, Read};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::InconsistentKeys;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use x509_parser::extensions::GeneralName;

use super::files::Pair;
use super::names::CertName;
use super::set::Certificate;
use super::{CertificateSources, Template};

/// More than any chain has.
const MOST_BYTES: u64 = 1 << 20;

/// A file that no certificate comes out of.
#[derive(Debug, thiserror::Error)]
#[error("`{}` {problem}", path.display())]
pub struct CertificateError {
    /// The file, or the folder.
    pub path: PathBuf,
    /// What is wrong with it.
    pub problem: Problem,
}

/// What is wrong with a file.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// It cannot be read.
    #[error("cannot be read: {0}")]
    Read(io::Error),
    /// It has more than a megabyte.
    #[error("has more than 1 MiB, so it is no certificate")]
    TooLarge,
    /// It is not PEM, or is cut off.
    #[error("is not a whole PEM file")]
    NotPem,
    /// There is no certificate in it.
    #[error("has no certificate: it must have `-----BEGIN CERTIFICATE-----`")]
    NoCertificate,
    /// The first certificate is none.
    #[error("has a certificate that cannot be read: {0}")]
    Certificate(String),
    /// The certificate is for no name.
    #[error("is for no name that a browser would accept: it needs a DNS name or an address as subjectAltName")]
    NoNames,
    /// There is no key in it.
    #[error("has no private key: put it into a `.key` of the same name, as PKCS #8, PKCS #1 or SEC 1")]
    NoKey,
    /// The key is encrypted.
    #[error("has a private key that is encrypted: decrypt it by `openssl pkey -in FILE`")]
    EncryptedKey,
    /// The key is of a kind that is not served with.
    #[error("has a private key that is not RSA of 2048 bits or more, ECDSA on P-256 or P-384, or Ed25519")]
    Key,
    /// The key belongs to another certificate.
    #[error("is not the key of the first certificate in `{}`: that must be the server's own, before its chain", .0.display())]
    Mismatch(PathBuf),
    /// It changed while it was read.
    #[error("changes while it is read")]
    Unsteady,
    /// A folder without a certificate.
    #[error("has no certificate: put `NAME.crt` and `NAME.key` there, or `NAME/fullchain.pem` and `NAME/privkey.pem`")]
    Empty,
}

impl CertificateError {
    pub(super) fn new(path: &Path, problem: Problem) -> Self {
        Self { path: path.to_owned(), problem }
    }
}

/// Reads a pair of files.
pub(super) fn certificate(pair: &Pair, template: &Template) -> Result<Certificate, CertificateError> {
    let of_chain = |problem| CertificateError::new(&pair.chain, problem);
    let of_key = |problem| CertificateError::new(&pair.key, problem);
    let text = read(&pair.chain)?;
    let chain = CertificateDer::pem_slice_iter(&text)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|_: pem::Error| of_chain(Problem::NotPem))?;
    let leaf = chain.first().ok_or_else(|| of_chain(Problem::NoCertificate))?;
    let (names, not_after) = facts(leaf).map_err(of_chain)?;

    let text = if pair.key == pair.chain { text } else { read(&pair.key)? };
    // What is wrong with a key is never told in its own words.
    let key = PrivateKeyDer::from_pem_slice(&text).map_err(|error| {
        of_key(match error {
            pem::Error::NoItemsFound if contains(&text, b"ENCRYPTED PRIVATE KEY") => Problem::EncryptedKey,
            pem::Error::NoItemsFound => Problem::NoKey,
            _ => Problem::NotPem,
        })
    })?;
    let encrypted = contains(&text, b"Proc-Type: 4,ENCRYPTED");
    let key = template
        .provider
        .key_provider
        .load_private_key(key)
        .map_err(|_| of_key(if encrypted { Problem::EncryptedKey } else { Problem::Key }))?;
    let certified = Arc::new(CertifiedKey::new(chain, key));
    match certified.keys_match() {
        Ok(()) => {}
        Err(rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch)) => {
            return Err(of_key(Problem::Mismatch(pair.chain.clone())));
        }
        Err(error) => return Err(of_chain(Problem::Certificate(error.to_string()))),
    }
    let config = template.config(Arc::clone(&certified));
    Ok(Certificate::new(names, not_after, pair.chain.clone(), pair.is_default, certified.key.clone(), config))
}

/// Nothing that is shown is missing: a source that has no certificate at all is an error of its own.
pub(super) fn none_at_all(sources: &CertificateSources) -> Option<CertificateError> {
    match sources {
        CertificateSources { pair: None, folder: Some(folder) } => Some(CertificateError::new(folder, Problem::Empty)),
        _ => None,
    }
}

fn read(path: &Path) -> Result<Vec<u8>, CertificateError> {
    let failed = |problem| CertificateError::new(path, problem);
    let file = File::open(path).map_err(|error| failed(Problem::Read(error)))?;
    let mut text = Vec::new();
    file.take(MOST_BYTES + 1).read_to_end(&mut text).map_err(|error| failed(Problem::Read(error)))?;
    if text.len() as u64 > MOST_BYTES { Err(failed(Problem::TooLarge)) } else { Ok(text) }
}

/// The names of a certificate, and the second that it ends in.
fn facts(leaf: &CertificateDer<'_>) -> Result<(Vec<CertName>, i64), Problem> {
    let unreadable = |error: &dyn std::fmt::Display| Problem::Certificate(error.to_string());
    let (_, parsed) = x509_parser::parse_x509_certificate(leaf).map_err(|error| unreadable(&error))?;
    let alternative = parsed.subject_alternative_name().map_err(|error| unreadable(&error))?;
    let general_names = alternative.map_or(&[][..], |extension| extension.value.general_names.as_slice());
    let names: Vec<_> = general_names.iter().filter_map(name).collect();
    if names.is_empty() { Err(Problem::NoNames) } else { Ok((names, parsed.validity().not_after.timestamp())) }
}

fn name(general: &GeneralName<'_>) -> Option<CertName> {
    match general {
        GeneralName::DNSName(text) => CertName::dns(text),
        GeneralName::IPAddress(bytes) => {
            let address = <[u8; 4]>::try_from(*bytes)
                .map(IpAddr::from)
                .or_else(|_| <[u8; 16]>::try_from(*bytes).map(IpAddr::from));
            address.ok().map(|address| CertName::Ip(address.to_canonical()))
        }
        _ => None,
    }
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}
