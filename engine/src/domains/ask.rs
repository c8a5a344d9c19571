//! Whether a host shows something: what a TLS terminator asks before it gets a certificate. Answered from memory.

use crate::engine::Engine;
use crate::host::{HostName, HostTarget, Hosts};

impl Engine {
    /// Whether this server has something to show at `host`: a control host that is a name, a project's environment or
    /// image, or a domain that a team has.
    #[must_use]
    pub fn serves(&self, hosts: &Hosts, host: &HostName<'_>) -> bool {
        let resolver = self.resolver();
        let pointers = resolver.pointers();
        match hosts.target(host) {
            HostTarget::Control => host.ip().is_none(),
            HostTarget::Site { project, environment } => pointers.find(project, environment).is_some(),
            HostTarget::Image { project, .. } => pointers.project(project).is_some(),
            HostTarget::Custom(domain) => pointers.domain(domain).is_some(),
            HostTarget::Unknown => false,
        }
    }
}
