//! Where the hosts of a name lead that their project had before. Looked for only where a host shows nothing.

use pinstone_engine::clock::UnixMillis;
use pinstone_engine::host::HostTarget;
use pinstone_engine::name::ProjectName;
use pinstone_engine::pointers::PointerTable;

use crate::canonical::same_address;

/// What the project is called by now that `target` names by a name that it had.
pub(crate) fn project(pointers: &PointerTable, now: UnixMillis, target: HostTarget<'_>) -> Option<ProjectName> {
    match target {
        HostTarget::Site { project, .. } | HostTarget::Image { project, .. } => pointers.renamed(project, now),
        HostTarget::Control | HostTarget::Custom(_) | HostTarget::Unknown => None,
    }
}

/// The same path and query on `host`, by the port that the request names with its own. The scheme is left out, so it is
/// the request's.
pub(crate) fn location(host: &str, authority: &str, path: &str, query: Option<&str>) -> String {
    let port = authority.find(':').map_or("", |colon| &authority[colon..]);
    same_address(format!("//{host}{port}"), path, query)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn path_query_and_port_stay() {
        for (authority, path, query, want) in [
            ("old.test", "/", None, "//new.test/"),
            ("old.test:8080", "/a%20b", Some("x=1&y"), "//new.test:8080/a%20b?x=1&y"),
            ("old.test:", "//evil.test", Some(""), "//new.test://evil.test?"),
            ("old.test", "*", None, "//new.test/"),
            ("old.test", "/\u{fc}", None, "//new.test/%C3%BC"),
        ] {
            assert_eq!(location("new.test", authority, path, query), want, "{authority} {path} {query:?}");
        }
    }
}
