//! HTTP/2 of clients that mean harm, frame by frame. Each ends with a connection that is closed, and a fresh request
//! that is answered.

use std::time::Duration;

use crate::raw_http2::{
    self, CONTINUATION, Client, END_HEADERS, END_STREAM, HEADERS, RST_STREAM, SETTINGS, frame, get,
};
use crate::world::{SITE, World};

async fn world() -> World {
    World::with(&[("index.html", b"home")]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_connection_may_do_is_said_at_its_start() {
    let world = world().await;
    let mut client = Client::new(world.address);
    let (kind, _, settings) = client.next().unwrap();
    assert_eq!(kind, SETTINGS);
    let setting = |id: u16| {
        let mut settings = settings.chunks(6);
        settings
            .find(|setting| setting[..2] == id.to_be_bytes())
            .map(|setting| u32::from_be_bytes(setting[2..].try_into().unwrap()))
    };
    assert_eq!((setting(3), setting(6)), (Some(128), Some(16 << 10)), "streams, and bytes of a header list");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_resets_ends_its_connection() {
    let world = world().await;
    // Windows are shut, so that no stream is over before it is taken back.
    let mut client = Client::with_windows(world.address, 0);
    let cancel = 8_u32.to_be_bytes();
    let burst = |first: u32| -> Vec<u8> {
        let streams = (0..200).map(|number| first + 2 * number);
        let pair = |stream| {
            [frame(HEADERS, END_STREAM | END_HEADERS, stream, &get("/")), frame(RST_STREAM, 0, stream, &cancel)]
                .concat()
        };
        streams.flat_map(pair).collect()
    };
    let is_ended = (0..500).any(|number| !client.send(&burst(1 + 400 * number)));
    let reason = client.reason();
    assert!(is_ended || reason == Some(raw_http2::CALM), "{reason:?}");
    assert_eq!(world.get(SITE, "/").text(), "home");
    while world.counters.open_connections() > 0 {
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_continuations_ends_its_connection() {
    let world = world().await;
    let mut client = Client::new(world.address);
    client.send(&frame(HEADERS, END_STREAM, 1, &get("/")));
    // A field without an end: a literal whose value goes on and on, in frames of any size.
    let more = frame(CONTINUATION, 0, 1, &[0x40, 1, b'a', 1, b'b']).repeat(100);
    let is_ended = (0..10_000).any(|_| !client.send(&more));
    let reason = client.reason();
    assert!(is_ended || reason.is_some(), "{reason:?}");
    assert_eq!(world.get(SITE, "/").text(), "home");
}

#[tokio::test(flavor = "multi_thread")]
async fn fields_of_http_1_are_refused() {
    let world = world().await;
    let mut client = Client::new(world.address);
    let field = |name: &str, value: &str| {
        let part = |text: &str| [&[u8::try_from(text.len()).unwrap()][..], text.as_bytes()].concat();
        [vec![0], part(name), part(value)].concat()
    };
    let mut stream = 1;
    for (name, value) in [("transfer-encoding", "chunked"), ("connection", "close"), ("keep-alive", "1")] {
        client.send(&frame(HEADERS, END_STREAM | END_HEADERS, stream, &[get("/"), field(name, value)].concat()));
        loop {
            let (kind, of, _) = client.next().expect("the connection goes on");
            if (kind, of) == (RST_STREAM, stream) {
                break;
            }
            assert_ne!((kind, of), (HEADERS, stream), "{name} was answered");
        }
        stream += 2;
    }
}
