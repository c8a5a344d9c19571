//! TLS: what is shown to whom, how handshakes end, and that the same bounds hold under it.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use pinstone_edge::tls::{CertName, Problem};
use pinstone_edge::{CertificateSources, Certificates, EdgeConfig};
use pinstone_engine::clock::Clock;
use rustls::version::TLS13;
use rustls::{ClientConnection, HandshakeKind, ProtocolVersion};

use crate::tls_client::{Folder, config, made, replace, rsa_alone, shake, tls12, tls13};
use crate::world::{SITE, World};

async fn world(
    certificates: Arc<Certificates>,
    configure: impl FnOnce(&mut EdgeConfig),
    files: &[(&str, &[u8])],
) -> World {
    let with_certificates = |config: &mut EdgeConfig| {
        config.certificates = Some(certificates);
        configure(config);
    };
    World::start(Clock::system(), None, with_certificates, files).await
}

async fn small_world(folder: &Folder) -> World {
    world(folder.open(), |_| {}, &[("index.html", b"home"), ("a.txt", b"aaa")]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn both_versions_are_spoken_and_connections_kept() {
    let world = small_world(&Folder::with(&[("a", &["*.pages.test"])])).await;
    for (config, version) in [(tls12(), ProtocolVersion::TLSv1_2), (tls13(), ProtocolVersion::TLSv1_3)] {
        let stream = shake(world.tls_address.unwrap(), config, SITE).unwrap();
        assert_eq!(stream.conn.protocol_version(), Some(version));
        assert_eq!(stream.conn.alpn_protocol(), None);
        let mut connection = crate::world::Connection::over(stream);
        for _ in 0..10 {
            assert_eq!(connection.get(SITE, "/", "").text(), "home");
            assert_eq!(connection.get(SITE, "/a.txt", "").text(), "aaa");
        }
    }
    assert_eq!(world.get(SITE, "/").text(), "home", "beside it, without TLS");
    assert_eq!(world.counters.accepted_connections(), 3);
    assert_eq!(world.counters.failed_handshakes(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn http_2_is_agreed_on() {
    let world = small_world(&Folder::with(&[("a", &["*.pages.test"])])).await;
    let connector = tokio_rustls::TlsConnector::from(config(&TLS13, &["h2", "http/1.1"]));
    let socket = tokio::net::TcpStream::connect(world.tls_address.unwrap()).await.unwrap();
    let stream = connector.connect(SITE.try_into().unwrap(), socket).await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    for (host, status) in [(SITE, 200), ("nobody.pages.test", 404), ("other.test", 421)] {
        let request = Request::get(format!("https://{host}/a.txt")).body(Full::<Bytes>::default()).unwrap();
        let response = sender.send_request(request).await.unwrap();
        assert_eq!(response.status().as_u16(), status, "{host}");
        let body = response.into_body().collect().await.unwrap().to_bytes();
        assert!(status != 200 || body == "aaa");
    }

    for (protocols, agreed) in [
        (&["http/1.1"][..], "http/1.1"),
        (&["http/1.1", "h2"], "h2"),
        (&["x", "http/1.1"], "http/1.1"),
        (&["http/1.0"], "http/1.0"),
    ] {
        let stream = shake(world.tls_address.unwrap(), config(&TLS13, protocols), SITE).unwrap();
        assert_eq!(stream.conn.alpn_protocol(), Some(agreed.as_bytes()), "{protocols:?}");
    }
    assert!(shake(world.tls_address.unwrap(), config(&TLS13, &["acme-tls/1"]), SITE).is_err(), "nothing in common");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_certificate_is_chosen_by_name() {
    let folder = Folder::with(&[
        ("exact", &["demo.pages.test", "second.test"]),
        ("wildcard", &["*.pages.test"]),
        ("address", &["127.0.0.1"]),
        ("other", &["other.test"]),
    ]);
    let certificates = folder.open();
    let world = world(Arc::clone(&certificates), |_| {}, &[]).await;
    let shown = |name: &str| {
        let stream = shake(world.tls_address.unwrap(), tls13(), name).ok()?;
        let shown = stream.conn.peer_certificates().unwrap()[0].clone();
        let files = ["exact", "wildcard", "address", "other", "default"];
        files.into_iter().find(|file| {
            std::fs::read_to_string(folder.path(&format!("{file}.crt"))).is_ok_and(|text| {
                use rustls::pki_types::pem::PemObject;
                rustls::pki_types::CertificateDer::from_pem_slice(text.as_bytes()).unwrap() == shown
            })
        })
    };
    for (name, want) in [
        ("demo.pages.test", Some("exact")),
        ("DEMO.pages.test", Some("exact")),
        ("second.test", Some("exact")),
        ("else.pages.test", Some("wildcard")),
        ("a.b.pages.test", None),
        ("pages.test", None),
        ("other.test", Some("other")),
        ("nobody.test", None),
        // No name, but an address that one is for.
        ("127.0.0.1", Some("address")),
    ] {
        assert_eq!(shown(name), want, "{name}");
    }
    folder.write("default", &["default.test"]);
    certificates.refresh(SystemTime::now());
    certificates.refresh(SystemTime::now());
    assert_eq!(shown("nobody.test"), Some("default"), "for names that are not there, if there is one");
    assert_eq!(shown("demo.pages.test"), Some("exact"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_only_certificate_is_the_default_one() {
    let world = small_world(&Folder::with(&[("a", &["*.pages.test"])])).await;
    for name in ["127.0.0.1", "nobody.test"] {
        let mut connection = world.connect_tls(name);
        assert_eq!(connection.get(SITE, "/a.txt", "").text(), "aaa", "whatever name the handshake was for");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_the_certificate_does_not_cover_is_421() {
    let folder = Folder::with(&[("a", &["*.pages.test", "::1"]), ("other", &["other.test"])]);
    let world = small_world(&folder).await;
    let mut connection = world.connect_tls("anything.pages.test");
    for (host, status) in [
        (SITE, 200),
        ("DEMO.pages.test.:8443", 200),
        ("nobody.pages.test", 404),
        // There is a certificate for it, but it was not shown here.
        ("other.test", 421),
        ("pages.test", 421),
        ("x.demo.pages.test", 421),
        ("127.0.0.1", 421),
    ] {
        let response = connection.get(host, "/", "");
        assert_eq!((response.status, response.field("connection")), (status, None), "{host}");
    }
    assert_eq!(connection.get(SITE, "/", "").text(), "home", "on the same connection");
    connection.send("GET https://other.test/ HTTP/1.1\r\nHost: demo.pages.test\r\n\r\n");
    assert_eq!(connection.receive(true).status, 421, "the authority counts");
    assert_eq!(world.get("other.test", "/").status, 404, "without TLS there is no such thing");
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_are_resumed_on_every_worker() {
    let world = small_world(&Folder::with(&[("a", &["*.pages.test"])])).await;
    for config in [tls12(), tls13()] {
        let kinds: Vec<_> = (0..12)
            .map(|_| {
                let stream = shake(world.tls_address.unwrap(), Arc::clone(&config), SITE).unwrap();
                let mut connection = crate::world::Connection::over(stream);
                // Tickets come with the first answer.
                assert_eq!(connection.get(SITE, "/", "").text(), "home");
                connection.stream.conn.handshake_kind()
            })
            .collect();
        assert_eq!(kinds[0], Some(HandshakeKind::Full));
        assert!(kinds[1..].iter().all(|kind| *kind == Some(HandshakeKind::Resumed)), "{kinds:?}");
    }
}

#[test]
fn certificates_are_as_their_files_are() {
    let folder = Folder::with(&[("a", &["a.test"]), ("b", &["b.test"])]);
    let certificates = folder.open();
    let look = || certificates.refresh(SystemTime::now());
    let names = || {
        let mut names: Vec<String> =
            certificates.all().iter().flat_map(|one| one.names()).map(ToString::to_string).collect();
        names.sort();
        names
    };
    look();
    assert_eq!(names(), ["a.test", "b.test"]);

    folder.write("c", &["c.test"]);
    look();
    assert_eq!(names(), ["a.test", "b.test"], "it may be written still");
    look();
    assert_eq!(names(), ["a.test", "b.test", "c.test"]);

    // One file of two, as in the middle of a renewal: no pair is made of halves.
    let (_, chain, key) = made(&["a2.test"]);
    replace(&folder.path("a.crt"), &chain);
    look();
    look();
    look();
    assert_eq!(names(), ["a.test", "b.test", "c.test"]);
    replace(&folder.path("a.key"), &key);
    look();
    look();
    assert_eq!(names(), ["a2.test", "b.test", "c.test"]);

    let whole = std::fs::read_to_string(folder.path("b.crt")).unwrap();
    for broken in ["", "nonsense", &whole[..whole.len() / 2]] {
        replace(&folder.path("b.crt"), broken);
        look();
        look();
        assert_eq!(names(), ["a2.test", "b.test", "c.test"], "what is broken changes nothing: {broken}");
    }
    std::fs::remove_file(folder.path("c.crt")).unwrap();
    look();
    assert_eq!(names().len(), 3, "it may be about to come back");
    look();
    assert_eq!(names(), ["a2.test", "b.test"]);

    // A folder as certbot keeps it, whose links lead to the newest.
    std::fs::create_dir(folder.path("live")).unwrap();
    for number in ["1", "2"] {
        let (_, chain, key) = made(&[&format!("live{number}.test")]);
        std::fs::write(folder.path(&format!(".fullchain{number}")), chain).unwrap();
        std::fs::write(folder.path(&format!(".privkey{number}")), key).unwrap();
    }
    for number in ["1", "2"] {
        for name in ["fullchain", "privkey"] {
            let link = folder.path(&format!("live/{name}.pem"));
            let _ = std::fs::remove_file(&link);
            std::os::unix::fs::symlink(folder.path(&format!(".{name}{number}")), link).unwrap();
        }
        look();
        look();
        assert_eq!(names(), ["a2.test".to_owned(), "b.test".to_owned(), format!("live{number}.test")]);
    }
    let folder_path = folder.0.path().to_owned();
    std::fs::rename(&folder_path, folder_path.with_extension("away")).unwrap();
    look();
    look();
    assert_eq!(names().len(), 3, "a folder that cannot be listed changes nothing");
    std::fs::rename(folder_path.with_extension("away"), &folder_path).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renewed_certificate_is_shown_without_a_restart() {
    let folder = Folder::with(&[("a", &["*.pages.test"])]);
    let world = small_world(&folder).await;
    let mut before = world.connect_tls(SITE);
    let renewed = folder.write("a", &["*.pages.test"]);
    let shown = || {
        let stream = shake(world.tls_address.unwrap(), tls13(), SITE).unwrap();
        stream.conn.peer_certificates().unwrap()[0].clone()
    };
    while shown() != renewed {
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(before.get(SITE, "/", "").text(), "home", "a connection keeps what it was shown");
}

#[test]
fn all_that_is_wrong_is_told_at_once() {
    let folder = Folder::with(&[("good", &["a.test"]), ("mixed", &["b.test"]), ("alone", &["c.test"])]);
    let (_, chain, key) = made(&["d.test"]);
    std::fs::write(folder.path("mixed.key"), &key).unwrap();
    std::fs::remove_file(folder.path("alone.key")).unwrap();
    std::fs::write(folder.path("empty.pem"), "").unwrap();
    std::fs::write(folder.path("keyless.pem"), &chain).unwrap();
    std::fs::write(folder.path("both.pem"), chain.clone() + &key).unwrap();
    std::fs::write(folder.path("cut.crt"), &chain[..chain.len() - 40]).unwrap();
    std::fs::write(folder.path("cut.key"), &key).unwrap();
    std::fs::write(folder.path("locked.crt"), &chain).unwrap();
    std::fs::write(folder.path("locked.key"), key.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY")).unwrap();
    let errors = Certificates::open(folder.sources()).unwrap_err().errors;
    let told: Vec<_> = errors
        .iter()
        .map(|error| {
            let problem = match &error.problem {
                Problem::Mismatch(_) => "mismatch",
                Problem::Read(_) => "read",
                Problem::NoCertificate => "no certificate",
                Problem::NoKey => "no key",
                Problem::NotPem => "no PEM",
                Problem::EncryptedKey => "encrypted",
                other => panic!("{other}"),
            };
            (error.path.file_name().unwrap().to_str().unwrap(), problem)
        })
        .collect();
    assert_eq!(
        told,
        [
            ("alone.key", "read"),
            ("cut.crt", "no PEM"),
            ("empty.pem", "no certificate"),
            ("keyless.pem", "no key"),
            ("locked.key", "encrypted"),
            ("mixed.key", "mismatch"),
        ]
    );
    assert!(errors.iter().all(|error| !error.to_string().contains(&key[40..60])), "no word of a key: {errors:?}");
    let nameless = Folder::with(&[]);
    for (name, text) in [("x.crt", include_str!("keys/nosan.crt")), ("x.key", include_str!("keys/nosan.key"))] {
        std::fs::write(nameless.path(name), text).unwrap();
    }
    assert!(matches!(Certificates::open(nameless.sources()).unwrap_err().errors[0].problem, Problem::NoNames));
    let nothing = Folder::with(&[]);
    assert!(matches!(Certificates::open(nothing.sources()).unwrap_err().errors[0].problem, Problem::Empty));
    let absent = CertificateSources { pair: None, folder: Some("/nowhere/at/all".into()) };
    assert!(matches!(Certificates::open(absent).unwrap_err().errors[0].problem, Problem::Read(_)));
}

#[test]
fn keys_of_every_kind_are_read() {
    let folder = Folder::with(&[]);
    for (name, algorithm) in [
        ("p256", &rcgen::PKCS_ECDSA_P256_SHA256),
        ("p384", &rcgen::PKCS_ECDSA_P384_SHA384),
        ("ed25519", &rcgen::PKCS_ED25519),
    ] {
        let key = rcgen::KeyPair::generate_for(algorithm).unwrap();
        let certificate = rcgen::CertificateParams::new([format!("{name}.test")]).unwrap().self_signed(&key).unwrap();
        std::fs::write(folder.path(&format!("{name}.crt")), certificate.pem()).unwrap();
        std::fs::write(folder.path(&format!("{name}.key")), key.serialize_pem()).unwrap();
    }
    let all = folder.open().all();
    assert_eq!(all.len(), 3);
    assert!(all.iter().all(|one| one.not_after() > 4_000_000_000 && matches!(one.names(), [CertName::Exact(_)])));
}

/// Made by `openssl`: RSA as PKCS #1 and ECDSA as SEC 1, both for `rsa.test`.
const RSA: [&str; 2] = [include_str!("keys/rsa.crt"), include_str!("keys/rsa.key")];
const EC: [&str; 2] = [include_str!("keys/ec.crt"), include_str!("keys/ec.key")];

#[tokio::test(flavor = "multi_thread")]
async fn of_several_certificates_the_client_gets_one_that_it_can_check() {
    let folder = Folder::with(&[("else", &["else.test"])]);
    for (name, [chain, key]) in [("a", RSA), ("b", EC)] {
        std::fs::write(folder.path(&format!("{name}.crt")), chain).unwrap();
        std::fs::write(folder.path(&format!("{name}.key")), key).unwrap();
    }
    let world = small_world(&folder).await;
    for (config, want) in [(tls13(), EC), (tls12(), EC), (rsa_alone(), RSA)] {
        let stream = shake(world.tls_address.unwrap(), config, "rsa.test").unwrap();
        use rustls::pki_types::pem::PemObject;
        let want = rustls::pki_types::CertificateDer::from_pem_slice(want[0].as_bytes()).unwrap();
        assert!(stream.conn.peer_certificates().unwrap()[0] == want, "ECDSA first, RSA where there is nothing else");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_speak_tls_is_told() {
    let world = small_world(&Folder::with(&[("a", &["*.pages.test"])])).await;
    let connect = || {
        let stream = TcpStream::connect(world.tls_address.unwrap()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        crate::world::Connection::over(stream)
    };
    let mut plain = connect();
    plain.send(format!("GET / HTTP/1.1\r\nHost: {SITE}\r\n\r\n"));
    let answer = plain.receive(true);
    assert_eq!((answer.status, answer.text()), (400, "This port speaks TLS: ask it by an https:// URL"));
    assert!(plain.is_closed());
    let mut garbage = connect();
    garbage.send([0, 1, 2, 3, 4, 5, 6, 7]);
    let mut rest = Vec::new();
    let _ = garbage.stream.read_to_end(&mut rest);
    assert!(rest.is_empty() || rest[0] == 21, "an alert at most: {rest:?}");

    // A ClientHello that says it goes on for 64 KiB.
    let mut endless = connect();
    let record = [&[0x16, 3, 1, 0x10, 0][..], &[1, 0, 0xff, 0xff, 3, 3], &[7; 0x1000 - 6]].concat();
    let next = [&[0x16, 3, 1, 0x10, 0][..], &[7; 0x1000]].concat();
    endless.send(&record);
    let ended = (0..64).any(|_| {
        std::thread::sleep(Duration::from_millis(5));
        endless.stream.write_all(&next).is_err()
    });
    assert!(ended || endless.is_closed(), "it is not listened to to its end");
    assert_eq!(world.connect_tls(SITE).get(SITE, "/", "").text(), "home");
    while world.counters.failed_handshakes() < 3 {
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn deadlines_hold_under_tls() {
    let large = vec![9; 50_000_000];
    let configure = |config: &mut EdgeConfig| {
        config.limits.head_timeout = Duration::from_millis(400);
        config.limits.idle_timeout = Duration::from_secs(5);
        config.limits.write_timeout = Duration::from_millis(600);
    };
    let folder = Folder::with(&[("a", &["*.pages.test"])]);
    let world = world(folder.open(), configure, &[("a.txt", b"a"), ("large.bin", &large)]).await;
    let mut half_hello = TcpStream::connect(world.tls_address.unwrap()).unwrap();
    let mut client = ClientConnection::new(tls13(), SITE.try_into().unwrap()).unwrap();
    let mut hello = Vec::new();
    client.write_tls(&mut hello).unwrap();
    half_hello.write_all(&hello[..hello.len() / 2]).unwrap();
    half_hello.set_read_timeout(Some(Duration::from_secs(10))).unwrap();

    let mut slow_head = world.connect_tls(SITE);
    slow_head.send("GET / HT");
    let mut half_record = world.connect_tls(SITE);
    assert_eq!(half_record.get(SITE, "/a.txt", "").text(), "a");
    half_record.stream.sock.write_all(&[23, 3, 3, 1, 0, 1, 2, 3]).unwrap();
    let mut idle = world.connect_tls(SITE);
    assert_eq!(idle.get(SITE, "/a.txt", "").text(), "a");
    let mut stalled = world.connect_tls(SITE);
    stalled.send(format!("GET /large.bin HTTP/1.1\r\nHost: {SITE}\r\n\r\n"));

    let mut rest = Vec::new();
    let ended = half_hello.read_to_end(&mut rest);
    assert!(rest.is_empty() && ended.is_ok_and(|read| read == 0), "a handshake has the deadline of a head");
    assert!(slow_head.is_closed());
    assert!(half_record.is_closed(), "a part of a record is a part of a head");
    assert_eq!(idle.get(SITE, "/a.txt", "").text(), "a", "one that is idle has more time");
    assert!(idle.is_closed());
    let mut body = Vec::new();
    let ended = stalled.stream.read_to_end(&mut body);
    assert!(ended.is_err() || body.len() < large.len(), "a client that does not read is dropped");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_is_announced() {
    let large: Vec<u8> = (0..3_000_000_u32).map(|n| (n % 251).to_le_bytes()[0]).collect();
    let folder = Folder::with(&[("a", &["*.pages.test"])]);
    let world = world(folder.open(), |_| {}, &[("large.bin", &large)]).await;
    for config in [tls12(), tls13()] {
        let mut stream = shake(world.tls_address.unwrap(), config, SITE).unwrap();
        write!(stream, "GET /large.bin HTTP/1.1\r\nHost: {SITE}\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = Vec::new();
        // Without `close_notify` this would be an error, for a body may have been cut.
        stream.read_to_end(&mut answer).unwrap();
        assert!(answer.ends_with(&large));
    }
    let mut idle = world.connect_tls(SITE);
    // The handshake is over for the client before it is for the edge.
    assert_eq!(idle.get(SITE, "/nothing", "").status, 404);
    world.shutdown.cancel();
    let mut idle = idle.stream;
    assert_eq!(idle.read(&mut [0; 1]).map_err(|error| error.kind()), Ok(0), "nor is an idle one just cut");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_rested_goes_on_and_its_end_is_announced() {
    let large: Vec<u8> = (0..3_000_000_u32).map(|n| (n % 251).to_le_bytes()[0]).collect();
    let folder = Folder::with(&[("a", &["*.pages.test"])]);
    let world = world(folder.open(), |_| {}, &[("a.txt", b"a"), ("large.bin", &large)]).await;
    let mut client = world.connect_tls(SITE);
    for _ in 0..2 {
        assert_eq!(client.get(SITE, "/a.txt", "").text(), "a");
        // Longer than it takes an idle connection to give its memory back.
        std::thread::sleep(Duration::from_millis(2500));
        assert!(client.get(SITE, "/large.bin", "").body == large);
    }
    std::thread::sleep(Duration::from_millis(2500));
    world.shutdown.cancel();
    let mut stream = client.stream;
    assert_eq!(stream.read(&mut [0; 1]).map_err(|error| error.kind()), Ok(0), "not just cut");
}

#[tokio::test(flavor = "multi_thread")]
async fn large_answers_come_in_whole_records() {
    let large = vec![5; 4 << 20];
    let folder = Folder::with(&[("a", &["*.pages.test"])]);
    let world = world(folder.open(), |_| {}, &[("large.bin", &large)]).await;
    let mut socket = TcpStream::connect(world.tls_address.unwrap()).unwrap();
    let mut client = ClientConnection::new(tls13(), SITE.try_into().unwrap()).unwrap();
    while client.is_handshaking() {
        client.complete_io(&mut socket).unwrap();
    }
    write!(client.writer(), "GET /large.bin HTTP/1.1\r\nHost: {SITE}\r\nConnection: close\r\n\r\n").unwrap();
    client.write_tls(&mut socket).unwrap();
    let mut bytes = Vec::new();
    socket.read_to_end(&mut bytes).unwrap();
    let (mut records, mut rest) = (0, &bytes[..]);
    while let [_, _, _, high, low, after @ ..] = rest {
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        records += 1;
        rest = &after[length..];
    }
    // A window is four whole records; a few more are tickets, the head and the end.
    let whole = large.len() / (16 << 10);
    assert!(records <= whole + whole / 8, "{records} records for what fits {whole}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_in_a_handshake_leaves_nothing() {
    let world = small_world(&Folder::with(&[("a", &["*.pages.test"])])).await;
    for length in [0, 1, 5, 100] {
        let mut socket = TcpStream::connect(world.tls_address.unwrap()).unwrap();
        let mut client = ClientConnection::new(tls13(), SITE.try_into().unwrap()).unwrap();
        let mut hello = Vec::new();
        client.write_tls(&mut hello).unwrap();
        socket.write_all(&hello[..length]).unwrap();
    }
    while world.counters.open_connections() > 0 || world.counters.failed_handshakes() < 4 {
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(world.connect_tls(SITE).get(SITE, "/", "").text(), "home");
}

#[test]
fn without_certificates_there_is_no_tls() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let world = runtime.block_on(World::with(&[]));
    assert_eq!(world.tls_address, None);
    assert!(matches!(
        shake(world.address, tls13(), SITE).map(drop).map_err(|error| error.kind()),
        Err(ErrorKind::InvalidData | ErrorKind::UnexpectedEof)
    ));
}
