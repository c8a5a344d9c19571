//! The calls of `/api/v1`, in one table: what is not in it does not exist, and the published description lists the
//! same.

use axum::routing::{MethodRouter, delete, get, post, put};

use crate::state::ApiState;

mod deploy;
mod diff;
mod environments;
mod health;
mod images;
mod pins;
mod plan;
mod previews;
mod projects;
mod publish;
mod read;
mod upload;

/// Where all calls are.
pub(crate) const BASE: &str = "/api/v1";

/// One address and what it takes.
pub(crate) struct Route {
    /// The path below [`BASE`].
    pub(crate) path: &'static str,
    /// The methods, without the HEAD that goes with every GET.
    #[cfg_attr(not(test), expect(dead_code, reason = "the tests compare it with the router and the description"))]
    pub(crate) methods: &'static [&'static str],
    /// The handlers.
    pub(crate) handlers: fn() -> MethodRouter<ApiState>,
}

/// Every call there is.
pub(crate) const ROUTES: &[Route] = &[
    Route { path: "/health", methods: &["GET"], handlers: || get(health::health) },
    Route { path: "/config", methods: &["GET"], handlers: || get(health::config) },
    Route { path: "/plan", methods: &["POST"], handlers: || post(plan::create) },
    Route { path: "/plans/{plan_id}", methods: &["GET", "DELETE"], handlers: || get(plan::status).delete(plan::close) },
    Route { path: "/upload/{plan_id}", methods: &["POST"], handlers: || post(upload::batch) },
    Route {
        path: "/upload/{plan_id}/{hash}",
        methods: &["POST", "PUT"],
        handlers: || post(upload::upload).put(upload::upload),
    },
    Route {
        path: "/deploy/{project}",
        methods: &["POST", "PUT"],
        handlers: || post(deploy::deploy).put(deploy::deploy),
    },
    Route { path: "/commit", methods: &["POST"], handlers: || post(publish::commit) },
    Route { path: "/release", methods: &["POST"], handlers: || post(publish::release) },
    Route { path: "/rollback", methods: &["POST"], handlers: || post(publish::rollback) },
    Route { path: "/current", methods: &["GET"], handlers: || get(read::current) },
    Route { path: "/history", methods: &["GET"], handlers: || get(read::history) },
    Route { path: "/releases", methods: &["GET"], handlers: || get(read::releases) },
    Route { path: "/images", methods: &["GET"], handlers: || get(images::list) },
    Route { path: "/images/{image_id}", methods: &["GET"], handlers: || get(images::one) },
    Route { path: "/images/{image_id}/files", methods: &["GET"], handlers: || get(images::files) },
    Route { path: "/diff", methods: &["GET", "POST"], handlers: || get(diff::published).post(diff::files) },
    Route {
        path: "/images/{image_id}/pin",
        methods: &["PUT", "DELETE"],
        handlers: || put(pins::pin).delete(pins::unpin),
    },
    Route { path: "/preview", methods: &["POST"], handlers: || post(previews::create) },
    Route { path: "/previews", methods: &["GET"], handlers: || get(previews::list) },
    Route { path: "/previews/{project}/{slug}", methods: &["DELETE"], handlers: || delete(previews::remove) },
    Route {
        path: "/projects/{project}",
        methods: &["GET", "PATCH"],
        handlers: || get(projects::one).patch(projects::change),
    },
    Route { path: "/environments", methods: &["GET"], handlers: || get(environments::list) },
    Route {
        path: "/environments/{project}/{environment}",
        methods: &["DELETE"],
        handlers: || delete(environments::remove),
    },
];
