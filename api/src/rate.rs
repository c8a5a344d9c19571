//! How often a token may call, and how many uploads of a plan are taken at a time.
//!
//! Calls beyond the rate are refused, with the moment from which they are taken again. Uploads have a budget of their own
//! and are never refused for it: they wait, before any of their bodies is read. A publish is many uploads, and clients
//! that open twenty at once and try none again are to get through.
//!
//! What is kept of a token is 8 bytes while it was used in the last minute, and nothing else; what is kept of a plan lasts
//! as long as its uploads.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use governor::clock::Clock;
use governor::middleware::{StateInformationMiddleware, StateSnapshot};
use governor::nanos::Nanos;
use governor::state::keyed::HashMapStateStore;
use governor::{Quota, RateLimiter};
use http::{HeaderMap, HeaderName, HeaderValue};
use pinstone_engine::clock::UnixMillis;
use pinstone_engine::id::{PlanId, TokenId};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use crate::config::Rates;
use crate::error::{ApiError, ErrorCode};

/// Uploads of one plan that wait for their turn, at most; more are told that the server is busy.
const MOST_WAITING: usize = 1000;
/// After how many calls tokens are forgotten that rested.
const FORGET_EVERY: u32 = 1024;

const LIMIT: HeaderName = HeaderName::from_static("x-ratelimit-limit");
const REMAINING: HeaderName = HeaderName::from_static("x-ratelimit-remaining");
const RESET: HeaderName = HeaderName::from_static("x-ratelimit-reset");

/// What is counted of tokens and plans.
#[derive(Debug)]
pub(crate) struct Limiter {
    calls: Option<Budget>,
    uploads: Option<Budget>,
    plans: Option<Arc<Plans>>,
}

/// What is left of a token's budget.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Left {
    limit: u32,
    remaining: u32,
    /// When all of it is there again.
    full_in: Duration,
}

impl Left {
    /// Says it in the fields of an answer that is given at `now`.
    pub(crate) fn tell(self, headers: &mut HeaderMap, now: UnixMillis) {
        headers.insert(LIMIT, HeaderValue::from(self.limit));
        headers.insert(REMAINING, HeaderValue::from(self.remaining));
        // Whole seconds are all that the field has.
        headers.insert(RESET, HeaderValue::from(UnixMillis(now.plus(self.full_in).0 + 999).as_secs()));
    }
}

impl Limiter {
    pub(crate) fn new(rates: Rates) -> Self {
        Self {
            calls: NonZeroU32::new(rates.calls_per_minute).map(Budget::new),
            uploads: NonZeroU32::new(rates.uploads_per_minute).map(Budget::new),
            plans: (rates.uploads_at_once > 0).then(|| Arc::new(Plans::new(rates.uploads_at_once))),
        }
    }

    /// Counts a call by `token`; answers what is left, or after how long there is something again.
    pub(crate) fn call(&self, token: TokenId) -> Option<Result<Left, (Left, Duration)>> {
        self.calls.as_ref().map(|budget| budget.take(token))
    }

    /// Counts an upload by `token`, as soon as there is something left for it.
    pub(crate) async fn upload(&self, token: TokenId) -> Option<Left> {
        let budget = self.uploads.as_ref()?;
        loop {
            match budget.take(token) {
                Ok(left) => return Some(left),
                Err((_, wait)) => tokio::time::sleep(wait).await,
            }
        }
    }

    /// Waits for a turn among the uploads of a plan.
    pub(crate) async fn turn(&self, plan: PlanId) -> Result<Option<Turn>, ApiError> {
        match &self.plans {
            Some(plans) => Turn::take(Arc::clone(plans), plan).await.map(Some),
            None => Ok(None),
        }
    }
}

type Keyed = RateLimiter<TokenId, HashMapStateStore<TokenId>, Ticks, StateInformationMiddleware>;

/// So many a minute for each token, and as many at once.
#[derive(Debug)]
struct Budget {
    limiter: Keyed,
    ticks: Ticks,
    /// Counts to [`FORGET_EVERY`].
    taken: AtomicU32,
}

impl Budget {
    fn new(per_minute: NonZeroU32) -> Self {
        let (ticks, store) = (Ticks(Instant::now()), HashMapStateStore::default());
        let limiter = RateLimiter::new(Quota::per_minute(per_minute), store, ticks.clone());
        Self { limiter, ticks, taken: AtomicU32::new(0) }
    }

    fn take(&self, token: TokenId) -> Result<Left, (Left, Duration)> {
        if self.taken.fetch_add(1, Ordering::Relaxed) % FORGET_EVERY == FORGET_EVERY - 1 {
            self.limiter.retain_recent();
            self.limiter.shrink_to_fit();
        }
        match self.limiter.check_key(&token) {
            Ok(state) => Ok(left(&state)),
            Err(refused) => {
                let quota = refused.quota();
                let left =
                    Left { limit: quota.burst_size().get(), remaining: 0, full_in: quota.burst_size_replenished_in() };
                Err((left, refused.wait_time_from(self.ticks.now())))
            }
        }
    }
}

fn left(state: &StateSnapshot) -> Left {
    let (limit, remaining) = (state.quota().burst_size().get(), state.remaining_burst_capacity());
    let full_in = state.quota().replenish_interval() * limit.saturating_sub(remaining);
    Left { limit, remaining, full_in }
}

/// The runtime's clock, so that tests can stop it.
#[derive(Clone, Debug)]
struct Ticks(Instant);

impl Clock for Ticks {
    type Instant = Nanos;

    fn now(&self) -> Nanos {
        Nanos::from(self.0.elapsed())
    }
}

/// The plans that uploads arrive for.
#[derive(Debug)]
struct Plans {
    at_once: usize,
    plans: Mutex<HashMap<PlanId, Queue>>,
}

#[derive(Debug)]
struct Queue {
    turns: Arc<Semaphore>,
    /// Uploads that have a turn or wait for one.
    there: usize,
}

impl Plans {
    fn new(at_once: u32) -> Self {
        Self {
            at_once: usize::try_from(at_once).unwrap_or(usize::MAX).min(Semaphore::MAX_PERMITS),
            plans: Mutex::default(),
        }
    }
}

/// A place among the uploads of a plan, from when it is asked for to when the upload is answered or given up.
#[derive(Debug)]
pub(crate) struct Turn {
    plans: Arc<Plans>,
    plan: PlanId,
    permit: Option<OwnedSemaphorePermit>,
}

impl Turn {
    async fn take(plans: Arc<Plans>, plan: PlanId) -> Result<Self, ApiError> {
        let turns = {
            // Nothing that is done under the lock panics.
            let mut all = plans.plans.lock().unwrap_or_else(PoisonError::into_inner);
            let new = || Queue { turns: Arc::new(Semaphore::new(plans.at_once)), there: 0 };
            let queue = all.entry(plan).or_insert_with(new);
            if queue.there >= plans.at_once.saturating_add(MOST_WAITING) {
                return Err(ErrorCode::Busy.into());
            }
            queue.there += 1;
            Arc::clone(&queue.turns)
        };
        // From here on whoever gives up leaves the queue.
        let mut turn = Self { plans, plan, permit: None };
        turn.permit = Some(turns.acquire_owned().await.expect("the semaphore is never closed"));
        Ok(turn)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut all = self.plans.plans.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(queue) = all.get_mut(&self.plan) {
            queue.there -= 1;
            if queue.there == 0 {
                all.remove(&self.plan);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn budget(per_minute: u32) -> Budget {
        Budget::new(NonZeroU32::new(per_minute).unwrap())
    }

    #[tokio::test(start_paused = true)]
    async fn so_many_a_minute_for_each_token() {
        let budget = budget(3);
        let (one, other) = (TokenId::random(), TokenId::random());
        for remaining in [2, 1, 0] {
            assert_eq!(budget.take(one).unwrap().remaining, remaining);
        }
        let (left, wait) = budget.take(one).unwrap_err();
        assert_eq!((left.limit, left.remaining, wait), (3, 0, Duration::from_secs(20)));
        assert_eq!(budget.take(other).unwrap().remaining, 2, "each has its own");
        tokio::time::advance(Duration::from_secs(20)).await;
        assert_eq!(budget.take(one).unwrap().remaining, 0);
        assert!(budget.take(one).is_err());
        tokio::time::advance(Duration::from_secs(60)).await;
        let left = budget.take(one).unwrap();
        assert_eq!((left.remaining, left.full_in), (2, Duration::from_secs(20)));
    }

    #[tokio::test(start_paused = true)]
    async fn tokens_that_rest_are_forgotten() {
        let budget = budget(3);
        for _ in 0..FORGET_EVERY - 1 {
            budget.take(TokenId::random()).unwrap();
        }
        assert_eq!(budget.limiter.len(), FORGET_EVERY as usize - 1);
        tokio::time::advance(Duration::from_secs(60)).await;
        budget.take(TokenId::random()).unwrap();
        assert_eq!(budget.limiter.len(), 1);
    }

    #[tokio::test]
    async fn uploads_of_a_plan_take_turns_and_leave_nothing_behind() {
        let plans = Arc::new(Plans::new(2));
        let (plan, other) = (PlanId::random(), PlanId::random());
        let take = |plan| Turn::take(Arc::clone(&plans), plan);
        let (first, second) = (take(plan).await.unwrap(), take(plan).await.unwrap());
        let mut third = tokio::spawn(take(plan));
        let mut fourth = tokio::spawn(take(plan));
        drop(take(other).await.unwrap());
        for waiting in [&mut third, &mut fourth] {
            assert!(tokio::time::timeout(Duration::from_millis(20), waiting).await.is_err(), "it waits");
        }
        // One that gives up keeps nobody from a turn.
        third.abort();
        drop(third.await);
        drop(first);
        let fourth = fourth.await.unwrap().unwrap();
        drop((second, fourth));
        assert!(plans.plans.lock().unwrap().is_empty());
    }
}
