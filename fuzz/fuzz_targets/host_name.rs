//! A Host field is refused or normal: reading what was read changes nothing, and what it stands for is decided.

#![no_main]

use libfuzzer_sys::fuzz_target;
use pinstone_engine::host::{HostName, HostTarget, Hosts};

fuzz_target!(|text: &str| {
    let Ok(host) = HostName::parse(text) else { return };
    let read = host.as_str();
    assert!(!read.is_empty() && read.len() <= 253);
    assert!(!read.bytes().any(|byte| byte.is_ascii_uppercase() || byte <= b' ' || byte == b'/' || byte == b'@'));
    let again = match host.ip() {
        Some(address) if address.is_ipv6() => format!("[{read}]"),
        _ => read.to_owned(),
    };
    assert_eq!(HostName::parse(&again).as_ref(), Ok(&host));

    let base = HostName::parse("pages.test").expect("a plain name");
    let hosts = Hosts::new(&base, None);
    match hosts.target(&host) {
        HostTarget::Site { project, environment } => assert!(!project.contains('.') && !environment.contains('.')),
        HostTarget::Image { project, digits } => assert!(!project.contains('.') && digits.len() == 16),
        HostTarget::Custom(name) => assert!(!name.ends_with(".pages.test")),
        HostTarget::Control | HostTarget::Unknown => {}
    }
});
