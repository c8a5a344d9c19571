//! Whatever a client of HTTP/1 sends, what it is sent is answers, one behind the other and each to its end; and how the bytes
//! were cut on their way changes nothing.
//!
//! The first byte is how many come at once.

#![no_main]

use libfuzzer_sys::fuzz_target;
use pinstone_edge::fuzzing::http1;

fuzz_target!(|input: &[u8]| {
    let Some((at_once, input)) = input.split_first() else { return };
    let whole = http1([input]);
    let cut = http1(input.chunks(usize::from(*at_once).max(1)));
    assert_eq!(answers(&cut), answers(&whole));
});

/// The bodies of all answers. What is no request is left out, and has to be the last: of one that never came to its end, whether it
/// was looked at depends on how it was cut.
fn answers(mut sent: &[u8]) -> Vec<Vec<u8>> {
    let mut answers = Vec::new();
    while !sent.is_empty() {
        let mut fields = [httparse::EMPTY_HEADER; 16];
        let mut answer = httparse::Response::new(&mut fields);
        let Ok(httparse::Status::Complete(head)) = answer.parse(sent) else { panic!("no answer: {sent:?}") };
        let length = answer.headers.iter().find(|field| field.name == "content-length").map_or(0, |field| {
            let length = std::str::from_utf8(field.value).expect("a length is text");
            length.parse().expect("a length is a number")
        });
        let (body, rest) = sent[head..].split_at(length);
        sent = rest;
        match answer.code.expect("an answer has a status") {
            // Whether a client is told to go on depends on whether it has.
            100 => {}
            200 => answers.push(body.to_vec()),
            400 | 414 | 431 => assert!(sent.is_empty(), "nothing can follow"),
            code => panic!("nobody answered with {code}"),
        }
    }
    answers
}
