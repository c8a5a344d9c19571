//! What every handler shares.

use std::sync::Arc;
use std::time::{Duration, Instant};

use pinstone_engine::Engine;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::config::{ApiConfig, SiteUrls};
use crate::error::{ApiError, ErrorCode};
use crate::proof::Prover;
use crate::rate::Limiter;
use crate::spool::Spools;

/// The unit in which memory for plans is handed out, in bytes: so small that small plans do not wait for each other.
const MEMORY_UNIT: u64 = 64 << 10;

/// What a call that lists a plan or an image may hold in memory, in bytes: most hold far less, and the largest is rare.
pub(crate) const LISTING: u64 = 16 << 20;

/// The engine, and what the operator said. Cloning it is cheap.
#[derive(Clone, Debug)]
pub(crate) struct ApiState(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    engine: Engine,
    config: ApiConfig,
    urls: SiteUrls,
    plan_memory: Arc<Semaphore>,
    plan_memory_units: u32,
    spools: Spools,
    limiter: Limiter,
    prover: Prover,
    started: Instant,
}

impl ApiState {
    pub(crate) fn new(engine: Engine, config: ApiConfig) -> Self {
        let units = memory_units(config.plan_memory.max(engine.limits().plan_size));
        Self(Arc::new(Shared {
            urls: SiteUrls::new(config.public_url.clone(), config.hosts.clone()),
            plan_memory: Arc::new(Semaphore::new(units as usize)),
            plan_memory_units: units,
            spools: Spools::new(&config, engine.limits().archive_size),
            limiter: Limiter::new(config.rates),
            prover: Prover::new(config.domains.clone(), config.hosts.base_domain()),
            started: Instant::now(),
            engine,
            config,
        }))
    }

    pub(crate) fn engine(&self) -> &Engine {
        &self.0.engine
    }

    pub(crate) fn config(&self) -> &ApiConfig {
        &self.0.config
    }

    pub(crate) fn urls(&self) -> &SiteUrls {
        &self.0.urls
    }

    /// What is left of the memory of plans, for who takes it without waiting.
    pub(crate) fn plan_memory_left(&self) -> &Arc<Semaphore> {
        &self.0.plan_memory
    }

    /// Room for archives.
    pub(crate) fn spools(&self) -> &Spools {
        &self.0.spools
    }

    /// How often tokens may call.
    pub(crate) fn limiter(&self) -> &Limiter {
        &self.0.limiter
    }

    /// What asks the network about domains.
    pub(crate) fn prover(&self) -> &Prover {
        &self.0.prover
    }

    pub(crate) fn uptime(&self) -> Duration {
        self.0.started.elapsed()
    }

    /// Waits until `bytes` of a plan may be held in memory; they may as long as the permit lives.
    ///
    /// The permits are handed out in the order of asking, so that a large plan is not overtaken for ever.
    pub(crate) async fn plan_memory(&self, bytes: u64) -> Result<OwnedSemaphorePermit, ApiError> {
        let wanted = memory_units(bytes).min(self.0.plan_memory_units);
        let permit = Arc::clone(&self.0.plan_memory).acquire_many_owned(wanted);
        match tokio::time::timeout(self.config().idle_timeout, permit).await {
            Ok(permit) => Ok(permit.expect("the semaphore is never closed")),
            Err(_) => Err(ErrorCode::Busy.into()),
        }
    }
}

/// The units of memory that `bytes` are counted as.
pub(crate) fn memory_units(bytes: u64) -> u32 {
    // A million units are 64 GiB: no semaphore needs more, and every target's can count them.
    u32::try_from(bytes.div_ceil(MEMORY_UNIT)).unwrap_or(u32::MAX).clamp(1, 1 << 20)
}
