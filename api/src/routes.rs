//! The calls of `/api/v1`, in one table: what is not in it does not exist, and the published description lists the
//! same.

use axum::routing::{MethodRouter, delete, get, patch, post, put};
use http::Method;

use crate::access::{ACCOUNT, DEPLOY, END, MANAGE, Need, READ, SEE_CALLER, SERVER};
use crate::state::ApiState;

mod audit;
mod auth;
mod deploy;
pub(crate) mod description;
mod diff;
mod domains;
mod environments;
mod health;
mod images;
mod invites;
mod pins;
mod plan;
mod previews;
mod projects;
mod publish;
mod read;
mod tokens;
mod upload;
mod usage;

/// Where all calls are.
pub(crate) const BASE: &str = "/api/v1";

/// One address and what it takes.
pub(crate) struct Route {
    /// The path below [`BASE`].
    pub(crate) path: &'static str,
    /// The methods, without the HEAD that goes with every GET, and what each needs of a token.
    pub(crate) methods: &'static [(&'static str, Need)],
    /// The handlers.
    pub(crate) handlers: fn() -> MethodRouter<ApiState>,
}

impl Route {
    /// Whether it takes the bytes of files. These have a budget of their own.
    pub(crate) fn is_upload(&self) -> bool {
        self.path.starts_with("/upload/")
    }

    /// What a call with this method needs. A method that the table does not name needs what nobody has but the owner.
    pub(crate) fn need(&self, method: &Method) -> Need {
        let method = if method == Method::HEAD { &Method::GET } else { method };
        let found = self.methods.iter().find(|(name, _)| name == method);
        found.map_or(SERVER, |(_, need)| *need)
    }
}

/// Every call there is.
pub(crate) const ROUTES: &[Route] = &[
    Route { path: "/health", methods: &[("GET", Need::Nothing)], handlers: || get(health::health) },
    Route { path: "/config", methods: &[("GET", Need::Nothing)], handlers: || get(health::config) },
    Route { path: "/openapi.json", methods: &[("GET", Need::Nothing)], handlers: || get(description::json) },
    Route { path: "/docs", methods: &[("GET", Need::Nothing)], handlers: || get(description::page) },
    Route { path: "/plan", methods: &[("POST", DEPLOY)], handlers: || post(plan::create) },
    Route {
        path: "/plans/{plan_id}",
        methods: &[("GET", READ), ("DELETE", DEPLOY)],
        handlers: || get(plan::status).delete(plan::close),
    },
    Route { path: "/upload/{plan_id}", methods: &[("POST", DEPLOY)], handlers: || post(upload::batch) },
    Route {
        path: "/upload/{plan_id}/{hash}",
        methods: &[("POST", DEPLOY), ("PUT", DEPLOY)],
        handlers: || post(upload::upload).put(upload::upload),
    },
    Route {
        path: "/deploy/{project}",
        methods: &[("POST", DEPLOY), ("PUT", DEPLOY)],
        handlers: || post(deploy::deploy).put(deploy::deploy),
    },
    Route { path: "/commit", methods: &[("POST", DEPLOY)], handlers: || post(publish::commit) },
    Route { path: "/release", methods: &[("POST", DEPLOY)], handlers: || post(publish::release) },
    Route { path: "/rollback", methods: &[("POST", DEPLOY)], handlers: || post(publish::rollback) },
    Route { path: "/current", methods: &[("GET", READ)], handlers: || get(read::current) },
    Route { path: "/history", methods: &[("GET", READ)], handlers: || get(read::history) },
    Route { path: "/releases", methods: &[("GET", READ)], handlers: || get(read::releases) },
    Route { path: "/images", methods: &[("GET", READ)], handlers: || get(images::list) },
    Route { path: "/images/{image_id}", methods: &[("GET", READ)], handlers: || get(images::one) },
    Route { path: "/images/{image_id}/files", methods: &[("GET", READ)], handlers: || get(images::files) },
    Route {
        path: "/diff",
        methods: &[("GET", READ), ("POST", READ)],
        handlers: || get(diff::published).post(diff::files),
    },
    Route {
        path: "/images/{image_id}/pin",
        methods: &[("PUT", DEPLOY), ("DELETE", DEPLOY)],
        handlers: || put(pins::pin).delete(pins::unpin),
    },
    Route { path: "/preview", methods: &[("POST", DEPLOY)], handlers: || post(previews::create) },
    Route { path: "/previews", methods: &[("GET", READ)], handlers: || get(previews::list) },
    Route { path: "/previews/{project}/{slug}", methods: &[("DELETE", DEPLOY)], handlers: || delete(previews::remove) },
    Route {
        path: "/projects",
        methods: &[("GET", READ), ("POST", DEPLOY)],
        handlers: || get(projects::list).post(projects::create),
    },
    Route {
        path: "/projects/{project}",
        methods: &[("GET", READ), ("PATCH", MANAGE), ("DELETE", MANAGE)],
        handlers: || get(projects::one).patch(projects::change).delete(projects::remove),
    },
    Route { path: "/subdomain/check", methods: &[("GET", READ)], handlers: || get(projects::check) },
    Route { path: "/domains/rename", methods: &[("PUT", MANAGE)], handlers: || put(projects::rename) },
    Route {
        path: "/domains",
        methods: &[("GET", READ), ("POST", MANAGE)],
        handlers: || get(domains::list).post(domains::add),
    },
    Route { path: "/domains/check", methods: &[("GET", Need::Nothing)], handlers: || get(domains::check) },
    Route {
        path: "/domains/{domain}",
        methods: &[("PATCH", MANAGE), ("DELETE", MANAGE)],
        handlers: || patch(domains::change).delete(domains::remove),
    },
    Route { path: "/domains/{domain}/verify", methods: &[("POST", MANAGE)], handlers: || post(domains::verify) },
    Route { path: "/environments", methods: &[("GET", READ)], handlers: || get(environments::list) },
    Route {
        path: "/environments/{project}/{environment}",
        methods: &[("DELETE", END)],
        handlers: || delete(environments::remove),
    },
    Route { path: "/auth/login", methods: &[("POST", Need::Nothing)], handlers: || post(auth::login) },
    Route { path: "/auth/register", methods: &[("POST", Need::NothingOrToken)], handlers: || post(auth::register) },
    Route { path: "/auth/info", methods: &[("GET", SEE_CALLER)], handlers: || get(auth::info) },
    Route { path: "/me", methods: &[("GET", SEE_CALLER)], handlers: || get(auth::me) },
    Route { path: "/auth/logout", methods: &[("POST", SEE_CALLER)], handlers: || post(auth::logout) },
    Route {
        path: "/auth/logout-everywhere",
        methods: &[("POST", ACCOUNT)],
        handlers: || post(auth::logout_everywhere),
    },
    Route { path: "/auth/password", methods: &[("POST", ACCOUNT)], handlers: || post(auth::password) },
    Route { path: "/account", methods: &[("DELETE", ACCOUNT)], handlers: || delete(auth::delete_account) },
    Route {
        path: "/tokens",
        methods: &[("GET", ACCOUNT), ("POST", ACCOUNT)],
        handlers: || get(tokens::list).post(tokens::create),
    },
    Route { path: "/tokens/{token_id}", methods: &[("DELETE", ACCOUNT)], handlers: || delete(tokens::revoke) },
    Route {
        path: "/invites",
        methods: &[("GET", SERVER), ("POST", SERVER)],
        handlers: || get(invites::list).post(invites::create),
    },
    Route { path: "/invites/{invite_id}", methods: &[("DELETE", SERVER)], handlers: || delete(invites::remove) },
    Route { path: "/usage", methods: &[("GET", READ)], handlers: || get(usage::list) },
    Route { path: "/audit", methods: &[("GET", ACCOUNT)], handlers: || get(audit::list) },
];
