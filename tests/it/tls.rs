//! `serve` with TLS, from its flags to a client that checks the certificate.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use serde_json::{Value, json};

use crate::site::Files;
use crate::world::{PATIENCE, World, run, until};

/// A certificate for `names`, as `a.crt` and `a.key` in the working folder.
fn write_certificate(world: &World, names: &[&str]) -> CertificateDer<'static> {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let made = rcgen::generate_simple_self_signed(names).unwrap();
    std::fs::write(world.work().join("a.crt"), made.cert.pem()).unwrap();
    std::fs::write(world.work().join("a.key"), made.signing_key.serialize_pem()).unwrap();
    made.cert.der().clone()
}

/// One GET over TLS, by a client that trusts `certificate` and nothing else.
fn get(address: SocketAddr, certificate: &CertificateDer<'static>, host: &str) -> std::io::Result<String> {
    let mut roots = RootCertStore::empty();
    roots.add(certificate.clone()).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let client = ClientConnection::new(Arc::new(config), host.to_owned().try_into().unwrap()).unwrap();
    let socket = TcpStream::connect(address)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    let mut stream = StreamOwned::new(client, socket);
    write!(stream, "GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

#[test]
fn sites_are_served_over_tls() {
    let mut world = World::stopped();
    let first = write_certificate(&world, &["*.pages.test", "pages.test"]);
    world.serve_with(&[
        "--base-domain",
        "pages.test",
        "--control-hosts",
        "localhost",
        "--tls-listen",
        "127.0.0.1:0",
        "--tls-cert",
        "a.crt",
        "--tls-key",
        "a.key",
        "--tls-redirect",
        "true",
        "--tls-hsts",
        "1h",
    ]);
    world.restart();
    let server: Value = serde_json::from_slice(&std::fs::read(world.data().join("server.json")).unwrap()).unwrap();
    let [plain, secured] = &**server["urls"].as_array().unwrap() else { panic!("{server}") };
    assert_eq!(*plain, json!(world.url()), "what speaks no TLS comes first");
    let address: SocketAddr = secured.as_str().unwrap().strip_prefix("https://").unwrap().parse().unwrap();

    let files: Files = vec![("index.html".to_owned(), b"over TLS".to_vec())];
    let image = world.commit("demo", &files);
    let released = world.release("demo", "prod", &image);
    let url = format!("https://demo.pages.test:{}", address.port());
    assert_eq!(released["url"], json!(url), "what an answer names is reached over TLS");
    let answer = get(address, &first, "demo.pages.test").unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("\r\n\r\nover TLS"), "{answer}");
    assert!(answer.to_ascii_lowercase().contains("strict-transport-security: max-age=3600\r\n"), "{answer}");
    let redirect = world.get("demo.pages.test", "/a?b").expect(308);
    assert_eq!(redirect.header("location"), Some(&*format!("{url}/a?b")));

    let renewed = write_certificate(&world, &["*.pages.test"]);
    until("the renewed certificate is shown", || get(address, &renewed, "demo.pages.test").is_ok());
    assert!(get(address, &first, "demo.pages.test").is_err(), "and not the one before");

    let mut check = world.command();
    check.args(["check-config", "--tls-listen", "127.0.0.1:0", "--tls-cert", "a.crt", "--tls-key", "a.key", "--json"]);
    let checked = run(check).expect(0).json();
    assert_eq!(checked["tls"]["certificates"][0]["names"], json!(["*.pages.test"]), "{checked}");
    std::fs::write(world.work().join("a.key"), rcgen::KeyPair::generate().unwrap().serialize_pem()).unwrap();
    let mut check = world.command();
    check.args(["check-config", "--tls-listen", "127.0.0.1:0", "--tls-cert", "a.crt", "--tls-key", "a.key"]);
    let told = run(check).expect(2).stderr;
    assert!(told.contains("`a.key` is not the key of the first certificate in `a.crt`"), "{told}");
    assert!(world.stop().success());
}
