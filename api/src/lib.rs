//! The control plane of Pinstone: plan, upload, commit, release and what can be asked about them, under `/api/v1`.
//!
//! A call moves one way: frame → caller → input → engine → answer. Who asks, and that they may, is known before any byte of
//! a body is read; what is asked has a type before the engine sees it; and what the engine answers is turned to JSON by the types in
//! [`wire`], which the engine does not know. Sites are not served here: the edge does that, and hands over only what
//! arrives for a control host.

use std::convert::Infallible;
use std::task::{Context, Poll};

use axum::Router;
use axum::body::Body;
use axum::routing::future::RouteFuture;
use bytes::Bytes;
use http::{Request, Response};
use http_body::Body as HttpBody;
use pinstone_engine::Engine;
use tower::Service;

mod access;
mod auth;
mod blob_frames;
mod body;
pub mod config;
mod domain_checks;
pub mod error;
mod frame;
mod home;
mod input;
mod json_depth;
mod json_shape;
mod plan_body;
mod proof;
mod rate;
mod reference;
mod respond;
mod routes;
mod spool;
mod state;
#[cfg(test)]
mod tests;
mod timefmt;
pub mod wire;

pub use domain_checks::DomainChecks;
pub use proof::DomainConfig;
use proof::Prover;
use state::ApiState;

/// The control plane as a service: requests with any body in, answers with an axum body out, never an error.
///
/// It must be called on a tokio runtime with time enabled. Cloning it is cheap, and every clone shares its bounds.
#[derive(Clone, Debug)]
pub struct Api(Router);

impl Api {
    /// Builds the control plane over `engine`.
    #[must_use]
    pub fn new(engine: Engine, config: config::ApiConfig) -> Self {
        Self(router(engine, config))
    }

    /// The task that proves domains again, beside a control plane of the same configuration.
    #[must_use]
    pub fn domain_checks(engine: Engine, config: &config::ApiConfig) -> DomainChecks {
        let prover = Prover::new(config.domains.clone(), config.hosts.base_domain());
        DomainChecks { engine, prover, rules: config.domains.rules.clone() }
    }
}

impl<B> Service<Request<B>> for Api
where
    B: HttpBody<Data = Bytes> + Send + 'static,
    B::Error: Into<axum::BoxError>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = RouteFuture<Infallible>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Service::<Request<B>>::poll_ready(&mut self.0, context)
    }

    fn call(&mut self, request: Request<B>) -> RouteFuture<Infallible> {
        self.0.call(request)
    }
}

/// Everything that a control host answers, as an axum router.
pub fn router(engine: Engine, config: config::ApiConfig) -> Router {
    let state = ApiState::new(engine, config);
    let mut router = Router::new();
    for route in routes::ROUTES {
        let admit = axum::middleware::from_fn_with_state((state.clone(), route), auth::admit);
        router = router.route(&format!("{}{}", routes::BASE, route.path), (route.handlers)().route_layer(admit));
    }
    home::add(router)
        // The order matters: these two apply to the routes above them, and the frame to all of it.
        .method_not_allowed_fallback(home::method_not_allowed)
        .fallback(home::not_found)
        .layer(axum::middleware::from_fn(frame::frame))
        .with_state(state)
}
